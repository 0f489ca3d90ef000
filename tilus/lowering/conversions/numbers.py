"""The numbers that the codes of a type stand for, from its description."""

from __future__ import annotations

import functools
import math

from tilus.ir.dtypes import DType


@functools.cache
def numbers_of(source: DType) -> tuple[float, ...]:
    """By code. A float is (-1)^s 2^(e - bias) 1.m, or 2^(1 - bias) 0.m where e is 0."""
    return tuple(_number(code, source) for code in range(1 << source.bits))


def _number(code: int, source: DType) -> float:
    if source.is_codebook:
        return source.values[code] if code < len(source.values) else 0.0
    if not source.is_float:
        negative = source.kind == "int" and code >> (source.bits - 1)
        return float(code - (1 << source.bits) if negative else code)
    magnitude = code & (1 << (source.exponent + source.mantissa)) - 1
    return math.copysign(_magnitude(magnitude, source), -1.0 if code != magnitude else 1.0)


def _magnitude(code: int, source: DType) -> float:
    if code > source.greatest_code:
        return math.inf if code == source.infinity_code else math.nan
    if not source.has_zero:
        return math.ldexp(1.0, code - source.bias)
    exponent, mantissa = code >> source.mantissa, code & (1 << source.mantissa) - 1
    significand = mantissa + (1 << source.mantissa if exponent else 0)
    return math.ldexp(significand, max(exponent, 1) - source.bias - source.mantissa)
