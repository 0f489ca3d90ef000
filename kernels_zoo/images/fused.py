"""One launch for all crops: each block computes a tile of one crop's output, by the chain of that crop.

Images are interleaved (rows, columns, channels), and lie in one array of elements, wherever the table says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.images.chain import Plan, pixel_of
from kernels_zoo.images.source import Pixel, Source

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    ELEMENTS = Any
    OUTPUTS = Any
    TABLE = Any
    CROPS = Any
    NUMBERS = Any
else:
    ELEMENTS = tl.u8["L"] | tl.u16["L"] | tl.f32["L"]
    OUTPUTS = tl.f32["N", "A", "B", "D"] | tl.u8["N", "A", "B", "D"] | tl.u16["N", "A", "B", "D"]
    TABLE = tl.i64["I", 2]
    CROPS = tl.i32["N", 6]
    NUMBERS = tl.f32["M", "P"]


@tl.jit
def fused_images(
    pixels: ELEMENTS, table: TABLE, crops: CROPS, numbers: NUMBERS, out: OUTPUTS, rows: tl.i32, columns: tl.i32,
    plans: tuple[Plan, ...] = (), C: int = 3, BH: int = 0, BW: int = 0, warps: int = 4,
) -> None:
    """``table``: where each image begins in ``pixels``, and how many elements its rows are apart. ``crops``: image,
    first row and column, rows, columns and plan of each. ``numbers``: those of all plans, a row for each crop or one
    for all. The outputs are a batch of images of so many rows and columns, as the plans' writes have them."""
    tl.block(warps=warps)
    tile = (16, 128) if tl.target() == "cpu" else (8, 64)
    BH, BW = BH or tile[0], BW or tile[1]
    j, i, n = tl.grid(tl.cdiv(columns, BW), tl.cdiv(rows, BH), crops.shape[0])
    image, top, left, height, width, which = (crops[n, k] for k in range(6))
    pitch = table[image, 1].to(tl.i32)
    start = table[image, 0] + table[image, 1] * top + left * C
    crop = pixels[start : start + pitch * (height - 1) + width * C]

    def at(y: Any, x: Any) -> Pixel:
        place = y * pitch + x * C
        return tuple(tl.gather(crop, (place + c,)).to(tl.f32) for c in range(C))

    row = tl.minimum(n, numbers.shape[0] - 1)
    y = ((i * BH).to(tl.i32) + tl.arange(BH, dtype=tl.i32))[:, None]
    x = ((j * BW).to(tl.i32) + tl.arange(BW, dtype=tl.i32))[None, :]
    for k, plan in enumerate(plans):
        if len(plans) == 1 or which == k:
            pixel = pixel_of(plan, Source(height, width, at), rows, columns, lambda m: numbers[row, m], y, x)
            plan[2](out[n, :, :, :], i * BH, j * BW, pixel)


__all__ = ["Plan", "fused_images"]
