"""Greatest and least elements begin with an infinity.

Elsewhere they begin with NaN, which ``max`` and ``min`` pass over; the vector unit's do not. What is left of a NaN that
nothing was compared with is then an infinity.
"""

from __future__ import annotations

import math

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops import Binary, Broadcast, Const, For, If, Reduce, Reshape, Select, Transpose, Yield
from tilus.ir.rewriter import find_users

INFINITIES = {"max": -math.inf, "min": math.inf}
Users = dict[Value, list[Operation]]


def begin_with_infinities(module: Module) -> None:
    """Replace the NaNs that only greatest, or only least elements begin with, in place."""
    for function in module.kernels:
        _copy_for_each_use(function.body)
        users, owners = find_users(function), _owners(function.body)
        for op in function.walk():
            if isinstance(op, Const) and _is_nan(op):
                kinds = _compared(op.result, users, owners, set(), carried=False)
                if len(kinds) == 1 and (kind := kinds.pop()) in INFINITIES:
                    op.value = INFINITIES[kind]


def _is_nan(op: Const) -> bool:
    return op.dtype.is_float and op.value != op.value


def _copy_for_each_use(block: Block) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _copy_for_each_use(region)
        for value in dict.fromkeys(op.operands):
            if isinstance(value.defining, Const) and _is_nan(value.defining):
                copy = value.defining.clone({})
                ops.append(copy)
                op.map_operands(lambda v, old=value, new=copy.results[0]: new if v is old else v)  # type: ignore[misc]
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
