"""Chains over crops of images: what is called, with a reference and cases.

    chain = Chain(reads=(bilinear,), steps=(swapped, normalise(mean, deviation, 1 / 255)))
    batch = process(chain, image, crops, (128, 64))          # (crops, channels, 128, 64) f32, by one launch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Case, empty, report
from kernels_zoo.images.chain import Chain, plans_of, side_by_side
from kernels_zoo.images.checks import check_sizes, places_of, shape_of
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


class Processor:
    """A chain, or several, ready for crops of some images: each call is one launch, and little besides.

    Args:
        images: (rows, columns, channels), a stack of such, or what :func:`of` and :func:`packed` give; u8, u16 or f32.
        size: rows and columns of each output.
        dtype: the outputs' element type, u8, u16 or f32, where calls give no ``out``.
        engine: where to compute, as in ``kernel.on(engine)``; ``tiles`` are BH, BW and warps.

    Raises:
        ValueError: chains do not agree with the number of channels, or with each other.
    """

    def __init__(self, chains: Chain | Sequence[Chain], images: Array | Images, size: tuple[int, int],
                 dtype: Any = "f", engine: str | None = None, **tiles: int) -> None:
        self.chains = [chains] if isinstance(chains, Chain) else list(chains)
        self.images = images if isinstance(images, Images) else of(images)
        self.size, self.dtype = size, dtype
        self.shape = shape_of(self.chains, self.images.channels, size)
        self.resizes = [chain.resizes for chain in self.chains]
        self.numbers = side_by_side([chain.numbers for chain in self.chains])
        self.kernel = fused_images.on(engine) if engine else fused_images
        self.constants: dict[str, Any] = {"plans": plans_of(self.chains), "C": self.images.channels, **tiles}

    def __call__(self, crops: Any, out: Array | None = None, of_image: Any = None, which: Any = None) -> Array:
        """The batch, (crops, channels, rows, columns) or as the chain writes it.

        Args:
            crops: (crops, 4) integers: first row, first column, rows, columns.
            out: the batch, of any strides.
            of_image: (crops,), the image of each, where there are several.
            which: (crops,), the chain of each, where there are several.

        Raises:
            ValueError: a crop is not a part of its image, or shapes do not agree.
            UserError: element types that kernels do not have, or an ``out`` that overlaps itself or an image.
        """
        import numpy as np

        images, numbers = self.images, self.numbers
        places = places_of(crops, images, of_image, which, len(self.chains))
        if not all(self.resizes):
            check_sizes(places, self.resizes, self.size)
        shape = (len(places), *self.shape)
        if out is None:
            out = np.empty(shape, self.dtype)
        elif out.shape != shape:
            raise ValueError(f"the chain makes a batch of shape {shape}, and out has {out.shape}")
        if len(numbers) not in (1, len(places)):
            raise ValueError(f"there are numbers for {len(numbers)} crops, and {len(places)} crops")
        self.kernel(images.elements, images.table, places, numbers, out, *self.size, **self.constants)
        return out


def process(chains: Chain | Sequence[Chain], images: Array | Images, crops: Any, size: tuple[int, int],
            dtype: Any = "f", out: Array | None = None, of_image: Any = None, which: Any = None,
            engine: str | None = None, **tiles: int) -> Array:
    """Each crop by the chain, or by chain ``which[n]`` of several, in one launch: a :class:`Processor` for one call."""
    return Processor(chains, images, size, dtype, engine, **tiles)(crops, out, of_image, which)


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
    places = places_of(crops, source, None, None, 1)
    reference = np.zeros(out.shape)
    for n, (top, left, rows, columns) in enumerate(crops):
        pixels = resized(image[top : top + rows, left : left + columns].astype(np.float64), size[0], size[1])
        reference[n] = ((pixels[..., ::-1] * scale - MEAN) / DEVIATION).transpose(2, 0, 1)
    arguments = (source.elements, source.table, places, chain.numbers, out, *size)
    return Case(arguments, (out,), (reference,), {"plans": plans_of([chain]), "C": 3})


def main() -> None:
    for dtype in (tl.u8, tl.u16, tl.f32):
        report(fused_images, SHAPES, lambda shape, dtype=dtype: case(shape, dtype))


if __name__ == "__main__":
    main()
