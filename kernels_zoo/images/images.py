"""Images in one array of elements, whether they are one, a stack, or of many sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernels_zoo.checking import Array


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one element type and number of channels, interleaved, in one array of elements.

    Attributes:
        elements: all of them, (L,).
        table: for each image where it begins, and how many elements its rows are apart, (I, 2) i64.
        sizes: rows and columns of each, (I, 2).
        channels: how many each pixel has.
    """

    elements: Array
    table: Array
    sizes: Array
    channels: int

    @cached_property
    def is_large(self) -> bool:
        """Whether crops may be larger than kernels count."""
        reach = self.table[:, 1] * self.sizes[:, 0]
        return int(reach.max(initial=0)) >= 2**31 or int(self.sizes.max(initial=0)) >= 2**15


def of(images: Array) -> Images:
    """One image (rows, columns, channels), or a stack (images, rows, columns, channels), as it lies in memory.

    Raises:
        ValueError: neither, or pixels of a row are not side by side.
    """
    import numpy as np

    stack = images[None] if images.ndim == 3 else images
    if stack.ndim != 4:
        raise ValueError(f"images are (rows, columns, channels), or several of them, not {images.shape}")
    count, rows, columns, channels = stack.shape
    sizes = np.tile((rows, columns), (count, 1))
    if 0 in stack.shape:
        return Images(np.zeros(0, images.dtype), np.zeros((count, 2), np.int64), sizes, channels)
    beside = all(n == 1 or s == size * stack.itemsize
                 for n, s, size in zip(stack.shape[2:], stack.strides[2:], (channels, 1), strict=True))
    steps = [s // stack.itemsize if n > 1 else 0 for n, s in zip(stack.shape[:2], stack.strides[:2], strict=True)]
    if not beside or min(steps) < 0 or any(s % stack.itemsize for s in stack.strides):
        raise ValueError(f"pixels of a row are not side by side, or rows run backwards: strides {images.strides}")
    length = (count - 1) * steps[0] + (rows - 1) * steps[1] + columns * channels
    elements = np.lib.stride_tricks.as_strided(stack, (length,), (stack.itemsize,), writeable=False)
    table = np.array([(n * steps[0], steps[1]) for n in range(count)], np.int64)
    return Images(elements, table, sizes, channels)


def packed(images: Sequence[Array]) -> Images:
    """Images of any sizes, copied into one array of elements.

    Raises:
        ValueError: there are none, or they differ in channels or element type.
    """
    import numpy as np

    if not images or len({(x.dtype, x.shape[2:]) for x in images}) > 1 or images[0].ndim != 3:
        raise ValueError("images to pack are (rows, columns, channels), of one number of channels and element type")
    starts = np.cumsum([0, *(x.size for x in images)])[:-1]
    table = np.array([(s, x.shape[1] * x.shape[2]) for s, x in zip(starts, images, strict=True)], np.int64)
    return Images(np.concatenate([x.reshape(-1) for x in images]), table, np.array([x.shape[:2] for x in images]),
                  images[0].shape[2])
