"""Quotients to codes: to the nearest number of the type, or to one of its two neighbours by chance.

Every function takes quotients in f32 and, for chance, numbers in [0, 1) of the same shape: the upper neighbour is
taken where the number is less than ``(x - lower) / (upper - lower)``, which is exact for integers and floats.
"""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.ir.dtypes import DType
from tilus.quantization.formats import QuantFormat, greatest_number
from tilus.runtime.packing import codes_by_upper_bits, codes_in_codebook, codes_of, numbers_of
from tilus.runtime.ranks import DROPPED, Ranks

Array = npt.NDArray[Any]


def codes_for(x: Array, zero: Any, format: QuantFormat, uniform: Array | None) -> Array:
    """The codes of quotients, with zero points for integers that have some."""
    if format.dtype.is_int:
        return _integer_codes(x, zero, format, uniform)
    return (_codebook_codes if format.dtype.is_codebook else _float_codes)(x, format.dtype, uniform)


def _integer_codes(x: Array, zero: Any, format: QuantFormat, uniform: Array | None) -> Array:
    """``clamp(round(x) + zero)`` where zero points are whole, else ``clamp(round(x + zero))``."""
    whole = format.has_whole_zeros
    if zero is not None and not whole:
        x = x + zero
    if uniform is None:
        found = np.rint(x)
    else:
        found = np.floor(x)
        found += uniform < x - found
    if zero is not None and whole:
        found += zero
    np.clip(found, *format.limits, out=found)
    return as_codes(found, format.dtype)


def as_codes(whole: Array, dtype: DType) -> Array:
    """The codes of integers in f32 that a type has."""
    if dtype.bits > 8:
        return whole.astype(np.int32).astype(np.uint16) & np.uint16((1 << dtype.bits) - 1)
    codes = whole.astype(np.int16).astype(np.uint8)
    return codes if dtype.bits == 8 else codes & np.uint8((1 << dtype.bits) - 1)


def _float_codes(x: Array, dtype: DType, uniform: Array | None) -> Array:
    """Numbers beyond the greatest become the greatest; infinities and NaNs stay, for types that have them."""
    bits = x.view(np.uint32)
    upper = bits >> np.uint32(DROPPED)
    if uniform is None:
        upper |= (bits & np.uint32((1 << DROPPED) - 1)) != 0
        return np.take(codes_by_upper_bits(dtype, "rn", True), upper)
    # Numbers of types of 8 bits end before the bits that are dropped, so that the truncated code is theirs.
    codes = np.take(codes_by_upper_bits(dtype, "rz", True), upper)
    lower, width = _neighbours(dtype)
    with np.errstate(invalid="ignore"):  # infinities
        away = uniform < (x - np.take(lower, codes)) / np.take(width, codes)
    return codes + away


@functools.lru_cache(64)
def _neighbours(dtype: DType) -> tuple[Array, Array]:
    """For each code of a float type its number, and how far it is from there to the next one away from zero; infinitely
    far from the greatest number on."""
    every = numbers_of(np.arange(1 << dtype.bits), dtype, np.dtype(np.float32))
    width = np.full(len(every), np.inf, np.float32)
    for negative in range(1 + dtype.signed):
        first = negative << (dtype.bits - 1)
        width[first : first + dtype.greatest_code] = np.diff(every[first : first + dtype.greatest_code + 1])
    return every, width


def _codebook_codes(x: Array, dtype: DType, uniform: Array | None) -> Array:
    """Of two values as near that of the lower index."""
    if uniform is None:
        return codes_in_codebook(x, dtype)
    ranks, codes, values, width = _places(dtype)
    place = ranks(x)
    up = uniform < (x - np.take(values, place)) / np.take(width, place)
    return np.take(codes, place + up)


@functools.lru_cache(64)
def _places(dtype: DType) -> tuple[Ranks, Array, Array, Array]:
    """The values of a codebook in increasing order: how many but the least are not above a number, their codes, the
    values, and how far it is to the next one."""
    first: dict[float, int] = {}
    for code, value in enumerate(dtype.values):
        first.setdefault(value, code)
    values = np.array(sorted(first), np.float32)
    width = np.append(np.diff(values), np.float32(np.inf))
    return Ranks(values[1:]), np.array([first[v] for v in sorted(first)], np.uint8), values, width


def scale_codes(x: Array, dtype: DType) -> Array:
    """Positive numbers as codes of a float type for scales, to nearest; but what is more than 0 does not become 0.

    Raises:
        ValueError: a number is beyond the type.
    """
    greatest = greatest_number(dtype)
    if x.size and x.max() > greatest:
        raise ValueError(f"a scale would be {x.max():.6g}, but those of {dtype} end at {greatest:.6g}: ask for another "
                         f"scale_dtype (tl.f32 has room)")
    if dtype.is_arithmetic:
        codes = x.astype(dtype.numpy).view(f"u{dtype.bits // 8}")
    else:
        codes = codes_of(x, dtype)
    return np.where((codes == 0) & (x > 0) & dtype.has_zero, codes.dtype.type(1), codes)


__all__ = ["as_codes", "codes_for", "scale_codes"]
