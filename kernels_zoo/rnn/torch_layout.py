"""LSTM and GRU layers with the weights of ``torch.nn.LSTM`` and ``torch.nn.GRU``.

PyTorch stacks the gates, i f g o or r z n, of ``weight_ih`` (gates · H, inputs) and ``weight_hh`` (gates · H, H), and
has two biases. Arguments are arrays or tensors of the CPU, results are arrays:

    h, final, tape = lstm(x, weight_ih, weight_hh, bias_ih, bias_hh, tape=True)
    gradients = backward(tape, dh)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.rnn.cells import GRU, LSTM, Cell
from kernels_zoo.rnn.recurrent import Tape, rnn, rnn_backward

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

PIECES: dict[str, tuple[int, ...]] = {"LSTM": (0, 1, 2, 3), "GRU": (2, 0, 1)}
"""Which gate of ``weight_hh`` each R is. Those with an input have the pieces of ``weight_ih`` in their order."""


@tl.fuse
def product(x: tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"],
            w: tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f32["K", "N"]) -> Any:
    return x @ w


@dataclass(frozen=True, eq=False)
class LayerTape:
    """What :func:`backward` needs: the operands of the layer, and of the recurrence."""

    cell: Cell
    x: Array
    weight_ih: Array
    wx: Array
    r: Array
    steps: Tape


def numbers(x: Any) -> Array:
    """An array, or a tensor as one, in the same memory."""
    import numpy as np

    if isinstance(x, np.ndarray):
        return x
    x = x.detach()
    if str(x.dtype) == "torch.bfloat16":                           # which NumPy knows as ml_dtypes has it
        import torch

        return np.asarray(x.view(torch.int16).numpy().view(tl.bf16.numpy))
    return np.asarray(x.numpy())


def operands(cell: Cell, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None) -> tuple[Array, Array]:
    """R (recurrent, 1, H, H) and b (gates, 1, H)."""
    import numpy as np

    d = weight_hh.shape[1]
    bias, first = np.zeros((cell.gates, d), np.float32), cell.gates - cell.inputs
    for gate, piece in enumerate(PIECES[cell.name]):
        if bias_hh is not None:
            bias[gate] += bias_hh.reshape(-1, d)[piece]
    if bias_ih is not None:
        bias[first:] += bias_ih.reshape(-1, d)
    return weight_hh.reshape(-1, 1, d, d)[list(PIECES[cell.name])], bias[:, None].astype(weight_hh.dtype)


def layer(cell: Cell, x: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None,
          initial: Any = None, tape: bool = False, engine: str | None = None
          ) -> tuple[Array, Array, LayerTape | None]:
    """h (B, T, H), the final states (states, B, H), and with ``tape`` what :func:`backward` needs, of ``x``
    (B, T, inputs). ``initial`` are the states before the first step, (states, B, H); 0 where None."""
    x, weight_ih, weight_hh = (numbers(a) for a in (x, weight_ih, weight_hh))
    bias_ih, bias_hh, initial = (None if a is None else numbers(a) for a in (bias_ih, bias_hh, initial))
    batch, steps, inputs = x.shape
    d = weight_hh.shape[1]
    r, bias = operands(cell, weight_hh, bias_ih, bias_hh)
    project = product.on(engine) if engine else product
    wx = project(x.reshape(-1, inputs), weight_ih.T).reshape(batch, steps, cell.inputs, 1, d)
    given = None if initial is None else initial[:, :, None]
    h, final, kept = rnn(cell, wx, r, bias, given, tape, engine=engine)
    return h[:, :, 0], final[:, :, 0], None if kept is None else LayerTape(cell, x, weight_ih, wx, r, kept)


def lstm(*arguments: Any, **options: Any) -> tuple[Array, Array, LayerTape | None]:
    """:func:`layer` of an LSTM; its states are h and c."""
    return layer(LSTM, *arguments, **options)


def gru(*arguments: Any, **options: Any) -> tuple[Array, Array, LayerTape | None]:
    """:func:`layer` of a GRU; its state is h."""
    return layer(GRU, *arguments, **options)


def backward(tape: LayerTape, dh: Any, final: Any = None, engine: str | None = None) -> dict[str, Array]:
    """The gradients of ``x``, ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh`` and ``initial``, by these names,
    from those of h (B, T, H) and of the final states (states, B, H)."""
    import numpy as np

    cell, x = tape.cell, tape.x
    d, first, pieces = tape.r.shape[-1], cell.gates - cell.inputs, list(PIECES[cell.name])
    given = None if final is None else numbers(final)[:, :, None]
    dwx, dr, db, initial = rnn_backward(cell, tape.wx, tape.r, tape.steps, numbers(dh)[:, :, None], given,
                                        engine=engine)
    weight_hh, bias_hh = np.empty_like(dr), np.empty((len(pieces), d), np.float32)
    weight_hh[pieces], bias_hh[pieces] = dr, db[: cell.recurrent, 0]
    multiply, rows = product.on(engine) if engine else product, dwx.reshape(-1, cell.inputs * d)
    return {"x": multiply(rows, tape.weight_ih).reshape(x.shape),
            "weight_ih": multiply(rows.T, x.reshape(-1, x.shape[2])),
            "weight_hh": weight_hh.reshape(-1, d), "bias_ih": db[first:].reshape(-1), "bias_hh": bias_hh.reshape(-1),
            "initial": initial[:, :, 0]}


__all__ = ["LayerTape", "backward", "gru", "layer", "lstm", "operands"]
