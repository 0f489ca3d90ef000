"""How much work a block is: by it a launch decides how many cores are worth waking."""

from __future__ import annotations

import math
from collections.abc import Callable

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Atomic, Dot, For, If, While
from tilus.ir.types import TileType
from tilus.lowering.cpu.cost import cost_of
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.values import Number

UNKNOWN = 1 << 62
"""More than any block does."""
MUCH = 1 << 30
"""As much as keeps all cores busy. Sums and products of work stop there, so that none overflows."""


LONE, LOCKED = 2, 8
"""The work of an atomic, by plain instructions and by a locked one."""


class Sum:
    """A number for what a block does: the sum over its operations, those of loops as often as they run.

    Args:
        c: where the code goes that computes trip counts.
        known: a value of the kernel before it runs, as an i64; None where it is not known then.
        each: the number for an operation, given the sum over its regions.
        trips: those of loops where they are not known before the block runs; UNKNOWN: then the sum is as well.
    """

    def __init__(self, c: Cursor, known: Callable[[Value], Number | None], each: Callable[[Operation, Number], Number],
                 trips: int = UNKNOWN) -> None:
        self.c, self.known, self.each, self.trips = c, known, each, trips

    def of(self, block: Block) -> Number:
        """The sum; UNKNOWN, or at most MUCH."""
        total: Number = 0
        for op in block.ops:
            number = self._op(op)
            if number == UNKNOWN:
                return UNKNOWN
            total = self._much(self.c.add(total, number))
        return total

    def _op(self, op: Operation) -> Number:
        inner = [self.of(region) for region in op.regions]
        if UNKNOWN in inner:
            return UNKNOWN
        if isinstance(op, If):
            return self.c.max(*inner)
        total: Number = 0
        for number in inner:
            total = self.c.add(total, number)
        if isinstance(op, (For, While)):
            trips = self._trips(op) if isinstance(op, For) else self.trips
            return UNKNOWN if trips == UNKNOWN else self._much(self.c.mul(trips, total))
        return self._much(self.each(op, total))

    def _much(self, number: Number) -> Number:
        return self.c.min(number, MUCH)

    def _trips(self, loop: For) -> Number:
        step = self.known(loop.step)
        start, stop = self.known(loop.start), self.known(loop.stop)
        if not isinstance(step, int) or step <= 0 or start is None or stop is None:
            return self.trips
        c = self.c
        span = self._much(c.max(c.sub(stop, start), 0))
        rounded = c.add(span, step - 1)
        return rounded // step if isinstance(rounded, int) else c.arith("floordiv", rounded, step)


class Work:
    """An estimate of what an operation does, in instructions on vectors, which are about as many cycles where memory is
    near; ``atomics`` says whether those that other blocks see count."""

    def __init__(self, c: Cursor, vector_bytes: int, *, atomics: bool = True) -> None:
        self.c, self.vector_bytes, self.atomics = c, vector_bytes, atomics

    def __call__(self, op: Operation, inner: Number) -> Number:
        if isinstance(op, Atomic):
            return op.value.tile.size * (LONE if is_own(op) else LOCKED if self.atomics else 0)
        vectors = max((_vectors(v, self.vector_bytes) for v in (*op.operands, *op.results)), default=1)
        if isinstance(op, Dot):
            return min(MUCH, vectors + _vectors(op.result, self.vector_bytes) * op.a.tile.shape[-1])
        return self.c.mul(vectors, self.c.add(cost_of(op), inner))


def is_own(op: Atomic) -> bool:
    """Whether only the block itself is at the memory of an atomic: one core runs it."""
    return op.view.view.space == "shared" or op.scope == "block"


def _vectors(value: Value, vector_bytes: int) -> int:
    """The vectors that hold a tile."""
    if not isinstance(value.type, TileType):
        return 1
    elements = math.prod(value.tile.shape)
    return -(-elements * max(8, value.tile.dtype.bits) // (8 * vector_bytes))


__all__ = ["LOCKED", "LONE", "MUCH", "UNKNOWN", "Sum", "Work", "is_own"]
