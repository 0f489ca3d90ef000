"""A kernel with assertions; pytest rewrites those of test files."""

from __future__ import annotations

import tilus as tl


@tl.jit
def bounded(x: tl.f32["N"], y: tl.f32["N"], plain: bool = True) -> None:
    i = tl.grid(4)
    tile = tl.load(x, i * 64, 64)
    if plain:
        assert tl.max(tile) < 100, "a value is too large"
    tl.device_assert(tl.max(tile) < 100, "a value is too large")


@tl.jit
def kinds(x: tl.f32["N"], y: tl.f32["N"], n: int = 0) -> None:
    i = tl.grid(4)
    assert n != 1, f"n is {n}"
    if n == 2:
        assert x.shape[0] > 1000
    if n == 3:
        assert tl.load(x, i * 64,
                       ()) < 100
    if n == 4:
        assert n < 4 and x.shape[0] > 4  # noqa: PT018
