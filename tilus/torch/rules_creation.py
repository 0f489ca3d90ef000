"""Tensors of one value, and of numbers one step apart."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import i64
from tilus.ir.ops import Iota
from tilus.lang.context import current
from tilus.lang.values import Tile, broadcast_to, emit
from tilus.torch.node import Call, operand
from tilus.torch.registry import CREATION, Refused, rule


@rule("full", "full_like", "scalar_tensor", kind=CREATION)
def full(call: Call, first: Any, *rest: Any) -> Tile:
    value = first if call.node.target.__name__.startswith("scalar_tensor") else rest[0]
    if isinstance(value, float) and not call.dtype.is_float:
        raise Refused(f"the value {value} as {call.dtype}")
    return broadcast_to(operand(value, call.dtype), call.shape)


@rule("arange.start_step", kind=CREATION)
def arange(call: Call, start: Any, end: Any, step: Any, *_: Any) -> Tile:
    """Whole numbers, which are exact; torch computes others in a precision of its own."""
    if not isinstance(step, int) or not isinstance(start, (int, str)):
        raise Refused("numbers that are not whole ones")
    place = emit(Iota(call.shape, 0, i64, span=current().span))
    found = place if step == 1 else place * step
    found = found if start == 0 else found + operand(start, i64)
    return operand(found, call.dtype)
