"""Rules: how the operators of ATen are said in the language of fused functions.

A rule takes the :class:`~tilus.torch.node.Call` and all arguments of the operator's schema, in order and with defaults
filled in: tensors are tiles, the rest is what stands in the graph. It gives a tile, or a tuple of them where the
operator has several results (None for one that nobody uses). It raises :class:`Refused` where it cannot do the operator
with these arguments exactly as ATen does; the operator is then left to torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from tilus.records import record

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Refused(Exception):
    """What an operator or its arguments have that a rule does not do."""


COMPUTE, PRODUCT, VIEW, COPY, CREATION = "compute", "product", "view", "copy", "creation"


@record(frozen=True)
class Rule:
    """``kind`` says what is gained by fusing the operator: those that compute are worth it alone, products among them;
    copies are where they stand next to those; views, which cost torch nothing, and new tensors of one value are done
    again for each user."""

    function: Callable[..., Any]
    kind: str


_rules: dict[Any, Rule] = {}


def rule(*names: str, kind: str = COMPUTE) -> Callable[[FunctionT], FunctionT]:
    """Register a function for operators of ATen, ``"add.Tensor"``, or of another namespace, ``"tilus::name"``. Those
    that this version of torch lacks are passed over."""

    def register(function: FunctionT) -> FunctionT:
        for name in names:
            namespace, _, short = name.rpartition("::")
            packet, _, overload = short.partition(".")
            found = getattr(getattr(getattr(torch.ops, namespace or "aten"), packet, None), overload or "default", None)
            if found is not None:
                _rules[found] = Rule(function, kind)
        return function

    return register


def rule_of(target: Any) -> Rule | None:
    """The rule for an operator."""
    return _rules.get(target)


__all__ = ["COMPUTE", "COPY", "CREATION", "PRODUCT", "VIEW", "Refused", "Rule", "rule", "rule_of"]
