"""Codes with scales to numbers, in host memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.ir.dtypes import from_numpy
from tilus.quantization.groups import Array, groups_of, parts_of
from tilus.quantization.quantized import Quantized
from tilus.quantization.storage import numbers_in
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.prepacked import PrepackedArray, unprepack


def dequantized(q: Quantized, dtype: npt.DTypeLike) -> Array:
    """What ``tl.dequantize`` says."""
    target = np.dtype(dtype)
    if not from_numpy(target).is_float:
        raise TypeError(f"codes with scales are floats, not numbers of {target}")
    if isinstance(q.values, PrepackedArray):
        q = replace(q, values=unprepack(q.values))
    if not isinstance(q.values, PackedArray):
        raise TypeError(f"codes are a packed array (tl.packed), not {type(q.values).__name__}")
    axis = _axis(q)
    scales = dequantized(q.scales, np.float32) if isinstance(q.scales, Quantized) else numbers_in(q.scales)
    zeros = _zeros(q.zeros)
    groups, scale_shape, _ = groups_of(q.shape, axis, _group(q, axis, scales.shape))
    for name, array in (("scales", scales), ("zeros", zeros)):
        if isinstance(array, np.ndarray) and array.shape != scale_shape:
            raise ValueError(f"{name} of shape {array.shape} for codes of shape {q.shape}, whose groups along axis "
                             f"{axis} take {scale_shape}")
    numbers = np.ascontiguousarray(numbers_in(q.values))
    flat = numbers.reshape(-1)
    for some, (scale, zero) in parts_of(groups, scales, zeros):
        for chunk in some.chunks():
            part = flat[chunk.elements].reshape(chunk.shape)
            if zero is not None:
                part -= chunk.of(zero)
            part *= chunk.of(scale)
    if q.offset:
        flat += np.float32(q.offset)
    return in_place(numbers, q.order, axis).astype(target, copy=False)


def in_place(numbers: Array, order: Any, axis: int | None) -> Array:
    """Numbers where they belong, of those in an ``order`` of their own along an axis."""
    if order is None:
        return numbers
    places = np.asarray(order)
    if axis is None or places.dtype.kind not in "iu" or places.shape != (numbers.shape[axis],) \
            or not np.array_equal(np.sort(places), np.arange(len(places))):
        raise ValueError("the order is none of the elements along the axis: it has each of their indices once")
    return np.take(numbers, np.argsort(places), axis)


def _zeros(zeros: Any) -> Array | float | None:
    """In f32: none, one number for all groups, or an array."""
    if zeros is None:
        return None
    return numbers_in(zeros) if isinstance(zeros, PackedArray) or np.ndim(zeros) else float(zeros)


def _axis(q: Quantized) -> int | None:
    if q.axis is None:
        return None
    rank = len(q.shape)
    if not -rank <= q.axis < rank:
        raise ValueError(f"axis {q.axis} is none of codes of rank {rank}")
    return q.axis % rank


def _group(q: Quantized, axis: int | None, scale_shape: tuple[int, ...]) -> int:
    """How many elements share a scale: as said, or as many as the number of scales says."""
    if q.group != -1:
        return q.group
    if axis is None:
        if scale_shape != (1,):
            raise ValueError(f"scales of shape {scale_shape} in row-major order: say how many elements a group has")
        return -1
    rank = len(q.shape)
    if len(scale_shape) != rank or not scale_shape[axis] or q.shape[axis] % scale_shape[axis]:
        raise ValueError(f"scales of shape {scale_shape} for codes of shape {q.shape}: the extents are the same, but "
                         f"along axis {axis}, where that of the scales divides that of the codes")
    return max(1, q.shape[axis] // scale_shape[axis])


__all__ = ["dequantized"]
