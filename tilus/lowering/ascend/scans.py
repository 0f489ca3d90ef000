"""Inclusive scans of tiles: along rows' dimensions row by row, along a row in doubling steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tilus.ir.dtypes import bool_, f32, i32, u8, u32
from tilus.ir.ops import Scan
from tilus.lowering.ascend import units
from tilus.lowering.ascend.broadcasts import spread_tile
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.reductions import COMBINE, NEUTRAL
from tilus.lowering.ascend.tiles import BLOCK, Tile
from tilus.lowering.ascend.units import number_text

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector


def lower_scan(vector: Vector, op: Scan) -> None:
    dtype, shape = op.x.tile.dtype, op.x.tile.shape
    if dtype.bits == 64 or (dtype is u32 and op.kind in ("max", "min")):
        vector.refuse(op, f"scan {op.kind} of {dtype} is not lowered for {vector.target}", "convert to i32 or f32")
    inner = f32 if dtype.is_float else i32
    source = vector.as_type(vector.tile(op.x), inner)
    if shape[op.axis] == 1:
        found = source
    elif math.prod(shape[op.axis + 1:]) == 1:
        found = _along_rows(vector, op, source)
    else:
        found = _across_rows(vector, op, source)
    vector.tiles[op.result] = vector.as_type(found, vector.narrow(op.result))


def _across_rows(vector: Vector, op: Scan, source: Tile) -> Tile:
    core, shape, axis = vector.core, op.x.tile.shape, op.axis
    below = [n for n in shape[axis + 1:] if n != 1]
    group, count = math.prod(below[:-1]) * source.form.pitch, shape[axis]
    result = vector.room(source.dtype, source.form)

    def one(outer: Scalar) -> None:
        begin = core.mul(outer, count * group)
        first = core.add(begin, (count - 1) * group if op.reverse else 0)
        units.copy(core, core.part(result.tensor, size=group, offset=first),
                   core.part(source.tensor, size=group, offset=first), group)
        with core.loop(1, count, 1, "row") as row:
            place = core.add(begin, core.mul(core.sub(count - 1, row) if op.reverse else row, group))
            before = core.add(place, group if op.reverse else -group)
            units.binary(core, COMBINE[op.kind], core.part(result.tensor, size=group, offset=place),
                         core.part(result.tensor, size=group, offset=before),
                         core.part(source.tensor, size=group, offset=place), group)

    core.each(math.prod(shape[:axis]), one)
    return result


def _along_rows(vector: Vector, op: Scan, source: Tile) -> Tile:
    """Each step combines elements with those so far before them, which it gathers; before the first one there is what
    changes nothing, which lies behind the tile."""
    core, form, dtype = vector.core, source.form, source.dtype
    size, per_block = form.size, BLOCK // dtype.itemsize
    neutral = _neutral(op.kind, dtype is f32)
    result = core.local(dtype, size + per_block)
    units.copy(core, core.part(result, 0, size), source.tensor, size)
    units.fill(core, core.part(result, size, per_block), number_text(neutral, dtype), per_block, dtype)
    shape = op.x.tile.shape
    column = vector.counting(form.columns)
    if form.rows > 1:
        row_shape = tuple(n if d == op.axis else 1 for d, n in enumerate(shape))
        column = spread_tile(vector, column, row_shape, shape)
    places = core.local(i32, size)
    core.call(f"CreateVecIndex({{0}}, static_cast<int32_t>(0), {size})", "V", places)
    units.with_number(core, "Muls", places, places, number_text(dtype.itemsize, i32), size)
    indices = vector.as_type(column, f32)
    outside = vector.room(i32, form)
    vector.fill(outside, size * dtype.itemsize)
    distance = 1
    while distance < form.columns:
        inside = Tile(core.local(u8, form.compared // 8), bool_, form)
        limit = form.columns - distance if op.reverse else distance
        core.call(f"Compares({{0}}, {{1}}, {float(limit)}f, CMPMODE::{'LT' if op.reverse else 'GE'}, {form.compared})",
                  "V", inside.tensor, (vector.compared(indices),))
        moved, offsets, before = vector.room(i32, form), vector.room(i32, form), core.local(dtype, size)
        step = distance * dtype.itemsize * (1 if op.reverse else -1)
        units.with_number(core, "Adds", moved.tensor, places, number_text(step, i32), size)
        vector.select(offsets, inside, moved, outside)
        core.call(f"Gather({{0}}, {{1}}, {{2}}, 0, {size})", "V", before,
                  (result, core.part(offsets.tensor, dtype=u32)))
        part = core.part(result, 0, size)
        units.binary(core, COMBINE[op.kind], part, part, before, size)
        distance *= 2
    return Tile(core.part(result, 0, size), dtype, form)


def _neutral(kind: str, is_float: bool) -> float:
    if is_float or kind in ("sum", "prod"):
        return NEUTRAL[kind]
    return i32.min_value if kind == "max" else i32.max_value
