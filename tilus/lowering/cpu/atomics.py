"""Atomics of tiles: element by element, indices and masks by vectors. A launch that has them alone (``crowding.py``)
needs no locked instructions, and the code is there for both. Without those, elements that follow each other in memory
are changed as a vector."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, integer
from tilus.ir.ops import Atomic, Binary, Bitcast, Compare, PtrLoad, PtrStore, Select
from tilus.ir.ops.thread import PtrAtomic
from tilus.lowering.cpu.block import BlockLowering, handles
from tilus.lowering.cpu.crowding import may_be_plain
from tilus.lowering.cpu.evaluate import buffer_pointer, evaluate
from tilus.lowering.cpu.limits import Uniform
from tilus.lowering.cpu.memory import gathered_inside, gathered_offset, offset_at
from tilus.lowering.cpu.nest import nest, store_buffer, vector_lanes, versions, windows_of
from tilus.lowering.cpu.reduction import all_lanes
from tilus.lowering.cpu.runs import first_lane, lanes_of_mask, load_run, lowest_of, run_dim, run_of, store_run
from tilus.lowering.cpu.state import STATE_ALONE
from tilus.lowering.cpu.tiles import settle_own
from tilus.lowering.cpu.values import Buffer, Coords, Memory
from tilus.lowering.cpu.work import is_own

MOST_LANES = 16
"""Elements that an iteration takes: their accesses stand one after another."""
Lane = Callable[[int], Value]


@handles(Atomic)
def _atomic(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Atomic)
    tile = op.value.tile
    inputs = [o for o in op.operands if o is not op.view and not o.tile.is_scalar]
    settle_own(self, inputs, self.views[op.view], None)
    if tile.is_scalar:
        self.scalars[op.result] = _either(self, op, lambda plain: [_Elements(self, op, plain).one(())])[0]
        return
    result = self.allocate(tile.dtype, tile.shape)
    last, run = max((d for d, n in enumerate(tile.shape) if n > 1), default=tile.rank - 1), run_dim(self, op)
    top = self.frame_top

    def emit(plain: bool) -> list[Value]:
        elements = _Elements(self, op, plain, result if self.uses[op.result] else None)
        vector = run if plain and run is not None else last
        lanes = vector_lanes(self, inputs, tile.shape[vector])
        nest(self, tile.shape, vector, lanes if plain and run is not None else min(MOST_LANES, lanes), elements.at)
        self.frame_top = top
        return []

    versions(self, windows_of(self, inputs), lambda: _either(self, op, emit))
    self.reps[op.result] = result


def _either(self: BlockLowering, op: Atomic, emit: Callable[[bool], list[Value]]) -> list[Value]:
    """Code for when nobody else is at the memory, or for when others are, or both."""
    if is_own(op):
        return emit(True)
    if not may_be_plain(op):
        return emit(False)
    c = self.c
    alone = c.b.add(PtrLoad(c.offset(self.state, STATE_ALONE))).result
    return c.branch(c.compare("ne", alone, 0), lambda: emit(True), lambda: emit(False))


class _Elements:
    """The elements of one operation. ``plain``: without locked instructions. ``result`` takes the old values."""

    def __init__(self, self_: BlockLowering, op: Atomic, plain: bool, result: Buffer | None = None) -> None:
        self.lowering, self.op, self.plain, self.result = self_, op, plain, result
        self.memory: Memory = self_.views[op.view]
        self.act = self.modify if plain else self.modify_atomically

    def at(self, coords: Coords) -> None:
        """Those at some coordinates."""
        self_ = self.lowering
        if self_.lanes_of(coords):
            run = run_of(self_, self.memory, self.op.indices, coords) if self.plain else None
            if run is None:
                self.several(coords)
            else:
                self.side_by_side(coords, run)
            return
        old = self.one(coords)
        if self.result is not None:
            store_buffer(self.lowering, self.result, coords, old)

    def one(self, coords: Coords) -> Value:
        """One of them; gives the old value."""
        self_, op = self.lowering, self.op
        indices = [evaluate(self_, i, coords) for i in op.indices]
        mask = None if op.mask is None else evaluate(self_, op.mask, coords)
        offset, condition = gathered_offset(self_, self.memory, indices, mask, 0)
        value = evaluate(self_, op.value, coords)
        compare = None if op.compare is None else evaluate(self_, op.compare, coords)
        return self.where(condition, lambda: self.act(offset, value, compare))

    def side_by_side(self, coords: Coords, run: int) -> None:
        """A vector's worth that follow each other in memory along dimension ``run``."""
        self_, op = self.lowering, self.op
        c, lanes, lowest = self_.c, self_.lanes, lowest_of(self_, op.indices[run])
        starts = [evaluate(self_, i, first_lane(coords)) for i in op.indices]
        mask = None if op.mask is None else evaluate(self_, op.mask, lanes_of_mask(self_, op.mask, coords))
        value = c.splat(evaluate(self_, op.value, coords), lanes)
        compare = None if op.compare is None else c.splat(evaluate(self_, op.compare, coords), lanes)
        old = load_run(self_, self.memory, starts, run, lowest, mask, None)
        store_run(self_, self.memory, starts, run, lowest, self.changed(old, value, compare), mask)
        if self.result is not None:
            store_buffer(self_, self.result, coords, old)

    def several(self, coords: Coords) -> None:
        """A vector's worth: without looking at the lanes' masks where all of them are on."""
        self_, op = self.lowering, self.op
        c, lanes = self_.c, self_.lanes
        vectors = [c.splat(evaluate(self_, i, coords), lanes) for i in op.indices]
        mask = None if op.mask is None else c.splat(evaluate(self_, op.mask, coords), lanes)
        inside = gathered_inside(self_, self.memory, vectors, mask, lanes)
        indices = [self.lanes(i, coords) for i in op.indices]
        value = self.lanes(op.value, coords)
        compare = None if op.compare is None else self.lanes(op.compare, coords)

        def lane(n: int) -> Value:
            offset = offset_at(self_, self.memory, [index(n) for index in indices], 0)
            return self.act(offset, value(n), None if compare is None else compare(n))

        def all_on() -> None:
            for n in range(lanes):
                self.keep(coords, n, lane(n))

        def some_on() -> None:
            assert inside is not None
            flag = self.spread(inside)
            for n in range(lanes):
                self.keep(coords, n, self.where(flag(n), lambda n=n: lane(n)))  # type: ignore[misc]

        if inside is None:
            all_on()
        else:
            c.branch(all_lanes(self_, inside), all_on, some_on)

    def where(self, condition: Value | None, act: Callable[[], Value]) -> Value:
        """What ``act`` gives, or 0 where the condition does not hold."""
        if condition is None:
            return act()
        c = self.lowering.c
        return c.branch(condition, lambda: [act()], lambda: [c.const(0, self.memory.dtype)])[0]

    def lanes(self, value: Value, coords: Coords) -> Lane:
        """The lanes of an operand, one by one."""
        self_ = self.lowering
        axis = next(d for d, x in enumerate(coords) if x.vector)
        if Uniform(self_).start(value, axis) == 0:
            same = evaluate(self_, value, first_lane(coords))
            return lambda n: same
        return self.spread(evaluate(self_, value, coords))

    def spread(self, vector: Value) -> Lane:
        """The lanes of a vector, by way of memory: that is faster than to take them out of a register."""
        self_ = self.lowering
        c, dtype = self_.c, vector.tile.dtype
        pointer = self_.allocate(dtype, (vector.tile.shape[0],)).pointer
        c.b.add(PtrStore(pointer, vector))
        return lambda n: self_.c.b.add(PtrLoad(self_.c.offset(pointer, n))).result

    def keep(self, coords: Coords, lane: int, old: Value) -> None:
        """Store the old value of a lane where it is used."""
        if self.result is None:
            return
        c = self.lowering.c
        stride = next(s for x, s in zip(coords, self.result.strides, strict=True) if x.vector)
        c.b.add(PtrStore(c.offset(buffer_pointer(self.lowering, self.result, coords), lane * stride), old))

    def modify_atomically(self, offset: Value, value: Value, compare: Value | None) -> Value:
        c = self.lowering.c
        pointer = c.offset(self.memory.pointer, offset)
        return c.b.add(PtrAtomic(self.op.kind, pointer, value, compare, order=self.op.order)).result

    def modify(self, offset: Value, value: Value, compare: Value | None) -> Value:
        c = self.lowering.c
        pointer = c.offset(self.memory.pointer, offset)
        old = c.b.add(PtrLoad(pointer)).result
        c.b.add(PtrStore(pointer, self.changed(old, value, compare)))
        return old

    def changed(self, old: Value, value: Value, compare: Value | None) -> Value:
        """What an element becomes."""
        b = self.lowering.c.b
        if compare is not None:
            word = integer(old.tile.dtype.bits, signed=False)
            same = b.add(Compare("eq", _bits(self.lowering, old, word), _bits(self.lowering, compare, word))).result
            return b.add(Select(same, value, old)).result
        if self.op.kind == "exchange":
            return value
        return b.add(Binary(self.op.kind, old, value, False)).result


def _bits(self: BlockLowering, x: Value, word: DType) -> Value:
    return x if x.tile.dtype is word else self.c.b.add(Bitcast(x, word)).result
