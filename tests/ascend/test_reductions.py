"""Reductions of tiles of all widths on the twin: integers exactly, products, where extrema are, results of 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

SHAPES = [(5, 7, 16, 32), (33, 70, 48, 96), (1, 4000, 1, 4096), (70, 30, 80, 32)]
ENGINES = ("interpret", "ascend910b:late", "ascend910b:random:1")


@tl.jit
def reduced(x: tl.f32["M", "N"] | tl.i32["M", "N"] | tl.i16["M", "N"],
            top: tl.f32["M"] | tl.i32["M"] | tl.i16["M"], total: tl.f32["M"] | tl.i32["M"] | tl.i16["M"],
            product: tl.f32["M"] | tl.i32["M"] | tl.i16["M"], whole: tl.f32[3] | tl.i32[3] | tl.i16[3],
            BM: int = 16, BN: int = 32) -> None:
    tl.grid(1)
    t = tl.load(x, (0, 0), (BM, BN))
    tl.store(top, (0,), tl.max(t, 1))
    tl.store(total, (0,), tl.sum(t, 1).to(total.dtype))
    tl.store(product, (0,), tl.prod(t + 1, 1).to(product.dtype))
    tl.store(whole, (0,), tl.max(t).reshape((1,)))
    tl.store(whole, (1,), tl.sum(t).to(whole.dtype).reshape((1,)))
    tl.store(whole, (2,), tl.prod(t + 1).to(whole.dtype).reshape((1,)))


@tl.jit
def located(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.i32["M", "N"] | tl.u8["M", "N"] | tl.u32["M", "N"],
            by_row: tl.i32["M"], by_column: tl.i32["N"], with_nan: tl.i64["M"], whole: tl.i32[1],
            BM: int = 16, BN: int = 32) -> None:
    tl.grid(1)
    t = tl.load(x, (0, 0), (BM, BN))
    tl.store(by_row, (0,), tl.argmax(t, 1).to(tl.i32))
    tl.store(by_column, (0,), tl.argmin(t, 0).to(tl.i32))
    tl.store(with_nan, (0,), tl.argmax(t, 1, propagate_nan=True))
    tl.store(whole, (0,), tl.argmax(t).to(tl.i32).reshape((1,)))


def on_all(kernel: tl.JitFunction, x: np.ndarray[Any, Any], outputs: list[np.ndarray[Any, Any]],
           bm: int, bn: int) -> list[list[np.ndarray[Any, Any]]]:
    found = []
    for engine in ENGINES:
        found.append([np.full_like(output, -1) for output in outputs])
        kernel.on(engine)(x, *found[-1], BM=bm, BN=bn)
    return found


@pytest.mark.parametrize("dtype", ["f4", "i4", pytest.param("i2", marks=pytest.mark.slow)])
def test_values(dtype: str) -> None:
    random = np.random.default_rng(0)
    for m, n, bm, bn in SHAPES:
        x = {"f4": random.standard_normal((m, n)) / 10, "i4": random.integers(-2**30, 2**30, (m, n)),
             "i2": random.integers(-9, 9, (m, n))}[dtype].astype(dtype)
        want, *others = on_all(reduced, x, [*(np.zeros(m, dtype) for _ in range(3)), np.zeros(3, dtype)], bm, bn)
        for got in others:
            for a, b in zip(want, got, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-5 if dtype == "f4" else 0, atol=1e-5 if dtype == "f4" else 0)


@pytest.mark.parametrize("dtype", [
    "f2", "u4", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("f4", "i4", "u1"))])
def test_places(dtype: str) -> None:
    """Of equal extrema the first; of NaNs alone 0."""
    random = np.random.default_rng(1)
    for m, n, bm, bn in SHAPES:
        low = 0 if dtype.startswith("u") else -5
        x = random.integers(low, 5, (m, n)).astype(dtype)
        if dtype == "u4":
            x += np.uint32(0x7FFFFFFE)
        if dtype.startswith("f"):
            x[0], x[m // 2, n // 2], x[m - 1] = np.nan, np.nan, -np.inf
            x[m - 1, 0] = np.nan
        outputs = [np.zeros(m, "i4"), np.zeros(n, "i4"), np.zeros(m, "i8"), np.zeros(1, "i4")]
        want, *others = on_all(located, x, outputs, bm, bn)
        for got in others:
            for a, b in zip(want, got, strict=True):
                np.testing.assert_array_equal(b, a)
