"""c[n] = a[n] @ b[n] for every n of a batch."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide

SHAPES = [(0, 3, 4, 5), (1, 1, 1, 1), (3, 63, 65, 31), (2, 64, 64, 64), (5, 37, 101, 0), (4, 130, 70, 99)]


@tl.jit
def batched_matmul(a: tl.f16["B", "M", "K"] | tl.bf16["B", "M", "K"] | tl.f32["B", "M", "K"],
                   b: tl.f16["B", "K", "N"] | tl.bf16["B", "K", "N"] | tl.f32["B", "K", "N"],
                   c: tl.f16["B", "M", "N"] | tl.bf16["B", "M", "N"] | tl.f32["B", "M", "N"],
                   BM: int = 64, BN: int = 64, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    B, M, K = a.shape
    N = b.shape[2]
    tl.block(warps=warps)
    i, j, n = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN), B)
    left, right, out = a[n, :, :], b[n, :, :], c[n, :, :]
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        acc = tl.dot(tl.load(left, (i * BM, k), (BM, BK)), tl.load(right, (k, j * BN), (BK, BN)), acc)
    tl.store(out, (i * BM, j * BN), acc.to(c.dtype))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """``shape`` is (B, M, N, K)."""
    import numpy as np

    batch, m, n, k = shape
    rng = np.random.default_rng(seed)
    a, b, c = normal(rng, (batch, m, k), dtype), normal(rng, (batch, k, n), dtype), empty((batch, m, n), dtype)
    return Case((a, b, c), (c,), (wide(a) @ wide(b),), depth=k)


def main() -> None:
    report(batched_matmul, SHAPES, case)


if __name__ == "__main__":
    main()
