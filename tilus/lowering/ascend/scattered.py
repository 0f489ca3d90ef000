"""Tiles whose elements do not lie one behind the other in memory: each element is copied to, or from, a block of its
own in the unified buffer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tilus.ir.dtypes import i16, i32, u32
from tilus.ir.ops import Load, Store
from tilus.lowering.ascend import units
from tilus.lowering.ascend.tiles import BLOCK, Form, Tile
from tilus.lowering.ascend.windows import Window

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

MOST_BYTES = 65536
"""Of the blocks of a tile."""


def is_scattered(vector: Vector, op: Load | Store, place: Window, shape: tuple[int, ...]) -> bool:
    """Whether a tile is to be copied element by element: no dimension is contiguous, or a row may begin before the
    array, in which copies cannot begin. Refuses those that are too large for it, and bytes."""
    strides = place.view.strides
    wide = [d for d, n in enumerate(shape) if n != 1]
    if not wide:
        return False
    contiguous = [d for d in wide if strides[d] == 1]
    if contiguous and place.begins[wide[-1] if wide[-1] in contiguous else contiguous[-1]] == 0:
        return False
    dtype = (op.value if isinstance(op, Store) else op.result).tile.dtype
    size = math.prod(shape) * BLOCK
    if size > MOST_BYTES or dtype.itemsize == 1:
        if not contiguous:
            vector.refuse(op, "no dimension of the tile is known to be contiguous in memory",
                          "pass an array whose last or first dimension is contiguous")
        vector.refuse(op, "the first elements of a row may lie before the array, which copies cannot begin in",
                      "`tl.assume(offset >= 0)` where that holds")
    return True


def blocks_of_elements(vector: Vector, tile: Tile, count: int) -> Tile:
    """Room for a block for each element of a tile."""
    per_block = BLOCK // tile.dtype.itemsize
    return Tile(vector.core.local(tile.dtype, count * per_block, slots=2), tile.dtype, Form(count, 1, per_block))


def collected(vector: Vector, to: Tile, blocks: Tile) -> None:
    """The first elements of blocks as a tile."""
    core, form, bits = vector.core, to.form, i16 if to.dtype.itemsize == 2 else i32
    offsets = vector.counting(blocks.form.rows).tensor
    size = -(-blocks.form.rows // 8) * 8
    units.with_number(core, "Muls", offsets, offsets, units.number_text(BLOCK, i32), size)
    if blocks.form.rows != form.size:
        vector.fill(to, 0)
    rows = [(0, form.rows * form.columns)] if form.packed else [(r, form.columns) for r in range(form.rows)]
    for row, count in rows:
        core.call(f"Gather({{0}}, {{1}}, {{2}}, {row * form.columns * BLOCK}, {count})", "V",
                  core.part(to.tensor, row * form.pitch, count, dtype=bits),
                  (core.part(blocks.tensor, dtype=bits), core.part(offsets, dtype=u32)))
