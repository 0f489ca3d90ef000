"""Circular functions and their inverses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import f64, i64, u64
from tilus.ir.ops import MulHi
from tilus.lowering.math import tables
from tilus.lowering.math.builder import Arithmetic

# π/2 in parts whose products with small integers are exact.
HALF_PI_F32 = (1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15, 3.282003415807913e-22)
HALF_PI_F64 = (1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32)
PI, PI_LOW = math.pi, 1.2246467991473532e-16
TWO_OVER_PI = 0.6366197723675814
LIMIT_F32, LIMIT_F64 = 2.0**15, 2.0**20
"""Arguments up to these are reduced by parts of π/2, larger ones by the bits of 2/π."""


def _reduce(m: Arithmetic, x: Value) -> tuple[Value, Value]:
    """x = n π/2 + r: r, and n modulo 4 as a signed integer."""
    a = m.abs(x)
    limit = m.pick(LIMIT_F32, LIMIT_F64)
    large = m.test("gt", a, limit)
    inside = m.where(large, 0.0, x)
    n, integer = m.round_to_integer(m.mul(inside, TWO_OVER_PI))
    minus, r = m.neg(n), inside
    for part in HALF_PI_F32 if m.single else HALF_PI_F64:
        r = m.fma(minus, part, r)
    finite = m.both(large, m.test("lt", a, math.inf))
    r, integer = m.rarely(finite, x, [r, integer], _reduce_large)
    return r, m.binary("and", integer, 3)


def _words(m: Arithmetic, index: Value, count: int) -> list[Value]:
    """``count`` consecutive words of 2/π from a run-time index on."""
    words: list[Value] = []
    for k in range(count):
        word = m.const(tables.TWO_OVER_PI[k], u64)
        for i in range(1, len(tables.TWO_OVER_PI) - count + 1):
            word = m.where(m.test("eq", index, i), m.const(tables.TWO_OVER_PI[i + k], u64), word)
        words.append(word)
    return words


def _reduce_large(m: Arithmetic, x: Value) -> Sequence[Value]:
    """Payne and Hanek: x = M 2^E with an integer M of 53 bits; of M times the bits of 2/π only those matter that
    weigh below 4, and of the fraction the first 64 or so."""
    result_type, signed = m.dtype, m.signed
    wide = Arithmetic(m.b, m.to(x, f64))
    bits = wide.bits(wide.abs(m.to(x, f64)))
    mantissa = wide.binary("or", wide.binary("and", bits, (1 << 52) - 1), 1 << 52)
    exponent = wide.sub(wide.binary("shr", bits, 52), 1023 + 52)
    # Bits of 2/π that weigh 4 or more in the product are skipped: all but the last two before its point. Where the
    # exponent is too small for that, the point lies within the product's upper word.
    small = wide.test("lt", wide.bits(exponent, i64), wide.const(2, i64))
    offset = wide.where(small, wide.const(0, u64), wide.sub(exponent, 2))
    index, shift = wide.binary("shr", offset, 6), wide.binary("and", offset, 63)
    words = _words(wide, index, 4)
    back = wide.sub(wide.const(64, u64), shift)
    aligned = [wide.binary("or", wide.binary("shl", a, shift), wide.binary("shr", b, back))
               for a, b in itertools.pairwise(words)]
    product = _product(wide, mantissa, aligned)
    left = wide.add(exponent, 62)
    right = wide.sub(wide.const(64, u64), left)
    top, restored = (wide.where(small, wide.binary("or", wide.binary("shl", a, left), wide.binary("shr", b, right)), b)
                     for a, b in itertools.pairwise(product))
    n, r = _fraction(wide, top, restored)
    negative_x = wide.test("lt", m.to(x, f64), 0.0)
    r = wide.where(negative_x, wide.neg(r), r)
    n = wide.where(negative_x, wide.sub(wide.const(0, i64), n), n)
    return m.to(r, result_type), m.to(n, signed)


def _product(m: Arithmetic, mantissa: Value, words: Sequence[Value]) -> tuple[Value, Value, Value]:
    """The three upper words of the mantissa times 192 bits, save what the lowest word of the product carries."""
    def mulhi(x: Value, y: Value) -> Value:
        return m.b.add(MulHi(x, y)).result

    def sum_and_carry(x: Value, y: Value) -> tuple[Value, Value]:
        total = m.add(x, y)
        return total, m.where(m.test("lt", total, x), m.const(1, u64), m.const(0, u64))

    third, carry = sum_and_carry(m.mul(mantissa, words[1]), mulhi(mantissa, words[2]))
    second, carry_2 = sum_and_carry(m.mul(mantissa, words[0]), m.add(mulhi(mantissa, words[1]), carry))
    return m.add(mulhi(mantissa, words[0]), carry_2), second, third


def _fraction(m: Arithmetic, high: Value, low: Value) -> tuple[Value, Value]:
    """From two integer bits and the fraction below them: the nearest integer, and the rest times π/2."""
    quadrant = m.bits(m.binary("shr", high, 62), i64)
    fraction_high = m.binary("or", m.binary("shl", high, 2), m.binary("shr", low, 62))
    fraction_low = m.binary("shl", low, 2)
    above = m.test("ge", fraction_high, 1 << 63)
    flipped_high = m.binary("xor", fraction_high, (1 << 64) - 1)
    flipped_low = m.binary("xor", fraction_low, (1 << 64) - 1)
    size_high, size_low = m.where(above, flipped_high, fraction_high), m.where(above, flipped_low, fraction_low)
    # Leading zeros are shifted out, so that a result close to a multiple of π/2 keeps its precision.
    zeros = m.unary("clz", size_high)
    size = m.binary("or", m.binary("shl", size_high, zeros),
                    m.binary("shr", size_low, m.sub(m.const(64, u64), zeros)))
    coarse = m.to(m.binary("shr", size, 11), f64)
    exponent = m.sub(m.const(-53, i64), m.bits(zeros, i64))
    value = m.mul(coarse, m.power_of_two(exponent))
    value = m.fma(value, HALF_PI_F64[0], m.mul(value, HALF_PI_F64[1]))
    return (m.where(above, m.add(quadrant, 1), quadrant), m.where(above, m.neg(value), value))


def _sin_kernel(m: Arithmetic, r: Value) -> Value:
    z = m.mul(r, r)
    return m.fma(m.mul(z, r), m.polynomial(z, tables.SIN_F32 if m.single else tables.SIN_F64), r)


def _cos_kernel(m: Arithmetic, r: Value) -> Value:
    z = m.mul(r, r)
    tail = m.mul(m.mul(z, z), m.polynomial(z, tables.COS_F32 if m.single else tables.COS_F64))
    half = m.mul(z, 0.5)
    w = m.sub(1.0, half)
    return m.add(w, m.add(m.sub(m.sub(1.0, w), half), tail))


def _circular(m: Arithmetic, x: Value, quarter_turns: int) -> Value:
    """sin(x + quarter_turns π/2)"""
    r, n = _reduce(m, x)
    n = m.add(n, quarter_turns) if quarter_turns else n
    s, c = _sin_kernel(m, r), _cos_kernel(m, r)
    result = m.where(m.test("ne", m.binary("and", n, 1), 0), c, s)
    result = m.where(m.test("ne", m.binary("and", n, 2), 0), m.neg(result), result)
    if not quarter_turns:
        result = m.where(m.test("eq", x, 0.0), x, result)
    return m.where(m.test("lt", m.abs(x), math.inf), result, math.nan)


def expand_sin(m: Arithmetic, x: Value) -> Value:
    return _circular(m, x, 0)


def expand_cos(m: Arithmetic, x: Value) -> Value:
    return _circular(m, x, 1)


def expand_tan(m: Arithmetic, x: Value) -> Value:
    r, n = _reduce(m, x)
    s, c = _sin_kernel(m, r), _cos_kernel(m, r)
    odd = m.test("ne", m.binary("and", n, 1), 0)
    result = m.div(m.where(odd, m.neg(c), s), m.where(odd, s, c))
    result = m.where(m.test("eq", x, 0.0), x, result)
    return m.where(m.test("lt", m.abs(x), math.inf), result, math.nan)


# Inverses.


def _low_of(m: Arithmetic, value: float, low: float) -> tuple[float, float]:
    """A constant in two parts of the type's precision."""
    if not m.single:
        return value, low
    import struct

    high = float(struct.unpack("f", struct.pack("f", value))[0])
    return high, value - high


