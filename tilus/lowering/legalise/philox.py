"""Philox-4x32-10 (Salmon, Moraes, Dror and Shaw, 2011) as arithmetic on u32."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import u32
from tilus.ir.ops import Broadcast, MulHi, Philox
from tilus.lowering.legalise.legality import Machine
from tilus.lowering.legalise.rules import rule
from tilus.lowering.legalise.scalars import Bits

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


@rule(Philox, lambda op: True, cost=60)
def philox(b: Builder, op: Philox, machine: Machine) -> list[Value]:
    """The counter is (offset, 0), low word first, the key the seed."""
    scalar, e = Bits(b, ()), Bits(b, op.offset.tile.shape)
    key = list(_halves(scalar, op.seed))
    x = [*_halves(e, op.offset), e.const(0, u32), e.const(0, u32)]
    first, second = (e.const(m, u32) for m in MULTIPLIERS)
    for _ in range(ROUNDS):
        high_0, low_0 = b.add(MulHi(first, x[0])).result, e.op("mul", x[0], first)
        high_2, low_2 = b.add(MulHi(second, x[2])).result, e.op("mul", x[2], second)
        spread = [k if not e.shape else b.add(Broadcast(k, e.shape)).result for k in key]
        x = [e.op("xor", e.op("xor", high_2, x[1]), spread[0]), low_2,
             e.op("xor", e.op("xor", high_0, x[3]), spread[1]), low_0]
        key = [scalar.op("add", k, step) for k, step in zip(key, KEY_STEPS, strict=True)]
    return x


def _halves(e: Bits, x: Value) -> tuple[Value, Value]:
    return e.to(x, u32), e.to(e.op("shr", x, 32), u32)
