"""The gated feed-forward layer, (silu(x @ gate) * (x @ up)) @ down, with quantised weights in two launches.

The first kernel reads a tile of x once for both products, and keeps what it makes of them in f16.
"""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.quantized.matmul import Weights, check_groups, columns_of_a_tile, multiply, scaled_later, weights_tile
from kernels_zoo.quantized.parameters import POINTS, SCALES, X, Y

SHAPES = [(1, 128, 256), (7, 96, 128), (0, 40, 128), (33, 130, 384)]


@tl.jit
def gate_and_up(x: X, gate: wtype["K", "N"], gate_scales: SCALES, up: wtype["K", "N"], up_scales: SCALES, y: Y,
                gate_zeros: POINTS | wtype["G", "N"] | None = None, up_zeros: POINTS | wtype["G", "N"] | None = None,
                gate_alpha: tl.f32 = 1.0, up_alpha: tl.f32 = 1.0, wtype: tl.DType = tl.u4, group: int = 128,
                zero: float = 0.0, BM: int = 16, BN: int = 0, BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """y = silu(x @ gate) * (x @ up). Both weights are of one format."""
    M, K = x.shape
    N = y.shape[1]
    check_groups(K, gate_scales, group)
    check_groups(K, up_scales, group)
    BN = BN or min(1024, columns_of_a_tile(gate))
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    tl.static_assert(group == -1 or group % BK == 0 or BK % group == 0, "BK and the group do not divide each other")
    operand = tl.f32 if tl.target() == "cpu" else x.dtype
    left, right = tl.zeros((BM, BN), tl.f32), tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        a, at = tl.load(x, (i * BM, k), (BM, BK)).to(operand), (k, j * BN)
        g = weights_tile(x, gate, gate_scales, gate_zeros, zero, group, at, (BK, BN))
        u = weights_tile(x, up, up_scales, up_zeros, zero, group, at, (BK, BN))
        left, right = tl.dot(a, g.to(operand), left), tl.dot(a, u.to(operand), right)
    if scaled_later(x, gate, group):
        left *= tl.load(gate_scales, (0, j * BN), (1, BN)).to(tl.f32)
        right *= tl.load(up_scales, (0, j * BN), (1, BN)).to(tl.f32)
    found = tl.silu(left * gate_alpha) * (right * up_alpha)
    tl.store(y, (i * BM, j * BN), found.to(y.dtype))


class Mlp:
    """The three weights of a layer, of one format."""

    def __init__(self, gate: tl.Quantized, up: tl.Quantized, down: tl.Quantized, target: str | None = None) -> None:
        self.gate, self.up, self.down = (Weights(q, target) for q in (gate, up, down))
        if self.gate.constants != self.up.constants:
            raise ValueError("the gate's and the up projection's weights have one format")


def forward(x: Any, mlp: Mlp, hidden: Any, y: Any) -> None:
    """``hidden`` (M, width) is scratch memory of x's type."""
    gate, up = mlp.gate, mlp.up
    gate_and_up(x, gate.w, gate.scales, up.w, up.scales, hidden, gate.zeros, up.zeros, gate.alpha, up.alpha,
                **{**gate.constants, "BM": 16 if x.shape[0] <= 16 else 64})
    multiply(hidden, mlp.down, y)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, wtype: tl.DType = tl.u4) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    gate, up = (tl.quantize(rng.standard_normal((k, n), np.float32) * 0.1, wtype, group=128, scale_dtype=dtype)
                for _ in range(2))
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    left, right = (wide(x) @ wide(tl.dequantize(q)) for q in (gate, up))
    constants = {"wtype": wtype, "group": -1 if k == 128 else 128, "zero": float(gate.zeros or 0)}
    return Case((x, gate.values, gate.scales, up.values, up.scales, y), (y,), (left / (1 + np.exp(-left)) * right,),
                constants, depth=k)


def main() -> None:
    report(gate_and_up, SHAPES, case)


if __name__ == "__main__":
    main()
