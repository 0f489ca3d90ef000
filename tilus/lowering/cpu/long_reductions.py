"""Loops that do nothing but reduce what they read along rows: ``for j: total += sum(load(x, (i, j)), axis=1)``.

They are one reduction along all that the loop walks over. Each row goes through the loop alone, so that its memory is
read from one end to the other, and what is carried are vectors in registers, whose lanes are combined at the very end.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Binary, Broadcast, Const, For, Iota, Load, Reduce, Reshape, Yield
from tilus.ir.types import ViewType
from tilus.lowering.cpu.block import BlockLowering, lower
from tilus.lowering.cpu.carried import carried_homes, finish_loop
from tilus.lowering.cpu.combining import KINDS, Combiner
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate, load_buffer
from tilus.lowering.cpu.limits import Uniform, limited, mask_of
from tilus.lowering.cpu.movements import keeps_dimensions
from tilus.lowering.cpu.nest import end_index, ends_along, store_buffer, vector_lanes, versions, windows_of
from tilus.lowering.cpu.products_in_loops import only_reads
from tilus.lowering.cpu.slopes import Slopes, loop_slopes
from tilus.lowering.cpu.values import ZERO, BlockState, Buffer, Coord, Coords, Lazy, Number
from tilus.records import record

CHUNK = 8192
"""Elements that are summed up before they are added to those before: errors of rounding stay small in long rows."""
FEWEST_VECTORS = 4
"""Of a row in an iteration; shorter ones are reduced by iterations."""


@record(frozen=True, slots=True)
class _Sum:
    """One that is carried: what is reduced along its last dimension, and how."""

    x: Value
    combiner: Combiner

    @property
    def bare(self) -> Value:
        """What is reduced without a mask that lets elements up to an index count."""
        mask = mask_of(self.x.defining, self.combiner.neutral)
        return self.x if mask is None else mask[0].x


def try_reductions(self: BlockLowering, op: For) -> bool:
    """Lower the loop as one reduction for each value that it carries, if it is such."""
    found = [_sum_of(self, op, place) for place in range(len(op.init))]
    sums = [s for s in found if s is not None]
    if not sums or len(sums) < len(found) or not only_reads(op):
        return False
    shape = sums[0].x.tile.shape
    needed = _needed(op, [s.x for s in sums])
    if any(s.x.tile.shape != shape for s in sums) or not all(_walks_along(self, op, o, len(shape)) for o in needed):
        return False
    lanes = _lanes(self, op, needed, sums)
    if lanes is None:
        return False
    _Rows(self, op, needed, sums, lanes).run()
    return True


def _sum_of(self: BlockLowering, op: For, place: int) -> _Sum | None:
    """The reduction whose results are added up at a place, by the operation that it is made of itself."""
    carried, total = op.carried[place], op.body.terminator.operands[place].defining
    if not isinstance(total, Binary) or self.uses[carried] != 1 or self.uses[total.result] != 1:
        return None
    part = total.rhs if total.lhs is carried else total.lhs if total.rhs is carried else None
    made = part.defining if part is not None and self.uses[part] == 1 else None
    while isinstance(made, Reshape) and keeps_dimensions(made) and self.uses[made.x] == 1:
        made = made.x.defining
    if not isinstance(made, Reduce) or made not in op.body.ops or KINDS.get(made.kind) != total.kind:
        return None
    rank = made.x.tile.rank
    if made.axis != rank - 1 or carried.tile.size != made.result.tile.size or \
            carried.tile.dtype is not made.x.tile.dtype:
        return None
    combiner = Combiner(self, made.kind, made.x.tile.dtype)
    return _Sum(made.x, combiner) if combiner.counts or not made.x.tile.dtype.is_float else None


def _needed(op: For, values: Sequence[Value]) -> list[Operation]:
    """The operations of the loop's body that some tiles are made by."""
    wanted, found = set(values), []
    for inner in reversed(op.body.ops[:-1]):
        if any(r in wanted for r in inner.results):
            wanted.update(inner.operands)
            found.append(inner)
    return found[::-1]


