"""Elementwise operations on scalars and vectors of one core: 16-bit floats by way of f32, functions expanded."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.builder import Builder
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, f32
from tilus.ir.ops import Binary, Cast, Compare, Fma, Unary
from tilus.ir.ops.arith import BIT_UNARY
from tilus.lowering.expand_casts import expand_cast, is_native
from tilus.lowering.math.functions import NATIVE_UNARY, expand_binary, expand_unary

HEAVY_COST = 12


def _is_half(dtype: DType) -> bool:
    return dtype.is_float and dtype.bits == 16


def compute(b: Builder, op: Operation, operands: Sequence[Value]) -> Value:
    """The elementwise operation ``op`` on the given operands (all scalars, or all vectors of one length)."""
    if isinstance(op, Binary):
        return binary(b, op.kind, operands[0], operands[1], op.contract)
    if isinstance(op, Unary):
        return unary(b, op.kind, operands[0])
    if isinstance(op, Cast):
        return cast(b, operands[0], op.dtype, op.rounding)
    if isinstance(op, Compare):
        x, y = operands
        if _is_half(x.tile.dtype):
            x, y = cast(b, x, f32), cast(b, y, f32)
        return b.add(Compare(op.kind, x, y)).result
    if isinstance(op, Fma):
        return fma(b, *operands)
    return b.add(op.on(operands)).result


def cast(b: Builder, x: Value, dtype: DType, rounding: str = "rn") -> Value:
    source = x.tile.dtype
    if source is dtype:
        return x
    if is_native(source, dtype, rounding):
        return b.add(Cast(x, dtype)).result
    return expand_cast(b, x, dtype, rounding)


def unary(b: Builder, kind: str, x: Value) -> Value:
    dtype = x.tile.dtype
    if _is_half(dtype):
        result = unary(b, kind, cast(b, x, f32))
        return result if result.tile.dtype.is_bool else cast(b, result, dtype)
    if dtype.is_int or dtype.is_bool or kind in NATIVE_UNARY or kind in BIT_UNARY:
        return b.add(Unary(kind, x)).result
    return expand_unary(b, kind, x)


def binary(b: Builder, kind: str, x: Value, y: Value, contract: bool = False) -> Value:
    dtype = x.tile.dtype
    if _is_half(dtype):
        return cast(b, binary(b, kind, cast(b, x, f32), cast(b, y, f32)), dtype)
    if dtype.is_float and kind in ("pow", "atan2", "fmod", "mod", "floordiv"):
        return expand_binary(b, kind, x, y)
    return b.add(Binary(kind, x, y, contract)).result


def fma(b: Builder, x: Value, y: Value, z: Value) -> Value:
    dtype = x.tile.dtype
    if _is_half(dtype):
        wide = [cast(b, v, f32) for v in (x, y, z)]
        return cast(b, b.add(Fma(*wide)).result, dtype)
    return b.add(Fma(x, y, z)).result


def cost_of(op: Operation) -> int:
    """An estimate of the work for an element: 1 for plain arithmetic."""
    if isinstance(op, Unary):
        if op.kind in ("sqrt",):
            return HEAVY_COST // 2
        return 1 if op.kind in NATIVE_UNARY or op.kind in BIT_UNARY else HEAVY_COST
    if isinstance(op, Binary):
        if op.kind in ("pow", "atan2", "fmod", "mod", "floordiv"):
            return HEAVY_COST
        return 4 if op.kind == "div" else 1
    if isinstance(op, Cast):
        return 1 if is_native(op.x.tile.dtype, op.dtype, op.rounding) else 6
    return 1
