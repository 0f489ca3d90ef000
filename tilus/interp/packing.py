"""Elements side by side in memory, bits little-endian and without padding: element i is bits [i b, (i + 1) b)."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilus.interp.numbers import Array, held_as
from tilus.ir.dtypes import DType


class PackedElements:
    """An array of packed elements over bytes, as the interpreter's memory has it: indices give codes.

    Attributes:
        bytes: the memory, a NumPy array of u8 of rank 1.
        shape, strides: extents, and strides in elements.
        dtype: the NumPy type that holds a code.
    """

    itemsize = 1
    """So that a stride over it is one in elements."""

    def __init__(self, bytes: Array, element: DType, shape: Sequence[int], strides: Sequence[int]) -> None:
        self.bytes = bytes
        self.element = element
        self.shape, self.strides = tuple(shape), tuple(strides)
        self.dtype = held_as(element)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @functools.cached_property
    def positions(self) -> Array:
        """The number of each element, counted from the first byte."""
        total = np.zeros(self.shape, np.int64)
        for axis, (extent, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            total += (np.arange(extent) * stride).reshape(-1, *(1,) * (self.ndim - axis - 1))
        return total

    def reshaped(self, shape: tuple[int, ...]) -> PackedElements:
        """The same elements under another shape; the strides are not those of its dimensions."""
        found = PackedElements(self.bytes, self.element, shape, (1,) * len(shape))
        found.positions = self.positions.reshape(shape)
        return found

    def take(self, positions: Array) -> Array:
        """The codes of elements."""
        return read_codes(self.bytes, positions, self.element.bits).astype(self.dtype)

    def put(self, positions: Array, codes: Any) -> None:
        """Set the codes of elements, and none of the bits beside them."""
        write_codes(self.bytes, positions, np.broadcast_to(np.asarray(codes, self.dtype), positions.shape),
                    self.element.bits)


def read_codes(bytes: Array, positions: Array, bits: int) -> Array:
    """The codes, as u64, of the elements with these numbers."""
    first = positions * bits
    place, shift = first >> 3, (first & 7).astype(np.uint64)
    last = max(0, len(bytes) - 1)
    if not positions.size:
        return np.zeros(positions.shape, np.uint64)
    total = np.zeros(positions.shape, np.uint64)
    for k in range(min(8, (bits + 14) // 8)):
        total |= bytes[np.minimum(place + k, last)].astype(np.uint64) << np.uint64(8 * k)
    total >>= shift
    if bits > 57:  # up to nine bytes
        ninth = bytes[np.minimum(place + 8, last)].astype(np.uint64)
        total |= np.where(shift > 0, ninth << (np.uint64(64) - np.maximum(shift, np.uint64(1))), np.uint64(0))
    return total & np.uint64((1 << bits) - 1)


def write_codes(bytes: Array, positions: Array, codes: Array, bits: int) -> None:
    """Set elements; of those with one number the last one counts."""
    numbers, chosen = np.unique(positions.reshape(-1)[::-1], return_index=True)
    code = codes.reshape(-1)[::-1][chosen].astype(np.uint64)
    first = numbers * bits
    for k in range((bits + 14) // 8):
        # Of the element's bits those in its byte k: from bit 8 k - shift of the code on.
        offset = 8 * k - (first & 7)
        part, mask = (_shifted(x, offset) for x in (code, np.uint64((1 << bits) - 1)))
        touched = mask != 0
        place = (first >> 3)[touched] + k
        np.bitwise_and.at(bytes, place, ~mask[touched])
        np.bitwise_or.at(bytes, place, part[touched])


def _shifted(x: Any, by: Array) -> Array:
    """The low byte of ``x >> by``; to the left for negative amounts."""
    right, left = np.clip(by, 0, 63).astype(np.uint64), np.maximum(-by, 0).astype(np.uint64)
    shifted = np.where(by >= 64, np.uint64(0), (x >> right) << left)
    return (shifted & np.uint64(255)).astype(np.uint8)


__all__ = ["PackedElements", "read_codes", "write_codes"]
