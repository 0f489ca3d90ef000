"""Loads under masks in staged loops: copied ahead like others, zeros where the mask does not hold."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tilus.runtime.nvidia.build import ROUTES

TYPES = {tl.f16: np.float16, tl.bf16: ml_dtypes.bfloat16, tl.f32: np.float32}
ENGINES = ("cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_75:ptx", "simulate:sm_90a:cuda")


@tl.jit
def masked(a: dtype["M", "K"], b: dtype["K", "N"], c: tl.f32["M", "N"], keep: tl.i32["M"], count: tl.i32,
           kind: str = "rows", dtype: tl.DType = tl.f16, BM: int = 32, BN: int = 32, BK: int = 32,
           stages: int = 3) -> None:
    """Rows below ``count``, k below it, both, those that an array names, or the triangle above the diagonal."""
    M, K = a.shape
    _, N = b.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    rows, columns = (i * BM + tl.arange(BM))[:, None], tl.arange(BK)[None, :]
    kept = (tl.load(keep, i * BM, BM) != 0)[:, None]
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        below = tl.broadcast_to(rows < count, (BM, BK))
        if kind == "depth":
            below = tl.broadcast_to(k + columns < count, (BM, BK))
        elif kind == "both":
            below = (rows < count) & (k + columns < K)
        elif kind == "array":
            below = tl.broadcast_to(kept, (BM, BK))
        elif kind == "triangle":
            below = k + columns >= rows
        x = tl.load(a, (i * BM, k), (BM, BK), mask=below, other=0.0 if kind != "ones" else 1.0)
        acc = tl.dot(x, tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


def expected(kind: str, a: Any, b: Any, keep: Any, count: int) -> Any:
    m, k = np.indices(a.shape)
    below = {"depth": k < count, "array": keep[m] != 0, "triangle": k >= m}.get(kind, m < count)
    return np.where(below, a.astype("f4"), 1.0 if kind == "ones" else 0.0) @ b.astype("f4")


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("kind", "shape", "dtype"), [
    ("rows", (64, 64, 64), tl.f16), ("depth", (33, 32, 70), tl.f16), ("both", (40, 31, 72), tl.bf16),
    ("array", (64, 48, 96), tl.f16), ("triangle", (48, 64, 49), tl.f32), ("ones", (33, 32, 64), tl.f16),
])
def test_values(kind: str, shape: tuple[int, int, int], dtype: tl.DType, engine: str) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 8, s).astype(TYPES[dtype]) for s in ((m, k), (k, n)))
    keep, c = rng.integers(0, 2, m).astype(np.int32), np.zeros((m, n), np.float32)
    masked.on(engine)(a, b, c, keep, 37, kind, dtype)
    if kind == "ones":  # what lies beyond the array along k is one as well, times b's zeros there
        assert k % 32 == 0
    np.testing.assert_array_equal(c, expected(kind, a, b, keep, 37))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["rows", "both", "array"])
def test_copies(kind: str, route: str) -> None:
    """Asynchronous, 16 bytes each; what the mask asks is computed once, or once an iteration."""
    ptx = masked.compile(target="sm_80", via=route, kind=kind).ptx
    copies = [line for line in ptx.splitlines() if "cp.async.c" in line and "commit" not in line]
    assert copies
    assert all("cp.async.cg" in line for line in copies)
    assert "ld.global.nc.b16" not in ptx
    assert "ld.global.nc.u16" not in ptx


@tl.jit
def copied(x: tl.f16["M", "N"], y: tl.f16["M", "N"], count: tl.i32, M: int = 32, N: int = 64) -> None:
    tl.grid(1)
    tile = tl.shared((M, N), tl.f16)
    tl.copy_async(tile, x, (0, 0), mask=tl.arange(M)[:, None] + tl.arange(N)[None, :] < count)
    tl.commit()
    tl.wait(0)
    tl.sync()
    tl.store(y, (0, 0), tl.load(tile))


@pytest.mark.parametrize("engine", [e for e in ENGINES if "sm_75" not in e])
@pytest.mark.parametrize("count", [0, 17, 48, 200])
def test_explicit_copies(count: int, engine: str) -> None:
    x = np.arange(32 * 64, dtype=np.float16).reshape(32, 64) % 1000
    y = np.full_like(x, -1)
    copied.on(engine)(x, y, count)
    m, n = np.indices(x.shape)
    np.testing.assert_array_equal(y, np.where(m + n < count, x, 0))
