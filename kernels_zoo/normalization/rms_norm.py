"""y = x / √(mean(x²) + ε) · weight over the last dimension, in f32 (Zhang and Sennrich, 2019)."""

from __future__ import annotations

import numpy as np

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide

SHAPES = [(0, 3), (1, 1), (7, 1023), (8, 1024), (9, 1025), (3, 5003)]


@tl.jit
def rms_norm(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"],
             weight: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"],
             y: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"], eps: tl.f32 = 1e-6,
             BM: int = 4, BN: int = 1024) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    if N <= BN:
        row = tl.load(x, (i, 0), (BM, BN)).to(tl.f32)
        scale = tl.rsqrt(tl.sum(row * row, axis=1, keepdims=True) / N + eps)
        tl.store(y, (i, 0), (row * scale * tl.load(weight, 0, BN).to(tl.f32)).to(y.dtype))
    else:
        square = tl.zeros((BM, BN), tl.f32)
        for j in tl.range(0, N, BN):
            part = tl.load(x, (i, j), (BM, BN)).to(tl.f32)
            square += part * part
        scale = tl.rsqrt(tl.sum(square, axis=1, keepdims=True) / N + eps)
        for j in tl.range(0, N, BN):
            part = tl.load(x, (i, j), (BM, BN)).to(tl.f32)
            tl.store(y, (i, j), (part * scale * tl.load(weight, j, BN).to(tl.f32)).to(y.dtype))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    x, w, y = normal(rng, shape, dtype), normal(rng, shape[1:], dtype), empty(shape, dtype)
    scale = 1 / np.sqrt((wide(x) ** 2).mean(axis=1, keepdims=True) + 1e-6)
    return Case((x, w, y), (y,), (wide(x) * scale * wide(w),))


def main() -> None:
    report(rms_norm, SHAPES, case)


if __name__ == "__main__":
    main()
