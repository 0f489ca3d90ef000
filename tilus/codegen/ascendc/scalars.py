"""Scalar expressions in C++."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Operation
from tilus.ir.dtypes import DType, bool_, f32, i64, u32
from tilus.ir.ops import Binary, Cast, Compare, Const, Select, Unary
from tilus.ir.ops.cores import CoreIndex

TYPES = {"i4": "int4b_t", "i8": "int8_t", "u8": "uint8_t", "i16": "int16_t", "u16": "uint16_t", "i32": "int32_t",
         "u32": "uint32_t", "i64": "int64_t", "u64": "uint64_t", "f32": "float", "f16": "half", "bf16": "bfloat16_t",
         "bool": "bool"}
_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "quo": "/", "rem": "%", "div": "/", "and": "&", "or": "|", "xor": "^",
              "shl": "<<", "shr": ">>", "lsl": "<<", "asr": ">>", "lsr": ">>"}
_CALLS = {"min": "Least", "max": "Greatest", "floordiv": "FloorDiv", "mod": "FloorMod"}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def type_name(dtype: DType) -> str:
    return TYPES[dtype.name]


def literal(value: float | int | bool, dtype: DType) -> str:
    if dtype is bool_:
        return str(bool(value)).lower()
    if dtype.is_float:
        if value != value or value in (float("inf"), float("-inf")):
            number = '__builtin_nanf("")' if value != value else f"{'-' if value < 0 else ''}__builtin_inff()"
        else:
            number = f"{float(value)!r}f"
        return number if dtype is f32 else f"{type_name(dtype)}({number})"
    if value == -(1 << 63):
        return "INT64_MIN"
    if dtype.bits < 32:  # of its own type, as templates want it
        return f"{type_name(dtype)}({int(value)})"
    wide = dtype is i64 and not -(1 << 31) < value < 1 << 31
    return f"{int(value)}{'LL' if wide else 'u' if dtype is u32 else ''}"


def expression(op: Operation, operand: Callable[[int], str]) -> str | None:
    """The text of a scalar operation, whose operands have the texts that ``operand`` gives; None for others."""
    if isinstance(op, Const):
        return literal(op.value, op.dtype)
    if isinstance(op, CoreIndex):
        return {"block": "GetBlockIdx()", "blocks": "GetBlockNum()", "part": "GetSubBlockIdx()",
                "whole": "GetBlockIdx() / 2"}[op.kind]
    if isinstance(op, Binary):
        return _binary(op, operand(0), operand(1))
    if isinstance(op, Compare):
        return f"{operand(0)} {_COMPARISONS[op.kind]} {operand(1)}"
    if isinstance(op, Select):
        return f"{operand(0)} ? {operand(1)} : {operand(2)}"
    if isinstance(op, Cast):
        if op.dtype is bool_:
            return f"{operand(0)} != 0"
        return f"static_cast<{type_name(op.dtype)}>({operand(0)})"
    if isinstance(op, Unary):
        return {"neg": f"-{operand(0)}", "not": f"!{operand(0)}" if op.x.tile.dtype is bool_ else f"~{operand(0)}",
                "abs": f"({operand(0)} < 0 ? -{operand(0)} : {operand(0)})"}.get(op.kind)
    return None


def _binary(op: Binary, x: str, y: str) -> str | None:
    dtype = op.lhs.tile.dtype
    if op.kind in _CALLS and (not dtype.is_float or op.kind in ("min", "max")):
        name = _CALLS[op.kind]
        return f"{name}<{type_name(dtype)}>({x}, {y})" if op.kind in ("min", "max") else f"{name}({x}, {y})"
    sign = _OPERATORS.get(op.kind)
    if sign is None:
        return None
    if dtype is bool_ and op.kind in ("and", "or"):
        sign *= 2
    return f"{x} {sign} {y}"
