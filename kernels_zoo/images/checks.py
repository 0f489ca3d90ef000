"""What is wrong with a call is said before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernels_zoo.images.chain import Chain
from kernels_zoo.images.images import Images

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

MOST = 32767
"""Rows or columns of a crop, and of an output."""


def checked_crops(crops: Any, images: Images, of_image: Any) -> Array:
    """(crops, 5) i32: image, first row and column, rows and columns.

    Raises:
        ValueError: a crop is not within its image, or the arrays have other shapes.
    """
    import numpy as np

    found = np.asarray(crops).reshape(-1, 4) if np.size(crops) == 0 else np.asarray(crops)
    if found.ndim != 2 or found.shape[1] != 4 or not (found.size == 0 or np.issubdtype(found.dtype, np.integer)):
        raise ValueError("crops are integers (crops, 4): first row, first column, rows, columns; these are "
                         f"{found.dtype} {found.shape}")
    which = np.zeros(len(found), np.int64) if of_image is None else np.asarray(of_image)
    if which.shape != (len(found),):
        raise ValueError(f"{len(found)} crops have as many numbers of images, not {which.shape}")
    wrong = np.flatnonzero((which < 0) | (which >= len(images.sizes)))
    if len(wrong):
        raise ValueError(f"crop {wrong[0]} is of image {which[wrong[0]]}, and there are {len(images.sizes)}")
    found = found.astype(np.int64)
    sizes = np.array(images.sizes, np.int64).reshape(-1, 2)[which]
    inside = (found[:, :2] >= 0) & (found[:, 2:] > 0) & (found[:, :2] + found[:, 2:] <= sizes)
    outside = np.flatnonzero(~inside.all(axis=1))
    if len(outside):
        n = int(outside[0])
        top, left, rows, columns = (int(v) for v in found[n])
        raise ValueError(f"crop {n}, rows {top}:{top + rows} and columns {left}:{left + columns}, is not a part of its "
                         f"image, {sizes[n][0]} × {sizes[n][1]}")
    if found.size and int(found[:, 2:].max()) > MOST:
        raise ValueError(f"crops have up to {MOST} rows and columns")
    if len(images.table) and int(images.table[:, 1].max()) * MOST >= 2**31 and found.size:
        reach = images.table[which, 1] * found[:, 2]
        if int(reach.max()) >= 2**31:
            raise ValueError("a crop reaches over 2³¹ elements")
    return np.concatenate([which[:, None], found], axis=1).astype(np.int32)


def chosen(chains: Sequence[Chain], which: Any, crops: int) -> Array:
    """The chain of each crop.

    Raises:
        ValueError: there are several and no numbers of them, or one that is none of theirs.
    """
    import numpy as np

    if which is None:
        if len(chains) != 1:
            raise ValueError(f"which of the {len(chains)} chains a crop has is not said")
        return np.zeros(crops, np.int32)
    numbers = np.asarray(which)
    if numbers.shape != (crops,) or (crops and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(chains)):
        raise ValueError(f"{crops} crops have numbers of chains, from 0 to {len(chains) - 1}")
    return numbers.astype(np.int32)


def shape_of(chains: Sequence[Chain], images: Images, crops: Array, which: Array, size: tuple[int, int]
             ) -> tuple[int, ...]:
    """Of the batch that the chains make.

    Raises:
        ValueError: chains make images of different shapes, or one that does not resize has crops of another size, or
            components do not agree on the number of channels.
    """
    import numpy as np

    shapes = {chain.write.shape(chain.channels(images.channels), *size) for chain in chains}
    if len(shapes) != 1:
        raise ValueError(f"the chains make images of different shapes: {sorted(shapes)}")
    fixed = np.array([not chain.resizes for chain in chains])[which]
    other = np.flatnonzero(fixed & (crops[:, 3:5] != size).any(axis=1))
    if len(other):
        rows, columns = (int(v) for v in crops[other[0], 3:5])
        raise ValueError(f"crop {other[0]} has {rows} × {columns} pixels, and its chain, which does not resize, gives "
                         f"{size[0]} × {size[1]}")
    return (len(crops), *shapes.pop())
