"""Recurrent layers as one kernel for all steps, whose weights stay on the chip (FlashRNN: Pöppel, Beck and Hochreiter,
2024).

A block has BN elements of a head, and of R what they take: rows R_g[i, :] forward, columns R_g[:, i] backward. It loads
these once, and holds them in registers, the last ``shared`` rows of the product's depth in shared memory. In each step
it multiplies them by all of the head's h (of the gates' gradients), which blocks give each other by way of memory, once
a step; a block that has all of a head keeps them in registers, and waits for nobody. States, and gradients of states,
never leave the registers. ``BK`` rows of the depth are multiplied at a time, all of a head's where it is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def pieces(D: int, BK: int) -> list[tuple[int, int]]:
    """Where those of a head's D elements begin that are multiplied together, and how many they are."""
    K = -(-D // 16) * 16
    return [(k, min(BK or K, K - k)) for k in range(0, K, BK or K)]


def held(weights: Any, in_registers: bool) -> Callable[[], Any]:
    """Keeps a tile for all steps, here or in shared memory."""
    if in_registers:
        return lambda: weights
    memory = tl.shared(weights.shape, weights.dtype)
    tl.store(memory, (0, 0), weights)
    tl.sync()
    return lambda: tl.load(memory)


def held_part(view: Any, at: tuple[Any, Any], shape: tuple[int, int], in_registers: bool) -> Callable[[], Any]:
    """Keeps a part of a matrix for all steps, here or, without a way through registers, in shared memory."""
    if in_registers:
        weights = tl.load(view, at, shape)
        return lambda: weights
    memory = tl.shared(shape, view.dtype)
    fetch(memory, view, at)
    return lambda: tl.load(memory)


def fetch(memory: Any, view: Any, at: tuple[Any, Any]) -> None:
    """Fill shared memory; without registers, which are all taken, where the target can do that."""
    if tl.supports(tl.copy_async):
        tl.copy_async(memory, view, at)
        tl.commit()
        tl.wait(0)
    else:
        tl.store(memory, (0, 0), tl.load(view, at, memory.shape))


Weights = list[Callable[[], Any]]
"""Of each piece of the depth."""


def product_of_own(acc: Any, own: list[Any], weights: Weights) -> Any:
    """``acc`` and the product of the parts of a tile with all of the depth."""
    for x in factors(own):
        acc = dot(x, weights[0](), acc)
    return acc


def product_of_all(acc: Any, views: list[Any], tile: Tile, memory: Any, parts: list[tuple[int, int]],
                   weights: Weights) -> Any:
    """``acc`` and the product of a block's sequences of a head, in memory the sum of ``views``: those go by way of
    shared ``memory``, one after another, if there is any."""
    if memory is None:
        for (k, size), w in zip(parts, weights, strict=True):
            for x in factors([tl.load(view, (tile.row, k), (tile.BM, size)) for view in views]):
                acc = dot(x, w(), acc)
        return acc
    for view in views:
        tl.sync()
        fetch(memory, view, (tile.row, 0))
        tl.sync()
        for (k, size), w in zip(parts, weights, strict=True):
            acc = tl.dot(tl.load(memory, (0, k), (tile.BM, size)), w(), acc)
    return acc


@tl.jit
def rnn_forward(
    wx: INPUTS, r: WEIGHTS, bias: BIASES, h: HISTORY, low: LOW | None, states: STATES, gates: GATES | None,
    kept: KEPT | None, cell: Cell = LSTM, D: int = 64, BM: int = 16, BN: int = 16, BK: int = 0, shared: int = 0,
    warps: int = 4,
) -> None:
    """``h`` has the initial h before the first step, ``states`` the initial states, and then the final ones."""
    check_gates(cell, wx, r, bias)
    B, T, _, N, _ = wx.shape
    R, alone = cell.recurrent, D <= BN
    BN, BK = (-(-D // 16) * 16, 0) if alone else (BN, BK)
    tl.block(warps=warps, cooperative=R > 0 and not alone)
    i, n, j = tl.grid(-(-D // BN), N, tl.cdiv(B, BM))
    tile, rounded = Tile(n, j * BM, i * BN, BM, BN), Rounded(h, low)
    stored = rounded if not alone or gates is not None else Rounded(h, None)
    parts = pieces(D, BK) if R else []
    memory = tl.shared((BM, -(-D // 16) * 16), h.dtype) if len(parts) > 1 else None
    weights = [held(tl.load(r[:, n, :, :], (0, tile.column, k), (R, BN, size)).reshape(R * BN, size).T,
                    k + size <= D - shared or shared == 0) for k, size in parts]
    biases, inputs = biases_of(cell, tile, bias), inputs_of(cell, tile, wx, 0)
    state = [tile.load(states, s, ALL) for s in range(cell.states)]
    for t in tl.range(T):
        products: Any = ()
        if R:
            acc = tl.zeros((BM, R * BN), tl.f32)
            if alone:
                acc = product_of_own(acc, rounded.parts(state[0]), weights)
            else:
                acc = product_of_all(acc, [x[:, n, :] for x in rounded.steps(t)], tile, memory, parts, weights)
            products = tl.split(acc, R, 1)
        state = forward_step(cell, tile, t, products, inputs, biases, state, stored, gates, kept)
        inputs = inputs_of(cell, tile, wx, t + 1)
        if R and not alone:
            tl.grid_sync()
    for s in range(cell.states):
        tile.store(states, (s, ALL), state[s])


@tl.jit
def rnn_backward(
    r: WEIGHTS, h: HISTORY, low: LOW | None, gates: GATES, kept: KEPT, dh: OUTPUTS, dgates: GRADIENTS,
    dgates_low: GATES_LOW | None, gradients: STATES, totals: TOTALS, clip: tl.f32 | None, cell: Cell = LSTM,
    D: int = 64, BM: int = 16, BN: int = 16, BK: int = 0, shared: int = 0, warps: int = 4,
) -> None:
    """``gradients`` has those of the final states, and then of the initial ones; ``totals`` gets the sums of the gates'
    gradients over the steps."""
    B, T, _, N, _ = gates.shape
    R, alone = cell.recurrent, D <= BN
    BN, BK = (-(-D // 16) * 16, 0) if alone else (BN, BK)
    tl.block(warps=warps, cooperative=R > 0 and not alone)
    i, n, j = tl.grid(-(-D // BN), N, tl.cdiv(B, BM))
    tile, of_gates = Tile(n, j * BM, i * BN, BM, BN), Rounded(dgates, dgates_low)
    stored = Rounded(dgates, None) if alone else of_gates           # low is for others, and for this step
    parts = pieces(D, BK)
    memory = tl.shared((BM, -(-D // 16) * 16), dgates.dtype) if R and len(parts) > 1 else None
    weights = [[held_part(r[g, n, :, :], (k, tile.column), (size, BN),
                          g * D + k + size <= R * D - shared or shared == 0) for k, size in parts] for g in range(R)]
    tl.sync()
    carried = [tile.load(gradients, s, ALL) for s in range(cell.states)]
    sums = [tl.zeros((BM, BN), tl.f32) for _ in range(cell.gates)]
    product = tl.zeros((BM, BN), tl.f32)
    for step in tl.range(T):
        t = T - 1 - step
        found, carried = backward_step(cell, tile, t, product, carried, Rounded(h, low), gates, kept, dh, stored)
        sums = [a + b for a, b in zip(sums, found, strict=True)]
        if R and not alone:
            tl.grid_sync()
        product = tl.zeros((BM, BN), tl.f32)
        for g in range(R):
            if alone:
                product = product_of_own(product, of_gates.parts(found[g]), weights[g])
            else:
                views = [x[:, g, n, :] for x in of_gates.steps(t)]
                product = product_of_all(product, views, tile, memory, parts, weights[g])
        product = clipped(product, clip)
    carried[0] = carried[0] + product
    for s in range(cell.states):
        tile.store(gradients, (s, ALL), carried[s])
    for g in range(cell.gates):
        tile.store(totals, (g, ALL), sums[g])


__all__ = ["rnn_backward", "rnn_forward"]
