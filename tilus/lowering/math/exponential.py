"""Exponentials, logarithms and the hyperbolic functions made of them."""

from __future__ import annotations

import math

from tilus.ir.core import Value
from tilus.lowering.math import tables
from tilus.lowering.math.builder import Arithmetic
from tilus.lowering.math.piecewise import by_intervals

LN2 = 0.6931471805599453
# ln 2 in two parts, the first with enough zeros at its end that products with exponents are exact.
LN2_HIGH_F32, LN2_LOW_F32 = 0.693145751953125, 1.4286068203094173e-06
LN2_HIGH_F64, LN2_LOW_F64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOG2E = 1.4426950408889634
SQRT_HALF = 0.7071067811865476
LOG2E_LOW_F32 = 1.9259629911266175e-08
LOG2E_LOW_F64 = 2.0355273740931033e-17
LOG10E = 0.4342944819032518
LOG10E_LOW_F64 = 1.098319650216765e-17


def _clamp(m: Arithmetic, x: Value, low: float, high: float) -> Value:
    """``x`` limited to a range; NaNs pass."""
    x = m.where(m.test("gt", x, high), high, x)
    return m.where(m.test("lt", x, low), low, x)


def _reduce_exp(m: Arithmetic, x: Value) -> tuple[Value, Value, Value]:
    """x = n ln 2 + r: r, n, and n as a signed integer."""
    n, integer = m.round_to_integer(m.mul(x, LOG2E))
    minus = m.neg(n)
    r = m.fma(minus, m.pick(LN2_HIGH_F32, LN2_HIGH_F64), x)
    return m.fma(minus, m.pick(LN2_LOW_F32, LN2_LOW_F64), r), n, integer


def _expm1_reduced(m: Arithmetic, r: Value) -> Value:
    """exp(r) - 1 for |r| ≤ ln 2 / 2."""
    p = m.polynomial(r, tables.EXP_F32 if m.single else tables.EXP_F64)
    return m.fma(m.mul(r, r), p, r)


def expand_exp(m: Arithmetic, x: Value) -> Value:
    if m.flushes and not m.scales:
        r, _, integer = _reduce_exp(m, x)
        return _normal(m, m.add(_expm1_reduced(m, r), 1.0), integer, x, m.pick(-87.3365, -708.39641853226),
                       m.pick(88.72283, 709.782712893384))
    x = _limit_exponent(m, x, m.pick(-104.0, -746.0), m.pick(89.0, 710.0))
    if m.in_turn and m.single:
        return _exp_of_registers(m, x)
    r, n, integer = _reduce_exp(m, x)
    return _scale_near_one(m, m.add(_expm1_reduced(m, r), 1.0), n, integer, x, m.pick(-103.98, -745.14))


def _exp_of_registers(m: Arithmetic, x: Value) -> Value:
    """2^n (1 + (exp(r) - 1)) of f32 in as few instructions as that takes: n is the last bits of a sum, of which shifts
    make two powers whose product it is, so that the result may be subnormal or overflow."""
    magic = 1.5 * 2.0**m.mantissa
    shifted = m.fma(x, LOG2E, magic)
    minus = m.sub(magic, shifted)
    r = m.fma(minus, LN2_LOW_F32, m.fma(minus, LN2_HIGH_F32, x))
    bits, one = m.bits(shifted), m.bits(m.const(1.0))  # half of the bits of the magic number ends in zeros as well
    half = m.binary("shr", bits, 1)
    first, second = (m.float_of(m.add(m.binary("shl", part, m.mantissa), one)) for part in (half, m.sub(bits, half)))
    return m.mul(m.fma(_expm1_reduced(m, r), first, first), second)


def _normal(m: Arithmetic, p: Value, n: Value, x: Value, low: float, high: float) -> Value:
    """``p * 2^n`` for p near 1, by its exponent: 0 where x is below ``low``, infinite above ``high``, where the sum of
    exponents is none."""
    result = m.float_of(m.add(m.bits(p, m.signed), m.binary("shl", n, m.mantissa)))
    result = m.where(m.test("lt", x, low), 0.0, result)
    return m.where(m.test("le", x, high), result, m.add(x, math.inf))  # NaNs stay


def _limit_exponent(m: Arithmetic, x: Value, low: float, high: float) -> Value:
    """``x`` within bounds beyond which its exponential is 0 or infinite. Where powers of two are multiplied by they are
    wide ones: results just below the least number take processors long."""
    return _clamp(m, x, 10 * low, 10 * high) if m.scales else _clamp(m, x, low, high)


