"""How much work a block is: by it a launch decides how many cores are worth waking."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Const, Dot, For, If, While
from tilus.ir.types import TileType
from tilus.lowering.cpu.cost import cost_of

UNKNOWN = 1 << 62
"""More than any block does."""


def work_of(block: Block, vector_bytes: int) -> int:
    """An estimate in instructions on vectors, which are about as many cycles where memory is near; UNKNOWN where the
    block has loops whose trip count is not known before it runs."""
    return min(UNKNOWN, sum(_work(op, vector_bytes) for op in block.ops))


def _work(op: Operation, vector_bytes: int) -> int:
    inner = [work_of(region, vector_bytes) for region in op.regions]
    if isinstance(op, While):
        return UNKNOWN
    if isinstance(op, For):
        trips = _trips(op)
        return UNKNOWN if trips is None else trips * inner[0]
    if isinstance(op, If):
        return max(inner)
    vectors = max((_vectors(v, vector_bytes) for v in (*op.operands, *op.results)), default=1)
    if isinstance(op, Dot):
        return vectors + _vectors(op.result, vector_bytes) * op.a.tile.shape[-1]
    return vectors * (cost_of(op) + sum(inner))


def _vectors(value: Value, vector_bytes: int) -> int:
    """The vectors that hold a tile."""
    if not isinstance(value.type, TileType):
        return 1
    elements = math.prod(value.tile.shape)
    return -(-elements * max(8, value.tile.dtype.bits) // (8 * vector_bytes))


def _trips(loop: For) -> int | None:
    bounds: Sequence[Value] = (loop.start, loop.stop, loop.step)
    made = [v.owner for v in bounds]
    if not all(isinstance(op, Const) for op in made):
        return None
    start, stop, step = (int(op.value) for op in made if isinstance(op, Const))
    return len(range(start, stop, step))


__all__ = ["UNKNOWN", "work_of"]
