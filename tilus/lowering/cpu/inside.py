"""Whether all lanes of a gather are in bounds, found out by few instructions: masks of single elements, of which there
are instructions on few processors, are for those that are not."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i32, integer, u32
from tilus.ir.ops import Binary, Bitcast, Cast, Select
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.combining import Combiner
from tilus.lowering.cpu.values import Memory, Number

FARTHEST = int(i32.max_value)
"""Element that offsets of 32 bits reach."""


def all_inside(self: BlockLowering, memory: Memory, indices: Sequence[Value], mask: Value | None, lanes: int,
               count: int = 1, room: int = 1) -> Value:
    """Whether the memory is small, ``count`` elements from each index on are in bounds, ``room`` are within the view's
    memory, and none is masked; it may be false where that takes longer to find out."""
    c = self.c
    reach: Number = 0
    before: Number = 0
    for high, stride in zip(memory.highs, memory.strides, strict=True):
        far = c.mul(c.sub(high, 1), stride)
        reach, before = c.add(reach, c.max(far, 0)), c.add(before, c.min(far, 0))
    whole: Value | None = c.compare("le", reach, FARTHEST)
    if not _rises(memory):
        whole = c.both(whole, c.compare("ge", before, -FARTHEST))
    alone = len(indices) == 1
    for d, (index, low, high) in enumerate(zip(indices, memory.lows, memory.highs, strict=True)):
        last = c.sub(high, 1 if d < len(indices) - 1 else room if alone else count)
        whole = c.both(whole, _within(self, index, low, last, mask, lanes))
    if room > count and not alone:  # what follows a row's end may be beyond that of the memory
        offsets = c.b.add(Cast(small_offsets(self, memory, indices, lanes), i32)).result
        whole = c.both(whole, _within(self, offsets, 0, c.sub(reach, room - 1), mask, lanes))
    assert whole is not None
    return whole


def _within(self: BlockLowering, index: Value, low: Number, last: Number, mask: Value | None, lanes: int) -> Value:
    """Whether all of an index are from ``low`` to ``last``, of a memory whose elements i32 counts."""
    c = self.c
    low = c.min(c.max(low, 0), FARTHEST)
    room = c.sub(c.min(last, FARTHEST), low)
    kind = integer(index.tile.dtype.bits, signed=False)
    start = c.splat(c.cast(c.value(low), index.tile.dtype), lanes)
    beyond = c.b.add(Bitcast(c.b.add(Binary("sub", index, start)).result, kind)).result
    if mask is not None:
        most = c.const(kind.max_value, kind, lanes)
        beyond = c.b.add(Select(c.splat(mask, lanes), beyond, most)).result
    worst = Combiner(self, "max", kind).across([beyond])[0] if lanes else beyond
    limit = c.cast(c.value(c.max(room, 0)), kind)
    return c.b.add(Binary("and", c.compare("le", worst, limit), c.compare("ge", room, 0))).result


def small_offsets(self: BlockLowering, memory: Memory, indices: Sequence[Value], lanes: int) -> Value:
    """In elements, of 32 bits: what they are where all are inside."""
    c, total = self.c, None
    for index, stride in zip(indices, memory.strides, strict=True):
        part = index if index.tile.dtype is i32 else c.b.add(Cast(index, i32)).result
        if not isinstance(stride, int) or stride != 1:
            part = c.b.add(Binary("mul", part, c.splat(c.cast(c.value(stride), i32), lanes))).result
        total = part if total is None else c.b.add(Binary("add", total, part)).result
    assert total is not None
    return c.b.add(Bitcast(total, u32)).result if _rises(memory) else total


def _rises(memory: Memory) -> bool:
    """Whether no element lies before the first one."""
    return all(isinstance(s, int) and s >= 0 for s in memory.strides)


__all__ = ["all_inside", "small_offsets"]
