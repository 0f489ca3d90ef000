"""Reductions of tiles along a dimension."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tilus.ir.dtypes import f16, f32, i16, i32
from tilus.ir.ops import Reduce
from tilus.lowering.ascend import units
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.tiles import BLOCK, MAX_REPEATS, MAX_STRIDE, Form, Tile, form_of
from tilus.lowering.ascend.transposes import SQUARE, turned
from tilus.lowering.ascend.units import lanes, number_text

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

COMBINE = {"sum": "Add", "max": "Max", "min": "Min", "prod": "Mul"}
NEUTRAL = {"sum": 0.0, "max": -math.inf, "min": math.inf, "prod": 1.0}
EXACT = 1 << 24
"""Integers up to it are floats of 32 bits."""


def lower_reduce(vector: Vector, op: Reduce) -> None:
    dtype = op.x.tile.dtype
    if op.kind in ("any", "all"):
        numbers = vector.numbers(vector.tile(op.x))
        found = reduced(vector, op, numbers, "max" if op.kind == "any" else "min")
        vector.tiles[op.result] = vector.truth(found)
        return
    if op.kind not in COMBINE:
        vector.refuse(op, f"reduction {op.kind} is not lowered for {vector.target}")
    source = vector.tile(op.x)
    inner = _inner_extent(op.x.tile.shape, op.axis)
    if dtype.is_int and inner == 1 and op.x.tile.shape[op.axis] != 1:
        vector.tiles[op.result] = _of_integers(vector, op, source)
        return
    as_type = dtype if dtype in (f32, f16, i32, i16) else f32 if dtype.is_float else i32
    vector.tiles[op.result] = vector.as_type(reduced(vector, op, vector.as_type(source, as_type), op.kind),
                                             vector.narrow(op.result))


def _inner_extent(shape: tuple[int, ...], axis: int) -> int:
    return math.prod(shape[axis + 1:])


def _of_integers(vector: Vector, op: Reduce, source: Tile) -> Tile:
    """Along rows the unit reduces floats; integers that are floats without rounding go that way, others as columns."""
    fact = vector.facts.of(op.x)
    most = max(abs(fact.low), abs(fact.high)) * (op.x.tile.shape[op.axis] if op.kind == "sum" else 1)
    exact = op.kind != "prod" and most <= EXACT
    as_type = f32 if exact else i16 if op.x.tile.dtype is i16 else i32
    shape = op.x.tile.shape
    tile, form = vector.as_type(source, as_type), form_of((*shape[:op.axis], *shape[op.axis + 1:]), vector.unit)
    found = reduced(vector, op, tile, op.kind) if exact else _as_columns(vector, op, tile, op.kind, form)
    return vector.as_type(found, vector.narrow(op.result))


def reduced(vector: Vector, op: Reduce, tile: Tile, kind: str) -> Tile:
    shape, axis = op.x.tile.shape, op.axis
    form = form_of((*shape[:axis], *shape[axis + 1:]), vector.unit)
    if shape[axis] == 1:
        return Tile(tile.tensor, tile.dtype, form)
    if _inner_extent(shape, axis) == 1:
        return _along_rows(vector, op, tile, kind, form)
    return _across_rows(vector, tile, kind, shape, axis, form)


def _across_rows(vector: Vector, tile: Tile, kind: str, shape: tuple[int, ...], axis: int, form: Form) -> Tile:
    """Rows are combined by halves."""
    core, pitch = vector.core, tile.form.pitch
    below = [n for n in shape[axis + 1:] if n != 1]
    group = math.prod(below[:-1]) * pitch
    count, outer = shape[axis], math.prod(shape[:axis])
    result = vector.room(tile.dtype, form)
    half = -(-count // 2)
    scratch = core.local(tile.dtype, half * group)

    def one(index: Scalar) -> None:
        begin = core.mul(index, count * group)
        n, left = count, tile.tensor
        while n > 1:
            pairs, odd = n // 2, n % 2
            to = scratch if n > 2 else core.part(result.tensor, size=group, offset=core.mul(index, group))
            place: Scalar = begin if left is tile.tensor else 0
            size = pairs * group
            units.binary(core, COMBINE[kind], core.part(to, size=size), core.part(left, size=size, offset=place),
                         core.part(left, size=size, offset=core.add(place, (pairs + odd) * group)), size)
            if odd and left is tile.tensor:
                units.copy(core, core.part(scratch, pairs * group, group),
                           core.part(left, size=group, offset=core.add(place, pairs * group)), group)
            n, left = pairs + odd, scratch

    core.each(outer, one)
    return result


def _check_packed(vector: Vector, op: Reduce, rows: int, form: Form) -> None:
    if not form.packed:
        vector.refuse(op, f"the {rows} results of this reduction do not lie one after the other in a tile of "
                          f"{form.columns} columns", "use an extent that is a multiple of 16")


def _as_columns(vector: Vector, op: Reduce, tile: Tile, kind: str, form: Form) -> Tile:
    """Rows are turned into columns, of which whole ones are combined: what no call reduces along a row."""
    tile = _folded(vector, tile, kind) if tile.form.rows == 1 else tile
    rows, columns = tile.form.rows, tile.form.columns
    _check_packed(vector, op, rows, form)
    pitch = -(-rows // SQUARE) * SQUARE
    pitch = -(-pitch // vector.unit) * vector.unit
    matrix = turned(vector, tile, Form(columns, rows, pitch))
    found = _across_rows(vector, matrix, kind, (columns, rows), 0, Form(1, rows, pitch))
    return Tile(found.tensor, found.dtype, form)


def _folded(vector: Vector, row: Tile, kind: str) -> Tile:
    """The halves of a single row are combined, as long as they are whole blocks."""
    core, dtype, columns = vector.core, row.dtype, row.form.columns
    left = row.tensor
    while columns % (2 * BLOCK // dtype.itemsize) == 0:
        columns //= 2
        to = core.local(dtype, -(-columns // SQUARE) * SQUARE)
        units.binary(core, COMBINE[kind], core.part(to, size=columns), core.part(left, size=columns),
                     core.part(left, columns, columns), columns)
        left = to
    form = Form(1, columns, row.form.pitch if left is row.tensor else -(-columns // SQUARE) * SQUARE)
    if form.pitch > columns and left is not row.tensor:
        units.fill(core, core.part(left, columns), number_text(0, dtype), form.pitch - columns, dtype)
    return Tile(left, dtype, form)


def _along_rows(vector: Vector, op: Reduce, tile: Tile, kind: str, form: Form) -> Tile:
    if kind == "prod":
        return _as_columns(vector, op, tile, kind, form)
    core, dtype = vector.core, tile.dtype
    rows = tile.form.rows
    _check_packed(vector, op, rows, form)
    result = vector.room(dtype, form)
    while tile.form.columns > lanes(dtype):
        tile = _by_blocks(vector, tile, kind) if _in_blocks(tile) else _into_first_lanes(vector, tile, kind)
    stride = units.blocks(tile.form.pitch, dtype)
    name = f"WholeReduce{kind.capitalize()}"
    order = "" if kind == "sum" else ", ReduceOrder::ORDER_ONLY_VALUE"
    step = min(MAX_REPEATS, rows) if rows <= MAX_REPEATS else MAX_REPEATS // 8 * 8  # results begin at blocks
    group = core.group()
    for first, count in units.pieces(rows, step):
        core.call(f"{name}({{0}}, {{1}}, {tile.form.columns}, {count}, 1, 1, {stride}{order})", "V",
                  core.part(result.tensor, first, count),
                  (core.part(tile.tensor, first * tile.form.pitch, (count - 1) * tile.form.pitch + tile.form.columns),),
                  group=group)
    _after_results(vector, result, rows, group)
    return result


def _after_results(vector: Vector, result: Tile, rows: int, group: int) -> None:
    """Numbers behind the results, in what else is of their block, and after that."""
    core, dtype = vector.core, result.dtype
    per_block = BLOCK // dtype.itemsize
    filled, size = -(-rows // per_block) * per_block, result.form.size
    if rows % per_block:
        bits = sum(1 << lane for lane in range(rows % per_block, per_block))
        core.call(f"FillLanes({{0}}, {number_text(0, dtype)}, {bits}u)", "V",
                  core.part(result.tensor, filled - per_block, per_block), group=group)
    if filled < size:
        units.fill(core, core.part(result.tensor, filled, size - filled), number_text(0, dtype), size - filled, dtype)


def _in_blocks(tile: Tile) -> bool:
    """Whether blocks of all rows may be reduced at once: they follow each other, and so do the results."""
    return tile.form.pitch == tile.form.columns and tile.form.columns % (lanes(tile.dtype)) == 0


def _by_blocks(vector: Vector, tile: Tile, kind: str) -> Tile:
    """Each block of 32 bytes to one number."""
    core, dtype = vector.core, tile.dtype
    per_block, wide = BLOCK // dtype.itemsize, lanes(dtype)
    form = Form(tile.form.rows, tile.form.columns // per_block, tile.form.pitch // per_block)
    result = core.local(dtype, form.size)
    for first, count in units.pieces(tile.form.size // wide, MAX_REPEATS // 8 * 8):
        core.call(f"BlockReduce{kind.capitalize()}({{0}}, {{1}}, {count}, {wide}, 1, 1, 8)", "V",
                  core.part(result, first * 8, count * 8), (core.part(tile.tensor, first * wide, count * wide),))
    return Tile(result, dtype, form)


def _into_first_lanes(vector: Vector, tile: Tile, kind: str) -> Tile:
    """Columns beyond the first repeat's are combined with those."""
    core, dtype, form = vector.core, tile.dtype, tile.form
    wide, pitch = lanes(dtype), units.blocks(form.pitch, dtype)
    step = min(pitch, MAX_STRIDE)
    to_form = Form(form.rows, wide, wide)
    result = core.local(dtype, to_form.size)
    name = COMBINE[kind]

    def rows_at_once(first: Scalar, count: int) -> None:
        for column, width in units.pieces(form.columns, wide):
            to = core.part(result, size=(count - 1) * wide + width, offset=core.mul(first, wide))
            source = core.part(tile.tensor, size=(count - 1) * form.pitch + width,
                               offset=core.add(core.mul(first, form.pitch), column))
            if column == 0:
                core.call(f"Copy({{0}}, {{1}}, {width}, {count}, {{{{1, 1, 8, {step}}}}})", "V", to,
                          (source,))
            else:
                core.call(f"{name}({{0}}, {{0}}, {{1}}, {width}, {count}, {{{{1, 1, 1, 8, 8, {step}}}}})",
                          "V", to, (source,), updates=True)

    if pitch > MAX_STRIDE:
        core.each(form.rows, lambda row: rows_at_once(row, 1))
    else:
        for first, count in units.pieces(form.rows, MAX_REPEATS):
            rows_at_once(first, count)
    return Tile(result, dtype, to_form)
