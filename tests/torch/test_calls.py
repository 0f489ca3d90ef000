"""Warm calls, which know of their tensors no more than addresses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torch.graphs import compiled, torch
from tilus.torch.report import reports


def first_call(function: Any, *inputs: Any) -> Any:
    """The call of the one fused function of a graph, which has been called once."""
    _, report = compiled(function, *inputs, engine="cpu")
    (call,) = report.calls
    return call


def test_only_addresses_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    call = first_call(lambda x, y: [x + y, x.sum(), x.t() * 2], torch.ones(5, 7), torch.ones(5, 7))
    (plan,) = call._plans.values()
    monkeypatch.setattr(plan.kernel, "called_on", None)
    for _ in range(3):
        x, y = torch.randn(5, 7), torch.randn(5, 7)
        total, rows, double = call(x, y)
        assert torch.equal(total, x + y)
        torch.testing.assert_close(rows, x.sum())
        assert torch.equal(double, x.t() * 2)
        assert double.stride() == (1, 7)


def test_other_alignments() -> None:
    call = first_call(lambda x: [x + 1], torch.ones(64))
    base = torch.randn(80)
    for start in (0, 1, 2, 4, 3):
        assert torch.equal(call(base[start:start + 64]), base[start:start + 64] + 1)


def test_memory_that_is_gone_is_not_read() -> None:
    """The whole check then says so, and torch finds out for itself."""
    call = first_call(lambda x: [x + 1], torch.ones(64))
    x = torch.ones(64)
    x.untyped_storage().resize_(0)
    with pytest.raises(Exception, match="storage"):
        call(x)


def test_no_elements() -> None:
    call = first_call(lambda x: [x.sum(0), x + 1], torch.ones(0, 3))
    total, more = call(torch.ones(0, 3))
    assert torch.equal(total, torch.zeros(3))
    assert more.shape == (0, 3)


def test_sizes_have_plans_of_their_own() -> None:
    """By the extents that torch does not know."""
    torch._dynamo.reset()
    with reports() as found:
        function = torch.compile(lambda x: x * 2 + 1, backend="tilus", dynamic=True)
        for n in (3, 5, 3, 5):
            assert torch.equal(function(torch.ones(n, 4)), torch.full((n, 4), 3.0))
    (call,) = found[0].calls
    assert len(call._plans) == 2
