"""Tensors whose last dimension does not run along memory: values, and where results lie, are torch's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from tests.torch.graphs import agree  # noqa: E402
from tilus.torch.memory_order import inverse, memory_order  # noqa: E402


def last(*shape: int) -> Any:
    """Images, or volumes, whose channels are last."""
    return torch.randn(*shape).to(memory_format=torch.channels_last_3d if len(shape) == 5 else torch.channels_last)


ALL = (0, 2, 3)
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: F.gelu(x) * 2 + x.mean(),
    "norm": lambda x: F.relu((x - x.mean(ALL, True)) * x.var(ALL, keepdim=True).rsqrt()),
    "group norm": lambda x: F.group_norm(x, 3),
    "pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "average": lambda x: F.avg_pool2d(x, 2),
    "softmax": lambda x: x.softmax(1) + x.softmax(3),
    "sums": lambda x: x.sum((2, 3)),
    "permuted": lambda x: x.permute(0, 2, 3, 1).cumsum(3),
    "joined": lambda x: torch.cat([x, x.relu()], 1)[:, 2:, :, 1:],
    "convolution": lambda x: F.relu(F.conv2d(x, x[:, :, :3, :1].contiguous(), padding=1)),
    "pointwise": lambda x: F.conv2d(x, x[:, :, :1, :1]) + 1,
    "product": lambda x: x @ x.transpose(2, 3) * 2,
    "contiguous": lambda x: (x + 1).contiguous(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_channels_last(name: str) -> None:
    for shape in ((2, 6, 9, 7), (1, 6, 5, 1)):
        if name in ("pool", "average", "convolution") and shape[3] == 1:
            continue  # too small, or torch gives a stride of one element that it does not foresee
        with torch.no_grad():
            agree(FUNCTIONS[name], last(*shape), engine="cpu")


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_orders_meet(engine: str) -> None:
    """Images of both orders, rows of a matrix along its columns, and what is the same for all channels."""
    def mixed(x: Any, y: Any, z: Any, v: Any) -> Any:
        return x * y + z[:, :, None, None], z + v, (x - y).amax(1)

    agree(mixed, last(2, 5, 6, 7), torch.randn(2, 5, 6, 7), torch.randn(5, 2).t(), torch.randn(5), engine=engine)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 1, 3, 4), (2, 3, 4, 5, 2)])
def test_every_order(shape: tuple[int, ...]) -> None:
    orders = list(itertools.permutations(range(len(shape))))
    for order in orders[::max(1, len(orders) // 6)]:
        x = torch.randn([shape[d] for d in order]).permute(inverse(order))
        assert x.shape == shape
        agree(lambda x: (x.exp() + 1, x.sum(-1), x.transpose(0, -1) * 2), x, engine="cpu")


def test_gradients_and_other_sizes() -> None:
    layers = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.MaxPool2d(2)).train()
    torch._dynamo.reset()
    compiled = torch.compile(layers, backend="tilus", dynamic=True)
    for size in (8, 12, 10):
        x = last(2, 6, size, size).requires_grad_()
        found, wanted = (torch.autograd.grad(run(x).square().sum(), x)[0] for run in (compiled, layers))
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()
        assert compiled(x).stride() == layers(x).stride()


def test_what_is_taken_as_it_is() -> None:
    for tensor in (torch.randn(3, 4), torch.randn(()), torch.randn(4), torch.randn(4, 6)[:, ::2],
                   torch.randn(3, 1).expand(3, 4), torch.randn(2, 3, 4, 1), torch.randn(4, 3, 5).transpose(0, 1)):
        assert memory_order(tensor) is None
    assert memory_order(last(2, 3, 4, 5)) == (0, 2, 3, 1)
    assert memory_order(torch.randn(3, 1, 4).permute(2, 1, 0)) == (2, 1, 0)
