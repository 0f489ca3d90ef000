"""The types in which values are computed and held, and what reductions start from."""

from __future__ import annotations

import math

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f32
from tilus.ir.families import Movement
from tilus.ir.ops.array import Lookup, RoundTo


def wide(dtype: DType) -> DType:
    """The type that values of a nominal type are computed in."""
    return f32 if dtype.is_float and dtype.is_arithmetic and dtype.bits == 16 else dtype


def held(value: Value, stored: dict[Value, Value]) -> DType:
    """The type that a tile of the value has: that of its memory, that it has been rounded to, or the wide one."""
    while value not in stored and isinstance(value.defining, (Movement, Lookup)):
        value = value.defining.operands[0]
    if value in stored:
        return stored[value].view.dtype
    return value.defining.dtype if isinstance(value.defining, RoundTo) else wide(value.tile.dtype)


def identity(kind: str, dtype: DType) -> bool | int | float:
    """What a reduction starts from; for minima and maxima of floats the NaN that yields to any number."""
    if kind in ("any", "all"):
        return kind == "all"
    if kind in ("min", "max"):
        if dtype.is_float:
            return math.nan
        if dtype.is_bool:
            return kind == "min"
        return dtype.max_value if kind == "min" else dtype.min_value
    start = 1 if kind == "prod" else 0
    return float(start) if dtype.is_float else start


__all__ = ["held", "identity", "wide"]
