"""The integers of lowered code: what scalar operations give for known operands. None is a number that is not known."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Binary, Cast, Compare, Const, PtrAdd, PtrCast, Select, Unary
from tilus.ir.ops.simd import FunctionAddress, IntToPtr, PtrToInt
from tilus.ir.types import PointerType
from tilus.lowering.cpu.block import container_bytes

Number = Any
"""An int, a bool, a float, the name of a function, or None."""


def _quotient(a: int, b: int) -> int | None:
    """Toward zero."""
    if b == 0:
        return None
    return a // b if (a >= 0) == (b > 0) else -(-a // b)


def _remainder(a: int, b: int) -> int | None:
    quotient = _quotient(a, b)
    return None if quotient is None else a - quotient * b


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "min": min, "max": max, "and": operator.and_,
    "or": operator.or_, "xor": operator.xor, "quo": _quotient, "rem": _remainder,
    "floordiv": lambda a, b: a // b if b else 0, "mod": lambda a, b: a % b if b else a,
    "shl": lambda a, b: a << b if 0 <= b < 64 else 0, "lsl": operator.lshift, "asr": operator.rshift,
    "shr": lambda a, b: a >> min(b, 63), "lsr": lambda a, b: (a & (1 << 64) - 1) >> b,
    "div": lambda a, b: a / b if b else None,
}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
UNARY: dict[str, Callable[[Any], Any]] = {"neg": operator.neg, "abs": abs}


size_of = functools.cache(container_bytes)
"""Bytes of an element in memory, by its type."""


def element_bytes(pointer: Value) -> int:
    """Bytes of what a pointer points to."""
    assert isinstance(pointer.type, PointerType)
    return size_of(pointer.type.dtype)


def _binary(op: Binary, x: Sequence[Number]) -> Number:
    a, b = x
    if op.kind == "and" and (a is False or b is False):
        return False
    if op.kind == "or" and (a is True or b is True):
        return True
    rule = BINARY.get(op.kind)
    return None if a is None or b is None or rule is None else rule(a, b)


def _compare(op: Compare, x: Sequence[Number]) -> Number:
    return None if x[0] is None or x[1] is None else COMPARE[op.kind](x[0], x[1])


def _select(op: Select, x: Sequence[Number]) -> Number:
    condition, a, b = x
    if condition is None:
        return a if a == b else None
    return a if condition else b


def _cast(op: Cast, x: Sequence[Number]) -> Number:
    if x[0] is None:
        return None
    return bool(x[0]) if op.dtype.is_bool else float(x[0]) if op.dtype.is_float else int(x[0])


def _unary(op: Unary, x: Sequence[Number]) -> Number:
    if x[0] is None:
        return None
    if op.kind == "not":
        return not x[0] if isinstance(x[0], bool) else ~x[0]
    rule = UNARY.get(op.kind)
    return None if rule is None else rule(x[0])


def _ptr_add(op: PtrAdd, x: Sequence[Number]) -> Number:
    size = element_bytes(op.pointer)
    if x[0] is None or (op.offset is not None and x[1] is None):
        return None
    return x[0] + size * (op.constant + (x[1] if op.offset is not None else 0))


def _same(op: Operation, x: Sequence[Number]) -> Number:
    return x[0]


EVALUATE: dict[type[Operation], Callable[[Any, Sequence[Number]], Number]] = {
    Binary: _binary, Compare: _compare, Select: _select, Cast: _cast, Unary: _unary, PtrAdd: _ptr_add,
    PtrCast: _same, IntToPtr: _same, PtrToInt: _same,
    Const: lambda op, x: op.value, FunctionAddress: lambda op, x: op.callee,
}
"""By class, from the operation and its operands' numbers to its own."""
