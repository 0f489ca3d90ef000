"""Integers on vectors, which compute with 16 and 32 bits with a sign: conversions that wrap, numbers without a sign,
quotients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bool_, f16, f32, i8, i16, i32, u8, u16, u32
from tilus.ir.ops import Binary
from tilus.lowering.ascend import units
from tilus.lowering.ascend.lazy import constant
from tilus.lowering.ascend.tiles import Tile
from tilus.lowering.ascend.units import number_text

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

EXACT_QUOTIENT = 1 << 22
"""Up to it the rounded quotient of two integers has the integer part of the true one: two numbers of f32 around it are
less than half of a divisor's part apart."""
SIGN_BIT = -(1 << 31)


def as_bits(vector: Vector, tile: Tile, dtype: DType) -> Tile:
    """The same bits as elements of another type of their size."""
    return tile if tile.dtype is dtype else Tile(vector.core.part(tile.tensor, dtype=dtype), dtype, tile.form)


def converted(vector: Vector, tile: Tile, dtype: DType) -> Tile:
    """Integers as integers of another type, modulo two to the power of its bits."""
    before, after = tile.dtype.bits, dtype.bits
    if before > after:
        tile = _narrowed(vector, tile, dtype)
    elif before < after:
        tile = _widened(vector, tile, i16 if after == 16 else i32)
    return as_bits(vector, tile, dtype)


def _step(vector: Vector, tile: Tile, dtype: DType) -> Tile:
    to = vector.room(dtype, tile.form)
    rounding = "CAST_TRUNC" if tile.dtype.is_float and dtype in (i16, i32) else "CAST_NONE"
    units.copy_cast(vector.core, to.tensor, tile.tensor, rounding, tile.form.size)
    return to


def _widened(vector: Vector, tile: Tile, dtype: DType) -> Tile:
    """To a type of more bits, all of which the values have."""
    if tile.dtype in (i8, u8):
        return _step(vector, _step(vector, tile, f16), dtype)
    wide = _step(vector, _step(vector, as_bits(vector, tile, i16), f32), i32)
    return masked(vector, wide, 0xFFFF) if tile.dtype is u16 else wide


def masked(vector: Vector, tile: Tile, mask: int) -> Tile:
    """The bits of a mask, of 16 or of 32 bits."""
    core, form = vector.core, tile.form
    bits = Tile(core.local(tile.dtype, form.size), tile.dtype, form)
    vector.fill(bits, mask)
    words = form.size * tile.dtype.itemsize // 2
    tensors = [core.part(t.tensor, dtype=u16) for t in (bits, tile, bits)]
    core.call(f"And({{0}}, {{1}}, {{2}}, {words})", "V", tensors[0], tensors[1:])
    return bits


def _narrowed(vector: Vector, tile: Tile, dtype: DType) -> Tile:
    """The low bits."""
    core, form = vector.core, tile.form
    if tile.dtype.bits == 32:
        low = core.local(u16, form.size)
        core.call(f"EvenWords({{0}}, {{1}}, {2 * form.size})", "V", low, (core.part(tile.tensor, dtype=u16),))
        tile = Tile(low, u16, form)
    if dtype.bits == 16:
        return tile
    tile = as_bits(vector, tile, i16)
    if dtype is u8:
        tile = masked(vector, tile, 0xFF)
    else:
        shifted = vector.room(i16, form)
        for name, x in (("ShiftLeft", tile), ("ShiftRight", shifted)):
            units.with_number(core, name, shifted.tensor, x.tensor, number_text(8, i16), form.size)
        tile = shifted
    return _step(vector, _step(vector, tile, f16), dtype)


def unsigned_as_f32(vector: Vector, tile: Tile) -> Tile:
    """Integers of 16 or 32 bits without a sign, rounded once: the upper half's multiple of 2^16 and the lower half are
    exact."""
    if tile.dtype is not u32:
        return _step(vector, _widened(vector, tile, i32), f32)
    core, size = vector.core, tile.form.size
    upper = vector.room(u32, tile.form)
    units.with_number(core, "ShiftRight", upper.tensor, tile.tensor, number_text(16, u32), size)
    high = _step(vector, as_bits(vector, upper, i32), f32)
    low = _step(vector, masked(vector, as_bits(vector, tile, i32), 0xFFFF), f32)
    units.with_number(core, "Muls", high.tensor, high.tensor, "65536.0f", size)
    units.binary(core, "Add", high.tensor, high.tensor, low.tensor, size)
    return high


