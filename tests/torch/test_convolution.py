"""Convolutions of models, and their gradients, against torch in f64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tilus.torch.report import reports

MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "padding": (lambda: nn.Conv2d(8, 12, 3, padding=1), (2, 8, 9, 11)),
    "stride": (lambda: nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False), (2, 3, 12, 12)),
    "dilation": (lambda: nn.Conv2d(4, 4, 3, dilation=2, padding="same"), (2, 4, 9, 9)),
    "one element": (lambda: nn.Conv2d(8, 6, 1), (2, 8, 5, 6)),
    "groups": (lambda: nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), (2, 8, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 9, 9)),
    "depthwise, several each": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), (2, 4, 9, 9)),
    "depthwise, several each side by side": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 9, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1, groups=2), (2, 8, 6, 6)),
    "transposed, depthwise": (lambda: nn.ConvTranspose2d(6, 6, 3, stride=2, output_padding=1, groups=6), (2, 6, 5, 5)),
    "1-D": (lambda: nn.Conv1d(8, 16, 5, stride=3, dilation=2, padding=2), (2, 8, 40)),
    "3-D": (lambda: nn.Conv3d(3, 4, (3, 2, 1), stride=(1, 2, 1)), (2, 3, 5, 6, 7)),
    "no batch": (lambda: nn.Conv2d(4, 5, 3), (4, 8, 8)),
}


@pytest.fixture(autouse=True)
def anew() -> None:
    torch._dynamo.reset()


def difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    got, wanted = got.detach(), wanted.detach()
    assert got.shape == wanted.shape
    return float((got.double() - wanted).norm() / wanted.norm())


def check(model: nn.Module, x: torch.Tensor, tolerance: float = 1e-6) -> torch.Tensor:
    """The result and all gradients; nothing is left to torch."""
    exact, exact_x = copy.deepcopy(model).double(), x.detach().double().requires_grad_()
    x = x.detach().requires_grad_()
    with reports() as found:
        y = torch.compile(model, backend="tilus")(x)
        gradient = torch.randn_like(y)
        y.backward(gradient)
    wanted = exact(exact_x)
    wanted.backward(gradient.double())
    assert difference(y, wanted) < tolerance
    assert difference(x.grad, exact_x.grad) < tolerance
    for p, q in zip(model.parameters(), exact.parameters(), strict=True):
        assert difference(p.grad, q.grad) < 5 * tolerance
    assert not [reason for report in found for reason in report.left.values() if reason]
    return y


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("name", MODELS)
def test_convolution(name: str) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    check(make(), torch.randn(shape))


def test_channels_last() -> None:
    """Results lie as those of torch do."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()).to(memory_format=torch.channels_last)
    x = torch.randn(2, 6, 9, 10).to(memory_format=torch.channels_last)
    found = check(model, x)
    assert found.stride() == model(x).stride()


def test_one_kernel_with_what_follows() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU()).eval()
    x = torch.randn(2, 6, 9, 10)
    with torch.no_grad(), reports() as found:
        y = torch.compile(model, backend="tilus")(x)
    assert difference(y, model.double()(x.double())) < 1e-6
    (call,) = (call for report in found for call in report.calls)
    assert len(call.kernels()) == 1
