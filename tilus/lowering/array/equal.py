"""Equal operations on equal values are done once: what is written twice in a function is one value to fusion."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from tilus.ir.core import Function, Operation, Value


def share_equal_values(function: Function) -> None:
    """Let the users of an operation that equals an earlier one read the earlier one's results, in place."""
    known: dict[Hashable, Operation] = {}
    mapping: dict[Value, Value] = {}
    kept = []
    for op in function.body.ops:
        op.map_operands(lambda v: mapping.get(v, v))
        if not op.results or op.effects() or op.regions:
            kept.append(op)
            continue
        first = known.setdefault(_key(op), op)
        if first is op:
            kept.append(op)
            continue
        for old, new in zip(op.results, first.results, strict=True):
            mapping[old] = new
            new.name = new.name or old.name
    function.body.ops = kept


def _key(op: Operation) -> Hashable:
    operands = tuple((name, getattr(op, name)) for name, _ in op.OPERAND_FIELDS)
    return type(op), operands, tuple(r.type for r in op.results), tuple(map(_exact, op.attributes.values()))


def _exact(attribute: Any) -> Hashable:
    """Numbers with their types and signs: 1, 1.0 and True are equal to Python, as 0.0 and -0.0 are."""
    if isinstance(attribute, (tuple, list)):
        return tuple(map(_exact, attribute))
    if isinstance(attribute, (bool, int, float)):
        return type(attribute), repr(attribute)
    return attribute if isinstance(attribute, Hashable) else id(attribute)


__all__ = ["share_equal_values"]
