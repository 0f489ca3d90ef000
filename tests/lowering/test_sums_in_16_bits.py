"""Sums and products of 16-bit floats in f32 that are rounded to their type: the same bits in fewer instructions."""

import operator
from typing import Any

import numpy as np
import pytest

import tilus as tl


def combined(kind: str, dtype: tl.DType) -> Any:
    function = getattr(operator, kind)

    @tl.jit
    def combine(x: dtype["N"], y: dtype["N"], z: dtype["N"], B: int = 1024):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        a, b = (tl.load(v, i * B, B).to(tl.f32) for v in (x, y))
        tl.store(z, i * B, function(a, b).to(dtype))

    return combine


@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_90a:cuda", "simulate:sm_75:ptx"])
@pytest.mark.parametrize(("kind", "dtype"), [("add", tl.f16), ("sub", tl.f16), ("mul", tl.f16), ("add", tl.bf16),
                                             ("sub", tl.bf16), ("mul", tl.bf16)])
def test_bits(kind: str, dtype: tl.DType, engine: str) -> None:
    """Of numbers of all magnitudes, infinities and NaNs, and of pairs that are close to each other."""
    x, y = np.random.default_rng(0).integers(0, 1 << 16, (2, 8192), np.uint16)
    y[:4096] = x[:4096] ^ np.random.default_rng(1).integers(0, 1 << 5, 4096, np.uint16) ^ 0x8000
    x, y = x.view(dtype.numpy), y.view(dtype.numpy)
    expected, found = np.zeros_like(x), np.zeros_like(x)
    kernel = combined(kind, dtype)
    kernel.on("interpret")(x, y, expected)
    kernel.on(engine)(x, y, found)
    number = ~np.isnan(expected.astype("f4"))
    np.testing.assert_array_equal(found.view("u2")[number], expected.view("u2")[number])
    assert np.isnan(found.astype("f4")[~number]).all()


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_pairs_are_added_at_once(via: str) -> None:
    sass = combined("add", tl.f16).compile("sm_80", via).sass()
    assert "HADD2" in sass
    assert not any(conversion in sass for conversion in ("F2F", "F2FP", "HADD2.F32"))
