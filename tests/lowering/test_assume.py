"""What tl.assume promises is used: wider accesses, fewer comparisons; and only where it holds."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
from tilus.ir.dtypes import u16
from tilus.ir.ops import Load
from tilus.lowering.facts import Facts
from tilus.targets import get_target

ENGINES = ("cpu", "interpret", "python", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.jit
def doubled(x: tl.f32["M", "N"], y: tl.f32["M", "N"], promise: int = 0) -> None:
    M, N = x.shape
    if promise:
        tl.assume(N % promise == 0)
    i = tl.grid(M)
    for j in tl.range(0, N, 512):
        tl.store(y, (i, j), tl.load(x, (i, j), (1, 512)) * 2.0)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("promise", "wide"), [(0, False), (3, False), (4, True), (8, True)])
def test_divisors_make_vectors(via: str, promise: int, wide: bool) -> None:
    ptx = doubled.compile("sm_80", via=via, assume="contiguous", promise=promise).ptx
    assert ptx.count(".v4") == (2 if wide else 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("promise", [0, 4])
def test_values_stay(engine: str, promise: int) -> None:
    x = np.random.default_rng(0).standard_normal((5, 1020), np.float32)
    y = np.zeros_like(x)
    doubled.on(engine)(x, y, promise=promise)
    np.testing.assert_array_equal(y, x * 2)


@tl.jit
def ranged(x: tl.i32["N"], n: tl.i32, place: str = "top") -> None:
    tl.grid(1)
    if place == "top":
        tl.assume((n >= 8) & (n < 24))
        tl.assume(n % 4 == 0)
    if place == "nested":
        if n >= 8:
            tl.assume(n >= 8)
    tl.store(x, (0,), (tl.arange(32) + n).to(tl.i32))


@pytest.mark.parametrize(("place", "low", "high", "divisor"), [
    ("top", 8, 23, 4), ("none", -2**31, 2**31 - 1, 1), ("nested", -2**31, 2**31 - 1, 1)])
def test_ranges(place: str, low: int, high: int, divisor: int) -> None:
    """Promises about a value of an outer block hold where they stand only."""
    function = ranged.assume("contiguous", {"place": place}).trace(get_target("sm_80")).kernels[0]
    fact = Facts(function).of(function.body.args[1])
    assert (fact.low, fact.high, fact.divisor) == (low, high, divisor)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_promises_remove_comparisons_and_survive_simplification(via: str) -> None:
    @tl.jit
    def guarded(x: tl.i32["N"], n: tl.i32, promise: bool = False) -> None:
        tl.grid(1)
        if promise:
            tl.assume(n < 32)
            tl.assume(n >= 0)
        for i in tl.range(4):
            if n * 4 + i < 128:
                tl.store(x, (i,), n)

    plain, promised = (guarded.compile("sm_80", via=via, assume="contiguous", promise=p).ptx for p in (False, True))
    assert promised.count("setp") < plain.count("setp")


@tl.jit
def picked(at: tl.u16["N"], x: tl.f32[64], y: tl.f32["N", 8]) -> None:
    i = tl.grid(at.shape[0])
    place = at[i].to(tl.i64)
    tl.assume(place <= 56)
    tl.store(y, (i, 0), tl.load(x, place, 8)[None, :])


def test_promises_of_numbers_that_are_loaded() -> None:
    function = picked.assume("contiguous", {}).trace(get_target("sm_80")).kernels[0]
    facts = Facts(function)
    loaded = next(op.result for op in function.walk() if isinstance(op, Load) and op.result.tile.dtype is u16)
    assert (facts.of(loaded).low, facts.of(loaded).high) == (0, 56)


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_that_are_loaded(engine: str) -> None:
    at, x = np.array([3, 56, 0], np.uint16), np.arange(64, dtype=np.float32)
    y = np.zeros((3, 8), np.float32)
    picked.on(engine)(at, x, y)
    np.testing.assert_array_equal(y, x[at.astype(int)[:, None] + np.arange(8)])
