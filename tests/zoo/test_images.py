"""Chains of operations on images, against their definitions in f64: components, types, memory, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import Array, relative_error
from kernels_zoo.images import reads, steps
from kernels_zoo.images.batch import case, process, random_crops, random_image
from kernels_zoo.images.chain import Chain
from kernels_zoo.images.fused import fused_images
from kernels_zoo.images.images import of, packed
from kernels_zoo.images.reference import resized, resized_to_nearest
from kernels_zoo.images.source import Pixel, Source, With
from kernels_zoo.images.writes import INTERLEAVED, PLANES

ENGINES = ["interpret", "cpu", "simulate:sm_80:ptx", pytest.param("simulate:sm_80:cuda", marks=pytest.mark.slow),
           pytest.param("simulate:sm_90a:ptx", marks=pytest.mark.slow),
           pytest.param("simulate:sm_90a:cuda", marks=pytest.mark.slow)]
SIZE = (11, 18)
ROWS, COLUMNS = 23, 31
Meaning = Callable[[Array], Array]
"""What becomes of the f64 pixels (rows, columns, channels) of a crop."""


def bilinear(pixels: Array) -> Array:
    return resized(pixels, *SIZE)


def fitted(pixels: Array) -> Array:
    rows, columns = pixels.shape[:2]
    tall = rows * SIZE[1] > columns * SIZE[0]
    size = (SIZE[0], max(columns * SIZE[0] // rows, 1)) if tall else (max(rows * SIZE[1] // columns, 1), SIZE[1])
    top, left = (SIZE[0] - size[0]) // 2, (SIZE[1] - size[1]) // 2
    out = np.full((*SIZE, pixels.shape[2]), 114.0)
    out[top : top + size[0], left : left + size[1]] = resized(pixels, *size)
    return out


def luma(pixels: Array) -> Array:
    return np.asarray(pixels @ np.array([[0.299], [0.587], [0.114]]))


def inverted(pixel: Pixel, top: Any) -> Pixel:
    """A user's step."""
    return tuple(top - p for p in pixel)


def turned(source: Source, rows: Any, columns: Any) -> Source:
    """A user's read: rows and columns exchanged."""
    return Source(source.columns, source.rows, lambda y, x: source.at(x, y))


CHAINS: dict[str, tuple[Chain, Meaning]] = {
    "bilinear": (Chain((reads.bilinear,)), bilinear),
    "nearest": (Chain((reads.nearest,)), lambda p: resized_to_nearest(p, *SIZE)),
    "fitted": (Chain((reads.fitted(114.0),)), fitted),
    "grey before": (Chain((reads.converted(steps.grey), reads.bilinear)), lambda p: bilinear(luma(p))),
    "grey after": (Chain((reads.bilinear,), (steps.grey,)), lambda p: luma(bilinear(p))),
    "mirrored": (Chain((reads.mirrored, reads.bilinear)), lambda p: bilinear(p[:, ::-1])),
    "turned": (Chain((turned, reads.bilinear)), lambda p: bilinear(p.transpose(1, 0, 2))),
    "multiply, subtract, divide, add": (
        Chain((reads.bilinear,), (steps.multiply(0.5), steps.subtract(1.0, 2.0, 3.0), steps.divide(4.0, 5.0, 6.0),
                                  steps.add(10.0))),
        lambda p: (bilinear(p) * 0.5 - (1, 2, 3)) / (4, 5, 6) + 10),
    "swapped, normalised": (
        Chain((reads.bilinear,), (steps.swapped, steps.normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1 / 255))),
        lambda p: (bilinear(p)[..., ::-1] / 255 - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4)),
    "converted with numbers": (
        Chain((reads.converted(With(inverted, (255.0,))), reads.bilinear)), lambda p: bilinear(255 - p)),
    "cast": (Chain((reads.nearest,), (steps.multiply(1.25), steps.Cast(tl.u8))),
             lambda p: np.clip(np.rint(resized_to_nearest(p, *SIZE) * 1.25), 0, 255)),
    "interleaved": (Chain((reads.bilinear,), (steps.swapped,), INTERLEAVED), lambda p: bilinear(p)[..., ::-1]),
}
SLOW = {"turned", "mirrored", "grey before", "nearest", "cast", "bilinear", "converted with numbers"}
"""What says little that the others do not."""


