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
    sign = (1 << (dtype.bits - 1)) if math.copysign(1.0, number) < 0 else 0
    top = (1 << dtype.exponent) - 1
    if math.isnan(number):
        if dtype.specials == "finite":
            return 0
        quiet = 1 << (dtype.mantissa - 1) if dtype.mantissa else 0
        return sign | top << dtype.mantissa | (quiet if dtype.specials == "ieee" else (1 << dtype.mantissa) - 1)
    greatest = {"ieee": (top << dtype.mantissa) - 1, "fn": (top << dtype.mantissa | (1 << dtype.mantissa) - 1) - 1,
                "finite": (1 << (dtype.bits - 1)) - 1}[dtype.specials]
    overflow = greatest + 1 if dtype.specials == "ieee" else greatest
    if math.isinf(number):
        return sign | overflow
    magnitude = abs(number)
    if magnitude == 0.0:
        return sign
    exponent = max(math.frexp(magnitude)[1] - 1, 1 - dtype.bias)
    code = _units(magnitude, exponent - dtype.mantissa) + ((exponent + dtype.bias - 1) << dtype.mantissa)
    return sign | (code if code <= greatest else overflow)


def _units(magnitude: float, last: int) -> int:
    """A magnitude in units of ``2**last``, to nearest even."""
    return round(magnitude / math.ldexp(1.0, last)) if last > -1075 else 0


def integer_bits(value: int | float | bool, dtype: DType) -> int:
    """The integer that holds ``value``: of a signed type with its sign, of a float its bits."""
    if dtype.is_float:
        return encode_float(value, dtype)
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
