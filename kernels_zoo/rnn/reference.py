"""Recurrent layers by their definition, in NumPy and f64.

A cell is one function, (gates, states) to states. Gradients of it are exact by complex steps: an analytic function of
x + i ε has the imaginary part ε f'(x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kernels_zoo.rnn.cells import Cell

if TYPE_CHECKING:
    from kernels_zoo.checking import Array
EPSILON = 1e-30


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm(gates: Array, states: Array) -> list[Array]:
    i, f, z, o = gates
    c = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(z)
    return [sigmoid(o) * np.tanh(c), c]


def gru(gates: Array, states: Array) -> list[Array]:
    g, r, z, n = gates
    return [sigmoid(z) * states[0] + (1 - sigmoid(z)) * np.tanh(n + sigmoid(r) * g)]


def elman(gates: Array, states: Array) -> list[Array]:
    return [np.tanh(gates[0])]


def slstm(gates: Array, states: Array) -> list[Array]:
    i, f, z, o = gates
    _, c, n, m = states                                            # m, the maximum, has no gradient
    kept = np.log(sigmoid(f)) + m.real
    top = np.where((n == 0) | (kept.real < i.real), i, kept).real
    c, n = np.exp(kept - top) * c + np.exp(i - top) * np.tanh(z), np.exp(kept - top) * n + np.exp(i - top)
    n = np.maximum(n.real, 1) + (n - n.real)
    return [sigmoid(o) * c / n, c, n, top]


def mlgru(gates: Array, states: Array) -> list[Array]:
    low, f, i = gates
    f = low + (1 - low) * sigmoid(f)
    return [f * states[0] + (1 - f) * i * sigmoid(i)]


FUNCTIONS = {"LSTM": lstm, "GRU": gru, "Elman": elman, "sLSTM": slstm, "MLGRU": mlgru}


def all_gates(cell: Cell, wx: Array, r: Array, bias: Array, h: Array) -> Array:
    """(G, B, N, D) of one step."""
    gates = np.repeat(bias[:, None], wx.shape[0], axis=1)
    gates[: cell.recurrent] += np.einsum("gnij,bnj->gbni", r, h)
    gates[cell.gates - cell.inputs :] += np.moveaxis(wx, 1, 0)
    return np.asarray(gates)


def forward(cell: Cell, wx: Array, r: Array, bias: Array, initial: Array) -> tuple[Array, list[Array], list[Array]]:
    """h (B, T, N, D), the states (S, B, N, D) before each step and after the last one, and the gates of each."""
    states, gates = [initial], []
    for t in range(wx.shape[1]):
        gates.append(all_gates(cell, wx[:, t], r, bias, states[-1][0]))
        states.append(np.stack(FUNCTIONS[cell.name](gates[-1], states[-1])))
    h = np.stack([s[0] for s in states[1:]], axis=1) if gates else np.zeros_like(wx[:, :, 0])
    return h, states, gates


def slopes(cell: Cell, gates: Array, states: Array, gradients: Array) -> tuple[Array, Array]:
    """The gradients of a step's gates and states, from those of the states after it."""
    found = []
    for of in (gates, states):
        for n in range(len(of)):
            moved = [x.astype(complex) for x in (gates, states)]
            moved[of is states][n] += EPSILON * 1j
            after = FUNCTIONS[cell.name](*moved)
            found.append(sum(g * np.imag(x) for g, x in zip(gradients, after, strict=True)) / EPSILON)
    return np.stack(found[: len(gates)]), np.stack(found[len(gates) :])


def backward(cell: Cell, operands: tuple[Array, Array, Array, Array], dh: Array, final: Array,
             clip: float | None = None) -> tuple[Array, Array, Array, Array]:
    """The gradients of ``operands``, wx, r, bias and the initial states, from those of h and of the final states."""
    wx, r, bias, initial = operands
    _, states, gates = forward(cell, wx, r, bias, initial)
    first, count = cell.gates - cell.inputs, cell.recurrent
    dwx, dr, db, carried = np.zeros_like(wx), np.zeros_like(r), np.zeros_like(bias), np.array(final)
    for t in reversed(range(wx.shape[1])):
        carried[0] += dh[:, t]
        dg, carried = slopes(cell, gates[t], states[t], carried)
        dwx[:, t] = np.moveaxis(dg[first:], 0, 1)
        dr += np.einsum("gbni,bnj->gnij", dg[:count], states[t][0])
        db += dg.sum(axis=1)
        through = np.einsum("gnij,gbni->bnj", r, dg[:count])
        carried[0] += through if clip is None else np.clip(through, -clip, clip)
    return dwx, dr, db, carried


def operands(cell: Cell, shape: tuple[int, ...], dtype: Any, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Random wx, r, bias and initial states for ``shape``, (B, T, N, D)."""
    batch, steps, heads, d = shape
    rng = np.random.default_rng(seed)

    def normal(*extents: int) -> Array:
        return rng.standard_normal(extents).astype(np.float32)

    wx, bias = normal(batch, steps, cell.inputs, heads, d), normal(cell.gates, heads, d)
    r = normal(cell.recurrent, heads, d, d) / np.float32(max(1, d) ** 0.5)
    initial = normal(cell.states, batch, heads, d)
    if cell.name == "MLGRU":
        bias[0] = sigmoid(bias[0])
    if cell.name == "sLSTM":
        initial[2] = 1 + np.abs(initial[2])
    initial[0] = initial[0].astype(dtype.numpy)
    return wx.astype(dtype.numpy), r.astype(dtype.numpy), bias.astype(dtype.numpy), initial




__all__ = ["FUNCTIONS", "backward", "forward", "operands"]
