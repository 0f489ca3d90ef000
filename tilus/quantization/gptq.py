"""GPTQ: weights are rounded one row after another, and what rounding does to a layer's outputs is made up for by the
rows that are still to come (Frantar et al., arXiv 2210.17323)."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.ir.dtypes import DType, f32, f64
from tilus.quantization.dequantize import dequantized
from tilus.quantization.formats import QuantFormat
from tilus.quantization.groups import Array, groups_of
from tilus.quantization.hessian import Moments, checked, factor_of, moments_of, spans
from tilus.quantization.host import Scaling, scaling_of, source_of
from tilus.quantization.quantized import Quantized
from tilus.quantization.rounding import as_codes, scale_codes
from tilus.quantization.row_by_row import rows_quantised
from tilus.quantization.storage import as_array, as_packed
from tilus.records import record
from tilus.runtime.packing import host_numbers, in_tensor

PANEL = 512
"""Rows that are brought up to date at once: enough for a product to be quick."""


@record(frozen=True)
class Scales:
    """Scales and zero points of all groups of rows: what numbers are divided by and shifted by, f32 (G, N), and the
    arrays that they are kept in, once they are known."""

    divisors: Array
    shifts: Array
    kept: Any = None
    zeros: Any = None


def compensated(w: Any, samples: Any, moments: Any, format: QuantFormat, *, axis: int, damp: float, act_order: bool,
                static_groups: bool, block: int, precision: DType) -> Quantized:
    """What ``tl.gptq`` says."""
    values, tensor = source_of(w)
    if values.ndim != 2 or axis not in (0, 1, -1, -2):
        raise ValueError(f"GPTQ is for the two-dimensional weights of a product and axis 0 or 1, not for shape "
                         f"{values.shape} and axis {axis}")
    if block < 1:
        raise ValueError(f"a block has 1 row or more, not {block}")
    if precision not in (f32, f64):
        raise ValueError(f"rows are made up for in f64 or f32, not in {precision}")
    axis %= 2
    rows = np.array(values if axis == 0 else values.T, precision.numpy, order="C")
    _, _, group = groups_of(rows.shape, 0, format.group)
    known = _moments(samples, moments, len(rows))
    rows[known.dead] = 0
    static = static_groups or isinstance(format.scale_dtype, QuantFormat)
    fixed = _fixed(rows if axis == 0 else rows.T, format, group, axis, tensor) if static else None
    order = np.arange(len(rows), dtype=np.int32)
    matrix = known.matrix
    if act_order:
        order = np.argsort(-np.diagonal(matrix), kind="stable").astype(np.int32)
        rows, matrix = rows[order], matrix[np.ix_(order, order)]
    walk = Walk(rows, factor_of(matrix, damp).astype(precision.numpy, copy=False), format, group, block)
    scales = walk.over_all(order, fixed)
    own_order = act_order and not static
    return _gathered(walk, scales, format, group, axis, tensor, order if own_order else None)


def _moments(samples: Any, moments: Any, k: int) -> Moments:
    if (samples is None) == (moments is None):
        raise ValueError("GPTQ takes the samples of a layer's inputs, or their second moments: one of both")
    if moments is None:
        return moments_of(samples, k)
    given = host_numbers(moments)[0]
    if given.shape != (k, k):
        raise ValueError(f"second moments of shape {given.shape} for weights of {k} rows: ({k}, {k})")
    return checked(given.astype(np.float64))


def _fixed(w: Array, format: QuantFormat, group: int, axis: int, tensor: bool) -> Scales:
    """The scales of all groups before any weight is changed, as they are kept and for the walk along the rows."""
    groups, shape, _ = groups_of(w.shape, axis, group)
    found = scaling_of(np.ascontiguousarray(w, np.float32), groups, shape, format, tensor)
    divisors, shifts = _numbers(found, shape)
    if isinstance(found.scales, Quantized):
        rounded = dequantized(found.scales, np.float32).reshape(shape)
        divisors = np.where(rounded == 0, np.float32(np.inf), rounded)
    walked = [x if axis == 0 else np.ascontiguousarray(x.T) for x in (divisors, shifts)]
    return Scales(walked[0], walked[1], found.scales, found.zeros)


def _numbers(found: Scaling, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Divisors and shifts for each group."""
    shifts = np.zeros(shape, np.float32) if found.shifts is None else np.asarray(found.shifts, np.float32)
    return found.divisors, np.ascontiguousarray(np.broadcast_to(shifts, shape))


