"""Integers of 4 bits: their bytes come as they lie in memory, and the vector unit converts both halves of each."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f16, integer, u8, u16
from tilus.ir.ops import Load
from tilus.lowering.ascend import units
from tilus.lowering.ascend.tiles import BLOCK, Form, Tile
from tilus.lowering.ascend.windows import Window

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

i4, u4 = integer(4), integer(4, signed=False)
NIBBLES = (i4, u4)
SIGNS = 0x8888
"""The upper bits of the four nibbles of a word."""


def in_whole_blocks(vector: Vector, op: Load, place: Window) -> bool:
    """Whether rows are whole bytes, and those of a tile whole blocks."""
    shape, facts, last = op.shape, vector.facts, len(op.shape) - 1
    if place.view.strides[last] != 1 or shape[last] % (2 * BLOCK) or place.begins[last] != 0:
        return False
    divisors = [facts.of(op.offsets[last]).divisor, facts.extent(op.view, last).divisor]
    return not any(d % 2 for d in (*divisors, *(facts.stride(op.view, d).divisor for d in range(last))))


def bytes_of(vector: Vector, op: Load, place: Window) -> tuple[Tile, Window, tuple[int, ...]]:
    """Room for the bytes of a tile, the window that they are, and its shape."""
    shape, core, last = op.shape, vector.core, len(op.shape) - 1
    form = Form(math.prod(shape[:-1]), shape[last] // 2, shape[last] // 2)
    view = dataclasses.replace(place.view, strides=(*(core.quotient(s, 2) for s in place.view.strides[:-1]), 1))
    halves = core.quotient(core.add(place.counts[last], 1), 2)
    window = dataclasses.replace(place, view=view, offset=core.quotient(place.offset, 2),
                                 counts=(*place.counts[:-1], halves))
    return vector.room(u8, form, slots=2), window, (*shape[:-1], shape[last] // 2)


def of_bytes(tile: Tile, dtype: DType) -> Tile:
    """The tile of 4-bit integers whose bytes these are."""
    form = tile.form
    return Tile(tile.tensor, dtype, Form(form.rows, form.columns * 2, form.pitch * 2))


def as_halves(vector: Vector, tile: Tile) -> Tile:
    """The numbers as f16, which has all of them. Unsigned ones go as signed ones of 8 less."""
    core, size, tensor = vector.core, tile.form.size, tile.tensor
    if tile.dtype is u4:
        tensor = _with_other_signs(vector, tile)
    result = vector.room(f16, tile.form)
    units.copy_cast(core, result.tensor, core.part(tensor, 0, size, dtype=i4), "CAST_NONE", size)
    if tile.dtype is u4:
        units.with_number(core, "Adds", result.tensor, result.tensor, units.number_text(8, f16), size)
    return result


def _with_other_signs(vector: Vector, tile: Tile) -> Value:
    """``x ^ 8`` of each, as (x | c) & ~(x & c)."""
    core, words = vector.core, tile.form.size // 4
    x = core.part(tile.tensor, 0, words, dtype=u16)
    signs, both, either = (core.local(u16, words) for _ in range(3))
    units.fill(core, signs, units.number_text(SIGNS, u16), words, u16)
    units.binary(core, "And", both, x, signs, words)
    units.unary(core, "Not", both, both, words)
    units.binary(core, "Or", either, x, signs, words)
    units.binary(core, "And", either, either, both, words)
    return either
