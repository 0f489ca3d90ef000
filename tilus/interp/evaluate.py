"""One pure tile operation at a time: from the arrays of its operands to those of its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.interp import elementwise, numbers, tiles
from tilus.interp.numbers import Array
from tilus.ir.core import Operation, Value
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Concat,
    Const,
    ConvertLayout,
    Dot,
    Fma,
    Insert,
    Iota,
    MulHi,
    Philox,
    Reduce,
    Reshape,
    Scan,
    Select,
    Slice,
    Take,
    Transpose,
    Unary,
    View,
)

Get = Callable[[Value], Any]
Rule = Callable[[Any, Get], "list[Array]"]


def evaluate(op: Operation, get: Get) -> list[Array] | None:
    """The results of a pure operation without regions; None for other operations."""
    rule = _RULES.get(type(op))
    return None if rule is None else rule(op, get)


def _reduce(op: Reduce, get: Get) -> list[Array]:
    return [tiles.reduce(op.kind, get(op.x), op.axis, op.x.tile.dtype)]


def _dot(op: Dot, get: Get) -> list[Array]:
    types = (op.a.tile.dtype, op.b.tile.dtype, op.accumulator.tile.dtype)
    return [tiles.dot(get(op.a), get(op.b), get(op.accumulator), *types)]


def _compare(op: Compare, get: Get) -> list[Array]:
    x, y = get(op.lhs), get(op.rhs)
    dtype = op.lhs.tile.dtype
    if dtype.is_float and not dtype.is_arithmetic:
        x, y = numbers.decode(x, dtype), numbers.decode(y, dtype)
    return [elementwise.compare(op.kind, x, y)]


_RULES: dict[type[Operation], Rule] = {
    Const: lambda op, get: [numbers.constant(op.value, op.dtype, op.shape)],
    Iota: lambda op, get: [np.broadcast_to(
        np.arange(op.shape[op.axis]).reshape([-1 if d == op.axis else 1 for d in range(len(op.shape))]), op.shape
    ).astype(numbers.held_as(op.dtype))],
    Unary: lambda op, get: [elementwise.unary(op.kind, get(op.x), op.x.tile.dtype)],
    Binary: lambda op, get: [elementwise.binary(op.kind, get(op.lhs), get(op.rhs), op.lhs.tile.dtype)],
    Fma: lambda op, get: [elementwise.fma(get(op.a), get(op.b), get(op.c), op.a.tile.dtype)],
    MulHi: lambda op, get: [elementwise.mulhi(get(op.lhs), get(op.rhs), op.lhs.tile.dtype)],
    Compare: _compare,
    Select: lambda op, get: [np.asarray(np.where(get(op.condition), get(op.x), get(op.y)))],
    Cast: lambda op, get: [numbers.cast(get(op.x), op.x.tile.dtype, op.dtype, op.rounding)],
    Bitcast: lambda op, get: [numbers.bitcast(get(op.x), op.x.tile.dtype, op.dtype)],
    Broadcast: lambda op, get: [np.broadcast_to(get(op.x), op.shape)],
    Philox: lambda op, get: elementwise.philox(get(op.seed), get(op.offset)),
    Reshape: lambda op, get: [np.reshape(get(op.x), op.shape)],
    Transpose: lambda op, get: [np.transpose(get(op.x), op.permutation)],
    Slice: lambda op, get: [get(op.x)[tiles.box(op.starts, op.sizes)]],
    Insert: lambda op, get: [tiles.insert(get(op.x), get(op.part), op.starts)],
    Concat: lambda op, get: [np.concatenate([get(p) for p in op.parts], axis=op.axis)],
    Take: lambda op, get: [tiles.take(get(op.x), get(op.indices), op.axis)],
    Reduce: _reduce,
    Scan: lambda op, get: [tiles.scan(op.kind, get(op.x), op.axis, op.reverse, op.x.tile.dtype)],
    Dot: _dot,
    View: lambda op, get: [tiles.view_bits(get(op.x), op.x.tile.dtype, op.dtype, op.from_layout, op.layout)],
    ConvertLayout: lambda op, get: [get(op.x)],
}
