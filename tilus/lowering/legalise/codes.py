"""Codes of floats as integer arithmetic: from numbers to codes of a narrower type, in each rounding, and back.

Codebooks are in ``tables.py``.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f32, f64, integer, u32, u64
from tilus.ir.ops import Unary
from tilus.lowering.legalise.legality import rounds
from tilus.lowering.legalise.scalars import Bits
from tilus.lowering.legalise.tables import number_in_codebook, place_in_codebook


def float_to_code(b: Builder, x: Value, target: DType, rounding: str = "rn") -> Value:
    """The code, in u32 or u64, of the number of a narrower float type nearest to a native float, integer or bool."""
    e = Bits(b, x.tile.shape)
    source = x.tile.dtype
    wide = e.to(x, f64) if source.is_int or source.is_bool else x
    if source.is_int and rounds(source, f64):
        wide = odd_f64(e, x)
    if source.is_float and source.bits == 16:
        wide = e.to(x, f32)
    if target.exponent > 8:
        wide = e.to(wide, f64)
    if target.is_codebook:
        return place_in_codebook(e, wide, target)
    return encode(e, wide, target, rounding)


def code_to_float(b: Builder, code: Value, source: DType) -> Value:
    """The number that a code (an unsigned integer) stands for, in f32 or f64."""
    return _decode_code(Bits(b, code.tile.shape), code, source)


def odd_f64(e: Bits, x: Value) -> Value:
    """A long integer as f64 rounded to odd: low bits that do not fit are gathered into one."""
    x = e.to(x, integer(64, x.tile.dtype.is_signed))
    low = e.op("and", x, 0xFFF)
    sticky = e.choose(e.test("ne", low, 0), 0x800, e.const(0, x.tile.dtype))
    magnitude = e.op("or", e.op("sub", x, low), sticky)
    small = e.test("eq", e.op("shr", e.b.add(Unary("abs", x)).result, 52), 0)
    return e.to(e.choose(small, x, magnitude), f64)


def odd_f32(e: Bits, x: Value) -> Value:
    """An f64 as f32 rounded to odd: toward zero, with the last bit set where anything is lost. Rounded once more, to a
    type two bits narrower or less, it is as if there had been one rounding."""
    nearest = e.to(x, f32)
    back, bits = e.to(nearest, f64), e.bits(nearest, u32)
    above = e.test("gt", e.b.add(Unary("abs", back)).result, e.b.add(Unary("abs", x)).result)
    odd = e.op("or", e.choose(above, e.op("sub", bits, 1), bits), 1)
    inexact = e.op("xor", e.test("eq", back, x), e.test("eq", x, x))
    return e.bits(e.choose(inexact, odd, bits), f32)


def decode(e: Bits, x: Value) -> Value:
    """A small float as f32 (or f64 where that does not have all of its numbers), exactly."""
    t = x.tile.dtype
    if t.name == "tf32":
        return e.bits(x, f32)
    return _decode_code(e, e.bits(x, integer(t.bits, signed=False)), t)


def _is_within_f32(t: DType) -> bool:
    """Whether all numbers of a type are numbers of f32. Types whose codes are all numbers have some with the exponent
    that f32 has for infinities."""
    return t.exponent <= 8 and t.mantissa <= 23 and (t.greatest_code >> t.mantissa) - t.bias <= 127


def _decode_code(e: Bits, x: Value, t: DType) -> Value:
    if t.is_codebook:
        return number_in_codebook(e, x, t)
    wide = f32 if _is_within_f32(t) else f64
    u, mantissa_bits, bias = (u64, 52, 1023) if wide is f64 else (u32, 23, 127)
    code = e.to(x, u)
    width = t.exponent + t.mantissa
    magnitude = e.op("and", code, (1 << width) - 1)
    shifted = e.op("shl", magnitude, mantissa_bits - t.mantissa)
    normal = e.op("add", shifted, (bias - t.bias) << mantissa_bits)
    value = e.choose(e.test("lt", magnitude, 1 << t.mantissa), _least(e, magnitude, t, wide), normal)
    exponents = ((1 << (8 if wide is f32 else 11)) - 1) << mantissa_bits
    if t.infinity_code is not None:
        value = e.choose(e.test("ge", magnitude, t.infinity_code), e.op("or", shifted, exponents), value)
    elif t.nan_code is not None:
        quiet = exponents | 1 << (mantissa_bits - 1)
        value = e.choose(e.test("eq", magnitude, t.nan_code), quiet, value)
    if t.signed:
        value = e.op("or", value, e.op("shl", e.op("shr", code, width), u.bits - 1))
    return e.bits(value, wide)


def _least(e: Bits, magnitude: Value, t: DType, wide: DType) -> Value:
    """The bits of the numbers of the least exponent: subnormals, or the least one of a type without zero."""
    u = magnitude.tile.dtype
    if t.has_zero:
        return e.bits(e.op("mul", e.to(magnitude, wide), 2.0 ** (1 - t.bias - t.mantissa)), u)
    return e.bits(e.const(2.0**-t.bias, wide), u)


def encode(e: Bits, x: Value, t: DType, rounding: str = "rn") -> Value:
    """f32 or f64 to the code of a narrower float type, for tf32 where it is in the bits of an f32. Beyond its range:
    the infinity, or in types without one the greatest number; toward zero and against the sign the greatest number."""
    code = _code_of(e, x, t, rounding)
    return e.op("shl", code, 13) if t.name == "tf32" else code


def _code_of(e: Bits, x: Value, t: DType, rounding: str) -> Value:
    source = x.tile.dtype
    u, mantissa_bits, bias = (u64, 52, 1023) if source is f64 else (u32, 23, 127)
    bits = e.bits(x, u)
    sign = e.op("shr", bits, u.bits - 1)
    magnitude = e.op("and", bits, (1 << (u.bits - 1)) - 1)
    if rounding == "rn" and t.has_zero and t.bias <= bias and _beyond(t, bias) + mantissa_bits - t.mantissa <= 2 * bias:
        return _nearest(e, x, magnitude, sign, t)
    if not t.has_zero:
        return _finish(e, _power(e, magnitude, t, rounding), magnitude, sign, mantissa_bits, u, t, rounding)
    exponent = e.op("shr", magnitude, mantissa_bits)
    drop = mantissa_bits - t.mantissa
    # Where the result is subnormal more bits go; beyond the width nothing is left but the sticky bit.
    least = bias - t.bias + 1
    shortfall = e.op("sub", e.const(least, u), e.op("max", exponent, 1))
    subnormal = e.test("lt", exponent, least)
    amount = e.op("min", e.choose(subnormal, shortfall, e.const(0, u)), u.bits - 2 - drop)
    amount = e.op("add", amount, drop)
    fraction = e.op("and", magnitude, (1 << mantissa_bits) - 1)
    hidden = e.choose(e.test("ne", exponent, 0), 1 << mantissa_bits, e.const(0, u))
    significand = e.op("or", fraction, hidden)
    exponent_field = e.choose(subnormal, e.const(0, u), e.op("sub", exponent, least))
    kept = e.op("lsr", significand, amount)
    rest = e.op("sub", significand, e.op("lsl", kept, amount))
    rounded = e.op("add", kept, _increment(e, kept, rest, amount, sign, rounding, u))
    # The hidden bit of a normal number adds one to the exponent field, a carry another one.
    code = e.op("add", rounded, e.op("shl", exponent_field, t.mantissa))
    return _finish(e, code, magnitude, sign, mantissa_bits, u, t, rounding)


def _beyond(t: DType, bias: int) -> int:
    """The exponent, in a type with that bias, of the first power of two above all numbers of a narrower type."""
    greatest = t.greatest_code if t.infinity_code is None else t.infinity_code
    return (greatest >> t.mantissa) + bias - t.bias + 1


def _nearest(e: Bits, x: Value, magnitude: Value, sign: Value, t: DType) -> Value:
    """To nearest even, by an addition to a power of two in whose last place the result's is."""
    source, u = x.tile.dtype, magnitude.tile.dtype
    mantissa_bits, bias = (52, 1023) if u is u64 else (23, 127)
    drop, least = mantissa_bits - t.mantissa, bias - t.bias + 1
    greatest = t.greatest_code if t.infinity_code is None else t.infinity_code
    limited = e.op("min", magnitude, _beyond(t, bias) << mantissa_bits)
    exponents = ((1 << (u.bits - 1 - mantissa_bits)) - 1) << mantissa_bits
    power = e.op("max", e.op("and", limited, exponents), least << mantissa_bits)
    shifted = e.op("add", power, drop << mantissa_bits)
    total = e.bits(e.op("add", e.bits(limited, source), e.bits(shifted, source)), u)
    code = e.op("add", e.op("sub", total, shifted), e.op("shr", power, drop))
    code = e.op("min", e.op("sub", code, least << t.mantissa), greatest)
    nan = e.test("ne", x, x)
    if not t.signed:
        code = e.choose(e.test("ne", sign, 0), 0, code)
    if t.nan_code is not None:
        code = e.choose(nan, t.nan_code, code)
    if t.signed:
        code = e.op("or", code, e.op("shl", sign, t.exponent + t.mantissa))
    return code if t.nan_code is not None else e.choose(nan, 0, code)


