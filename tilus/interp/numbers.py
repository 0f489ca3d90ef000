"""How values of each element type are held in NumPy arrays, and conversions between the types.

Arithmetic types and bool are held as NumPy's own (``ml_dtypes`` for bf16). Storage types are held as their bits, in
the least unsigned integer type that has room; :func:`decode` and :func:`encode` go to numbers and back.
"""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.ir.codebooks import steps
from tilus.ir.dtypes import DType, f32, f64

Array = npt.NDArray[Any]


@functools.cache
def held_as(dtype: DType) -> np.dtype[Any]:
    """The NumPy type that holds values of ``dtype`` in the interpreter."""
    if dtype.is_bool or dtype.is_arithmetic:
        return dtype.numpy
    for bits in (8, 16, 32, 64):
        if dtype.bits <= bits:
            return np.dtype(f"u{bits // 8}")
    raise TypeError(f"no array holds {dtype}")


def is_half(dtype: DType) -> bool:
    """Whether arithmetic on the type is done in f32 and rounded after each operation."""
    return dtype.is_float and dtype.bits == 16


def widen(x: Array, dtype: DType) -> Array:
    """16-bit floats as f32, others unchanged."""
    return x.astype(np.float32) if is_half(dtype) else x


def constant(value: Any, dtype: DType, shape: tuple[int, ...]) -> Array:
    """An array filled with a literal."""
    if dtype.is_bool or dtype.is_arithmetic:
        if dtype.is_float:
            one = cast(np.asarray(value, np.float64), f64, dtype)
        else:
            one = np.asarray(value, held_as(dtype))
    elif dtype.is_int:
        one = np.asarray(int(value) & ((1 << dtype.bits) - 1), held_as(dtype))
    else:
        one = encode(np.asarray(value, np.float64), dtype)
    return np.broadcast_to(one, shape)


def decode(x: Array, dtype: DType) -> Array:
    """The numbers that the codes of a storage type stand for: int64 (uint64 for wide unsigned types), or f64."""
    if dtype.is_int:
        return _decode_integer(x, dtype)
    if dtype.is_codebook:
        table = np.zeros(1 << dtype.bits)
        table[: len(dtype.values)] = dtype.values
        return table[x]
    if dtype.name == "tf32":
        return x.view(np.float32).astype(np.float64)
    codes = x.astype(np.int64)
    exponent = codes >> dtype.mantissa & ((1 << dtype.exponent) - 1)
    fraction = codes & ((1 << dtype.mantissa) - 1)
    hidden = (exponent != 0) | (not dtype.has_zero)
    significand = np.where(hidden, fraction + (1 << dtype.mantissa), fraction).astype(np.float64)
    least = 1 if dtype.has_zero else 0
    value = np.ldexp(significand, np.maximum(exponent, least) - dtype.bias - dtype.mantissa)
    magnitude = codes & ((1 << (dtype.exponent + dtype.mantissa)) - 1)
    value = np.where(magnitude > dtype.greatest_code, np.nan, value)
    if dtype.infinity_code is not None:
        value = np.where(magnitude == dtype.infinity_code, np.inf, value)
    if not dtype.signed:
        return value
    return np.copysign(value, np.where(codes >> (dtype.bits - 1) & 1, -1.0, 1.0))  # of NaNs too


def _decode_integer(x: Array, dtype: DType) -> Array:
    wide = x.astype(np.uint64)
    if dtype.kind == "uint":
        return wide if dtype.bits == 64 else wide.astype(np.int64)
    shift = np.uint64(64 - dtype.bits)
    return (wide << shift).view(np.int64) >> np.int64(shift)


