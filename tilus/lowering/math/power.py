"""Powers and remainders."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import f32, f64
from tilus.lowering.math import tables
from tilus.lowering.math.builder import Arithmetic
from tilus.lowering.math.exponential import LOG2E, LOG2E_LOW_F64, expand_exp2, split_exponent

TWO_THIRDS, TWO_THIRDS_LOW = 0.6666666666666666, 3.700743415417188e-17


def _log2_pair(m: Arithmetic, x: Value) -> tuple[Value, Value]:
    """log2 of a positive finite f64 in two parts, to about 2^-65: with s = f / (2 + f) the terms 2s and 2s³/3 are taken
    in pairs, the rest of the series in plain arithmetic."""
    e, mantissa = split_exponent(m, x)
    f = m.sub(mantissa, 1.0)
    d, d_low = m.two_sum(f, 2.0)
    s = m.div(f, d)
    s_low = m.div(m.sub(m.fma(m.neg(s), d, f), m.mul(s, d_low)), d)
    z, z_low = m.two_product(s, s)
    z_low = m.fma(m.mul(s, 2.0), s_low, z_low)
    # s³ · 2/3 as a pair.
    c, c_low = m.two_product(z, s)
    c_low = m.add(c_low, m.fma(z, s_low, m.mul(z_low, s)))
    t, t_low = m.two_product(c, TWO_THIRDS)
    t_low = m.add(t_low, m.fma(c, TWO_THIRDS_LOW, m.mul(c_low, TWO_THIRDS)))
    tail = m.mul(m.mul(c, z), m.polynomial(z, tables.LOG5_F64))
    high, low = m.fast_two_sum(m.mul(s, 2.0), t)
    low = m.add(low, m.add(m.add(m.mul(s_low, 2.0), t_low), tail))
    high, low = m.fast_two_sum(high, low)
    y, y_low = m.two_product(high, LOG2E)
    y_low = m.add(y_low, m.fma(high, LOG2E_LOW_F64, m.mul(low, LOG2E)))
    total, total_low = m.two_sum(e, y)
    return m.fast_two_sum(total, m.add(total_low, y_low))


def _power_positive(m: Arithmetic, x: Value, y: Value) -> Value:
    """x^y of f64 for positive finite x."""
    high, low = _log2_pair(m, x)
    limited = m.where(m.test("gt", y, 2.0**80), 2.0**80, m.where(m.test("lt", y, -(2.0**80)), -(2.0**80), y))
    p, p_low = m.two_product(high, limited)
    p_low = m.fma(low, limited, p_low)
    bounded = m.where(m.test("gt", p, 1100.0), 1100.0, m.where(m.test("lt", p, -1100.0), -1100.0, p))
    p_low = m.where(m.test("eq", bounded, p), p_low, 0.0)
    e = expand_exp2(m, bounded)
    correction = m.mul(p_low, math.log(2))
    finite = m.test("lt", e, math.inf)
    return m.where(finite, m.fma(e, correction, e), e)


def expand_pow(m: Arithmetic, x: Value, y: Value) -> Value:
    """IEEE 754's pow, all special cases included. f32 goes by way of f64."""
    if m.single:
        wide = Arithmetic(m.b, m.to(x, f64))
        return m.to(expand_pow(wide, m.to(x, f64), m.to(y, f64)), f32)
    a = m.abs(x)
    ordinary = m.both(m.test("gt", a, 0.0), m.test("lt", a, math.inf))
    result = _power_positive(m, m.where(ordinary, a, 1.0), y)
    rises = m.test("gt", y, 0.0)
    result = m.where(m.test("eq", a, 0.0), m.where(rises, 0.0, math.inf), result)
    result = m.where(m.test("eq", a, math.inf), m.where(rises, math.inf, 0.0), result)
    # Infinite exponents.
    infinite = m.test("eq", m.abs(y), math.inf)
    grows = m.test("eq", m.where(m.test("gt", a, 1.0), 1.0, 0.0), m.where(rises, 1.0, 0.0))
    at_infinity = m.where(m.test("eq", a, 1.0), 1.0, m.where(grows, math.inf, 0.0))
    result = m.where(infinite, at_infinity, result)
    # The sign, for odd integers; negative numbers have no other real powers.
    whole = m.test("eq", m.unary("trunc", y), y)
    half = m.mul(y, 0.5)
    odd = m.both(whole, m.test("ne", m.unary("trunc", half), half))
    negative = m.test("lt", m.copysign(1.0, x), 0.0)
    result = m.where(m.both(negative, odd), m.neg(result), result)
    undefined = m.both(m.both(m.test("lt", x, 0.0), m.test("gt", x, -math.inf)), m.negate(m.either(whole, infinite)))
    result = m.where(undefined, math.nan, result)
    result = m.where(m.either(m.isnan(x), m.isnan(y)), math.nan, result)
    return m.where(m.either(m.test("eq", y, 0.0), m.test("eq", x, 1.0)), 1.0, result)


