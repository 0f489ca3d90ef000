"""Reductions of a whole array to one number are spread over blocks: each reduces a part of the tiles into a workspace,
and what reads the number reduces that."""

from __future__ import annotations

import math

from tilus.ir.core import Function, Operation, Value
from tilus.ir.ops import Reduce
from tilus.ir.ops.array import Attend, Contract, PartialReduce, Regroup
from tilus.ir.rewriter import count_uses, erase_dead, rewrite_block
from tilus.ir.types import extents_of

SMALL = 4096
"""Elements that one block reduces by itself, where their number is known."""


def spread_reductions(function: Function) -> None:
    """Divide the reductions to one number of an array-level function, in place."""
    uses = count_uses(function)
    mapping: dict[Value, Value] = {}
    symbols: dict[tuple[object, ...], str] = {}

    def rewrite(op: Operation) -> list[Operation] | None:
        if not isinstance(op, Reduce) or extents_of(op.result.tile):
            return None
        x = op.x
        while isinstance(x.defining, Reduce) and x.defining.kind == op.kind and uses[x] == 1 and \
                not _reduces(x.defining.x):
            x = x.defining.x
        extents = extents_of(x.tile)
        if all(isinstance(n, int) for n in extents) and math.prod(int(n) for n in extents) <= SMALL:
            return None
        parts = PartialReduce(op.kind, x, symbols.setdefault(extents, f"parts{len(symbols)}"), span=op.span)
        whole = Reduce(op.kind, parts.result, 0, span=op.span)
        mapping[op.result] = whole.result
        return [parts, whole]

    rewrite_block(function.body, rewrite, mapping)
    erase_dead(function)


def _reduces(value: Value) -> bool:
    """Whether reductions are below a value, in the same kernel: a contraction is done in one of its own."""
    waiting, seen = [value], set[Value]()
    while waiting:
        current = waiting.pop()
        op = current.defining
        if current in seen or op is None or isinstance(op, (Contract, Attend, Regroup)):
            continue
        seen.add(current)
        if isinstance(op, (Reduce, PartialReduce)):
            return True
        waiting += op.operands
    return False
