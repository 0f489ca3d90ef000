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
