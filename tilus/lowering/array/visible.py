"""Which keys a tile of queries sees, where the mask of scores is a comparison of the two indices (causal masks and the
like): scores beyond the last are −∞ and need not be computed."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Broadcast, Cast, Compare, Const, Iota, Reshape, Select, Unary
from tilus.ir.types import extents_of
from tilus.lowering.array.access import Axis
from tilus.records import record

if TYPE_CHECKING:
    from tilus.lowering.array.evaluate import Evaluator

MIRRORED = {"le": "ge", "lt": "gt", "ge": "le", "gt": "lt"}
OPPOSITE = {"le": "gt", "lt": "ge", "ge": "lt", "gt": "le"}


@record(frozen=True)
class _Line:
    """An index expression: how often each of the two indices is in it, and the scalars that are added (or, with −1,
    taken away)."""

    row: int
    column: int
    scalars: tuple[tuple[Value | int, int], ...]


def last_visible(e: Evaluator, scores: Value, row: Axis) -> Value | None:
    """The index behind the last key that any of the queries sees; None where the scores do not say it."""
    found = None
    for condition, kept in _conditions(scores):
        end = _end(e, condition, kept, scores.tile.rank, row)
        if end is not None:
            found = end if found is None else e.b.binary("min", found, end)
    return found


def _conditions(scores: Value) -> list[tuple[Value, bool]]:
    """The conditions outside of which scores are −∞, each with whether it holds inside."""
    found = []
    waiting = [scores]
    while waiting:
        op = waiting.pop().defining
        if isinstance(op, Cast):
            waiting.append(op.x)
        elif isinstance(op, Select):
            if _is_infinite(op.y):
                found.append((op.condition, True))
                waiting.append(op.x)
            elif _is_infinite(op.x):
                found.append((op.condition, False))
                waiting.append(op.y)
        elif isinstance(op, Binary) and op.kind == "add":
            waiting += op.operands
    return found


def _is_infinite(value: Value) -> bool:
    op = _spread(value).defining
    return isinstance(op, Const) and op.value == -math.inf


def _spread(value: Value) -> Value:
    """What is cast, or spread over further dimensions before its own."""
    while True:
        op = value.defining
        if not isinstance(op, (Broadcast, Cast)) and not (isinstance(op, Reshape) and _leads(op)):
            return value
        value = op.operands[0]


def _leads(op: Reshape) -> bool:
    """Whether dimensions of extent 1 are added, before all others."""
    below = extents_of(op.x.tile)
    added = len(op.shape) - len(below)
    return added >= 0 and tuple(op.shape[added:]) == below and set(op.shape[:added]) <= {1}


def _end(e: Evaluator, condition: Value, holds: bool, rank: int, row: Axis) -> Value | None:
    """From column ≤ row + c, or one of the comparisons that say it."""
    op = _spread(condition).defining
    while isinstance(op, Unary) and op.kind == "not":
        op, holds = _spread(op.x).defining, not holds
    if isinstance(op, Binary) and op.kind == "and" and holds:
        ends = [end for v in op.operands if (end := _end(e, v, True, rank, row)) is not None]
        return ends[0] if len(ends) == 1 else e.b.binary("min", *ends) if ends else None
    if not isinstance(op, Compare) or op.kind not in MIRRORED:
        return None
    kind = op.kind if holds else OPPOSITE[op.kind]
    left, right = (_line(v, rank) for v in op.operands)
    if left is None or right is None:
        return None
    if kind in ("ge", "gt"):
        kind, left, right = MIRRORED[kind], right, left
    # left ≤ right, that is: column ≤ row + (right's scalars − left's)
    if (right.column - left.column, right.row - left.row) != (-1, 1):
        return None
    last = e.b.const(max(row.size, 1) - (kind == "lt"))  # of the tile's last row, and one more
    for scalar, sign in (*right.scalars, *((s, -k) for s, k in left.scalars)):
        value = e.b.const(scalar) if isinstance(scalar, int) else e.cast(e.tile(scalar, ()), i64)
        last = e.b.binary("add" if sign > 0 else "sub", last, value)
    return e.b.binary("add", last, e.offset(row))


def _line(value: Value, rank: int) -> _Line | None:
    """A value as a sum of indices and scalars."""
    counts, scalars = Counter[int](), list[tuple[Value | int, int]]()
    waiting = [(value, 1, tuple(range(rank - value.tile.rank, rank)))]
    while waiting:
        current, sign, dims = waiting.pop()
        op: Operation | None = current.defining
        if isinstance(op, Const):
            if not isinstance(op.value, int):
                return None
            scalars.append((op.value, sign))
        elif not current.tile.shape:
            scalars.append((current, sign))
        elif isinstance(op, Iota):
            counts[dims[op.axis]] += sign
        elif isinstance(op, Broadcast) or (isinstance(op, Cast) and op.dtype.is_int):
            waiting.append((op.x, sign, dims if op.x.tile.rank else ()))
        elif isinstance(op, Reshape):
            places = [d for d, n in zip(dims, extents_of(current.tile), strict=True) if n != 1]
            kept = iter(places)
            below = tuple(-1 if n == 1 else next(kept) for n in extents_of(op.x.tile))
            waiting.append((op.x, sign, below))
        elif isinstance(op, Binary) and op.kind in ("add", "sub"):
            waiting += [(op.lhs, sign, dims), (op.rhs, sign if op.kind == "add" else -sign, dims)]
        else:
            return None
    if set(counts) - {rank - 1, rank - 2}:
        return None
    return _Line(counts[rank - 2], counts[rank - 1], tuple(scalars))


__all__ = ["last_visible"]
