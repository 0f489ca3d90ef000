"""Tensors of one value."""

from __future__ import annotations

from typing import Any

from tilus.lang.values import Tile, broadcast_to
from tilus.torch.node import Call, operand
from tilus.torch.registry import CREATION, Refused, rule


@rule("full", "full_like", "scalar_tensor", kind=CREATION)
def full(call: Call, first: Any, *rest: Any) -> Tile:
    value = first if call.node.target.__name__.startswith("scalar_tensor") else rest[0]
    if isinstance(value, float) and not call.dtype.is_float:
        raise Refused(f"the value {value} as {call.dtype}")
    return broadcast_to(operand(value, call.dtype), call.shape)
