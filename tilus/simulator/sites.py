"""Memory instructions as the state spaces see them: what they count, and what they touched last."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.machine import Array
from tilus.simulator.resolved import Op


class Pattern:
    """Addresses of an access relative to its first: what follows from them need not be computed again."""

    __slots__ = ("bits", "counts", "delta", "high", "lanes", "low")

    def __init__(self, delta: Array, lanes: Array | None) -> None:
        self.delta, self.lanes = delta, lanes
        self.low, self.high = int(delta.min()), int(delta.max())
        self.bits = int(np.bitwise_or.reduce(delta))
        self.counts: dict[int, tuple[int, int, int]] = {}

    def matches(self, delta: Array, lanes: Array | None) -> bool:
        if self.delta.size != delta.size or not np.array_equal(self.delta, delta):
            return False
        return self.lanes is lanes or (self.lanes is not None and lanes is not None
                                       and np.array_equal(self.lanes, lanes))


class Site:
    """One memory instruction: its counters, and the allocation that it touched last.

    Attributes:
        strong: whether its accesses are strong in the sense of the memory model: atomic, volatile, relaxed or more.
        keeps: ``"and"`` or ``"or"`` of a reduction with it: the bytes that its operand cannot change are not touched.
        tracks: whether what it reads may be undefined: the instruction passes that on to its registers.
        read_only: whether the allocation that it touched last can only be read.
        fault: whether its last access was out of bounds in part.
    """

    __slots__ = (
        "atomic", "bytes", "fault", "hi", "ideal", "keeps", "lo", "op", "own", "pattern", "read_only", "reads",
        "requests", "space", "strong", "tracks", "units", "write",
    )

    def __init__(self, op: Op, space: str, write: bool, atomic: bool = False) -> None:
        self.op = op
        self.space = space
        self.lo = 0
        self.hi = 0
        self.read_only = False
        self.fault = False
        self.write = write
        self.atomic = atomic
        self.strong = atomic or ".volatile" in op.opcode or op.fields.get("sem") is not None
        self.own = op.fields.get("ss") in ("shared", "shared::cta")
        self.tracks = False
        self.keeps = ""
        self.reads = not write or atomic
        self.pattern: Pattern | None = None
        self.requests = 0
        self.units = 0
        self.ideal = 0
        self.bytes = 0

    def match(self, address: Array, lanes: Array | None) -> Pattern:
        """The pattern of the addresses."""
        delta = address - address[0]
        known = self.pattern
        if known is None or not known.matches(delta, lanes):
            known = self.pattern = Pattern(delta, lanes)
        return known

    def changed(self, where: Array, offsets: Array, data: Array, size: int) -> tuple[Array, Array]:
        """The bytes that an ``and`` or ``or`` with ``data`` may change, each as an access of its own."""
        parts = np.ascontiguousarray(data).view(np.uint8).reshape(-1, size)
        rows, places = np.nonzero(parts != (0xFF if self.keeps == "and" else 0))
        return where[rows], offsets[rows] + places

    def count(self, requests: int, units: int, ideal: int, volume: int) -> None:
        self.requests += requests
        self.units += units
        self.ideal += ideal
        self.bytes += volume
