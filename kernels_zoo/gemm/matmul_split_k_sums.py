"""c = a @ b with the sum over k shared out among blocks, whose parts a second kernel adds up.

No block waits for another, so that it also runs where blocks cannot signal each other; the parts take
``splits * M * N`` elements of f32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tilus as tl
from kernels_zoo.checking import TOLERANCES, Case, relative_error
from kernels_zoo.gemm import matmul as automatic
from kernels_zoo.gemm.matmul_split_k import SHAPES

if TYPE_CHECKING:
    from kernels_zoo.checking import Array


@tl.jit
def matmul_parts(a: tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"],
                 b: tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f32["K", "N"],
                 parts: tl.f32["S", "M", "N"],
                 BM: int = 64, BN: int = 64, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    M, K = a.shape
    splits, _, N = parts.shape
    tl.block(warps=warps)
    i, j, s = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN), splits)

    per_split = tl.cdiv(tl.cdiv(K, BK), splits) * BK
    first = s * per_split
    tl.assume(first >= 0)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(first, tl.minimum(first + per_split, K), BK, stages=stages):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(parts[s], (i * BM, j * BN), acc)


@tl.jit
def sum_of_parts(parts: tl.f32["S", "M", "N"],
                 c: tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"],
                 BM: int = 8, BN: int = 256, stages: int = 2, warps: int = 4) -> None:
    splits, M, N = parts.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))

    total = tl.zeros((BM, BN), tl.f32)
    for s in tl.range(splits, stages=stages):
        total += tl.load(parts[s], (i * BM, j * BN), (BM, BN))
    tl.store(c, (i * BM, j * BN), total.to(c.dtype))


def matmul(a: Array, b: Array, c: Array, splits: int = 4, engine: str | None = None) -> None:
    """c = a @ b of NumPy arrays a (M, K), b (K, N) and c (M, N), with k in so many parts (at least 1)."""
    import numpy as np

    parts = np.empty((splits, *c.shape), np.float32)
    for kernel, arguments in ((matmul_parts, (a, b, parts)), (sum_of_parts, (parts, c))):
        (kernel if engine is None else kernel.on(engine))(*arguments)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    return automatic.case(shape, dtype, seed)


def error(shape: tuple[int, ...], dtype: tl.DType = tl.f16, splits: int = 4, engine: str | None = None) -> float:
    """The relative error of one product."""
    one = case(shape, dtype)
    a, b, c = one.arguments[:3]
    matmul(a, b, c, splits, engine)
    return relative_error(one.outputs[0], one.references[0])


def main() -> None:
    wrong = 0
    for shape in SHAPES:
        distance = error(shape)
        wrong += distance > TOLERANCES["f16"]
        print(f"matmul_split_k_sums {'×'.join(map(str, shape))}: relative error {distance:.1e}")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
