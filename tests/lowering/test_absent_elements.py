"""What elements of codebooks out of bounds, or masked off, read as: the number 0, which another code than 0 may be."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")


@tl.jit
def loads(w: tl.nf4["N"], beyond: tl.f32["M"], masked: tl.f32["M"], gathered: tl.f32["M"], one: tl.f32["K"]):
    tl.grid(1)
    at = tl.arange(32)
    tl.store(beyond, 0, tl.load(w, 16, 32).to(tl.f32))
    tl.store(masked, 0, tl.load(w, 0, 32, mask=at % 2 == 0).to(tl.f32))
    tl.store(gathered, 0, tl.gather(w, (at + 16,), mask=at % 2 == 0).to(tl.f32))
    one[0] = w[99].to(tl.f32)


@pytest.mark.parametrize("engine", ENGINES)
def test_absent_elements_are_zero(engine: str) -> None:
    value = tl.nf4.values[14]
    w = tl.pack(np.full(20, value), tl.nf4)
    beyond, masked, gathered = (np.full(32, -1, np.float32) for _ in range(3))
    one = np.full(1, -1, np.float32)
    loads.on(engine)(w, beyond, masked, gathered, one)
    n = np.arange(32)
    np.testing.assert_array_equal(beyond, np.where(n < 4, np.float32(value), 0))
    np.testing.assert_array_equal(masked, np.where((n < 20) & (n % 2 == 0), np.float32(value), 0))
    np.testing.assert_array_equal(gathered, np.where((n < 4) & (n % 2 == 0), np.float32(value), 0))
    assert one[0] == 0
