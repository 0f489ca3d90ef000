"""y = xᵀ, tile by tile."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide

SHAPES = [(0, 5), (1, 1), (63, 65), (64, 64), (127, 1), (331, 257)]


@tl.jit
def transpose(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"],
              y: tl.f32["N", "M"] | tl.f16["N", "M"] | tl.bf16["N", "M"], BM: int = 64, BN: int = 64) -> None:
    M, N = x.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    tile = tl.load(x, (i * BM, j * BN), (BM, BN))
    tl.store(y, (j * BN, i * BM), tile.T)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    import numpy as np

    x = normal(np.random.default_rng(seed), shape, dtype)
    y = empty(shape[::-1], dtype)
    return Case((x, y), (y,), (wide(x).T,))


def main() -> None:
    report(transpose, SHAPES, case)


if __name__ == "__main__":
    main()
