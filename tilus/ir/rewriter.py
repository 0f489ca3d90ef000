"""Tools for passes: uses, value replacement, and a rewriter that rebuilds blocks op by op."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from tilus.ir.core import Block, Function, Operation, Value


def count_uses(function: Function) -> Counter[Value]:
    """How many times each value is an operand anywhere in the function."""
    uses: Counter[Value] = Counter()
    for op in function.walk():
        uses.update(op.operands)
    return uses


def find_users(function: Function) -> dict[Value, list[Operation]]:
    """The operations that use each value."""
    return find_users_in(function.body)


def find_users_in(block: Block) -> dict[Value, list[Operation]]:
    """The operations of a block, nested ones included, that use each value."""
    users: dict[Value, list[Operation]] = {}
    for op in block.walk():
        for value in op.operands:
            users.setdefault(value, []).append(op)
    return users


def replace_values(block: Block, mapping: dict[Value, Value]) -> None:
    """Replace operands throughout ``block``, following chains in ``mapping``."""
    if not mapping:
        return

    def resolve(value: Value) -> Value:
        while value in mapping:
            value = mapping[value]
        return value

    for op in block.walk():
        op.map_operands(resolve)


Rewrite = Callable[[Operation], "Iterable[Operation] | None"]


def rewrite_block(block: Block, rewrite: Rewrite, mapping: dict[Value, Value]) -> None:
    """Rebuild ``block`` in place. ``rewrite`` sees each operation after its operands have been replaced through
    ``mapping`` and gives the operations to put in its place, or None to keep it; it records replaced results in
    ``mapping``. Nested blocks are rewritten after their operation is kept."""

    def resolve(value: Value) -> Value:
        while value in mapping:
            value = mapping[value]
        return value

    ops: list[Operation] = []
    for op in block.ops:
        op.map_operands(resolve)
        replacement = rewrite(op)
        if replacement is None:
            ops.append(op)
            for region in op.regions:
                rewrite_block(region, rewrite, mapping)
        else:
            ops.extend(replacement)
    block.ops = ops


def is_pure(op: Operation) -> bool:
    """Whether the operation and all nested ones have no effects."""
    return not op.effects() and all(is_pure(inner) for region in op.regions for inner in region.ops)


def erase_dead(function: Function) -> int:
    """Remove pure operations whose results are not used (reads count as removable). Returns how many."""
    total = 0
    uses = count_uses(function)
    while True:
        removed = _erase_in(function.body, uses)
        total += removed
        if not removed:
            return total


def _erase_in(block: Block, uses: Counter[Value]) -> int:
    kept: list[Operation] = []
    removed = 0
    for op in reversed(block.ops):
        if not op.TERMINATOR and _removable(op) and not any(uses[r] for r in op.results):
            for inner in op.walk():
                for operand in inner.operands:
                    uses[operand] -= 1
            removed += 1
            continue
        for region in op.regions:
            removed += _erase_in(region, uses)
        kept.append(op)
    block.ops = kept[::-1]
    return removed


def _removable(op: Operation) -> bool:
    return all(e.kind in ("read", "alloc") for inner in op.walk() for e in inner.effects())
