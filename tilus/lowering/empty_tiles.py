"""Tiles without elements are taken out: nothing has to be laid out, moved or stored for them."""

from __future__ import annotations

from tilus.ir.core import Module, Operation, Value
from tilus.ir.families import AsyncCopy
from tilus.ir.ops import Atomic, Concat, Const, Dot, For, If, Insert, Reduce, Scatter, Store, Take, While
from tilus.ir.rewriter import is_pure, rewrite_block
from tilus.ir.types import TileType, ViewType


def drop_empty_tiles(module: Module) -> None:
    """Make every empty tile a constant, drop its stores and copies, and give operations on it their results, in
    place."""
    for function in module.kernels:
        if any(_is_empty(v) for op in function.walk() for v in (*op.operands, *op.results)):
            mapping: dict[Value, Value] = {}
            rewrite_block(function.body, lambda op, mapping=mapping: _rewrite(op, mapping), mapping)  # type: ignore[misc]


def _is_empty(value: Value) -> bool:
    return isinstance(value.type, (TileType, ViewType)) and 0 in value.type.shape


def _is_empty_tile(value: Value) -> bool:
    return isinstance(value.type, TileType) and 0 in value.type.shape


def _rewrite(op: Operation, mapping: dict[Value, Value]) -> list[Operation] | None:
    if (isinstance(op, (Store, Scatter)) and _is_empty(op.value)) or (
            isinstance(op, AsyncCopy) and _is_empty(op.destination)):
        return []
    if op.results and all(map(_is_empty_tile, op.results)) and not isinstance(op, (Const, For, If, While)) and (
            isinstance(op, Atomic) or is_pure(op) or all(e.kind == "read" for e in op.effects())):
        return [_constant(r, 0, op, mapping) for r in op.results]
    if isinstance(op, Reduce) and _is_empty(op.x):
        return [_constant(op.result, int(op.kind in ("prod", "all")), op, mapping)]
    if isinstance(op, Take) and _is_empty(op.x):
        return [_constant(op.result, 0, op, mapping)]
    if isinstance(op, Dot) and _is_empty(op.a):
        mapping[op.result] = op.accumulator
        return []
    if isinstance(op, Insert) and _is_empty(op.part):
        mapping[op.result] = op.x
        return []
    if isinstance(op, Concat) and any(map(_is_empty, op.parts)):
        op.parts = tuple(p for p in op.parts if not _is_empty(p))
        if len(op.parts) == 1:
            mapping[op.result] = op.parts[0]
            return []
    return None


def _constant(old: Value, number: int, op: Operation, mapping: dict[Value, Value]) -> Const:
    dtype = old.tile.dtype
    value: int | float | bool = bool(number) if dtype.is_bool else float(number) if dtype.is_float else number
    new = Const(value, dtype, old.tile.shape, span=op.span)
    new.result.name = old.name
    mapping[old] = new.result
    return new
