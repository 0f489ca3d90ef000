"""BitLinear of MatMul-free language models: ternary weights, and activations that are normalised and quantised to int8
as they are read (Zhu et al., arXiv 2406.02528; Ma et al., BitNet b1.58).

With u = RMSNorm(x), s = 127 / max(max|u|, 1e-5) for each row and t = 1 / max(mean|W|, 1e-5) for all of the weights,
``y = clamp(round(u s)) @ clamp(round(W t)) / (s t)``. Sums are of integers, exact. The derivative takes both roundings
for the identity (straight through): dW = ûᵀ dy with û the quantised u, du = dy Ŵᵀ, and dx is RMSNorm's of that.

Weights lie 4 to a byte (u2, the number plus 1), or 5 to a byte: of 160 rows byte r has rows r, r + 32, …, r + 128 as
digits of base 3.
"""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.quantized.rows import (
    FACTORS,
    GAIN,
    X,
    Y,
    given_or_computed,
    quantised_tile,
    row_factors,
    rows_of_a_tile,
)

SHAPES = [(1, 96, 128), (7, 1, 64), (0, 5, 3), (5, 40, 250), (33, 130, 384), (16, 256, 512), (3, 7, 1)]
PLANES, PLANE = 5, 32
"""So many digits are in a byte, and so many rows in turn have digits of one place."""
FEW_ROWS = 32
"""Up to so many rows are normalised in every block of columns, rather than by a kernel of their own."""


@tl.jit
def bitlinear(x: X, w: tl.u2["Q", "N"] | tl.u8["Q", "N"], y: Y, t: tl.f32, gain: GAIN | None = None,
              factors: FACTORS | None = None, eps: tl.f32 = 1e-8, BM: int = 16, BN: int = 0, BK: int = 0,
              warps: int = 4) -> None:
    """y = BitLinear(x), of weights of u2 (Q = K) or five to a byte (u8). ``gain`` is RMSNorm's weight."""
    M, K = x.shape
    N = y.shape[1]
    five = w.dtype == tl.u8
    BN = BN or (2048 if tl.target() == "cpu" else 128)
    BK = BK or (PLANES * PLANE if five else 256 if tl.target() == "cpu" else 64)
    tl.static_assert(not five or BK == PLANES * PLANE, "BK is 160 where five weights are in a byte")
    rows = tl.cdiv(K, PLANES * PLANE) * PLANE if five else K
    tl.device_assert(w.shape[0] == rows, "weights have other than K rows")
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    whole, scale = given_or_computed(x, factors, gain, i * BM, eps, True, 127.0, (BM, BK))
    acc = tl.zeros((BM, BN), tl.i32)
    for k in tl.range(0, K, BK):
        a = quantised_tile(x, gain, (i * BM, k), whole, tl.i8, (BM, BK))
        acc = tl.dot(a, ternary_tile(w, k, j * BN, (BK, BN)), acc)
    tl.store(y, (i * BM, j * BN), (acc.to(tl.f32) / (scale * t)[:, None]).to(y.dtype))


def ternary_tile(w: Any, k: Any, column: Any, tile: tuple[int, int]) -> Any:
    """Weights as -1, 0 and 1 in i8; those beyond the array meet activations of 0."""
    BK, BN = tile
    if w.dtype == tl.u2:
        return tl.load(w, (k, column), tile).to(tl.i8) - 1
    rest, digits = tl.load(w, (k // PLANES, column), (PLANE, BN)).to(tl.u16), []
    for _ in range(PLANES):
        rest = rest * 3
        digits.append((rest >> 8).to(tl.i8) - 1)
        rest &= 255
    return tl.concatenate(digits, axis=0)


@tl.jit
def bitlinear_input_gradient(dy: Y, w: tl.u2["K", "N"], du: tl.f32["M", "K"], t: tl.f32, BM: int = 64, BN: int = 64,
                             BK: int = 128, warps: int = 4) -> None:
    """du = dy Ŵᵀ."""
    M, N = dy.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(du.shape[1], BK))
    operand = tl.f32 if tl.target() == "cpu" else dy.dtype
    acc = tl.zeros((BM, BK), tl.f32)
    for n in tl.range(0, N, BN):
        b = tl.load(w, (j * BK, n), (BK, BN)).to(tl.f32) - 1.0
        acc = tl.dot(tl.load(dy, (i * BM, n), (BM, BN)).to(operand), b.T.to(operand), acc)
    tl.store(du, (i * BM, j * BK), acc / t)


@tl.jit
def bitlinear_weight_gradient(x: X, dy: Y, dw: tl.f32["K", "N"], factors: FACTORS, gain: GAIN | None = None,
                              BM: int = 64, BN: int = 128, BK: int = 64, warps: int = 4) -> None:
    """dW = ûᵀ dy, with û = round(u s) / s."""
    M, K = x.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(K, BK), tl.cdiv(dw.shape[1], BN))
    acc = tl.zeros((BK, BN), tl.f32)
    for m in tl.range(0, M, BM):
        whole, scale = tl.load(factors[:, 0], m, BM), tl.load(factors[:, 1], m, BM, other=1.0)
        a = quantised_tile(x, gain, (m, i * BK), whole, tl.i8, (BM, BK)).to(tl.f32) / scale[:, None]
        acc = tl.dot(a.T, tl.load(dy, (m, j * BN), (BM, BN)).to(tl.f32), acc)
    tl.store(dw, (i * BK, j * BN), acc)


