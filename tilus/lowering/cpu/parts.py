"""Blocks in parts (``lowering/divide_blocks.py``): which rows a part has, and how many parts there are in a launch.

A launch of few blocks gives each core some: where cores would be left without, or would wait for the last blocks, the
blocks are divided so that all have about the same to do. What a part does anew is little beside its own work.
"""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Function, Operation, Value
from tilus.ir.ops import CutView, PartEdge, PartStart, PartStop, PtrLoad
from tilus.ir.ops.simd import ReturnIf
from tilus.lowering.cpu.block import BlockLowering, handles
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.state import STATE_PARTS
from tilus.lowering.cpu.values import Memory, Number

LEAST_WORK = 1 << 13
"""Of a part, by ``work.py``: less than that is done before another core has begun with it."""
MORE_PARTS = 4
"""How many numbers of parts a launch has the choice of, from the least on that gives all cores one."""
ALIKE = 16
"""Cores may be without work for this part of the time: a sixteenth."""
PART = 3
"""Where the number of the part is among a block's indices, behind those of the grid."""


@handles(PartStart)
def _part_start(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, PartStart)
    self.scalars[op.result] = _row_of(self, op, self.block_index[PART])


@handles(PartStop)
def _part_stop(self: BlockLowering, op: Operation) -> None:
    """Where the next part begins. A part that has no rows ends, but not a block that is not divided."""
    assert isinstance(op, PartStop)
    c, part = self.c, self.block_index[PART]
    stop = _row_of(self, op, c.value(c.add(part, 1)))
    empty = c.both(c.compare("gt", _parts(self), 1), c.compare("eq", stop, _row_of(self, op, part)))
    assert empty is not None
    c.b.add(ReturnIf(empty))
    self.scalars[op.result] = stop


def _parts(self: BlockLowering) -> Value:
    parts: Value = self.c.once("parts", lambda: self.c.b.add(PtrLoad(self.c.offset(self.state, STATE_PARTS))).result)
    return parts


def _row_of(self: BlockLowering, op: PartEdge, part: Value) -> Value:
    """Where a part begins; parts beyond those that there are rows for begin behind the last row."""
    def find() -> Value:
        c, needed = self.c, self.scalars[op.needed]
        count = c.min(c.max(c.arith("quo", needed, op.least), 1), _parts(self))
        steps = c.mul(part, c.arith("quo", needed, op.step))
        return c.select(c.compare("ge", part, count), needed, c.mul(c.arith("quo", steps, count), op.step))

    row: Value = self.c.once(("row of", op.needed, part), find)
    return row


@handles(CutView)
def _cut_view(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, CutView)
    m = self.views[op.view]
    stop = self.c.add(self.scalars[op.start], self.scalars[op.count])
    highs = tuple(self.c.min(high, stop) if d == op.axis else high for d, high in enumerate(m.highs))
    self.views[op.result] = Memory(m.pointer, m.dtype, m.lows, highs, m.extents, m.strides, m.root, m.origin, m.packed,
                                   m.read_only, m.order)


def parts_of_blocks(c: Cursor, kernel: Function, total: Number, work: Number, threads: Callable[[], Value]
                    ) -> Number:
    """Into how many parts each of ``total`` blocks is divided, 1 for none, given the work of all of them: the least
    number from which on cores have about the same to do, of those that are worth waking."""
    most = kernel.attributes.parts
    if not most:
        return 1
    cores = c.max(c.min(threads(), c.arith("quo", work, LEAST_WORK)), 1)
    least = c.arith("quo", c.add(cores, c.sub(c.max(total, 1), 1)), c.max(total, 1))
    parts: Number = c.add(least, MORE_PARTS - 1)
    for more in reversed(range(MORE_PARTS - 1)):
        tried = c.add(least, more)
        count = c.mul(total, tried)
        rounds = c.arith("quo", c.add(count, c.sub(cores, 1)), cores)
        alike = c.compare("ge", c.mul(count, ALIKE), c.mul(c.mul(rounds, cores), ALIKE - 1))
        parts = c.select(alike, tried, parts)
    return c.select(c.compare("eq", cores, 1), 1, c.min(parts, most))


__all__ = ["parts_of_blocks"]
