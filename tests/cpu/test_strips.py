"""Blocks that reduce columns read strips of arrays together: results are those of double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import trace
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu import lower_module
from tilus.lowering.cpu.values import Machine
from tilus.lowering.cpu.wide_blocks import strip_bytes, take_together

Array = Any


@tl.jit
def moments(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.i32["M", "N"], w: tl.f32["M"], total: tl.f32["N"],
            weighted: tl.f32["N"], most: tl.f32["N"], BM: int = 16, BN: int = 64) -> None:
    j = tl.grid(tl.cdiv(x.shape[1], BN)) * BN
    a, b, top = tl.zeros((BN,), tl.f32), tl.zeros((BN,), tl.f32), tl.full((BN,), -float("inf"), tl.f32)
    for i in tl.range(0, x.shape[0], BM):
        tile = tl.load(x, (i, j), (BM, BN)).to(tl.f32)
        inside = (i + tl.arange(BM) < x.shape[0])[:, None]
        a += tl.sum(tile, axis=0)
        b += tl.sum(tile * tl.load(w, i, BM)[:, None], axis=0)
        top = tl.maximum(top, tl.max(tl.where(inside, tile, -float("inf")), axis=0))
    tl.store(total, j, a)
    tl.store(weighted, j, b)
    tl.store(most, j, top)


def check(x: Array, **tiles: int) -> None:
    rows, columns = x.shape
    w = np.random.default_rng(1).uniform(0.5, 1, rows).astype("f")
    found = [np.full(columns, np.nan, "f") for _ in range(3)]
    moments(x, w, *found, **tiles)
    wide = x.astype("d")
    np.testing.assert_allclose(found[0], wide.sum(0), rtol=1e-5)
    np.testing.assert_allclose(found[1], w.astype("d") @ wide, rtol=1e-5)
    np.testing.assert_array_equal(found[2], wide.max(0))


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("dtype", ["f4", "f2", "i4"])
@pytest.mark.parametrize("shape", [(1, 64), (33, 1023), (16, 1024), (17, 1025), (40, 2100)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_columns(shape: tuple[int, int], dtype: str, order: Any, threads: int) -> None:
    x = np.random.default_rng(0).uniform(1, 9, shape).astype(dtype)
    check(np.asarray(x, order=order))
    check(np.pad(x, ((0, 0), (3, 2)))[:, 3:-2][::-1])


def column_sum(x: tl.f32["M", "N"], y: tl.f32["N"], BM: int = 16, BN: int = 64):
    j = tl.grid(tl.cdiv(x.shape[1], BN)) * BN
    total = tl.zeros((BN,), tl.f32)
    for i in tl.range(0, x.shape[0], BM):
        total += tl.sum(tl.load(x, (i, j), (BM, BN)), axis=0)
    tl.store(y, j, total)


@pytest.mark.parametrize(("BM", "BN", "blocks"), [(16, 64, 8), (16, 128, 4), (16, 512, 1), (512, 64, 1)])
def test_pieces_become_long(BM: int, BN: int, blocks: int) -> None:
    """Those of rows, but neither where they are long as they are, nor where tiles would leave the caches."""
    module, _ = trace(column_sum, {"x": np.ones((20, 500), "f"), "y": np.zeros(500, "f"), "BM": BM, "BN": BN})
    second = take_together(module.kernels[0])
    assert (second.blocks if second else 1) == blocks
    longer = take_together(module.kernels[0], strip_bytes(Machine(streams=8)))
    assert (longer.blocks if longer else 1) == (2 * blocks if BM < 64 else 1)


def test_long_pieces_are_not_asked_for() -> None:
    """Where the processor does as well by itself, which it does not where pieces are short."""
    for columns, asks in ((64, True), (1024, False)):
        given = {"x": np.ones((20, 500), "f"), "y": np.zeros(500, "f"), "BM": 16, "BN": columns}
        module, _ = trace(column_sum, given)
        functions = {f.name: f for f in lower_module(module, Machine(streams=8)).functions}
        assert any(isinstance(op, Prefetch) for op in functions["block_column_sum"].walk()) == asks


@tl.jit
def attracted(p: tl.f32["N", 3], f: tl.f32["N"], B: int = 64) -> None:
    """Every block reads the same rows, all of them."""
    i = tl.grid(tl.cdiv(p.shape[0], B)) * B
    x, total = tl.load(p[:, 0], i, B), tl.zeros((B,), tl.f32)
    for k in tl.range(0, p.shape[0], B):
        d = tl.load(p[:, 0], k, B)[None, :] - x[:, None]
        total += tl.sum(tl.load(p[:, 1], k, B)[None, :] / (d * d + 1.0), axis=1)
    tl.store(f, i, total)


@pytest.mark.parametrize("n", [1, 64, 200])
def test_blocks_that_read_the_same(n: int) -> None:
    p = np.random.default_rng(0).uniform(0, 2, (n, 3)).astype("f")
    f = np.empty(n, "f")
    attracted(p, f)
    x, m = p[:, 0].astype("d"), p[:, 1].astype("d")
    np.testing.assert_allclose(f, (m / ((x - x[:, None]) ** 2 + 1)).sum(1), rtol=1e-5)
