"""Words of several neighbours, gathered: as they lie in memory where that has them whole, else element by element."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, integer, u32
from tilus.ir.ops import Binary, Bitcast, Cast, GatherWords, PtrLoad, PtrStore
from tilus.ir.ops.simd import GatherLoad
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.inside import all_inside, small_offsets
from tilus.lowering.cpu.memory import load_gathered
from tilus.lowering.cpu.values import Memory


def load_words(self: BlockLowering, op: GatherWords, indices: Sequence[Value], mask: Value | None, lanes: int) -> Value:
    """A word for each lane."""
    memory = self.views[op.view]
    indices = [self.c.splat(i, lanes) for i in indices]
    whole = all_inside(self, memory, indices, mask, lanes, op.count, u32.bits // memory.dtype.bits)
    return self.c.branch(whole, lambda: [_at_once(self, memory, indices, lanes)],
                         lambda: [_one_by_one(self, op, indices, mask, lanes)])[0]


def _at_once(self: BlockLowering, memory: Memory, indices: Sequence[Value], lanes: int) -> Value:
    offsets = small_offsets(self, memory, indices, lanes)
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
