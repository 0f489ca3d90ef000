"""Rows of all lengths that end within a tile, for whoever runs them at a level of the processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import tilus as tl

GUARD = 3


@tl.jit
def doubled(x: tl.f32["M", "N"] | tl.f64["M", "N"] | tl.f16["M", "N"] | tl.u8["M", "N"] | tl.bool["M", "N"],
            y: tl.f32["M", "N"] | tl.f64["M", "N"] | tl.f16["M", "N"] | tl.u8["M", "N"] | tl.bool["M", "N"],
            BM: int = 4, BN: int = 256) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    tile = tl.load(x, (i, 0), (BM, BN))
    tl.store(y, (i, 0), tile if x.dtype is tl.bool else tile + tile)


@tl.jit
def rows_at(x: tl.f32["M", "N"], index: tl.i32["R"], y: tl.f32["M", "N"], BR: int = 4, BN: int = 64) -> None:
    rows = tl.load(index, tl.grid(tl.cdiv(index.shape[0], BR)) * BR, (BR,), other=-1)
    at = (rows[:, None], tl.arange(0, BN)[None, :])
    tl.scatter(y, at, tl.gather(x, at) + 1.0)


@tl.jit
def norms(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BN: int = 32) -> None:
    i = tl.grid(x.shape[0])
    total = tl.zeros((1, 1), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        total += tl.sum(tl.load(x, (i, j), (1, BN)), axis=1, keepdims=True)
    for j in tl.range(0, x.shape[1], BN):
        tl.store(y, (i, j), tl.load(x, (i, j), (1, BN)) / total)


def guarded(shape: tuple[int, int], dtype: Any) -> tuple[Any, Any]:
    """An array of ones in whose rows there is more, and the part of the shape."""
    whole = np.ones((shape[0] + 1, shape[1] + GUARD), dtype)
    return whole, whole[: shape[0], : shape[1]]


def wrong_ends(lengths: Iterable[int]) -> Iterator[str]:
    """What is wrong with results, or with what is beyond them."""
    rng = np.random.default_rng(0)
    for n in lengths:
        for dtype in (np.float32, np.float64, np.float16, np.uint8, np.bool_):
            x = rng.integers(0, 2 if dtype is np.bool_ else 100, (5, n)).astype(dtype)
            whole, y = guarded(x.shape, dtype)
            doubled.on("cpu")(x, y)
            if not _holds(whole, x if dtype is np.bool_ else x + x):
                yield f"rows of {n} of {dtype.__name__}"
        x = rng.uniform(1, 2, (5, n)).astype("f")
        whole, y = guarded(x.shape, np.float32)
        norms.on("cpu")(x, y)
        if not np.allclose(y, x / x.sum(1, keepdims=True), 1e-5) or not _holds(whole, y.copy()):
            yield f"norms of rows of {n}"
        whole, y = guarded(x.shape, np.float32)
        rows_at.on("cpu")(x, np.array([4, 7, 0, -3, 2], np.int32), y)
        expected = np.ones_like(x)
        expected[[4, 0, 2]] += x[[4, 0, 2]]
        if not _holds(whole, expected):
            yield f"some rows of {n}"


def _holds(whole: Any, expected: Any) -> bool:
    """Whether that, and nothing else, has been written to an array of ones."""
    untouched = np.ones_like(whole)
    untouched[: expected.shape[0], : expected.shape[1]] = expected
    return np.array_equal(whole, untouched)
