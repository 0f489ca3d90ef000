"""Conversions of tiles by the vector unit, in as many steps as it takes."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

from tilus.diagnostics import UNKNOWN_SPAN, UnsupportedError
from tilus.ir.dtypes import DType, bf16, bool_, f16, f32, i8, i16, i32, u8, u16, u32
from tilus.ir.ops import Cast
from tilus.lowering.ascend import units
from tilus.lowering.ascend.integers import converted, f32_as_unsigned, unsigned_as_f32
from tilus.lowering.ascend.nibbles import NIBBLES, as_halves
from tilus.lowering.ascend.tiles import Tile

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

DIRECT: dict[DType, tuple[DType, ...]] = {
    i8: (f16,), u8: (f16,), f16: (f32, i8, u8, i16, i32), i16: (f16, f32), bf16: (f32, i32), i32: (f32,),
    f32: (i32, f16, bf16, i16),
}
"""What the unit converts in one step."""
_ROUNDINGS = {"rn": "CAST_RINT", "rz": "CAST_TRUNC", "rm": "CAST_FLOOR", "rp": "CAST_CEIL"}


def lower_cast(vector: Vector, op: Cast) -> None:
    if op.dtype.packed_bits < 8 and op.dtype is not bool_:
        vector.refuse(op, f"{vector.target}'s vectors have no {op.dtype} to convert to", "store bytes")
    source = vector.tile(op.x)
    dtype = vector.narrow(op.result)
    vector.tiles[op.result] = _into_wanted(vector, op, cast_tile(vector, source, dtype, op.rounding))


def _into_wanted(vector: Vector, op: Cast, tile: Tile) -> Tile:
    wanted = vector.wanted.get(op.result)
    if wanted is None:
        return tile
    units.copy(vector.core, wanted, tile.tensor, tile.form.size)
    return Tile(wanted, tile.dtype, tile.form)


def cast_tile(vector: Vector, tile: Tile, dtype: DType, rounding: str = "rn") -> Tile:
    """The tile with its values converted: to the nearest for floats, toward zero and saturating to integers."""
    if tile.dtype is dtype:
        return tile
    if tile.dtype is bool_:
        return cast_tile(vector, vector.numbers(tile), dtype)
    if tile.dtype in NIBBLES:
        return cast_tile(vector, as_halves(vector, tile), dtype)
    if dtype is bool_:
        return vector.truth(cast_tile(vector, tile, f32))
    if tile.dtype.is_int and dtype.is_int:
        return converted(vector, tile, dtype)
    if tile.dtype in (u16, u32):
        return cast_tile(vector, unsigned_as_f32(vector, tile), dtype, rounding)
    if dtype is u32:
        return f32_as_unsigned(vector, cast_tile(vector, tile, f32))
    if tile.dtype.is_float and dtype in (i8, u8, i16, u16):
        return _saturated(vector, tile, dtype)
    for step in path(tile.dtype, dtype):
        to = vector.room(step, tile.form)
        units.copy_cast(vector.core, to.tensor, tile.tensor, _rounding(tile.dtype, step, rounding), tile.form.size)
        tile = to
    return tile


def _saturated(vector: Vector, tile: Tile, dtype: DType) -> Tile:
    """A float's integer part, which is rounded before the value is held by a float of fewer bits."""
    core, size = vector.core, tile.form.size
    tile = cast_tile(vector, tile, f32)
    whole, limited = vector.room(i32, tile.form), vector.room(f32, tile.form)
    units.with_number(core, "Maxs", limited.tensor, tile.tensor, units.number_text(dtype.min_value, f32), size)
    units.with_number(core, "Mins", limited.tensor, limited.tensor, units.number_text(dtype.max_value, f32), size)
    units.copy_cast(core, whole.tensor, limited.tensor, "CAST_TRUNC", size)
    return cast_tile(vector, whole, dtype)


def _rounding(source: DType, to: DType, rounding: str) -> str:
    if source.is_float and to.is_int:
        return "CAST_TRUNC"
    if source.is_float and to.bits < source.bits:
        return _ROUNDINGS[rounding]
    return "CAST_NONE"


@functools.cache
def path(source: DType, to: DType) -> tuple[DType, ...]:
    """The types on the shortest way of conversions that keep the value."""
    waiting: deque[tuple[DType, tuple[DType, ...]]] = deque([(source, ())])
    seen = {source}
    while waiting:
        at, steps = waiting.popleft()
        if at is to:
            return steps
        for following in DIRECT.get(at, ()):
            if following not in seen and (following is to or _holds(following, source, to)):
                seen.add(following)
                waiting.append((following, (*steps, following)))
    raise UnsupportedError.at("E0507", f"there is no conversion from {source} to {to} on vectors", UNKNOWN_SPAN)


def _holds(through: DType, source: DType, to: DType) -> bool:
    """Whether every value that survives the whole conversion survives in ``through``."""
    if through is f32:
        return source is not i32 or to.is_float or to.bits <= 16
    if through is f16:
        return source in (i8, u8) or to in (i8, u8)
    return through is i32


__all__ = ["cast_tile", "lower_cast", "path"]