def _scale_near_one(m: Arithmetic, p: Value, n: Value, integer: Value, x: Value, nothing: float) -> Value:
    """``p * 2^n`` for p near 1 and an n of the sign of x: the exponent is added short of the range's end, the rest is
    multiplied, so that the result may be subnormal or overflow. It is 0 where x is below ``nothing``."""
    if m.scales:
        return m.scaled(p, n)
    part = m.pick(64, 512)
    negative = m.test("lt", x, 0.0)
    exponent = m.add(integer, m.where(negative, m.const(part, m.signed), m.const(-part, m.signed)))
    raised = m.add(m.bits(p, m.signed), m.binary("shl", exponent, m.mantissa))
    if not m.in_turn:  # lanes wait for those whose result is below the least number, which takes processors long
        raised = m.where(m.test("lt", x, nothing), m.const(0, m.signed), raised)
    # x - x is 0, or the NaN that the integer addition has destroyed: x is finite otherwise.
    return m.fma(m.float_of(raised), m.where(negative, 2.0**-part, 2.0**part), m.sub(x, x))


def expand_exp2(m: Arithmetic, x: Value) -> Value:
    approximate = tables.EXP2_APPROXIMATE_F32 if m.flushes else tables.EXP2_F32
    flushes = m.flushes and not m.scales
    if flushes:
        x = m.where(m.test("gt", x, m.pick(128.0, 1024.0)), m.pick(128.0, 1024.0), x)
        x = m.where(m.test("lt", x, m.pick(-126.0, -1022.0)), m.pick(-127.0, -1023.0), x)
    else:
        x = _limit_exponent(m, x, m.pick(-151.0, -1076.0), m.pick(129.0, 1025.0))
    n, integer = m.round_to_integer(x)
    r = m.sub(x, n)
    p = m.fma(r, m.polynomial(r, approximate if m.single else tables.EXP2_F64), 1.0)
    if flushes:
        return _with_exponent(m, p, integer, x)
    return _scale_near_one(m, p, n, integer, x, m.pick(-150.0, -1075.0))


def _with_exponent(m: Arithmetic, p: Value, n: Value, x: Value) -> Value:
    """``p * 2^n`` = 2^x, for x from that of the least normal number to that of infinity, or the one of which the sum of
    exponents is that of 0; at the ends p is 1."""
    result = m.float_of(m.add(m.bits(p, m.signed), m.binary("shl", n, m.mantissa)))
    return m.fma(x, 0.0, result)  # x is finite or a NaN, which the sum of integers destroys


def expand_expm1(m: Arithmetic, x: Value) -> Value:
    """2 (2^(n-1) (exp(r) - 1) + 2^(n-1) - 1/2)"""
    clamped = _clamp(m, x, -40.0, m.pick(89.0, 710.0))
    r, _, n = _reduce_exp(m, clamped)
    s = m.power_of_two(m.sub(n, 1))
    result = m.mul(m.fma(s, _expm1_reduced(m, r), m.sub(s, 0.5)), 2.0)
    return m.where(m.test("eq", x, 0.0), x, result)


def exp_of_pair(m: Arithmetic, high: Value, low: Value) -> Value:
    """exp(high + low) for a small correction ``low``."""
    e = expand_exp(m, high)
    return m.fma(e, low, e)


def split_exponent(m: Arithmetic, x: Value) -> tuple[Value, Value]:
    """x = 2^e m with m in [√½, √2), for positive finite x: e as a float, and m."""
    tiny = m.test("lt", x, 2.0 ** (1 - m.bias))
    lift = m.pick(2.0**25, 2.0**54)
    scaled = m.where(tiny, m.mul(x, lift), x)
    root = m.bits(m.const(SQRT_HALF), m.signed)
    offset = m.sub(m.bits(scaled, m.signed), root)
    exponent = m.binary("shr", offset, m.mantissa)
    mantissa = m.add(m.binary("and", offset, (1 << m.mantissa) - 1), root)
    e = m.to(exponent, m.dtype)
    return m.where(tiny, m.sub(e, m.pick(25.0, 54.0)), e), m.float_of(mantissa)


def _log_core(m: Arithmetic, f: Value) -> tuple[Value, Value]:
    """log(1 + f) = f - (h - t): h = f²/2 and t, for 1 + f in [√½, √2)."""
    s = m.div(f, m.add(f, 2.0))
    z = m.mul(s, s)
    r = m.mul(z, m.polynomial(z, tables.LOG_F32 if m.single else tables.LOG_F64))
    h = m.mul(m.mul(f, f), 0.5)
    return h, m.mul(s, m.add(h, r))


def _special_log(m: Arithmetic, x: Value, result: Value) -> Value:
    """log at 0, infinity, negative numbers and NaN."""
    result = m.where(m.test("eq", x, 0.0), -math.inf, result)
    result = m.where(m.test("lt", x, 0.0), math.nan, result)
    unchanged = m.either(m.test("eq", x, math.inf), m.isnan(x))
    return m.where(unchanged, x, result)


