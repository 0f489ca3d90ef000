"""Operations that become others, one at a time."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.rewriter import erase_dead, replace_values

Rule = Callable[[Operation, list[Operation]], Value | None]
"""Appends what an operation becomes, and gives its result; None for one that stays."""


def replace_operations(module: Module, rule: Rule) -> None:
    """Replace what a rule is for, in place; what nothing uses any more goes."""
    for function in module.kernels:
        mapping: dict[Value, Value] = {}
        _block(function.body, rule, mapping)
        if mapping:
            replace_values(function.body, mapping)
            erase_dead(function)


def _block(block: Block, rule: Rule, mapping: dict[Value, Value]) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _block(region, rule, mapping)
        result = rule(op, ops)
        if result is None:
            ops.append(op)
            continue
        mapping[op.results[0]] = result
        result.name = op.results[0].name
    block.ops = ops


__all__ = ["replace_operations"]
