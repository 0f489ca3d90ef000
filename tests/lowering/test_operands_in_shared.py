"""Operands that a loop does not change, where registers do not hold them beside the loop's tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.ir.ops import AllocShared
from tilus.lowering.pipelines import GPU_TILE_PASSES, run_passes
from tilus.targets import get_target

ENGINES = ("simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_75:ptx", "simulate:sm_120a:ptx")


@tl.jit
def weighted(q: tl.f16["M", "D_"], k: tl.f16["N", "D_"], v: tl.f16["N", "D_"], o: tl.f32["M", "D_"], scale: tl.f32,
             BM: int = 128, BN: int = 64, D: int = 128) -> None:
    """(scale q kᵀ) v by tiles of keys. At D = 128: 128 registers of sums, 64 of scores, 64 of queries."""
    tl.block(warps=4)
    i = tl.grid(tl.cdiv(q.shape[0], BM))
    x = tl.load(q, (i * BM, 0), (BM, D))
    acc = tl.zeros((BM, D), tl.f32)
    for j in tl.range(0, k.shape[0], BN, stages=2):
        s = tl.dot(x, tl.load(k, (j, 0), (BN, D)).T) * scale
        acc = tl.dot(s.to(tl.f16), tl.load(v, (j, 0), (BN, D)), acc)
    tl.store(o, (i * BM, 0), acc)


@tl.jit
def both_ways(a: tl.f16["K_", "M"], b: tl.f16["N", "K_"], c: tl.f32["L", "M"], K: int = 128) -> None:
    """Products with a tile that is used as it is and as its transpose, in two loops."""
    tl.block(warps=4)
    tl.grid(1)
    x = tl.load(a, (0, 0), (K, K))
    acc, other = tl.zeros((K, K), tl.f32), tl.zeros((K, K), tl.f32)
    for j in tl.range(0, b.shape[0], K, stages=2):
        y = tl.load(b, (j, 0), (K, K))
        acc = tl.dot(tl.dot(y, x).to(tl.f16), x.T, acc)
    for j in tl.range(0, b.shape[0], K, stages=2):
        y = tl.load(b, (j, 0), (K, K))
        other = tl.dot(tl.dot(x.T, y.T).to(tl.f16), y, other)
    tl.store(c, (0, 0), acc)
    tl.store(c, (K, 0), other)


def allocations(kernel: Any, **constants: int) -> list[tuple[int, ...]]:
    """The shapes of what is in shared memory."""
    module = kernel.assume("divisible", constants).trace(get_target("sm_80"))
    module.target = "sm_80"
    run_passes(module, GPU_TILE_PASSES, verify=True)
    return [op.shape for op in module.kernels[0].walk() if isinstance(op, AllocShared)]


def test_only_what_does_not_fit() -> None:
    ring = [(2, 64, 128)] * 2
    assert sorted(allocations(weighted)) == [*ring, (128, 128)]
    assert sorted(allocations(weighted, BM=64)) == ring
    assert allocations(both_ways).count((128, 128)) == 1


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_no_spills(via: str) -> None:
    compiled = weighted.compile("sm_80", via)
    assert compiled.metadata["spill_stores"] == 0


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rows", [150, 256])
def test_values(engine: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(-2, 3, (n, 128)).astype("f2") for n in (rows, 70, 70))
    o = np.full((rows, 128), np.nan, "f4")
    weighted.on(engine)(q, k, v, o, 0.25, **({"BM": 64} if "sm_75" in engine else {}))
    scores = (q.astype("f4") @ k.astype("f4").T * 0.25).astype("f2")
    np.testing.assert_array_equal(o, scores.astype("f8") @ v)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES[:2])
def test_a_tile_and_its_transpose(engine: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-1, 2, (128, 128)).astype("f2") for _ in range(2))
    c = np.full((256, 128), np.nan, "f4")
    both_ways.on(engine)(a, b, c)
    x, y = a.astype("f8"), b.astype("f8")
    np.testing.assert_array_equal(c, np.concatenate([y @ x @ x.T, x.T @ y.T @ y]))