def expand_fmod(m: Arithmetic, x: Value, y: Value) -> Value:
    """C's fmod, exactly: multiples y 2^k ≤ r < y 2^(k+1) are taken off until r < y."""
    r, d = m.abs(x), m.abs(y)
    valid = m.both(m.test("lt", r, math.inf), m.test("gt", d, 0.0))
    r0 = m.where(valid, r, 0.0)
    d0 = m.where(m.both(valid, m.test("lt", d, math.inf)), d, 1.0)
    big = m.test("eq", d, math.inf)

    def exponent(a: Arithmetic, v: Value) -> Value:
        """The exponent of a number; subnormals count from their leading bit."""
        tiny = a.test("lt", v, 2.0 ** (1 - a.bias))
        lifted = a.where(tiny, a.mul(v, 2.0**a.mantissa), v)
        e = a.bits(a.binary("shr", a.bits(lifted), a.mantissa), a.signed)
        return a.where(tiny, a.sub(e, a.const(a.mantissa, a.signed)), e)

    def going(a: Arithmetic, values: list[Value]) -> Value:
        return a.test("ge", values[0], d0)

    def step(a: Arithmetic, values: list[Value]) -> Sequence[Value]:
        (rest,) = values
        active = a.test("ge", rest, d0)
        k = a.sub(exponent(a, rest), exponent(a, d0))
        k = a.where(active, k, a.const(0, a.signed))
        # From a subnormal to a large number is further than one scaling goes.
        first = a.binary("min", k, a.const(100, a.signed))
        lifted = a.scale(d0, first)
        k = a.sub(k, first)
        t = a.scale(lifted, k)
        t = a.where(a.test("gt", t, rest), a.scale(lifted, a.sub(k, 1)), t)
        return [a.where(active, a.sub(rest, t), rest)]

    (rest,) = m.while_any([r0], going, step)
    rest = m.where(big, r, rest)
    result = m.copysign(m.where(valid, rest, math.nan), x)
    return m.where(m.either(m.isnan(x), m.isnan(y)), math.nan, result)


def expand_mod(m: Arithmetic, x: Value, y: Value) -> Value:
    """Python's %: the sign of the divisor."""
    r = expand_fmod(m, x, y)
    zero = m.test("eq", r, 0.0)
    differ = m.test("ne", m.where(m.test("lt", r, 0.0), 1.0, 0.0), m.where(m.test("lt", y, 0.0), 1.0, 0.0))
    moved = m.where(m.both(differ, m.negate(zero)), m.add(r, y), r)
    return m.where(zero, m.copysign(0.0, y), moved)


def _rounds_down(m: Arithmetic, r: Value, y: Value) -> Value:
    """Whether the floor of a quotient is below its integer part: it leaves a remainder, of another sign than y's."""
    differ = m.test("ne", m.where(m.test("lt", r, 0.0), 1.0, 0.0), m.where(m.test("lt", y, 0.0), 1.0, 0.0))
    return m.both(differ, m.test("ne", r, 0.0))


def expand_floordiv(m: Arithmetic, x: Value, y: Value) -> Value:
    """The floor of the exact quotient, rounded once to nearest even; division by zero as x / y.

    The rounded quotient q and the exact remainder r of the division toward zero give that quotient t: t - q is
    (x - q y - r) / y, where x - q y is exact as a multiply-add. From q = 2^(p-1) on that is an integer, which its
    approximation rounds to, and q plus it is rounded once; below, their sum rounds to t. From 2^(2p) on the floor
    rounds as the quotient does.
    """
    p = m.mantissa + 1
    plain = m.div(x, y)
    r = expand_fmod(m, x, y)
    small = m.test("lt", m.abs(x), m.pick(2.0**-60, 2.0**-800))
    factor = m.where(small, m.pick(2.0**64, 2.0**200), 1.0)  # so that no remainder is subnormal
    x, y, r = m.mul(x, factor), m.mul(y, factor), m.mul(r, factor)
    error = m.div(m.sub(m.fma(m.neg(plain), y, x), r), y)
    whole = m.test("ge", m.abs(plain), 2.0**(p - 1))
    error = m.where(whole, m.unary("round", error), error)
    lower = _rounds_down(m, r, y)
    quotient = m.unary("round", m.add(plain, m.where(lower, m.sub(error, 1.0), error)))
    quotient = m.where(m.test("lt", m.abs(plain), 2.0**(2 * p)), quotient, plain)
    quotient = m.where(m.test("eq", quotient, 0.0), m.copysign(0.0, plain), quotient)
    below = m.where(lower, -1.0, m.copysign(0.0, plain))
    quotient = m.where(m.test("lt", m.abs(x), m.abs(y)), below, quotient)
    return m.where(m.either(m.isnan(r), m.test("eq", y, 0.0)), m.where(m.test("eq", y, 0.0), plain, math.nan), quotient)
