"""y = x @ wᵀ where both operands are quantised in blocks along k: MXFP8, MXFP6, MXFP4 and NVFP4.

32 neighbours of the OCP formats (Microscaling Formats 1.0) share a power of two; 16 of NVFP4 an e4m3 scale, and the
whole operand one f32 factor more. Tensor cores of sm_120a take codes and scales as they are (``tl.dot_scaled``).
Activations are quantised by a kernel of their own or, where there are few rows, tile by tile in the product's; operands
may have different types of elements.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.quantized.rows import X, Y

SHAPES = [(16, 32, 64), (7, 40, 128), (0, 3, 32), (1, 1, 96), (33, 130, 256), (5, 24, 40), (4, 5, 0)]
FORMATS = [tl.mxfp4, tl.nvfp4, tl.mxfp6e3m2, tl.mxfp6e2m3, tl.mxfp8e4m3, tl.mxfp8e5m2]
FEW_ROWS = 64
"""Up to so many each block of columns quantises the activations itself."""
NVFP4_RANGE = 448.0 * 6.0
"""The greatest number of NVFP4 where its factor is 1."""
LEAST_SCALE = 2.0**-126
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    SCALES_OF_X = Any
    SCALES_OF_W = Any
    FACTOR = Any
    BIAS = Any
else:
    SCALES_OF_X = tl.f8e8m0fnu["M", "G"] | tl.f8e4m3fn["M", "G"]
    SCALES_OF_W = tl.f8e8m0fnu["N", "G"] | tl.f8e4m3fn["N", "G"]
    FACTOR = tl.f32[1, 1] | None
    BIAS = tl.f32["N"] | tl.f16["N"] | tl.bf16["N"] | None


@tl.jit
def block_scaled_matmul(x: xtype["M", "K"], x_scales: SCALES_OF_X, w: wtype["N", "K"], w_scales: SCALES_OF_W, y: Y,
                        x_factor: FACTOR = None, alpha: tl.f32 = 1.0, bias: BIAS = None, xtype: tl.DType = tl.f4e2m1,
                        wtype: tl.DType = tl.f4e2m1, BM: int = 64, BN: int = 0, BK: int = 0, stages: int = 3,
                        warps: int = 4) -> None:
    """y = alpha x_factor (x @ wᵀ) + bias of operands that are quantised already. A row's last block may be short."""
    M, K = x.shape
    N = w.shape[0]
    block = check_blocks(K, x_scales, w_scales)
    BN, BK = BN or columns_of_a_tile(), BK or depth_of_a_tile(max(xtype.bits, wtype.bits))
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        a = tl.load(x, (i * BM, k), (BM, BK))
        a_scales = tl.load(x_scales, (i * BM, k // block), (BM, BK // block))
        acc = tl.dot_scaled(a, a_scales, *weights_tile(w, w_scales, (j * BN, k), (BN, BK), block), acc)
    finish(acc, y, x_factor, alpha, bias, (i * BM, j * BN))


@tl.jit
def block_scaled_linear(x: X, w: wtype["N", "K"], w_scales: SCALES_OF_W, y: Y, x_factor: FACTOR = None,
                        alpha: tl.f32 = 1.0, bias: BIAS = None, xtype: tl.DType = tl.f4e2m1,
                        wtype: tl.DType = tl.f4e2m1, BM: int = 16, BN: int = 0, BK: int = 0, stages: int = 3,
                        warps: int = 4) -> None:
    """The same of x as it is, which becomes blocks of ``xtype`` with scales of the weights' type."""
    M, K = x.shape
    N = w.shape[0]
    block = check_blocks(K, None, w_scales)
    BN, BK = BN or columns_of_a_tile(), BK or depth_of_a_tile(max(xtype.bits, wtype.bits))
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    factor = factor_of(x_factor)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        a, a_scales = in_blocks(tl.load(x, (i * BM, k), (BM, BK)), xtype, w_scales.dtype, factor)
        acc = tl.dot_scaled(a, a_scales, *weights_tile(w, w_scales, (j * BN, k), (BN, BK), block), acc)
    finish(acc, y, x_factor, alpha, bias, (i * BM, j * BN))


@tl.jit
def quantise_blocks(x: X, codes: xtype["M", "K"], scales: SCALES_OF_X, x_factor: FACTOR = None,
                    xtype: tl.DType = tl.f4e2m1, BM: int = 4, BK: int = 512, warps: int = 4) -> None:
    """Codes and scales of the rows of x."""
    M, K = x.shape
    block = check_blocks(K, scales, None)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(K, BK))
    at = (i * BM, j * BK)
    found, found_scales = in_blocks(tl.load(x, at, (BM, BK)), xtype, scales.dtype, factor_of(x_factor))
    tl.store(codes, at, found)
    tl.store(scales, (at[0], at[1] // block), found_scales)


@tl.fuse
def nvfp4_factor(x: X) -> Any:
    """What all numbers of an NVFP4 operand are multiplied by, (1, 1)."""
    return tl.max(tl.max(tl.abs(x.to(tl.f32)), axis=1, keepdims=True), axis=0, keepdims=True) / 6.0 / 448.0


def block_of(scale: tl.DType) -> int:
    """How many elements share a scale of a type."""
    return 32 if scale == tl.f8e8m0fnu else 16


def check_blocks(K: Any, x_scales: Any, w_scales: Any) -> int:
    """How many elements share a scale."""
    found = [scales for scales in (x_scales, w_scales) if scales is not None]
    block = block_of(found[0].dtype)
    for scales in found:
        tl.device_assert(scales.shape[1] == tl.cdiv(K, block), "there is one scale for each block of a row")
    return block


def columns_of_a_tile() -> int:
    return 256 if tl.target() == "cpu" else 64


def depth_of_a_tile(bits: int) -> int:
    """Words of scales are four along k."""
    return 64 if bits == 8 and tl.target() != "sm_120a" else 128


def weights_tile(w: Any, scales: Any, at: tuple[Any, Any], tile: tuple[int, int], block: int) -> tuple[Any, Any]:
    """A tile of codes and scales, with k as the rows."""
    (row, k), (BN, BK) = at, tile
    return tl.load(w, at, tile).T, tl.load(scales, (row, k // block), (BN, BK // block)).T


def factor_of(x_factor: Any) -> Any:
    """That of NVFP4; of an operand of zeros it is 1."""
    if x_factor is None:
        return 1.0
    return tl.where(x_factor[0, 0] > 0.0, x_factor[0, 0], 1.0)


def in_blocks(x: Any, dtype: tl.DType, scale: tl.DType, factor: Any) -> tuple[Any, Any]:
    """A tile (R, C) as codes, rounded to nearest, and scales (R, C / block)."""
    R, C = x.shape
    block = block_of(scale)
    blocks = x.to(tl.f32).reshape(R, C // block, block)
    amax = tl.max(tl.abs(blocks), axis=2, keepdims=True)
    if scale == tl.f8e8m0fnu:
        # The power of two below the greatest magnitude, less that of the type's greatest number, and its reciprocal.
        power = tl.bitcast(tl.bitcast(amax, tl.u32) & 0x7F800000, tl.f32)
        found = tl.maximum(power * 2.0 ** (1 - math.frexp(greatest(dtype))[1]), LEAST_SCALE)
        ratio = blocks * tl.bitcast(0x7F000000 - tl.bitcast(found, tl.u32), tl.f32)
        if dtype.specials == "ieee":
            ratio = tl.clamp(ratio, -greatest(dtype), greatest(dtype))
        scales = found.to(scale)
    else:
        scales = (amax / greatest(dtype) / factor).to(scale)
        found = scales.to(tl.f32) * factor
        ratio = tl.where(found > 0.0, blocks / found, 0.0)
    return ratio.to(dtype).reshape(R, C), scales.reshape(R, C // block)


def greatest(dtype: tl.DType) -> float:
    """The greatest number of an element type."""
    from tilus.quantization.formats import reach

    return float(reach(dtype))


def finish(acc: Any, y: Any, x_factor: Any, alpha: Any, bias: Any, at: tuple[Any, Any]) -> None:
    """The factors of whole operands, the bias, and the store."""
    acc *= alpha * factor_of(x_factor)
    if bias is not None:
        acc += tl.load(bias, at[1], acc.shape[1]).to(tl.f32)[None, :]
    tl.store(y, at, acc.to(y.dtype))


class Weights:
    """Weights (N, K) of a linear layer.

    Attributes:
        w, scales: codes (N, K) of type ``dtype``, and scales (N, K / block) of type ``scale``.
        alpha: what all of them are multiplied by.
    """

    def __init__(self, weights: Any, format: tl.QuantFormat = tl.mxfp4) -> None:
        """Of an array, or of what ``tl.quantize(…, axis=1)`` has given."""
        q = weights if isinstance(weights, tl.Quantized) else tl.quantize(weights, format, axis=1)
        self.w, self.scales, self.alpha = codes_and_scales(q)
        self.dtype, self.scale = q.dtype, tl.f8e4m3fn if isinstance(q.scales, tl.Quantized) else tl.f8e8m0fnu


def codes_and_scales(q: tl.Quantized) -> tuple[Any, Any, float]:
    """The codes, scales and factor of an operand."""
    scales = q.scales
    if not isinstance(scales, tl.Quantized):
        return q.values, scales, 1.0
    return q.values, scales.values, float(scales.scales.reshape(()))


def multiply(x: Any, weights: Weights, y: Any, bias: Any = None, xtype: tl.DType | None = None) -> None:
    """y = x @ wᵀ + bias, with the rows of x in blocks of ``xtype``, by default the weights' type."""
    xtype = xtype or weights.dtype
    factor = None if weights.scale == tl.f8e8m0fnu else nvfp4_factor(x)
    constants = {"alpha": weights.alpha, "bias": bias, "xtype": xtype, "wtype": weights.dtype}
    if x.shape[0] <= FEW_ROWS:
        rows = 16 if x.shape[0] <= 16 else 64
        block_scaled_linear(x, weights.w, weights.scales, y, factor, **constants, BM=rows)
        return
    codes, scales = quantised(x, xtype, weights.scale, factor)
    block_scaled_matmul(codes, scales, weights.w, weights.scales, y, factor, **constants)


def quantised(x: Array, xtype: tl.DType, scale: tl.DType, factor: Any) -> tuple[Any, Array]:
    """Codes and scales of rows, by a kernel."""
    import numpy as np

    rows, columns = x.shape
    if xtype.bits == 8:
        codes: Any = np.empty(x.shape, xtype.numpy)
    else:
        codes = tl.packed(np.zeros(-(-rows * columns * xtype.bits // 8), np.uint8), xtype, x.shape)
    scales = np.empty((rows, -(-columns // block_of(scale))), scale.numpy)
    quantise_blocks(x, codes, scales, factor, xtype=xtype)
    return codes, scales


def operand(x: Array, format: tl.QuantFormat) -> tuple[Any, Any, float, Array]:
    """Rows (rows, k) in a format: codes, scales, factor and numbers. The last block may be short."""
    import numpy as np

    (rows, k), blocks = x.shape, -(-x.shape[1] // format.group)
    whole = np.zeros((max(1, rows), max(1, blocks) * format.group), np.float32)
    whole[:rows, :k] = x
    q = tl.quantize(whole, format, axis=1)
    codes, scales, alpha = codes_and_scales(q)
    if whole.shape != x.shape:
        codes = tl.pack(tl.unpack(codes)[:rows, :k], format.dtype)
        scales = scales if isinstance(scales, np.ndarray) else scales.base.view(np.uint8).reshape(len(whole), -1)
        scales = scales[:rows, :blocks].copy().view(tl.f8e4m3fn.numpy if format is tl.nvfp4 else tl.f8e8m0fnu.numpy)
    return codes, scales, alpha, wide(tl.dequantize(q))[:rows, :k]


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0, format: tl.QuantFormat = tl.mxfp4,
         wformat: tl.QuantFormat | None = None) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    wformat, y = wformat or format, empty((m, n), dtype)
    x, x_scales, x_alpha, left = operand(rng.standard_normal((m, k)), format)
    w, w_scales, w_alpha, right = operand(rng.standard_normal((n, k)), wformat)
    constants = {"alpha": x_alpha * w_alpha, "xtype": format.dtype, "wtype": wformat.dtype}
    return Case((x, x_scales, w, w_scales, y), (y,), (left @ right.T,), constants, depth=k)


def linear_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0,
                format: tl.QuantFormat = tl.mxfp4) -> Case:
    """Of :func:`block_scaled_linear`; ``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    *_, x_alpha, left = operand(wide(x), format)
    w, w_scales, alpha, right = operand(rng.standard_normal((n, k)), format)
    factor = np.full((1, 1), x_alpha, np.float32) if format is tl.nvfp4 else None
    constants = {"alpha": alpha, "xtype": format.dtype, "wtype": format.dtype}
    return Case((x, w, w_scales, y, factor), (y,), (left @ right.T,), constants, depth=k)


def main() -> None:
    for format in FORMATS:
        report(block_scaled_matmul, SHAPES, lambda shape, format=format: case(shape, format=format))
        report(block_scaled_linear, SHAPES, lambda shape, format=format: linear_case(shape, format=format))


if __name__ == "__main__":
    main()
