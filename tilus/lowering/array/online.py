"""Recognition of attention: a product whose first operand is a softmax over the dimension that is summed over. It has
an online form, in which neither the scores nor the weights are ever in memory."""

from __future__ import annotations

import math
from collections import Counter

from tilus.ir.core import Function, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Binary, Broadcast, Cast, Compare, Const, Reduce, Reshape, Select, Unary
from tilus.ir.ops.array import Attend, Contract, RoundTo
from tilus.ir.rewriter import count_uses, erase_dead, rewrite_block
from tilus.lowering.array.types import wide
from tilus.records import record


@record(frozen=True)
class _Softmax:
    """``guarded`` says that the weights of a row whose scores are all −∞ are 0 rather than NaN: where the maximum is
    −∞, 0 is in its place, and where the sum is 0, 1."""

    scores: Value
    rounding: DType | None
    guarded: bool


def recognise_attention(function: Function) -> None:
    """Replace such products by :class:`~tilus.ir.ops.array.Attend`, in place."""
    uses = count_uses(function)
    mapping: dict[Value, Value] = {}

    def rewrite(op: Operation) -> list[Operation] | None:
        if not isinstance(op, Contract) or op.summed or not op.a.tile.dtype.is_float:
            return None
        found = _softmax(op.a, uses)
        if found is None:
            return None
        attend = Attend(found.scores, op.b, found.rounding, found.guarded, span=op.span)
        mapping[op.result] = attend.result
        return [attend]

    rewrite_block(function.body, rewrite, mapping)
    erase_dead(function)


def _softmax(value: Value, uses: Counter[Value]) -> _Softmax | None:
    """The softmax along the last dimension that a value is, if nothing but one product uses it."""
    rounding: DType | None = None
    while uses[value] == 1 and isinstance(op := value.defining, (Cast, RoundTo)):
        if isinstance(op, RoundTo):
            rounding = rounding or op.dtype
        elif wide(op.x.tile.dtype) is not wide(op.dtype):
            return None
        value = op.x
    quotient = value.defining
    if uses[value] != 1 or not isinstance(quotient, Binary) or quotient.kind != "div":
        return None
    weights = _bare(quotient.lhs)
    power = weights.defining
    total, over = _reduced(quotient.rhs, "sum", (0.0, 1.0))
    if not isinstance(power, Unary) or power.kind != "exp" or total is not weights:
        return None
    shifted = _bare(power.x).defining
    if not isinstance(shifted, Binary) or shifted.kind != "sub":
        return None
    most, below = _reduced(shifted.rhs, "max", (-math.inf, 0.0))
    return _Softmax(shifted.lhs, rounding, over and below) if most is _bare(shifted.lhs) else None


def _bare(value: Value) -> Value:
    """What is below casts that change the nominal type only."""
    while isinstance(op := value.defining, Cast) and wide(op.x.tile.dtype) is wide(op.dtype):
        value = op.x
    return value


def _reduced(value: Value, kind: str, guard: tuple[float, float]) -> tuple[Value | None, bool]:
    """What is reduced along its last dimension, where a value is such a reduction spread over the dimension again; and
    whether ``guard[1]`` is in the place of ``guard[0]``."""
    guarded = False
    while True:
        op = value.defining
        if isinstance(op, (Broadcast, Reshape, Cast)):
            value = op.x
        elif isinstance(op, Select) and not guarded and _is_guard(op, guard):
            value, guarded = op.y, True
        else:
            break
    if isinstance(op, Reduce) and op.kind == kind and op.axis == op.x.tile.rank - 1:
        return _bare(op.x), guarded
    return None, False


def _is_guard(op: Select, guard: tuple[float, float]) -> bool:
    """``where(y == guard[0], guard[1], y)``."""
    equal = op.condition.defining
    return isinstance(equal, Compare) and equal.kind == "eq" and equal.lhs is op.y and \
        _number(equal.rhs) == guard[0] and _number(op.x) == guard[1]


def _number(value: Value) -> bool | int | float | None:
    while isinstance(op := value.defining, (Broadcast, Cast)):
        value = op.x
    return op.value if isinstance(op, Const) else None


__all__ = ["recognise_attention"]