@tl.jit
def rms_norm_gradient(x: X, du: tl.f32["M", "K"], dx: X, gain: GAIN | None = None, eps: tl.f32 = 1e-8, BM: int = 4,
                      BK: int = 512, warps: int = 4) -> None:
    """dx of u = gain x r, r = 1 / √(mean(x²) + eps): with g = gain du, r g - x r³ mean(g x)."""
    M, K = x.shape
    tl.block(warps=warps)
    i = tl.grid(tl.cdiv(M, BM)) * BM
    squares, products = tl.zeros((BM, BK), tl.f32), tl.zeros((BM, BK), tl.f32)
    for k in tl.range(0, K, BK):
        part = tl.load(x, (i, k), (BM, BK)).to(tl.f32)
        squares += part * part
        products += part * gained(du, gain, i, k, BM, BK)
    count = tl.maximum(K, 1).to(tl.f32)
    r = 1.0 / tl.sqrt(tl.sum(squares, axis=1) / count + eps)
    slope = tl.sum(products, axis=1) / count * r * r * r
    for k in tl.range(0, K, BK):
        part = tl.load(x, (i, k), (BM, BK)).to(tl.f32)
        tl.store(dx, (i, k), (gained(du, gain, i, k, BM, BK) * r[:, None] - part * slope[:, None]).to(dx.dtype))


def gained(du: Any, gain: Any, row: Any, k: Any, BM: int, BK: int) -> Any:
    part = tl.load(du, (row, k), (BM, BK))
    return part if gain is None else part * tl.load(gain, k, BK).to(tl.f32)[None, :]


class Weights:
    """Ternary weights of shape (K, N).

    Attributes:
        w: the codes: u2 (K, N), or bytes of five (⌈K / 160⌉ 32, N).
        t: 1 / max(mean|W|, 1e-5).
    """

    def __init__(self, weights: Any, five: bool = False) -> None:
        import numpy as np

        q = tl.quantize(weights, tl.ternary, axis=None, scale="mean", scale_dtype=tl.f32)
        self.shape, self.t = q.shape, float(np.float32(1) / np.asarray(q.scales)[0])
        four = tl.packed(q.values.base, tl.u2, q.shape)
        self.w = fives(tl.unpack(four, np.uint8)) if five else four


def fives(digits: Any) -> Any:
    """Digits 0 to 2, u8 (K, N), as bytes of five. A byte is ⌈256 v / 243⌉ of the number v that the digits are, so that
    the upper byte of three times it is the first digit, and the lower byte the same of the others."""
    import numpy as np

    K, N = digits.shape
    blocks = -(-K // (PLANES * PLANE))
    filled = np.ones((blocks * PLANES * PLANE, N), np.uint32)  # 1 stands for 0
    filled[:K] = digits
    planes = filled.reshape(blocks, PLANES, PLANE, N)
    value = np.zeros((blocks, PLANE, N), np.uint32)
    for place in range(PLANES):
        value = value * 3 + planes[:, place]
    return ((value * 256 + 242) // 243).astype(np.uint8).reshape(blocks * PLANE, N)


def forward(x: Any, weights: Weights, y: Any, gain: Any = None, factors: Any = None) -> None:
    """y = BitLinear(x). ``factors`` f32 (M, 2), which the gradient takes, is written where it is given."""
    if factors is not None or x.shape[0] > FEW_ROWS:
        import numpy as np

        factors = np.empty((x.shape[0], 2), np.float32) if factors is None else factors
        row_factors(x, factors, gain, normalised=True)
    bitlinear(x, weights.w, y, weights.t, gain, factors, BM=rows_of_a_tile(x.shape[0]))


def backward(x: Any, weights: Weights, dy: Any, factors: Any, du: Any, dx: Any, dw: Any, gain: Any = None) -> None:
    """The gradients to x and to the weights before rounding; ``du`` f32 (M, K) is scratch memory. Of weights 4 to a
    byte."""
    bitlinear_input_gradient(dy, weights.w, du, weights.t)
    rms_norm_gradient(x, du, dx, gain)
    bitlinear_weight_gradient(x, dy, dw, factors, gain)


def reference(x: Any, weights: Any, gain: Any = None) -> tuple[Any, Any, Any]:
    """y, û and Ŵ in f64. Where a number lies at a half, rounding in f32 may differ."""
    import numpy as np

    u = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-8) if x.size else x
    u = u if gain is None else u * gain
    s = 127 / np.maximum(np.abs(u).max(axis=1, keepdims=True, initial=0), LEAST_MAGNITUDE)
    t = 1 / max(np.abs(weights).mean(), LEAST_MAGNITUDE)
    xq, wq = np.clip(np.rint(u * s), -128, 127) / s, np.clip(np.rint(weights * t), -1, 1) / t
    return xq @ wq, xq, wq


LEAST_MAGNITUDE = 1e-5


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0, five: bool = False) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((k, n)).astype(np.float32)
    weights = Weights(w, five)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    return Case((x, weights.w, y, weights.t), (y,), (reference(wide(x), wide(w))[0],), {}, depth=k)


def main() -> None:
    report(bitlinear, SHAPES, case)
    report(bitlinear, SHAPES, lambda shape: case(shape, five=True))


__all__ = ["Weights", "backward", "bitlinear", "fives", "forward"]

if __name__ == "__main__":
    main()
