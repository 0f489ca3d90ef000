"""Recurrent layers step by step, with heads of any size: a kernel does the products of one step, tile by tile of R, and
what the cell makes of them. States are in memory from one step to the next.
"""

from __future__ import annotations

import tilus as tl
from kernels_zoo.rnn.arrays import (
    BIASES,
    GATES,
    GATES_LOW,
    GRADIENTS,
    HISTORY,
    INPUTS,
    KEPT,
    LOW,
    OUTPUTS,
    STATES,
    TOTALS,
    WEIGHTS,
)
from kernels_zoo.rnn.cells import LSTM, Cell
from kernels_zoo.rnn.rounded import Rounded, dot, factors
from kernels_zoo.rnn.steps import ALL, Tile, backward_step, biases_of, check_gates, clipped, forward_step, inputs_of


@tl.jit
def rnn_forward_step(
    wx: INPUTS, r: WEIGHTS, bias: BIASES, h: HISTORY, low: LOW | None, states: STATES, gates: GATES | None,
    kept: KEPT | None, t: tl.i32, cell: Cell = LSTM, D: int = 64, BM: int = 16, BN: int = 32, BK: int = 32,
    stages: int = 2, warps: int = 2,
) -> None:
    """Step ``t``: ``h`` has that of the step before at t, ``states`` the states before the step, and then after it."""
    check_gates(cell, wx, r, bias)
    B, _, _, N, _ = wx.shape
    tl.block(warps=warps)
    i, j, n = tl.grid(tl.cdiv(B, BM), -(-D // BN), N)
    tile, rounded = Tile(n, i * BM, j * BN, BM, BN), Rounded(h, low)
    products = [tl.zeros((BM, BN), tl.f32) for _ in range(cell.recurrent)]
    for k in tl.range(0, D if cell.recurrent else 0, BK, stages=stages):
        weights = [tl.load(r[g, n, :, :], (tile.column, k), (BN, BK)).T for g in range(cell.recurrent)]
        for x in factors([tl.load(step[:, n, :], (tile.row, k), (BM, BK)) for step in rounded.steps(t)]):
            products = [dot(x, w, acc) for w, acc in zip(weights, products, strict=True)]
    before = [tile.load(states, s, ALL) for s in range(cell.states)]
    after = forward_step(cell, tile, t, products, inputs_of(cell, tile, wx, t), biases_of(cell, tile, bias), before,
                         rounded, gates, kept)
    for s in range(cell.states):
        tile.store(states, (s, ALL), after[s])


@tl.jit
def rnn_backward_step(
    r: WEIGHTS, h: HISTORY, low: LOW | None, gates: GATES, kept: KEPT, dh: OUTPUTS, dgates: GRADIENTS,
    dgates_low: GATES_LOW | None, gradients: STATES, totals: TOTALS, clip: tl.f32 | None, t: tl.i32,
    cell: Cell = LSTM, D: int = 64, BM: int = 16, BN: int = 32, BK: int = 32, stages: int = 2, warps: int = 2,
) -> None:
    """Step ``t``: ``gradients`` has those of the states after it, but for what comes by R from the gates of the step
    after it, and then the same of the states before it. Of step −1, which there is not, they are all of it."""
    B, T, _, N, _ = gates.shape
    tl.block(warps=warps)
    i, j, n = tl.grid(tl.cdiv(B, BM), -(-D // BN), N)
    tile, of_gates = Tile(n, i * BM, j * BN, BM, BN), Rounded(dgates, dgates_low)
    product = tl.zeros((BM, BN), tl.f32)
    for g in range(cell.recurrent):
        for k in tl.range(0, D, BK, stages=stages):
            weights = tl.load(r[g, n, :, :], (k, tile.column), (BK, BN))
            for x in factors([tl.load(s[:, g, n, :], (tile.row, k), (BM, BK)) for s in of_gates.steps(t + 1)]):
                product = dot(x, weights, product)
    product = clipped(product, clip)
    if t < 0:
        tile.store(gradients, (0, ALL), tile.load(gradients, 0, ALL) + product)
        return
    after = [tile.load(gradients, s, ALL) for s in range(cell.states)]
    found, before = backward_step(cell, tile, t, product, after, Rounded(h, low), gates, kept, dh, of_gates)
    for s in range(cell.states):
        tile.store(gradients, (s, ALL), before[s])
    for g in range(cell.gates):
        tile.store(totals, (g, ALL), tile.load(totals, g, ALL) + found[g])


__all__ = ["rnn_backward_step", "rnn_forward_step"]
