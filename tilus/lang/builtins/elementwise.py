"""Elementwise operations; functions of one float are in functions.py."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType, f32
from tilus.ir.ops import Fma, Select
from tilus.lang.builtins.functions import FUNCTIONS, precision_of
from tilus.lang.context import current
from tilus.lang.values import (
    Tile,
    arithmetic,
    as_tile,
    broadcast_shapes,
    broadcast_to,
    emit,
    fail,
    symbol,
    unary,
    unify,
)


def abs(x: Any) -> Tile:
    """Absolute value; of the least integer, itself."""
    return unary("abs", x)


def popcount(x: Any) -> Tile:
    """Number of bits set in an integer."""
    return unary("popcount", x)


def clz(x: Any) -> Tile:
    """Number of leading zero bits of an integer."""
    return unary("clz", x)


def minimum(x: Any, y: Any) -> Tile:
    """The lesser of two values; of a number and a NaN, the number."""
    return arithmetic("min", x, y)


def maximum(x: Any, y: Any) -> Tile:
    """The greater of two values; of a number and a NaN, the number."""
    return arithmetic("max", x, y)


def _float_pair(kind: str, x: Any, y: Any) -> Tile:
    a, b = unify(x, y, symbol(kind))
    return arithmetic(kind, a, b) if a.dtype.is_float else arithmetic(kind, a.to(f32), b.to(f32))


def pow(x: Any, y: Any) -> Tile:
    """x to the power y, of floats."""
    return _float_pair("pow", x, y)


def atan2(y: Any, x: Any) -> Tile:
    """The angle of the point (x, y), in radians."""
    return _float_pair("atan2", y, x)


def copysign(x: Any, y: Any) -> Tile:
    """The magnitude of x with the sign of y."""
    return _float_pair("copysign", x, y)


def fmod(x: Any, y: Any) -> Tile:
    """Remainder of the division rounded toward zero, of floats (C's fmod)."""
    return _float_pair("fmod", x, y)


def div(x: Any, y: Any, *, precision: DType | None = None) -> Tile:
    """x / y. ``precision`` is the type whose accuracy the result is to have: by default its own, or f16 or bf16 where
    that is what it comes to be rounded to."""
    from tilus.lang.values import divide

    quotient = divide(x, y, precision)
    precision_of(precision, quotient, "div")
    return quotient


def fma(x: Any, y: Any, z: Any) -> Tile:
    """x * y + z with one rounding, of floats."""
    a, b = unify(x, y, "tl.fma")
    a, c = unify(a, z, "tl.fma")
    b = broadcast_to(b.to(a.dtype), a.shape)
    return emit(Fma(a.value, b.value, c.value, span=current().span))


def where(condition: Any, x: Any, y: Any) -> Tile:
    """``x`` where ``condition`` (bool) holds, else ``y``, elementwise with broadcasting."""
    chosen = as_tile(condition, None, "tl.where")
    if not chosen.dtype.is_bool:
        raise fail("E0201", f"the condition of where is {chosen.dtype}, not bool", help="compare it, e.g. `x != 0`")
    a, b = unify(x, y, "tl.where")
    shape = broadcast_shapes(chosen.shape, a.shape)
    parts = [broadcast_to(t, shape).value for t in (chosen, a, b)]
    return emit(Select(*parts, span=current().span))


def clamp(x: Any, low: Any, high: Any) -> Tile:
    """``x`` limited to [low, high]."""
    return minimum(maximum(x, low), high)


def relu(x: Any) -> Tile:
    """max(x, 0)."""
    return maximum(x, 0)


def silu(x: Any, *, precision: DType | None = None) -> Tile:
    """x * sigmoid(x); ``precision`` is that of the sigmoid."""
    tile = as_tile(x)
    return arithmetic("mul", tile, FUNCTIONS["sigmoid"](tile, precision=precision))


def gelu(x: Any, approximate: str = "none", *, precision: DType | None = None) -> Tile:
    """Gaussian error linear unit: ``x/2 (1 + erf(x/√2))``, or with ``approximate="tanh"`` the tanh form of
    Hendrycks and Gimpel (2016). ``precision`` is as that of ``tl.div``."""
    tile = as_tile(x)
    if approximate == "tanh":
        inner = (tile + tile * tile * tile * 0.044715) * 0.7978845608028654
        return arithmetic("mul", tile * 0.5, FUNCTIONS["tanh"](inner, precision=precision) + 1.0)
    if approximate != "none":
        raise fail("E0107", f"approximate is 'none' or 'tanh', not {approximate!r}")
    if precision is not None:  # erfc has few digits less where the result is near 0
        return arithmetic("mul", tile * 0.5, FUNCTIONS["erfc"](tile * -0.7071067811865476, precision=precision))
    return arithmetic("mul", tile * 0.5, FUNCTIONS["erf"](tile * 0.7071067811865476) + 1.0)


def cast(x: Any, dtype: DType, rounding: str = "rn") -> Tile:
    """The values converted to ``dtype``; the same as ``x.to(dtype)``."""
    return as_tile(x).to(dtype, rounding=rounding)


def bitcast(x: Any, dtype: DType) -> Tile:
    """The same bits of each element as another type of the same width."""
    return as_tile(x).bitcast(dtype)
