"""Attention, by torch's operator and by its parts, and layers that hold it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torch.graphs import agree, left, reports, torch

SDPA = torch.nn.functional.scaled_dot_product_attention


def heads(*shapes: tuple[int, ...], dtype: Any = torch.float32) -> list[Any]:
    torch.manual_seed(0)
    return [torch.randn(shape).to(dtype) for shape in shapes]


def kernels(report: Any) -> int:
    return sum(len(call.kernels()) for call in report.calls)


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}], ids=str)
def test_the_operator(options: dict[str, Any], engine: str) -> None:
    q, k, v = heads((2, 3, 33, 24), (2, 3, 40, 24), (2, 3, 40, 24))
    report = agree(lambda q, k, v: [SDPA(q, k, v, **options)], q, k, v, engine=engine)
    assert kernels(report) == 1


def test_masks() -> None:
    q, k, v = heads((2, 2, 9, 8), (2, 2, 12, 8), (2, 2, 12, 8))
    seen = torch.rand(2, 1, 9, 12) > 0.4
    seen[0, :, 3] = False
    agree(lambda q, k, v, m: [SDPA(q, k, v, attn_mask=m)], q, k, v, seen)
    agree(lambda q, k, v, m: [SDPA(q, k, v, attn_mask=m)], q, k, v, torch.randn(9, 12))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats(dtype: Any) -> None:
    agree(lambda q, k, v: [SDPA(q, k, v)], *heads(*[(1, 2, 40, 16)] * 3, dtype=dtype), tolerance=2e-2)


def plain(q: Any, k: Any, v: Any) -> list[Any]:
    scores = (q @ k.transpose(-1, -2) * 0.2).masked_fill(torch.ones(33, 40).triu(8) > 0, float("-inf"))
    return [(scores.softmax(-1) @ v).transpose(1, 2).flatten(2)]


def test_its_parts_are_one_kernel() -> None:
    report = agree(plain, *heads((2, 3, 33, 24), (2, 3, 40, 24), (2, 3, 40, 24)), engine="cpu")
    assert kernels(report) <= 2  # and one that makes the mask


def test_weights_that_are_wanted() -> None:
    def weighed(q: Any, k: Any, v: Any) -> list[Any]:
        weights = (q @ k.transpose(-1, -2)).softmax(-1)
        return [weights @ v, weights]

    agree(weighed, *heads((2, 3, 9, 8), (2, 3, 12, 8), (2, 3, 12, 8)))


def test_gradients_are_right() -> None:
    q, k, v = (x.requires_grad_() for x in heads(*[(1, 2, 20, 16)] * 3))
    found = torch.compile(lambda *x: SDPA(*x, is_causal=True).sin(), backend="tilus")(q, k, v)
    wanted = SDPA(q, k, v, is_causal=True).sin()
    for mine, theirs in zip(*(torch.autograd.grad(out.sum(), (q, k, v)) for out in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs)


def check_layer(layer: Any, x: Any) -> None:
    """A layer of torch's in inference is made of operators that are fused."""
    torch._dynamo.reset()
    with torch.no_grad(), reports() as found:
        mine, theirs = (flat(run(x)) for run in (torch.compile(layer, backend="tilus"), layer))
    for got, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert len(found) == 1
    assert left(found[0]) == []


def flat(found: Any) -> list[Any]:
    return [found] if isinstance(found, torch.Tensor) else [t for part in found for t in flat(part)]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layer(norm_first: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first).eval()
    check_layer(layer, torch.randn(2, 20, 32))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("layers", "bias", "both"), [(2, True, False), (1, False, True)])
def test_lstm(layers: int, bias: bool, both: bool) -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(8, 16, layers, bias, bidirectional=both).eval()
    with torch._dynamo.config.patch(allow_rnn=True):
        check_layer(lstm, torch.randn(4, 3, 8))
