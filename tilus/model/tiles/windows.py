"""Views of arrays in global memory as numbers, of many blocks at once.

Each number is an array with one entry for each of the lanes that are followed, or one number for all of them.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilus.ir.ops.memory import split_dims
from tilus.records import record

Numbers = Any
"""An int64 array of one entry a lane, or a number that all lanes share."""

SECTOR = 32


@record(frozen=True, eq=False)
class Window:
    """A view of an array.

    Attributes:
        array: the name of the array.
        bits: of an element in memory.
        base: elements from the array's beginning to the view's index 0.
        extents, strides: of each dimension, as the program sees them; strides in elements.
        low, high: of each dimension the indices that are in bounds.
        known: whether ``base`` is: else it came out of data.
        contents: the elements of a contiguous table of integers, where they are known.
    """

    array: str
    bits: int
    base: Numbers
    extents: tuple[Numbers, ...]
    strides: tuple[Numbers, ...]
    low: tuple[Numbers, ...]
    high: tuple[Numbers, ...]
    known: bool = True
    contents: np.ndarray[Any, Any] | None = None

    def take(self, lanes: Numbers) -> Window:
        """For other lanes, each of which is one of these."""
        def pick(numbers: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
            return tuple(taken(n, lanes) for n in numbers)

        return replace(self, base=taken(self.base, lanes), extents=pick(self.extents), strides=pick(self.strides),
                       low=pick(self.low), high=pick(self.high))

    def subview(self, starts: Sequence[Numbers], extents: Sequence[Numbers], dropped: Sequence[int]) -> Window:
        """Starts and extents that are not known are None: they are taken to be 0, and all there is."""
        base, known = self.base, self.known
        kept: list[tuple[Numbers, Numbers, Numbers, Numbers]] = []
        inside: Numbers = True
        for d, (start, extent) in enumerate(zip(starts, extents, strict=True)):
            if start is None:
                start, known = 0, False
            if extent is None:
                extent = self.extents[d]
            base = base + start * self.strides[d]
            if d in dropped:
                inside = inside & (start >= self.low[d]) & (start < self.high[d])
                continue
            kept.append((extent, self.strides[d], np.maximum(0, self.low[d] - start),
                         np.minimum(extent, self.high[d] - start)))
        columns = list(zip(*kept, strict=True)) or [(), (), (), ()]
        high = tuple(np.where(inside, h, 0) for h in columns[3]) if dropped else columns[3]
        return replace(self, base=base, known=known, extents=tuple(columns[0]), strides=tuple(columns[1]),
                       low=tuple(columns[2]), high=tuple(high))

    def permute(self, order: Sequence[int]) -> Window:
        def pick(numbers: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
            return tuple(numbers[d] for d in order)

        return replace(self, extents=pick(self.extents), strides=pick(self.strides), low=pick(self.low),
                       high=pick(self.high))

    def collapse(self, groups: Sequence[int]) -> Window:
        """Adjacent dimensions of a whole contiguous array become one."""
        extents = tuple(math.prod(part) for part in split_dims(self.extents, groups))
        strides = tuple(part[-1] for part in split_dims(self.strides, groups))
        return replace(self, extents=extents, strides=strides, low=(0,) * len(extents), high=extents)

    def columns_of_tiles(self, columns: int, rows: int, row_bytes: int) -> Window:
        """The bytes of a prepacked array, column of tiles by column."""
        *outer, k, n = self.extents
        rows = max(1, rows)
        size, count = -(-k // rows) * rows * row_bytes, -(-n // columns)
        extents = (*outer, count, size)
        strides: list[Numbers] = [1]
        for extent in reversed(extents[1:]):
            strides.insert(0, strides[0] * extent)
        return replace(self, bits=8, base=0, extents=extents, strides=tuple(strides), low=(0,) * len(extents),
                       high=extents)

    def box(self, offsets: Sequence[Numbers], shape: Sequence[int]) -> Box:
        """The elements of a tile that are in bounds, of one element for a shape ()."""
        base, known = self.base, self.known
        sizes: list[Numbers] = []
        for d, offset in enumerate(offsets):
            size = shape[d] if shape else 1
            if offset is None:
                offset, known = 0, False
                sizes.append(np.minimum(size, self.high[d]))
                continue
            base = base + np.maximum(offset, self.low[d]) * self.strides[d]
            sizes.append(np.maximum(0, np.minimum(self.high[d], offset + size) - np.maximum(self.low[d], offset)))
        return Box(self, base, known, tuple(sizes))


@record(frozen=True, eq=False)
class Box:
    """What an access of a tile touches: ``sizes`` elements along each dimension from ``base`` on."""

    window: Window
    base: Numbers
    known: bool
    sizes: tuple[Numbers, ...]

    @property
    def elements(self) -> Numbers:
        return math.prod(self.sizes)

    @property
    def sectors(self) -> Numbers:
        """Those of 32 bytes that it has something in: runs along the dimension with stride 1 are as long as they are,
        other elements fill sectors as far as they lie apart."""
        bits, strides = self.window.bits, self.window.strides
        run = next((d for d, s in reversed(list(enumerate(strides))) if np.ndim(s) == 0 and s == 1), None)
        if run is None:
            apart = min((s for s in map(smallest, strides) if s), default=1) * bits / (8 * SECTOR)
            return self.elements * min(1.0, apart)
        others = math.prod(n for d, n in enumerate(self.sizes) if d != run)
        first = self.base * bits // 8 % SECTOR
        length = self.sizes[run] * bits / 8
        return np.where(length > 0, others * np.ceil((first + length) / SECTOR), 0)


def taken(number: Numbers, lanes: Numbers) -> Numbers:
    """A number for other lanes, each of which is one of these."""
    return number[lanes] if np.ndim(number) else number


def smallest(number: Numbers) -> float:
    return float(np.min(np.abs(number)))


def array_window(name: str, bits: int, shape: Sequence[int], strides: Sequence[int],
                 contents: np.ndarray[Any, Any] | None = None) -> Window:
    """The view of all of an array; strides in elements."""
    shape = tuple(int(n) for n in shape)
    return Window(name, bits, 0, shape, tuple(int(s) for s in strides), (0,) * len(shape), shape, contents=contents)


__all__ = ["SECTOR", "Box", "Numbers", "Window", "array_window", "taken"]
