"""Reductions, normalisations and products: all forms of their arguments, NaNs, no elements, strides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torch.graphs import agree, torch

F = torch.nn.functional
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def x() -> Any:
    return torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))


def test_sums(x: Any) -> None:
    agree(lambda x: [
        x.sum(), x.sum(0), x.sum(-1, keepdim=True), x.sum((0, 2)), x.mean(), x.mean((0, 1)), x.mean(1, keepdim=True),
        x.prod(), x.prod(1), x.sum((0, 1, 2), keepdim=True), x.half().sum(1), x.bfloat16().mean(-1),
        x.sum(1, dtype=torch.float64), (x > 0).sum(), (x * 3).long().prod(0), (x * 3).int().sum(1)], x, tolerance=1e-3)


def test_extrema(x: Any) -> None:
    agree(lambda x: [
        x.amax(), x.amax(0), x.amin((0, 2)), x.max(), x.min(), x.max(1)[0], x.min(-1, keepdim=True)[0],
        (x > 0).amax(0), (x > 0).amin(1), (x * 9).int().amax(2)], x)


def test_norms(x: Any) -> None:
    agree(lambda x: [
        torch.linalg.vector_norm(x, dim=-1), torch.linalg.vector_norm(x, 1, dim=(0, 1)),
        torch.linalg.vector_norm(x, INF), torch.linalg.vector_norm(x, -INF, dim=0), torch.linalg.vector_norm(x, 0),
        torch.linalg.vector_norm(x, 3, dim=1, keepdim=True), F.normalize(x, dim=1)], x)


def test_nans_come_through(x: Any) -> None:
    x = x.clone()
    x[0, 1, 2], x[2] = NAN, -INF
    agree(lambda x: [
        x.amax(), x.amax(0), x.amin((0, 2)), x.max(1)[0], x.softmax(-1), x.log_softmax(1), x.sum(1), x.isnan().any(1),
        (x > 0).all(0), x.any(), x.all(-1), x.logsumexp(1)], x)


@pytest.mark.filterwarnings("ignore:var")
def test_variances(x: Any) -> None:
    """Divided by 0 where the correction leaves nothing."""
    agree(lambda x: [
        x.var(), x.var(1), x.std(-1, keepdim=True), x.var((0, 2), correction=0), *torch.var_mean(x, 1),
        x.var(0, correction=3), x.var(0, correction=5), x.bfloat16().var(1)], x, tolerance=1e-2)


def test_softmaxes(x: Any) -> None:
    agree(lambda x: [
        x.softmax(0), x.softmax(1), x.log_softmax(-1), x.half().softmax(-1), F.softmin(x, 1), x.sum().softmax(0),
        F.softmax(x.bfloat16(), -1, dtype=torch.float32)], x, tolerance=1e-3)


def test_layer_norms(x: Any) -> None:
    agree(lambda x, w, b: [
        F.layer_norm(x, (7,), w, b), F.layer_norm(x, (7,)), F.layer_norm(x, (5, 7)), F.rms_norm(x, (7,), w)],
        x, torch.randn(7), torch.randn(7))


def test_group_norms() -> None:
    """Groups of several channels are rows of another shape, which torch makes."""
    y, w, b = torch.randn(2, 6, 5, 5), torch.randn(6), torch.randn(6)
    agree(lambda y, w, b: [
        F.group_norm(y, 1, w, b), F.group_norm(y, 6), F.group_norm(y, 2, w, b), F.group_norm(y, 3),
        F.instance_norm(y, weight=w), F.group_norm(y.double(), 2), F.group_norm(y[:, :, 0, 0], 2, w)], y, w, b)


def test_batch_norms() -> None:
    y, mean, var, w, b = torch.randn(2, 6, 5, 5), torch.randn(6), torch.rand(6), torch.randn(6), torch.randn(6)
    agree(lambda y, m, v, w, b: [F.batch_norm(y, m, v, w, b), F.batch_norm(y, m, v), F.batch_norm(y[:, :, 0, 0], m, v),
                                 F.batch_norm(y, None, None, w, b, True)], y, mean, var, w, b)


def test_products() -> None:
    agree(lambda a, b, c, d: [
        a @ b, torch.addmm(c, a, b), torch.addmm(d, a, b, beta=0.5, alpha=2), a @ b.relu(), a.double() @ b.double(),
        a.half() @ b.half(), a.bfloat16() @ b.bfloat16(), a @ b[:, 0], a[0] @ b, torch.outer(a[0], b[0]), a[0] @ a[1]],
        torch.randn(4, 5), torch.randn(5, 6), torch.randn(6), torch.randn(4, 6), tolerance=2e-2)


def test_a_summand_times_zero_is_not_looked_at() -> None:
    agree(lambda c, a, b: [torch.addmm(c, a, b, beta=0)], torch.full((4, 6), NAN), torch.randn(4, 5),
          torch.randn(5, 6))


def test_batches_of_products() -> None:
    q = torch.randn(2, 3, 4, 5)
    agree(lambda q, b: [
        q @ q.transpose(-1, -2), torch.bmm(q[0], q[1].transpose(1, 2)), torch.einsum("bhij,bhkj->bhik", q, q),
        torch.baddbmm(torch.ones(3, 4, 4), q[0], q[1].transpose(1, 2)), F.linear(q, b, torch.ones(6))],
        q, torch.randn(6, 5))


def test_integer_products_are_torchs() -> None:
    a = torch.arange(6).reshape(2, 3)
    agree(lambda a: [a @ a.t() + 1], a, expected=("aten.mm.default",))


def test_no_elements() -> None:
    agree(lambda e: [
        e + 1, e.sum(0), e.sum(), e.mean(), e.T @ e, e @ e.T, e.softmax(1), F.layer_norm(e, (3,)), e.prod(1),
        e.any(), e.all(1)], torch.randn(0, 3))
