"""y = f(alpha x @ ((w - zeros) scales) + bias): activations of 16 bits, weights of any type of at most 8 bits.

Weights are read as ``tl.quantize`` or ``tl.pack`` give them, or prepacked for these kernels, which costs fewer
instructions. The same prepacked array serves all of them: they cut the weights into the same tiles.
"""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.quantized.parameters import (
    BIAS,
    BIAS_OF_BATCH,
    POINTS,
    POINTS_OF_BATCH,
    SCALES,
    SCALES_OF_BATCH,
    X_OF_BATCH,
    Y_OF_BATCH,
    X,
    Y,
)

SHAPES = [(1, 256, 512), (7, 96, 128), (5, 40, 256), (16, 512, 1024), (33, 130, 384), (256, 256, 256)]
FEW_ROWS = 16
"""Up to so many the weights take longer to be read than to be multiplied, and the sum is shared out among blocks."""


@tl.jit
def quantized_matmul(
        x: X, w: wtype["K", "N"], scales: SCALES, y: Y, zeros: POINTS | wtype["G", "N"] | None = None,
        bias: BIAS | None = None, alpha: tl.f32 = 1.0,
        wtype: tl.DType = tl.u4, group: int = 128, zero: float = 0.0, activation: str = "",
        BM: int = 64, BN: int = 0, BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """``group`` rows of w share a row of scales and zeros, all of them where it is -1; ``zero`` is one zero point for
    all. ``activation`` is "relu", "gelu", "silu" or none."""
    M, K = x.shape
    _, N = y.shape
    check_groups(K, scales, group)
    later = scaled_later(x, w, group)
    BN = BN or columns_of_a_tile(w)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = product(x, w, scales, zeros, zero, group, (i * BM, j * BN), 0, K, (BM, BN, BK), stages)
    finish(acc, y, scales, bias, alpha, later, activation, (i * BM, j * BN))


@tl.jit
def quantized_matmul_persistent(
        x: X, w: wtype["K", "N"], scales: SCALES, y: Y, zeros: POINTS | wtype["G", "N"] | None = None,
        bias: BIAS | None = None, alpha: tl.f32 = 1.0,
        wtype: tl.DType = tl.u4, group: int = 128, zero: float = 0.0, activation: str = "",
        BM: int = 128, BN: int = 0, BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """As many blocks as the device holds at once, each with every so many'th tile of y, down its columns first."""
    M, K = x.shape
    _, N = y.shape
    check_groups(K, scales, group)
    later = scaled_later(x, w, group)
    BN = BN or columns_of_a_tile(w)
    tl.block(warps=warps)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = tl.grid(tl.minimum(tl.resident_blocks(), rows * columns))
    for tile in tl.range(first, rows * columns, tl.grid_size(0)):
        at = (tile % rows * BM, tile // rows * BN)
        acc = product(x, w, scales, zeros, zero, group, at, 0, K, (BM, BN, BK), stages)
        finish(acc, y, scales, bias, alpha, later, activation, at)


@tl.jit
def quantized_matmul_split_k(
        x: X, w: wtype["K", "N"], scales: SCALES, y: Y, zeros: POINTS | wtype["G", "N"] | None = None,
        bias: BIAS | None = None, alpha: tl.f32 = 1.0, splits: tl.i32 = 4,
        wtype: tl.DType = tl.u4, group: int = 128, zero: float = 0.0, activation: str = "",
        BM: int = 16, BN: int = 0, BK: int = 128, stages: int = 3, warps: int = 4) -> None:
    """For few rows: ``splits`` blocks share the sum over k of a tile, and add up one after another."""
    M, K = x.shape
    _, N = y.shape
    check_groups(K, scales, group)
    later = scaled_later(x, w, group)
    BN = BN or columns_of_a_tile(w)
    tl.block(warps=warps)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    i, j, s = tl.grid(rows, columns, splits)
    tl.device_assert(splits > 0, "splits is positive")
    tl.assume(splits > 0)
    partial = tl.workspace((M, N), tl.f32)
    turn = tl.workspace((rows, columns), tl.i32, zero=True)

    at = (i * BM, j * BN)
    per_split = tl.cdiv(tl.cdiv(K, BK), splits) * BK
    first = s * per_split
    acc = product(x, w, scales, zeros, zero, group, at, first, tl.minimum(first + per_split, K), (BM, BN, BK), stages)
    tl.acquire(turn, (i, j), s)
    if s > 0:
        acc += tl.load(partial, at, (BM, BN))
    if s == splits - 1:
        finish(acc, y, scales, bias, alpha, later, activation, at)
    else:
        tl.store(partial, at, acc)
    tl.release(turn, (i, j), s + 1)


@tl.jit
def quantized_matmul_batched(
        x: X_OF_BATCH, w: wtype["B", "K", "N"], scales: SCALES_OF_BATCH, y: Y_OF_BATCH,
        zeros: POINTS_OF_BATCH | wtype["B", "G", "N"] | None = None, bias: BIAS_OF_BATCH | None = None,
        alpha: tl.f32 = 1.0, wtype: tl.DType = tl.u4, group: int = 128, zero: float = 0.0, activation: str = "",
        BM: int = 64, BN: int = 0, BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """One product for each matrix of a batch."""
    B, M, K = x.shape
    N = y.shape[2]
    check_groups(K, scales[0, :, :], group)
    later = scaled_later(x, w, group)
    BN = BN or columns_of_a_tile(w)
    tl.block(warps=warps)
    i, j, n = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN), B)
    own_zeros = None if zeros is None else zeros[n, :, :]
    own_bias = None if bias is None else bias[n, :]
    acc = product(x[n, :, :], w[n, :, :], scales[n, :, :], own_zeros, zero, group, (i * BM, j * BN), 0, K,
                  (BM, BN, BK), stages)
    finish(acc, y[n, :, :], scales[n, :, :], own_bias, alpha, later, activation, (i * BM, j * BN))


def columns_of_a_tile(w: Any) -> int:
    """Rows of tiles are long on a CPU, which then reads few streams, where they lie one behind the other in memory."""
    return 2048 if tl.target() == "cpu" and not w.prepacked else 128


def check_groups(K: Any, scales: Any, group: int) -> None:
    """Groups divide the rows of the weights."""
    if group > 0:
        tl.device_assert(K % group == 0, "the rows of the weights are no multiple of the group")
        tl.device_assert(scales.shape[0] == K // group, "scales have one row for each group of rows of the weights")
    else:
        tl.device_assert(scales.shape[0] == 1, "scales have one row where all rows of the weights are one group")


def product(x: Any, w: Any, scales: Any, zeros: Any, zero: float, group: int, at: tuple[Any, Any], first: Any,
            last: Any, tile: tuple[int, int, int], stages: int) -> Any:
    """The f32 tile of x @ ((w - zeros) scales) over k from ``first`` to ``last``; without the scales where those can
    wait."""
    (row, column), (BM, BN, BK) = at, tile
    tl.static_assert(group == -1 or group % BK == 0 or BK % group == 0, "BK and the group do not divide each other")
    operand = tl.f32 if tl.target() == "cpu" else x.dtype
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(first, last, BK, stages=stages):
        a = tl.load(x, (row, k), (BM, BK)).to(operand)
        b = weights_tile(x, w, scales, zeros, zero, group, (k, column), (BK, BN))
        acc = tl.dot(a, b.to(operand), acc)
    return acc


def weights_tile(x: Any, w: Any, scales: Any, zeros: Any, zero: float, group: int, at: tuple[Any, Any],
                 tile: tuple[int, int]) -> Any:
    """A tile of (w - zeros) scales; without the scales where those can wait."""
    (k, column), (BK, BN) = at, tile
    later = scaled_later(x, w, group)
    compute = compute_type(x.dtype, w.dtype, x.dtype if later else scales.dtype)
    b = tl.load(w, at, tile).to(compute)
    if zeros is not None:
        b -= of_groups(zeros, k, column, group, BK, BN).to(compute)
    elif zero:
        b -= zero
    if not later:
        b *= of_groups(scales, k, column, group, BK, BN).to(compute)
    return b


def of_groups(array: Any, k: Any, column: Any, group: int, BK: int, BN: int) -> Any:
    """What belongs to BK rows of the weights: a row for all of them, or each row for those of its group."""
    if group == -1 or group >= BK:
        return tl.load(array, (0 if group == -1 else k // group, column), (1, BN))
    rows = BK // group
    found = tl.load(array, (k // group, column), (rows, BN))
    return tl.broadcast_to(found.reshape(rows, 1, BN), (rows, group, BN)).reshape(BK, BN)


def scaled_later(x: Any, w: Any, group: int) -> bool:
    """Whether the sums are scaled, rather than the weights: one row of scales is for all, and the activations' type has
    all of the weights' numbers."""
    return group == -1 and bool(tl.target() == "cpu" or compute_type(x.dtype, w.dtype, x.dtype) == x.dtype)


def finish(acc: Any, y: Any, scales: Any, bias: Any, alpha: Any, later: bool, activation: str,
           at: tuple[Any, Any]) -> None:
    """What is done to the sums, and the store."""
    row, column = at
    BN = acc.shape[1]
    if later:
        acc *= tl.load(scales, (0, column), (1, BN)).to(tl.f32)
    acc *= alpha
    if bias is not None:
        acc += tl.load(bias, column, BN).to(tl.f32)[None, :]
    if activation == "relu":
        acc = tl.relu(acc)
    elif activation == "gelu":
        acc = tl.gelu(acc)
    elif activation == "silu":
        acc = tl.silu(acc)
    else:
        tl.static_assert(activation == "", "the activation is 'relu', 'gelu', 'silu' or ''")
    tl.store(y, (row, column), acc.to(y.dtype))


def compute_type(xtype: tl.DType, wtype: tl.DType, stype: tl.DType) -> Any:
    """In what weights are scaled: as the activations are, where that type holds all numbers of both and the target
    multiplies it."""
    if tl.target() == "cpu":
        return tl.f32
    if stype in (tl.f32, tl.f8e8m0fnu) and not (stype == tl.f8e8m0fnu and xtype == tl.bf16):
        return tl.f32
    if xtype == tl.bf16:
        return tl.f32 if stype == tl.f16 else tl.bf16
    within = not wtype.is_float or wtype.exponent < 5 or (wtype.exponent == 5 and wtype.specials == "ieee")
    return tl.f16 if within and stype != tl.bf16 else tl.f32


class Weights:
    """Quantised weights of shape (K, N), prepacked for the kernels here; row by row for the target ``"cpu"``.

    Attributes:
        constants: the compile-time parameters that describe them.
        arrays: scales and zero points (None where there are none).
        alpha: what all products are multiplied by.
        order: None, or i32 (K,): row i of the weights belongs to column ``order[i]`` of x.
    """

    def __init__(self, q: tl.Quantized, target: str | None = None) -> None:
        """Of what ``tl.quantize`` has given, with groups along the rows. ``target`` is where they are multiplied, by
        default where a call on host arrays runs."""
        import numpy as np

        K, N = q.shape
        scales, self.alpha = q.scales, 1.0
        if isinstance(scales, tl.Quantized):  # scales that have a scale
            self.alpha, scales = float(np.asarray(scales.scales).reshape(())), scales.values
        group = q.group if q.axis == 0 and 0 < q.group < K else -1
        by_number = q.zeros is None or isinstance(q.zeros, (int, float))
        zero = float(q.zeros or 0) if by_number else 0.0
        self.constants: dict[str, Any] = {"wtype": q.dtype, "group": group, "zero": zero}
        self.shape, self.scales, self.zeros = (K, N), rows_of(scales, N), None if by_number else q.zeros
        self.order = q.order
        if target == "cpu":
            self.w = q.values
            return
        self.constants |= tile_of(q.dtype)
        self.w = tl.prepack(q, for_=quantized_matmul, parameter="w", target=target, **self.constants)


@tl.fuse
def columns_of(x: X, order: tl.i32["K"]) -> Any:
    """The columns of x in another order: one pass over x, rather than one in every block of a product."""
    return tl.take(x, tl.broadcast_to(order[None, :], x.shape), axis=1)


def tile_of(wtype: tl.DType) -> dict[str, int]:
    """The tile of weights of which every thread reads a multiple of 128 bits."""
    return {"BN": 128, "BK": 64 if wtype.bits % 2 == 0 else 128, "warps": 4}


def rows_of(scales: Any, columns: int) -> Any:
    """Scales with a column for each of the weights, where there is one for all."""
    import numpy as np

    return scales if scales.ndim == 2 else np.broadcast_to(scales.reshape(1, 1), (1, columns)).copy()


def multiply(x: Any, weights: Weights, y: Any, bias: Any = None, activation: str = "") -> None:
    """y = f(x @ weights + bias) by the kernel for so many rows.

    Args:
        x: f16 or bf16 (M, K).
        y: f16, bf16 or f32 (M, N), which is written.
        bias: (N,) or None.
        activation: "relu", "gelu", "silu" or "".
    """
    kernel, constants = kernel_for(*x.shape)
    if weights.order is not None:
        x = columns_of(x, weights.order)
    kernel(x, weights.w, weights.scales, y, weights.zeros, bias, weights.alpha,
           **{**weights.constants, **constants, "activation": activation})


def kernel_for(M: int, K: int) -> tuple[Any, dict[str, Any]]:
    """The kernel for so many rows of x, with arguments that override the weights' own."""
    if M <= FEW_ROWS:
        return quantized_matmul_split_k, {"BK": 128, "splits": max(1, min(8, K // 1024))}
    return quantized_matmul_persistent if M >= 4096 else quantized_matmul, {"BM": 64 if M <= 64 else 128}


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, wtype: tl.DType = tl.u4,
         group: int = 128, symmetric: bool = True) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    q = tl.quantize(rng.standard_normal((k, n), np.float32) * 0.05, wtype, group=group if k % group == 0 else -1,
                    scale_dtype=dtype, symmetric=symmetric if wtype.is_int else None)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    number = q.zeros is None or isinstance(q.zeros, (int, float))
    constants = {"wtype": wtype, "group": q.group if 0 < q.group < k else -1,
                 "zero": float(q.zeros or 0) if number else 0.0}
    return Case((x, q.values, q.scales, y, None if number else q.zeros), (y,), (wide(x) @ wide(tl.dequantize(q)),),
                constants, depth=k)


def main() -> None:
    report(quantized_matmul, SHAPES, case)


if __name__ == "__main__":
    main()
