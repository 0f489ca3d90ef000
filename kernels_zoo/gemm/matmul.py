"""c = a @ b, accumulated in f32."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide

SHAPES = [(0, 5, 3), (3, 5, 0), (1, 1, 1), (127, 129, 33), (128, 128, 64), (257, 131, 67), (512, 512, 512)]


@tl.jit
def matmul(a: tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"],
           b: tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f32["K", "N"],
           c: tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"],
           BM: int = 128, BN: int = 128, BK: int = 0, stages: int = 3, warps: int = 4) -> None:
    M, K = a.shape
    _, N = b.shape
    BK = BK or (32 if a.dtype.bits <= 16 else 16)                  # as many bytes of shared memory for all types
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        x = tl.load(a, (i * BM, k), (BM, BK))
        y = tl.load(b, (k, j * BN), (BK, BN))
        acc = tl.dot(x, y, acc)
    tl.store(c, (i * BM, j * BN), acc.to(c.dtype))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    a, b, c = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype), empty((m, n), dtype)
    return Case((a, b, c), (c,), (wide(a) @ wide(b),), depth=k)


def main() -> None:
    report(matmul, SHAPES, case)


if __name__ == "__main__":
    main()
