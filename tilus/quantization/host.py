"""Quantisation of arrays in host memory: groups, their scales and zero points, then codes, part by part."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.ir.dtypes import DType
from tilus.quantization.dequantize import dequantized
from tilus.quantization.formats import QuantFormat
from tilus.quantization.groups import PART, Array, Groups, groups_of, numbers_of, parts_of
from tilus.quantization.quantized import Quantized
from tilus.quantization.rounding import as_codes, codes_for, scale_codes
from tilus.quantization.scales import Ranges, ranges_of, scales_of, zeros_of
from tilus.quantization.storage import as_array, as_packed, numbers_in
from tilus.records import record
from tilus.runtime.packing import host_numbers

SOURCES = ("float16", "bfloat16", "float32", "float64")
Random = Callable[[int, int], Array]
"""Of a number of elements from one on the numbers in [0, 1)."""


@record(frozen=True)
class Scaling:
    """What numbers are divided by and then shifted by, in f32 for each group, and the same as it is kept."""

    divisors: Array
    shifts: Any
    scales: Any
    zeros: Any


def quantized(w: Any, format: QuantFormat, axis: int | None, rounding: str, seed: int) -> Quantized:
    """What ``tl.quantize`` says."""
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"rounding is 'nearest' or 'stochastic', not {rounding!r}")
    values, tensor = source_of(w)
    if axis is not None:
        if not -values.ndim <= axis < values.ndim:
            raise ValueError(f"axis {axis} is none of an array of rank {values.ndim}")
        axis %= values.ndim
    return _quantized(np.ascontiguousarray(values), format, axis, tensor, _random(rounding, seed))


def source_of(w: Any) -> tuple[Array, bool]:
    """An array of floats to quantise, and whether it was a tensor of torch. Raises TypeError, ValueError."""
    values, tensor = host_numbers(w)
    if values.dtype.name not in SOURCES:
        raise TypeError(f"numbers of f16, bf16, f32 or f64 are quantised, not of {values.dtype}")
    if not values.size or not values.ndim:
        raise ValueError(f"an array of shape {values.shape} has nothing to quantise")
    return values, tensor


def _random(rounding: str, seed: int) -> Random | None:
    if rounding == "nearest":
        return None
    number = operator.index(seed)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"the seed is an integer from 0 to 2^64 - 1, not {seed}")
    from tilus.quantization.random_numbers import Uniform  # and with it the CPU engine

    return Uniform(number, PART)


def _quantized(w: Array, format: QuantFormat, axis: int | None, tensor: bool, random: Random | None) -> Quantized:
    groups, scale_shape, group = groups_of(w.shape, axis, format.group)
    offset = 0.0
    if format.centred:
        offset = float(np.float32(w.mean(dtype=np.float64)))
        w = w.astype(np.float32) - np.float32(offset)
    scaling = scaling_of(w, groups, scale_shape, format, tensor)
    codes = np.empty(w.size, np.uint8 if format.dtype.bits <= 8 else np.uint16)
    flat = w.reshape(-1)
    for some, (divisors, shifts) in parts_of(groups, scaling.divisors, scaling.shifts):
        for chunk in some.chunks():
            with np.errstate(over="ignore", invalid="ignore"):  # infinities, and the mean as a scale
                x = numbers_of(flat, chunk) / chunk.of(divisors)
            shift = None if shifts is None else chunk.of(shifts)
            uniform = None if random is None else random(chunk.start, x.size).reshape(x.shape)
            codes[chunk.elements] = codes_for(x, shift, format, uniform).reshape(-1)
    values = as_packed(codes, format.dtype, w.shape, tensor)
    return Quantized(values, scaling.scales, scaling.zeros, group, axis, offset)


def scaling_of(w: Array, groups: list[Groups], scale_shape: tuple[int, ...], format: QuantFormat,
               tensor: bool) -> Scaling:
    """The scales and zero points of the groups of an array."""
    ranges = ranges_of(w, groups, format)
    return _scaling(scales_of(w, groups, ranges, format).reshape(scale_shape), ranges, format, tensor)


def _scaling(scales: Array, ranges: Ranges, format: QuantFormat, tensor: bool) -> Scaling:
    """Round scales and zero points to their types. Numbers are divided by the rounded scales, unless these are kept as
    differences from a mean, which may have another sign."""
    kept: Any
    if isinstance(format.scale_dtype, DType):
        kept = as_array(scale_codes(scales, format.scale_dtype), format.scale_dtype, scales.shape, tensor)
        rounded = numbers_in(kept)
    else:
        kept = _quantized(scales, format.scale_dtype, None, tensor, None)
        rounded = scales if format.scale_dtype.centred else dequantized(kept, np.float32)
    divisors = np.where(rounded == 0, np.float32(np.inf), rounded)
    if format.symmetric:
        return Scaling(divisors, format.fixed_zero, kept, format.fixed_zero)
    zeros = zeros_of(ranges, divisors, format)
    dtype = format.zero_dtype
    if format.has_whole_zeros:
        codes = as_codes(zeros, format.dtype)
        return Scaling(divisors, zeros, kept, as_packed(codes, format.dtype, zeros.shape, tensor))
    assert dtype is not None
    zeros_kept = as_array(zeros.astype(dtype.numpy).view(f"u{dtype.itemsize}"), dtype, zeros.shape, tensor)
    return Scaling(divisors, numbers_in(zeros_kept), kept, zeros_kept)


__all__ = ["SOURCES", "Scaling", "quantized", "scaling_of", "source_of"]
