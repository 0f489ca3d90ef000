"""Quantisation element by element, from the definitions: Python numbers, NumPy's for single operations of f32."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

import tilus as tl
from tests.lowering import exact_codes

f32 = np.float32


def integers(dtype: tl.DType) -> tuple[int, int]:
    return (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)


def numbers(dtype: tl.DType) -> np.ndarray:
    """What all codes stand for, in f64."""
    if dtype.is_int:
        every = np.arange(1 << dtype.bits)
        return np.where(every > integers(dtype)[1], every - (1 << dtype.bits), every).astype(np.float64)
    return exact_codes.numbers(dtype)


def greatest(dtype: tl.DType) -> float:
    found = numbers(dtype)
    return float(np.abs(found[np.abs(found) < 2.0**128]).max())  # of what f32 has


def reach(dtype: tl.DType, symmetric: bool = True) -> float:
    """What the greatest magnitude of a group becomes, or the width of its range."""
    if not dtype.is_int:
        return greatest(dtype)
    low, high = integers(dtype)
    if not symmetric:
        return high - low
    return (high - low) / 2 if dtype.kind == "uint" or dtype.bits == 1 else high


def fixed_zero(dtype: tl.DType) -> float:
    if not dtype.is_int or (dtype.kind == "int" and dtype.bits > 1):
        return 0
    return sum(integers(dtype)) / 2 if dtype.bits == 1 else 1 << dtype.bits - 1


def nearest(x: float, zero: float, dtype: tl.DType) -> int:
    """The code of a quotient."""
    if dtype.is_int:
        low, high = integers(dtype)
        whole = round(x) + int(zero) if zero == int(zero) else round(float(f32(x) + f32(zero)))
        return min(max(whole, low), high) % (1 << dtype.bits)
    if dtype.is_float and np.isfinite(x):
        x = min(max(x, -greatest(dtype)), greatest(dtype))
    return int(exact_codes.nearest(np.array([x]), dtype)[0])


def neighbours(x: float, dtype: tl.DType) -> tuple[Fraction, Fraction]:
    """The numbers of a type on both sides, or twice the one that x is, or that is nearest beyond the range."""
    known = sorted(Fraction(n) for n in set(numbers(dtype)[: len(dtype.values) or None]) if np.isfinite(n))
    exact = min(max(Fraction(x), known[0]), known[-1])
    return max(n for n in known if n <= exact), min(n for n in known if n >= exact)


def codes(array: tl.PackedArray) -> np.ndarray:
    """The codes of a packed array in row-major order, bit by bit."""
    bits = np.unpackbits(np.asarray(array.base).view(np.uint8), bitorder="little")
    count = int(np.prod(array.shape))
    first = np.arange(count) * array.dtype.bits
    return sum(bits[first + k].astype(np.int64) << k for k in range(array.dtype.bits)).reshape(array.shape)


def floats(array: Any) -> np.ndarray:
    """The numbers of scales or zero points."""
    return tl.unpack(array) if isinstance(array, tl.PackedArray) else np.asarray(array).astype(f32)


def spread(numbers: Any, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The numbers of groups for each element."""
    return np.repeat(numbers, shape[axis] // numbers.shape[axis], axis)
