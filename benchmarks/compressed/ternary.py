"""BitLinear, products of narrow integers and floats, and products by shifts and adds, against our product of f32."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilus as tl
from benchmarks.compressed.timing import Line, Lines, milliseconds, seconds

K = N = 4096
PAPER = "25.6 % faster, 61 % less memory in training"
SHIFTS = "5.18x over PyTorch's layers"


def lines() -> Lines:
    from kernels_zoo.gemm.matmul import matmul
    from kernels_zoo.quantized import bitlinear, scaled

    rng = np.random.default_rng(0)
    w = (rng.standard_normal((K, N)) * 0.05).astype(np.float32)
    four, five = bitlinear.Weights(w), bitlinear.Weights(w, five=True)
    narrow = {dtype: scaled.Weights(w, dtype) for dtype in (tl.i8, tl.i4)}
    for m in (1, 64):
        x, y = rng.standard_normal((m, K)).astype(np.float32), np.empty((m, N), np.float32)

        def run(function: Any, *arguments: Any, x: Any = x, y: Any = y) -> Any:
            return lambda: function(x, *arguments, y)

        *ours, dense = seconds(run(bitlinear.forward, four), run(bitlinear.forward, five),
                               run(scaled.multiply, narrow[tl.i8]), run(scaled.multiply, narrow[tl.i4]),
                               run(matmul, w))
        what = ("BitLinear, 4 to a byte", "BitLinear, 5 to a byte", "int8 x int8, rows quantised", "int4 x int4")
        for name, time, bar in zip(what, ours, (8.0 if m == 1 else None, None, None, None), strict=True):
            yield Line(f"m={m}, {name}", milliseconds(time), dense / time, "our f32", bar, PAPER)
    x, y = rng.standard_normal((1, K)).astype(np.float32), np.empty((1, N), np.float32)
    other = np.zeros(1 << 24, np.float32)
    cold, dense, _ = seconds(lambda: bitlinear.forward(x, four, y), lambda: matmul(x, w, y), lambda: np.negative(
        other, out=other), times=1)
    yield Line("m=1, BitLinear, 4 to a byte, not in the caches", milliseconds(cold), dense / cold, "our f32", None,
               PAPER)
    yield from shifts(rng)


def shifts(rng: Any) -> Lines:
    """The paper's shapes of a product by shifts and one by adds."""
    from kernels_zoo.gemm.matmul import matmul
    from kernels_zoo.quantized import shift_add

    x, w = rng.standard_normal((3136, 64)).astype(np.float32), rng.standard_normal((64, 512)).astype(np.float32)
    sign, shift = shift_add.powers_of_two(w)
    y, z = np.empty((3136, 512), np.float32), np.empty((3136, 512), np.float32)
    ours, dense = seconds(lambda: shift_add.shift_matmul(x, sign, shift, y), lambda: matmul(x, w, z))
    yield Line("MatShift 3136x64x512", milliseconds(ours), dense / ours, "our f32", None, SHIFTS)
    mask = rng.integers(-1, 2, (1, 3136, 32)).astype(np.int8)
    v, out = rng.standard_normal((1, 3136, 16)).astype(np.float32), np.empty((1, 32, 16), np.float32)
    zeros = np.empty((32, 16), np.float32)
    turned = np.ascontiguousarray((mask[0] > 0).T.astype(np.float32))
    ours, dense = seconds(lambda: shift_add.add_matmul(mask, v, out), lambda: matmul(turned, v[0], zeros))
    yield Line("MatAdd 32x3136x16", milliseconds(ours), dense / ours, "our f32", None, SHIFTS)
