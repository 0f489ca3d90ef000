"""One pure tile operation at a time: from the arrays of its operands to those of its results."""

from __future__ import annotations

import numpy as np

from tilus.interp import elementwise, numbers, tiles
from tilus.interp.elementwise import Get, Rule
from tilus.interp.numbers import Array
from tilus.ir.codebooks import zero_code
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import f32, f64
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
from tilus.ir.ops.reduction import SCALE_BLOCKS


def evaluate(op: Operation, get: Get) -> list[Array] | None:
    """The results of a pure operation without regions; None for other operations."""
    rule = _RULES.get(type(op))
    return None if rule is None else rule(op, get)


def _reduce(op: Reduce, get: Get) -> list[Array]:
    return [tiles.reduce(op.kind, get(op.x), op.axis, op.x.tile.dtype)]


def _dot(op: Dot, get: Get) -> list[Array]:
    types = (op.a.tile.dtype, op.b.tile.dtype, op.accumulator.tile.dtype)
    if op.a_scales is not None and op.b_scales is not None:
        return [_scaled_dot(op, op.a_scales, op.b_scales, get)]
    a = get(op.a) if op.metadata is None else tiles.expanded(get(op.a), get(op.metadata))
    return [tiles.dot(a, get(op.b), get(op.accumulator), *types)]


def _scaled_dot(op: Dot, a_scales: Value, b_scales: Value, get: Get) -> Array:
    block = SCALE_BLOCKS[a_scales.tile.dtype]
    numbers = []
    for operand, scales, dtype, axis in zip((op.a, op.b), (a_scales, b_scales), op.elements, (1, 0), strict=True):
        codes = get(operand)
        if operand.tile.dtype is not dtype:
            codes = codes >> (2 if dtype.bits == 4 else 0)
        numbers.append(tiles.scaled(codes, dtype, get(scales), scales.tile.dtype, axis, block))
    return tiles.dot(numbers[0], numbers[1], get(op.accumulator), f64, f64, f32)


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
