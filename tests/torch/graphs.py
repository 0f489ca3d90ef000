"""Functions of tensors compiled without Dynamo, and compared with torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from functorch.compile import aot_function  # noqa: E402

from tilus.torch.backend import Options, compile_graph  # noqa: E402
from tilus.torch.decompositions import decompositions  # noqa: E402
from tilus.torch.report import GraphReport, reports  # noqa: E402


def compiled(function: Callable[..., Any], *inputs: Any, engine: str | None = "interpret",
             fallback_random: bool = False) -> tuple[Any, GraphReport]:
    """What the compiled graph of a function gives, and what has become of it."""
    with torch.no_grad(), reports() as found:
        run = aot_function(function, lambda graph, _: compile_graph(graph, "inference", Options(False, engine)),
                           decompositions=decompositions(fallback_random))
        return run(*inputs), found[0]


def left(report: GraphReport) -> list[str]:
    """The operators that torch runs."""
    return [str(node.target) for node, reason in report.left.items() if reason is not None]


def agree(function: Callable[..., Any], *inputs: Any, tolerance: float = 1e-5, expected: tuple[str, ...] = (),
          engine: str | None = "interpret") -> GraphReport:
    """The function gives what torch gives, in the same types, shapes and strides, and torch runs the ``expected``
    operators only."""
    got, report = compiled(function, *inputs, engine=engine)
    wanted = function(*inputs)
    for i, (mine, theirs) in enumerate(zip(got, wanted, strict=True)):
        assert (mine.dtype, mine.shape, mine.stride()) == (theirs.dtype, theirs.shape, theirs.stride()), i
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance, equal_nan=True,
                                   msg=lambda text, i=i: f"{i}: {text}")
    assert left(report) == list(expected), report.left
    return report
