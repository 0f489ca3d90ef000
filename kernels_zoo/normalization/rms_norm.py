"""y = x / √(mean(x²) + ε) · weight over the last dimension, in f32 (Zhang and Sennrich, 2019).

Rows of any length are read twice; with ``fits`` they are at most ``BN`` long, and are read once.
"""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, one_tile, report, wide

SHAPES = [(0, 3), (1, 1), (7, 1023), (8, 1024), (9, 1025), (3, 5003)]


@tl.jit
def rms_norm(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"],
             weight: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"],
             y: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"], eps: tl.f32 = 1e-6,
             BM: int = 1, BN: int = 1024, fits: bool = False) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    inverse = tl.rcp(N.to(tl.f32), approximate=True)

    def finish(part: tl.Tile, squares: tl.Tile, j: int | tl.Tile) -> None:
        scale = tl.rsqrt(tl.sum(squares, axis=1, keepdims=True) * inverse + eps, approximate=True)
        tl.store(y, (i, j), (part * scale * tl.load(weight, j, BN).to(tl.f32)).to(y.dtype))

    if fits:
        assert N <= BN, "a row is longer than BN"
        row = tl.load(x, (i, 0), (BM, BN)).to(tl.f32)
        finish(row, row * row, 0)
        return
    squares = tl.zeros((BM, BN), tl.f32)
    for j in tl.range(0, N, BN):
        part = tl.load(x, (i, j), (BM, BN)).to(tl.f32)
        squares += part * part
    for j in tl.range(0, N, BN):
        finish(tl.load(x, (i, j), (BM, BN)).to(tl.f32), squares, j)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0, fits: bool = False) -> Case:
    import numpy as np

    rng = np.random.default_rng(seed)
    x, w, y = normal(rng, shape, dtype), normal(rng, shape[1:], dtype), empty(shape, dtype)
    scale = 1 / np.sqrt((wide(x) ** 2).mean(axis=1, keepdims=True) + 1e-6)
    return Case((x, w, y), (y,), (wide(x) * scale * wide(w),), one_tile(shape[1]) if fits else {})


def main() -> None:
    report(rms_norm, SHAPES, case)


if __name__ == "__main__":
    main()
