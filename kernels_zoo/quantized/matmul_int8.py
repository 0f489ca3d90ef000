"""y = (x @ ((w - zero) scales)) row_scales: activations quantised to int8 row by row, weights of integers by groups.

Products are summed as integers within a group, exactly, and scaled once for each.
"""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, report, wide
from kernels_zoo.quantized.parameters import POINTS, Y

SHAPES = [(1, 64, 512), (7, 96, 128), (5, 40, 256), (33, 130, 384), (128, 256, 256)]


@tl.jit
def quantized_matmul_int8(x: tl.i8["M", "K"], row_scales: tl.f32["M"], w: wtype["K", "N"], scales: POINTS, y: Y,
                          wtype: tl.DType = tl.u4, group: int = 128, zero: int = 0, BM: int = 64, BN: int = 128,
                          BK: int = 128, stages: int = 3, warps: int = 4) -> None:
    """Groups are as many rows of w as BK, or a multiple of it; -1: all of them. The differences of w and ``zero`` are
    numbers of i8."""
    M, K = x.shape
    _, N = y.shape
    tl.static_assert(group == -1 or group % BK == 0, "the group is a multiple of BK")
    tl.device_assert(scales.shape[0] == (1 if group == -1 else tl.cdiv(K, group)), "scales have one row for each group")
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        b = tl.load(w, (k, j * BN), (BK, BN)).to(tl.i8) - zero
        part = tl.dot(tl.load(x, (i * BM, k), (BM, BK)), b, tl.zeros((BM, BN), tl.i32))
        acc += part.to(tl.f32) * tl.load(scales, (0 if group == -1 else k // group, j * BN), (1, BN)).to(tl.f32)
    acc *= tl.load(row_scales, i * BM, BM)[:, None]
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


def quantize_rows(x: Any) -> tuple[Any, Any]:
    """f32 (M, K) as int8 with one scale a row: the greatest magnitude becomes 127."""
    q = tl.quantize(x, tl.i8, axis=1, scale_dtype=tl.f32)
    return q.values.argument.array, q.scales.reshape(-1)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, wtype: tl.DType = tl.u4,
         group: int = 128) -> Case:
    """``shape`` is (M, N, K). Measured against the product of the numbers that the codes stand for."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    q = tl.quantize(rng.standard_normal((k, n), np.float32) * 0.05, wtype, group=group, scale_dtype=dtype)
    x, rows = quantize_rows(rng.standard_normal((m, k), np.float32))
    y = empty((m, n), dtype)
    reference = (wide(x) * wide(rows)[:, None]) @ wide(tl.dequantize(q))
    constants = {"wtype": wtype, "group": group, "zero": int(q.zeros or 0), "BK": min(128, group)}
    return Case((x, rows, q.values, q.scales, y), (y,), (reference,), constants, depth=k)


def main() -> None:
    report(quantized_matmul_int8, SHAPES, case)


if __name__ == "__main__":
    main()
