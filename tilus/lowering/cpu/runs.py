"""Gathers and scatters whose indices run along memory: consecutive elements of a row that is the same for all lanes are
accessed as a vector."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import (
    Atomic,
    Binary,
    Broadcast,
    Gather,
    Iota,
    MaskedLoad,
    MaskedStore,
    Reshape,
    Scatter,
    Transpose,
)
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.first_lanes import load_first, store_first
from tilus.lowering.cpu.limits import Uniform, rises, source_axis
from tilus.lowering.cpu.values import LINE_BYTES, Coord, Coords, Lazy, Memory, Number, coord_at

ROWS_AHEAD = 4
"""How many rows before it is read a row is asked for."""
DEAREST_INDEX = 4
"""What an element of an index may cost that is computed twice for that."""


def run_of(self: BlockLowering, memory: Memory, indices: Sequence[Value], coords: Coords) -> int | None:
    """Which index runs along memory with the lanes, the others being the same for all of them; None where there is no
    such."""
    axis = next((d for d, x in enumerate(coords) if x.vector), None)
    return None if axis is None or coords[axis].step != 1 else _run_along(self, memory, indices, axis)


def run_dim(self: BlockLowering, op: Gather | Scatter | Atomic) -> int | None:
    """The dimension along which an index runs along memory, if one does."""
    shape = op.indices[0].tile.shape
    return next((d for d, n in enumerate(shape)
                 if n > 1 and _run_along(self, self.views[op.view], op.indices, d) is not None), None)


def _run_along(self: BlockLowering, memory: Memory, indices: Sequence[Value], axis: int) -> int | None:
    if memory.packed or any(i.tile.is_scalar for i in indices) or not _whole(indices):
        return None
    uniform = Uniform(self)
    moving = [d for d, i in enumerate(indices) if uniform.start(i, axis) != 0]
    if len(moving) != 1 or memory.strides[moving[0]] != 1:
        return None
    return moving[0] if _counts(self, uniform, indices[moving[0]], axis) else None


def _whole(indices: Sequence[Value]) -> bool:
    return all(i.tile.dtype.is_int and (i.tile.dtype.bits < 64 or i.tile.dtype is i64) for i in indices)


def _counts(self: BlockLowering, uniform: Uniform, index: Value, axis: int) -> bool:
    """Whether an index rises by one along an axis."""
    op = index.defining
    if isinstance(op, Iota):
        return op.axis == axis and rises(self, index)
    if isinstance(op, (Broadcast, Reshape, Transpose)):
        source = source_axis(op, axis) if index in self.reps and op.x.tile.shape else None
        return source is not None and _counts(self, uniform, op.x, source)
    if isinstance(op, Binary) and op.kind == "add" and rises(self, index):
        return any(_counts(self, uniform, a, axis) and uniform.start(b, axis) == 0
                   for a, b in ((op.lhs, op.rhs), (op.rhs, op.lhs)))
    return False


def first_lane(coords: Coords) -> Coords:
    """The coordinates of the first lane."""
    return tuple(Coord(x.base, x.const) if x.vector else x for x in coords)


def lanes_of_mask(self: BlockLowering, mask: Value, coords: Coords) -> Coords:
    """Where to evaluate a mask: at the first lane, if it is the same for all of them."""
    axis = next((d for d, x in enumerate(coords) if x.vector), None)
    return coords if axis is None or Uniform(self).start(mask, axis) != 0 else first_lane(coords)


def _place(self: BlockLowering, memory: Memory, starts: Sequence[Value], run: int, lowest: int, mask: Value | None
           ) -> tuple[Value, Number, Value | None]:
    """The address of the first lane's element, how many lanes are in bounds, and which of these, where those before the
    view's beginning, or some that a mask leaves out, are not; ``lowest`` is the least that the index along memory may
    be, and a scalar ``mask`` is that of all lanes."""
    c, lanes = self.c, self.lanes
    numbers: list[Number] = [c.number(c.cast(s, i64)) for s in starts]
    offset: Number = 0
    row = mask if mask is not None and mask.tile.is_scalar else None
    for d, (at, low, high, stride) in enumerate(zip(numbers, memory.lows, memory.highs, memory.strides, strict=True)):
        offset = c.add(offset, c.mul(at, stride))
        if d != run:
            row = c.both(row, c.both(c.compare("ge", at, low), c.compare("lt", at, high)))
    end = c.sub(memory.highs[run], numbers[run])
    if row is not None:
        end = c.select(row, end, 0)
    low, inside = memory.lows[run], None
    if not isinstance(low, int) or lowest < low:
        before = c.lanes_below(c.sub(low, numbers[run]), lanes)
        inside = c.b.add(Binary("xor", before, c.const(True, before.tile.dtype, lanes))).result
    if mask is not None and not mask.tile.is_scalar:
        inside = c.both(inside, mask)
    if inside is not None:
        inside = c.b.add(Binary("and", c.lanes_below(end, lanes), inside)).result
    return c.offset(memory.pointer, offset), end, inside


def rows_ahead(self: BlockLowering, op: Gather, coords: Coords) -> Coords | None:
    """Where the first lane is some rows on, as far as the tile goes; None where there are no rows, or indices take long
    to compute."""
    row = next((d for d, x in enumerate(coords) if x.base is not None and not x.vector), None)
    costs = [rep.cost for rep in map(self.reps.__getitem__, op.indices) if isinstance(rep, Lazy)]
    if row is None or max(costs, default=0) > DEAREST_INDEX:
        return None
    c = self.c
    ahead = c.min(c.add(c.index(coords[row]), ROWS_AHEAD), op.result.tile.shape[row] - 1)
    return tuple(coord_at(ahead, False) if d == row else x for d, x in enumerate(first_lane(coords)))


def prefetch_run(self: BlockLowering, memory: Memory, starts: Sequence[Value]) -> None:
    """Ask for a vector that is read later, from the indices ``starts`` on: no processor foresees which rows are."""
    c = self.c
    offset: Number = 0
    for start, stride in zip(starts, memory.strides, strict=True):
        offset = c.add(offset, c.mul(c.number(c.cast(start, i64)), stride))
    for n in range(0, self.lanes, max(1, LINE_BYTES // container_bytes(memory.dtype))):
        c.b.add(Prefetch(c.offset(memory.pointer, c.add(offset, n))))


def lowest_of(self: BlockLowering, index: Value) -> int:
    """The least that an index may be."""
    return self.facts.of(index).low


def load_run(self: BlockLowering, memory: Memory, starts: Sequence[Value], run: int, lowest: int,
             mask: Value | None, other: Value | None) -> Value:
    """A vector of elements from the indices ``starts`` on, along dimension ``run``."""
    c, lanes = self.c, self.lanes
    pointer, count, condition = _place(self, memory, starts, run, lowest, mask)
    fill = None if other is None else c.splat(other, lanes)
    if condition is None:
        return load_first(self, pointer, count, lanes, fill)
    return c.b.add(MaskedLoad(pointer, condition, fill)).result


def store_run(self: BlockLowering, memory: Memory, starts: Sequence[Value], run: int, lowest: int, value: Value,
              mask: Value | None) -> None:
    """Write a vector from there on."""
    pointer, count, condition = _place(self, memory, starts, run, lowest, mask)
    if condition is None:
        store_first(self, pointer, count, value)
    else:
        self.c.b.add(MaskedStore(pointer, value, condition))


__all__ = [
    "first_lane", "lanes_of_mask", "load_run", "lowest_of", "prefetch_run", "rows_ahead", "run_dim", "run_of",
    "store_run"]
