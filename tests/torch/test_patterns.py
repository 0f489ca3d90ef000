"""Kernels in the place of subgraphs."""

from __future__ import annotations

from typing import Any

import pytest

import tilus as tl
import tilus.torch
from tests.torch.graphs import left, reports, torch
from tilus.torch import patterns


@pytest.fixture(autouse=True)
def _no_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_patterns", [])
    torch._dynamo.reset()


@tl.fuse
def gated(x, w, v):
    y = x @ w
    return y * tl.sigmoid(y) * (x @ v)


def compiled(function: Any, *inputs: Any) -> tuple[Any, Any]:
    with torch.no_grad(), reports() as found:
        return torch.compile(function, backend="tilus")(*inputs), found[0]


def operators(report: Any) -> list[str]:
    return [str(node.target) for node in report.left]


def test_a_gated_layer() -> None:
    op = tilus.torch.custom_op(gated, name="tilus_tests::gated")
    tilus.torch.replace(lambda x, w, v: torch.nn.functional.silu(x @ w) * (x @ v), lambda x, w, v: op(x, w, v),
                        [torch.randn(5, 6), torch.randn(6, 7), torch.randn(6, 7)])

    def layer(x: Any, w: Any, v: Any, u: Any) -> Any:
        return (torch.nn.functional.silu((x + 1) @ w) * ((x + 1) @ v)) @ u

    torch.manual_seed(0)
    inputs = [torch.randn(n) for n in ((9, 16), (16, 24), (16, 24), (24, 3))]
    found, report = compiled(layer, *inputs)
    torch.testing.assert_close(found, layer(*inputs), rtol=1e-4, atol=1e-4)
    assert operators(report) == ["tilus_tests.gated.default"]
    assert left(report) == []


def test_numbers_and_conditions() -> None:
    op = tilus.torch.custom_op(gated, name="tilus_tests::gated_again")
    seen: list[float] = []

    def replacement(x: Any, w: Any, factor: float) -> Any:
        seen.append(factor)
        return op(x, w, w) * 0 + (x @ w) * factor

    tilus.torch.replace(lambda x, w, factor: (x @ w) * factor, replacement, [torch.randn(5, 6), torch.randn(6, 7)],
                        numbers={"factor": 0.123}, only=lambda match: match.kwargs["factor"] < 3)
    x, w = torch.randn(3, 4), torch.randn(4, 4)
    for factor, replaced in ((2.5, True), (4.5, False)):
        torch._dynamo.reset()
        found, report = compiled(lambda x, w, factor=factor: (x @ w) * factor, x, w)
        torch.testing.assert_close(found, x @ w * factor)
        assert ("tilus_tests.gated_again.default" in operators(report)) == replaced


def test_a_pattern_that_cannot_be_traced() -> None:
    with pytest.raises(tl.UserError, match="cannot be traced on the examples"):
        tilus.torch.replace(lambda x, w: x @ w, lambda x, w: x, [torch.randn(5, 6), torch.randn(5, 7)])