def _walks_along(self: BlockLowering, loop: For, op: Operation, rank: int) -> bool:
    """Whether an operation, if it is a load, goes along its last dimension, in which its array is contiguous, or stays;
    and makes nothing of what is carried, or of other elements than its own."""
    if any(o in loop.carried for o in op.operands) or isinstance(op, Reduce):
        return False
    if not isinstance(op, Load):
        return True
    slopes = _slopes(loop, op.offsets)
    if all(slope == 0 for slope in slopes):
        return True
    memory = self.views[op.view]
    return not memory.packed and memory.strides[-1] == 1 and len(slopes) == op.result.tile.rank == rank and \
        bool(slopes[-1]) and not any(slopes[:-1])


def _slopes(loop: For, scalars: Sequence[Value]) -> list[int | None]:
    """How much scalars grow with the loop's index."""
    slopes = loop_slopes(loop)
    return [slopes.of(x) for x in scalars]


def _is_one_row(self: BlockLowering, loop: For, needed: Sequence[Operation], extent: int) -> bool:
    """Whether iterations read elements that follow each other, so that those of all are one row."""
    step = self.c.number(self.scalars[loop.step])
    made = {r for op in needed for r in op.results}
    if any(o not in made and not _is_everywhere(self, o) for op in needed for o in op.operands):
        return False
    for op in needed:
        if any(isinstance(r.type, ViewType) for r in op.results):
            return False
        if all(r.tile.is_scalar for r in op.results):
            continue
        if isinstance(op, Load):
            slope = _slopes(loop, op.offsets)[-1]
            if slope is None or not isinstance(step, int) or slope * step != extent:
                return False
            continue
        if isinstance(op, Iota) or any(isinstance(o.type, ViewType) for o in op.operands):
            return False
        if any(_slopes(loop, [o for o in op.operands if o.tile.is_scalar])):
            return False
    return True


def _is_everywhere(self: BlockLowering, value: Value) -> bool:
    """Whether what iterations share is there for elements of any number: not a tile that ends where an iteration
    does."""
    if isinstance(value.type, ViewType) or value.tile.is_scalar or value.tile.shape[-1] == 1:
        return True
    rep = self.reps.get(value)
    op = rep.op if isinstance(rep, Lazy) else None
    if isinstance(op, Broadcast):
        return op.x.tile.is_scalar or op.x.tile.shape[-1] == 1
    return isinstance(op, Const)


def _masks_one_row(self: BlockLowering, loop: For, s: _Sum) -> bool:
    """Whether the mask of iterations, if there is one, is that of one row."""
    mask = mask_of(s.x.defining, s.combiner.neutral)
    if mask is None:
        return True
    slopes, step = loop_slopes(loop), self.c.number(self.scalars[loop.step])
    first, limit = (_slope(slopes, v) for v in mask[1].operands)
    if first is None or limit is None or not isinstance(step, int):
        return False
    return (first - limit) * step == s.x.tile.shape[-1]


def _slope(slopes: Slopes, numbers: Value) -> int | None:
    """How much all of some numbers, which are consecutive or the same, grow with the loop's index."""
    op = numbers.defining
    if numbers.tile.is_scalar:
        return slopes.of(numbers)
    if isinstance(op, (Iota, Const)):
        return 0
    if isinstance(op, (Broadcast, Reshape)):
        return _slope(slopes, op.x)
    if isinstance(op, Binary) and op.kind == "add":
        parts = [_slope(slopes, v) for v in op.operands]
        return None if None in parts else sum(parts)  # type: ignore[arg-type]
    return None


def _lanes(self: BlockLowering, op: For, needed: Sequence[Operation], sums: Sequence[_Sum]) -> int | None:
    """How many elements of a row are reduced at a time; None where that is not to be done. An iteration is lowered by
    code that is not kept."""
    extent = sums[0].x.tile.shape[-1]
    top, peak, outer = self.frame_top, self.frame_peak, self.c.enter(Block())
    with self.keeping_tiles():
        _iteration(self, op, needed, self.scalars[op.start])
        lazy = self.frame_top == top and all(isinstance(self.reps[s.x], Lazy) for s in sums)
        lanes = vector_lanes(self, [s.bare for s in sums], extent) if lazy else 0
    self.c.leave(outer)
    self.frame_top, self.frame_peak = top, peak
    return lanes if lanes > 1 and extent % lanes == 0 and extent >= FEWEST_VECTORS * lanes // 4 else None


