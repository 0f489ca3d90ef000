"""y = (x − mean) / √(variance + ε) · weight + bias over the last dimension, in f32 (Ba et al., 2016).

Rows of any length are read three times; with ``fits`` they are at most ``BN`` long, and are read once.
"""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, one_tile, report, wide

SHAPES = [(0, 3), (1, 1), (7, 1023), (8, 1024), (9, 1025), (3, 5003)]


@tl.jit
def layer_norm(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"],
               weight: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"], bias: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"],
               y: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"], eps: tl.f32 = 1e-5,
               BM: int = 1, BN: int = 1024, fits: bool = False) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    inverse = tl.rcp(N.to(tl.f32), approximate=True)

    def centred(part: tl.Tile, mean: tl.Tile, j: int | tl.Tile) -> tl.Tile:
        """The part less the mean, and 0 beyond the row."""
        return tl.where(j + tl.arange(BN)[None, :] < N, part - mean, 0.0)

    def finish(part: tl.Tile, squares: tl.Tile, j: int | tl.Tile) -> None:
        scale = tl.rsqrt(tl.sum(squares, axis=1, keepdims=True) * inverse + eps, approximate=True)
        w, b = tl.load(weight, j, BN).to(tl.f32), tl.load(bias, j, BN).to(tl.f32)
        tl.store(y, (i, j), (part * scale * w + b).to(y.dtype))

    if fits:
        assert N <= BN, "a row is longer than BN"
        row = tl.load(x, (i, 0), (BM, BN)).to(tl.f32)
        row = centred(row, tl.sum(row, axis=1, keepdims=True) * inverse, 0)
        finish(row, row * row, 0)
        return
    total = tl.zeros((BM, BN), tl.f32)
    for j in tl.range(0, N, BN):
        total += tl.load(x, (i, j), (BM, BN)).to(tl.f32)
    mean = tl.sum(total, axis=1, keepdims=True) * inverse
    squares = tl.zeros((BM, BN), tl.f32)
    for j in tl.range(0, N, BN):
        part = centred(tl.load(x, (i, j), (BM, BN)).to(tl.f32), mean, j)
        squares += part * part
    for j in tl.range(0, N, BN):
        finish(tl.load(x, (i, j), (BM, BN)).to(tl.f32) - mean, squares, j)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0, fits: bool = False) -> Case:
    import numpy as np

    rng = np.random.default_rng(seed)
    x, y = normal(rng, shape, dtype), empty(shape, dtype)
    w, b = normal(rng, shape[1:], dtype), normal(rng, shape[1:], dtype)
    centred = wide(x) - wide(x).mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return Case((x, w, b, y), (y,), (centred * scale * wide(w) + wide(b),), one_tile(shape[1]) if fits else {})


def main() -> None:
    report(layer_norm, SHAPES, case)


if __name__ == "__main__":
    main()
