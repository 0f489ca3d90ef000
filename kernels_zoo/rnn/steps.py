"""One step of a recurrent layer, forward and backward, for a tile of BM sequences by BN elements of a head.

What is done with the products R h, the same for kernels that do one step and kernels that do all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.rnn.cells import Cell, Tiles
from kernels_zoo.rnn.rounded import Rounded

ALL = slice(None)


@dataclass(frozen=True)
class Tile:
    """A block's part of the arrays: BM sequences from ``row`` on, of head ``n`` BN elements from ``column`` on."""

    n: Any
    row: Any
    column: Any
    BM: int
    BN: int

    def load(self, array: Any, *at: Any) -> Any:
        """Of ``array[at, n]``, where a colon stands for the sequences: (BM, BN)."""
        where = (*at, self.n, ALL)
        return tl.load(array[where], (self.row, self.column), (self.BM, self.BN))

    def store(self, array: Any, at: Sequence[Any], value: Any) -> None:
        where = (*at, self.n, ALL)
        value = tl.broadcast_to(value, (self.BM, self.BN)).to(array.dtype)
        tl.store(array[where], (self.row, self.column), value)


def check_gates(cell: Cell, wx: Any, r: Any, bias: Any) -> None:
    assert wx.shape[2] == cell.inputs, "Wx has another number of gates than the cell has inputs"
    assert r.shape[0] == cell.recurrent, "R has another number of gates than the cell has products"
    assert bias.shape[0] == cell.gates, "the bias has another number of gates than the cell"
    assert not cell.recurrent or wx.dtype is r.dtype, "R has another type than Wx"


def inputs_of(cell: Cell, tile: Tile, wx: Any, t: Any) -> Tiles:
    """The projections of the input of step ``t``; 0 beyond the last."""
    return [tile.load(wx, ALL, t, g) for g in range(cell.inputs)]


def biases_of(cell: Cell, tile: Tile, bias: Any) -> Tiles:
    """A row for each gate."""
    return [tl.load(bias[g, tile.n, :], tile.column, tile.BN).to(tl.f32)[None, :] for g in range(cell.gates)]


def forward_step(cell: Cell, tile: Tile, t: Any, products: Tiles, inputs: Tiles, biases: Tiles, before: Tiles,
                 h: Rounded, gates: Any, kept: Any) -> list[Any]:
    """The states after step ``t``, of which h goes to memory; so do the gates and the states before the step, where a
    backward pass is to come."""
    found = []
    for g in range(cell.gates):
        x, i = biases[g], g - (cell.gates - cell.inputs)
        if g < cell.recurrent:
            x = products[g] + x
        found.append(inputs[i] + x if i >= 0 else x)
    after = cell.forward(found, before)
    h.store(tile, t + 1, (), after[0])
    if gates is not None:
        for g in range(cell.gates):
            tile.store(gates, (ALL, t, g), found[g])
        for s in range(1, cell.states):
            tile.store(kept, (s - 1, ALL, t), before[s])
    return list(after)


def backward_step(cell: Cell, tile: Tile, t: Any, product: Any, gradients: Tiles, h: Rounded, gates: Any, kept: Any,
                  dh: Any, dgates: Rounded) -> tuple[list[Any], list[Any]]:
    """The gradients of the gates of step ``t``, and of the states before it but for what comes through R, from those of
    the states after it, to whose h ``product`` is added."""
    found = [tile.load(gates, ALL, t, g) for g in range(cell.gates)]
    before = [h.load(tile, t), *(tile.load(kept, s - 1, ALL, t) for s in range(1, cell.states))]
    after = (gradients[0] + product + tile.load(dh, ALL, t), *gradients[1:])
    of_gates, of_states = cell.backward(found, before, after)
    for g in range(cell.gates):
        dgates.store(tile, t, (g,), of_gates[g])
    return list(of_gates), [x + tl.zeros((tile.BM, tile.BN), tl.f32) for x in of_states]


def clipped(x: Any, clip: Any) -> Any:
    """What comes through R, between −clip and clip."""
    return x if clip is None else tl.clamp(x, -clip, clip)


__all__ = ["ALL", "Tile", "backward_step", "biases_of", "check_gates", "clipped", "forward_step", "inputs_of"]