def expand_log(m: Arithmetic, x: Value) -> Value:
    e, mantissa = split_exponent(m, x)
    f = m.sub(mantissa, 1.0)
    return _special_log(m, x, _log_sum(m, e, f, None))


def _log_sum(m: Arithmetic, e: Value, f: Value, correction: Value | None) -> Value:
    h, t = _log_core(m, f)
    low = m.fma(e, m.pick(LN2_LOW_F32, LN2_LOW_F64), t)
    if correction is not None:
        low = m.add(low, correction)
    return m.fma(e, m.pick(LN2_HIGH_F32, LN2_HIGH_F64), m.sub(f, m.sub(h, low)))


def expand_log1p(m: Arithmetic, x: Value) -> Value:
    """log of u = 1 + x, corrected by what the sum loses."""
    u = m.add(x, 1.0)
    e, mantissa = split_exponent(m, u)
    lost = m.where(m.test("ge", x, 1.0), m.sub(1.0, m.sub(u, x)), m.sub(x, m.sub(u, 1.0)))
    result = _log_sum(m, e, m.sub(mantissa, 1.0), m.div(lost, u))
    result = m.where(m.test("lt", m.abs(x), m.pick(2.0**-25, 2.0**-54)), x, result)
    result = m.where(m.test("eq", x, -1.0), -math.inf, result)
    result = m.where(m.test("lt", x, -1.0), math.nan, result)
    return m.where(m.either(m.test("eq", x, math.inf), m.isnan(x)), x, result)


def _log_scaled(m: Arithmetic, x: Value, high: float, low: float, exponent: tuple[float, float]) -> Value:
    """log(x) times a constant given in two parts; ``exponent`` is the constant's product with ln 2, in two parts."""
    e, mantissa = split_exponent(m, x)
    f = m.sub(mantissa, 1.0)
    h, t = _log_core(m, f)
    first, rest = m.fast_two_sum(f, m.neg(h))
    rest = m.add(rest, t)
    first, rest = m.fast_two_sum(first, rest)
    y, y_low = m.two_product(first, high)
    y_low = m.add(y_low, m.fma(rest, high, m.mul(first, low)))
    scaled = m.mul(e, exponent[0])
    total, total_low = m.fast_two_sum(scaled, y)
    if exponent[1]:
        total_low = m.fma(e, exponent[1], total_low)
    return _special_log(m, x, m.add(total, m.add(total_low, y_low)))


def expand_log2(m: Arithmetic, x: Value) -> Value:
    return _log_scaled(m, x, _single(LOG2E) if m.single else LOG2E, LOG2E - _single(LOG2E) if m.single
                       else LOG2E_LOW_F64, (1.0, 0.0))


def expand_log10(m: Arithmetic, x: Value) -> Value:
    two = 0.30102999566398120  # log10 2, in a part of few bits and the rest
    coarse = math.floor(two * 2.0**m.pick(14, 40)) / 2.0**m.pick(14, 40)
    rest = two - coarse if m.single else LOG10_2_REST
    return _log_scaled(m, x, _single(LOG10E) if m.single else LOG10E, LOG10E - _single(LOG10E) if m.single
                       else LOG10E_LOW_F64, (coarse, rest))


# log10 2 less its first 40 bits, which a double holds to its own precision.
LOG10_2_REST = 8.241712586023572e-13


def _single(value: float) -> float:
    import struct

    return float(struct.unpack("f", struct.pack("f", value))[0])


# Hyperbolic functions.


