"""Integers and bools: floor division by that of the machine, shifts by any amount by those within the width."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import integer
from tilus.ir.ops import Binary, Const, Unary
from tilus.lowering.legalise.legality import Machine
from tilus.lowering.legalise.quotients import divide_by_constant, divide_short, divide_words
from tilus.lowering.legalise.rules import rule
from tilus.lowering.legalise.scalars import Bits


def constant_of(x: Value) -> int | None:
    """The number of an integer that is one constant."""
    op = x.defining
    return int(op.value) if isinstance(op, Const) else None


def _divides(op: Binary) -> bool:
    return op.kind in ("floordiv", "mod") and op.lhs.tile.dtype.is_int


def _by_power_of_two(op: Binary) -> bool:
    divisor = constant_of(op.rhs) if _divides(op) else None
    return divisor is not None and divisor > 0 and divisor & (divisor - 1) == 0


def shifts_within(op: Binary) -> bool:
    """Whether a shift is by a constant below the width."""
    amount = constant_of(op.rhs)
    return amount is not None and 0 <= amount < op.lhs.tile.dtype.bits


@rule(Binary, _by_power_of_two)
def divide_by_power_of_two(b: Builder, op: Binary, machine: Machine) -> Value:
    """Both round down."""
    e, divisor = Bits(b, op.lhs.tile.shape), constant_of(op.rhs)
    assert divisor is not None
    if op.kind == "floordiv":
        return e.op("shr", op.lhs, divisor.bit_length() - 1)
    return e.op("and", op.lhs, divisor - 1)


def _by_constant(op: Binary, machine: Machine) -> bool:
    """Whether it is a signed division by 3 or more."""
    divisor = constant_of(op.rhs) if _divides(op) and machine.legality.registers else None
    return divisor is not None and divisor > 2 and op.lhs.tile.dtype.name in ("i32", "i64")


@rule(Binary, _by_constant, asks_machine=True, cost=5)
def divide_by_factor(b: Builder, op: Binary, machine: Machine) -> Value:
    divisor = constant_of(op.rhs)
    assert divisor is not None
    return divide_by_constant(b, op, divisor)


def _by_reciprocal(op: Binary, machine: Machine) -> bool:
    known = constant_of(op.rhs) is not None
    return _divides(op) and machine.legality.registers and not known and op.lhs.tile.dtype.bits <= 32


@rule(Binary, _by_reciprocal, asks_machine=True, cost=20)
def divide_by_reciprocal(b: Builder, op: Binary, machine: Machine) -> Value:
    return divide_words(b, op) if op.lhs.tile.dtype.bits == 32 else divide_short(b, op)


@rule(Binary, _divides, cost=8)
def divide(b: Builder, op: Binary, machine: Machine) -> Value:
    """By 0 the quotient is 0, and the remainder is the dividend."""
    e, divisor = Bits(b, op.lhs.tile.shape), op.rhs
    known = constant_of(divisor)
    if known == 0:
        return e.const(0, op.lhs.tile.dtype) if op.kind == "floordiv" else op.lhs
    if known is not None:
        return _floor_division(e, op, divisor, known)
    zero = e.test("eq", divisor, 0)
    result = _floor_division(e, op, e.choose(zero, 1, divisor), None)
    return e.choose(zero, 0, result) if op.kind == "floordiv" else e.choose(zero, op.lhs, result)


def _floor_division(e: Bits, op: Binary, divisor: Value, known: int | None) -> Value:
    """By what is not 0. The quotient of the least number and -1 overflows: that is negation."""
    x, dtype = op.lhs, op.lhs.tile.dtype
    if dtype.kind == "uint":
        return e.op("quo" if op.kind == "floordiv" else "rem", x, divisor)
    negated = e.b.add(Unary("neg", x)).result if op.kind == "floordiv" else e.const(0, dtype)
    if known == -1:
        return negated
    if known is not None:
        return _round_down(e, op.kind, x, divisor)
    minus = e.test("eq", divisor, -1)
    return e.choose(minus, negated, _round_down(e, op.kind, x, e.choose(minus, 1, divisor)))


def _round_down(e: Bits, kind: str, x: Value, divisor: Value) -> Value:
    """From the quotient toward zero: one less where the remainder is not 0 and has the other sign than the divisor."""
    quotient = e.op("quo", x, divisor)
    remainder = e.op("sub", x, e.op("mul", quotient, divisor))
    below = e.op("and", e.test("lt", e.op("xor", remainder, divisor), 0), e.test("ne", remainder, 0))
    if kind == "floordiv":
        return e.choose(below, e.op("sub", quotient, 1), quotient)
    return e.choose(below, e.op("add", remainder, divisor), remainder)


@rule(Binary, lambda op: op.kind in ("shl", "shr"), cost=3)
def shift(b: Builder, op: Binary, machine: Machine) -> Value:
    """By the width or more, which negative amounts count as, it gives 0, or the sign."""
    e, dtype = Bits(b, op.lhs.tile.shape), op.lhs.tile.dtype
    known = constant_of(op.rhs)
    arithmetic = op.kind == "shr" and dtype.kind == "int"
    if known is not None:
        return e.op("shr", op.lhs, dtype.bits - 1) if arithmetic else e.const(0, dtype)
    amount = e.bits(op.rhs, integer(dtype.bits, signed=False))
    within = e.test("lt", amount, dtype.bits)
    bounded = e.bits(e.op("min", amount, dtype.bits - 1), dtype)
    shifted = e.op("lsl" if op.kind == "shl" else "asr" if arithmetic else "lsr", op.lhs, bounded)
    return shifted if arithmetic else e.choose(within, shifted, e.const(0, dtype))


@rule(Binary, lambda op: op.lhs.tile.dtype.is_bool and op.kind in ("min", "max"))
def least_bool(b: Builder, op: Binary, machine: Machine) -> Value:
    return b.binary("and" if op.kind == "min" else "or", op.lhs, op.rhs)


__all__ = ["constant_of", "shifts_within"]
