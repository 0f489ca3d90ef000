"""Shifts, and places among boundaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.dtypes import i32
from tilus.lang import values
from tilus.lang.builtins import reduction
from tilus.lang.builtins.elementwise import where
from tilus.lang.values import Tile
from tilus.torch.node import PROMOTION, Call, operand
from tilus.torch.registry import Refused, rule

MOST_BOUNDARIES = 1 << 10
"""Boundaries of which each is compared with every number."""


def _shift(kind: str) -> Callable[..., Tile]:
    def function(call: Call, x: Any, y: Any) -> Tile:
        a, b = call.operands(PROMOTION.DEFAULT, x, y)
        if not a.dtype.is_int:
            raise Refused(f"a shift of {a.dtype}")
        if a.dtype.kind == "int":  # by a negative number as by a large one
            b = where(b < 0, operand(a.dtype.bits, a.dtype), b)
        return values.arithmetic(kind, a, b)

    return function


for _name, _kind in (("left", "shl"), ("right", "shr")):
    rule(*(f"bitwise_{_name}_shift.{form}" for form in ("Tensor", "Tensor_Scalar", "Scalar_Tensor")),
         f"__{_name[0]}shift__.Tensor", f"__{_name[0]}shift__.Scalar")(_shift(_kind))


@rule("bucketize.Tensor", "searchsorted.Tensor")
def bucketize(call: Call, first: Tile, second: Tile, _: bool, right: bool, *rest: Any) -> Tile:
    """How many boundaries are below a number, or not above it; all for a NaN."""
    by_number = "bucketize" in str(call.node.target)
    x, boundaries = (first, second) if by_number else (second, first)
    if any(n is not None for n in rest) or len(boundaries.shape) != 1:
        raise Refused("boundaries of each row, or in another order")
    count = call.metas[1 if by_number else 0].shape[0]
    if not isinstance(count, int) or count > MOST_BOUNDARIES:
        raise Refused(f"more than {MOST_BOUNDARIES} boundaries")
    dtype = call.promoted(PROMOTION.DEFAULT, 0, 1)
    number, limits = operand(x, dtype).reshape(*x.shape, 1), operand(boundaries, dtype)
    above = values.compare("gt" if right else "ge", limits, number)
    beyond = reduction.sum(above.to(i32), -1)
    return operand(count, i32) - beyond
