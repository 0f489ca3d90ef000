"""Tiles whose elements are the same under another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.diagnostics import UnsupportedError
from tilus.lowering.ascend.tiles import BLOCK, Form, Tile

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector


def packed(vector: Vector, tile: Tile) -> Tile:
    """The elements one after the other, without padding between rows."""
    form = tile.form
    if form.packed:
        return tile
    return _repitched(vector, tile, Form(form.rows, form.columns, form.columns))


def unpacked(vector: Vector, tile: Tile, form: Form) -> Tile:
    """Elements that follow each other as a tile of ``form``."""
    if form.packed:
        return Tile(tile.tensor, tile.dtype, form)
    return _repitched(vector, Tile(tile.tensor, tile.dtype, Form(form.rows, form.columns, form.columns)), form)


def _repitched(vector: Vector, tile: Tile, form: Form) -> Tile:
    """Rows that do not begin at blocks go element by element."""
    raise UnsupportedError.at(
        "E0507", f"rows of {form.columns} elements of {tile.dtype} are no multiples of {BLOCK} bytes, so that their "
                 "elements cannot be regrouped", vector.core.span,
        help="use tiles whose last extent is a multiple of 16")
