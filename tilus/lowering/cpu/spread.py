"""Vectors whose lanes are some elements apart in memory: what suits elements that are denser than lanes.

A lane gets a word with the codes of several neighbours, and one shift of all words gives an element for each lane. So
``step`` vectors come out of one load, in an order of the elements that is undone once, when their products are written.
What the elements meet on the way (scales, zeros) is brought into the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, integer, u8, u16, u32
from tilus.ir.ops import Binary, Bitcast, MaskedLoad, Pack, PtrLoad, Shuffle
from tilus.ir.ops.words import Regroup
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.values import Coord, Coords, Memory, Number

WORD_BITS = 32


def can_spread(bits: int, step: int) -> bool:
    """Whether a word holds as many elements, wherever in a byte they begin."""
    return step * bits + max(n * step * bits % 8 for n in range(8)) <= WORD_BITS


def run_start(coords: Coords) -> tuple[Coords, int, int]:
    """Where the run begins that the lanes of a vector are of, which vector of the run it is, and how many it has."""
    coord = next(c for c in coords if c.vector)
    at = coord.const % coord.step
    start = Coord(coord.base, coord.const - at, True, coord.step)
    return tuple(start if c.vector else c for c in coords), at, coord.step


def spread(self: BlockLowering, run: Sequence[Value]) -> list[Value]:
    """Vectors of neighbours as vectors of every n-th element, where n is how many vectors there are."""
    b, count, lanes = self.c.b, len(run), run[0].tile.size
    whole = b.add(Pack(tuple(run))).result
    return [b.add(Shuffle(whole, tuple(range(first, count * lanes, count)))).result for first in range(count)]


def gathered(self: BlockLowering, parts: Sequence[Value]) -> list[Value]:
    """What :func:`spread` was made of."""
    b, count, lanes = self.c.b, len(parts), parts[0].tile.size
    whole = b.add(Pack(tuple(parts))).result
    order = [n % count * lanes + n // count for n in range(count * lanes)]
    return [b.add(Shuffle(whole, tuple(order[n : n + lanes]))).result for n in range(0, count * lanes, lanes)]


def load_spread_words(self: BlockLowering, memory: Memory, offset: Number, further: int, lanes: int, step: int
                      ) -> Value:
    """For each lane, in the low bits of a word, the ``step`` elements from ``offset + lane * step`` on, after
    ``further`` runs of all lanes. The runs begin at bytes. Above the elements is anything."""
    c, bits = self.c, step * memory.dtype.bits
    total = c.mul(offset, memory.dtype.bits)
    byte = total >> 3 if isinstance(total, int) else c.arith("shr", total, 3)
    pointer = c.offset(c.offset(memory.pointer, byte), further * lanes * bits // 8)
    whole: DType | None = {8: u8, 16: u16, 32: u32}.get(bits)
    if whole is not None:
        return c.cast(c.b.add(PtrLoad(c.as_pointer(pointer, whole), lanes, 1)).result, u32)
    count = lanes * bits // 8
    room = 1 << (count - 1).bit_length()
    if count == room:
        loaded = c.b.add(PtrLoad(pointer, count)).result
    else:
        loaded = c.b.add(MaskedLoad(pointer, c.lanes_below(count, room), None)).result
    firsts, shifts = [n * bits >> 3 for n in range(lanes)], [n * bits & 7 for n in range(lanes)]
    places = [min(first + k, count - 1) for first in firsts for k in range(WORD_BITS // 8)]
    words = c.b.add(Regroup(c.b.add(Shuffle(loaded, tuple(places))).result, u32)).result
    if not any(shifts):
        return words
    amounts: Value = c.once(("shifts", bits, lanes), lambda: c.b.add(Pack(tuple(
        c.const(n, u32) for n in shifts))).result)
    return c.b.add(Binary("lsr", words, amounts)).result


def shifted_words(self: BlockLowering, words: Value, amount: int) -> Value:
    """Words with what was ``amount`` bits up in their low bits."""
    return self.c.b.add(Binary("lsr", words, self.c.const(amount, u32, words.tile.size))).result if amount else words


def spread_codes(self: BlockLowering, dtype: DType, words: Value, at: int) -> Value:
    """Element ``at`` of each word."""
    c = self.c
    code = shifted_words(self, words, at * dtype.bits)
    code = c.b.add(Binary("and", code, c.const((1 << dtype.bits) - 1, u32, words.tile.size))).result
    return c.b.add(Bitcast(c.cast(code, integer(dtype.bits, signed=False)), dtype)).result


__all__ = ["can_spread", "gathered", "load_spread_words", "run_start", "shifted_words", "spread", "spread_codes"]
