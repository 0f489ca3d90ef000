"""Numbers to packed elements and back on the host.

A conversion of narrow types is a look-up: of the number a code stands for by the code, and of the code of a number by
its upper bits, the rest of which only counts as whether there is any (rounding to odd, which keeps the later rounding
right). Arrays are done in parts that stay in the caches.
"""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.interp import numbers
from tilus.interp.packing import PackedElements
from tilus.ir.codebooks import steps
from tilus.ir.dtypes import DType, f32, from_numpy
from tilus.lang.values import Tile
from tilus.lang.views import View
from tilus.runtime.arguments import is_torch
from tilus.runtime.array_interfaces import ONE_TO_A_BYTE
from tilus.runtime.arrays import ArrayArgument, contiguous, host_view
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.ranks import DROPPED, Ranks
from tilus.runtime.recognise import as_array

Array = npt.NDArray[Any]
PART = 1 << 16
"""Elements that are converted at a time: a multiple of 8, so that parts begin at bytes."""


def packed_numbers(array: Any, dtype: DType, axis: int) -> tuple[Any, DType, tuple[int, ...], list[int]]:
    """The memory, type, shape and strides of numbers once they are packed, as ``tl.pack`` says."""
    values, tensor = host_numbers(array)
    if not -max(1, values.ndim) <= axis < max(1, values.ndim):
        raise ValueError(f"axis {axis} is none of an array of rank {values.ndim}")
    moved = np.moveaxis(values, axis, -1) if values.ndim else values
    flat = moved.reshape(-1)
    memory = packed_memory(flat.size, dtype.packed_bits, lambda part: codes_of(flat[part], dtype))
    strides = list(contiguous(moved.shape))
    if values.ndim:
        strides.insert(axis % values.ndim, strides.pop())
    return in_tensor(memory) if tensor else memory, dtype, values.shape, strides


