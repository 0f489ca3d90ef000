"""Elementwise operations on NumPy arrays: what each one computes, plainly."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from tilus.interp import numbers
from tilus.interp.numbers import Array, round_to, widen
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.literals import as_float
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Fma, MulHi, Philox, Select, Unary

Get = Callable[[Value], Any]
Rule = Callable[[Any, Get], "list[Array]"]


def _scalar_function(function: Callable[[float], float]) -> Callable[[Array], Array]:
    vector = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(vector(x), dtype=np.float64)


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))


_FLOAT: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "rsqrt": lambda x: 1 / np.sqrt(x), "rcp": lambda x: 1 / x, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "erf": _scalar_function(math.erf),
    "erfc": _scalar_function(math.erfc), "sigmoid": _sigmoid, "sqrt": np.sqrt,
}
_EXACT: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "isnan": np.isnan, "isinf": np.isinf,
    "isfinite": np.isfinite,
}


def unary(kind: str, x: Array, dtype: DType) -> Array:
    """A unary operation on values of ``dtype``. Functions of f32 and narrower floats are evaluated in f64 and rounded
    once, which is as near as the type allows."""
    with np.errstate(all="ignore"):
        if kind in _FLOAT:
            return round_to(_FLOAT[kind](x.astype(np.float64)), dtype)
        if kind in _EXACT:
            result = _EXACT[kind](widen(x, dtype))
            return result if result.dtype == np.bool_ else round_to(result, dtype)
        if kind == "neg":
            return round_to(-widen(x, dtype), dtype) if dtype.is_float else (np.zeros_like(x) - x)
        if kind == "abs":
            return np.abs(x)
        if kind == "not":
            return ~x
        if kind == "popcount":
            return _popcount(x)
        if kind == "clz":
            return _clz(x)
    raise KeyError(kind)


def _unsigned(x: Array) -> np.dtype[Any]:
    return np.dtype(f"u{x.dtype.itemsize}")


def _popcount(x: Array) -> Array:
    raw = np.ascontiguousarray(x).view(np.uint8).reshape(*x.shape, x.dtype.itemsize)
    return np.unpackbits(raw, axis=-1).sum(axis=-1).astype(x.dtype)


def _clz(x: Array) -> Array:
    rest = np.ascontiguousarray(x).view(_unsigned(x)).reshape(x.shape).copy()
    length = np.zeros(x.shape, np.int64)
    while np.any(rest):
        length += rest != 0
        rest = rest >> rest.dtype.type(1)
    return (x.dtype.itemsize * 8 - length).astype(x.dtype)


_FLOAT_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.fmin, "max": np.fmax,
}
_WIDE_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "pow": np.power, "atan2": np.arctan2,
}
_INTEGER_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}


def binary(kind: str, x: Array, y: Array, dtype: DType) -> Array:
    """A binary operation on values of ``dtype``."""
    with np.errstate(all="ignore"):
        if dtype.is_float:
            return _float_binary(kind, x, y, dtype)
        if kind in _INTEGER_BINARY:
            return np.asarray(_INTEGER_BINARY[kind](x, y), x.dtype)
        if kind == "floordiv":
            return np.where(y == 0, x.dtype.type(0), np.floor_divide(x, np.where(y == 0, x.dtype.type(1), y)))
        if kind == "mod":
            return np.where(y == 0, x, np.mod(x, np.where(y == 0, x.dtype.type(1), y)))
        if kind in ("shl", "shr"):
            return _shift(kind, x, y, dtype)
    raise KeyError(kind)


def quiet(x: Array) -> Array:
    """Floats without signalling NaNs, which minNum and maxNum would hand on."""
    return np.where(np.isnan(x), x.dtype.type(np.nan), x)


def _float_binary(kind: str, x: Array, y: Array, dtype: DType) -> Array:
    if kind in ("min", "max"):
        x, y = quiet(x), quiet(y)
    if kind in _FLOAT_BINARY:
        return round_to(_FLOAT_BINARY[kind](widen(x, dtype), widen(y, dtype)), dtype)
    if kind == "copysign":
        return round_to(np.copysign(widen(x, dtype), widen(y, dtype)), dtype)
    a, b = x.astype(np.float64), y.astype(np.float64)
    if kind in _WIDE_BINARY:
        return round_to(_WIDE_BINARY[kind](a, b), dtype)
    if kind == "fmod":
        return round_to(np.fmod(a, b), dtype)
    if kind == "mod":
        return round_to(_floor_mod(a, b), dtype)
    if kind == "floordiv":
        return _floor_divide(a, b, dtype)
    raise KeyError(kind)


def _floor_mod(a: Array, b: Array) -> Array:
    """The remainder with the sign of the divisor, of zeros too; NaN for a divisor of 0."""
    rest = np.fmod(a, b)
    moved = np.where((rest != 0) & (np.signbit(rest) != np.signbit(b)), rest + b, rest)
    return np.where(rest == 0, np.copysign(0.0, b), moved)


def _floor_divide(a: Array, b: Array, dtype: DType) -> Array:
    """floor(a / b) of the exact quotient, rounded once; a / 0 as in division, NaN for an infinite dividend."""
    plain = a / b
    finite = (b != 0) & np.isfinite(a) & np.isfinite(b)
    special = np.where((b == 0) | np.isnan(plain), plain, np.where(np.isinf(a), np.nan, np.floor(plain)))
    special = np.where(np.isinf(b) & np.isfinite(a), np.where((a != 0) & (np.signbit(a) != np.signbit(b)), -1.0, plain),
                       special)
    floors = [Fraction(x) // Fraction(y) for x, y in zip(a[finite].tolist(), b[finite].tolist(), strict=True)]
    exact = np.copysign(np.array([as_float(n, dtype) for n in floors], np.float64), plain[finite])
    wide = special.copy()
    wide[finite] = exact
    return round_to(wide, dtype)


def _shift(kind: str, x: Array, y: Array, dtype: DType) -> Array:
    width = dtype.bits
    amount = np.ascontiguousarray(y).view(_unsigned(y)).reshape(y.shape)
    beyond = amount >= width
    by = np.where(beyond, 0, amount).astype(x.dtype)
    if kind == "shl":
        return np.where(beyond, x.dtype.type(0), np.left_shift(x, by))
    filled = np.where(x < 0, x.dtype.type(-1), x.dtype.type(0)) if dtype.kind == "int" else x.dtype.type(0)
    return np.where(beyond, filled, np.right_shift(x, by))


_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}


def compare(kind: str, x: Array, y: Array) -> Array:
    return np.asarray(_COMPARE[kind](x, y), np.bool_)


def fma(a: Array, b: Array, c: Array, dtype: DType) -> Array:
    """``a * b + c`` rounded once."""
    with np.errstate(all="ignore"):
        if dtype.bits == 64:
            return np.asarray(_FMA64(a, b, c), dtype=np.float64)
        product = a.astype(np.float64) * b.astype(np.float64)  # exact
        wide = c.astype(np.float64)
        total = product + wide
        # Rounded to odd, so that the rounding to the narrow type is the only one that counts.
        error = np.where(np.abs(product) >= np.abs(wide), wide - (total - product), product - (total - wide))
        even = (np.ascontiguousarray(total).view(np.int64).reshape(total.shape) & 1) == 0
        adjust = np.isfinite(total) & (error != 0) & np.isfinite(error) & even
        total = np.where(adjust, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)
        return round_to(total, dtype)


def _fma64(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


_FMA64 = np.frompyfunc(_fma64, 3, 1)


def mulhi(x: Array, y: Array, dtype: DType) -> Array:
    """The upper half of the product."""
    product = x.astype(object) * y.astype(object) >> dtype.bits
    return np.asarray(product, dtype=object).astype(dtype.numpy)


def philox(seed: Array, offset: Array) -> list[Array]:
    """Philox-4x32-10: four u32 tiles from a 64-bit key and the counter (offset, 0)."""
    key = [np.uint32(int(seed) & 0xFFFFFFFF), np.uint32(int(seed) >> 32 & 0xFFFFFFFF)]
    wide = offset.astype(np.uint64)
    low, high = (wide & np.uint64(0xFFFFFFFF)).astype(np.uint32), (wide >> np.uint64(32)).astype(np.uint32)
    c = [low, high, np.zeros_like(low), np.zeros_like(low)]
    with np.errstate(over="ignore"):
        for _ in range(10):
            p0 = c[0].astype(np.uint64) * np.uint64(0xD2511F53)
            p1 = c[2].astype(np.uint64) * np.uint64(0xCD9E8D57)
            hi0, lo0 = (p0 >> np.uint64(32)).astype(np.uint32), p0.astype(np.uint32)
            hi1, lo1 = (p1 >> np.uint64(32)).astype(np.uint32), p1.astype(np.uint32)
            c = [hi1 ^ c[1] ^ key[0], lo1, hi0 ^ c[3] ^ key[1], lo0]
            key = [key[0] + np.uint32(0x9E3779B9), key[1] + np.uint32(0xBB67AE85)]
    return c


RULES: dict[type[Operation], Rule] = {
    Unary: lambda op, get: [unary(op.kind, get(op.x), op.x.tile.dtype)],
    Binary: lambda op, get: [binary(op.kind, get(op.lhs), get(op.rhs), op.lhs.tile.dtype)],
    Fma: lambda op, get: [fma(get(op.a), get(op.b), get(op.c), op.a.tile.dtype)],
    MulHi: lambda op, get: [mulhi(get(op.lhs), get(op.rhs), op.lhs.tile.dtype)],
    Compare: lambda op, get: [compare(op.kind, get(op.lhs), get(op.rhs))],
    Select: lambda op, get: [np.asarray(np.where(get(op.condition), get(op.x), get(op.y)))],
    Cast: lambda op, get: [numbers.cast(get(op.x), op.x.tile.dtype, op.dtype, op.rounding)],
    Bitcast: lambda op, get: [numbers.bitcast(get(op.x), op.x.tile.dtype, op.dtype)],
    Philox: lambda op, get: philox(get(op.seed), get(op.offset)),
}
"""The results of each operation, from its operands."""
