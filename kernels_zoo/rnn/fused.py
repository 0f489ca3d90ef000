"""Recurrent layers as one kernel for all steps, whose weights stay on the chip (FlashRNN: Pöppel, Beck and Hochreiter,
2024).

A block has BN elements of a head, and of R what they take: rows R_g[i, :] forward, columns R_g[:, i] backward. It loads
these once. In each step it multiplies them by all of the head's h (of the gates' gradients), which blocks give each
other by way of memory, once a step; a block that has all of a head keeps them in registers, and waits for nobody.
States, and gradients of states, never leave the registers.
"""

from __future__ import annotations

import tilus as tl
from kernels_zoo.rnn.arrays import (
    BIASES,
    GATES,
    GRADIENTS,
    HISTORY,
    INPUTS,
    KEPT,
    OUTPUTS,
    STATES,
    TOTALS,
    WEIGHTS,
)
from kernels_zoo.rnn.cells import LSTM, Cell
from kernels_zoo.rnn.steps import ALL, Tile, backward_step, biases_of, clipped, forward_step, inputs_of


@tl.jit
def rnn_forward(
    wx: INPUTS, r: WEIGHTS, bias: BIASES, h: HISTORY, states: STATES, gates: GATES | None, kept: KEPT | None,
    cell: Cell = LSTM, D: int = 64, BM: int = 16, BN: int = 16, warps: int = 4,
) -> None:
    """``h`` has the initial h before the first step, ``states`` the initial states, and then the final ones."""
    B, T, _, N, _ = wx.shape
    K = -(-D // 16) * 16
    alone = D <= BN
    BN = K if alone else BN
    R = cell.recurrent
    tl.block(warps=warps, cooperative=R > 0 and not alone)
    i, n, j = tl.grid(-(-D // BN), N, tl.cdiv(B, BM))
    tile = Tile(n, j * BM, i * BN, BM, BN)
    if R:
        weights = tl.load(r[:, n, :, :], (0, tile.column, 0), (R, BN, K)).reshape(R * BN, K).T
        x = tl.load(h[:, 0, n, :], (tile.row, 0), (BM, K))
    biases, inputs = biases_of(cell, tile, bias), inputs_of(cell, tile, wx, 0)
    state = [tile.load(states, s, ALL) for s in range(cell.states)]
    for t in tl.range(T):
        products = tl.split(tl.dot(x, weights), R, 1) if R else ()
        state = forward_step(cell, tile, t, products, inputs, biases, state, h, gates, kept)
        inputs = inputs_of(cell, tile, wx, t + 1)
        if alone:
            x = state[0].to(h.dtype)
        elif R:
            tl.grid_sync()
            x = tl.load(h[:, t + 1, n, :], (tile.row, 0), (BM, K))
    for s in range(cell.states):
        tile.store(states, (s, ALL), state[s])


@tl.jit
def rnn_backward(
    r: WEIGHTS, h: HISTORY, gates: GATES, kept: KEPT, dh: OUTPUTS, dgates: GRADIENTS, gradients: STATES, totals: TOTALS,
    clip: tl.f32 | None, cell: Cell = LSTM, D: int = 64, BM: int = 16, BN: int = 16, warps: int = 4,
) -> None:
    """``gradients`` has those of the final states, and then of the initial ones; ``totals`` gets the sums of the gates'
    gradients over the steps."""
    B, T, G, N, _ = gates.shape
    K = -(-D // 16) * 16
    alone = D <= BN
    BN = K if alone else BN
    R = cell.recurrent
    tl.block(warps=warps, cooperative=R > 0 and not alone)
    i, n, j = tl.grid(-(-D // BN), N, tl.cdiv(B, BM))
    tile = Tile(n, j * BM, i * BN, BM, BN)
    if R:
        weights = tl.load(r[:, n, :, :], (0, 0, tile.column), (R, K, BN)).reshape(R * K, BN)
    carried = [tile.load(gradients, s, ALL) for s in range(cell.states)]
    sums = [tl.zeros((BM, BN), tl.f32) for _ in range(cell.gates)]
    product = tl.zeros((BM, BN), tl.f32)
    for step in tl.range(T):
        t = T - 1 - step
        found, carried = backward_step(cell, tile, t, product, carried, h, gates, kept, dh, dgates)
        sums = [a + b for a, b in zip(sums, found, strict=True)]
        if R:
            if alone:
                x = tl.concatenate([g.to(dgates.dtype) for g in found[:R]], 1)
            else:
                tl.grid_sync()
                x = tl.load(dgates[:, t, :, n, :], (tile.row, 0, 0), (BM, R, K)).reshape(BM, R * K)
            product = clipped(tl.dot(x, weights), clip)
    carried[0] = carried[0] + product
    for s in range(cell.states):
        tile.store(gradients, (s, ALL), carried[s])
    for g in range(cell.gates):
        tile.store(totals, (g, ALL), sums[g])


__all__ = ["rnn_backward", "rnn_forward"]
