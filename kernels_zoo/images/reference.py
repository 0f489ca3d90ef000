"""Resizing by its definition, in f64."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernels_zoo.checking import Array


def weights(count: int, size: int) -> Array:
    """Of each of ``size`` elements in each of ``count`` that are between them, (count, size)."""
    import numpy as np

    found = np.zeros((count, size))
    for p in range(count):
        at = min(max((p + 0.5) * size / count - 0.5, 0.0), size - 1.0)
        low = int(at)
        found[p, low] += 1 - (at - low)
        found[p, min(low + 1, size - 1)] += at - low
    return found


def resized(pixels: Array, rows: int, columns: int) -> Array:
    """(source rows, source columns, channels) to (rows, columns, channels), bilinear with half-pixel centres."""
    import numpy as np

    down, along = weights(rows, pixels.shape[0]), weights(columns, pixels.shape[1])
    return np.einsum("yi,ijc,xj->yxc", down, pixels, along, optimize=True)  # type: ignore[no-any-return]


def resized_to_nearest(pixels: Array, rows: int, columns: int) -> Array:
    """Likewise, each the pixel at ⌊position · source size / size⌋."""
    import numpy as np

    down = np.arange(rows) * pixels.shape[0] // max(rows, 1)
    return pixels[down][:, np.arange(columns) * pixels.shape[1] // max(columns, 1)]  # type: ignore[no-any-return]
