"""Tiles that are read at many places of one array, a few elements apart, as the taps of a window: the part of the array
that they are in is copied once, with zeros around the array, and the tiles are parts of that copy.

Of tiles whose elements are some apart in memory, as those of windows with a stride, elements that leave one remainder
are side by side in the copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Broadcast, Const, Gather, Iota, Load, PtrStore, Shuffle
from tilus.ir.types import TileType
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.memory import make_window
from tilus.lowering.cpu.nest import versions
from tilus.lowering.cpu.values import Buffer, Coord, Lazy, Number
from tilus.records import record

LEAST_READS = 4
"""How many tiles have to be read in a copy that it is made."""
LARGEST = 256 << 10
"""Bytes of a copy, at most: it stays in the second level of the cache."""


@record(frozen=True, slots=True)
class Along:
    """The indices along a dimension: ``step`` apart, from ``base`` plus a number on."""

    base: Value | None
    step: int


@record(frozen=True, slots=True)
class Read:
    """A tile that is read: its indices along each dimension, and the numbers that are added to those."""

    value: Value
    numbers: tuple[int, ...]


def stage_patches(self: BlockLowering, values: Sequence[Value]) -> None:
    """Copy what several of the tiles that ``values`` are computed from are read of."""
    groups: dict[tuple[Value, tuple[int, ...], tuple[Along, ...]], list[Read]] = {}
    stack, seen = list(values), set[Value]()
    while stack:
        value = stack.pop()
        rep = self.reps.get(value)
        if value in seen or not isinstance(rep, Lazy):
            continue
        seen.add(value)
        op = rep.op
        if isinstance(op, (Load, Gather)) and value.defining is op:
            found = _read(self, op)
            if found is not None:
                along, numbers = found
                groups.setdefault((op.view, value.tile.shape, along), []).append(Read(value, numbers))
            continue
        stack += [o for o in op.operands if o in self.reps]
    for (view, _, along), reads in groups.items():
        if len(reads) >= LEAST_READS:
            _stage(self, view, along, sorted(reads, key=lambda r: r.numbers))


def _read(self: BlockLowering, op: Load | Gather) -> tuple[tuple[Along, ...], tuple[int, ...]] | None:
    """Where a tile of as many dimensions as its array is read, if its indices along each rise by constant steps."""
    memory, rank = self.views[op.view], op.result.tile.rank
    if op.mask is not None or op.other is not None or memory.packed or memory.order is not None:
        return None
    if rank != len(memory.strides) or memory.strides[-1] != 1:
        return None
    along, numbers = [], []
    for d, index in enumerate(op.offsets if isinstance(op, Load) else op.indices):
        found = (*_offset(index), 1) if isinstance(op, Load) else _rising(index, d)
        if found is None:
            return None
        base, number, step = found
        along.append(Along(base, step))
        numbers.append(number)
    return tuple(along), tuple(numbers)


def _offset(value: Value) -> tuple[Value | None, int]:
    """A scalar as another one and a number that is added to it."""
    op = value.defining
    if isinstance(op, Const):
        return None, int(op.value)
    if isinstance(op, Binary) and op.kind == "add":
        for one, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            if isinstance(other.defining, Const):
                base, number = _offset(one)
                return base, number + int(other.defining.value)
    return value, 0


def _rising(index: Value, axis: int) -> tuple[Value | None, int, int] | None:
    """A tile of indices that rise by a step along an axis: what they begin with, as above, and the step."""
    op = index.defining
    if isinstance(op, Iota):
        return (None, 0, 1) if op.axis == axis else None
    if not isinstance(op, Binary):
        return None
    for one, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
        maker = other.defining
        if op.kind == "mul" and isinstance(maker, Const) and int(maker.value) > 0:
            found = _rising(one, axis)
            if found is not None and found[:2] == (None, 0):
                return None, 0, found[2] * int(maker.value)
        scalar = maker.x if isinstance(maker, Broadcast) else None
        if op.kind == "add" and (isinstance(maker, Const) or (scalar is not None and scalar.tile.is_scalar)):
            found = _rising(one, axis)
            if found is not None and found[:2] == (None, 0):
                base, number = _offset(other if scalar is None else scalar)
                return base, number, found[2]
    return None


def _stage(self: BlockLowering, view: Value, along: Sequence[Along], reads: Sequence[Read]) -> None:
    """Copy what the tiles of a group have in common, and have them be parts of the copy."""
    copy = _Copy(self, view, along, reads)
    if copy.suits():
        copy.make()
        for read in reads:
            self.reps[read.value] = copy.part(read)


class _Copy:
    """The part of an array that is read, as long rows of whole vectors: one of them for each remainder of the last
    index by its step. ``least`` are the numbers of the first tile along each dimension, ``spans`` how far on the last
    one is."""

    def __init__(self, lowering: BlockLowering, view: Value, along: Sequence[Along], reads: Sequence[Read]) -> None:
        self.lowering, self.view, self.along = lowering, view, along
        self.memory = lowering.views[view]
        self.shape = reads[0].value.tile.shape
        self.least = [min(n) for n in zip(*(r.numbers for r in reads), strict=True)]
        self.spans = [max(n) - low for n, low in zip(zip(*(r.numbers for r in reads), strict=True), self.least,
                                                     strict=True)]
        self.steps = [a.step for a in along]
        self.lanes = lowering.machine.vector_bytes // container_bytes(self.memory.dtype)
        self.group = self.lanes * self.steps[-1]  # a vector of each remainder
        self.sizes = [(n - 1) * s + 1 + span for n, s, span in zip(self.shape, self.steps, self.spans, strict=True)]
        self.sizes[-1] = -(-self.sizes[-1] // self.group) * self.group
        pitch = self.sizes[-1] // self.steps[-1]
        self.strides = [pitch * math.prod(self.sizes[d + 1 : -1]) for d in range(len(self.sizes) - 1)]
        self.count = pitch * math.prod(self.sizes[:-1])
        self.reads = reads

    def suits(self) -> bool:
        step = self.steps[-1]
        size = self.count * step * container_bytes(self.memory.dtype)
        return self.lanes > 1 and step & (step - 1) == 0 and size <= LARGEST

    def make(self) -> None:
        lowering, sizes = self.lowering, tuple(self.sizes)
        self.phases = [lowering.allocate_raw(self.memory.dtype, self.count) for _ in range(self.steps[-1])]
        offsets = tuple(_started(lowering, a.base, n) for a, n in zip(self.along, self.least, strict=True))
        load = Load(self.view, offsets, sizes, None, None, types=(TileType(self.memory.dtype, sizes),))
        window = make_window(lowering, self.memory, offsets, sizes)
        lowering.reps[load.result] = lowering.lazy(load, 1, window=window, roots=(self.memory.root,))
        needed = self.needed()

        def emit() -> list[Value]:
            self.rows(load.result, [], needed)
            return []

        versions(lowering, [window], emit)

    def needed(self) -> list[Number]:
        """How much of it is read, along each dimension."""
        c, found = self.lowering.c, list[Number]()
        for d, n in enumerate(self.sizes):
            stop: Number = 0
            for read in self.reads:
                stop = c.max(stop, stops_of(self.lowering, read.value)[d])
            found.append(c.min(c.add(c.mul(c.max(c.sub(stop, 1), 0), self.steps[d]), 1 + self.spans[d]), n))
        return found

    def rows(self, value: Value, at: list[Value], needed: Sequence[Number]) -> None:
        """Copy the rows whose first indices are ``at``."""
        c = self.lowering.c
        if len(at) < len(self.sizes) - 1:
            c.loop(0, needed[len(at)], 1, [], lambda n, _: self.rows(value, [*at, n], needed))
            return
        place: Number = 0
        for n, stride in zip(at, self.strides, strict=True):
            place = c.add(place, c.mul(n, stride))

        def part(k: Value, _: list[Value]) -> None:
            saved, self.lowering.lanes = self.lowering.lanes, self.group
            x = evaluate(self.lowering, value, (*map(Coord, at), Coord(k, 0, True)))
            self.lowering.lanes = saved
            to, step = c.add(place, c.arith("quo", k, self.steps[-1])), self.steps[-1]
            for n, phase in enumerate(self.phases):
                y = x if step == 1 else c.b.add(Shuffle(x, tuple(range(n, self.group, step)))).result
                c.b.add(PtrStore(c.offset(phase, to), y))

        c.loop(0, needed[-1], self.group, [], part)

    def part(self, read: Read) -> Buffer:
        """A tile where it is in the copy."""
        apart = [n - low for n, low in zip(read.numbers, self.least, strict=True)]
        step = self.steps[-1]
        at = sum(n * s for n, s in zip(apart[:-1], self.strides, strict=True)) + apart[-1] // step
        strides = (*(n * s for n, s in zip(self.strides, self.steps[:-1], strict=True)), 1)
        pointer = self.lowering.c.offset(self.phases[apart[-1] % step], at)
        return Buffer(pointer, self.memory.dtype, self.shape, strides, owned=False)


def _started(self: BlockLowering, base: Value | None, number: int) -> Value:
    """A scalar plus a number, as one of the program's."""
    op = Const(number, i64) if base is None else Binary("add", base, Const(number, base.tile.dtype).result)
    x = number if base is None else self.c.add(self.c.number(self.scalars[base]), number)
    self.scalars[op.result] = self.c.value(x)
    return op.result


__all__ = ["stage_patches"]