def _atan_unit(m: Arithmetic, high: Value, low: Value) -> tuple[Value, Value]:
    """atan(high + low) for 0 ≤ high ≤ 1, in two parts: above tan(π/8) it is π/4 + atan((t - 1) / (t + 1))."""
    upper = m.test("gt", high, 0.41421356237309503)
    numerator, denominator = m.sub(high, 1.0), m.add(high, 1.0)
    quotient = m.div(numerator, denominator)
    t = m.where(upper, quotient, high)
    # The correction: what the division leaves, and the low part of the argument.
    rest = m.fma(m.neg(quotient), denominator, numerator)
    lost = m.sub(m.sub(high, m.sub(denominator, 1.0)), 0.0)
    rest = m.sub(rest, m.mul(quotient, lost))
    inner = m.div(m.add(rest, m.mul(low, m.sub(1.0, quotient))), denominator)
    correction = m.where(upper, inner, m.div(low, m.fma(high, high, 1.0)))
    z = m.mul(t, t)
    tail = m.fma(m.mul(m.mul(t, z), m.polynomial(z, tables.ATAN_F32 if m.single else tables.ATAN_F64)), 1.0,
                 correction)
    quarter, quarter_low = _low_of(m, PI / 4, PI_LOW / 4)
    first, second = m.fast_two_sum(quarter, t)
    second = m.add(m.add(second, quarter_low), tail)
    return m.where(upper, first, t), m.where(upper, second, tail)


