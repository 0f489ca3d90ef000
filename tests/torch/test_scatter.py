"""Updates at indices, and the gradients that are such, are those of torch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torch.graphs import agree, torch

F = torch.nn.functional
aten = torch.ops.aten


def test_elements_along_a_dimension() -> None:
    x, u = torch.randn(5, 6), torch.randn(7, 6)
    i, unique = torch.randint(0, 5, (4, 6)), torch.rand(5, 6).argsort(0)[:3]
    agree(lambda x, i, u: [x.scatter_add(0, i, u[:4]), x.relu().scatter_add(0, i, u) * 2], x, i, u)
    agree(lambda x, i, u: [x.scatter(0, i, u), x.scatter(0, i, 2.5) + 1], x, unique, u)
    agree(lambda x, i, u: [x.scatter_reduce(0, i, u[:4], "sum"), x.index_add(1, i[0], u[:5], alpha=2)], x, i, u)
    agree(lambda x, i, u: [x.half().scatter_add(0, i, u.half())], x, i, u, tolerance=2e-3)
    agree(lambda x, i: [x.scatter_add(0, i, x[:4]), x.scatter(0, i[:1], 7)], torch.randint(0, 9, (5, 6)), i)


def test_elements_at_indices() -> None:
    x, i, u = torch.randn(9, 4), torch.tensor([[1, -1, 0], [3, 3, 2]]), torch.randn(2, 3, 4)
    agree(lambda x, i, u: [x.index_put((i,), u, accumulate=True), x.index_put((i, i % 4), u[..., 0], True)], x, i, u)
    agree(lambda x, i, u: [x.index_put((i[0],), u[0]), x.index_put((i[0],), u[0, 0, 0]) + 1], x, i, u)
    agree(lambda x, i, u: [x.index_copy(0, i[0] % 9, u[0]), x.index_fill(1, i[1], 3.0) * 2], x, i, u)
    agree(lambda x: [torch.where(x > 0, x, 0).index_put((x > 1,), torch.tensor(5.0)), x.masked_fill(x < 0, 1.0)], x)


def test_parts() -> None:
    x, u = torch.randn(6, 8), torch.randn(6, 3)
    agree(lambda x, u: [x.slice_scatter(u, 1, 2, 5) * 2, x.slice_scatter(u, 1, 1, 7, 2) * 2,
                        x.select_scatter(u[:, 0], 1, 3) + 1], x, u)


def test_embedding() -> None:
    g, i = torch.randn(3, 5, 4), torch.randint(0, 7, (3, 5))
    agree(lambda g, i: [aten.embedding_dense_backward(g, i, 7, 2, False) * 2], g, i)


@pytest.mark.parametrize("form", [(2, 2, 0), (3, 2, 1), (2, 3, 0), (3, 1, 1)], ids=str)
def test_pooling(form: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, 9, 8)
    size, stride, padding = form

    def maximum(x: Any) -> list[Any]:
        y, i = aten.max_pool2d_with_indices(x, size, stride, padding)
        return [aten.max_pool2d_with_indices_backward(y + 1, x, [size] * 2, [stride] * 2, [padding] * 2, [1] * 2, False,
                                                      i)]

    agree(maximum, x)
    for with_padding in (True, False):
        agree(lambda x, w=with_padding: [aten.avg_pool2d_backward(
            F.avg_pool2d(x, size, stride, padding) * 2, x, [size] * 2, [stride] * 2, [padding] * 2, False, w, None)], x)


def test_training() -> None:
    torch.manual_seed(0)
    table, x = torch.randn(10, 8, requires_grad=True), torch.randn(2, 3, 8, 8, requires_grad=True)

    def loss(table: Any, x: Any, i: Any) -> Any:
        pooled = F.avg_pool2d(F.max_pool2d(x, 2).sin(), 2)
        return (table[i].tanh() * pooled[0, :1, 0, :1]).sum() + x.gather(1, i[:1, :1, None, None] % 3).sum()

    i = torch.randint(0, 10, (4, 5))
    gradients = []
    for run in (loss, torch.compile(loss, backend="tilus", fullgraph=True)):
        table.grad = x.grad = None
        run(table, x, i).backward()
        gradients.append((table.grad, x.grad))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
