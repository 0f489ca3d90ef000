"""The protocol of a ring of buffers in shared memory, and the instructions that carry it out.

A loop's rings have a producer, which acquires a slot, starts copies into it and commits them, and a consumer, which
waits for the oldest slot that is committed, reads it and releases it. Copies by threads (``cp.async``), by TMA with
barriers in memory, and a queue of an NPU differ in what these five take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.ops import CommitAsync, CopyAsync, Gather, GatherAsync, Load, Sync, WaitAsync
from tilus.records import record


@record(eq=False, repr=False)
class RingKind(ABC):
    """How tiles get into a ring; ``name`` as it stands at the loads."""

    name: str

    @abstractmethod
    def acquire(self, b: Builder, slot: Value) -> None:
        """Before the copies into a slot: whoever has read it is done."""

    @abstractmethod
    def copy(self, b: Builder, load: Load | Gather, source: Value, destination: Value, at: tuple[Value, ...],
             mask: Value | None, in_bounds: tuple[int, ...]) -> None:
        """Start copying what ``load`` reads, at its offsets or index tiles. Along ``in_bounds`` none is missing."""

    @abstractmethod
    def commit(self, b: Builder) -> None:
        """After the copies into a slot have been started."""

    @abstractmethod
    def wait(self, b: Builder, pending: int) -> None:
        """Until at most ``pending`` committed slots are on their way; all threads may then read the others."""

    @abstractmethod
    def release(self, b: Builder, slot: Value) -> None:
        """After the last read of a slot."""

    @abstractmethod
    def drain(self, b: Builder) -> None:
        """After the loop: nothing is on its way."""


class CopyRing(RingKind):
    """``cp.async`` by all threads of the group. The barrier after a wait says that the slot before has been read, too:
    it is the one that is filled next, so that acquiring and releasing take nothing of their own."""

    def acquire(self, b: Builder, slot: Value) -> None:
        pass

    def copy(self, b: Builder, load: Load | Gather, source: Value, destination: Value, at: tuple[Value, ...],
             mask: Value | None, in_bounds: tuple[int, ...]) -> None:
        if isinstance(load, Gather):
            b.add(GatherAsync(destination, source, at, mask, span=load.span))
        else:
            b.add(CopyAsync(destination, source, at, mask, in_bounds, span=load.span))

    def commit(self, b: Builder) -> None:
        b.add(CommitAsync())

    def wait(self, b: Builder, pending: int) -> None:
        b.add(WaitAsync(pending))
        b.add(Sync())

    def release(self, b: Builder, slot: Value) -> None:
        pass

    def drain(self, b: Builder) -> None:
        b.add(WaitAsync(0))


CP_ASYNC = CopyRing("cp.async")
RINGS: dict[str, RingKind] = {ring.name: ring for ring in (CP_ASYNC,)}

__all__ = ["CP_ASYNC", "RINGS", "RingKind"]
