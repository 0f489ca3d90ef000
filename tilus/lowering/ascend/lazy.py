"""Values that nothing is done for until something needs them as a whole: constants, indices, broadcasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.ops import Broadcast, Cast, Const, Iota, Reshape

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

LAZY = (Broadcast, Const, Iota, Reshape)
"""The operations that give such."""


def constant(value: Value) -> float | int | bool | None:
    """The one number that all elements are, if it is known."""
    op = value.defining
    while isinstance(op, (Broadcast, Reshape)):
        op = op.x.defining
    if isinstance(op, Cast) and isinstance(op.x.defining, Const) and not op.x.tile.dtype.is_float:
        return op.x.defining.value
    return op.value if isinstance(op, Const) else None


def one_number(vector: Vector, value: Value) -> Value | None:
    """The scalar, of the scalar unit, that all elements are."""
    while True:
        if vector.is_scalar(value):
            return vector.scalar(value)
        op = value.defining
        if not isinstance(op, (Broadcast, Reshape)) or value in vector.tiles:
            return None
        value = op.x


def is_spread(vector: Vector, value: Value) -> bool:
    return value not in vector.tiles and (isinstance(value.defining, LAZY) or vector.is_scalar(value))