def _iteration(self: BlockLowering, op: For, needed: Sequence[Operation], index: Value) -> None:
    """Say how what an iteration reduces is computed."""
    self.scalars[op.index] = index
    self.blocks.append(BlockState())
    for inner in needed:
        lower(self, inner)
    self.blocks.pop()


class _Rows:
    """``sums`` of a loop, each row of them through all of it."""

    def __init__(self, lowering: BlockLowering, op: For, needed: Sequence[Operation], sums: Sequence[_Sum],
                 lanes: int) -> None:
        self.lowering, self.c = lowering, lowering.c
        self.op, self.needed, self.sums, self.lanes = op, needed, sums, lanes
        self.shape = sums[0].x.tile.shape
        self.one_row = _is_one_row(lowering, op, _needed(op, [s.bare for s in sums]), self.shape[-1]) and \
            all(_masks_one_row(lowering, op, s) for s in sums)

    def run(self) -> None:
        lowering, op = self.lowering, self.op
        if len(self.shape) == 1:
            for result, init, s, total in zip(op.results, op.init, self.sums, self.through(()), strict=True):
                lowering.scalars[result] = s.combiner.combine([lowering.scalars[init]], [total])[0]
            return
        homes = carried_homes(lowering, op.init)
        self.rows(0, [], homes)
        finish_loop(lowering, op, homes, ())

    def rows(self, d: int, at: list[Coord], homes: dict[int, Buffer]) -> None:
        """Over dimensions from ``d`` on, up to where results are needed."""
        if d == len(self.shape) - 1:
            for i, total in enumerate(self.through(tuple(at))):
                coords = self.carried_coords(i, at)
                old = load_buffer(self.lowering, homes[i], coords)
                store_buffer(self.lowering, homes[i], coords, self.sums[i].combiner.combine([old], [total])[0])
            return
        if self.shape[d] == 1:
            self.rows(d + 1, [*at, ZERO], homes)
            return
        self.c.loop(0, self.stop(d), 1, [], lambda index, _: self.rows(d + 1, [*at, Coord(index)], homes))

    def carried_coords(self, place: int, at: Sequence[Coord]) -> Coords:
        """Where a row's result is among the carried ones, which may have dimensions of one element more."""
        shape = self.op.init[place].tile.shape
        along = iter(c for c, n in zip(at, self.shape, strict=False) if n != 1)
        return tuple(ZERO if n == 1 else next(along) for n in shape)

    def stop(self, d: int) -> Number:
        """Up to where rows along a dimension are needed."""
        c, stop = self.c, 0
        for result in self.op.results:
            if result.tile.shape[: d + 1] != self.shape[: d + 1]:
                return self.shape[d]
            stop = c.max(stop, stops_of(self.lowering, result)[d])  # type: ignore[assignment]
        return stop

    def through(self, at: Coords) -> list[Value]:
        """The reductions of a row along all of the loop."""
        lowering = self.lowering
        saved, lowering.lanes = lowering.lanes, self.lanes
        first = [s.combiner.initial(self.lanes)[0] for s in self.sums]
        parts = self.at_once(at, first) if self.one_row else self.by_iterations(at, first)
        lowering.lanes = saved
        return [s.combiner.across([part])[0] for s, part in zip(self.sums, parts, strict=True)]

    def at_once(self, at: Coords, first: list[Value]) -> list[Value]:
        """All iterations as one, whose tile is as long as they are together."""
        lowering, c, op = self.lowering, self.c, self.op
        start, stop = (lowering.scalars[v] for v in (op.start, op.stop))
        step, axis = c.number(lowering.scalars[op.step]), len(self.shape) - 1
        assert isinstance(step, int)
        trips = c.max(c.arith("floordiv", c.add(c.sub(stop, start), step - 1), step), 0)
        total = c.mul(trips, self.shape[-1])
        with lowering.keeping_tiles():
            _iteration(lowering, op, self.needed, start)
            xs, limit = self.unmasked(total)
            condition = None
            for end in ends_along(lowering, xs, axis):
                limit = c.min(limit, end_index(lowering, end))  # type: ignore[arg-type]
            whole = c.mul(c.arith("quo", c.max(limit, 0), self.lanes), self.lanes)
            windows = windows_of(lowering, xs)
            for window in windows:
                condition = c.both(condition, window.full)

            def chunk(start: Value, totals: list[Value]) -> list[Value]:
                lowering.pause_if_due()
                parts = self.elements(xs, at, first, start, c.min(c.add(start, CHUNK), whole))
                return [s.combiner.combine([total], [part])[0]
                        for s, total, part in zip(self.sums, totals, parts, strict=True)]

            def inside() -> list[Value]:
                lowering.full_windows.update(windows)
                parts = c.loop(0, whole, CHUNK, first, chunk)
                lowering.full_windows.difference_update(windows)
                return parts

            parts = inside() if condition is None else c.branch(condition, inside, lambda: first)
            reached = whole if condition is None else c.select(condition, whole, 0)
            return self.elements([s.x for s in self.sums], at, parts, reached, self.end(total))

    def by_iterations(self, at: Coords, first: list[Value]) -> list[Value]:
        lowering, c, op = self.lowering, self.c, self.op
        start, stop, step = (lowering.scalars[v] for v in (op.start, op.stop, op.step))
        block = Block([start.type, *(v.type for v in first)])
        outer = c.enter(block)
        top = lowering.frame_top
        lowering.pause_if_due()
        with lowering.keeping_tiles():
            _iteration(lowering, op, self.needed, block.args[0])
            parts = self.iteration(at, list(block.args[1:]))
        c.b.add(Yield(tuple(parts)))
        lowering.frame_top = top
        c.leave(outer)
        return list(c.b.add(For(start, stop, step, tuple(first), block)).results)

    def iteration(self, at: Coords, parts: list[Value]) -> list[Value]:
        """With the elements of an iteration; of tiles that end in it, up to there."""
        lowering, xs = self.lowering, [s.x for s in self.sums]
        windows = windows_of(lowering, xs)
        full = set(windows)

        def emit() -> list[Value]:
            c, extent = self.c, self.shape[-1]
            bare, limit = self.unmasked(extent)
            if full <= lowering.full_windows and limit == extent:
                return self.elements(xs, at, parts, 0, extent)
            end = self.end(extent)
            if limit == extent:
                return self.elements(xs, at, parts, 0, end)
            whole = c.mul(c.arith("quo", c.max(limit, 0), self.lanes), self.lanes)
            return self.elements(xs, at, self.elements(bare, at, parts, 0, whole), whole, end)

        return versions(lowering, windows, emit)

    def unmasked(self, extent: Number) -> tuple[list[Value], Number]:
        """What is reduced up to where masks let elements count, and up to where that is."""
        xs = []
        for s in self.sums:
            limit = limited(self.lowering, s.x, len(self.shape) - 1, s.combiner.neutral)
            xs.append(s.x if limit is None else limit[0])
            extent = extent if limit is None else self.c.min(extent, limit[1])
        return xs, extent

    def elements(self, xs: Sequence[Value], at: Coords, parts: list[Value], start: Number, stop: Number
                 ) -> list[Value]:
        """With some elements of the row."""
        def step(index: Value, now: list[Value]) -> list[Value]:
            coords = (*at, Coord(index, 0, True))
            return [s.combiner.combine([part], [self.c.splat(evaluate(self.lowering, x, coords), self.lanes)])[0]
                    for s, x, part in zip(self.sums, xs, now, strict=True)]

        return self.c.loop(start, stop, self.lanes, parts, step)

    def end(self, extent: Number) -> Number:
        """From where on all elements of an iteration change nothing."""
        c, axis, found = self.c, len(self.shape) - 1, 0
        for s in self.sums:
            uniform = Uniform(self.lowering)
            end = uniform.start(s.x, axis)
            if end is None or not s.combiner.is_neutral(uniform.constant(s.x, axis)):
                return extent
            found = c.max(found, end)  # type: ignore[assignment]
        return c.max(c.min(found, extent), 0)


__all__ = ["try_reductions"]
