"""Floor division of integers without an instruction for it: by reciprocals.

What follows from the divisor alone is computed once where all elements have the same.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import f32, i32, integer, u32
from tilus.ir.ops import Binary, Broadcast, Cast, Fma, MulHi, Unary
from tilus.ir.ops.simt import ApproxUnary
from tilus.lowering.legalise.scalars import Bits


def divide_words(b: Builder, op: Binary) -> Value:
    """Quotient or remainder of 32-bit integers. The reciprocal, times 2^32, is one of floats with a step of Newton's
    on integers, a little too small, so that the quotient of magnitudes is at most 2 short. Where signs differ the
    magnitude is rounded up. The divisor less 1 is the greatest remainder, and what none exceeds where the divisor is 0,
    whose quotients are 0."""
    e, x, y = Bits(b, op.lhs.tile.shape), op.lhs, op.rhs
    signed = x.tile.dtype.is_signed
    d, divisor = _once(b, y)
    size = d.bits(b.add(Unary("abs", divisor)).result, u32) if signed else divisor
    greatest = d.op("sub", size, 1)
    minus = d.op("xor", greatest, 0xFFFFFFFF)
    values = [_reciprocal(d, size, minus), greatest, minus]
    once = d.shape != e.shape
    if once:
        values[0] = _exactly(d, *values)
    elif signed:
        values.append(d.op("add", greatest, size))  # at most 2^32 - 1
    reciprocal, greatest, minus, *twice = (b.add(Broadcast(v, e.shape)).result if once else v for v in values)
    dividend = x
    if signed:
        dividend = e.bits(b.add(Unary("abs", x)).result, u32)
        opposite = e.test("lt", e.op("xor", x, y), 0)
        dividend = e.choose(opposite, e.op("add", dividend, greatest), dividend)
    quotient = b.add(MulHi(reciprocal, dividend)).result
    rest = e.op("add", dividend, e.op("mul", quotient, minus))
    one, zero = e.const(1, u32), e.const(0, u32)
    more = e.test("gt", rest, greatest)
    quotient = e.op("add", quotient, e.choose(more, one, zero))
    if not once:
        left, bound = (rest, twice[0]) if signed else (e.choose(more, e.op("add", rest, minus), rest), greatest)
        quotient = e.op("add", quotient, e.choose(e.test("gt", left, bound), one, zero))
    if signed:
        quotient = e.bits(e.choose(opposite, e.op("sub", zero, quotient), quotient), i32)
    return quotient if op.kind == "floordiv" else e.op("sub", x, e.op("mul", quotient, y))


def divide_short(b: Builder, op: Binary) -> Value:
    """Of integers up to 16 bits: floats are exact enough that the quotient with half of a unit added to the dividend
    does not reach the next integer."""
    e, x, y = Bits(b, op.lhs.tile.shape), op.lhs, op.rhs
    d, divisor = _once(b, y)
    reciprocal = b.add(ApproxUnary("rcp", d.to(divisor, f32), True)).result
    half = d.op("mul", b.add(Unary("abs", reciprocal)).result, 0.5)
    if d.shape != e.shape:
        reciprocal, half = (b.add(Broadcast(v, e.shape)).result for v in (reciprocal, half))
    number = b.add(Fma(e.to(x, f32), reciprocal, half)).result
    quotient = e.choose(e.test("eq", y, 0), 0, b.add(Cast(number, i32, "rm")).result)
    if op.kind == "mod":
        quotient = e.op("sub", e.to(x, i32), e.op("mul", quotient, e.to(y, i32)))
    return e.to(quotient, x.tile.dtype)


def divide_by_constant(b: Builder, op: Binary, divisor: int) -> Value:
    """Of signed integers by 3 or more: of the magnitude, or one less for negative numbers, the upper half of a product
    (Granlund and Montgomery, 1994)."""
    e, x, dtype = Bits(b, op.lhs.tile.shape), op.lhs, op.lhs.tile.dtype
    u, bits = integer(dtype.bits, signed=False), dtype.bits - 1
    shift = (divisor - 1).bit_length()
    factor = (1 << bits + shift) // divisor + 1
    sign = e.op("shr", x, bits)
    high = b.add(MulHi(e.bits(e.op("xor", x, sign), u), e.const(factor, u))).result
    quotient = e.op("xor", e.bits(e.op("shr", high, shift - 1), dtype), sign)
    return quotient if op.kind == "floordiv" else e.op("sub", x, e.op("mul", quotient, divisor))


def _once(b: Builder, divisor: Value) -> tuple[Bits, Value]:
    """The divisor where it is computed with: a scalar, where it is the same for all elements."""
    maker = divisor.defining
    value = maker.x if isinstance(maker, Broadcast) and not maker.x.tile.shape else divisor
    return Bits(b, value.tile.shape), value


def _reciprocal(d: Bits, size: Value, minus: Value) -> Value:
    """2^32 over a divisor, not above. The float is moved down by what its reciprocal may be off."""
    number = d.b.add(ApproxUnary("rcp", d.b.add(Cast(size, f32, "rp")).result, True)).result
    scaled = d.bits(d.op("add", d.bits(number, u32), (32 << 23) - 2), f32)
    coarse = d.to(scaled, u32)
    return d.op("add", coarse, d.b.add(MulHi(coarse, d.op("mul", coarse, minus))).result)


def _exactly(d: Bits, reciprocal: Value, greatest: Value, minus: Value) -> Value:
    """(2^32 - 1) over the divisor, rounded down: quotients by it are at most 1 short."""
    for _ in range(2):
        rest = d.op("sub", d.op("mul", reciprocal, minus), 1)
        more = d.test("gt", rest, greatest)
        reciprocal = d.choose(more, d.op("add", reciprocal, 1), reciprocal)
    return reciprocal


__all__ = ["divide_by_constant", "divide_short", "divide_words"]
