"""How much a scalar grows with another one: with the index of a loop, or a block's place in the grid."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Function, Value
from tilus.ir.ops import Binary, Cast, Const, For, GridIndex, PartStart
from tilus.ir.types import ViewType

Slope = Callable[[Value], int | None]


class Slopes:
    """Slopes of scalars.

    Args:
        known: the slope of a value that is given, 1 for the variable itself; None for those that are computed.
        constant: the number that a scalar is, or None.
    """

    def __init__(self, known: Slope, constant: Slope) -> None:
        self.known, self.constant = known, constant

    def of(self, value: Value) -> int | None:
        """How much ``value`` grows when the variable grows by one, where that is constant; else None."""
        known = self.known(value)
        if known is not None:
            return known
        op = value.defining
        if op is None:
            return None
        slopes = [self.of(o) if isinstance(o.type, ViewType) or o.tile.is_scalar else None for o in op.operands]
        if all(s == 0 for s in slopes):
            return 0 if not op.effects() and not op.regions else None
        if isinstance(op, Cast) and _widens(op):
            return slopes[0]
        if not isinstance(op, Binary) or None in slopes:
            return None
        a, b = slopes
        assert a is not None
        assert b is not None
        if op.kind in ("add", "sub"):
            return a + b if op.kind == "add" else a - b
        if op.kind == "mul":
            for slope, other in ((a, op.rhs), (b, op.lhs)):
                factor = self.constant(other)
                if factor is not None:
                    return slope * factor
        return None


def grid_slopes(kernel: Function, axis: int, whole: bool = False) -> Slopes:
    """Slopes with the block's place along an axis of the grid; loops' indices do not depend on it. ``whole``: of blocks
    that are not divided, whose one part begins where they do."""
    uniform = {*kernel.body.args, *(op.index for op in kernel.walk() if isinstance(op, For))}

    def known(value: Value) -> int | None:
        op = value.defining
        if isinstance(op, GridIndex):
            return 1 if op.axis == axis else 0
        if whole and isinstance(op, PartStart):
            return 0
        return 0 if value in uniform else None

    return Slopes(known, constant_of)


def loop_slopes(loop: For) -> Slopes:
    """Slopes with the index of a loop."""
    inside = set(loop.carried)
    for op in loop.body.walk():
        inside.update(op.results, *(region.args for region in op.regions))

    def known(value: Value) -> int | None:
        return 1 if value is loop.index else None if value in inside else 0

    return Slopes(known, constant_of)


def _widens(op: Cast) -> bool:
    """Whether an integer becomes one that has room for it."""
    source = op.x.tile.dtype
    return op.dtype.is_int and source.is_int and op.dtype.bits >= source.bits


def constant_of(value: Value) -> int | None:
    """The number that a scalar is in the program."""
    op = value.defining
    return int(op.value) if isinstance(op, Const) and op.dtype.is_int else None


__all__ = ["Slopes", "constant_of", "grid_slopes", "loop_slopes"]
