"""Recurrent layers over whole sequences, forward and backward (FlashRNN: Pöppel, Beck and Hochreiter, 2024).

A layer has N heads of D elements. For each step t, gate and head, g = Wx + R h + b, of the projection Wx of the input,
which is the caller's, and of h of the step before; a cell (:mod:`kernels_zoo.rnn.cells`) makes the states after the
step of its gates and the states before it. The gradients go the same way back:

    δh(t−1) = Σ_g R_gᵀ δg(t) + what the cell passes by R      dWx = δg,  dR_g = Σ_t δg(t) h(t−1)ᵀ,  db = Σ δg

There are two families of kernels: one kernel for all steps that keeps the weights (:mod:`fused`), and a kernel for each
step, of any D (:mod:`alternating`).

Arrays: Wx (B, T, inputs, N, D), R (recurrent, N, D out, D in), b (gates, N, D) and h (B, T, N, D) are of f16, bf16 or
f32, states (states, B, N, D) are f32; products are summed in f32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import relative_error, wide
from kernels_zoo.rnn.alternating import rnn_backward_step, rnn_forward_step
from kernels_zoo.rnn.cells import CELLS, Cell
from kernels_zoo.rnn.fused import rnn_backward as rnn_backward_steps
from kernels_zoo.rnn.fused import rnn_forward as rnn_forward_steps
from kernels_zoo.rnn.rounded import has_low
from kernels_zoo.rnn.tiling import share_in_registers, tiling
from kernels_zoo.rnn.weights import rnn_weight_gradient

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

SHAPES = [(1, 1, 1, 1), (3, 5, 2, 20), (16, 7, 1, 33), (5, 4, 3, 64), (2, 0, 1, 8), (0, 3, 1, 8)]
"""(B, T, N, D)."""
FAMILIES = ("fused", "alternating")
EXACT, MOST = 64, 256
"""Up to how many sequences a tile of a CPU has as many rows, and how many it has at most."""
SHARED = 128
"""From how many elements on a head is shared by several threads."""
LEAST_OF_TWO = 96
"""Elements of each of two parts of a head that one thread has."""
DEPTH = 64
"""How many elements of a head GPUs multiply at a time."""


@dataclass(frozen=True, eq=False)
class Tape:
    """What the backward pass needs of the forward pass: h (B, T + 1, N, D) with the initial one, what it was rounded by
    if that is to count (``low``), and, f32, the gates (B, T, gates, N, D) and the other states before each step
    (states − 1, B, T, N, D)."""

    h: Array
    low: Array | None
    gates: Array
    kept: Array


def states_of(cell: Cell, wx: Array, given: Array | None) -> Array:
    """An array of its own of the states, or of their gradients; 0 where none are given."""
    import numpy as np

    batch, _, _, heads, d = wx.shape
    return np.zeros((cell.states, batch, heads, d), np.float32) if given is None else np.array(given, np.float32)


def low_of(cell: Cell, h: Array, initial: Array, tape: bool) -> Array | None:
    """An array of what steps of ``h`` are rounded by, if that is to count, with that of the ``initial`` one: of all
    steps for a tape, else of the last two by turns."""
    import numpy as np

    if not has_low(h.dtype) or not (tape or cell.recurrent):
        return None
    low = np.empty((len(h), h.shape[1] if tape else 2, *h.shape[2:]), h.dtype)
    low[:, 0] = initial - h[:, 0].astype(np.float32)
    return low


def rnn(cell: Cell, wx: Array, r: Array, bias: Array, initial: Array | None = None, tape: bool = False,
        family: str = "fused", engine: str | None = None, **tiles: int) -> tuple[Array, Array, Tape | None]:
    """h of all steps, (B, T, N, D), the final states, and with ``tape`` what :func:`rnn_backward` needs.

    ``initial`` are the states before the first step, 0 where None. ``family`` is one of FAMILIES, ``engine`` where to
    compute, as in ``kernel.on(engine)``; ``tiles`` are constants of the kernels.
    """
    import numpy as np

    batch, steps, _, heads, d = wx.shape
    h, states = np.empty((batch, steps + 1, heads, d), wx.dtype), states_of(cell, wx, initial)
    h[:, 0] = states[0]
    gates = np.empty((batch, steps, cell.gates, heads, d), np.float32) if tape else None
    kept = np.empty((cell.states - 1, batch, steps, heads, d), np.float32) if tape else None
    low = low_of(cell, h, states[0], tape)
    arguments = (wx, r, bias, h, low, states, gates, kept)
    if family == "fused":
        kernel = rnn_forward_steps.on(engine) if engine else rnn_forward_steps
        kernel(*arguments, cell=cell, D=d, **tiles_of(cell, wx, False, engine, tiles))
    else:
        kernel = rnn_forward_step.on(engine) if engine else rnn_forward_step
        for t in range(steps):
            kernel(*arguments, t, cell=cell, D=d, **tiles)
    return h[:, 1:], states, None if gates is None or kept is None else Tape(h, low, gates, kept)


def rnn_backward(cell: Cell, wx: Array, r: Array, tape: Tape, dh: Array, final: Array | None = None,
                 clip: float | None = None, family: str = "fused", engine: str | None = None, **tiles: int
                 ) -> tuple[Array, Array, Array, Array]:
    """The gradients of Wx, R, b and the initial states, from those of h and of the final states (``final``; 0 where
    None); all but that of Wx are f32. What comes through R is kept between −``clip`` and ``clip``, if given.
    """
    import numpy as np

    batch, steps, _, heads, d = wx.shape
    dgates, dr = np.empty(tape.gates.shape, wx.dtype), np.empty(r.shape, np.float32)
    gradients, totals = states_of(cell, wx, final), np.zeros((cell.gates, batch, heads, d), np.float32)
    low = np.zeros((batch, 2, cell.gates, heads, d), wx.dtype) if has_low(wx.dtype) and cell.recurrent else None
    arguments = (r, tape.h, tape.low, tape.gates, tape.kept, dh, dgates, low, gradients, totals, clip)
    if family == "fused":
        kernel = rnn_backward_steps.on(engine) if engine else rnn_backward_steps
        kernel(*arguments, cell=cell, D=d, **tiles_of(cell, wx, True, engine, tiles))
    else:
        kernel = rnn_backward_step.on(engine) if engine else rnn_backward_step
        for t in range(steps - 1, -2, -1):
            kernel(*arguments, t, cell=cell, D=d, **tiles)
    (rnn_weight_gradient.on(engine) if engine else rnn_weight_gradient)(dgates, tape.h, tape.low, dr, D=d)
    return dgates[:, :, cell.gates - cell.inputs :], dr, totals.sum(axis=1), gradients


def tiles_of(cell: Cell, wx: Array, back: bool, engine: str | None, given: dict[str, int]) -> dict[str, int]:
    """Constants of the fused kernels, where they are not ``given``.

    On the CPU a tile has all sequences, and all of a head, or a part of it where heads are few, so that all threads
    have the same to do, unless a step is too short to be shared: two parts a thread where they are long, since one is
    computed while the other waits for what other threads have. GPUs have FlashRNN's tilings, which are for 16-bit
    elements.

    Raises:
        UserError: E1104, the target does not hold the weights. Heads of any size are for the other family.
    """
    from tilus.runtime.cpu import get_num_threads
    from tilus.runtime.engines import HOST, default_engine, get_engine

    batch, _, _, heads, d = wx.shape
    target = get_engine(engine or default_engine(HOST)).target
    if target.name == "cpu":
        rows = min(batch if batch <= EXACT else -(-batch // 16) * 16, MOST)
        threads = get_num_threads()
        parts = threads // math.gcd(threads, heads) if d >= SHARED and heads < 2 * threads else 1
        parts *= 2 if parts > 1 and d >= 2 * parts * LEAST_OF_TWO else 1
        return {"BM": max(1, rows), "BN": max(1, -(-d // parts)), **given}
    if "BN" in given or wx.itemsize != 2 or d % 16 or not cell.recurrent or not wx.size:
        return given
    found = tiling(d, heads, batch, cell.recurrent, target, back=back, whole=True)
    shared = round((1 - share_in_registers(found)) * d * (cell.recurrent if back else 1))
    return {"BM": 16 * -(-batch // 16), "BN": d // found["blocks_gate"], "BK": min(d, DEPTH), "shared": shared,
            "warps": found["warps_gate"] * found["warps_batch"], **given}


def errors(cell: Cell, shape: tuple[int, ...], dtype: tl.DType, seed: int = 0, clip: float | None = None,
           **options: Any) -> Iterator[tuple[str, float]]:
    """The relative errors of all results for random operands of ``shape``, (B, T, N, D), by their names. ``options``
    are family, engine and tiles."""
    import numpy as np

    from kernels_zoo.rnn import reference

    wx, r, bias, initial = reference.operands(cell, shape, dtype, seed)
    h, final, tape = rnn(cell, wx, r, bias, initial, True, **options)
    assert tape is not None
    rng = np.random.default_rng(seed + 1)
    dh, dfinal = (np.asarray(rng.standard_normal(x.shape)).astype(x.dtype) for x in (h, final))
    dfinal[3:] = 0.0                                               # the maximum of exponents has no gradient
    found = (h, final, *rnn_backward(cell, wx, r, tape, dh, dfinal, clip, **options))
    exact = wide(wx), wide(r), wide(bias), wide(initial)
    out, states, _ = reference.forward(cell, *exact)
    best = (out, states[-1], *reference.backward(cell, exact, wide(dh), wide(dfinal), clip))
    for name, x, y in zip(("h", "final", "dwx", "dr", "db", "dinitial"), found, best, strict=True):
        yield name, relative_error(x, y)


def report(cell: Cell) -> None:
    """Run both families of kernels on some shapes, print the errors, and exit with 1 where one is too large."""
    for family in FAMILIES:
        for shape in SHAPES[1:4]:
            found = dict(errors(cell, shape, tl.f32, family=family))
            verdict = "ok" if max(found.values()) <= 1e-5 else "WRONG"
            print(f"{cell.name} {family} {'×'.join(map(str, shape))} ({verdict}): relative errors",
                  ", ".join(f"{name} {error:.1e}" for name, error in found.items()))
            if verdict != "ok":
                raise SystemExit(1)


def main() -> None:
    for cell in CELLS:
        report(cell)


if __name__ == "__main__":
    main()
