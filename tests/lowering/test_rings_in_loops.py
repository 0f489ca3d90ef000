"""Staged loops within a loop: their rings lie in the same memory, one after another."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl


@tl.jit
def two_products(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"], both: bool = True) -> None:
    """Sums over two halves of K and over rows of tiles of c, with a loop around."""
    tl.block(warps=1)
    tl.grid(1)
    K = a.shape[1]
    for i in tl.range(0, a.shape[0], 16):
        acc = tl.zeros((16, 16), tl.f32)
        for k in tl.range(0, K // 2, 32, stages=3):
            acc = tl.dot(tl.load(a, (i, k), (16, 32)), tl.load(b, (k, 0), (32, 16)), acc)
        if both:
            for k in tl.range(K // 2, K, 32, stages=3):
                acc = tl.dot(tl.load(a, (i, k), (16, 32)), tl.load(b, (k, 0), (32, 16)), acc)
        tl.store(c, (i, 0), acc)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_they_share_memory(via: str) -> None:
    one, two = (two_products.compile("sm_80", via, both=both) for both in (False, True))
    assert one.metadata["shared_bytes"] == two.metadata["shared_bytes"] > 0
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (48, 256)).astype("f2"), rng.integers(-4, 5, (256, 16)).astype("f2")
    c = np.full((48, 16), np.nan, "f4")
    two_products.on(f"simulate:sm_80:{via}")(a, b, c)
    np.testing.assert_array_equal(c, a.astype("f8") @ b)
