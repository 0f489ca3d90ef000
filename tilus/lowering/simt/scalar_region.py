"""Scalar code of a region (a combine function, a map's body) put in place for one element."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import i32, u32
from tilus.ir.ops import Binary, Cast, Yield
from tilus.lowering.simt.context import Thread


def inline_scalar_block(thread: Thread, block: Block, arguments: Sequence[Value]) -> list[Value]:
    """Emit a copy of the block with these arguments; gives the values it yields.

    Scalar operations mean the same at thread level, so they are cloned as they are, but what may overflow.
    """
    _wrap_sums(block)
    mapping: dict[Value, Value] = dict(zip(block.args, arguments, strict=True))
    for inner in block.walk():  # values from outside that simplification has shared with the region
        for value in inner.operands:
            if value in thread.values and value not in mapping:
                mapping[value] = thread.widen(thread.value(value), value.tile.dtype)
    for op in block.ops:
        if isinstance(op, Yield):
            return [mapping.get(v, v) for v in op.values]
        thread.emit(op.clone(mapping))
    return []


def _wrap_sums(block: Block) -> None:
    """Sums, differences and products of i32 wrap: the same in unsigned numbers, where C says so too."""
    ops: list[Operation] = []
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        for inner in op.walk():
            inner.map_operands(lambda v: mapping.get(v, v))
        for region in op.regions:
            _wrap_sums(region)
        if isinstance(op, Binary) and op.kind in ("add", "sub", "mul") and op.result.tile.dtype is i32:
            unsigned = [Cast(v, u32, span=op.span) for v in (op.lhs, op.rhs)]
            total = Binary(op.kind, *(c.result for c in unsigned), span=op.span)
            back = Cast(total.result, i32, span=op.span)
            mapping[op.result] = back.result
            ops += [*unsigned, total, back]
            continue
        ops.append(op)
    block.ops = ops
