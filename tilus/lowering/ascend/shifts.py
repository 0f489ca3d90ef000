"""Shifts by a number for each element: by powers of two, where the bits of the number are set."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Module, Operation, Value
from tilus.ir.dtypes import i32
from tilus.ir.ops import Binary, Cast, Compare, Const, Select
from tilus.lowering.ascend.lazy import constant
from tilus.lowering.ascend.replacement import replace_operations


def expand_shifts(module: Module) -> None:
    """Replace shifts of tiles by what is not one constant, in place."""
    replace_operations(module, _expanded)


def _expanded(op: Operation, ops: list[Operation]) -> Value | None:
    if not (isinstance(op, Binary) and op.kind in ("shl", "shr") and op.lhs.tile.shape and constant(op.rhs) is None):
        return None
    dtype, shape = op.lhs.tile.dtype, op.lhs.tile.shape

    def emit(made: Operation) -> Value:
        made.span = op.span
        ops.append(made)
        return made.results[0]

    amount = op.rhs if dtype.bits >= 32 else emit(Cast(op.rhs, i32))
    counted = amount.tile.dtype
    result = op.lhs
    for bit in range(dtype.bits.bit_length() - 1):
        is_set = _set_bit(emit, amount, 1 << bit)
        moved = emit(Binary(op.kind, result, emit(Const(1 << bit, dtype, shape))))
        result = emit(Select(is_set, moved, result))
    in_range = emit(Compare("lt", amount, emit(Const(dtype.bits, counted, shape))))
    if counted.is_signed:
        at_least = emit(Compare("ge", amount, emit(Const(0, counted, shape))))
        in_range = emit(Binary("and", in_range, at_least))
    return emit(Select(in_range, result, _beyond(emit, op)))


def _set_bit(emit: Callable[[Operation], Value], amount: Value, bit: int) -> Value:
    tile = amount.tile
    zero, one = emit(Const(0, tile.dtype, tile.shape)), emit(Const(bit, tile.dtype, tile.shape))
    return emit(Compare("ne", emit(Binary("and", amount, one)), zero))


def _beyond(emit: Callable[[Operation], Value], op: Binary) -> Value:
    """What remains when all bits have been shifted out: zeros, or copies of the sign."""
    dtype, shape = op.lhs.tile.dtype, op.lhs.tile.shape
    if op.kind == "shr" and dtype.is_signed:
        return emit(Binary("shr", op.lhs, emit(Const(dtype.bits - 1, dtype, shape))))
    return emit(Const(0, dtype, shape))


__all__ = ["expand_shifts"]