def _from_constant(m: Arithmetic, value: float, low: float, high: Value, rest: Value) -> tuple[Value, Value]:
    """(value + low) - (high + rest)"""
    a, b = _low_of(m, value, low)
    first, second = m.fast_two_sum(a, m.neg(high))
    return first, m.add(second, m.sub(b, rest))


def expand_atan(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    inverted = m.test("gt", a, 1.0)
    reciprocal = m.div(1.0, a)
    t = m.where(inverted, reciprocal, a)
    finite = m.test("lt", a, m.pick(2.0**100, 2.0**900))
    low = m.mul(m.fma(m.neg(reciprocal), a, 1.0), reciprocal)
    low = m.where(m.both(inverted, finite), low, 0.0)
    high, rest = _atan_unit(m, t, low)
    other, other_rest = _from_constant(m, PI / 2, PI_LOW / 2, high, rest)
    result = m.add(m.where(inverted, other, high), m.where(inverted, other_rest, rest))
    result = m.where(m.test("lt", a, m.pick(2.0**-13, 2.0**-27)), a, result)
    return m.where(m.isnan(x), x, m.copysign(result, x))


def expand_atan2(m: Arithmetic, y: Value, x: Value) -> Value:
    ay, ax = m.abs(y), m.abs(x)
    swap = m.test("gt", ay, ax)
    small, big = m.where(swap, ax, ay), m.where(swap, ay, ax)
    # Scaled, so that neither the quotient's remainder underflows nor anything overflows.
    huge, tiny = m.test("gt", big, m.pick(2.0**100, 2.0**900)), m.test("lt", big, m.pick(2.0**-60, 2.0**-500))
    factor = m.where(huge, m.pick(2.0**-80, 2.0**-600), m.where(tiny, m.pick(2.0**80, 2.0**600), 1.0))
    small, big = m.mul(small, factor), m.mul(big, factor)
    equal_infinities = m.both(m.test("eq", ax, math.inf), m.test("eq", ay, math.inf))
    t = m.where(equal_infinities, 1.0, m.where(m.test("eq", big, 0.0), 0.0, m.div(small, big)))
    low = m.div(m.fma(m.neg(t), big, small), big)
    usable = m.both(m.test("lt", big, math.inf), m.test("gt", t, m.pick(2.0**-100, 2.0**-900)))
    low = m.where(usable, low, 0.0)
    high, rest = _atan_unit(m, t, low)
    other, other_rest = _from_constant(m, PI / 2, PI_LOW / 2, high, rest)
    high, rest = m.where(swap, other, high), m.where(swap, other_rest, rest)
    negative = m.test("lt", m.copysign(1.0, x), 0.0)
    other, other_rest = _from_constant(m, PI, PI_LOW, high, rest)
    result = m.add(m.where(negative, other, high), m.where(negative, other_rest, rest))
    nan = m.either(m.isnan(x), m.isnan(y))
    return m.where(nan, math.nan, m.copysign(result, y))


def _asin_tail(m: Arithmetic, z: Value) -> Value:
    return m.mul(z, m.polynomial(z, tables.ASIN_F32 if m.single else tables.ASIN_F64))


def _half_angle(m: Arithmetic, a: Value) -> tuple[Value, Value]:
    """asin(√((1 - a) / 2)) in two parts, for a in [0.5, 1]."""
    z = m.mul(m.sub(1.0, a), 0.5)
    s = m.sqrt(z)
    low = m.div(m.fma(m.neg(s), s, z), m.mul(s, 2.0))
    low = m.where(m.test("gt", s, 0.0), low, 0.0)
    return s, m.fma(s, _asin_tail(m, z), low)


def expand_asin(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    z = m.mul(a, a)
    near = m.fma(a, _asin_tail(m, z), a)
    s, rest = _half_angle(m, a)
    high, low = _from_constant(m, PI / 2, PI_LOW / 2, m.mul(s, 2.0), m.mul(rest, 2.0))
    result = m.where(m.test("lt", a, 0.5), near, m.add(high, low))
    return m.copysign(m.where(m.test("gt", a, 1.0), math.nan, result), x)


def expand_acos(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    z = m.mul(x, x)
    high, low = _from_constant(m, PI / 2, PI_LOW / 2, x, m.mul(x, _asin_tail(m, z)))
    near = m.add(high, low)
    s, rest = _half_angle(m, a)
    positive = m.mul(m.add(s, rest), 2.0)
    high, low = _from_constant(m, PI, PI_LOW, m.mul(s, 2.0), m.mul(rest, 2.0))
    far = m.where(m.test("lt", x, 0.0), m.add(high, low), positive)
    result = m.where(m.test("lt", a, 0.5), near, far)
    return m.where(m.test("gt", a, 1.0), math.nan, result)
