"""Conversions by way of other types, or on the bits. The first rule that fits is taken."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bf16, f16, f32, f64, i32, integer, u16, u32
from tilus.ir.ops import Cast, Compare, Const, Select, Unary
from tilus.lowering.legalise import bytes as _bytes  # noqa: F401  (its rules come before these)
from tilus.lowering.legalise.codes import decode, float_to_code, odd_f32, odd_f64
from tilus.lowering.legalise.legality import Machine, rounds
from tilus.lowering.legalise.rules import rule
from tilus.lowering.legalise.scalars import Bits
from tilus.lowering.legalise.tables import is_long_codebook, loaded_from_codebook

_TO_INTEGERS = {"rm": "floor", "rp": "ceil"}


def is_code(dtype: DType) -> bool:
    """Whether a type is a codebook, or a float that nothing computes with."""
    return (dtype.is_float and not dtype.is_arithmetic) or dtype.is_codebook


def is_half(dtype: DType) -> bool:
    """f16 or bf16."""
    return dtype.is_float and dtype.is_arithmetic and dtype.bits == 16


def _then(b: Builder, x: Value, op: Cast) -> Value:
    """The rest of the way of a conversion."""
    return x if x.tile.dtype is op.dtype else b.add(Cast(x, op.dtype, op.rounding)).result


@rule(Cast, lambda op, machine: is_long_codebook(op.x.tile.dtype) and not machine.legality.registers,
      asks_machine=True, cost=6)
def number_in_memory(b: Builder, op: Cast, machine: Machine) -> Value:
    """Lanes of a vector load from a table, which has few lines of the cache."""
    return _then(b, loaded_from_codebook(Bits(b, op.x.tile.shape), op.x), op)


@rule(Cast, lambda op: is_code(op.x.tile.dtype), cost=6)
def number_of_code(b: Builder, op: Cast, machine: Machine) -> Value:
    return _then(b, decode(Bits(b, op.x.tile.shape), op.x), op)


@rule(Cast, lambda op: op.dtype.is_bool)
def is_not_zero(b: Builder, op: Cast, machine: Machine) -> Value:
    zero: int | float = 0.0 if op.x.tile.dtype.is_float else 0
    return b.add(Compare("ne", op.x, b.add(Const(zero, op.x.tile.dtype, op.x.tile.shape)).result)).result


@rule(Cast, lambda op: op.x.tile.dtype.is_bool and not is_code(op.dtype))
def one_or_zero(b: Builder, op: Cast, machine: Machine) -> Value:
    one, zero = (b.add(Const(float(n), op.dtype, op.x.tile.shape)).result for n in (1, 0))
    return b.add(Select(op.x, one, zero)).result


@rule(Cast, lambda op: op.x.tile.dtype.is_bool)
def code_of_bool(b: Builder, op: Cast, machine: Machine) -> Value:
    return _then(b, b.add(Cast(op.x, f32)).result, op)


@rule(Cast, lambda op: op.dtype.is_int and op.rounding in _TO_INTEGERS)
def round_to_integer(b: Builder, op: Cast, machine: Machine) -> Value:
    wide = b.add(Cast(op.x, f32)).result if op.x.tile.dtype.bits == 16 else op.x
    return b.add(Cast(b.add(Unary(_TO_INTEGERS[op.rounding], wide)).result, op.dtype)).result


@rule(Cast, lambda op: op.x.tile.dtype is bf16 and op.dtype is f32)
def widen_bf16(b: Builder, op: Cast, machine: Machine) -> Value:
    """bf16 is the upper half of an f32."""
    e = Bits(b, op.x.tile.shape)
    return e.bits(e.op("shl", e.to(e.bits(op.x, u16), u32), 16), f32)


@rule(Cast, lambda op: op.x.tile.dtype is f16 and op.dtype is f32, cost=6)
def widen_f16(b: Builder, op: Cast, machine: Machine) -> Value:
    return decode(Bits(b, op.x.tile.shape), op.x)


@rule(Cast, lambda op: is_half(op.x.tile.dtype))
def by_way_of_f32(b: Builder, op: Cast, machine: Machine) -> Value:
    return _then(b, b.add(Cast(op.x, f32)).result, op)


@rule(Cast, lambda op: op.dtype.is_int and op.dtype.bits < 32)
def clamp_to_integer(b: Builder, op: Cast, machine: Machine) -> Value:
    """Floats saturate to 32 bits and from there; NaNs are 0 already."""
    e = Bits(b, op.x.tile.shape)
    x = e.op("max", e.op("min", e.to(op.x, i32), op.dtype.max_value), op.dtype.min_value)
    return e.to(x, op.dtype)


@rule(Cast, lambda op: is_half(op.dtype) and op.x.tile.dtype is not f32 and not rounds(op.x.tile.dtype, f32))
def exactly_by_way_of_f32(b: Builder, op: Cast, machine: Machine) -> Value:
    return _then(b, b.add(Cast(op.x, f32)).result, op)


@rule(Cast, lambda op: is_half(op.dtype) and op.rounding == "rn" and op.x.tile.dtype is f64, cost=6)
def by_way_of_odd(b: Builder, op: Cast, machine: Machine) -> Value:
    """Rounded twice, but as if once."""
    return b.add(Cast(odd_f32(Bits(b, op.x.tile.shape), op.x), op.dtype)).result


@rule(Cast, lambda op, machine: is_half(op.dtype) and op.rounding == "rn" and op.x.tile.dtype.is_int
      and machine.rows_of(Cast, "rz", op.x.tile.dtype, f32), asks_machine=True, cost=6)
def integer_to_half_by_way_of_f32(b: Builder, op: Cast, machine: Machine) -> Value:
    """Toward zero with the last bit set where anything is lost; rounded once more, it is as if there had been one
    rounding."""
    e = Bits(b, op.x.tile.shape)
    cut = b.add(Cast(op.x, f32, "rz")).result
    lost = e.test("ne", e.to(cut, op.x.tile.dtype), op.x)
    odd = e.op("or", e.bits(cut, u32), e.choose(lost, 1, e.const(0, u32)))
    return e.to(e.bits(odd, f32), op.dtype)


@rule(Cast, lambda op: is_half(op.dtype) and op.rounding == "rn" and op.x.tile.dtype.is_int, cost=6)
def integer_to_half(b: Builder, op: Cast, machine: Machine) -> Value:
    e, source = Bits(b, op.x.tile.shape), op.x.tile.dtype
    return e.to(odd_f64(e, op.x) if rounds(source, f64) else e.to(op.x, f64), op.dtype)


@rule(Cast, lambda op: op.dtype is bf16 and op.rounding == "rn" and op.x.tile.dtype is f32, cost=6)
def round_to_bf16(b: Builder, op: Cast, machine: Machine) -> Value:
    """To nearest even: half of the last place is added, less the least bit where the upper half is even, and the lower
    half falls away. NaNs are the one that ``cvt`` gives."""
    e = Bits(b, op.x.tile.shape)
    bits = e.bits(op.x, u32)
    odd = e.op("and", e.op("shr", bits, 16), 1)
    rounded = e.op("shr", e.op("add", e.op("add", bits, 0x7FFF), odd), 16)
    nan = b.add(Unary("isnan", op.x)).result
    return e.bits(e.to(e.choose(nan, 0x7FFF, rounded), u16), bf16)


@rule(Cast, lambda op: op.dtype.is_float or op.dtype.is_codebook, cost=6)
def code_of_number(b: Builder, op: Cast, machine: Machine) -> Value:
    e = Bits(b, op.x.tile.shape)
    code = float_to_code(b, op.x, op.dtype, op.rounding)
    return e.bits(e.to(code, integer(op.dtype.bits, signed=False)), op.dtype)


__all__ = ["is_code", "is_half"]