def _power(e: Bits, magnitude: Value, t: DType, rounding: str) -> Value:
    """The code of the nearest power of two. Of two as near it is the greater one, whose implied bit counts as odd like
    that of all numbers but subnormals."""
    u = magnitude.tile.dtype
    mantissa_bits, bias = (52, 1023) if u is u64 else (23, 127)
    added = {"rn": 1 << (mantissa_bits - 1), "rp": (1 << mantissa_bits) - 1}.get(rounding, 0)
    exponent = e.op("shr", e.op("add", magnitude, added), mantissa_bits)
    if t.bias == bias:  # 2^-bias, code 0, is subnormal in the source
        least = 1 << (mantissa_bits - 1)
        if rounding == "rn":
            exponent = e.choose(e.test("lt", magnitude, 3 * least // 2), 0, exponent)
        elif rounding == "rp":
            exponent = e.choose(e.test("le", magnitude, least), 0, exponent)
        return exponent
    return e.op("sub", e.op("max", exponent, bias - t.bias), bias - t.bias)


def _increment(e: Bits, kept: Value, rest: Value, amount: Value, sign: Value, rounding: str, u: DType) -> Value:
    one, zero = e.const(1, u), e.const(0, u)
    if rounding == "rz":
        return zero
    if rounding in ("rm", "rp"):
        away = e.test("eq", sign, 1 if rounding == "rm" else 0)
        inexact = e.test("ne", rest, 0)
        return e.choose(e.op("and", away, inexact), one, zero)
    half = e.op("lsl", one, e.op("sub", amount, 1))
    odd = e.test("ne", e.op("and", kept, 1), 0)
    above, tie = e.test("gt", rest, half), e.test("eq", rest, half)
    return e.choose(e.op("or", above, e.op("and", tie, odd)), one, zero)


def _finish(e: Bits, code: Value, magnitude: Value, sign: Value, mantissa_bits: int, u: DType, t: DType,
            rounding: str) -> Value:
    """Overflow, infinities, NaNs and the sign."""
    greatest = t.greatest_code
    infinity = greatest if t.infinity_code is None else t.infinity_code
    beyond = e.const(infinity, u)
    if rounding == "rz":
        beyond = e.const(greatest, u)
    elif rounding in ("rm", "rp"):
        outward = e.test("eq", sign, 1 if rounding == "rm" else 0)
        beyond = e.choose(outward, infinity, e.const(greatest, u))
    infinite = ((1 << (u.bits - 1 - mantissa_bits)) - 1) << mantissa_bits
    huge = e.op("or", e.test("gt", code, greatest), e.test("ge", magnitude, infinite))
    code = e.choose(huge, beyond, code)
    code = e.choose(e.test("eq", magnitude, infinite), infinity, code)
    if t.signed:
        signed = e.op("shl", sign, t.exponent + t.mantissa)
    else:
        code, signed = e.choose(e.test("ne", sign, 0), 0, code), e.const(0, u)
    nan = e.test("gt", magnitude, infinite)
    if t.nan_code is None:
        return e.choose(nan, 0, e.op("or", code, signed))
    return e.op("or", e.choose(nan, t.nan_code, code), signed)


__all__ = ["code_to_float", "decode", "encode", "float_to_code", "odd_f32", "odd_f64"]
