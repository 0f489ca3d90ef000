"""``tilus.torch.explain``: what is fused, and what is left to torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from tilus.torch.backend import backend
from tilus.torch.node import operator_name, span_of
from tilus.torch.report import GraphReport, reports


def explain(model: Any, *inputs: Any, **named: Any) -> str:
    """What becomes of a model, called with these inputs: for each graph its fused functions, with their operators and
    kernels, and the operators that torch runs, with the reasons. A backward pass is listed where torch compiles it
    with the forward pass."""
    torch._dynamo.reset()
    with reports() as found:
        torch.compile(model, backend=backend)(*inputs, **named)
    return "\n\n".join(_graph_text(number, report) for number, report in enumerate(found))


def _graph_text(number: int, report: GraphReport) -> str:
    left = [(node, reason) for node, reason in report.left.items() if reason is not None]
    functions, operators = _number(len(report.calls), "fused function"), _number(len(left), "operator")
    lines = [f"graph {number} ({report.kind}): {functions}, {operators} left to torch"]
    for call in report.calls:
        names = Counter(name.removeprefix("aten.") for name in call.fused.operators)
        lines.append(f"  {call.fused.captured.name}: {_counted(names)}")
        if call.failure:
            lines.append(f"    left to torch: {call.failure}")
        else:
            kernels = call.kernels()
            lines.append(f"    {_number(len(kernels), 'kernel')}: {', '.join(kernels)}")
            lines += [f"      {line}" for line in call.fusion()]
    reasons = Counter((operator_name(node).removeprefix("aten."), reason) for node, reason in left)
    places = {(operator_name(node).removeprefix("aten."), reason): span_of(node) for node, reason in left}
    for (name, reason), count in reasons.most_common():
        place = places[name, reason]
        where = f" ({place.file}:{place.line})" if place is not None else ""
        lines.append(f"  torch: {name}{f' × {count}' if count > 1 else ''}: {reason}{where}")
    moved = Counter(operator_name(n).removeprefix("aten.") for n, reason in report.left.items() if reason is None)
    if moved:
        lines.append(f"  views and copies by torch: {_counted(moved)}")
    return "\n".join(lines)


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _counted(names: Counter[str]) -> str:
    return ", ".join(name if n == 1 else f"{name} × {n}" for name, n in names.items())


__all__ = ["explain"]
