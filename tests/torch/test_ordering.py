"""Sorted rows and their greatest elements are those of torch, with equal ones in their order."""

from __future__ import annotations

from typing import Any

from tests.torch.graphs import agree, torch


def with_equals(*shape: int) -> Any:
    return (torch.randn(*shape) * 8).round() / 4


def test_sort() -> None:
    x = with_equals(5, 70)
    x[2, 7] = float("nan")
    agree(lambda x: [*x.sort(dim=1, stable=True), *x.sort(dim=0, descending=True, stable=True)], x)
    agree(lambda x: [x.argsort(dim=1, stable=True), x.sort(-1).values, torch.msort(x.relu()) * 2], x)
    agree(lambda x: [*x.sort(dim=1, stable=True)], torch.randint(0, 9, (3, 40)))


def test_topk() -> None:
    x = torch.randn(6, 50)
    agree(lambda x: [*x.topk(3), *x.softmax(1).topk(2, 0), *x.topk(30, largest=False)], x)
    agree(lambda x: [*x.kthvalue(4), *x.kthvalue(6, 0, keepdim=True)], x)


def test_experts() -> None:
    """The gating of a mixture: top-k, weights, and the positions of the chosen."""
    def gate(x: Any, w: Any) -> list[Any]:
        weights, chosen = (x @ w).softmax(1).topk(2)
        return [weights / weights.sum(1, keepdim=True), torch.zeros(7, 8).scatter(1, chosen, weights),
                torch.zeros(8, dtype=torch.int64).scatter_add(0, chosen.flatten(), torch.ones(14, dtype=torch.int64))]

    agree(gate, torch.randn(7, 5), torch.randn(5, 8))


def test_gradients() -> None:
    x = torch.randn(4, 30, requires_grad=True)

    def loss(x: Any) -> Any:
        return (x.sort(1).values * torch.arange(30)).sum() + x.topk(3).values.exp().sum()

    (wanted,) = torch.autograd.grad(loss(x), x)
    (found,) = torch.autograd.grad(torch.compile(loss, backend="tilus", fullgraph=True)(x), x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