def reference(image: Array, crops: Array, chain: Chain, meaning: Meaning) -> Array:
    """The batch, as the chain writes it."""
    found = [meaning(image[top : top + rows, left : left + columns].astype(np.float64))
             for top, left, rows, columns in crops]
    batch = np.stack(found)
    return batch if chain.write is INTERLEAVED else batch.transpose(0, 3, 1, 2)


def example(dtype: tl.DType = tl.u8, channels: int = 3, count: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(count)
    return random_image(rng, (ROWS, COLUMNS, channels), dtype), random_crops(rng, count, ROWS, COLUMNS)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CHAINS])
def test_components(name: str, engine: str) -> None:
    (chain, meaning), (image, crops) = CHAINS[name], example()
    out = process(chain, image, crops, SIZE, engine=engine)
    assert relative_error(out, reference(image, crops, chain, meaning)) < 1e-6


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("engine", ["cpu", *[pytest.param(e, marks=pytest.mark.slow) for e in (
    "interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx", "simulate:sm_90a:cuda")]])
@pytest.mark.parametrize("write", [PLANES, INTERLEAVED], ids=["planes", "interleaved"])
@pytest.mark.parametrize("to", [tl.u8, tl.u16, tl.f32], ids=str)
@pytest.mark.parametrize("dtype", [tl.u8, tl.u16, tl.f32], ids=str)
def test_types(dtype: tl.DType, to: tl.DType, write: Any, engine: str) -> None:
    """Integers are the nearest ones: within a half, and what rounding the f32 number may add."""
    image, crops = example(dtype)
    most = 1.0 if to.is_float else float(to.max_value)
    scale = 1.1 * most / (1.0 if dtype.is_float else float(dtype.max_value))
    chain = Chain((reads.bilinear,), (steps.multiply(scale),), write)
    out = process(chain, image, crops, SIZE, to.numpy, engine=engine)
    exact = reference(image, crops, chain, lambda p: bilinear(p) * scale)
    if to.is_float:
        assert relative_error(out, exact) < 1e-6
    else:
        assert out.max() == most
        assert np.abs(out - np.clip(exact, 0, most)).max() <= 0.5 + 1e-6 * most


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("engine", ["cpu", pytest.param("simulate:sm_80:ptx", marks=pytest.mark.slow)])
def test_other_channels(channels: int, engine: str) -> None:
    image, crops = example(channels=channels)
    chain = Chain((reads.bilinear,))
    out = process(chain, image, crops, SIZE, engine=engine)
    assert relative_error(out, reference(image, crops, chain, bilinear)) < 1e-6


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_rows_apart(engine: str) -> None:
    """A part of a larger image, into a part of a larger batch."""
    (image, crops), chain = example(), Chain((reads.bilinear,))
    large = np.zeros((ROWS + 4, COLUMNS + 9, 3), np.uint8)
    large[2 : 2 + ROWS, 5 : 5 + COLUMNS] = image
    batch = np.zeros((len(crops), 5, SIZE[0] + 2, SIZE[1] + 7), np.float32)
    out = batch[:, 1:4, 1:-1, 3:-4]
    process(chain, large[2 : 2 + ROWS, 5 : 5 + COLUMNS], crops, SIZE, out=out, engine=engine)
    assert relative_error(out, reference(image, crops, chain, bilinear)) < 1e-6
    out[...] = 0
    assert not batch.any()


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80:ptx"])
def test_several_images(engine: str) -> None:
    """Crops of a stack, and of images of any sizes."""
    rng, chain = np.random.default_rng(0), Chain((reads.bilinear,))
    stack = random_image(rng, (3, ROWS, COLUMNS, 3), tl.u8)
    crops, which = random_crops(rng, 4, ROWS, COLUMNS), np.array([2, 0, 1, 2])
    expected = np.concatenate([reference(stack[k], crops[n : n + 1], chain, bilinear) for n, k in enumerate(which)])
    assert relative_error(process(chain, stack, crops, SIZE, of_image=which, engine=engine), expected) < 1e-6
    images = [random_image(rng, (n, 40 - n, 3), tl.u8) for n in (5, 1, 33)]
    crops = np.array([(0, 0, 5, 35), (0, 38, 1, 1), (10, 2, 20, 5)])
    expected = np.concatenate([reference(images[n], crops[n : n + 1], chain, bilinear) for n in range(3)])
    out = process(chain, packed(images), crops, SIZE, of_image=[0, 1, 2], engine=engine)
    assert relative_error(out, expected) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_divergent_chains(engine: str) -> None:
    """Each crop has the chain that a number says, in one launch."""
    image, crops = example()
    names = ["nearest", "multiply, subtract, divide, add", "swapped, normalised"]
    which = np.array([2, 0, 1, 1, 2])
    out = process([CHAINS[n][0] for n in names], image, crops, SIZE, which=which, engine=engine)
    for n, k in enumerate(which):
        expected = reference(image, crops[n : n + 1], *CHAINS[names[k]])
        assert relative_error(out[n : n + 1], expected) < 1e-6, n


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_numbers_of_each_crop(engine: str) -> None:
    image, crops = example()
    gains = np.linspace(0.5, 2.0, len(crops))[:, None]
    chain = Chain((reads.bilinear,), (With(steps.times, gains),))
    expected = reference(image, crops, chain, bilinear) * gains[:, :, None, None]
    assert relative_error(process(chain, image, crops, SIZE, engine=engine), expected) < 1e-6


