"""What is wrong with a call is said before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernels_zoo.images.chain import Chain
from kernels_zoo.images.images import Images

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

MOST = 32767
"""Rows or columns of a crop, and of an output."""
FAR = 2**31
"""Elements that a crop does not reach over."""


def places_of(crops: Any, images: Images, of_image: Any, which: Any, chains: int) -> Array:
    """(crops, 6) i32: image, first row and column, rows, columns and chain.

    Raises:
        ValueError: a crop is not within its image, there is no such image or chain, or shapes do not agree.
    """
    import numpy as np

    found = np.asarray(crops)
    if not found.size:
        found = np.zeros((0, 4), np.int64)
    if found.ndim != 2 or found.shape[1] != 4 or found.dtype.kind not in "iu":
        raise ValueError("crops are integers (crops, 4): first row, first column, rows, columns; these are "
                         f"{found.dtype} {found.shape}")
    count = len(found)
    of_images = chosen(of_image, count, len(images.table), "image")
    check_inside(found, images.sizes[of_images] if isinstance(of_images, np.ndarray) else images.sizes[:1])
    if images.is_large and ((found[:, 2:] > MOST).any() or (images.table[of_images, 1] * found[:, 2] >= FAR).any()):
        raise ValueError(f"crops have up to {MOST} rows and columns, and reach over less than 2³¹ elements")
    places = np.empty((count, 6), np.int32)
    places[:, 0], places[:, 1:5], places[:, 5] = of_images, found, chosen(which, count, chains, "chain")
    return places


def check_inside(crops: Array, sizes: Array) -> None:
    """By a loop, which takes a hundredth of what crops take, and less than functions of arrays where they are few.

    Raises:
        ValueError: one is not a part of its image.
    """
    many = itertools.repeat(sizes[0].tolist()) if len(sizes) == 1 else sizes.tolist()
    for n, ((top, left, rows, columns), (height, width)) in enumerate(zip(crops.tolist(), many, strict=False)):
        if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
            raise ValueError(f"crop {n}, rows {top}:{top + rows} and columns {left}:{left + columns}, is not a part of "
                             f"its image, {height} × {width}")


def chosen(numbers: Any, crops: int, count: int, what: str) -> Array | int:
    """Which of ``count`` images or chains each crop is of; 0 where that is not said and there is one.

    Raises:
        ValueError: that is not said and there are several, or a number is none of theirs.
    """
    import numpy as np

    if numbers is None:
        if count == 1 or not crops:
            return 0
        raise ValueError(f"which of the {count} {what}s a crop is of is not said")
    found = np.asarray(numbers)
    if found.shape != (crops,) or (crops and found.dtype.kind not in "iu"):
        raise ValueError(f"{crops} crops have as many numbers of {what}s, not {found.dtype} {found.shape}")
    if crops and not 0 <= int(found.min()) <= int(found.max()) < count:
        n = int(np.flatnonzero((found < 0) | (found >= count))[0])
        raise ValueError(f"crop {n} is of {what} {found[n]}, and there are {count}")
    return found


def shape_of(chains: Sequence[Chain], channels: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """Of an image that the chains make.

    Raises:
        ValueError: chains make images of different shapes, or components do not agree on the number of channels.
    """
    if not (0 <= size[0] <= MOST and 0 <= size[1] <= MOST):
        raise ValueError(f"outputs have up to {MOST} rows and columns, not {size[0]} × {size[1]}")
    shapes = {chain.write.shape(chain.channels(channels), *size) for chain in chains}
    if len(shapes) != 1:
        raise ValueError(f"the chains make images of different shapes: {sorted(shapes)}")
    return shapes.pop()


def check_sizes(places: Array, resizes: Sequence[bool], size: tuple[int, int]) -> None:
    """Raises:
        ValueError: a crop of another size than the output's has a chain that does not resize.
    """
    import numpy as np

    other = np.flatnonzero(~np.array(resizes)[places[:, 5]] & (places[:, 3:5] != size).any(axis=1))
    if len(other):
        rows, columns = places[other[0], 3:5]
        raise ValueError(f"crop {other[0]} has {rows} × {columns} pixels, and its chain, which does not resize, gives "
                         f"{size[0]} × {size[1]}")
