"""Instructions on 32-bit words, where there are none, as integer arithmetic."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import u32, u64
from tilus.ir.ops.words import BytePermute, FunnelShift, Lop3
from tilus.lowering.legalise.legality import Machine
from tilus.lowering.legalise.rules import rule
from tilus.lowering.legalise.scalars import Bits

_ALL = 0xFFFFFFFF


@rule(Lop3, lambda op: True, cost=8)
def bit_function(b: Builder, op: Lop3, machine: Machine) -> Value:
    """The disjunction of the rows of the truth table that are true."""
    e = Bits(b, op.a.tile.shape)
    result = e.const(0, op.a.tile.dtype)
    for row in range(8):
        if op.table >> row & 1:
            x, y, z = (v if row >> k & 1 else e.op("xor", v, _ALL) for k, v in ((2, op.a), (1, op.b), (0, op.c)))
            result = e.op("or", result, e.op("and", e.op("and", x, y), z))
    return result


@rule(FunnelShift, lambda op: True, cost=3)
def shift_of_two(b: Builder, op: FunnelShift, machine: Machine) -> Value:
    e = Bits(b, op.low.tile.shape)
    return e.op("or", e.op("shr", op.low, op.by), e.op("shl", op.high, 32 - op.by))


@rule(BytePermute, lambda op: op.control is not None, cost=30)
def bytes_by_numbers(b: Builder, op: BytePermute, machine: Machine) -> Value:
    assert op.control is not None
    e = Bits(b, op.low.tile.shape)
    both = e.op("or", e.to(op.low, u64), e.op("shl", e.to(op.high, u64), 32))
    result = e.const(0, op.low.tile.dtype)
    for k in range(4):
        nibble = e.op("and", e.op("shr", op.control, 4 * k), 15)
        place = e.to(e.op("mul", e.op("and", nibble, 7), 8), u64)
        byte = e.to(e.op("and", e.op("lsr", both, place), 255), u32)
        byte = e.choose(e.test("ge", nibble, 8), e.op("mul", e.op("shr", byte, 7), 255), byte)
        result = e.op("or", result, e.op("shl", byte, 8 * k))
    return result


@rule(BytePermute, lambda op: True, cost=12)
def bytes_one_by_one(b: Builder, op: BytePermute, machine: Machine) -> Value:
    e = Bits(b, op.low.tile.shape)
    result = e.const(0, op.low.tile.dtype)
    for k in range(4):
        nibble = op.selector >> 4 * k & 15
        byte = e.op("and", e.op("shr", op.high if nibble & 4 else op.low, nibble % 4 * 8), 255)
        if nibble & 8:
            byte = e.op("mul", e.op("shr", byte, 7), 255)
        result = e.op("or", result, e.op("shl", byte, 8 * k))
    return result
