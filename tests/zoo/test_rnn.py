"""Recurrent layers, forward and backward, of both families, against the recurrence in f64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import relative_error, wide
from kernels_zoo.rnn import mlgru, recurrent, reference
from kernels_zoo.rnn.cells import CELLS, ELMAN, GRU, LSTM, SLSTM, Cell
from kernels_zoo.rnn.fused import rnn_backward as rnn_backward_steps
from kernels_zoo.rnn.fused import rnn_forward
from kernels_zoo.rnn.recurrent import FAMILIES, SHAPES, errors, rnn, rnn_backward, tiles_of
from tilus.diagnostics import CheckError

TYPES = (tl.f32, tl.f16, tl.bf16)


def named(x: Any) -> str:
    return str(getattr(x, "name", x))


def check(cell: Cell, shape: tuple[int, ...], dtype: tl.DType, few: int = 4, **options: Any) -> None:
    """States and outputs to two units, gradients to ``few``: of some elements, roundings do not average."""
    for name, error in errors(cell, shape, dtype, **options):
        unit = {"f32": 1e-6, "f16": 2e-4, "bf16": 1e-3}[dtype.name]
        assert error <= (2 if name in ("h", "final") else few) * unit, (cell.name, shape, dtype, name)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_shapes(cell: Cell) -> None:
    n = CELLS.index(cell)
    check(cell, SHAPES[1], TYPES[n % 3], engine="cpu", family=FAMILIES[n % 2], clip=None if n % 2 else 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cell", CELLS, ids=named)
@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_all_shapes(cell: Cell, family: str, engine: str) -> None:
    for shape, dtype in itertools.product(SHAPES, TYPES):
        check(cell, shape, dtype, family=family, engine=engine)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 0, 1, 8), (0, 3, 1, 8), (2, 3, 0, 8)], ids=str)
def test_small_extents(shape: tuple[int, ...]) -> None:
    check(GRU, shape, tl.f32, engine="cpu")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cell", [GRU, SLSTM], ids=named)
def test_interpreted(cell: Cell, family: str) -> None:
    check(cell, (2, 3, 2, 20), tl.f32, family=family, engine="interpret", BN=16)


def test_eager_python() -> None:
    check(LSTM, (2, 2, 1, 5), tl.f32, engine="python", BN=3)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("cell", "family", "tiles", "engine"), [
    (LSTM, "fused", {"BN": 16}, "simulate:sm_80:ptx"), (ELMAN, "fused", {"BN": 32}, "simulate:sm_80:cuda"),
    (ELMAN, "alternating", {}, "simulate:sm_90a:ptx"), (ELMAN, "fused", {"BN": 16}, "simulate:sm_90a:cuda"),
], ids=named)
def test_simulated(cell: Cell, family: str, tiles: dict[str, int], engine: str) -> None:
    """Blocks that share a head, and one that has all of it."""
    check(cell, (5, 3, 2, 20), tl.bf16, family=family, engine=engine, clip=0.5, **tiles)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx",
                                    "simulate:sm_90a:cuda"])
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_all_simulated(cell: Cell, engine: str) -> None:
    for dtype in TYPES:
        for family, tiles in (("fused", {"BN": 16}), ("fused", {"BN": 32}), ("alternating", {})):
            check(cell, (5, 3, 2, 20), dtype, family=family, engine=engine, clip=0.5, **tiles)


@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", pytest.param("simulate:sm_90a:cuda", marks=pytest.mark.slow)])
def test_weights_in_shared_memory(engine: str) -> None:
    """Half of the depth forward, a quarter backward; and what the tiling chooses."""
    check(ELMAN, (3, 3, 1, 32), tl.bf16, engine=engine, BN=16, BK=16, shared=16, warps=2)
    with tl.engine(engine):
        check(ELMAN, (3, 3, 1, 32), tl.bf16)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("d", [16, 32, 64, 128, 256, 768])
def test_no_spills(d: int, target: str) -> None:
    """With FlashRNN's tilings of its own shapes."""
    wx = np.empty((16, 1, 4, 768 // d, d), tl.bf16.numpy)
    for kernel, names in ((rnn_forward, ("wx", "r", "bias", "h", "low")),
                          (rnn_backward_steps, ("r", "h", "low", "dh", "dgates", "dgates_low"))):
        constants = tiles_of(LSTM, wx, kernel is rnn_backward_steps, f"simulate:{target}", {})
        for via in ("ptx", "cuda"):
            compiled = kernel.compile(target, via, cell=LSTM, D=d, **constants, **dict.fromkeys(names, tl.bf16))
            assert compiled.metadata["spill_stores"] == 0, (kernel.__name__, via)


def _leaky(gates: Any, states: Any) -> Any:
    return (0.9 * states[0] + 0.1 * tl.tanh(gates[0]),)


def _leaky_backward(gates: Any, states: Any, gradients: Any) -> Any:
    new = tl.tanh(gates[0])
    return (0.1 * gradients[0] * (1.0 - new * new),), (0.9 * gradients[0],)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cell_of_a_user(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaky integrator, two functions of a few lines."""
    leaky = Cell("leaky", gates=1, inputs=1, recurrent=1, states=1, forward=_leaky, backward=_leaky_backward)
    monkeypatch.setitem(reference.FUNCTIONS, "leaky", lambda g, s: [0.9 * s[0] + 0.1 * np.tanh(g[0])])
    check(leaky, (3, 4, 2, 9), tl.f32, engine="cpu", family=family)


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_long_sequences(cell: Cell) -> None:
    """Errors do not grow along the sequence: all results are off by hardly more than their last rounding."""
    check(cell, (3, 512, 2, 16), tl.bf16, few=2, engine="cpu", family=FAMILIES[CELLS.index(cell) % 2])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_512_steps(cell: Cell, dtype: tl.DType, family: str) -> None:
    """Elman networks have no gate that would keep errors small: what a step is off by goes on to all others."""
    for seed in range(3):
        check(cell, (4, 512, 2, 64), dtype, few=2, engine="cpu", family=family, seed=seed)


@pytest.mark.parametrize("cell", [LSTM, pytest.param(SLSTM, marks=pytest.mark.slow)], ids=named)
def test_a_sequence_in_pieces(cell: Cell) -> None:
    """The states after one piece are those before the next; gradients of states go the other way."""
    wx, r, bias, initial = reference.operands(cell, (3, 7, 2, 10), tl.f32)
    options: dict[str, Any] = {"engine": "cpu"}
    h, final, tape = rnn(cell, wx, r, bias, initial, True, **options)
    first, between, one = rnn(cell, wx[:, :4], r, bias, initial, True, **options)
    second, last, two = rnn(cell, wx[:, 4:], r, bias, between, True, **options)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), h)
    np.testing.assert_array_equal(last, final)

    dh = np.random.default_rng(1).standard_normal(h.shape, np.float32)
    assert tape is not None
    assert one is not None
    assert two is not None
    whole = rnn_backward(cell, wx, r, tape, dh, **options)
    late = rnn_backward(cell, wx[:, 4:], r, two, dh[:, 4:], **options)
    early = rnn_backward(cell, wx[:, :4], r, one, dh[:, :4], late[3], **options)
    np.testing.assert_array_equal(np.concatenate([early[0], late[0]], axis=1), whole[0])
    np.testing.assert_array_equal(early[3], whole[3])
    for a, b, c in zip(early[1:3], late[1:3], whole[1:3], strict=True):
        assert relative_error(a + b, wide(c)) < 1e-6


@pytest.mark.parametrize("dtype", [tl.f32, tl.bf16], ids=str)
def test_the_same_bits(dtype: tl.DType) -> None:
    """From run to run, and however many threads share a head."""
    wx, r, bias, initial = reference.operands(LSTM, (5, 6, 1, 160), dtype)
    dh = np.random.default_rng(1).standard_normal((5, 6, 1, 160)).astype(dtype.numpy)

    def results(**tiles: int) -> list[Any]:
        h, final, tape = rnn(LSTM, wx, r, bias, initial, True, engine="cpu", **tiles)
        assert tape is not None
        return [h, final, *rnn_backward(LSTM, wx, r, tape, dh, engine="cpu", **tiles)]

    first = results(BN=80)
    for tiles in ({"BN": 80}, {"BN": 160}):
        for a, b in zip(first, results(**tiles), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("place", "message"), [(0, "Wx has"), (1, "R has"), (2, "the bias has")])
def test_operands_of_another_cell(place: int, message: str) -> None:
    operands = list(reference.operands(LSTM, (2, 2, 1, 8), tl.f32))
    operands[place] = reference.operands(GRU if place < 2 else ELMAN, (2, 2, 1, 8), tl.f32)[place]
    with pytest.raises(CheckError, match=f"{message} another number of gates"):
        rnn(LSTM, *operands[:3], engine="cpu")


def test_operands_of_different_types() -> None:
    wx, r, bias, _ = reference.operands(LSTM, (2, 2, 1, 8), tl.f32)
    with pytest.raises(tl.UserError, match="R has another type than Wx"):
        rnn(LSTM, wx.astype(np.float16), r, bias, engine="cpu")


def test_other_strides() -> None:
    cell, rng = GRU, np.random.default_rng(0)
    wx, r, bias, initial = reference.operands(cell, (3, 4, 2, 8), tl.f32)
    apart = np.zeros((4, 6, 3, 2, 16), np.float32)[:, ::2, :, :, ::2].transpose(1, 0, 2, 3, 4)
    apart[...] = wx
    dh = rng.standard_normal((4, 3, 2, 8), np.float32).transpose(1, 0, 2, 3)
    h, _, tape = rnn(cell, apart, np.asfortranarray(r), bias, initial, True, engine="cpu")
    assert tape is not None
    found = rnn_backward(cell, apart, np.asfortranarray(r), tape, dh, engine="cpu")
    operands = wide(wx), wide(r), wide(bias), wide(initial)
    exact = reference.backward(cell, operands, wide(dh), np.zeros(initial.shape))
    assert relative_error(h, reference.forward(cell, *operands)[0]) < 1e-6
    assert max(relative_error(a, b) for a, b in zip(found, exact, strict=True)) < 1e-6


@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_central_differences(cell: Cell) -> None:
    """Of f = sum(dh ⊙ h) in f64, for the gradients of the reference."""
    operands = [wide(x) for x in reference.operands(cell, (2, 4, 1, 3), tl.f32)]
    if cell is SLSTM:
        operands[3][2:] = 0.0                                      # m is that of a beginning
    rng = np.random.default_rng(1)
    dh, zero = rng.standard_normal((2, 4, 1, 3)), np.zeros(operands[3].shape)
    for n, exact in enumerate(reference.backward(cell, tuple(operands), dh, zero)):  # type: ignore[arg-type]
        if cell is SLSTM and n == 3:
            exact[2:] = 0.0
        for _ in range(3):
            way = rng.standard_normal(exact.shape) * (operands[n] != 0.0)
            moved = [[x + sign * way if m == n else x for m, x in enumerate(operands)] for sign in (1e-5, -1e-5)]
            ends = [np.sum(dh * reference.forward(cell, *x)[0]) for x in moved]
            slope = (ends[0] - ends[1]) / 2e-5
            assert abs(np.sum(exact * way) - slope) <= 1e-7 * max(1.0, abs(slope)), (n, slope)


def test_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "CELLS", (ELMAN,))
    monkeypatch.setattr(recurrent, "SHAPES", SHAPES[:2])
    recurrent.main()
    mlgru.main()
    assert capsys.readouterr().out.count("(ok)") == 2 * len(FAMILIES)
