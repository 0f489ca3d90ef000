"""What becomes of NaNs in extrema: passed over by default, as NumPy has it with ``propagate_nan``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lang.agree import ALL

X = np.array([[1, np.nan, 3, 2], [4, 5, 6, 6], [np.nan] * 4, [np.inf, np.nan, -np.inf, 0]], np.float32)


@tl.jit
def extrema(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.f64["M", "N"], y: tl.f64["K", "M"], z: tl.i64["L", "M"],
            propagate: bool):
    tl.grid(1)
    t = tl.load(x, (0, 0), (4, 4))
    tl.store(y, (0, 0), tl.max(t, 1, propagate_nan=propagate).to(tl.f64)[None, :])
    tl.store(y, (1, 0), tl.min(t, 1, propagate_nan=propagate, keepdims=True).to(tl.f64).reshape(1, 4))
    tl.store(y, (2, 0), t.max(0, propagate_nan=propagate).to(tl.f64)[None, :])
    tl.store(z, (0, 0), tl.argmax(t, 1, propagate_nan=propagate)[None, :])
    tl.store(z, (1, 0), tl.argmin(t, 1, propagate_nan=propagate)[None, :])
    y[3, 0] = tl.max(t, propagate_nan=propagate).to(tl.f64)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("engine", ALL)
def test_tiles(engine: str, dtype: Any) -> None:
    x = X.astype(dtype)
    for propagate in (True, False):
        y, z = np.zeros((4, 4)), np.zeros((2, 4), np.int64)
        extrema.on(engine)(x, y, z, propagate)
        with np.errstate(invalid="ignore"):
            high, low = (np.max, np.min) if propagate else (np.fmax.reduce, np.fmin.reduce)
            np.testing.assert_array_equal(y[:3], [high(x, axis=1), low(x, axis=1), high(x, axis=0)])
            assert np.isnan(y[3, 0]) if propagate else y[3, 0] == np.inf
        want = [np.argmax(x, 1), np.argmin(x, 1)] if propagate else [[2, 2, 0, 0], [0, 0, 0, 2]]
        np.testing.assert_array_equal(z, want)


@pytest.mark.parametrize("engine", ["cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_fused(engine: str) -> None:
    @tl.fuse
    def largest(x, axis: int = 1):
        return tl.max(x, axis, propagate_nan=True), tl.min(x, axis, keepdims=True, propagate_nan=True)

    for axis in (0, 1):
        high, low = largest.on(engine)(X, axis)
        np.testing.assert_array_equal(high, X.max(axis))
        np.testing.assert_array_equal(low, X.min(axis, keepdims=True))


@pytest.mark.parametrize("engine", ALL)
def test_integers_have_none(engine: str) -> None:
    @tl.jit
    def kernel(x: tl.i32["N"], y: tl.i32["M"]):
        tl.grid(1)
        y[0] = tl.max(tl.load(x, 0, 4), propagate_nan=True)

    y = np.zeros(1, np.int32)
    kernel.on(engine)(np.array([3, 9, -2, 1], np.int32), y)
    assert y[0] == 9
