"""One step of an LSTM (Hochreiter and Schmidhuber, 1997), recurrent products and gates in one kernel.

For each of N heads, with the projections wx of the input given: g = wx + R h + bias for the gates i, f, z, o, then
c' = σ(f) c + σ(i) tanh(z) and h' = σ(o) tanh(c').
"""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = [(0, 1, 16), (1, 1, 1), (16, 1, 256), (15, 3, 65), (17, 2, 64), (33, 1, 127)]


@tl.jit
def lstm_step(wx: tl.f16["B", 4, "N", "D"] | tl.bf16["B", 4, "N", "D"] | tl.f32["B", 4, "N", "D"],
              r: tl.f16[4, "N", "D", "D"] | tl.bf16[4, "N", "D", "D"] | tl.f32[4, "N", "D", "D"],
              bias: tl.f16[4, "N", "D"] | tl.bf16[4, "N", "D"] | tl.f32[4, "N", "D"],
              h: tl.f16["B", "N", "D"] | tl.bf16["B", "N", "D"] | tl.f32["B", "N", "D"], c: tl.f32["B", "N", "D"],
              h_out: tl.f16["B", "N", "D"] | tl.bf16["B", "N", "D"] | tl.f32["B", "N", "D"],
              c_out: tl.f32["B", "N", "D"],
              BM: int = 16, BN: int = 32, BK: int = 32, stages: int = 2, warps: int = 2) -> None:
    B, _, N, D = wx.shape
    tl.block(warps=warps)
    i, j, n = tl.grid(tl.cdiv(B, BM), tl.cdiv(D, BN), N)
    row, column = i * BM, j * BN
    gates = [tl.zeros((BM, BN), tl.f32) for _ in range(4)]
    for k in tl.range(0, D, BK, stages=stages):
        state = tl.load(h[:, n, :], (row, k), (BM, BK))
        gates = [tl.dot(state, tl.load(r[g, n, :, :], (column, k), (BN, BK)).T, gates[g]) for g in range(4)]

    def gate(g: int) -> tl.Tile:
        offset = tl.load(bias[g, n, :], column, BN).to(tl.f32)
        return gates[g] + tl.load(wx[:, g, n, :], (row, column), (BM, BN)).to(tl.f32) + offset

    old = tl.load(c[:, n, :], (row, column), (BM, BN))
    new = tl.sigmoid(gate(1)) * old + tl.sigmoid(gate(0)) * tl.tanh(gate(2))
    tl.store(c_out[:, n, :], (row, column), new)
    tl.store(h_out[:, n, :], (row, column), (tl.sigmoid(gate(3)) * tl.tanh(new)).to(h_out.dtype))


def reference(wx: Array, r: Array, bias: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """h' and c'."""
    import numpy as np

    i, f, z, o = np.moveaxis(wx + np.einsum("gnij,bnj->bgni", r, h) + bias, 1, 0)

    def sigmoid(x: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-x)))

    new = sigmoid(f) * c + sigmoid(i) * np.tanh(z)
    return sigmoid(o) * np.tanh(new), new


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """``shape`` is (B, N, D)."""
    import numpy as np

    batch, heads, d = shape
    rng = np.random.default_rng(seed)
    wx, bias = normal(rng, (batch, 4, heads, d), dtype), normal(rng, (4, heads, d), dtype)
    r = (normal(rng, (4, heads, d, d), tl.f32) / max(1, d) ** 0.5).astype(dtype.numpy)
    h, c = normal(rng, (batch, heads, d), dtype), normal(rng, (batch, heads, d), tl.f32)
    outputs = (empty(h.shape, dtype), empty(c.shape, tl.f32))
    return Case((wx, r, bias, h, c, *outputs), outputs, reference(*map(wide, (wx, r, bias, h, c))), depth=d)


def main() -> None:
    report(lstm_step, SHAPES, case)


if __name__ == "__main__":
    main()
