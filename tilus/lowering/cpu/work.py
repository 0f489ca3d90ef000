"""How much work a block is: by it a launch decides how many cores are worth waking."""

from __future__ import annotations

import math
from collections.abc import Callable

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Dot, For, If, While
from tilus.ir.types import TileType
from tilus.lowering.cpu.cost import cost_of
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.values import Number

UNKNOWN = 1 << 62
"""More than any block does."""
MUCH = 1 << 30
"""As much as keeps all cores busy. Sums and products of work stop there, so that none overflows."""


class BlockWork:
    """An estimate of what a block does, in instructions on vectors, which are about as many cycles where memory is
    near.

    Args:
        c: where the code goes that computes trip counts.
        known: a value of the kernel before it runs, as an i64; None where it is not known then.
    """

    def __init__(self, c: Cursor, vector_bytes: int, known: Callable[[Value], Number | None]) -> None:
        self.c, self.vector_bytes, self.known = c, vector_bytes, known

    def of(self, block: Block) -> Number:
        """The work of a block; UNKNOWN where it has loops whose trip count is not known before it runs."""
        total: Number = 0
        for op in block.ops:
            work = self._op(op)
            if work == UNKNOWN:
                return UNKNOWN
            total = self._much(self.c.add(total, work))
        return total

    def _op(self, op: Operation) -> Number:
        inner = [self.of(region) for region in op.regions]
        if isinstance(op, While) or UNKNOWN in inner:
            return UNKNOWN
        if isinstance(op, For):
            trips = self._trips(op)
            return UNKNOWN if trips is None else self._much(self.c.mul(trips, inner[0]))
        if isinstance(op, If):
            return self.c.max(*inner)
        vectors = max((_vectors(v, self.vector_bytes) for v in (*op.operands, *op.results)), default=1)
        if isinstance(op, Dot):
            return min(MUCH, vectors + _vectors(op.result, self.vector_bytes) * op.a.tile.shape[-1])
        each: Number = cost_of(op)
        for work in inner:
            each = self.c.add(each, work)
        return self._much(self.c.mul(vectors, each))

    def _much(self, work: Number) -> Number:
        return self.c.min(work, MUCH)

    def _trips(self, loop: For) -> Number | None:
        step = self.known(loop.step)
        start, stop = self.known(loop.start), self.known(loop.stop)
        if not isinstance(step, int) or step <= 0 or start is None or stop is None:
            return None
        c = self.c
        span = self._much(c.max(c.sub(stop, start), 0))
        rounded = c.add(span, step - 1)
        return rounded // step if isinstance(rounded, int) else c.arith("floordiv", rounded, step)


def _vectors(value: Value, vector_bytes: int) -> int:
    """The vectors that hold a tile."""
    if not isinstance(value.type, TileType):
        return 1
    elements = math.prod(value.tile.shape)
    return -(-elements * max(8, value.tile.dtype.bits) // (8 * vector_bytes))


__all__ = ["MUCH", "UNKNOWN", "BlockWork"]
