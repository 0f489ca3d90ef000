"""Transpositions in the unified buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.lowering.ascend import units
from tilus.lowering.ascend.core import Scalar
from tilus.lowering.ascend.tiles import BLOCK, Form, Tile
from tilus.lowering.ascend.units import TYPES

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

SQUARE = 16
"""Rows that one call turns."""


def turned(vector: Vector, tile: Tile, form: Form) -> Tile:
    """The tile whose rows are the columns of ``tile``, of elements of 16 or 32 bits.

    A call takes a block of each of 16 rows, and gives 16 blocks: for 16 bits one for each of 16 columns, for 32 bits
    two for each of 8. Rows are made up to 16, and so are those of the result.
    """
    core, dtype = vector.core, tile.dtype
    per_block = BLOCK // dtype.itemsize
    rows = -(-tile.form.rows // SQUARE) * SQUARE
    source = _with_rows(vector, tile, rows)
    wide = Form(tile.form.pitch, rows, -(-rows // vector.unit) * vector.unit)
    result = Tile(core.local(dtype, wide.size), dtype, wide)
    if wide.pitch != rows:
        vector.fill(result, 0)

    def columns(block: Scalar) -> None:
        def down(group: Scalar) -> None:
            _call(vector, result, source, tile.form.pitch, block, group, per_block)

        core.each(rows // SQUARE, down, "g")

    core.each(tile.form.pitch // per_block, columns, "b")
    if form.pitch != wide.pitch:
        return _cut(vector, result, form)
    return Tile(core.part(result.tensor, 0, form.size), dtype, form)


def _with_rows(vector: Vector, tile: Tile, rows: int) -> Tile:
    if tile.form.rows == rows:
        return tile
    form = Form(rows, tile.form.columns, tile.form.pitch)
    wider = Tile(vector.core.local(tile.dtype, form.size), tile.dtype, form)
    vector.fill(wider, 0)
    units.copy(vector.core, wider.tensor, tile.tensor, tile.form.size)
    return wider


def _cut(vector: Vector, tile: Tile, form: Form) -> Tile:
    """Shorter rows."""
    core = vector.core
    to = core.local(tile.dtype, form.size)
    core.each(form.rows, lambda row: units.copy(
        core, core.part(to, size=form.pitch, offset=core.mul(row, form.pitch)),
        core.part(tile.tensor, size=form.pitch, offset=core.mul(row, tile.form.pitch)), form.pitch))
    result = Tile(to, tile.dtype, form)
    return result


def _call(vector: Vector, to: Tile, source: Tile, pitch: int, block: Scalar, group: Scalar, per_block: int) -> None:
    core, dtype = vector.core, source.dtype
    begin = core.add(core.mul(core.mul(group, SQUARE), pitch), core.mul(block, per_block))
    target = core.add(core.mul(core.mul(block, per_block), to.form.pitch), core.mul(group, SQUARE))
    sources = core.part(source.tensor, size=(SQUARE - 1) * pitch + per_block, offset=begin)
    halves = SQUARE // per_block
    results = core.part(to.tensor, size=(per_block - 1) * to.form.pitch + SQUARE, offset=target)
    steps = ", ".join(str((n // halves) * to.form.pitch + n % halves * per_block) for n in range(SQUARE))
    core.call(f"TurnBlocks<{TYPES[dtype]}>({{0}}, {{1}}, {pitch}, {{{{{steps}}}}})", "V", results, (sources,))