@pytest.mark.parametrize("engine", ["interpret", "cpu", pytest.param("simulate:sm_80:ptx", marks=pytest.mark.slow)])
def test_nothing(engine: str) -> None:
    image, _ = example()
    chain = Chain((reads.bilinear,))
    assert process(chain, image, np.zeros((0, 4), int), SIZE, engine=engine).shape == (0, 3, *SIZE)
    assert process(chain, image, [], SIZE, engine=engine).shape == (0, 3, *SIZE)
    assert process(chain, image, [(0, 0, 2, 2)], (0, 5), engine=engine).shape == (1, 3, 0, 5)
    assert process(chain, image[:0], [], SIZE, engine=engine).shape == (0, 3, *SIZE)


def test_without_resizing() -> None:
    image, _ = example(tl.u16)
    out = process(Chain(steps=(steps.add(1.0),)), image, [(3, 4, 7, 9)], (7, 9), np.uint16, engine="cpu")
    assert np.array_equal(out[0].transpose(1, 2, 0), np.minimum(image[3:10, 4:13].astype(int) + 1, 65535))


def test_what_is_equal_is_compiled_once() -> None:
    """Numbers, crops and sizes are values at run time, and a chain is another object each time."""
    image, crops = example()

    def once(gain: float, size: tuple[int, int], count: int) -> None:
        chain = Chain((reads.fitted(gain),), (steps.Cast(tl.u8), steps.multiply(gain)))
        process(chain, image, crops[:count], size, engine="cpu")

    once(1.0, (11, 18), 5)
    before = len(fused_images._specialisations)
    once(2.0, (12, 19), 3)
    assert len(fused_images._specialisations) == before


