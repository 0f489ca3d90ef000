"""Reductions of reductions, brought side by side: ``mean(mean(x, 3), 2)`` divides, and inserts dimensions, between its
two sums. What is done there alike to all elements is done after the outer reduction instead, so that the two may become
one (:mod:`tilus.lowering.array.collapse`)."""

from __future__ import annotations

from collections import Counter

from tilus.ir.core import Function, Operation, Value
from tilus.ir.ops import Binary, Broadcast, Cast, Const, Reduce, Reshape
from tilus.ir.rewriter import count_uses, erase_dead, rewrite_block
from tilus.ir.types import Extent, extents_of
from tilus.lowering.array.types import wide


def join_nested_reductions(function: Function) -> None:
    """Move what lies between two reductions of one kind after the outer one, in place: dimensions of extent 1, casts
    that change the nominal type only, and of sums of floats a factor or divisor that all elements share."""
    uses = count_uses(function)
    mapping: dict[Value, Value] = {}

    def rewrite(op: Operation) -> list[Operation] | None:
        found = _between(op, uses) if isinstance(op, Reduce) else None
        if not found:
            return None
        assert isinstance(op, Reduce)
        made: list[Operation] = [Reduce(op.kind, found[-1][0].operands[0], _axis_below(*found[-1]), span=op.span)]
        for step, axis in reversed(found):
            made += _redone(step, axis, made[-1].result)
        mapping[op.result] = made[-1].result
        uses.update(value for new in made for value in new.operands)
        uses[made[-1].result] += uses[op.result]
        return made

    rewrite_block(function.body, rewrite, mapping)
    erase_dead(function)


def _between(op: Reduce, uses: Counter[Value]) -> list[tuple[Operation, int]]:
    """The operations between a reduction and one of its kind below it, from above, each with the dimension of its
    result that is reduced; none where the two can't be brought together."""
    found: list[tuple[Operation, int]] = []
    value, axis = op.x, op.axis
    while True:
        step = value.defining
        if step is None or uses[value] != 1:
            return []
        if isinstance(step, Reduce):
            return found if step.kind == op.kind else []
        if not _alike(step, op.kind) or (isinstance(step, Reshape) and step.shape[axis] == 1):
            return []
        found.append((step, axis))
        value, axis = step.operands[0], _axis_below(step, axis)


def _alike(step: Operation, kind: str) -> bool:
    """Whether a reduction of what the operation makes of a value is what it makes of the value's reduction."""
    if isinstance(step, Cast):
        return wide(step.x.tile.dtype) is wide(step.dtype)
    if isinstance(step, Binary):
        return kind == "sum" and step.kind in ("mul", "div") and step.lhs.tile.dtype.is_float and _is_shared(step.rhs)
    return isinstance(step, Reshape)


def _is_shared(value: Value) -> bool:
    """Whether a value is one number for all elements."""
    op = value.defining
    return isinstance(op, Const) or (isinstance(op, Broadcast) and not op.x.tile.shape)


def _axis_below(step: Operation, axis: int) -> int:
    """The dimension of the operand that ``axis`` of the result is."""
    if not isinstance(step, Reshape):
        return axis
    place = len(_kept(step.shape[:axis]))
    return _kept(extents_of(step.x.tile))[place]


def _kept(shape: tuple[Extent, ...]) -> list[int]:
    return [d for d, n in enumerate(shape) if n != 1]


def _redone(step: Operation, axis: int, value: Value) -> list[Operation]:
    """The operation on the value reduced along ``axis``."""
    if isinstance(step, Cast):
        return [Cast(value, step.dtype, step.rounding, span=step.span)]
    if isinstance(step, Reshape):
        return [Reshape(value, step.shape[:axis] + step.shape[axis + 1 :], span=step.span)]
    assert isinstance(step, Binary)
    maker, shape, made = step.rhs.defining, value.tile.shape, list[Operation]()
    if isinstance(maker, Const):
        made.append(Const(maker.value, maker.dtype, shape, span=step.span))
    elif isinstance(maker, Broadcast) and shape:
        made.append(Broadcast(maker.x, shape, span=step.span))
    factor = made[0].result if made else step.rhs.defining.operands[0]  # type: ignore[union-attr]
    return [*made, Binary(step.kind, value, factor, span=step.span)]


__all__ = ["join_nested_reductions"]
