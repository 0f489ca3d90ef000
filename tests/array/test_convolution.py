"""Convolutions of whole arrays against NumPy in f64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl

Array = Any
SIMULATED = ("simulate:sm_80:ptx", "simulate:sm_90a:cuda")
ENGINES = ("interpret", "cpu", *SIMULATED)

# Shapes of images and weights, stride, padding, dilation, groups.
CASES = {
    "plain": ((2, 5, 12, 15), (7, 5, 3, 2), 1, 0, 1, 1),
    "stride and padding": ((2, 5, 12, 15), (7, 5, 3, 3), 2, (1, 2), 1, 1),
    "padding on one side": ((1, 3, 9, 9), (20, 3, 3, 3), 1, ((0, 1), (2, 0)), 1, 1),
    "dilation and groups": ((2, 4, 12, 15), (6, 2, 3, 3), 1, 2, 2, 2),
    "one element windows": ((2, 8, 9, 9), (5, 8, 1, 1), 1, 0, 1, 1),
    "one element windows apart": ((2, 8, 9, 9), (6, 4, 1, 1), 2, 0, 1, 2),
    "large windows": ((1, 3, 24, 24), (12, 3, 7, 7), 2, 3, 1, 1),
    "small images": ((3, 20, 7, 7), (33, 20, 3, 3), 1, 1, 1, 1),
    "tiny images": ((3, 5, 2, 3), (4, 5, 3, 3), 1, 1, 1, 1),
    "1-D": ((2, 5, 40), (7, 5, 4), 3, 2, 1, 1),
    "3-D": ((2, 3, 6, 7, 8), (4, 3, 3, 2, 1), (1, 2, 1), (1, 1, 0), 1, 1),
    "depthwise": ((2, 4, 9, 9), (4, 1, 3, 3), 1, 1, 1, 4),
    "depthwise, several each": ((2, 4, 9, 9), (8, 1, 3, 3), 2, 1, 1, 4),
    "one channel": ((2, 1, 9, 9), (3, 1, 3, 3), 1, 1, 1, 1),
}
TRANSPOSED = {
    "stride 1": ((2, 5, 6, 7), (5, 4, 3, 3), 1, 1, 1, 1, 0),
    "stride 2": ((2, 5, 6, 7), (5, 4, 4, 4), 2, 1, 1, 1, 0),
    "taps that strides do not divide": ((2, 4, 6, 7), (4, 3, 3, 2), 2, 1, 1, 2, 1),
    "dilation as the stride": ((2, 4, 6, 7), (4, 3, 3, 3), 2, 1, 2, 2, 1),
    "stride beyond the window": ((1, 5, 4, 5), (5, 4, 2, 2), 3, 0, 1, 1, 2),
    "a divisor in common": ((1, 3, 4, 5), (3, 4, 3, 3), 4, 3, 6, 1, 1),
    "depthwise": ((2, 4, 6, 7), (4, 1, 3, 3), 1, 1, 2, 4, 0),
    "depthwise, several each": ((2, 8, 6, 7), (8, 1, 3, 3), 1, 1, 1, 4, 0),
    "dilation and stride": ((1, 4, 6, 7), (4, 3, 3, 3), (3, 2), 1, (2, 1), 1, 0),
    "1-D": ((2, 4, 6), (4, 3, 3), 2, 1, 1, 1, 1),
}


def on_engines(cases: Any) -> Any:
    """Each case interpreted, on the CPU, and on one of the simulated GPUs, by turns."""
    return pytest.mark.parametrize(("case", "engine"), [
        (case, engine) for n, case in enumerate(cases) for engine in ("interpret", "cpu", SIMULATED[n % 2])])


@tl.fuse
def convolution(x, w, b, stride: tuple, padding: tuple, dilation: tuple, groups: int):
    return tl.relu(tl.convolution(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups))


@tl.fuse
def transposed(x, w, stride: tuple, padding: tuple, dilation: tuple, groups: int, more: tuple):
    return tl.convolution(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups, transposed=True,
                          output_padding=more)


def numbers(seed: int, *shapes: tuple[int, ...], dtype: Any = np.float32) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def each(given: Any, rank: int) -> list[Any]:
    return list(given) if isinstance(given, tuple) else [given] * rank


def reference(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """One tap of the window after the other."""
    rank = x.ndim - 2
    s, d = each(stride, rank), each(dilation, rank)
    pairs = [p if isinstance(p, tuple) else (p, p) for p in each(padding, rank)]
    x, w = np.pad(x.astype("d"), [(0, 0), (0, 0), *pairs]), w.astype("d")
    out = [(n - (k - 1) * dd - 1) // ss + 1 for n, k, ss, dd in zip(x.shape[2:], w.shape[2:], s, d, strict=True)]
    x = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    w = w.reshape(groups, -1, *w.shape[1:])
    total = np.zeros((x.shape[0], groups, w.shape[1], *out))
    for tap in itertools.product(*map(range, w.shape[3:])):
        part = tuple(slice(t * dd, t * dd + (n - 1) * ss + 1, ss) for t, dd, n, ss in zip(tap, d, out, s, strict=True))
        total += np.einsum("ngc...,goc->ngo...", x[(..., *part)], w[(..., *tap)])
    return total.reshape(x.shape[0], -1, *out)


def transposed_reference(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: int, more: int) -> Array:
    """The convolution, by turned weights, of the image with zeros between its elements and around them."""
    rank = x.ndim - 2
    s, d, p = (each(n, rank) for n in (stride, dilation, padding))
    spread = np.zeros((*x.shape[:2], *((n - 1) * ss + 1 for n, ss in zip(x.shape[2:], s, strict=True))))
    spread[(..., *(slice(None, None, ss) for ss in s))] = x
    reach = [dd * (k - 1) for dd, k in zip(d, w.shape[2:], strict=True)]
    around = [(r, r + more) for r in reach]
    turned = w[(..., *[slice(None, None, -1)] * rank)]
    parts = turned.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
    found = reference(spread, parts.reshape(-1, *parts.shape[2:]), 1, tuple(around), dilation, groups)
    return found[(..., *(slice(n, found.shape[2 + i] - n) for i, n in enumerate(p)))]


def assert_near(found: Array, wanted: Array, tolerance: float = 1e-6) -> None:
    found = np.asarray(found, "d")
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


@pytest.mark.sweep(keep=7)
@on_engines(CASES)
def test_convolution(case: str, engine: str) -> None:
    shape, weights, stride, padding, dilation, groups = CASES[case]
    x, w, b = numbers(1, shape, weights, weights[:1])
    found = convolution.on(engine)(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    wanted = reference(x, w, stride, padding, dilation, groups) + b.reshape(-1, *[1] * (x.ndim - 2))
    assert_near(found, np.maximum(wanted, 0))


@pytest.mark.sweep(keep=4)
@on_engines(TRANSPOSED)
def test_transposed(case: str, engine: str) -> None:
    shape, weights, *geometry = TRANSPOSED[case]
    x, w = numbers(2, shape, weights)
    stride, padding, dilation, groups, more = geometry
    found = transposed.on(engine)(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups, more=more)
    assert_near(found, transposed_reference(x, w, *geometry))


@on_engines([np.float16, np.float64])
def test_types(case: Any, engine: str) -> None:
    dtype = case
    x, w, b = numbers(3, (2, 6, 9, 10), (8, 6, 3, 3), (8,), dtype=dtype)
    found = convolution.on(engine)(x, w, b, stride=1, padding=1, dilation=1, groups=1)
    wanted = np.maximum(reference(x, w, 1, 1, 1, 1) + b[:, None, None].astype("d"), 0)
    assert found.dtype == dtype
    assert_near(found, wanted, 1e-3 if dtype == np.float16 else 1e-14)


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_arrays_as_they_lie(engine: str) -> None:
    """Images and weights whose channels are last, and parts of arrays; no image at all."""
    x, w, b = numbers(4, (2, 9, 10, 6), (8, 3, 3, 6), (16,))
    x, w, b = x.transpose(0, 3, 1, 2), w.transpose(0, 3, 1, 2), b[::2]
    found = convolution.on(engine)(x, w, b, stride=1, padding=1, dilation=1, groups=1)
    assert_near(found, np.maximum(reference(x, w, 1, 1, 1, 1) + b[:, None, None], 0))
    part = x[:, 1:5, 2:, ::2]
    found = convolution.on(engine)(part, w[:, 1:5], b, stride=2, padding=1, dilation=1, groups=1)
    assert_near(found, np.maximum(reference(part, w[:, 1:5], 2, 1, 1, 1) + b[:, None, None], 0))
    assert convolution.on(engine)(x[:0], w, b, stride=1, padding=1, dilation=1, groups=1).shape == (0, 8, 9, 10)


@tl.fuse
def block(x, w, s, r):
    y = tl.convolution(tl.relu(x), w, padding=1) * s[:, None, None] + r
    return y * tl.sigmoid(y)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_around_a_convolution(engine: str) -> None:
    """What is done to the sums is done in the same kernel, after which they are an image again."""
    x, w, s, r = numbers(5, (2, 5, 9, 8), (7, 5, 3, 3), (7,), (2, 7, 9, 8))
    wanted = reference(np.maximum(x, 0), w, 1, 1, 1, 1) * s[:, None, None] + r
    assert_near(block.on(engine)(x, w, s, r), wanted / (1 + np.exp(-wanted)))
    assert "kernels: block_0, block_1\n" in block.explain(x, w, s, r)


def test_one_kernel() -> None:
    text = convolution.explain(*numbers(0, (2, 5, 12, 15), (7, 5, 3, 2), (7,)), stride=1, padding=1, dilation=1,
                               groups=1)
    assert "kernels: convolution\n" in text
    assert "0 bytes spilled" in text
