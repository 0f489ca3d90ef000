"""What is wrong with a call is said before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernels_zoo.images.chain import Chain
from kernels_zoo.images.images import Images

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

LEAST = (0, 0, 1, 1)
"""What the numbers of a crop are at least."""
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
    of_images, kinds = chosen(of_image, count, len(images.table), "image"), chosen(which, count, chains, "chain")
    sizes = images.sizes[of_images]
    if (found < LEAST).any() or (found[:, :2] + found[:, 2:] > sizes).any():
        raise outside(found, sizes)
    if images.is_large and ((found[:, 2:] > MOST).any() or (images.table[of_images, 1] * found[:, 2] >= FAR).any()):
        raise ValueError(f"crops have up to {MOST} rows and columns, and reach over less than 2³¹ elements")
    places = np.empty((count, 6), np.int32)
    places[:, 0], places[:, 1:5], places[:, 5] = of_images, found, kinds
    return places


def outside(crops: Array, sizes: Array) -> ValueError:
    """Of the first crop that is not a part of its image."""
    import numpy as np

    crops, sizes = crops.astype(np.int64), np.broadcast_to(sizes, (len(crops), 2))
    ends = crops[:, :2] + crops[:, 2:]
    wrong = (crops < LEAST).any(axis=1) | (ends > sizes).any(axis=1)
    n = int(np.flatnonzero(wrong)[0])
    (top, left), (bottom, right) = crops[n, :2], ends[n]
    return ValueError(f"crop {n}, rows {top}:{bottom} and columns {left}:{right}, is not a part of its image, "
                      f"{sizes[n][0]} × {sizes[n][1]}")


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