def packed_memory(count: int, bits: int, codes: Callable[[slice], Array]) -> Array:
    """The bytes of ``count`` packed elements, whose codes are asked for in parts."""
    memory = np.zeros(-(-count * bits // 8), np.uint8)
    for start in range(0, count, PART):
        put = pack_codes(codes(slice(start, start + PART)), bits)
        memory[start * bits // 8 : start * bits // 8 + len(put)] = put
    return memory


def in_tensor(array: Array) -> Any:
    """A tensor of torch over the memory of an array."""
    import torch

    return torch.from_numpy(array)


def unpacked_numbers(array: PackedArray, dtype: npt.DTypeLike) -> Array:
    """The numbers of a packed array, as ``tl.unpack`` says."""
    elements = array.argument.array if isinstance(array, PackedArray) else None
    if elements is None:
        raise TypeError("tl.unpack takes a packed array in host memory")
    target, source = np.dtype(dtype), array.dtype
    if not isinstance(elements, PackedElements):  # whole bytes that NumPy's arrays hold
        if source.bits == 8:
            return np.take(_numbers_by_codes(source, target), elements.view(np.uint8))
        return numbers.cast(elements.view(numbers.held_as(source)), source, from_numpy(target)).view(target)
    if not _is_dense(array):
        return numbers_of(elements.take(elements.positions), source, target)
    flat = np.empty(math.prod(array.shape), target)
    bits = source.packed_bits
    for start in range(0, flat.size, PART):
        count = min(PART, flat.size - start)
        part = elements.bytes[start * bits // 8 : -(-(start + count) * bits // 8)]
        flat[start : start + count] = _unpack_part(part, count, source, target)
    order = sorted(range(array.ndim), key=lambda d: (-array.strides[d], d))
    dense = flat.reshape([array.shape[d] for d in order])
    return dense.transpose([order.index(d) for d in range(array.ndim)])


def host_numbers(array: Any) -> tuple[Array, bool]:
    """A NumPy array of numbers of an element type, and whether it was a tensor of torch."""
    if isinstance(array, (Tile, View)):
        raise TypeError("numbers of arrays are converted before a kernel runs; within it, tiles are by `.to(dtype)`")
    if is_torch(array):
        argument = as_array(array.detach())
        assert argument is not None
        if argument.array is None or isinstance(argument.array, PackedElements):
            raise TypeError(f"tl.pack takes numbers on the host, not a tensor of {array.dtype} on {array.device}")
        values = host_view(argument.address, argument.dtype, argument.shape, argument.strides, array)
        return values, True
    values = np.asarray(array)
    name = values.dtype.name
    if name in ONE_TO_A_BYTE:  # ml_dtypes
        return values.astype(np.float32 if name.startswith("float") else np.int8), False
    from_numpy(values.dtype)
    return values, False


def codes_of(values: Array, dtype: DType) -> Array:
    """The codes of numbers, in the least unsigned type that has room."""
    source = from_numpy(values.dtype)
    narrow = dtype.bits <= 8 and not dtype.is_int and not dtype.is_bool
    if narrow and source is f32:
        return _codes_of_f32(np.ascontiguousarray(values), dtype)
    if narrow and source.packed_bits <= 16 and not source.is_bool:
        bits = np.ascontiguousarray(values).view(f"u{values.itemsize}")
        return np.take(_codes_by_bits(source, dtype), bits)
    if dtype.is_int and dtype.bits <= 8 and source is f32:
        return _integers_of_f32(values, dtype)
    held = values.view(numbers.held_as(source)) if not source.is_arithmetic and not source.is_bool else values
    codes = numbers.cast(held, source, dtype)
    return codes.view(f"u{codes.itemsize}")


@functools.lru_cache(64)
def _codes_by_bits(source: DType, dtype: DType) -> Array:
    """For each bit pattern of a type of 8 or 16 bits the code of its number."""
    every = np.arange(1 << source.bits, dtype=f"u{source.bits // 8}")
    held = every.view(source.numpy) if source.is_arithmetic else every
    codes = numbers.cast(held, source, dtype)
    return codes.view(f"u{codes.itemsize}")


def _integers_of_f32(values: Array, dtype: DType) -> Array:
    """Toward zero, saturating, NaN to 0."""
    inside = np.clip(values, dtype.min_value, dtype.max_value)
    np.copyto(inside, 0, where=np.isnan(values))
    codes = inside.astype(np.int16).astype(np.uint8)
    return codes if dtype.bits == 8 else codes & np.uint8((1 << dtype.bits) - 1)


def _codes_of_f32(values: Array, dtype: DType) -> Array:
    if dtype.is_codebook:
        if np.isnan(values).any():
            values = np.where(np.isnan(values), np.float32(0), values)
        return codes_in_codebook(values, dtype)
    bits = values.view(np.uint32)
    rest = bits & np.uint32((1 << DROPPED) - 1)
    return np.take(codes_by_upper_bits(dtype), (bits >> np.uint32(DROPPED)) | (rest != 0))


@functools.lru_cache(64)
def codes_by_upper_bits(dtype: DType, rounding: str = "rn", saturating: bool = False) -> Array:
    """The codes of f32 by their upper bits, the last of which stands for the others too. ``saturating``: finite numbers
    beyond the range become the greatest one of types with infinities too."""
    upper = (np.arange(1 << (32 - DROPPED), dtype=np.uint32) << np.uint32(DROPPED)).view(np.float32)
    codes = numbers.cast(upper, f32, dtype, rounding).view(np.uint8)
    if saturating and dtype.infinity_code is not None:
        magnitude = codes & np.uint8((1 << (dtype.exponent + dtype.mantissa)) - 1)
        codes = np.where(np.isfinite(upper) & (magnitude == dtype.infinity_code), codes - np.uint8(1), codes)
    return codes


def codes_in_codebook(values: Array, dtype: DType) -> Array:
    """The codes of the nearest values, for numbers of f32 that are no NaNs."""
    ranks, codes = _steps(dtype)
    return np.take(codes, ranks(values))


@functools.lru_cache(64)
def _steps(dtype: DType) -> tuple[Ranks, Array]:
    """The ranks of numbers among the thresholds of a codebook, and the code of each rank."""
    table = steps(dtype, True)
    return Ranks(np.array([t for t, _ in table[1:]], np.float32)), np.array([code for _, code in table], np.uint8)


def pack_codes(codes: Array, bits: int) -> Array:
    """Codes, the bits beyond theirs 0, side by side in bytes; the last byte is filled up with zeros."""
    if bits % 8 == 0 and bits == 8 * codes.itemsize:
        return np.ascontiguousarray(codes).view(np.uint8)
    if bits > 8:
        return _pack_wide(codes, bits)
    count = len(codes)
    each = 8 // math.gcd(8, bits)
    if count % each:
        codes = np.r_[codes, np.zeros(-count % each, np.uint8)]
    columns = codes.reshape(-1, each)
    wide: Any = np.uint64 if each == 8 and bits > 1 else np.uint32 if each * bits > 8 else np.uint8
    total = columns[:, 0].astype(wide)
    for n in range(1, each):
        total |= columns[:, n].astype(wide) << wide(n * bits)
    if each * bits == 8:
        return total
    return total.view(np.uint8).reshape(len(total), -1)[:, : each * bits // 8].reshape(-1)[: -(-count * bits // 8)]


def _pack_wide(codes: Array, bits: int) -> Array:
    """Codes of more than 8 bits, byte by byte of the least group of elements that ends with a byte."""
    each, size = _groups_of(bits)
    count = len(codes)
    columns = np.r_[codes, np.zeros(-count % each, codes.dtype)].reshape(-1, each)
    memory = np.zeros((len(columns), size), np.uint8)
    for element, byte, shift in _overlaps(bits):
        part = columns[:, element]
        memory[:, byte] |= (part >> shift if shift >= 0 else part << -shift).astype(np.uint8)
    return memory.reshape(-1)[: -(-count * bits // 8)]


def _unpack_wide(part: Array, count: int, bits: int) -> Array:
    """The codes of packed elements of more than 8 bits."""
    each, size = _groups_of(bits)
    groups = -(-count // each)
    memory = np.r_[part, np.zeros(groups * size - len(part), np.uint8)].reshape(groups, size)
    codes = np.zeros((groups, each), np.uint16 if bits <= 16 else np.uint32 if bits <= 32 else np.uint64)
    for element, byte, shift in _overlaps(bits):
        wide = memory[:, byte].astype(codes.dtype)
        codes[:, element] |= wide << shift if shift >= 0 else wide >> -shift
    return codes.reshape(-1)[:count] & codes.dtype.type((1 << bits) - 1)


def _groups_of(bits: int) -> tuple[int, int]:
    """How many elements end with a byte at the earliest, and how many bytes they take."""
    each = 8 // math.gcd(8, bits)
    return each, each * bits // 8


def _overlaps(bits: int) -> list[tuple[int, int, int]]:
    """For the elements of a group the bytes that they lie in, and which of their bits is the byte's lowest; less than 0
    where they begin within it."""
    each, _ = _groups_of(bits)
    return [(n, byte, 8 * byte - n * bits) for n in range(each)
            for byte in range(n * bits // 8, -(-(n + 1) * bits // 8))]


def _unpack_part(part: Array, count: int, source: DType, target: np.dtype[Any]) -> Array:
    bits = source.packed_bits
    if bits in (1, 2, 4):
        return np.take(_numbers_by_bytes(source, target), part, axis=0).reshape(-1)[:count]
    codes = unpack_codes(part, count, bits)
    return numbers_of(codes, source, target) if bits > 8 else np.take(_numbers_by_codes(source, target), codes)


def codes_in(array: ArrayArgument) -> Array:
    """The codes of an array in host memory, in the least unsigned type that has room, in its shape."""
    elements = array.array
    assert elements is not None
    if not isinstance(elements, PackedElements):
        return elements.view(f"u{elements.itemsize}")
    if not _is_dense(array):
        return elements.take(elements.positions)
    bits, count = array.dtype.packed_bits, math.prod(array.shape)
    parts = [unpack_codes(elements.bytes[start * bits // 8 : -(-min(start + PART, count) * bits // 8)],
                          min(PART, count - start), bits) for start in range(0, count, PART)]
    flat = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    order = sorted(range(len(array.shape)), key=lambda d: (-array.strides[d], d))
    return flat.reshape([array.shape[d] for d in order]).transpose([order.index(d) for d in range(len(order))])


def unpack_codes(part: Array, count: int, bits: int) -> Array:
    """The codes of packed elements, the first of which begins at a byte."""
    if bits == 8:
        return part[:count]
    if bits > 8:
        return _unpack_wide(part, count, bits)
    if 8 % bits == 0:
        fields = np.empty((len(part), 8 // bits), np.uint8)
        for n in range(8 // bits):
            fields[:, n] = part >> np.uint8(n * bits) & np.uint8((1 << bits) - 1)
        return fields.reshape(-1)[:count]
    each = 8 // math.gcd(8, bits)
    size = each * bits // 8
    groups = -(-count // each)
    words = np.zeros((groups, 8), np.uint8)
    full = len(part) // size
    words[:full, :size] = part[: full * size].reshape(full, size)
    if full < groups:
        words[full, : len(part) - full * size] = part[full * size :]
    wide = words.view(np.uint64).reshape(-1)
    codes = np.empty((groups, each), np.uint8)
    for n in range(each):
        codes[:, n] = (wide >> np.uint64(n * bits)) & np.uint64((1 << bits) - 1)
    return codes.reshape(-1)[:count]


@functools.lru_cache(64)
def _numbers_by_codes(source: DType, target: np.dtype[Any]) -> Array:
    return numbers_of(np.arange(1 << source.packed_bits, dtype=np.uint64), source, target)


@functools.lru_cache(64)
def _numbers_by_bytes(source: DType, target: np.dtype[Any]) -> Array:
    """For each byte the numbers of the elements in it."""
    bits = source.bits
    codes = np.arange(256)[:, None] >> (np.arange(8 // bits) * bits) & ((1 << bits) - 1)
    return np.take(_numbers_by_codes(source, target), codes)


def numbers_of(codes: Array, source: DType, target: np.dtype[Any]) -> Array:
    """The numbers that codes stand for."""
    if source.is_bool:
        held: Array = codes != 0
    else:
        held = codes.astype(f"u{numbers.held_as(source).itemsize}").view(numbers.held_as(source))
    goal = from_numpy(target)
    found = numbers.cast(held, source, goal)
    return found if goal.is_arithmetic or goal.is_bool else found.view(target)


def _is_dense(array: PackedArray | ArrayArgument) -> bool:
    """Whether the elements fill the memory, in whatever order of dimensions."""
    order = sorted(range(len(array.shape)), key=lambda d: (-array.strides[d], d))
    usual = contiguous([array.shape[d] for d in order])
    return all(array.strides[d] == u or array.shape[d] <= 1 for d, u in zip(order, usual, strict=True))


__all__ = ["codes_by_upper_bits", "codes_in", "codes_in_codebook", "codes_of", "host_numbers", "in_tensor",
           "numbers_of", "pack_codes", "packed_memory", "packed_numbers", "unpack_codes", "unpacked_numbers"]
