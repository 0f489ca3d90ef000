"""Rules: how operations that a machine does not spell are done by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.builder import Builder
from tilus.ir.core import Operation, Value
from tilus.lowering.legalise.legality import Machine
from tilus.records import record

Rewrite = Callable[[Builder, Any, Machine], "Value | Sequence[Value]"]
Applies = Callable[[Any, Machine], bool]


@record(frozen=True)
class Rule:
    """A rewriting: the values that take the place of an operation's results, from operations that are legalised in
    turn.

    Attributes:
        applies: whether it is for an operation. Of those that are, the first one is taken.
        cost: about how many operations it takes for an element.
    """

    rewrite: Rewrite
    applies: Applies
    cost: int


RULES: dict[type[Operation], list[Rule]] = {}
"""By class of operation, in the order in which they are tried."""


def rule(operation: type[Operation], applies: Callable[[Any], bool] | Applies, *, cost: int = 1,
         asks_machine: bool = False) -> Callable[[Rewrite], Rewrite]:
    """Registers a function as the rule for operations of a class for which ``applies`` holds; ``asks_machine``: it
    takes the machine as well."""
    test: Applies = applies if asks_machine else lambda op, machine: applies(op)  # type: ignore[assignment, call-arg]

    def register(rewrite: Rewrite) -> Rewrite:
        RULES.setdefault(operation, []).append(Rule(rewrite, test, cost))
        return rewrite

    return register


def rule_for(op: Operation, machine: Machine) -> Rule | None:
    """What is done with an operation that the machine does not spell; None where it does, or nothing is known."""
    rules = RULES.get(type(op))
    if rules is None or machine.spells(op):
        return None
    return next((r for r in rules if r.applies(op, machine)), None)


__all__ = ["RULES", "Rule", "rule", "rule_for"]
