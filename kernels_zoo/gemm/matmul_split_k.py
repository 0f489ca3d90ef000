"""c = a @ b with the sum over k shared out among blocks, which add up one after another under a semaphore."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, report
from kernels_zoo.gemm import matmul as automatic

SHAPES = [(0, 5, 3), (3, 5, 0), (1, 1, 1), (65, 63, 1000), (64, 64, 4096), (17, 33, 2053)]


@tl.jit
def matmul_split_k(a: tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"],
                   b: tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f32["K", "N"],
                   c: tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"], splits: tl.i32 = 4,
                   BM: int = 64, BN: int = 64, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    M, K = a.shape
    _, N = b.shape
    tl.block(warps=warps)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    i, j, s = tl.grid(rows, columns, splits)
    partial = tl.workspace((M, N), tl.f32)
    turn = tl.workspace((rows, columns), tl.i32, zero=True)

    per_split = tl.cdiv(tl.cdiv(K, BK), splits) * BK
    first = s * per_split
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(first, tl.minimum(first + per_split, K), BK, stages=stages):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)

    at = (i * BM, j * BN)
    tl.acquire(turn, (i, j), s)
    if s > 0:
        acc += tl.load(partial, at, (BM, BN))
    if s == splits - 1:
        tl.store(c, at, acc.to(c.dtype))
    else:
        tl.store(partial, at, acc)
    tl.release(turn, (i, j), s + 1)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    return automatic.case(shape, dtype, seed)


def main() -> None:
    report(matmul_split_k, SHAPES, case)


if __name__ == "__main__":
    main()
