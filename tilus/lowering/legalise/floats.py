"""Arithmetic on floats: 16 bits by way of f32 or on the bits, functions as arithmetic."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bf16, f16, f32, f64, u16, u32, u64
from tilus.ir.ops import Binary, Cast, Compare, Fma, Unary
from tilus.ir.ops.simd import ScaleBinary
from tilus.ir.ops.simt import ApproxUnary
from tilus.lowering.legalise.casts import is_half
from tilus.lowering.legalise.legality import Machine, to_be_rounded
from tilus.lowering.legalise.rules import rule
from tilus.lowering.legalise.scalars import Bits
from tilus.lowering.math.builder import Arithmetic
from tilus.lowering.math.functions import BINARY, UNARY, expand_binary, expand_unary
from tilus.lowering.math.rounded import ROUNDED, expand_rounded

FUNCTION_COST = 12
_EXACT = frozenset({"sqrt", "rcp"})
"""Functions whose results are the nearest numbers."""
SIGN = 0x8000


def _narrow(b: Builder, x: Value, dtype: DType) -> Value:
    return b.add(Cast(x, dtype)).result


def _wide(b: Builder, x: Value) -> Value:
    return b.add(Cast(x, f32)).result


# -- the sign


@rule(Unary, lambda op: is_half(op.x.tile.dtype) and op.kind in ("neg", "abs"))
def change_sign(b: Builder, op: Unary, machine: Machine) -> Value:
    e = Bits(b, op.x.tile.shape)
    bits = e.bits(op.x, u16)
    return e.bits(e.op("xor", bits, SIGN) if op.kind == "neg" else e.op("and", bits, SIGN - 1), op.x.tile.dtype)


@rule(Binary, lambda op: is_half(op.lhs.tile.dtype) and op.kind == "copysign")
def copy_sign(b: Builder, op: Binary, machine: Machine) -> Value:
    e = Bits(b, op.lhs.tile.shape)
    magnitude, sign = e.op("and", e.bits(op.lhs, u16), SIGN - 1), e.op("and", e.bits(op.rhs, u16), SIGN)
    return e.bits(e.op("or", magnitude, sign), op.lhs.tile.dtype)


# -- bf16 where there is only a multiply-add of it, which changes neither the rounding nor the sign of a zero


@rule(Binary, lambda op, machine: op.kind in ("add", "sub", "mul") and machine.rows_of(Fma, "", bf16, bf16)
      and op.lhs.tile.dtype is bf16, asks_machine=True)
def by_multiply_add(b: Builder, op: Binary, machine: Machine) -> Value:
    e, x, y = Bits(b, op.lhs.tile.shape), op.lhs, op.rhs
    if op.kind == "mul":
        return b.add(Fma(x, y, e.const(-0.0, bf16))).result
    if op.kind == "add":
        return b.add(Fma(x, e.const(1.0, bf16), y)).result
    return b.add(Fma(y, e.const(-1.0, bf16), x)).result


# -- by way of f32: one rounding of a result with more than twice the bits is as if there had been no other


@rule(Unary, lambda op: is_half(op.x.tile.dtype) and op.kind in UNARY, cost=FUNCTION_COST)
def half_function(b: Builder, op: Unary, machine: Machine) -> Value:
    dtype = op.x.tile.dtype
    precision = op.precision or (dtype if op.kind not in _EXACT else None)
    return _narrow(b, b.add(Unary(op.kind, _wide(b, op.x), precision=precision)).result, dtype)


@rule(Unary, lambda op: is_half(op.x.tile.dtype))
def half_unary(b: Builder, op: Unary, machine: Machine) -> Value:
    result = b.add(Unary(op.kind, _wide(b, op.x))).result
    return result if result.tile.dtype.is_bool else _narrow(b, result, op.x.tile.dtype)


@rule(Binary, lambda op: is_half(op.lhs.tile.dtype) and op.kind in BINARY, cost=FUNCTION_COST)
@rule(Binary, lambda op: is_half(op.lhs.tile.dtype))
def half_binary(b: Builder, op: Binary, machine: Machine) -> Value:
    wide = b.add(Binary(op.kind, _wide(b, op.lhs), _wide(b, op.rhs), op.contract)).result
    return _narrow(b, wide, op.lhs.tile.dtype)


@rule(Compare, lambda op: is_half(op.lhs.tile.dtype))
def half_compare(b: Builder, op: Compare, machine: Machine) -> Value:
    return b.add(Compare(op.kind, _wide(b, op.lhs), _wide(b, op.rhs))).result


@rule(Fma, lambda op: is_half(op.a.tile.dtype), cost=FUNCTION_COST)
def half_fma(b: Builder, op: Fma, machine: Machine) -> Value:
    """The product is exact in f32, for the exponents of bf16 in f64; the sum is rounded to odd there, so that the
    rounding to 16 bits is the only one that counts."""
    dtype = op.a.tile.dtype
    wide = f32 if dtype is f16 else f64
    e = Bits(b, op.a.tile.shape)
    x, y, z = (e.to(v, wide) for v in (op.a, op.b, op.c))
    product = e.op("mul", x, y)
    total = e.op("add", product, z)
    larger = e.test("ge", b.add(Unary("abs", product)).result, b.add(Unary("abs", z)).result)
    first, second = e.choose(larger, product, z), e.choose(larger, z, product)
    error = e.op("sub", second, e.op("sub", total, first))
    u = u64 if wide is f64 else u32
    bits = e.bits(total, u)
    outward = e.test("eq", e.op("shr", e.op("xor", bits, e.bits(error, u)), u.bits - 1), 0)
    even = e.test("eq", e.op("and", bits, 1), 0)
    lost = e.test("gt", b.add(Unary("abs", error)).result, 0.0)  # not where it is a NaN
    odd = e.choose(outward, e.op("add", bits, 1), e.op("sub", bits, 1))
    return _narrow(b, e.bits(e.choose(e.op("and", even, lost), odd, bits), wide), dtype)


# -- functions


@rule(Unary, lambda op, machine: to_be_rounded(op) and op.kind in ROUNDED and machine.legality.registers,
      asks_machine=True, cost=6)
def function_to_be_rounded(b: Builder, op: Unary, machine: Machine) -> Value:
    assert op.precision is not None
    return expand_rounded(Arithmetic(b, op.x, True), op.kind, op.x, op.precision)


@rule(Binary, lambda op, machine: to_be_rounded(op) and op.kind == "div" and machine.legality.registers,
      asks_machine=True, cost=6)
def quotient_to_be_rounded(b: Builder, op: Binary, machine: Machine) -> Value:
    """The dividend times the approximate reciprocal, which may be subnormal."""
    reciprocal = b.add(ApproxUnary("rcp", op.rhs, False)).result
    return b.add(Binary("mul", op.lhs, reciprocal, False)).result


@rule(Unary, lambda op: op.kind in UNARY, cost=FUNCTION_COST)
def function(b: Builder, op: Unary, machine: Machine) -> Value:
    registers = machine.legality.registers
    return expand_unary(b, op.kind, op.x, in_turn=registers, scales=_scales(machine),
                        flushes=op.approximate and not registers)


@rule(Binary, lambda op: op.lhs.tile.dtype.is_float and op.kind in BINARY, cost=FUNCTION_COST)
def binary_function(b: Builder, op: Binary, machine: Machine) -> Value:
    return expand_binary(b, op.kind, op.lhs, op.rhs, in_turn=machine.legality.registers, scales=_scales(machine))


def _scales(machine: Machine) -> bool:
    """Whether it multiplies by powers of two."""
    return ScaleBinary in machine.legality.rows
