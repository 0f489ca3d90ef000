"""Types whose elements are moved and converted only, most of them packed across bytes, and what numbers they have."""

from __future__ import annotations

import functools
import math
import random
from fractions import Fraction

import numpy as np

from tilus.interp.numbers import cast, held_as
from tilus.ir.dtypes import DType, f64, parse_dtype

NARROW_INTEGERS = tuple(f"{sign}{bits}" for bits in range(1, 8) for sign in "iu")
ODD_INTEGERS = ("i9", "u11", "i12", "u12", "u17", "i24", "i31", "u33", "i47", "u50", "u57", "i59", "i63")
FLOATS_OF_3_TO_7_BITS = tuple(
    f"f{signed + exponent + mantissa}e{exponent}m{mantissa}{specials}{'' if signed else 'u'}"
    for signed in (True, False) for exponent in range(1, 7) for mantissa in range(6)
    for specials in ("", "fn", "ieee") if 3 <= signed + exponent + mantissa <= 7)
OTHER_FLOATS = ("f8e8m0fnu", "f8e2m5", "f9e4m4", "f12e5m6", "f11e5m5fin", "f8e5m2", "f8e4m3fn")
CODEBOOKS = ("nf4", "ternary", "pair:1(0.5,-3)", "steps:3(-4,-1.5,-0.25,0,1,2,8)", "points:2(1,-1,3,0.125)",
             "many:5(0,1,-1,2,-2,3,-3,0.5,-0.5,6,-6,12,-12,0.1,-0.1,7,100,-100,31,33,0.25)",
             "wide:6(" + ",".join(str((n * 37 % 61 - 30) / 4) for n in range(50)) + ")")
_KINDS = ((NARROW_INTEGERS, 4), (ODD_INTEGERS, 1.5), (FLOATS_OF_3_TO_7_BITS, 3), (OTHER_FLOATS, 0.7), (CODEBOOKS, 1.5),
          (("u4", "i4", "u2", "f4e2m1", "f6e3m2", "nf4"), 2))
STORED = tuple(name for names, _ in _KINDS for name in names)


def some_type(random: random.Random) -> str:
    """The types of interest more often than others."""
    kinds, weights = zip(*_KINDS, strict=True)
    return str(random.choice(random.choices(kinds, weights)[0]))


@functools.cache
def range_of(name: str) -> tuple[float, int | None]:
    """The greatest magnitude, infinite where infinities and NaNs may be among the elements, and the exponent of a power
    of two of which all numbers are multiples, None where they are those of none that is of use."""
    dtype = parse_dtype(name)
    if dtype.is_int:
        return float(max(-dtype.min_value, dtype.max_value)), 0
    numbers = np.asarray(dtype.values or _numbers(dtype), np.float64)
    if not np.isfinite(numbers).all():
        return math.inf, None
    denominator = max(Fraction(float(x)).denominator for x in numbers)
    return float(np.abs(numbers).max()), 1 - denominator.bit_length() if denominator <= 1 << 12 else None


def _numbers(dtype: DType) -> np.ndarray:  # type: ignore[type-arg]
    held = held_as(dtype)
    codes = np.arange(1 << dtype.bits, dtype=np.uint64).astype(f"u{held.itemsize}").view(held)
    return cast(codes, dtype, f64)