class Walk:
    """The rows of weights in the order in which they are quantised.

    Attributes:
        w: f64 or f32 (K, N); what errors take from rows is taken off before their turn comes.
        errors: (K, N): (w - its number) / U_ii.
        codes: (K, N).
        sizes: rows are brought up to date by one product for so many, and again, for the errors since, in parts of the
            next size; the last is the kernel's. One of them is the group.
    """

    def __init__(self, w: Array, factor: Array, format: QuantFormat, group: int, block: int) -> None:
        self.w, self.factor, self.format, self.group = w, factor, format, group
        self.sizes = sorted({group, max(1, PANEL // group) * group if group < PANEL else PANEL, min(block, group)},
                            reverse=True)
        self.errors = np.empty_like(w)
        self.codes = np.empty(w.shape, np.uint8 if format.dtype.bits <= 8 else np.uint16)

    def over_all(self, order: Array, fixed: Scales | None) -> Scales:
        """Quantise all rows; ``order`` is of which row of the original weights each is."""
        K, N = self.w.shape
        scales = fixed
        if scales is None:
            scales = Scales(*(np.ones((K // self.group, N), np.float32) for _ in range(2)))
        # With fixed scales a row keeps its group and its place, wherever its turn is.
        place = order if fixed is not None else np.arange(K, dtype=np.int32)
        self._over(0, K, 0, place, scales, fixed is None)
        return scales

    def _over(self, begin: int, end: int, level: int, place: Array, scales: Scales, finding: bool) -> None:
        """Quantise rows that are up to date but for each other's errors."""
        size = self.sizes[level]
        for first, last in spans(end - begin, size):
            first, last = begin + first, begin + last
            if first > begin:
                own, before = slice(first, last), slice(begin, first)
                self.w[own] -= self.factor[before, own].T @ self.errors[before]
            if finding and size == self.group:
                self._find_scales(first, scales)
            if level + 1 < len(self.sizes):
                self._over(first, last, level + 1, place, scales, finding)
            else:
                self._quantise(first, last, place, scales)

    def _find_scales(self, first: int, scales: Scales) -> None:
        part = np.ascontiguousarray(self.w[first : first + self.group], np.float32)
        groups, shape, _ = groups_of(part.shape, 0, -1)
        divisors, shifts = _numbers(scaling_of(part, groups, shape, self.format, False), shape)
        scales.divisors[first // self.group] = divisors[0]
        scales.shifts[first // self.group] = shifts[0]

    def _quantise(self, first: int, last: int, place: Array, scales: Scales) -> None:
        format, dtype = self.format, self.format.dtype
        low, high = format.limits if dtype.is_int else (0, 0)
        own = np.ascontiguousarray(self.factor[first:last, first:last].T)
        rows_quantised()(self.w, own, self.errors, scales.divisors, scales.shifts, place // self.group, place,
                         self.codes, first, last, dtype=dtype, low=low, high=high, whole=format.has_whole_zeros)


def _gathered(walk: Walk, scales: Scales, format: QuantFormat, group: int, axis: int, tensor: bool,
              order: Array | None) -> Quantized:
    """Codes and scales as arrays, in the weights' own orientation."""
    def turned(array: Array) -> Array:
        return array if axis == 0 else np.ascontiguousarray(array.T)

    codes = turned(walk.codes) & walk.codes.dtype.type((1 << format.dtype.bits) - 1)
    values = as_packed(codes, format.dtype, codes.shape, tensor)
    kept, zeros = scales.kept, scales.zeros
    if kept is None:
        assert isinstance(format.scale_dtype, DType)
        found = turned(np.where(np.isinf(scales.divisors), np.float32(0), scales.divisors))
        kept = as_array(scale_codes(found, format.scale_dtype), format.scale_dtype, found.shape, tensor)
        zeros = format.fixed_zero if format.symmetric else _kept_zeros(turned(scales.shifts), format, tensor)
    if order is not None and tensor:
        order = in_tensor(order)
    return Quantized(values, kept, zeros, group, axis, 0.0, order)


def _kept_zeros(zeros: Array, format: QuantFormat, tensor: bool) -> Any:
    if format.has_whole_zeros:
        return as_packed(as_codes(zeros, format.dtype), format.dtype, zeros.shape, tensor)
    assert format.zero_dtype is not None
    narrow = zeros.astype(format.zero_dtype.numpy)
    return as_array(narrow.view(f"u{narrow.itemsize}"), format.zero_dtype, zeros.shape, tensor)


__all__ = ["compensated"]
