"""Loads of one loop whose tiles are ahead by different numbers of iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

DEPTHS = [(2, 3), (3, 2), (4, 2), (2, 5), (1, 3), (3, 1), (1, 1), (0, 4)]


@tl.jit
def product(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"], of_a: int = 0, of_b: int = 0,
            stages: int = 3, scale: bool = True, BM: int = 32, BN: int = 32, BK: int = 16) -> None:
    M, K = a.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(b.shape[1], BN))
    tl.block(warps=2)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        x = tl.load(a, (i * BM, k), (BM, BK), stages=of_a)
        y = tl.load(b, (k, j * BN), (BK, BN), stages=of_b)
        acc = tl.dot(x, y, acc * 0.5 if scale else acc)
    tl.store(c, (i * BM, j * BN), acc)


def expected(a: Any, b: Any, scale: bool, BK: int = 16) -> Any:
    out = np.zeros((a.shape[0], b.shape[1]))
    for k in range(0, a.shape[1], BK):
        out = out * (0.5 if scale else 1) + a[:, k : k + BK].astype("f8") @ b[k : k + BK].astype("f8")
    return out


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("depths", "engine"), [*((d, "simulate:sm_80:ptx") for d in DEPTHS),
                                                *((DEPTHS[0], e) for e in ("simulate:sm_90a:cuda", "simulate:sm_75:ptx",
                                                                           "interpret", "cpu"))], ids=str)
def test_values(depths: tuple[int, int], engine: str) -> None:
    """Of no, few and many iterations, with loops that are nothing but dots and others."""
    for shape in ((33, 40, 0), (32, 32, 16), (20, 33, 75), (32, 31, 170))[0 if engine == "cpu" else 1 :]:
        m, n, k = shape
        rng = np.random.default_rng(k)
        a, b = (rng.standard_normal(s).astype("f2") for s in ((m, k), (k, n)))
        c = np.ones((m, n), "f4")
        for scale in (False, True):
            product.on(engine)(a, b, c, *depths, scale=scale)
            np.testing.assert_allclose(c, expected(a, b, scale), rtol=1e-4, atol=1e-4 * max(1, k) ** 0.5)


@tl.jit
def gathered(x: tl.f32["M", "N"], index: tl.i32["R"], y: tl.f32["N"], BR: int = 8, BN: int = 64) -> None:
    """Sums of rows that indices name, those being further ahead."""
    tl.grid(1)
    tl.block(warps=2)
    total = tl.zeros((BN,), tl.f32)
    for r in tl.range(0, index.shape[0], BR, stages=2):
        row = tl.load(index, r, BR)
        mask = (r + tl.arange(BR) < index.shape[0])[:, None] & (tl.arange(BN) >= 0)[None, :]
        total += tl.sum(tl.gather(x, (row[:, None], tl.arange(BN)[None, :]), mask=mask, stages=4), axis=0)
    tl.store(y, 0, total)


@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_80:cuda", "cpu"])
@pytest.mark.parametrize("count", [0, 3, 8, 50])
def test_gathers(count: int, engine: str) -> None:
    rng = np.random.default_rng(0)
    x, index, y = rng.integers(-9, 9, (20, 64)).astype("f4"), rng.integers(0, 20, count).astype("i4"), np.ones(64, "f4")
    gathered.on(engine)(x, index, y)
    np.testing.assert_array_equal(y, x[index].sum(0))


@pytest.mark.parametrize(("depths", "tiles"), [((0, 0), 6), ((2, 3), 5), ((4, 2), 6), ((1, 3), 3)])
def test_memory(depths: tuple[int, int], tiles: int) -> None:
    """So many tiles of 1 KiB, and nothing else, in shared memory; a load that is not ahead has one."""
    shared = product.compile(target="sm_80", of_a=depths[0], of_b=depths[1]).resources()["shared"]
    assert int(shared.replace(",", "").removesuffix(" B")) // 1024 == tiles + depths.count(1)


def test_wrong_numbers() -> None:
    with pytest.raises(tl.UserError, match="stages"):
        product.compile(target="sm_80", of_a=-1)
