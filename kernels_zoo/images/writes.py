"""Writes: how the pixels of a tile lie in the image of the output, which is one of a batch.

A write has ``shape(channels, rows, columns)`` of an image, and is called with a view of it, the first row and column of
the tile, and the pixels. Numbers are rounded to the array's type, as by :class:`steps.Cast`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import tilus as tl
from kernels_zoo.images.source import Pixel
from kernels_zoo.images.steps import to


class Write(Protocol):
    def shape(self, channels: int, rows: int, columns: int) -> tuple[int, int, int]: ...

    def __call__(self, image: Any, y: Any, x: Any, pixel: Pixel) -> None: ...


@dataclass(frozen=True, eq=False)
class Planes:
    """(channels, rows, columns)."""

    def shape(self, channels: int, rows: int, columns: int) -> tuple[int, int, int]:
        return channels, rows, columns

    def __call__(self, image: Any, y: Any, x: Any, pixel: Pixel) -> None:
        for c, p in enumerate(pixel):
            tl.store(image[c, :, :], (y, x), to(p, image.dtype))


@dataclass(frozen=True, eq=False)
class Interleaved:
    """(rows, columns, channels)."""

    def shape(self, channels: int, rows: int, columns: int) -> tuple[int, int, int]:
        return rows, columns, channels

    def __call__(self, image: Any, y: Any, x: Any, pixel: Pixel) -> None:
        for c, p in enumerate(pixel):
            tl.store(image[:, :, c], (y, x), to(p, image.dtype))


PLANES, INTERLEAVED = Planes(), Interleaved()
