"""Rounding as PTX defines it: exact sums and products, round to odd, and conversion to narrow formats."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: ``precision`` counts the implicit bit; ``emin`` is the least normal exponent.

    ``has_inf`` is False for the formats whose overflow is NaN or saturation.
    """

    name: str
    precision: int
    emin: int
    largest: float
    has_inf: bool = True


F16 = Format("f16", 11, -14, 65504.0)
BF16 = Format("bf16", 8, -126, float.fromhex("0x1.fep127"))
TF32 = Format("tf32", 11, -126, float.fromhex("0x1.ffcp127"))
F32 = Format("f32", 24, -126, float.fromhex("0x1.fffffep127"))
E4M3 = Format("e4m3", 4, -6, 448.0, has_inf=False)
E5M2 = Format("e5m2", 3, -14, 57344.0)
E2M3 = Format("e2m3", 4, 0, 7.5, has_inf=False)
E3M2 = Format("e3m2", 3, -2, 28.0, has_inf=False)
E2M1 = Format("e2m1", 2, 0, 6.0, has_inf=False)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` rounded to nearest in float64, and the exact error (Knuth); the error is 0 where the sum overflows."""
    s = a + b
    bb = s - a
    err = (a - (s - bb)) + (b - bb)
    return s, np.where(np.isfinite(s), err, 0.0)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """``a * b`` rounded to nearest in float64, and the exact error (Dekker, Veltkamp splitting)."""
    p = a * b
    splitter = 134217729.0
    t = splitter * a
    ah = t - (t - a)
    al = a - ah
    t = splitter * b
    bh = t - (t - b)
    bl = b - bh
    err = ((ah * bh - p) + ah * bl + al * bh) + al * bl
    return p, np.where(np.isfinite(err), err, 0.0)


def to_odd(s: Array, err: Array) -> Array:
    """Round ``s + err`` to odd, ``s`` being the nearest float64: a later rounding to at most 51 bits is then right."""
    even = (s.view(np.int64) & 1) == 0
    change = (err != 0) & even & np.isfinite(s)
    return np.where(change, np.nextafter(s, np.where(err > 0, np.inf, -np.inf)), s) if change.any() else s


def directed(s: Array, err: Array, mode: str) -> Array:
    """Round ``s + err`` in float64 by mode ``rn``, ``rz``, ``rm`` or ``rp``."""
    if mode == "rn":
        return s
    if mode == "rm":
        down = err < 0
    elif mode == "rp":
        return np.where(err > 0, np.nextafter(s, np.inf), s)
    else:
        toward = np.where(s > 0, err < 0, err > 0)
        return np.where(toward & (err != 0), np.nextafter(s, 0.0), s)
    return np.where(down, np.nextafter(s, -np.inf), s)


_SAFE_LOW, _SAFE_HIGH = 2.0 ** -480, 2.0 ** 480


def repair_extremes(result: Array, args: tuple[Array, ...], mode: str, exact: Callable[..., Fraction]) -> Array:
    """Recompute the lanes whose float64 operands are too large or small for the error-free transformations.

    ``exact`` gives the true value of one lane's operands as a fraction; lanes with infinities, NaN or zero results keep
    theirs.
    """
    wide = [np.broadcast_to(np.asarray(a), result.shape) for a in args]
    risky = np.zeros(result.shape, bool)
    usable = np.ones(result.shape, bool)
    for a in wide:
        size = np.abs(a)
        risky |= (size > _SAFE_HIGH) | ((size < _SAFE_LOW) & (size > 0))
        usable &= np.isfinite(a)
    lanes = np.flatnonzero(risky & usable)
    if not lanes.size:
        return result
    result = result.copy()
    for lane in lanes:
        try:
            value = exact(*[Fraction(float(a[lane])) for a in wide])
        except ZeroDivisionError:
            continue
        if value:
            result[lane] = nearest_or_directed(value, mode)
    return result


def nearest_or_directed(value: Fraction, mode: str) -> float:
    """A non-zero fraction rounded to float64."""
    sign = 1.0 if value > 0 else -1.0
    try:
        near = float(value)
    except OverflowError:
        stays = mode == "rz" or (mode == "rm" and value > 0) or (mode == "rp" and value < 0)
        return sign * (float(np.finfo(np.float64).max) if stays else float("inf"))
    if near == 0.0:
        near = sign * 0.0
    exact = Fraction(near)
    if mode == "rn" or exact == value:
        return near
    down = mode == "rm" or (mode == "rz" and value > 0)
    if down and exact > value:
        return float(np.nextafter(near, -np.inf))
    if not down and exact < value:
        return float(np.nextafter(near, np.inf))
    return near


_EDGE = 0x10000000
_LOW = 0x1FFFFFFF


def fma_f32(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """``a * b + c`` with one rounding, float32."""
    product = a.astype(np.float64) * b
    s = product + c
    if mode == "rn":
        bits = s.view(np.int64) & _LOW
        if not ((bits == _EDGE) | (np.abs(s) < 2.0 ** -125)).any():
            return s.astype(np.float32)
        s, err = two_sum(product, np.asarray(c, np.float64))
        return to_odd(s, err).astype(np.float32)
    s, err = two_sum(product, np.asarray(c, np.float64))
    exact = cancelled(to_odd(s, err), product, c, mode)
    return round_to(exact, F32, mode).astype(np.float32)


def cancelled(value: Array, x: Array, y: Array, mode: str) -> Array:
    """A sum that cancels to zero is negative when rounding down."""
    if mode != "rm":
        return value
    zero = (value == 0) & (np.signbit(x) != np.signbit(y))
    return np.where(zero, np.copysign(0.0, -1.0), value)


def fma_f64(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """``a * b + c`` with one rounding, float64 (Boldo and Melquiond)."""
    uh, ul = two_product(a, b)
    th, tl = two_sum(np.broadcast_to(c, np.broadcast_shapes(np.shape(c), ul.shape)), ul)
    vh, vl = two_sum(uh, th)
    z, zerr = two_sum(tl, vl)
    if mode == "rn":
        result = vh + to_odd(z, zerr)
    else:
        s, err = two_sum(vh, to_odd(z, zerr))
        result = directed(s, err, mode)
    plain = a * b + c
    result = np.where(np.isfinite(plain) & np.isfinite(result) & ((result != 0) | (plain != 0)), result, plain)
    result = cancelled(result, a * b, c, mode)
    return repair_extremes(result, (a, b, c), mode, lambda x, y, z: x * y + z)


def round_to(x: Array, fmt: Format, mode: str = "rn", saturate: bool = False) -> Array:
    """Round float64 ``x`` to ``fmt`` (values stay float64).

    ``mode``: ``rn`` (ties to even), ``rna`` (ties away), ``rz``, ``rm``, ``rp``. Overflow gives infinity, the largest
    finite value, or with ``saturate`` always the latter; NaN stays NaN.
    """
    _, exponent = np.frexp(x)
    quantum = np.maximum(exponent - 1, fmt.emin) - (fmt.precision - 1)
    scaled = np.ldexp(x, -quantum)
    if mode == "rn":
        rounded = np.rint(scaled)
    elif mode == "rna":
        rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
    elif mode == "rz":
        rounded = np.trunc(scaled)
    elif mode == "rm":
        rounded = np.floor(scaled)
    else:
        rounded = np.ceil(scaled)
    result = np.where(np.isfinite(x), np.copysign(np.ldexp(rounded, quantum), x), x)
    over = np.abs(result) > fmt.largest
    if over.any():
        limit = np.copysign(fmt.largest, result)
        inward = np.full(x.shape, mode == "rz") | ((mode == "rm") & (x > 0)) | ((mode == "rp") & (x < 0))
        keep = np.isfinite(x) & inward
        if saturate:
            keep = np.ones(x.shape, bool)
        result = np.where(over, np.where(keep, limit, np.copysign(np.inf, result)), result)
    return result


def bf16_to_f32(bits: Array) -> Array:
    """bfloat16 bit patterns (uint16) as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(x: Array) -> Array:
    """float32 to bfloat16 bits (uint16), ties to even; NaN becomes 0x7fff."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def tf32_truncate(bits: Array) -> Array:
    """float32 patterns with the 13 low bits dropped, as the tensor cores read tf32 operands."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def flush(x: Array) -> Array:
    """float32 with subnormals replaced by zeros of the same sign."""
    return np.where(np.abs(x) < np.float32(2.0 ** -126), np.copysign(np.float32(0), x), x)


def _table(exponent_bits: int, mantissa_bits: int, kind: str) -> Array:
    codes = np.arange(1 << (1 + exponent_bits + mantissa_bits))
    mantissa = codes & ((1 << mantissa_bits) - 1)
    exponent = codes >> mantissa_bits & ((1 << exponent_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    value = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias - mantissa_bits),
                     (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias))
    top = exponent == (1 << exponent_bits) - 1
    if kind == "ieee":
        value = np.where(top, np.where(mantissa == 0, np.inf, np.nan), value)
    elif kind == "fn":
        value = np.where(top & (mantissa == (1 << mantissa_bits) - 1), np.nan, value)
    sign = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    return (sign * value).astype(np.float32)


TABLES: dict[str, Array] = {
    "e4m3": _table(4, 3, "fn"),
    "e5m2": _table(5, 2, "ieee"),
    "e2m3": _table(2, 3, "finite"),
    "e3m2": _table(3, 2, "finite"),
    "e2m1": _table(2, 1, "finite"),
    "s2f6": (np.arange(256, dtype=np.uint8).view(np.int8) / 64).astype(np.float32),
    "ue8m0": np.append(2.0 ** (np.arange(255) - 127.0), np.nan).astype(np.float32),
}
"""Value of every code of the narrow formats, float32, indexed by the unsigned code."""

FORMATS: dict[str, Format] = {f.name: f for f in (F16, BF16, TF32, F32, E4M3, E5M2, E2M3, E3M2, E2M1)}


def encode(x: Array, fmt: Format, mode: str = "rn", saturate: bool = True) -> Array:
    """Codes (uint8) of the nearest values of a narrow format; NaN takes the format's NaN, or its largest."""
    rounded = np.atleast_1d(round_to(np.asarray(x, np.float64), fmt, mode, saturate))
    table = TABLES[fmt.name].astype(np.float64)
    half = len(table) // 2
    positive = table[:half]
    finite = np.where(np.isnan(positive), np.inf, positive)
    order = np.argsort(finite, kind="stable")
    code = order[np.clip(np.searchsorted(finite[order], np.abs(rounded)), 0, half - 1)]
    code = code | np.where(np.signbit(rounded), half, 0)
    if not fmt.has_inf:
        code = np.where(np.isinf(rounded), half - 1 if np.isnan(positive).any() else code, code)
    nan_code = half - 1
    return np.where(np.isnan(x), nan_code, code).astype(np.uint8)
