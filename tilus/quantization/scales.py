"""The scales and zero points of groups from what numbers they hold."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import numpy as np

from tilus.ir.dtypes import DType
from tilus.quantization.formats import QuantFormat, reach
from tilus.quantization.groups import Array, Groups, extremes, magnitudes, means
from tilus.records import record

LEAST_MEAN = np.float32(1e-5)


@record(frozen=True)
class Ranges:
    """For each group the least and the greatest number, 0 counted in, and the difference between them; of symmetric
    formats the greatest magnitude only, in ``span``."""

    span: Array
    low: Array | None = None


def ranges_of(w: Array, groups: list[Groups], format: QuantFormat) -> Ranges:
    """The ranges of the groups of an array.

    Raises:
        ValueError: the array holds a number that the type of the codes has not.
    """
    flat, dtype = w.reshape(-1), format.dtype
    low: Array | None = None
    if format.symmetric and (dtype.signed or not dtype.is_float):
        span = magnitudes(flat, groups)
    else:
        low, high = extremes(flat, groups)
        with np.errstate(all="ignore"):
            span = high - low
        if not low.min() >= 0 and dtype.is_float:
            _refuse_first(w, w < 0, f"{dtype} has no sign")
    if not np.isfinite(span).all():
        _check_specials(w, dtype)
        if not (dtype.is_float and dtype.nan_code is not None):
            raise ValueError("the numbers of a group are further apart than f32 reaches")
        span = magnitudes(flat, groups, finite=True)
    return Ranges(span, None if format.symmetric else low)


def _check_specials(w: Array, dtype: DType) -> None:
    """Refuse NaNs and infinities that a type has not."""
    with np.errstate(over="ignore"):
        numbers = w.astype(np.float32, copy=False)
    if not (dtype.is_float and dtype.nan_code is not None):
        _refuse_first(w, np.isnan(numbers), f"{dtype} has no NaN")
    infinite = np.isinf(numbers)
    _refuse_first(w, infinite & np.isfinite(w), "numbers are quantised in f32, which does not reach as far")
    if not (dtype.is_float and dtype.infinity_code is not None):
        _refuse_first(w, infinite, f"{dtype} has no infinity")


def _refuse_first(w: Array, wrong: Array, why: str) -> None:
    """Name the first of the numbers that are wrong, if any is."""
    if not wrong.any():
        return
    place = np.unravel_index(int(np.argmax(wrong)), w.shape)
    raise ValueError(f"w[{', '.join(str(int(i)) for i in place)}] is {float(w[place]):g}: {why} "
                     f"({int(np.count_nonzero(wrong))} such of {w.size} numbers)")


def scales_of(w: Array, groups: list[Groups], ranges: Ranges, format: QuantFormat) -> Array:
    """The scales of groups in f32, before they are rounded to their type.

    Those of a type of nothing but powers of two are 2^(floor(log2 amax) - floor(log2 reach)), as in OCP Microscaling
    Formats 1.0, section 6.3: the greatest numbers may lie beyond the range, and become the greatest of the type.
    """
    greatest = reach(format.dtype, format.symmetric)
    if format.scale == "mean":
        unit = min(greatest, 1.0)
        return np.maximum(means(w.reshape(-1), groups), LEAST_MEAN) / np.float32(unit)
    dtype = format.scale_dtype
    if isinstance(dtype, DType) and dtype.mantissa == 0:
        # Of a number below 2^-126 the exponent field says nothing; its scale is as small as there are.
        power = (ranges.span.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
        found = np.ldexp(power, 1 - math.frexp(greatest)[1])
    else:
        found = ranges.span / np.float32(greatest)
    return np.where((found == 0) & (ranges.span > 0), np.float32(2.0**-149), found)


def zeros_of(ranges: Ranges, divisors: Array, format: QuantFormat) -> Array:
    """The zero points of groups in f32: integers, unless they have a float type."""
    assert ranges.low is not None
    low, high = format.limits
    zeros = np.float32(low) - ranges.low.reshape(divisors.shape) / divisors
    return np.clip(np.rint(zeros), low, high) if format.has_whole_zeros else zeros


__all__ = ["Ranges", "ranges_of", "scales_of", "zeros_of"]
