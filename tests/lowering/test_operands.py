"""Operands of multiply-adds that stay where they are in shared memory."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul

ROUTES = ("simulate:sm_75:cuda", "simulate:sm_75:ptx")


@tl.jit
def both_ways(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], d: tl.f32["M", "N"],
              turned: bool = False) -> None:
    tl.block(warps=1)
    tl.grid(1)
    s = tl.shared((16, 16), tl.f32)
    tl.store(s, (0, 0), tl.load(a, (0, 0), (16, 16)))
    tl.sync()
    y = tl.load(b, (0, 0), (16, 16))
    x = tl.load(s).T if turned else tl.load(s)
    z = y + 1.0                        # between the load and the dot
    tl.store(c, (0, 0), tl.dot(x, z, tl.zeros((16, 16), tl.f32)))
    tl.store(d, (0, 0), tl.dot(z, tl.load(s), tl.zeros((16, 16), tl.f32)))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("engine", ROUTES)
def test_what_a_dot_reads_lives_to_the_dot(engine: str, turned: bool) -> None:
    """The other operand's way through shared memory must not take the bytes of the one that is there."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, (16, 16)).astype(np.float32) for _ in range(2))
    c, d = np.zeros((2, 16, 16), np.float32)
    both_ways.on(engine)(a, b, c, d, turned=turned)
    np.testing.assert_array_equal(c, (a.T if turned else a) @ (b + 1))
    np.testing.assert_array_equal(d, (b + 1) @ a)


@pytest.mark.parametrize("dtype", [tl.f32, tl.bf16])
@pytest.mark.parametrize("target", ["sm_70", "sm_75"])
def test_operands_in_place_take_no_scratch_memory(target: str, dtype: tl.DType) -> None:
    compiled = matmul.compile(target, a=dtype, b=dtype, c=dtype)
    depth = 32 if dtype is tl.bf16 else 16
    ring = 3 * (128 + 128) * depth * dtype.bits // 8
    assert ring <= compiled.metadata["shared_bytes"] <= 1.2 * ring, "the ring, and the padding that avoids conflicts"
    assert compiled.metadata["spill_stores"] == 0


@tl.jit
def large(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"], BM: int = 256, BN: int = 256, BK: int = 32):
    tl.block(warps=16)
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK, stages=3):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


@pytest.mark.filterwarnings("ignore::tilus.TilusWarning")
@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_results_leave_in_the_memory_of_the_ring(via: str) -> None:
    """The tile of the result alone would take 256 KB to be turned into rows."""
    assert large.compile("sm_80", via).metadata["shared_bytes"] == 3 * 2 * 256 * 32 * 2
    rng = np.random.default_rng(0)
    a, b = rng.integers(-3, 4, (300, 40)).astype("f2"), rng.integers(-3, 4, (40, 270)).astype("f2")
    c = np.full((300, 270), np.nan, "f4")
    large.on(f"simulate:sm_80:{via}")(a, b, c)
    np.testing.assert_array_equal(c, a.astype("f8") @ b)
