"""Conversions of 8-bit floats by the instructions of targets that have them."""

from __future__ import annotations

import math

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f16, f32
from tilus.ir.ops import Cast, Compare, Const, Select, Unary
from tilus.ir.ops.simt import CvtFp8
from tilus.targets import Feature, Target

BYTES = ("f8e4m3fn", "f8e5m2")
"""The types that instructions convert, two at a time, to f16 and from f32."""


def by_instructions(b: Builder, op: Cast, target: Target) -> Value | None:
    """A conversion from or to an 8-bit float by instructions; None where the target has none for it."""
    source, dtype = op.x.tile.dtype, op.dtype
    if not target.has(Feature.CVT_FP8) or op.rounding != "rn":
        return None
    if source.name in BYTES and dtype.is_float and dtype.is_arithmetic:
        number = b.add(CvtFp8(op.x, f16)).result
        return number if dtype is f16 else b.add(Cast(number, dtype)).result
    if dtype.name in BYTES and source.is_float and source.is_arithmetic and source.bits <= 32:
        return _from_f32(b, op.x if source is f32 else b.add(Cast(op.x, f32)).result, dtype)
    return None


def _from_f32(b: Builder, x: Value, dtype: DType) -> Value:
    """Types with infinities take them beyond the range, from halfway to the next power of two on."""
    code = b.add(CvtFp8(x, dtype)).result
    if dtype.specials != "ieee":
        return code
    shape = x.tile.shape
    limit = 2.0 ** (dtype.bias + 1) * (1 - 2.0 ** -(dtype.mantissa + 2))
    beyond = b.add(Compare("ge", b.add(Unary("abs", x)).result, b.add(Const(limit, f32, shape)).result)).result
    negative = b.add(Compare("lt", x, b.add(Const(0.0, f32, shape)).result)).result
    infinities = [b.add(Const(sign * math.inf, dtype, shape)).result for sign in (-1, 1)]
    return b.add(Select(beyond, b.add(Select(negative, *infinities)).result, code)).result
