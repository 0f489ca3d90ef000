"""Scalar code of a region (a combine function, a map's body) put in place for one element."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Block, Value
from tilus.ir.ops import Yield
from tilus.lowering.simt.context import Thread


def inline_scalar_block(thread: Thread, block: Block, arguments: Sequence[Value]) -> list[Value]:
    """Emit a copy of the block with these arguments; gives the values it yields.

    Scalar operations mean the same at thread level, so they are cloned as they are.
    """
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
