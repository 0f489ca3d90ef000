"""Rounding to a codebook: which code each number gets, as a table of steps."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import struct
from fractions import Fraction

from tilus.ir.dtypes import DType, codebook

Step = tuple[float, int]
"""A threshold and the code of the numbers from it on, up to the next one."""


@functools.cache
def steps(dtype: DType, single: bool = False) -> tuple[Step, ...]:
    """In increasing order; the first threshold is -inf. ``single``: the numbers are those of f32, and so are the
    thresholds; else f64."""
    first: dict[float, int] = {}
    for code, value in enumerate(dtype.values):
        first.setdefault(value, code)
    numbers = sorted(first)
    found = [(-math.inf, first[numbers[0]])]
    for low, high in itertools.pairwise(numbers):
        middle = (Fraction(low) + Fraction(high)) / 2
        threshold = _least_from(middle, first[high] < first[low], single)
        found.append((threshold, first[high]))
    return tuple(found)


def _least_from(middle: Fraction, inclusive: bool, single: bool) -> float:
    """The least number of f32 or f64 above ``middle``, or ``middle`` itself if it is one and counts."""
    number = _nearest(middle, single)
    while Fraction(number) > middle:
        number = _next(number, -1, single)
    while Fraction(number) < middle or (Fraction(number) == middle and not inclusive):
        number = _next(number, 1, single)
    return number


def _nearest(number: Fraction, single: bool) -> float:
    return float(struct.unpack("<f", struct.pack("<f", float(number)))[0]) if single else float(number)


def _next(number: float, direction: int, single: bool) -> float:
    """The neighbour of a finite number, up or down."""
    if not single:
        return math.nextafter(number, direction * math.inf)
    bits = int(struct.unpack("<i", struct.pack("<f", number))[0])
    order = bits if bits >= 0 else -(bits & 0x7FFFFFFF)
    order += direction
    return float(struct.unpack("<f", struct.pack("<I", order if order >= 0 else -order | 1 << 31))[0])


def nearest_code(value: float, dtype: DType) -> int:
    """The code of a number; of a NaN that of the value nearest to 0."""
    table = steps(dtype)
    number = 0.0 if math.isnan(value) else value
    return table[bisect.bisect_right([threshold for threshold, _ in table], number) - 1][1]


def flipped(dtype: DType, flip: int) -> DType:
    """The codebook in which each code with the bits ``flip`` flipped stands for what it stood for in ``dtype``."""
    if not flip:
        return dtype
    values = (*dtype.values, *(0.0 for _ in range((1 << dtype.bits) - len(dtype.values))))
    return codebook(f"{dtype}_flipped_{flip}", [values[code ^ flip] for code in range(len(values))], dtype.bits)


def zero_code(dtype: DType) -> int:
    """The code that an element which is not there has: 0, of a codebook that of the number nearest to 0."""
    return nearest_code(0.0, dtype) if dtype.is_codebook else 0


def reads_as_zero(dtype: DType) -> bool:
    """Whether an element that is not there is the number 0, rather than the one of its type that is nearest to it."""
    return dtype.values[zero_code(dtype)] == 0 if dtype.is_codebook else not dtype.is_float or dtype.has_zero


__all__ = ["Step", "flipped", "nearest_code", "reads_as_zero", "steps", "zero_code"]