def expand_sinh(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    t = expand_expm1(m, a)
    small = m.mul(m.add(t, m.div(t, m.add(t, 1.0))), 0.5)
    e = expand_exp(m, m.mul(a, 0.5))
    large = m.mul(m.mul(e, 0.5), e)
    return m.copysign(m.where(m.test("gt", a, m.pick(80.0, 700.0)), large, small), x)


def expand_cosh(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    t = expand_exp(m, a)
    small = m.fma(t, 0.5, m.div(0.5, t))
    e = expand_exp(m, m.mul(a, 0.5))
    large = m.mul(m.mul(e, 0.5), e)
    return m.where(m.test("gt", a, m.pick(80.0, 700.0)), large, small)


def expand_tanh(m: Arithmetic, x: Value) -> Value:
    if m.scales and m.single:
        return by_intervals(m, x, tables.TANH_PIECES, tables.TANH_WIDTH, tables.TANH_TOP)
    a = m.abs(x)
    limited = m.where(m.test("gt", a, m.pick(10.0, 22.0)), m.pick(10.0, 22.0), a)
    t = expand_expm1(m, m.mul(limited, 2.0))
    quotient = m.div(m.where(m.test("lt", a, 0.5), t, 2.0), m.add(t, 2.0))
    result = m.where(m.test("lt", a, 0.5), quotient, m.sub(1.0, quotient))
    return m.where(m.isnan(x), x, m.copysign(result, x))


def expand_asinh(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    big = m.test("gt", a, m.pick(2.0**13, 2.0**28))
    safe = m.where(big, 1.0, a)
    square = m.mul(safe, safe)
    inner = m.add(safe, m.div(square, m.add(m.sqrt(m.add(square, 1.0)), 1.0)))
    result = m.where(big, m.add(expand_log(m, a), LN2), expand_log1p(m, inner))
    return m.copysign(result, x)


def expand_acosh(m: Arithmetic, x: Value) -> Value:
    big = m.test("gt", x, m.pick(2.0**13, 2.0**28))
    t = m.sub(m.where(big, 2.0, x), 1.0)
    inner = m.add(t, m.sqrt(m.fma(t, t, m.mul(t, 2.0))))
    result = m.where(big, m.add(expand_log(m, x), LN2), expand_log1p(m, inner))
    return m.where(m.test("lt", x, 1.0), math.nan, m.where(m.isnan(x), x, result))


def expand_atanh(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    quotient = m.div(m.mul(a, 2.0), m.sub(1.0, a))
    result = m.mul(expand_log1p(m, quotient), 0.5)
    result = m.where(m.test("lt", a, m.pick(2.0**-13, 2.0**-28)), a, result)
    return m.copysign(m.where(m.test("gt", a, 1.0), math.nan, result), x)


def expand_sigmoid(m: Arithmetic, x: Value) -> Value:
    """1 / (1 + exp(-|x|)), or exp(-|x|) times that."""
    e = expand_exp(m, m.neg(m.abs(x)))
    positive = m.div(1.0, m.add(e, 1.0))
    return m.where(m.test("lt", x, 0.0), m.mul(e, positive), positive)


# The error function.


def _erfc_positive(m: Arithmetic, x: Value) -> Value:
    """exp(-x²) P(t) / (1 + 2x) with t = (x - c) / (x + c)."""
    c = m.pick(2.0, 4.0)
    x = m.where(m.test("gt", x, m.pick(10.5, 27.4)), m.pick(10.5, 27.4), x)
    t = m.div(m.sub(x, c), m.add(x, c))
    p = m.polynomial(t, tables.ERFC_F32 if m.single else tables.ERFC_F64)
    p = m.div(p, m.fma(x, 2.0, 1.0))
    square, low = m.two_product(x, x)
    e = expand_exp(m, m.neg(square))
    return m.mul(m.fma(e, m.neg(low), e), p)


def expand_erfc(m: Arithmetic, x: Value) -> Value:
    a = m.abs(x)
    tail = _erfc_positive(m, a)
    tail = m.where(m.test("lt", x, 0.0), m.sub(2.0, tail), tail)
    near = m.sub(1.0, _erf_near(m, x))
    return m.where(m.isnan(x), x, m.where(m.test("lt", a, 0.5), near, tail))


def _erf_near(m: Arithmetic, x: Value) -> Value:
    z = m.mul(x, x)
    p = m.mul(z, m.polynomial(z, tables.ERF_F32 if m.single else tables.ERF_F64))
    two_over_root_pi, low = 1.1283791670955126, 1.533545961316588e-17
    if m.single:
        two_over_root_pi, low = _single(two_over_root_pi), two_over_root_pi - _single(two_over_root_pi)
    return m.fma(x, two_over_root_pi, m.mul(x, m.add(p, low)))


def expand_erf(m: Arithmetic, x: Value) -> Value:
    if m.scales and m.single:
        return by_intervals(m, x, tables.ERF_PIECES, tables.ERF_WIDTH, tables.ERF_TOP)
    a = m.abs(x)
    far = _erf_far(m, a) if m.single else m.sub(1.0, _erfc_positive(m, a))
    result = m.copysign(m.where(m.test("lt", a, 1.0), _erf_near(m, x), far), x)
    return result if m.single else m.where(m.isnan(x), x, result)


def _erf_far(m: Arithmetic, a: Value) -> Value:
    """Of f32 from 1 on: 1 - 2^P(x), which needs few digits of the power. NaNs stay."""
    a = m.where(m.test("gt", a, 4.0), 4.0, a)
    exponent = m.polynomial(a, tables.ERFC_EXPONENT_F32)
    whole, integer = m.round_to_integer(exponent)
    power = m.polynomial(m.sub(exponent, whole), (1.0, *tables.EXP2_F32))
    return m.fma(m.neg(power), m.power_of_two(integer), 1.0)


def expand_rsqrt(m: Arithmetic, x: Value) -> Value:
    return m.div(1.0, m.sqrt(x))


def expand_rcp(m: Arithmetic, x: Value) -> Value:
    return m.div(1.0, x)
