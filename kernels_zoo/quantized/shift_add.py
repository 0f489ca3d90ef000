"""ShiftAddViT's products without multiplications: weights that are powers of two, and masks of 0 and 1 (You et al.,
arXiv 2306.06446).

MatShift: ``y = Σ sign (x >> shift)`` of fixed-point numbers x with 16 fractional bits, for weights
``sign 2^round(log2 |w|)``; a negative shift goes to the left. MatAdd: ``y[m, n] = Σ_k (mask[k, m] > 0 ? v[k, n] : 0)``.
Gradients to x and to v are products of the same kinds, with the weights or the mask transposed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = [(1, 96, 128), (7, 1, 64), (0, 5, 3), (5, 40, 50), (33, 130, 64), (3, 7, 1)]
ADD_SHAPES = [(1, 49, 16, 32), (2, 7, 1, 5), (1, 0, 4, 3), (3, 33, 16, 32), (2, 100, 40, 1)]
PAPER, ADD_PAPER = (3136, 512, 64), (1, 3136, 32, 16)
FRACTION = 16
"""Bits of a fixed-point number behind the point."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    X = Any
    Y = Any
    V = Any
    OUT = Any
else:
    X = tl.i32["M", "K"] | tl.f32["M", "K"]
    Y = tl.i32["M", "N"] | tl.f32["M", "N"]
    V = tl.f32["B", "K", "N"] | tl.f16["B", "K", "N"] | tl.bf16["B", "K", "N"]
    OUT = tl.f32["B", "M", "N"] | tl.f16["B", "M", "N"] | tl.bf16["B", "M", "N"]


@tl.jit
def shift_matmul(x: X, sign: tl.i8["K", "N"], shift: tl.i8["K", "N"], y: Y, BM: int = 8, BN: int = 128,
                 warps: int = 4) -> None:
    """``sign`` is -1, 0 or 1. x of f32 is rounded to fixed point, saturating, and y is scaled back; sums wrap."""
    M, K = x.shape
    N = y.shape[1]
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.i32)
    for k in tl.range(0, K):
        a = tl.load(x, (i * BM, k), (BM, 1))
        if x.dtype == tl.f32:
            a = tl.round(a * float(1 << FRACTION)).to(tl.i32)
        s = tl.load(shift, (k, j * BN), (1, BN)).to(tl.i32)
        moved = tl.where(s >= 0, a >> s, a << -s)
        g = tl.load(sign, (k, j * BN), (1, BN))
        acc += tl.where(g > 0, moved, tl.where(g < 0, -moved, 0))
    if y.dtype == tl.f32:
        tl.store(y, (i * BM, j * BN), acc.to(tl.f32) * 2.0**-FRACTION)
    else:
        tl.store(y, (i * BM, j * BN), acc)


@tl.jit
def add_matmul(mask: tl.i8["B", "K", "M"], v: V, y: OUT, BM: int = 16, BN: int = 16, warps: int = 4) -> None:
    """One product for each of a batch (of heads), summed in f32."""
    B, K, M = mask.shape
    N = y.shape[2]
    tl.block(warps=warps)
    i, j, b = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN), B)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K):
        chosen = tl.load(mask[b, k, :], i * BM, BM)[:, None] > 0
        acc += tl.where(chosen, tl.load(v[b, k, :], j * BN, BN).to(tl.f32)[None, :], 0.0)
    tl.store(y[b, :, :], (i * BM, j * BN), acc.to(y.dtype))


def powers_of_two(w: Array) -> tuple[Array, Array]:
    """Weights as signs and shifts to the right, i8 both: the nearest power of two by its logarithm, ties to even."""
    import numpy as np

    sign = np.sign(w).astype(np.int8)
    with np.errstate(divide="ignore"):
        exponent = np.rint(np.log2(np.abs(w.astype(np.float64))))
    return sign, np.where(sign == 0, 0, np.clip(-exponent, -31, 31)).astype(np.int8)


def input_gradient(dy: Array, sign: Array, shift: Array, dx: Array) -> None:
    """dx = dy @ wᵀ; to weights gradients go straight through, as those of a dense product."""
    shift_matmul(dy, sign.T, shift.T, dx)


def add_gradient(mask: Array, dy: Array, dv: Array) -> None:
    """dv[k, n] = Σ_m (mask[k, m] > 0 ? dy[m, n] : 0)."""
    add_matmul(mask.swapaxes(1, 2), dy, dv)


def reference(x: Array, sign: Array, shift: Array) -> Array:
    """The sums of a fixed-point product, i32."""
    import numpy as np

    sums = np.zeros((x.shape[0], sign.shape[1]), np.int64)
    for column, signs, shifts in zip(x.T.astype(np.int64), sign.astype(np.int64), shift.astype(np.int64), strict=True):
        a = column[:, None]
        moved = np.where(shifts >= 0, a >> np.maximum(shifts, 0), (a << np.maximum(-shifts, 0)).astype(np.int32))
        sums += moved * signs
    return sums.astype(np.int32)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    """``shape`` is (M, N, K); x is of f32. The reference is the exact product of fixed-point numbers."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    sign, shift = powers_of_two(rng.standard_normal((k, n)) * 0.1)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    fixed = np.rint(wide(x) * 2**FRACTION).astype(np.int32)
    return Case((x, sign, shift, y), (y,), (wide(reference(fixed, sign, shift)) / 2**FRACTION,), {}, depth=k)


def add_case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    """``shape`` is (B, M, N, K)."""
    import numpy as np

    b, m, n, k = shape
    rng = np.random.default_rng(seed)
    mask = rng.integers(-1, 2, (b, k, m)).astype(np.int8)
    v, y = normal(rng, (b, k, n), dtype), empty((b, m, n), dtype)
    expected = np.einsum("bkm,bkn->bmn", (mask > 0).astype(np.float64), wide(v))
    return Case((mask, v, y), (y,), (expected,), {}, depth=k)


def main() -> None:
    report(shift_matmul, [*SHAPES, PAPER], case)
    report(add_matmul, [*ADD_SHAPES, ADD_PAPER], add_case)


if __name__ == "__main__":
    main()
