"""Sums of indices: what is the same for all elements is added up by the scalar unit, and to the tile once."""

from __future__ import annotations

from tilus.ir.core import Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Broadcast, Const
from tilus.lowering.ascend.comparisons import uniform_scalar
from tilus.lowering.ascend.replacement import replace_operations

Term = tuple[Value, int]
"""A value, and 1 or −1 for its sign."""


def add_numbers(module: Module) -> None:
    """Rewrite sums of i64, which wrap in whatever order they are added, in place."""
    replace_operations(module, _added)


def _added(op: Operation, ops: list[Operation]) -> Value | None:
    if not _is_sum(op):
        return None
    tiles: list[Term] = []
    numbers: list[Term] = []
    _collect(op.results[0], 1, tiles, numbers)
    if len(numbers) < 2 or len(tiles) != 1 or tiles[0][1] != 1:
        return None
    return _with_number(tiles[0][0], numbers, op, ops)


def _is_sum(op: Operation | None) -> bool:
    return isinstance(op, Binary) and op.kind in ("add", "sub") and op.result.tile.dtype is i64 and bool(
        op.result.tile.shape)


def _collect(value: Value, sign: int, tiles: list[Term], numbers: list[Term]) -> None:
    number = uniform_scalar(value)
    op = value.defining
    if number is not None and number.tile.dtype is i64:
        numbers.append((number, sign))
    elif isinstance(op, Binary) and _is_sum(op):
        _collect(op.lhs, sign, tiles, numbers)
        _collect(op.rhs, sign if op.kind == "add" else -sign, tiles, numbers)
    else:
        tiles.append((value, sign))


def _with_number(tile: Value, numbers: list[Term], op: Operation, ops: list[Operation]) -> Value:
    total: Value | None = None
    for number, sign in sorted(numbers, key=lambda term: -term[1]):
        if total is None and sign < 0:
            zero = Const(0, i64, span=op.span)
            ops.append(zero)
            total = zero.result
        if total is None:
            total = number
            continue
        added = Binary("add" if sign > 0 else "sub", total, number, span=op.span)
        ops.append(added)
        total = added.result
    assert total is not None
    spread = Broadcast(total, tile.tile.shape, span=op.span)
    result = Binary("add", tile, spread.result, span=op.span)
    ops += [spread, result]
    return result.result
