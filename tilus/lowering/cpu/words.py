"""Words of several neighbours, gathered: as they lie in memory where that has them whole, else element by element."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i32, integer, u32
from tilus.ir.ops import Binary, Bitcast, Cast, GatherWords, PtrLoad, PtrStore, Select
from tilus.ir.ops.simd import GatherLoad
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.combining import Combiner
from tilus.lowering.cpu.memory import load_gathered
from tilus.lowering.cpu.values import Memory, Number

FARTHEST = int(i32.max_value)
"""Element that offsets of 32 bits reach."""


def load_words(self: BlockLowering, op: GatherWords, indices: Sequence[Value], mask: Value | None, lanes: int) -> Value:
    """A word for each lane."""
    memory = self.views[op.view]
    indices = [self.c.splat(i, lanes) for i in indices]
    whole = _whole(self, memory, indices, op.count, mask, lanes)
    return self.c.branch(whole, lambda: [_at_once(self, memory, indices, lanes)],
                         lambda: [_one_by_one(self, op, indices, mask, lanes)])[0]


def _whole(self: BlockLowering, memory: Memory, indices: Sequence[Value], count: int, mask: Value | None, lanes: int
           ) -> Value:
    """Whether all words are in a small memory of the view's, their elements in bounds, and none is masked; false where
    that takes long to find out."""
    c, room = self.c, u32.bits // memory.dtype.bits
    reach: Number = 0
    for high, stride in zip(memory.highs, memory.strides, strict=True):
        reach = c.add(reach, c.max(c.mul(c.sub(high, 1), stride), 0))
    whole: Value | None = c.compare("le", reach, FARTHEST)
    alone = len(indices) == 1
    for d, (index, low, high) in enumerate(zip(indices, memory.lows, memory.highs, strict=True)):
        last = c.sub(high, 1 if d < len(indices) - 1 else room if alone else count)
        whole = c.both(whole, _within(self, index, low, last, mask, lanes))
    if not alone:  # what follows a row's end may be beyond that of the memory
        offsets = _offsets(self, memory, indices, lanes)
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


def _offsets(self: BlockLowering, memory: Memory, indices: Sequence[Value], lanes: int) -> Value:
    """In elements, i32: those in bounds of a small memory are what they are."""
    c, total = self.c, None
    for index, stride in zip(indices, memory.strides, strict=True):
        part = index if index.tile.dtype is i32 else c.b.add(Cast(index, i32)).result
        if not isinstance(stride, int) or stride != 1:
            part = c.b.add(Binary("mul", part, c.splat(c.cast(c.value(stride), i32), lanes))).result
        total = part if total is None else c.b.add(Binary("add", total, part)).result
    assert total is not None
    return total


def _at_once(self: BlockLowering, memory: Memory, indices: Sequence[Value], lanes: int) -> Value:
    offsets = self.c.b.add(Bitcast(_offsets(self, memory, indices, lanes), u32)).result
    return self.c.b.add(GatherLoad(memory.pointer, offsets, None, None, u32)).result


def _one_by_one(self: BlockLowering, op: GatherWords, indices: Sequence[Value], mask: Value | None, lanes: int
                ) -> Value:
    """Lane by lane in a loop, since that is seldom, and code of all lanes is long."""
    if not lanes:
        return _by_elements(self, op, indices, mask)
    c, top = self.c, self.frame_top
    kept = [_kept(self, v, lanes) for v in (*indices, *(() if mask is None else (c.splat(mask, lanes),)))]
    words = self.allocate_raw(u32, lanes)

    def lane(n: Value, _: list[Value]) -> None:
        loaded = [c.b.add(PtrLoad(c.offset(p, n))).result for p in kept]
        word = _by_elements(self, op, loaded[: len(indices)], loaded[-1] if mask is not None else None)
        c.b.add(PtrStore(c.offset(words, n), word))

    c.loop(0, lanes, 1, [], lane)
    self.frame_top = top
    return c.b.add(PtrLoad(words, lanes)).result


def _kept(self: BlockLowering, vector: Value, lanes: int) -> Value:
    """A vector in the frame."""
    pointer = self.allocate_raw(vector.tile.dtype, lanes)
    self.c.b.add(PtrStore(pointer, vector))
    return pointer


def _by_elements(self: BlockLowering, op: GatherWords, indices: Sequence[Value], mask: Value | None) -> Value:
    c, memory = self.c, self.views[op.view]
    code: DType = integer(memory.dtype.bits, signed=False)
    word = c.const(0, u32)
    for n in range(op.count):
        at = c.b.add(Binary("add", indices[-1], c.const(n, indices[-1].tile.dtype))).result
        element = load_gathered(self, memory, (*indices[:-1], at), mask, None, 0)
        part = c.b.add(Cast(c.b.add(Bitcast(element, code)).result, u32)).result
        part = c.b.add(Binary("shl", part, c.const(n * code.bits, u32))).result if n else part
        word = c.b.add(Binary("or", word, part)).result
    return word


__all__ = ["load_words"]
