"""Layers with PyTorch's weights against PyTorch's modules, and the MLGRU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels_zoo.checking import relative_error
from kernels_zoo.rnn import torch_layout
from kernels_zoo.rnn.mlgru import mlgru, mlgru_backward

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_modules_of_pytorch(name: str, biased: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    batch, steps, inputs, d = 5, 9, 7, 24
    module = getattr(torch.nn, name)(inputs, d, bias=biased, batch_first=True)
    states = 2 if name == "LSTM" else 1
    x, dh = torch.randn(batch, steps, inputs, requires_grad=True), torch.randn(batch, steps, d)
    initial, dfinal = torch.randn(states, batch, d, requires_grad=True), torch.randn(states, batch, d)
    given = (initial[:1], initial[1:]) if states == 2 else initial
    h, last = module(x, given)
    final = torch.cat(last) if states == 2 else last
    ((h * dh).sum() + (final * dfinal).sum()).backward()

    weights: list[Any] = [getattr(module, f"{n}_l0", None) for n in NAMES]
    layer = torch_layout.lstm if name == "LSTM" else torch_layout.gru
    out, states_out, tape = layer(x, *weights, initial=initial, tape=True)
    assert tape is not None
    assert relative_error(out, h.detach().numpy()) < 1e-6
    assert relative_error(states_out, final.detach().numpy()) < 1e-6
    gradients = torch_layout.backward(tape, dh, dfinal)
    exact = {"x": x.grad, "initial": initial.grad,
             **{n: w.grad for n, w in zip(NAMES, weights, strict=True) if w is not None}}
    for key, best in exact.items():
        assert gradients[key].shape == best.shape, key
        assert relative_error(gradients[key], best.numpy()) < 2e-6, key


def test_bf16_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module, x = torch.nn.GRU(4, 16, batch_first=True), torch.randn(3, 5, 4)
    out, _, tape = torch_layout.gru(x.bfloat16(), *(p.bfloat16() for p in module.parameters()))
    assert tape is None
    assert relative_error(out, module(x)[0].detach().numpy()) < 2e-2


@pytest.mark.parametrize("bounded", [False, True])
def test_mlgru(bounded: bool) -> None:
    """In two pieces, against the recurrence; gradients along a direction, by central differences."""
    rng = np.random.default_rng(0)
    gates, dh = rng.standard_normal((3, 21, 2, 40), np.float32), rng.standard_normal((3, 21, 40), np.float32)
    lower, initial = rng.random(40, np.float32) if bounded else None, rng.standard_normal((3, 40), np.float32)

    def exact(gates: Any, lower: Any, initial: Any) -> Any:
        state, out = initial, []
        for t in range(gates.shape[1]):
            f, i = gates[:, t, 0], gates[:, t, 1]
            keep = lower + (1 - lower) / (1 + np.exp(-f))
            state = keep * state + (1 - keep) * i / (1 + np.exp(-i))
            out.append(state)
        return np.stack(out, axis=1)

    first, between, _ = mlgru(gates[:, :8], lower, initial)
    second, final, _ = mlgru(gates[:, 8:], lower, between)
    h, whole, tape = mlgru(gates, lower, initial, tape=True)
    best = exact(*(np.asarray(0.0 if x is None else x, "d") for x in (gates, lower, initial)))
    assert relative_error(h, best) < 1e-6
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), h)
    np.testing.assert_array_equal(final, whole)

    assert tape is not None
    found = mlgru_backward(gates, tape, dh)
    operands = [np.asarray(x, "d") for x in (gates, np.zeros(40) if lower is None else lower, initial)]
    for n, gradient in enumerate(found):
        way = rng.standard_normal(gradient.shape)
        ends = [exact(*(x + sign * 1e-5 * way if m == n else x for m, x in enumerate(operands))) for sign in (1, -1)]
        slope = np.sum((ends[0] - ends[1]) * dh) / 2e-5
        assert abs(np.sum(gradient * way) - slope) < 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(way)
