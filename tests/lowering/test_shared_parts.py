"""Parts of a block in shared memory, walked through by a loop: read as a whole tile of it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tilus as tl


@tl.jit
def products(a: tl.f16["M", "D"], b: tl.f16["N", "D"], c: tl.f32["M", "N"], block: int = 128, BN: int = 32,
             D: int = 64) -> None:
    """A block of b is in shared memory, of which BN rows at a time are multiplied."""
    M, N = c.shape
    i = tl.grid(tl.cdiv(M, 64))
    x, rows = tl.load(a, (i * 64, 0), (64, D)), tl.shared((block, D), tl.f16)
    for j in tl.range(0, N, block):
        tl.sync()
        tl.store(rows, (0, 0), tl.load(b, (j, 0), (block, D)))
        tl.sync()
        for n in tl.range(0, tl.minimum(block, N - j), BN):
            tl.store(c, (i * 64, j + n), tl.dot(x, tl.load(rows, (n, 0), (BN, D)).T))


ENGINES = ["interpret", "cpu", "simulate:sm_70:ptx", "simulate:sm_70:cuda", "simulate:sm_80:ptx", "simulate:sm_80:cuda"]


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("block", "BN"), [(128, 32), (96, 24), (20, 4)], ids=str)
def test_products(block: int, BN: int, engine: str) -> None:
    """Parts that begin at multiples of the swizzle's period, and others."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, (n, 64)).astype("f2") for n in (70, 203))
    c = np.full((70, 203), np.nan, "f4")
    products.on(engine)(a, b, c, block=block, BN=BN)
    np.testing.assert_array_equal(c, a.astype("f4") @ b.T.astype("f4"))


def test_parts_are_read_in_vectors_without_checks() -> None:
    """On Volta in 128 bits, elsewhere by ldmatrix."""
    ptx = products.compile("sm_70").ptx
    assert "ld.shared.b16" not in ptx
    assert not re.search(r"@%p\d+ ld\.shared", ptx)
    assert "ldmatrix.sync.aligned.m8n8.x4" in products.compile("sm_80").ptx


@tl.jit
def window(x: tl.i32["N"], stop: tl.i32, step: int = 8) -> None:
    tl.grid(1)
    for n in tl.range(0, tl.minimum(stop, 61), step):
        tl.store(x, (n,), tl.arange(64).to(tl.i32) + n.to(tl.i32))
    for n in tl.range(64, tl.maximum(stop, -13), -step):
        tl.store(x, (n,), tl.arange(64).to(tl.i32) - n.to(tl.i32))


def test_the_last_index_of_a_loop() -> None:
    """It is the last multiple of what divides the start and the step."""
    from tilus.ir.ops import For
    from tilus.lowering.facts import Facts
    from tilus.targets import get_target

    for step, greatest, least in ((8, 56, -8), (1, 60, -12), (6, 60, -12)):
        function = window.assume("contiguous", {"step": step}).trace(get_target("sm_80")).kernels[0]
        facts = Facts(function)
        up, down = (facts.of(op.index) for op in function.walk() if isinstance(op, For))
        assert (up.low, up.high, down.low, down.high) == (0, greatest, least, 64)
