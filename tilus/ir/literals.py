"""The bits of literals: numbers of Python as elements of a type, rounded once.

Emitters write constants by their bits, so that no compiler reads a number in another way.
"""

from __future__ import annotations

import math
import struct

from tilus.ir.dtypes import DType


def encode_float(value: int | float, dtype: DType) -> int:
    """The bits of ``value`` rounded to nearest even in a float type; beyond its range the infinity, or for types
    without one the greatest number (a NaN in types that have none becomes zero). tf32 is held in the bits of f32."""
    if dtype.name == "tf32":
        narrow = DType("tf32_bits", "float", 19, dtype.exponent, dtype.mantissa, dtype.specials)
        return encode_float(value, narrow) << 13
    number = as_float(value, dtype)
    negative = math.copysign(1.0, number) < 0
    sign = (1 << (dtype.exponent + dtype.mantissa)) if negative and dtype.signed else 0
    if math.isnan(number):
        return 0 if dtype.nan_code is None else sign | dtype.nan_code
    if negative and not dtype.signed:
        return 0
    infinity = dtype.infinity_code
    overflow = dtype.greatest_code if infinity is None else infinity
    if math.isinf(number):
        return sign | overflow
    code = _magnitude_code(abs(number), dtype)
    return sign | (code if code <= dtype.greatest_code else overflow)


def _magnitude_code(magnitude: float, dtype: DType) -> int:
    """The code of a finite magnitude as if there were no greatest one."""
    bias = dtype.bias + (not dtype.has_zero)
    if magnitude == 0.0:
        return 0
    exponent = max(math.frexp(magnitude)[1] - 1, 1 - bias)
    code = _units(magnitude, exponent - dtype.mantissa) + ((exponent + bias - 1) << dtype.mantissa)
    return code if dtype.has_zero else max(code, 1) - 1


def _units(magnitude: float, last: int) -> int:
    """A magnitude in units of ``2**last``, to nearest even."""
    return round(magnitude / math.ldexp(1.0, last)) if last > -1075 else 0


def integer_bits(value: int | float | bool, dtype: DType) -> int:
    """The integer that holds ``value``: of a signed type with its sign, of a float its bits, of a codebook the code."""
    if dtype.is_float:
        return encode_float(value, dtype)
    if dtype.is_codebook:
        from tilus.ir.codebooks import nearest_code

        return nearest_code(as_float(value, dtype), dtype)
    number = int(value) & ((1 << dtype.bits) - 1)
    return number - (1 << dtype.bits) if dtype.kind == "int" and number >> (dtype.bits - 1) else number


def rounded(value: int | float, dtype: DType) -> float:
    """``value`` rounded to f32, tf32 or f64."""
    bits = encode_float(value, dtype)
    if dtype.bits == 64:
        return float(struct.unpack("<d", struct.pack("<Q", bits))[0])
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def as_float(value: int | float, dtype: DType) -> float:
    """A literal as the Python float that rounds to the same element. Integers of more than 53 bits are cut to them,
    the last of which then says whether anything was cut off: so nothing is rounded twice."""
    try:
        if not isinstance(value, int) or dtype.mantissa > 50:
            return float(value)
        cut = max(0, abs(value).bit_length() - 53)
        kept = abs(value) >> cut
        if kept << cut != abs(value):
            kept |= 1
        return math.copysign(math.ldexp(kept, cut), value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
