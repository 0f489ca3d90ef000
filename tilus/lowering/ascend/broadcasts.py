"""Values that are the same along a dimension: how they go with the rows of a tile, or as a whole."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bool_, f16, u16
from tilus.ir.ops import Broadcast, Iota
from tilus.lowering.ascend import units
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.tiles import BLOCK, MAX_REPEATS, Form, Tile, form_of, split
from tilus.lowering.ascend.units import Spread, lanes

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector


def spread_of(vector: Vector, value: Value, dtype: DType) -> tuple[Spread, Tile] | None:
    """How a broadcast goes with the rows of its result, and what is: a row, or blocks."""
    op = value.defining
    if isinstance(op, Iota):
        if sum(n != 1 for n in op.shape) < 2 or op.shape[op.axis] == 1:
            return None
        source = tuple(n if d == op.axis else 1 for d, n in enumerate(op.shape))
        how = _how(source, op.shape)
        if how is None:
            return None
        line = vector.as_type(vector.counting(op.shape[op.axis]), dtype)
        return how, _wide_row(vector, line) if how == "row" else vector.blocks_of(line, op.shape[op.axis])
    if not isinstance(op, Broadcast) or op.x.tile.dtype is bool_:
        return None
    how = _how(op.x.tile.shape, op.shape)
    if how is None or (how == "one" and vector.is_scalar(op.x)):
        return None
    source_tile = vector.as_type(vector.tile(op.x), dtype)
    count = math.prod(op.x.tile.shape)
    if how == "row":
        return how, _wide_row(vector, source_tile)
    return (how, vector.blocks_of(source_tile, count)) if source_tile.form.packed else None


def _how(source: tuple[int, ...], to: tuple[int, ...]) -> Spread | None:
    """Whether what has the extents of a row is repeated, or one number in each row; None for other dimensions."""
    if math.prod(source) == 1:
        return "one" if math.prod(to) > 1 else None
    last = max(d for d, n in enumerate(to) if n != 1)
    rows = tuple(n for n in to[:last] if n != 1)
    if source[last] == to[last]:
        return "row" if math.prod(source[:last]) == 1 and rows else None
    return "column" if tuple(n for n in source[:last] if n != 1) == rows else None


def broadcast_tile(vector: Vector, op: Broadcast) -> Tile:
    if vector.is_scalar(op.x):
        tile = vector.room(vector.narrow(op.result), vector.form(op.result))
        vector.fill(tile, vector.scalar(op.x))
        return tile
    source = vector.tile(op.x)
    if math.prod(op.x.tile.shape) == math.prod(op.shape):
        return source
    if source.dtype is bool_ and (repeated := _repeat_bits(vector, source, op)) is not None:
        return repeated
    if source.dtype is bool_:
        return vector.truth(spread_tile(vector, vector.numbers(source), op.x.tile.shape, op.shape))
    return spread_tile(vector, source, op.x.tile.shape, op.shape)


def spread_tile(vector: Vector, source: Tile, shape: tuple[int, ...], to: tuple[int, ...]) -> Tile:
    """The tile of shape ``to`` that one of ``shape`` is broadcast to."""
    shape = (1,) * (len(to) - len(shape)) + shape
    if source.dtype.itemsize == 1:
        return vector.as_type(spread_tile(vector, vector.as_type(source, f16), shape, to), source.dtype)
    result = vector.room(source.dtype, form_of(to, vector.unit))
    how = _how(shape, to)
    if how == "row":
        _repeat_row(vector, result.tensor, _wide_row(vector, source), result.form)
    elif how is not None and (how == "one" or source.form.packed):
        blocks = vector.blocks_of(source, math.prod(shape))
        _spread_blocks(vector, result.tensor, blocks.tensor, result.form, source.dtype, 0 if how == "one" else 1)
    else:
        _by_rows(vector, result, source, shape, to)
    return result


def _repeat_bits(vector: Vector, source: Tile, op: Broadcast) -> Tile | None:
    """A row of booleans for each row, where those of a row fill blocks."""
    result = vector.room(bool_, vector.form(op.result))
    bits = 8 * BLOCK
    if _how(op.x.tile.shape, op.shape) != "row" or result.form.pitch % bits or result.form.rows > MAX_REPEATS:
        return None
    blocks, lanes_of_block = result.form.pitch // bits, BLOCK // 2
    core = vector.core
    to, row = (core.part(t.tensor, dtype=u16) for t in (result, source))
    group = core.group()
    for block in range(blocks):
        start = block * lanes_of_block
        core.call(f"Copy({{0}}, {{1}}, {lanes_of_block}, {result.form.rows}, {{{{1, 1, {blocks}, 0}}}})", "V",
                  core.part(to, start), (core.part(row, start, lanes_of_block),), group=group)
    return result


def _wide_row(vector: Vector, row: Tile) -> Tile:
    """A row as long as those of tiles of several are, zeros behind it."""
    form = Form(1, row.form.columns, -(-row.form.columns // vector.unit) * vector.unit)
    if row.form.pitch >= form.pitch or row.dtype.itemsize == 1:
        return row
    wide = vector.room(row.dtype, form)
    vector.fill(wide, 0)
    units.copy(vector.core, vector.core.part(wide.tensor, 0, row.form.pitch), row.tensor, row.form.pitch)
    return wide


def _repeat_row(vector: Vector, to: Value, source: Tile, form: Form) -> None:
    core = vector.core
    core.each(form.rows, lambda row: units.copy(
        core, core.part(to, size=form.pitch, offset=core.mul(row, form.pitch)),
        core.part(source.tensor, size=form.pitch), form.pitch))


def _spread_blocks(vector: Vector, to: Value, blocks: Value, form: Form, dtype: DType, step: int) -> None:
    """A block for each row (or one for all, ``step`` 0), copied along it."""
    core, wide, per_block = vector.core, lanes(dtype), BLOCK // dtype.itemsize
    whole, rest = form.pitch // wide, form.pitch % wide

    def do(row: Scalar) -> None:
        begin = core.mul(row, form.pitch)
        block = core.part(blocks, size=per_block, offset=core.mul(row, step * per_block))
        parts = [(first * wide, wide, count) for first, count in units.pieces(whole, MAX_REPEATS)]
        for start, count, repeats in [*parts, (whole * wide, rest, 1)] if rest else parts:
            core.call(f"Copy({{0}}, {{1}}, {count}, {repeats}, {{{{1, 0, 8, 0}}}})", "V",
                      core.part(to, size=count * repeats, offset=core.add(begin, start)), (block,))

    core.each(form.rows, do)


def _by_rows(vector: Vector, result: Tile, source: Tile, shape: tuple[int, ...], to: tuple[int, ...]) -> None:
    """Row by row: each is one of the source, or of what that is when its numbers have been spread along rows."""
    core = vector.core
    extents = [(a, b) for a, b in zip(shape, to, strict=True) if b != 1]
    if extents[-1][0] != extents[-1][1]:
        wider = (*(a for a, _ in extents[:-1]), extents[-1][1])
        source = spread_tile(vector, source, tuple(a for a, _ in extents), wider)
        extents = [*extents[:-1], (extents[-1][1], extents[-1][1])]
    rows, _ = split(to)
    pitch = result.form.pitch
    for row in range(math.prod(rows)):
        place, rest = 0, row
        index = []
        for _, n in reversed(extents[:-1]):
            index.append(rest % n)
            rest //= n
        for (n, _), i in zip(extents[:-1], reversed(index), strict=True):
            place = place * n + (i if n != 1 else 0)
        units.copy(core, core.part(result.tensor, row * pitch, pitch),
                   core.part(source.tensor, place * pitch, pitch), pitch)
