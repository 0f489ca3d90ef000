"""Greatest and least elements begin with an infinity.

Elsewhere they begin with NaN, which ``max`` and ``min`` pass over; the vector unit's do not. What is left of a NaN that
nothing was compared with is then an infinity.
"""

from __future__ import annotations

import math

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import Binary, Broadcast, Const, For, If, Reduce, Reshape, Select, Transpose, Yield
from tilus.ir.rewriter import erase_dead, find_users, replace_values

INFINITIES = {"max": -math.inf, "min": math.inf}
Users = dict[Value, list[Operation]]


def begin_with_infinities(module: Module) -> None:
    """Replace the NaNs that only greatest, or only least elements begin with, in place."""
    for function in module.kernels:
        copies: dict[Value, Value] = {}
        _copy_for_each_use(function.body, copies)
        users, owners = find_users(function), _owners(function.body)
        for op in function.walk():
            if isinstance(op, Const) and _is_nan(op):
                kinds = _compared(op.result, users, owners, set(), carried=False)
                if len(kinds) == 1 and (kind := kinds.pop()) in INFINITIES:
                    op.value = INFINITIES[kind]
        same = {copy: value for copy, value in copies.items() if _is_nan(copy.defining)}
        replace_values(function.body, same)
        erase_dead(function)


def _is_nan(op: Operation | None) -> bool:
    return isinstance(op, Const) and op.dtype.is_float and op.value != op.value


def _copy_for_each_use(block: Block, copies: dict[Value, Value]) -> None:
    """A constant of its own for each operand that is a NaN."""
    ops: list[Operation] = []

    def copied(value: Value) -> Value:
        if not _is_nan(value.defining):
            return value
        ops.append(value.defining.clone({}))  # type: ignore[union-attr]
        copies[ops[-1].results[0]] = value
        return ops[-1].results[0]

    for op in block.ops:
        for region in op.regions:
            _copy_for_each_use(region, copies)
        op.map_operands(copied)
        ops.append(op)
    block.ops = ops


def _owners(block: Block, owner: Operation | None = None) -> dict[Operation, Operation | None]:
    """The operation that each terminator's block belongs to."""
    found: dict[Operation, Operation | None] = dict.fromkeys(block.ops[-1:], owner)
    for op in block.ops:
        for region in op.regions:
            found.update(_owners(region, op))
    return found


def _compared(value: Value, users: Users, owners: dict[Operation, Operation | None], seen: set[Value], *,
              carried: bool) -> set[str]:
    """As operands of what a value is used: "max", "min", or "" for anything else."""
    if value in seen:
        return set()
    seen.add(value)
    kinds: set[str] = set()
    for op in users.get(value, ()):
        following: list[Value] = []
        if isinstance(op, (Binary, Reduce)):
            kinds.add(op.kind if op.kind in INFINITIES else "")
        elif isinstance(op, (Broadcast, Reshape, Transpose)) or (isinstance(op, Select) and op.condition is not value):
            following = list(op.results)
        elif isinstance(op, For) and value in op.init:
            for n, init in enumerate(op.init):
                if init is value:  # what comes after the loop is of numbers, if it has any iteration
                    kinds |= _compared(op.carried[n], users, owners, seen, carried=True) or _compared(
                        op.results[n], users, owners, seen, carried=True)
        elif isinstance(op, Yield) and isinstance(outer := owners.get(op), (For, If)):
            places = [n for n, v in enumerate(op.operands) if v is value]
            following = [outer.carried[n] if isinstance(outer, For) else outer.results[n] for n in places]
        elif not carried:
            kinds.add("")
        for result in following:
            kinds |= _compared(result, users, owners, seen, carried=carried)
    return kinds - {""} if carried else kinds
