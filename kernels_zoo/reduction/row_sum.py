"""y[m] = Σₙ x[m, n], accumulated in f32."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide

SHAPES = [(0, 7), (3, 0), (1, 1), (17, 511), (16, 512), (5, 513), (31, 4099)]


@tl.jit
def row_sum(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"], y: tl.f32["M"],
            BM: int = 4, BN: int = 512) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    total = tl.zeros((BM, BN), tl.f32)
    for j in tl.range(0, N, BN):
        total += tl.load(x, (i, j), (BM, BN))
    tl.store(y, i, tl.sum(total, axis=1))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    import numpy as np

    x = np.abs(normal(np.random.default_rng(seed), shape, dtype))
    y = empty(shape[:1], tl.f32)
    return Case((x, y), (y,), (wide(x).sum(axis=1),), depth=shape[1])


def main() -> None:
    report(row_sum, SHAPES, case)


if __name__ == "__main__":
    main()
