"""Comparisons of indices that hold up to a run-time index: whole vectors before it are computed without them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tilus as tl

TYPES = {"f4": np.float32, "f8": np.float64, "i4": np.int32}


@tl.jit
def masked(x: tl.f32["M", "N"] | tl.f64["M", "N"] | tl.i32["M", "N"],
           y: tl.f32["M", "N"] | tl.f64["M", "N"] | tl.i32["M", "N"],
           sums: tl.f32["M"] | tl.f64["M"] | tl.i32["M"], n: tl.i32, kind: str = "lt", BM: int = 8,
           BN: int = 128) -> None:
    """What a comparison of columns with n lets count, 3 for the others, and sums of rows of that."""
    rows = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    columns = 5 + tl.arange(BN)[None, :]
    tile = tl.load(x, (rows, 0), (BM, BN))
    if kind == "lt":
        seen = columns < n
    elif kind == "le":
        seen = columns <= n
    elif kind == "ge turned":
        seen = n >= columns
    elif kind == "gt":
        seen = columns > n
    elif kind == "ge":
        seen = columns >= n
    else:
        seen = columns == n
    tile = tl.where(seen, tile * 2, 3)
    tl.store(y, (rows, 0), tile * tile)
    tl.store(sums, rows, tl.sum(tile + tile * tile, axis=1))


KINDS = {"lt": np.less, "le": np.less_equal, "ge turned": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
         "eq": np.equal}


@pytest.mark.sweep
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_of_all_lengths(kind: str, name: str) -> None:
    dtype, rng = TYPES[name], np.random.default_rng(0)
    for n, width in itertools.product((-3, 0, 5, 6, 21, 37, 69, 70, 132, 133, 200), (128, 77)):
        x = rng.integers(-9, 9, (5, width)).astype(dtype)
        y, sums = np.zeros_like(x), np.zeros(5, dtype)
        masked.on("cpu")(x, y, sums, n, kind=kind)
        full = np.zeros((5, 128), dtype)
        full[:, :width] = x
        want = np.where(KINDS[kind](np.arange(128) + 5, n), full * 2, dtype(3))
        np.testing.assert_array_equal(y, (want * want)[:, :width])
        np.testing.assert_array_equal(sums, (want + want * want).sum(1, dtype=dtype))


@tl.jit
def softmax_of(x: tl.f32["M", "N"], y: tl.f32["M", "N"], n: tl.i32, R: int = 16, C: int = 64) -> None:
    tl.grid(1)
    tile = tl.load(x, (0, 0), (R, C)) + 0.5
    tile = tl.where(tl.arange(C)[None, :] < n, tile, -float("inf"))
    e = tl.exp(tile - tl.max(tile, axis=1)[:, None])
    tl.store(y, (0, 0), e / tl.sum(e, axis=1)[:, None])


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 63, 64, 90])
def test_softmax(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((16, 64)).astype(np.float32)
    y = np.zeros_like(x)
    softmax_of.on("cpu")(x, y, n)
    e = np.where(np.arange(64) < n, np.exp(x.astype(np.float64)), 0)
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=2e-6)