@pytest.mark.parametrize("dtype", [tl.u8, pytest.param(tl.u16, marks=pytest.mark.slow),
                                   pytest.param(tl.f32, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_no_spills(target: str, via: str, dtype: tl.DType) -> None:
    plans = case((1, 1, 1)).constants["plans"]
    compiled = fused_images.compile(target=target, via=via, pixels=dtype, plans=plans)
    assert compiled.metadata["spill_stores"] == 0


REFUSED: dict[str, tuple[Callable[[Array], Any], str]] = {
    "outside": (lambda x: process(Chain((reads.bilinear,)), x, [(0, 0, 1, 1), (20, 0, 4, 5)], SIZE),
                "crop 1, rows 20:24 and columns 0:5, is not a part of its image, 23 × 31"),
    "negative": (lambda x: process(Chain((reads.bilinear,)), x, [(0, -1, 4, 5)], SIZE), "crop 0, rows 0:4 and col"),
    "empty": (lambda x: process(Chain((reads.bilinear,)), x, [(0, 0, 0, 5)], SIZE), "crop 0, rows 0:0 and col"),
    "floats": (lambda x: process(Chain((reads.bilinear,)), x, [(0.0, 0.0, 1.0, 1.0)], SIZE), "crops are integers"),
    "no such image": (lambda x: process(Chain((reads.bilinear,)), x, [(0, 0, 1, 1)], SIZE, of_image=[1]),
                      "crop 0 is of image 1, and there are 1"),
    "sizes": (lambda x: process(Chain(), x, [(0, 0, 1, 2)], SIZE), "crop 0 has 1 × 2 pixels, and its chain, which"),
    "out": (lambda x: process(Chain((reads.bilinear,)), x, [(0, 0, 1, 1)], SIZE, out=np.empty((1, 1, *SIZE), "f")),
            "the chain makes a batch of shape (1, 3, 11, 18), and out has (1, 1, 11, 18)"),
    "no image": (lambda x: process(Chain((reads.bilinear,)), x[..., 0], [], SIZE), "images are (rows, columns, chan"),
    "planes": (lambda x: process(Chain((reads.bilinear,)), x.transpose(2, 0, 1), [], SIZE), "not side by side"),
    "which": (lambda x: process([Chain((reads.bilinear,))] * 2, x, [(0, 0, 1, 1)], SIZE), "which of the 2 chains"),
    "shapes": (lambda x: process([Chain((reads.bilinear,)), Chain((reads.bilinear,), (steps.grey,))], x,
                                 [(0, 0, 1, 1)], SIZE, which=[0]), "images of different shapes"),
    "which image": (lambda x: process(Chain((reads.bilinear,)), x[None].repeat(2, 0), [(0, 0, 1, 1)], SIZE),
                    "which of the 2 images"),
    "channels": (lambda x: process(Chain((reads.bilinear,), (steps.multiply(1.0, 2.0),)), x, [], SIZE),
                 "times has 2 numbers for 3 channels"),
    "colours": (lambda x: process(Chain((reads.bilinear,), (steps.grey, steps.swapped)), x, [], SIZE),
                "swapped takes 3 channels, and is given 1"),
    "ground": (lambda x: process(Chain((reads.fitted(1.0, 2.0),)), x, [], SIZE), "has 2 numbers for 3 channels"),
    "numbers": (lambda x: process(Chain((reads.bilinear,), (With(steps.times, [[1.0]] * 3),)), x, [(0, 0, 1, 1)], SIZE),
                "there are numbers for 3 crops, and 1 crops"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call(example()[0])


def test_refused_by_the_language() -> None:
    image, crops = example()
    chain = Chain((reads.bilinear,))
    once = np.lib.stride_tricks.as_strided(np.empty((1, 3, *SIZE), np.float32), (5, 3, *SIZE), (0, 792, 72, 4))
    with pytest.raises(tl.UserError, match="'out' is written, and some of its elements are one in memory"):
        process(chain, image, crops, SIZE, out=once, engine="cpu")
    floats = np.zeros((ROWS, COLUMNS, 3), np.float32)
    with pytest.raises(tl.UserError, match="overlap"):
        process(Chain(write=INTERLEAVED), floats, [(0, 0, *SIZE)], SIZE, out=floats[None, : SIZE[0], : SIZE[1]],
                engine="cpu")
    with pytest.raises(tl.UserError, match="pixels"):
        process(chain, image.astype(np.float64), crops, SIZE, engine="cpu")


def test_views_of_images() -> None:
    """A stack as it lies is not copied."""
    stack = np.zeros((2, 9, 8, 3), np.uint8)
    images = of(stack[:, 1:, 2:6])
    assert np.shares_memory(images.elements, stack)
    assert images.table.tolist() == [[0, 24], [216, 24]]
