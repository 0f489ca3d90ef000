"""Operators that are made of others before graphs are divided: nothing of them is left to torch."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import tilus.torch  # noqa: E402


def check(function: Any, *tensors: Any, bound: float = 1e-6) -> None:
    torch._dynamo.reset()
    found = torch.compile(function, backend="tilus", fullgraph=True)(*tensors)
    wanted = function(*(x.double() for x in tensors))
    assert (found.double() - wanted).norm() <= bound * wanted.norm()
    torch._dynamo.reset()
    assert "torch:" not in tilus.torch.explain(function, *tensors)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 2.5, math.inf])
def test_distances(p: float) -> None:
    check(lambda x, y: torch.cdist(x, y, p=p), torch.randn(2, 7, 5), torch.randn(2, 9, 5))


def test_the_gradient_of_distances() -> None:
    x, y = torch.randn(6, 5, requires_grad=True), torch.randn(4, 5)
    torch._dynamo.reset()
    torch.compile(lambda x, y: torch.cdist(x, y).sum(), backend="tilus")(x, y).backward()
    wide = x.detach().double().requires_grad_()
    torch.cdist(wide, y.double()).sum().backward()
    assert (x.grad.double() - wide.grad).norm() <= 1e-6 * wide.grad.norm()


def test_circular_pads() -> None:
    check(lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"), torch.randn(2, 3, 6, 7))


def test_what_is_written_after_it_was_made() -> None:
    def turned(x: Any) -> Any:
        made = torch.empty(2, 4, 5, dtype=x.dtype)
        made[:, :2], made[:, 2:] = x[:, 2:], x[:, :2] * 2
        return made

    def written(x: Any) -> Any:
        made = x.new_empty(2, 4, 5)
        made.copy_(x.sum(0, keepdim=True))
        return made + 1

    check(turned, torch.randn(2, 4, 5))
    check(written, torch.randn(2, 4, 5))
