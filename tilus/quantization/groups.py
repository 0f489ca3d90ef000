"""Groups of elements that share a scale, and what is known of each: its greatest magnitude, mean or range."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.records import record

Array = npt.NDArray[Any]
PART = 1 << 15
"""Elements that are dealt with at a time, so that intermediate results stay in the caches."""
MAGNITUDE = np.uint32(0x7FFFFFFF)
INFINITY = np.uint32(0x7F800000)


@record(frozen=True)
class Chunk:
    """Consecutive elements: some rows; or of one row some places in the groups; or of one place some columns."""

    start: int
    rows: slice
    columns: slice
    shape: tuple[int, int, int]

    @property
    def elements(self) -> slice:
        return slice(self.start, self.start + math.prod(self.shape))

    def of(self, numbers: Array | float) -> Array | float:
        """What belongs to these elements, broadcast, of numbers (rows, 1, columns) for the groups or one for all."""
        return numbers[self.rows, :, self.columns] if isinstance(numbers, np.ndarray) else np.float32(numbers)


@record(frozen=True)
class Groups:
    """Consecutive elements of an array in row-major order as (rows, group, columns), where those of a row and column
    are a group."""

    start: int
    rows: int
    group: int
    columns: int

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def chunks(self) -> Iterator[Chunk]:
        """All elements, in order."""
        row = self.group * self.columns
        step = (max(1, PART // row), min(self.group, max(1, PART // self.columns)), min(self.columns, PART))
        for r in range(0, self.rows, step[0]):
            for g in range(0, self.group, step[1]):
                for c in range(0, self.columns, step[2]):
                    shape = (min(step[0], self.rows - r), min(step[1], self.group - g), min(step[2], self.columns - c))
                    yield Chunk(self.start + r * row + g * self.columns + c, slice(r, r + shape[0]),
                                slice(c, c + shape[2]), shape)


def groups_of(shape: tuple[int, ...], axis: int | None, group: int) -> tuple[list[Groups], tuple[int, ...], int]:
    """The groups of an array, the shape of one number for each, and how many elements a group has.

    Raises:
        ValueError: there is no such axis, or its extent is no multiple of ``group``.
    """
    size = math.prod(shape)
    if axis is None:
        group = size if group == -1 else group
        whole, rest = divmod(size, group)
        found = [Groups(0, whole, group, 1)] if whole else []
        return found + ([Groups(whole * group, 1, rest, 1)] if rest else []), (whole + bool(rest),), group
    extent = shape[axis]
    group = extent if group == -1 else group
    if extent % group:
        divisors = [n for n in range(1, extent + 1) if extent % n == 0]
        near = ", ".join(str(n) for n in sorted(sorted(divisors, key=lambda n: abs(n - group))[:3]))
        raise ValueError(f"axis {axis} has {extent} elements, which groups of {group} do not divide: fill it up to "
                         f"{-(-extent // group) * group}, or take a group of {near}")
    rows = math.prod(shape[:axis]) * (extent // group)
    scale_shape = (*shape[:axis], extent // group, *shape[axis + 1:])
    return [Groups(0, rows, group, math.prod(shape[axis + 1:]))], scale_shape, group


def parts_of(all_groups: list[Groups], *arrays: Any) -> Iterator[tuple[Groups, list[Any]]]:
    """Groups that lie together, with the numbers of theirs, (rows, 1, columns), in arrays of one number for each group;
    what is no array is given as it is."""
    first = 0
    for groups in all_groups:
        own = slice(first, first + groups.count)
        first = own.stop
        yield groups, [x.reshape(-1)[own].reshape(groups.rows, 1, groups.columns) if isinstance(x, np.ndarray) else x
                       for x in arrays]


def numbers_of(flat: Array, chunk: Chunk) -> Array:
    """The elements of a chunk in f32."""
    part = flat[chunk.elements]
    if part.dtype != np.float32:
        with np.errstate(over="ignore"):
            part = part.astype(np.float32)
    return part.reshape(chunk.shape)


def magnitudes(flat: Array, all_groups: list[Groups], finite: bool = False) -> Array:
    """The greatest magnitude of each group, not finite where a number is not; ``finite``: of those that are."""
    def of_chunk(x: Array) -> Array:
        bits = x.view(np.uint32) & MAGNITUDE
        return _reduced(np.maximum, np.where(bits < INFINITY, bits, np.uint32(0)) if finite else bits)

    return _of_groups(flat, all_groups, np.maximum, of_chunk, np.dtype(np.uint32)).view(np.float32)


def extremes(flat: Array, all_groups: list[Groups]) -> tuple[Array, Array]:
    """The least and the greatest of 0 and the numbers of each group; NaN where one is."""
    low, high = (_of_groups(flat, all_groups, op, lambda x, op=op: _reduced(op, x), np.dtype(np.float32))
                 for op in (np.minimum, np.maximum))
    return low, high


def means(flat: Array, all_groups: list[Groups]) -> Array:
    """The mean magnitude of each group."""
    sums = _of_groups(flat, all_groups, np.add, lambda x: np.abs(x).sum(axis=1, dtype=np.float64), np.dtype(np.float64))
    counts = np.concatenate([np.full(groups.count, groups.group) for groups in all_groups])
    return (sums / counts).astype(np.float32)


def _of_groups(flat: Array, all_groups: list[Groups], op: Any, of_chunk: Any, dtype: np.dtype[Any]) -> Array:
    """One number for each group: ``op`` of 0 and what ``of_chunk`` makes of each chunk."""
    parts = []
    for groups in all_groups:
        total = np.zeros((groups.rows, groups.columns), dtype)
        for chunk in groups.chunks():
            place = total[chunk.rows, chunk.columns]
            op(place, of_chunk(numbers_of(flat, chunk)), out=place)
        parts.append(total.reshape(-1))
    return np.concatenate(parts)


def _reduced(op: Any, x: Array) -> Array:
    """``op`` along axis 1, where short rows of one column are done side by side."""
    rows, group, columns = x.shape
    if columns > 1:
        return op.reduce(x, axis=1)
    flat = x.reshape(-1)
    while group % 2 == 0:
        flat = op(flat[::2], flat[1::2])
        group //= 2
    return op.reduce(flat.reshape(rows, group), axis=1)[:, None]


__all__ = ["Array", "Chunk", "Groups", "extremes", "groups_of", "magnitudes", "means", "numbers_of",
           "parts_of"]
