"""y = (xq @ wq) row_scales column_scales: operands are int8, int4 or fp8, and activations are quantised as they are
read.

``scaled_matmul`` takes activations of 16 or 32 bits, whose rows it divides by their greatest magnitudes in a prologue.
``quantised_matmul`` takes what is quantised already. int4 lies two to a byte and is multiplied as int8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.quantized.rows import FACTORS, X, Y, given_or_computed, quantised_tile, row_factors, rows_of_a_tile

SHAPES = [(1, 96, 128), (7, 1, 64), (0, 5, 3), (5, 40, 250), (33, 130, 384), (16, 256, 512), (3, 7, 1)]
TYPES = [tl.i8, tl.i4, tl.f8e4m3fn, tl.f8e5m2]
FEW_ROWS = 32
if TYPE_CHECKING:
    BIAS = Any
else:
    BIAS = tl.f32["N"] | tl.f16["N"] | tl.bf16["N"]


@tl.jit
def scaled_matmul(x: X, w: wtype["K", "N"], column_scales: tl.f32["N"], y: Y, factors: FACTORS | None = None,
                  bias: BIAS | None = None, xtype: tl.DType = tl.i8, wtype: tl.DType = tl.i8, BM: int = 16, BN: int = 0,
                  BK: int = 64, warps: int = 4) -> None:
    """Rows of x are quantised to ``xtype``. ``factors`` are those of ``row_factors``, where many blocks of columns
    would compute them."""
    M, K = x.shape
    N = y.shape[1]
    BN = BN or (1024 if tl.target() == "cpu" else 128)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    whole, scale = given_or_computed(x, factors, None, i * BM, 0.0, False, greatest(xtype), (BM, BK))
    acc = tl.zeros((BM, BN), sum_type(xtype, wtype))
    for k in tl.range(0, K, BK):
        a = quantised_tile(x, None, (i * BM, k), whole, xtype, (BM, BK))
        acc = tl.dot(a, as_operand(tl.load(w, (k, j * BN), (BK, BN))), acc)
    finish(acc, 1.0 / scale, column_scales, bias, y, (i * BM, j * BN))


@tl.jit
def quantised_matmul(x: xtype["M", "K"], w: wtype["K", "N"], row_scales: tl.f32["M"], column_scales: tl.f32["N"], y: Y,
                     bias: BIAS | None = None, xtype: tl.DType = tl.i8, wtype: tl.DType = tl.i8, BM: int = 64,
                     BN: int = 128, BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """Both operands are quantised."""
    M, K = x.shape
    N = y.shape[1]
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), sum_type(xtype, wtype))
    for k in tl.range(0, K, BK, stages=stages):
        a, b = tl.load(x, (i * BM, k), (BM, BK)), tl.load(w, (k, j * BN), (BK, BN))
        acc = tl.dot(as_operand(a), as_operand(b), acc)
    finish(acc, tl.load(row_scales, i * BM, BM), column_scales, bias, y, (i * BM, j * BN))


def finish(acc: Any, rows: Any, column_scales: Any, bias: Any, y: Any, at: tuple[Any, Any]) -> None:
    """The scales, and the store."""
    BN = acc.shape[1]
    found = acc.to(tl.f32) * rows[:, None] * tl.load(column_scales, at[1], BN)[None, :]
    if bias is not None:
        found += tl.load(bias, at[1], BN).to(tl.f32)[None, :]
    tl.store(y, at, found.to(y.dtype))


def greatest(dtype: tl.DType) -> float:
    """The number that the greatest magnitude becomes."""
    from tilus.quantization.formats import reach

    return float(reach(dtype))


def sum_type(xtype: tl.DType, wtype: tl.DType) -> Any:
    tl.static_assert(xtype.is_float == wtype.is_float, "integers are multiplied with integers, and floats with floats")
    return tl.f32 if xtype.is_float else tl.i32


def as_operand(tile: Any) -> Any:
    """Narrow integers as i8, which is multiplied."""
    return tile.to(tl.i8) if tile.dtype.is_int and tile.dtype.bits < 8 else tile


class Weights:
    """Weights (K, N) with a scale for each column."""

    def __init__(self, weights: Any, dtype: tl.DType) -> None:
        q = tl.quantize(weights, dtype, scale_dtype=tl.f32)
        self.w, self.scales, self.dtype = q.values, q.scales.reshape(-1), dtype
        self.numbers = q


def multiply(x: Any, weights: Weights, y: Any, bias: Any = None, xtype: tl.DType | None = None) -> None:
    """y = x @ w + bias, with the rows of x quantised to ``xtype``, by default the weights' type."""
    import numpy as np

    xtype, factors = xtype or weights.dtype, None
    if x.shape[0] > FEW_ROWS:
        factors = np.empty((x.shape[0], 2), np.float32)
        row_factors(x, factors, most=greatest(xtype))
    scaled_matmul(x, weights.w, weights.scales, y, factors, bias, xtype=xtype, wtype=weights.dtype,
                  BM=rows_of_a_tile(x.shape[0]))


def quantised_rows(x: Any, dtype: tl.DType) -> Any:
    """The numbers that rows of x become, f64; where a number lies at a half, rounding in f32 may differ."""
    import numpy as np

    amax = np.maximum(np.abs(x).max(axis=1, keepdims=True, initial=0), 1e-5)
    scaled = (x.astype(np.float32) * (np.float32(greatest(dtype)) / amax.astype(np.float32)))
    if dtype.is_float:
        return wide(scaled.astype(dtype.numpy)) * amax / greatest(dtype)
    return np.clip(np.rint(scaled), dtype.min_value, dtype.max_value).astype(np.float64) * amax / greatest(dtype)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0, wtype: tl.DType = tl.i8,
         xtype: tl.DType | None = None) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    xtype = xtype or wtype
    weights = Weights(rng.standard_normal((k, n)).astype(np.float32), wtype)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    reference = quantised_rows(wide(x), xtype) @ wide(tl.dequantize(weights.numbers))
    return Case((x, weights.w, weights.scales, y), (y,), (reference,), {"wtype": wtype, "xtype": xtype}, depth=k)


def main() -> None:
    for wtype in TYPES:
        report(scaled_matmul, SHAPES, lambda shape, wtype=wtype: case(shape, wtype=wtype))


if __name__ == "__main__":
    main()
