"""Tiles from outside of thread groups are in them what they are outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("simulate:sm_80:ptx", "simulate:sm_90a:cuda", "simulate:sm_75:ptx", "interpret", "cpu")


@tl.jit
def taken(x: tl.f32["N"], y: tl.f32["K", "N"], n: tl.i32, B: int = 100) -> None:
    """Loaded, computed and made of numbers before; an index that the group makes again."""
    tl.grid(1)
    tl.block(warps=8)
    tile, index = tl.load(x, 0, B), tl.arange(B)
    large, doubled = tile > n.to(tl.f32), tile * 2.0
    tl.store(y[0, :], 0, tile + index.to(tl.f32))
    with tl.group(6, 2):
        tl.store(y[1, :], 0, doubled + 1.0)
        tl.store(y[2, :], 0, tl.gather(x, ((tl.arange(B) * 7) % B,)))
    with tl.group(0, 1):
        tl.store(y[3, :], 0, tl.where(large, doubled, index.to(tl.f32)))


@pytest.mark.parametrize("engine", ENGINES)
def test_tiles(engine: str) -> None:
    x, y, i = np.random.default_rng(0).permutation(100).astype("f4"), np.zeros((4, 100), "f4"), np.arange(100)
    taken.on(engine)(x, y, 50)
    expected = [x + i, 2 * x + 1, x[i * 7 % 100], np.where(x > 50, 2 * x, i)]
    np.testing.assert_array_equal(y, np.stack(expected).astype("f4"))


@tl.jit
def products(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["T", "M", "2*N"], BM: int = 32, BN: int = 32,
             BK: int = 32) -> None:
    """One group multiplies what all have loaded, in a loop; another one copies."""
    tl.grid(1)
    tl.block(warps=4)
    for t in tl.range(0, c.shape[0]):
        x = tl.load(a, (0, t * BK), (BM, BK))
        y = tl.load(b, (t * BK, 0), (BK, BN))
        with tl.group(0, 2):
            tl.store(c[t, :, :], (0, 0), tl.dot(x, y))
        with tl.group(2, 2):
            if t > 0:
                tl.store(c[t - 1, :, :], (0, 32), x.to(tl.f32))


@pytest.mark.parametrize("engine", ENGINES)
def test_loops(engine: str) -> None:
    """What a group reads is not overwritten by the next iteration: no check of the simulator fires."""
    rng: Any = np.random.default_rng(1)
    a, b = (rng.integers(-4, 5, s).astype("f2") for s in ((32, 96), (96, 32)))
    c = np.zeros((3, 32, 64), "f4")
    products.on(engine)(a, b, c)
    for t in range(3):
        part = slice(32 * t, 32 * t + 32)
        np.testing.assert_array_equal(c[t, :, :32], a[:, part].astype("f4") @ b[part].astype("f4"))
        np.testing.assert_array_equal(c[t, :, 32:], a[:, 32 * (t + 1) : 32 * (t + 2)] if t < 2 else 0)
