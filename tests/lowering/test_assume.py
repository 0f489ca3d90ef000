"""What tl.assume promises is used: wider accesses, fewer comparisons; and only where it holds."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
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
