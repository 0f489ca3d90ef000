"""Narrow types by exact rational arithmetic: what each code stands for, and which code each number gets."""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

import tilus as tl

FLOATS = [
    tl.float(exponent=e, mantissa=width - signed - e, specials=specials, signed=signed)
    for signed in (True, False) for width in range(3, 9) for e in range(1, width - signed + 1)
    for specials in ("ieee", "fn", "finite")
]
"""Every float of 3 to 8 bits."""
CODEBOOKS = [
    tl.nf4, tl.ternary, tl.codebook("unsorted", [0.5, -3, 0, 7, 0.5, 1e-3]), tl.codebook("one", [2.5], bits=1),
    tl.codebook("wide", [(n * 37 % 256 - 100) / 7 for n in range(256)]),
    tl.codebook("odd", [1.1, 3.3e38, -3.3e38, 1e-45, -0.1], bits=3),
]


def value(code: int, dtype: tl.DType) -> Fraction | str:
    """The number, or ``"nan"``, ``"inf"``, ``"-inf"``; ``"-0"`` for the zero with a sign."""
    if dtype.kind == "codebook":
        return Fraction(dtype.values[code]) if code < len(dtype.values) else Fraction(0)
    e, m = dtype.exponent, dtype.mantissa
    negative = dtype.signed and code >> (e + m)
    exponent, fraction = code >> m & ((1 << e) - 1), code & ((1 << m) - 1)
    top = (1 << e) - 1
    if exponent == top and dtype.specials == "ieee":
        return "nan" if fraction else "-inf" if negative else "inf"
    if exponent == top and fraction == (1 << m) - 1 and dtype.specials == "fn":
        return "nan"
    bias = 2 ** (e - 1) - 1
    if exponent == 0 and (dtype.signed or m):
        number = Fraction(fraction, 1 << m) * Fraction(2) ** (1 - bias)
    else:
        number = (1 + Fraction(fraction, 1 << m)) * Fraction(2) ** (exponent - bias)
    if negative:
        return -number if number else "-0"
    return number


@functools.cache
def numbers(dtype: tl.DType) -> np.ndarray:
    """What all codes stand for, in f64."""
    return np.array([float(value(code, dtype)) for code in range(1 << dtype.bits)])


@functools.cache
def _steps(dtype: tl.DType) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For magnitudes (of codebooks: numbers) in increasing order: the values, their codes, the midpoints between
    neighbours in f64, and whether a number equal to that goes up."""
    if dtype.kind == "codebook":
        first: dict[Fraction, int] = {}
        for code, number in enumerate(dtype.values):
            first.setdefault(Fraction(number), code)
        values = sorted(first)
        codes = [first[v] for v in values]
        up = [b < a for a, b in itertools.pairwise(codes)]
    else:
        positive = range(1 << (dtype.exponent + dtype.mantissa))
        codes = [c for c in positive if not isinstance(value(c, dtype), str)]
        values = [value(c, dtype) for c in codes]
        if dtype.specials == "ieee":  # as if there were one exponent more, from which on it is infinity
            last = Fraction(2) ** (2 ** dtype.exponent - 1 - (2 ** (dtype.exponent - 1) - 1))
            values, codes = [*values, last], [*codes, codes[-1] + 1]
        if dtype.mantissa:
            up = [code % 2 == 1 for code in codes[:-1]]
        else:  # all significands are 1, which is odd, but that of zero
            up = [number != 0 for number in values[:-1]]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    rounded = [float(m) for m in middles]
    up = [Fraction(r) > m or (Fraction(r) == m and u) for r, m, u in zip(rounded, middles, up, strict=True)]
    return np.array([float(v) for v in values]), np.array(codes), np.array(rounded), np.array(up, bool)


def nearest(x: np.ndarray, dtype: tl.DType) -> np.ndarray:
    """The codes of f64 numbers."""
    _, codes, middles, up = _steps(dtype)
    nan = np.isnan(x)
    if dtype.kind == "codebook":
        return codes[_place(np.where(nan, 0, x), middles, up)]
    sign = np.signbit(x)
    found = codes[_place(np.where(nan, 0, np.abs(x)), middles, up)]
    width = dtype.exponent + dtype.mantissa
    special = [c for c in range(1 << width) if value(c, dtype) == "nan"]
    found = np.where(nan, special[-1] if special else 0, found)
    if not dtype.signed:
        return np.where(sign & ~nan, 0, found)
    return found | np.where(sign & ~(nan & (not special)), 1 << width, 0)


def _place(x: np.ndarray, middles: np.ndarray, up: np.ndarray) -> np.ndarray:
    place = np.searchsorted(middles, x, side="left")
    tie = (place < len(middles)) & (middles[np.minimum(place, len(middles) - 1)] == x) if len(middles) else False
    return place + (tie & up[np.minimum(place, len(middles) - 1)] if len(middles) else 0)


def same_codes(have: np.ndarray, want: np.ndarray, dtype: tl.DType) -> None:
    """Equal but for which NaN it is."""
    if dtype.kind == "codebook":
        np.testing.assert_array_equal(have, want)
        return
    nan = np.isnan(numbers(dtype))
    np.testing.assert_array_equal(nan[have], nan[want])
    np.testing.assert_array_equal(np.where(nan[want], 0, have), np.where(nan[want], 0, want))


def inputs(dtype: tl.DType, count: int = 0) -> np.ndarray:
    """f32: all midpoints and values of a type with their neighbours, special numbers, and ``count`` random ones."""
    values, _, middles, _ = _steps(dtype)
    with np.errstate(all="ignore"):
        near = np.r_[values, middles, values * 2].astype(np.float32)
        near = np.r_[near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
        special = [0, 1, 1e-45, 2.0**-127, 3 * 2.0**-128, 2.0**-126, 1.1754942e-38, 3.4e38, np.inf, np.nan, 1.5, 3]
        rng = np.random.default_rng(dtype.bits)
        wide = rng.integers(0, 1 << 32, count // 2, dtype=np.uint32).view(np.float32)
        scale = 2.0 ** rng.integers(-12, 12, count - count // 2)
        x = np.r_[near, np.array(special, np.float32), wide, rng.standard_normal(count - count // 2) * scale]
        x = x.astype(np.float32)
    return np.r_[x, -x]


def every(dtype: Any) -> np.ndarray:
    """Every f16 or bf16."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype)


SOURCES = {tl.f16: np.float16, tl.bf16: ml_dtypes.bfloat16, tl.f32: np.float32}
