"""Elementwise math."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType, f32
from tilus.ir.ops import Fma, Select, Unary
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

_APPROXIMATED = frozenset({"exp", "exp2", "log", "log2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh", "sigmoid"})
"""Functions that GPUs have an approximate instruction for."""


def _float_function(kind: str, doc: str) -> Any:
    def function(x: Any, *, approximate: bool = False) -> Tile:
        tile = as_tile(x, None, symbol(kind))
        if tile.dtype.is_int or tile.dtype.is_bool:
            tile = tile.to(f32)
        if approximate and kind not in _APPROXIMATED:
            raise fail("E0107", f"{kind} has no approximate form", help=f"those are {', '.join(sorted(_APPROXIMATED))}")
        return emit(Unary(kind, tile.value, bool(approximate), span=current().span))

    function.__name__ = function.__qualname__ = kind
    function.__doc__ = f"{doc} Integers are converted to f32."
    return function


exp = _float_function("exp", "e to the power x.")
exp2 = _float_function("exp2", "2 to the power x.")
expm1 = _float_function("expm1", "exp(x) - 1, accurate near 0.")
log = _float_function("log", "Natural logarithm.")
log2 = _float_function("log2", "Logarithm to base 2.")
log10 = _float_function("log10", "Logarithm to base 10.")
log1p = _float_function("log1p", "log(1 + x), accurate near 0.")
sqrt = _float_function("sqrt", "Square root, correctly rounded.")
rsqrt = _float_function("rsqrt", "1 / sqrt(x).")
rcp = _float_function("rcp", "1 / x.")
sin = _float_function("sin", "Sine of radians.")
cos = _float_function("cos", "Cosine of radians.")
tan = _float_function("tan", "Tangent of radians.")
asin = _float_function("asin", "Arc sine, in radians.")
acos = _float_function("acos", "Arc cosine, in radians.")
atan = _float_function("atan", "Arc tangent, in radians.")
sinh = _float_function("sinh", "Hyperbolic sine.")
cosh = _float_function("cosh", "Hyperbolic cosine.")
tanh = _float_function("tanh", "Hyperbolic tangent.")
asinh = _float_function("asinh", "Inverse hyperbolic sine.")
acosh = _float_function("acosh", "Inverse hyperbolic cosine.")
atanh = _float_function("atanh", "Inverse hyperbolic tangent.")
erf = _float_function("erf", "Error function.")
erfc = _float_function("erfc", "Complementary error function 1 - erf(x).")
sigmoid = _float_function("sigmoid", "1 / (1 + exp(-x)).")
floor = _float_function("floor", "Greatest integer not above x, as a float.")
ceil = _float_function("ceil", "Least integer not below x, as a float.")
round = _float_function("round", "Nearest integer, ties to even, as a float.")
trunc = _float_function("trunc", "Integer part, as a float.")
isnan = _float_function("isnan", "Whether x is a NaN.")
isinf = _float_function("isinf", "Whether x is an infinity.")
isfinite = _float_function("isfinite", "Whether x is neither a NaN nor an infinity.")


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


def div(x: Any, y: Any) -> Tile:
    """x / y."""
    from tilus.lang.values import divide

    return divide(x, y)


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


def silu(x: Any) -> Tile:
    """x * sigmoid(x)."""
    tile = as_tile(x)
    return arithmetic("mul", tile, sigmoid(tile))


def gelu(x: Any, approximate: str = "none") -> Tile:
    """Gaussian error linear unit: ``x/2 (1 + erf(x/√2))``, or with ``approximate="tanh"`` the tanh form of
    Hendrycks and Gimpel (2016)."""
    tile = as_tile(x)
    if approximate == "tanh":
        inner = (tile + tile * tile * tile * 0.044715) * 0.7978845608028654
        return arithmetic("mul", tile * 0.5, tanh(inner) + 1.0)
    if approximate != "none":
        raise fail("E0107", f"approximate is 'none' or 'tanh', not {approximate!r}")
    return arithmetic("mul", tile * 0.5, erf(tile * 0.7071067811865476) + 1.0)


def cast(x: Any, dtype: DType, rounding: str = "rn") -> Tile:
    """The values converted to ``dtype``; the same as ``x.to(dtype)``."""
    return as_tile(x).to(dtype, rounding=rounding)


def bitcast(x: Any, dtype: DType) -> Tile:
    """The same bits of each element as another type of the same width."""
    return as_tile(x).bitcast(dtype)
