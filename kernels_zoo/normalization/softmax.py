"""y[m, :] = exp(x[m, :] − max) / Σ, row by row.

Rows of any length are read twice, the maximum and the sum being kept online (Milakov and Gimelshein, 2018); with
``fits`` they are at most ``BN`` long, and are read once.
"""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, one_tile, report, wide

SHAPES = [(0, 3), (1, 1), (7, 1023), (8, 1024), (9, 1025), (3, 5003)]


@tl.jit
def softmax(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"],
            y: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"], BM: int = 1, BN: int = 1024,
            fits: bool = False) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    if fits:
        assert N <= BN, "a row is longer than BN"
        row = tl.load(x, (i, 0), (BM, BN), other=-float("inf")).to(tl.f32)
        e = tl.exp(row - tl.max(row, axis=1, keepdims=True), approximate=True)
        scale = tl.rcp(tl.sum(e, axis=1, keepdims=True), approximate=True)
        tl.store(y, (i, 0), (e * scale).to(y.dtype))
        return
    top = tl.full((BM, 1), -float("inf"), tl.f32)
    total = tl.zeros((BM, 1), tl.f32)
    for j in tl.range(0, N, BN):
        part = tl.load(x, (i, j), (BM, BN), other=-float("inf")).to(tl.f32)
        higher = tl.maximum(top, tl.max(part, axis=1, keepdims=True))
        e = tl.exp(part - higher, approximate=True)
        total = total * tl.exp(top - higher, approximate=True) + tl.sum(e, axis=1, keepdims=True)
        top = higher
    scale = tl.rcp(total, approximate=True)
    for j in tl.range(0, N, BN):
        part = tl.load(x, (i, j), (BM, BN)).to(tl.f32)
        tl.store(y, (i, j), (tl.exp(part - top, approximate=True) * scale).to(y.dtype))


def reference(x: Array) -> Array:
    import numpy as np

    if x.size == 0:
        return x
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0, fits: bool = False) -> Case:
    import numpy as np

    x, y = normal(np.random.default_rng(seed), shape, dtype), empty(shape, dtype)
    return Case((x, y), (y,), (reference(wide(x)),), one_tile(shape[1]) if fits else {})


def main() -> None:
    report(softmax, SHAPES, case)


if __name__ == "__main__":
    main()