def f32_as_unsigned(vector: Vector, tile: Tile) -> Tile:
    """Toward zero, 0 for negative numbers, the greatest number for those beyond it."""
    core, size, form = vector.core, tile.form.size, tile.form
    limited, part = vector.room(f32, form), vector.room(f32, form)
    units.with_number(core, "Maxs", limited.tensor, tile.tensor, "0.0f", size)
    beyond = Tile(core.local(u8, form.compared // 8), bool_, form)
    core.call(f"Compares({{0}}, {{1}}, 4294967296.0f, CMPMODE::LT, {form.compared})", "V", beyond.tensor,
              (vector.compared(limited),))
    units.with_number(core, "Mins", limited.tensor, limited.tensor, "4294967040.0f", size)
    units.with_number(core, "Muls", part.tensor, limited.tensor, "1.52587890625e-05f", size)
    upper = _step(vector, part, i32)
    whole = _step(vector, upper, f32)
    units.with_number(core, "Muls", whole.tensor, whole.tensor, "65536.0f", size)
    units.binary(core, "Sub", limited.tensor, limited.tensor, whole.tensor, size)
    lower = _step(vector, limited, i32)
    units.with_number(core, "ShiftLeft", upper.tensor, upper.tensor, number_text(16, i32), size)
    units.binary(core, "Add", upper.tensor, upper.tensor, lower.tensor, size)
    ones, result = vector.room(i32, form), vector.room(i32, form)
    vector.fill(ones, -1)
    vector.select(result, beyond, upper, ones)
    return as_bits(vector, result, u32)


def signed_order(vector: Vector, value: Value) -> Tile:
    """32-bit integers as ones whose order is theirs: without a sign the upper half comes below."""
    tile = vector.tile(value)
    if tile.dtype is not u32:
        return vector.as_type(tile, i32)
    moved = vector.room(i32, tile.form)
    units.with_number(vector.core, "Adds", moved.tensor, as_bits(vector, tile, i32).tensor, number_text(SIGN_BIT, i32),
                      tile.form.size)
    return moved


def lower_extreme(vector: Vector, op: Binary) -> Tile:
    """The greater or lesser of numbers of 32 bits without a sign."""
    x, y = signed_order(vector, op.lhs), signed_order(vector, op.rhs)
    core, size, result = vector.core, x.form.size, vector.room(i32, x.form)
    units.binary(core, op.kind.capitalize(), result.tensor, x.tensor, y.tensor, size)
    units.with_number(core, "Adds", result.tensor, result.tensor, number_text(SIGN_BIT, i32), size)
    return result


# -- quotients


def lower_quotient(vector: Vector, op: Binary) -> Tile:
    """``x // y`` or ``x % y``, rounded down: shifts for powers of two, else by f32 where that is exact."""
    divisor, dtype = constant(op.rhs), vector.narrow(op.result)
    if isinstance(divisor, int) and divisor > 0 and not divisor & (divisor - 1):
        return _by_power(vector, op, divisor)
    x, y = vector.facts.of(op.lhs), vector.facts.of(op.rhs)
    most = max(-x.low, x.high, -y.low, y.high)
    if dtype.is_float or most > EXACT_QUOTIENT:
        vector.refuse(op, f"{vector.target}'s vectors divide integers by constant powers of two, and others where "
                          f"operands are known to be at most {EXACT_QUOTIENT:,}",
                      "`tl.assume` a range, or compute the index outside of the tile")
    return _by_f32(vector, op, may_be_zero=y.low <= 0 <= y.high)


def _by_power(vector: Vector, op: Binary, divisor: int) -> Tile:
    tile, core = vector.tile(op.lhs), vector.core
    wide = _widened(vector, tile, i16) if tile.dtype in (i8, u8) else tile
    if op.kind == "mod":
        return masked(vector, wide, divisor - 1)
    result = vector.room(wide.dtype, wide.form)
    units.with_number(core, "ShiftRight", result.tensor, wide.tensor,
                      number_text(divisor.bit_length() - 1, wide.dtype), wide.form.size)
    return result


def _by_f32(vector: Vector, op: Binary, *, may_be_zero: bool) -> Tile:
    core, form = vector.core, vector.form(op.result)
    x, y = (vector.as_type(vector.tile(v), i32) for v in (op.lhs, op.rhs))
    a, b = _step(vector, x, f32), _step(vector, y, f32)
    quotient, whole = vector.room(f32, form), vector.room(i32, form)
    units.binary(core, "Div", quotient.tensor, a.tensor, b.tensor, form.size)
    if may_be_zero:  # which gives 0
        known, chosen = vector.truth(b), vector.room(f32, form)
        vector.select(chosen, known, quotient, "0.0f")
        quotient = chosen
    units.copy_cast(core, whole.tensor, quotient.tensor, "CAST_FLOOR", form.size)
    if op.kind == "floordiv":
        return whole
    rest = vector.room(i32, form)
    units.binary(core, "Mul", rest.tensor, whole.tensor, y.tensor, form.size)
    units.binary(core, "Sub", rest.tensor, x.tensor, rest.tensor, form.size)
    return rest
