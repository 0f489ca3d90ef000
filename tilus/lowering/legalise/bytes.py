"""Conversions of 8-bit floats by the instructions of targets that have them."""

from __future__ import annotations

import math

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import f16, f32
from tilus.ir.ops import Cast, Compare, Const, Select, Unary
from tilus.ir.ops.simt import CvtFp8
from tilus.lowering.legalise.legality import Machine, rounds
from tilus.lowering.legalise.rules import rule


def _from_byte(op: Cast, machine: Machine) -> bool:
    return bool(machine.rows_of(CvtFp8, "", op.x.tile.dtype, f16))


def _to_byte(op: Cast, machine: Machine) -> bool:
    exact = not rounds(op.x.tile.dtype, f32)
    return exact and op.rounding == "rn" and bool(machine.rows_of(CvtFp8, "", f32, op.dtype))


@rule(Cast, _from_byte, asks_machine=True, cost=6)
def number_by_instruction(b: Builder, op: Cast, machine: Machine) -> Value:
    number = b.add(CvtFp8(op.x, f16)).result
    return number if op.dtype is f16 else b.add(Cast(number, op.dtype, op.rounding)).result


@rule(Cast, _to_byte, asks_machine=True, cost=6)
def code_by_instruction(b: Builder, op: Cast, machine: Machine) -> Value:
    """Types with infinities take them beyond the range, from halfway to the next power of two on."""
    dtype, shape = op.dtype, op.x.tile.shape
    x = op.x if op.x.tile.dtype is f32 else b.add(Cast(op.x, f32)).result
    code = b.add(CvtFp8(x, dtype)).result
    if dtype.specials != "ieee":
        return code if dtype.nan_code is not None else _without_nans(b, x, code)
    limit = 2.0 ** (dtype.bias + 1) * (1 - 2.0 ** -(dtype.mantissa + 2))
    beyond = b.add(Compare("ge", b.add(Unary("abs", x)).result, b.add(Const(limit, f32, shape)).result)).result
    negative = b.add(Compare("lt", x, b.add(Const(0.0, f32, shape)).result)).result
    infinities = [b.add(Const(sign * math.inf, dtype, shape)).result for sign in (-1, 1)]
    return b.add(Select(beyond, b.add(Select(negative, *infinities)).result, code)).result


def _without_nans(b: Builder, x: Value, code: Value) -> Value:
    """NaNs are 0, in types that have none."""
    zero = b.add(Const(0.0, code.tile.dtype, code.tile.shape)).result
    return b.add(Select(b.add(Unary("isnan", x)).result, zero, code)).result
