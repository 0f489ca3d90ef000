"""One pure tile operation at a time: from the arrays of its operands to those of its results."""

from __future__ import annotations

import numpy as np

from tilus.interp import elementwise, numbers, tiles
from tilus.interp.elementwise import Get, Rule
from tilus.interp.numbers import Array
from tilus.ir.codebooks import zero_code
from tilus.ir.core import Operation
from tilus.ir.ops import (
    Broadcast,
    Concat,
    Const,
    ConvertLayout,
    Dot,
    Insert,
    Iota,
    Reduce,
    Reshape,
    Scan,
    Slice,
    Take,
    Transpose,
    View,
)


def evaluate(op: Operation, get: Get) -> list[Array] | None:
    """The results of a pure operation without regions; None for other operations."""
    rule = _RULES.get(type(op))
    return None if rule is None else rule(op, get)


def _reduce(op: Reduce, get: Get) -> list[Array]:
    return [tiles.reduce(op.kind, get(op.x), op.axis, op.x.tile.dtype)]


def _dot(op: Dot, get: Get) -> list[Array]:
    types = (op.a.tile.dtype, op.b.tile.dtype, op.accumulator.tile.dtype)
    a = get(op.a) if op.metadata is None else tiles.expanded(get(op.a), get(op.metadata))
    return [tiles.dot(a, get(op.b), get(op.accumulator), *types)]


_RULES: dict[type[Operation], Rule] = {
    **elementwise.RULES,
    Const: lambda op, get: [numbers.constant(op.value, op.dtype, op.shape)],
    Iota: lambda op, get: [np.broadcast_to(
        np.arange(op.shape[op.axis]).reshape([-1 if d == op.axis else 1 for d in range(len(op.shape))]), op.shape
    ).astype(numbers.held_as(op.dtype))],
    Broadcast: lambda op, get: [np.broadcast_to(get(op.x), op.shape)],
    Reshape: lambda op, get: [np.reshape(get(op.x), op.shape)],
    Transpose: lambda op, get: [np.transpose(get(op.x), op.permutation)],
    Slice: lambda op, get: [get(op.x)[tiles.box(op.starts, op.sizes)]],
    Insert: lambda op, get: [tiles.insert(get(op.x), get(op.part), op.starts)],
    Concat: lambda op, get: [np.concatenate([get(p) for p in op.parts], axis=op.axis)],
    Take: lambda op, get: [tiles.take(get(op.x), get(op.indices), op.axis, zero_code(op.x.tile.dtype))],
    Reduce: _reduce,
    Scan: lambda op, get: [tiles.scan(op.kind, get(op.x), op.axis, op.reverse, op.x.tile.dtype)],
    Dot: _dot,
    View: lambda op, get: [tiles.view_bits(get(op.x), op.x.tile.dtype, op.dtype, op.from_layout, op.layout)],
    ConvertLayout: lambda op, get: [get(op.x)],
}
