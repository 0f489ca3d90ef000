"""How graphs are divided: views, strides, what is done again, and the order of what torch runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.torch.graphs import agree, compiled, left, torch


def test_views_are_fused_where_something_follows() -> None:
    q = torch.randn(2, 3, 4, 5)
    report = agree(lambda q: [q.permute(0, 2, 1, 3) + 1, q.unsqueeze(1) * 2, q.expand(7, 2, 3, 4, 5) + 1,
                              q[:, :1].squeeze(1) * 3], q)
    assert [len(call.fused.operators) for call in report.calls] == [9]


def test_views_that_join_dimensions_are_fused() -> None:
    report = agree(lambda q: [(q.transpose(1, 2).reshape(2, 4, 15) + 1).relu()], torch.randn(2, 3, 4, 5))
    (call,) = report.calls
    assert {"aten.view.default", "aten.add.Tensor", "aten.relu.default"} <= set(call.fused.operators)
    assert left(report) == []


def test_a_view_for_the_caller_is_not_a_copy() -> None:
    x = torch.randn(3, 4)
    (view, total), report = compiled(lambda x: [x.t(), x.t() + 1], x)
    assert view.data_ptr() == x.data_ptr()
    assert torch.equal(total, x.t() + 1)
    assert left(report) == []


def test_strides() -> None:
    images = torch.randn(2, 6, 5, 5).to(memory_format=torch.channels_last)
    agree(lambda q: [q + 1, q.sum(1), q.contiguous() * 2, q.relu().mean((2, 3)), q.transpose(1, 3) * 2], images)
    agree(lambda q: [torch.nn.functional.group_norm(q, 2)], images)
    agree(lambda q, r: [q + r, q.sum(0), q @ r.t()], torch.randn(5, 4).t(), torch.randn(8, 10)[::2, ::2])
    agree(lambda e, x: [e * x, e.sum(), e.sum(0)], torch.randn(1, 3).expand(4, 3), torch.randn(4, 3))


def test_new_tensors() -> None:
    x = torch.randn(3, 5, 7)
    report = agree(lambda x: [x + torch.ones(7), torch.zeros_like(x) + x, torch.full((5, 7), 2.0) * x,
                              torch.where(x > 0, x, torch.tensor(-1.0))], x)
    assert len(report.calls) == 1


def test_results_that_come_in() -> None:
    x = torch.ones(2, 3)
    (same, double), _ = compiled(lambda x: [x, x * 2], x)
    assert same is x
    assert torch.equal(double, x * 2)


def test_what_torch_runs_keeps_its_order() -> None:
    """Random numbers are those of torch, though the second of them does not wait for a fused function."""
    def function(x: Any) -> list[Any]:
        first = torch.rand_like(x.exp().logcumsumexp(0).exp())
        return [first + torch.rand_like(x)]

    x = torch.zeros(5)
    torch.manual_seed(1)
    (got,), report = compiled(function, x, fallback_random=True)
    torch.manual_seed(1)
    assert torch.equal(got, function(x)[0])
    assert "aten.rand_like.default" in " ".join(left(report))


def test_around_an_operator_without_a_rule() -> None:
    """A level for each such operator, and the parts of a level that have nothing in common apart."""
    def function(x: Any, y: Any, z: Any) -> list[Any]:
        return [(x.exp() + 1).logcumsumexp(0) * y.exp(), (z * 2).relu()]

    report = agree(function, torch.randn(4), torch.randn(4), torch.randn(3), expected=("aten.logcumsumexp.default",))
    assert sorted(len(call.fused.operators) for call in report.calls) == [2, 2, 2]


def test_what_is_needed_later_waits() -> None:
    def function(x: Any, w: Any) -> list[Any]:
        return [x.logcumsumexp(0) * w.sigmoid()]

    report = agree(function, torch.randn(4), torch.randn(4), expected=("aten.logcumsumexp.default",))
    assert [call.fused.operators for call in report.calls] == [["aten.sigmoid.default", "aten.mul.Tensor"]]


def test_functions_that_say_the_same_are_one() -> None:
    def function(x: Any, y: Any) -> list[Any]:
        return [x.exp().logcumsumexp(0).exp(), y.exp()]

    report = agree(function, torch.randn(4), torch.randn(6), expected=("aten.logcumsumexp.default",))
    first, *others = [call.fused for call in report.calls]
    assert all(other is first for other in others)


def test_long_chains_are_divided() -> None:
    def function(x: Any) -> list[Any]:
        for _ in range(150):
            x = x * 0.99 + 0.01
        return [x]

    report = agree(function, torch.randn(4))
    assert len(report.calls) > 3


def test_many_products_are_divided_with_what_is_around_them() -> None:
    """Four in a function; those that say the same share one."""
    def function(w: Any, *xs: Any) -> list[Any]:
        return [torch.relu(x.exp() @ w.t()) for x in xs]

    report = agree(function, torch.randn(6, 5), *[torch.randn(3, 5) for _ in range(8)])
    first, second = [call.fused for call in report.calls]
    assert first is second
    assert Counter(first.operators) == {"aten.exp.default": 4, "aten.permute.default": 4, "aten.mm.default": 4,
                                        "aten.relu.default": 4}
