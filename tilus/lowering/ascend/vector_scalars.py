"""Which scalars of a kernel vector units compute."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Function, Value
from tilus.ir.families import Elementwise
from tilus.ir.functions import UNARY
from tilus.ir.ops import Broadcast, For, If, Reduce, ReduceWith, Reshape, Unary, While
from tilus.ir.types import TileType


def numbers_of_tiles(function: Function) -> set[Value]:
    """Scalars that vector units compute: reductions of tiles, and what is made of them."""
    found: set[Value] = set()

    def mark(values: object) -> bool:
        fresh = {v for v in values if isinstance(v.type, TileType) and v.type.is_scalar} - found  # type: ignore[attr-defined]
        found.update(fresh)
        return bool(fresh)

    changed = True
    while changed:
        changed = False
        for op in function.walk():
            if isinstance(op, (Reduce, ReduceWith)) or (isinstance(op, Unary) and op.kind in UNARY) or (
                    isinstance(op, (Elementwise, Reshape, Broadcast)) and any(o in found for o in op.operands)):
                changed |= mark(op.results)
            elif isinstance(op, For):
                changed |= _carried(op.init, op.carried, op.body.terminator.operands, op.results, found, mark)
            elif isinstance(op, While):
                changed |= _carried(op.init, op.body.args, op.body.terminator.operands, op.results, found, mark)
                changed |= _carried(op.init, op.before.args, op.init, op.results, found, mark)
            elif isinstance(op, If):
                for result, x, y in zip(op.results, op.then.terminator.operands, op.orelse.terminator.operands,
                                        strict=True):
                    if x in found or y in found:
                        changed |= mark((result,))
    return found


def _carried(init: object, args: object, yields: object, results: object, found: set[Value],
             mark: Callable[[object], bool]) -> bool:
    changed = False
    for together in zip(init, args, yields, results, strict=True):  # type: ignore[call-overload]
        if any(v in found for v in together):
            changed |= mark(together[1:2] + together[3:])
    return changed