def encode(values: Array, dtype: DType, rounding: str = "rn") -> Array:
    """The codes of a float type or codebook nearest to f64 numbers.

    Beyond the range: the infinity, or in types without one the greatest number; below that of an unsigned type its
    least number. NaN gives 0 in types without NaN, and 0 in one without zero the least number.
    """
    if dtype.is_codebook:
        return _encode_in_codebook(values, dtype)
    with np.errstate(all="ignore"):
        magnitude = np.abs(values)
        finite = np.isfinite(values)
        negative = np.signbit(values)
        code = _magnitude_code(np.where(finite, magnitude, 0.0), negative, dtype, rounding)
    greatest, infinity = dtype.greatest_code, dtype.infinity_code
    beyond = greatest if infinity is None else infinity
    outward: Any = {"rn": True, "rz": False, "rm": negative, "rp": ~negative}[rounding]
    code = np.where(code > greatest, np.where(outward, beyond, greatest), code)
    code = np.where(np.isinf(values), beyond, code)
    nan = np.isnan(values)
    code = np.where(nan, dtype.nan_code or 0, code)
    if dtype.signed:
        width = dtype.exponent + dtype.mantissa
        code = code | np.where(negative & ~(nan & (dtype.nan_code is None)), 1 << width, 0)
    else:
        code = np.where(negative & ~nan, 0, code)
    if dtype.name == "tf32":
        code = code << 13
    bits = 8 * ((dtype.bits + 7) // 8)
    unsigned = code.astype(f"u{max(1, 1 << (bits // 8 - 1).bit_length())}")
    return unsigned.astype(held_as(dtype)) if not dtype.is_arithmetic else unsigned.view(dtype.numpy)


def _magnitude_code(magnitude: Array, negative: Array, dtype: DType, rounding: str) -> Array:
    """The codes of finite magnitudes as if there were no greatest one. A type without zero is taken for one with an
    exponent more, whose code 0 is zero."""
    bias = dtype.bias + (not dtype.has_zero)
    _, exponent = np.frexp(magnitude)
    exponent = np.maximum(exponent - 1, 1 - bias)
    kept = _round(np.ldexp(magnitude, dtype.mantissa - exponent), negative, rounding).astype(np.int64)
    hidden = 1 << dtype.mantissa
    field = np.where(kept >= hidden, exponent + bias, 0)
    # A carry out of the significand moves on into the exponent field by itself.
    code = np.where(kept >= hidden, (field << dtype.mantissa) + (kept - hidden), kept)
    return code if dtype.has_zero else np.maximum(code, 1) - 1


def _encode_in_codebook(values: Array, dtype: DType) -> Array:
    thresholds, codes = zip(*steps(dtype), strict=True)
    place = np.searchsorted(thresholds, np.where(np.isnan(values), 0.0, values), side="right") - 1
    return np.asarray(codes, held_as(dtype))[place]


def _round(x: Array, negative: Array, rounding: str) -> Array:
    if rounding == "rn":
        return np.rint(x)
    if rounding == "rz":
        return np.floor(x)
    up = negative if rounding == "rm" else ~negative
    return np.where(up, np.ceil(x), np.floor(x))


def cast(x: Array, source: DType, target: DType, rounding: str = "rn") -> Array:
    """Conversion of values, as docs/language.md says."""
    if source is target:
        return x
    number = x if source.is_arithmetic or source.is_bool else decode(x, source)
    if target.is_bool:
        return number != 0
    if target.is_float or target.is_codebook:
        return _to_float(number, source, target, rounding)
    if source.is_float or source.is_codebook:
        return _wrap(_saturate(number.astype(np.float64), target, rounding), target)
    return _wrap(number, target)


def _to_float(x: Array, source: DType, target: DType, rounding: str) -> Array:
    if source.is_int and source.bits > 53:
        if rounding == "rn" and target in (f32, f64):
            return x.astype(target.numpy)
        x = _odd(x)
    with np.errstate(all="ignore"):
        if target is f64:
            return x.astype(np.float64)
        if rounding == "rn" and target.name in ("f16", "f32"):
            wide = x if source.is_float else x.astype(np.float64)
            return wide.astype(target.numpy)
        if target is f32:
            return _directed(x.astype(np.float64), rounding)
        return encode(x.astype(np.float64), target, rounding)


def _directed(x: Array, rounding: str) -> Array:
    """f64 to f32 in a directed rounding."""
    near = x.astype(np.float32)
    back = near.astype(np.float64)
    down, up = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
    floor, ceil = np.where(back > x, down, near), np.where(back < x, up, near)
    if rounding == "rm":
        return floor
    return ceil if rounding == "rp" else np.where(x < 0, ceil, floor)


def _odd(x: Array) -> Array:
    """64-bit integers as f64, rounded to odd so that a second rounding is right."""
    low = x & x.dtype.type(0xFFF)
    sticky = np.where(low != 0, x.dtype.type(0x800), x.dtype.type(0))
    small = np.abs(x.astype(np.float64)) < 2.0**52
    return np.where(small, x, (x - low) | sticky).astype(np.float64)


def _saturate(x: Array, target: DType, rounding: str) -> Array:
    """f64 to int64 or uint64 within the range of ``target``; NaN gives 0. Toward zero unless ``rounding`` says floor
    or ceiling."""
    whole = {"rm": np.floor, "rp": np.ceil}.get(rounding, np.trunc)(np.where(np.isnan(x), 0.0, x))
    low, high = target.min_value, target.max_value
    wide = np.uint64 if target.kind == "uint" else np.int64
    with np.errstate(all="ignore"):
        inside = np.where((whole > low) & (whole < high), whole, 0.0).astype(wide)
    return np.where(whole >= high, wide(high), np.where(whole <= low, wide(low), inside))


def _wrap(x: Array, target: DType) -> Array:
    """Integers (or bools) modulo 2**bits."""
    if x.dtype == np.bool_:
        x = x.astype(np.int64)
    with np.errstate(all="ignore"):
        if target.is_arithmetic:
            return x.astype(target.numpy)
        mask = np.uint64((1 << target.bits) - 1)
        return (x.astype(np.uint64) & mask).astype(held_as(target))


def bitcast(x: Array, source: DType, target: DType) -> Array:
    """The same bits of each element as another type of the same width."""
    if source.is_bool:
        return x
    return np.ascontiguousarray(x).view(held_as(target)).reshape(x.shape)


def round_to(x: Array, dtype: DType) -> Array:
    """f64 or f32 results rounded to an arithmetic float type."""
    if x.dtype == dtype.numpy:
        return x
    with np.errstate(all="ignore"):
        if dtype.name == "bf16":
            return encode(x.astype(np.float64), dtype)
        return x.astype(dtype.numpy)
