"""What is done with the two bf16 of a word."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl


@tl.jit
def double(x: tl.bf16["N"], y: tl.f32["N"], B: int = 256) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.store(y, i * B, 2.0 * tl.load(x, i * B, B).to(tl.f32))


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90a"])
def test_wider_ones_are_parts_of_the_word(target: str) -> None:
    """A shift or a mask each: nothing takes the word apart into registers of 16 bits."""
    ptx = double.compile(target, "ptx").ptx
    assert ptx.count("0xffff0000") + ptx.count("-65536") == 1
    assert "cvt.u32.u16" not in ptx


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_they_have_the_values_of_both(via: str) -> None:
    x = np.arange(-300.0, 301.0).astype(tl.bf16.numpy)
    y = np.zeros(len(x), np.float32)
    double.on(f"simulate:sm_80:{via}")(x, y)
    np.testing.assert_array_equal(y, 2 * x.astype(np.float32))
