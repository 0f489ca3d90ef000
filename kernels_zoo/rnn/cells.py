"""The cells of recurrent networks: what a step does with each element of a state.

A cell has some gates, each g = Wx + R h + b: the last ``inputs`` of them have a projection Wx of the input, the first
``recurrent`` ones a product R h with the state before, and all of them a bias. Its states are h, which is the output,
and others beside it. ``forward(gates, states)`` gives the states after the step. ``backward(gates, states, gradients)``
is given those before the step and the gradients of those after it; it gives the gradients of the gates, and of the
states as far as they do not go through R. Both are functions of tiles, the same for all kernels.

* LSTM (Hochreiter and Schmidhuber, 1997): c' = σ(f) c + σ(i) tanh(z), h' = σ(o) tanh(c').
* GRU (Cho et al., 2014), with the reset behind the product: h' = z h + (1 − z) tanh(n + r g), where r and z are
  sigmoids, g has the product only and n the input only.
* Elman (1990): h' = tanh(g).
* sLSTM (Beck et al., 2024): gates that are exponentials, i = e^(ī − m') and f = e^(log σ(f̄) + m − m') relative to a
  maximum m' = max(ī, log σ(f̄) + m); c' = f c + i tanh(z), n' = f n + i, h' = σ(o) c' / n'. In a first step, where
  n = 0, m' = ī. m has no gradient: c and n grow alike by whatever it is.
* MLGRU (Zhu et al., 2024): f = l + (1 − l) σ(f̄), h' = f h + (1 − f) silu(ī), with no product; l, the lower bound of
  what is kept, is the bias of the first gate, which has nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tilus as tl

Tiles = Sequence[Any]


@dataclass(frozen=True)
class Cell:
    """See above; ``states`` is how many there are, h included."""

    name: str
    gates: int
    inputs: int
    recurrent: int
    states: int
    forward: Callable[[Tiles, Tiles], Tiles]
    backward: Callable[[Tiles, Tiles, Tiles], tuple[Tiles, Tiles]]


def _lstm(gates: Tiles, states: Tiles) -> Tiles:
    i, f, z, o = gates
    c = tl.sigmoid(f) * states[1] + tl.sigmoid(i) * tl.tanh(z)
    return tl.sigmoid(o) * tl.tanh(c), c


def _lstm_backward(gates: Tiles, states: Tiles, gradients: Tiles) -> tuple[Tiles, Tiles]:
    i, f, z, o = tl.sigmoid(gates[0]), tl.sigmoid(gates[1]), tl.tanh(gates[2]), tl.sigmoid(gates[3])
    c, (dh, dc) = states[1], gradients
    top = tl.tanh(f * c + i * z)
    dc = dc + dh * o * (1.0 - top * top)
    return (dc * z * i * (1.0 - i), dc * c * f * (1.0 - f), dc * i * (1.0 - z * z), dh * top * o * (1.0 - o)), \
        (0.0, dc * f)


def _gru(gates: Tiles, states: Tiles) -> Tiles:
    g, r, z, n = gates
    z = tl.sigmoid(z)
    return (z * states[0] + (1.0 - z) * tl.tanh(n + tl.sigmoid(r) * g),)


def _gru_backward(gates: Tiles, states: Tiles, gradients: Tiles) -> tuple[Tiles, Tiles]:
    g, r, z = gates[0], tl.sigmoid(gates[1]), tl.sigmoid(gates[2])
    new, dh = tl.tanh(gates[3] + r * g), gradients[0]
    dn = dh * (1.0 - z) * (1.0 - new * new)
    return (dn * r, dn * g * r * (1.0 - r), dh * (states[0] - new) * z * (1.0 - z), dn), (dh * z,)


def _elman(gates: Tiles, states: Tiles) -> Tiles:
    return (tl.tanh(gates[0]),)


def _elman_backward(gates: Tiles, states: Tiles, gradients: Tiles) -> tuple[Tiles, Tiles]:
    h = tl.tanh(gates[0])
    return (gradients[0] * (1.0 - h * h),), (0.0,)


def _slstm_gates(gates: Tiles, states: Tiles) -> Tiles:
    """i, f, tanh(z), σ(o) and m'."""
    i, f, z, o = gates
    _, _, n, m = states
    kept = m + tl.minimum(f, 0.0) - tl.log1p(tl.exp(-tl.abs(f)))          # log σ(f) + m
    top = tl.where(n == 0.0, i, tl.maximum(i, kept))
    return tl.exp(i - top), tl.exp(kept - top), tl.tanh(z), tl.sigmoid(o), top


def _slstm(gates: Tiles, states: Tiles) -> Tiles:
    i, f, z, o, top = _slstm_gates(gates, states)
    _, c, n, _ = states
    c, n = f * c + i * z, tl.maximum(f * n + i, 1.0)
    return o * c / n, c, n, top


def _slstm_backward(gates: Tiles, states: Tiles, gradients: Tiles) -> tuple[Tiles, Tiles]:
    i, f, z, o, _ = _slstm_gates(gates, states)
    _, c, n, _ = states
    dh, dc, dn, _ = gradients
    inverse = 1.0 / tl.maximum(f * n + i, 1.0)
    mean = (f * c + i * z) * inverse
    dc = dc + dh * o * inverse
    dn = dn - dh * o * mean * inverse
    return ((dc * z + dn) * i, (dc * c + dn * n) * f * (1.0 - tl.sigmoid(gates[1])), dc * i * (1.0 - z * z),
            dh * mean * o * (1.0 - o)), (0.0, dc * f, dn * f, 0.0)


def _mlgru(gates: Tiles, states: Tiles) -> Tiles:
    low, f, i = gates
    f = low + (1.0 - low) * tl.sigmoid(f)
    return (f * states[0] + (1.0 - f) * tl.silu(i),)


def _mlgru_backward(gates: Tiles, states: Tiles, gradients: Tiles) -> tuple[Tiles, Tiles]:
    low, i, dh = gates[0], gates[2], gradients[0]
    s, on = tl.sigmoid(gates[1]), tl.sigmoid(i)
    f = low + (1.0 - low) * s
    df = dh * (states[0] - i * on)
    return (df * (1.0 - s), df * (1.0 - low) * s * (1.0 - s), dh * (1.0 - f) * on * (1.0 + i * (1.0 - on))), (dh * f,)


LSTM = Cell("LSTM", 4, 4, 4, 2, _lstm, _lstm_backward)
GRU = Cell("GRU", 4, 3, 3, 1, _gru, _gru_backward)
ELMAN = Cell("Elman", 1, 1, 1, 1, _elman, _elman_backward)
SLSTM = Cell("sLSTM", 4, 4, 4, 4, _slstm, _slstm_backward)
MLGRU = Cell("MLGRU", 3, 2, 0, 1, _mlgru, _mlgru_backward)
CELLS = (LSTM, GRU, ELMAN, SLSTM, MLGRU)

__all__ = ["CELLS", "ELMAN", "GRU", "LSTM", "MLGRU", "SLSTM", "Cell", "Tiles"]
