"""How much of a dimension is real: tiles that are neutral beyond a run-time index are computed up to it only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeGuard

from tilus.ir.core import Value
from tilus.ir.ops import Binary, Broadcast, Cast, Compare, Const, Iota, Load, Reshape, Select, Transpose
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.movements import keeps_dimensions, source_dims
from tilus.lowering.cpu.values import Lazy, Number


def limited(self: BlockLowering, x: Value, axis: int, neutral: bool | int | float) -> tuple[Value, Number] | None:
    """What a tile is before a run-time index along ``axis``, and that index, where from there on it is ``neutral``."""
    rep = self.reps[x]
    op = rep.op if isinstance(rep, Lazy) else None
    if not isinstance(op, Select) or not _is_constant(op.y, neutral):
        return None
    inside = op.condition
    while isinstance(inside.defining, (Broadcast, Reshape)):
        move = inside.defining
        source = move.x.tile.shape
        if isinstance(move, Reshape):
            if not keeps_dimensions(move) or move.shape[axis] == 1:
                return None
            axis = [d for d, n in enumerate(source) if n != 1][len([n for n in move.shape[:axis] if n != 1])]
        elif not source or source[axis] == 1:
            return None
        inside = move.x
    compare = inside.defining
    if not isinstance(compare, Compare) or compare.kind != "lt" or inside.tile.rank != 1:
        return None
    offset, limit = _first(self, compare.lhs), _splat(self, compare.rhs)
    return None if offset is None or limit is None else (op.x, self.c.sub(limit, offset))


def _is_constant(value: Value, wanted: bool | int | float) -> bool:
    while isinstance(value.defining, Broadcast):
        value = value.defining.x
    if not isinstance(value.defining, Const):
        return False
    found = value.defining.value
    return found == wanted or (_is_nan(found) and _is_nan(wanted))


def _is_nan(x: bool | int | float) -> TypeGuard[float]:
    return isinstance(x, float) and math.isnan(x)


def _splat(self: BlockLowering, value: Value) -> Number | None:
    """The number that all elements are."""
    op = value.defining
    if isinstance(op, Const):
        return int(op.value)
    if isinstance(op, Broadcast) and op.x.tile.is_scalar:
        return self.c.number(self.scalars[op.x])
    return None


def _first(self: BlockLowering, index: Value) -> Number | None:
    """The first of consecutive numbers."""
    op = index.defining
    if isinstance(op, Iota):
        return 0
    if isinstance(op, Binary) and op.kind == "add" and isinstance(op.lhs.defining, Iota):
        return _splat(self, op.rhs)
    return None


def ends_of(self: BlockLowering, value: Value, dims: tuple[int | None, ...]) -> Iterator[tuple[Number, int]]:
    """From where on a lazy tile is zero because an array ends, along which of the consumer's dimensions."""
    rep = self.reps[value]
    op = rep.op if isinstance(rep, Lazy) else None
    if isinstance(op, (Cast, Transpose)):
        yield from ends_of(self, op.x, source_dims(op, op.x, dims))
    elif isinstance(op, Binary) and op.kind == "mul":
        for operand in (op.lhs, op.rhs):
            yield from ends_of(self, operand, dims)
    elif isinstance(op, Load) and op.other is None and isinstance(rep, Lazy) and rep.window is not None:
        for high, dim in zip(rep.window.highs, dims, strict=True):
            if high is not None and dim is not None:
                yield high, dim


__all__ = ["ends_of", "limited"]
