"""Chains over crops of images: what is called, with a reference and cases.

    chain = Chain(reads=(bilinear,), steps=(swapped, normalise(mean, deviation, 1 / 255)))
    batch = process(chain, image, crops, (128, 64))          # (crops, channels, 128, 64) f32, by one launch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Case, empty, report
from kernels_zoo.images.chain import Chain, plans
from kernels_zoo.images.checks import MOST, checked_crops, chosen, shape_of
from kernels_zoo.images.fused import fused_images
from kernels_zoo.images.images import Images, of
from kernels_zoo.images.reads import bilinear
from kernels_zoo.images.reference import resized
from kernels_zoo.images.steps import normalise, swapped

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

SHAPES = [(1, 1, 1), (3, 9, 65), (2, 24, 16), (5, 7, 33), (0, 8, 8), (17, 60, 120)]
"""Crops, and rows and columns of each output."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def process(chain: Chain | Sequence[Chain], images: Array | Images, crops: Any, size: tuple[int, int],
            dtype: Any = None, out: Array | None = None, of_image: Any = None, which: Any = None,
            engine: str | None = None, **tiles: int) -> Array:
    """Each crop by the chain, or by chain ``which[n]`` of several, in one launch.

    Args:
        images: (rows, columns, channels), a stack of such, or what :func:`of` and :func:`packed` give; u8, u16 or f32.
        crops: (crops, 4) integers: first row, first column, rows, columns. ``of_image`` (crops,) are their images.
        size: rows and columns of each output.
        dtype: the outputs' element type, u8, u16 or f32 (the default), where there is no ``out``.
        out: the batch, (crops, channels, rows, columns) or as the chain writes it, of any strides.
        engine: where to compute, as in ``kernel.on(engine)``; ``tiles`` are BH, BW and warps.

    Raises:
        ValueError: a crop is not a part of its image, or shapes do not agree.
        UserError: element types that kernels do not have, or an ``out`` that overlaps itself or an image.
    """
    import numpy as np

    chains = [chain] if isinstance(chain, Chain) else list(chain)
    source = images if isinstance(images, Images) else of(images)
    if not (0 <= size[0] <= MOST and 0 <= size[1] <= MOST):
        raise ValueError(f"outputs have up to {MOST} rows and columns, not {size[0]} × {size[1]}")
    places = checked_crops(crops, source, of_image)
    kinds = chosen(chains, which, len(places))
    shape = shape_of(chains, source, places, kinds, size)
    if out is None:
        out = np.empty(shape, np.float32 if dtype is None else dtype)
    elif out.shape != shape:
        raise ValueError(f"the chain makes a batch of shape {shape}, and out has {out.shape}")
    numbers = np.concatenate([c.numbers(len(places)) for c in chains], axis=1)
    kernel = fused_images.on(engine) if engine else fused_images
    kernel(source.elements, source.table, np.concatenate([places, kinds[:, None]], axis=1), numbers, out, *size,
           plans=plans(chains), C=source.channels, **tiles)
    return out


def random_crops(rng: Any, count: int, rows: int, columns: int) -> Array:
    """Of an image of so many rows and columns: the whole, one pixel at each of two corners, then any."""
    import numpy as np

    found = [(0, 0, rows, columns), (rows - 1, columns - 1, 1, 1), (0, columns - 1, rows, 1)][:count]
    for _ in range(count - len(found)):
        size = rng.integers(1, (rows + 1, columns + 1))
        found.append((*rng.integers(0, (rows - size[0] + 1, columns - size[1] + 1)), *size))
    return np.array(found, np.int32).reshape(-1, 4)


def random_image(rng: Any, shape: tuple[int, ...], dtype: tl.DType) -> Array:
    """Over the range of an integer type, or of [0, 1)."""
    if dtype.is_float:
        return rng.random(shape).astype(dtype.numpy)  # type: ignore[no-any-return]
    return rng.integers(0, int(dtype.max_value) + 1, shape).astype(dtype.numpy)  # type: ignore[no-any-return]


def case(shape: tuple[int, ...], dtype: tl.DType = tl.u8, seed: int = 0) -> Case:
    """Crops, resized, exchanged channels, normalised, as planes; ``dtype`` is the image's."""
    import numpy as np

    count, *size = shape
    rng = np.random.default_rng(seed)
    image = random_image(rng, (43, 61, 3), dtype)
    crops, scale = random_crops(rng, count, 43, 61), 1.0 if dtype.is_float else 1 / int(dtype.max_value)
    chain = Chain((bilinear,), (swapped, normalise(MEAN, DEVIATION, scale)))
    source, out = of(image), empty((count, 3, *size), tl.f32)
    places = np.concatenate([checked_crops(crops, source, None), np.zeros((count, 1), np.int32)], axis=1)
    reference = np.zeros(out.shape)
    for n, (top, left, rows, columns) in enumerate(crops):
        pixels = resized(image[top : top + rows, left : left + columns].astype(np.float64), size[0], size[1])
        reference[n] = ((pixels[..., ::-1] * scale - MEAN) / DEVIATION).transpose(2, 0, 1)
    arguments = (source.elements, source.table, places, chain.numbers(count), out, *size)
    return Case(arguments, (out,), (reference,), {"plans": plans([chain]), "C": 3})


def main() -> None:
    for dtype in (tl.u8, tl.u16, tl.f32):
        report(fused_images, SHAPES, lambda shape, dtype=dtype: case(shape, dtype))


if __name__ == "__main__":
    main()
