"""Accesses to the first lanes of a vector that are most often all of them. They are plain then: long streams are not
fetched ahead of masked loads, and where masks are not for all instructions, masked stores take several times as long as
plain ones, and masked accesses to small elements are made of single ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, u8, u16, u32
from tilus.ir.ops import Extract, MaskedLoad, MaskedStore, PtrLoad, PtrStore, Select, Shuffle
from tilus.ir.ops.thread import pointer_type
from tilus.ir.ops.words import Regroup
from tilus.ir.types import TileType
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.shared_functions import call_shared
from tilus.lowering.cpu.values import Machine, Number

WORD = 32
"""Bits of the smallest elements that have masks where not all have."""


def load_first(self: BlockLowering, pointer: Value, count: Number, lanes: int, other: Value | None) -> Value:
    """A vector whose first ``count`` lanes are loaded (any number: no lanes, all of them); the others are those of
    ``other``, or 0."""
    c, dtype = self.c, pointer_type(pointer).dtype

    def part(c: Cursor, pointer: Value, count: Value, *others: Value) -> Value:
        other = others[0] if others else None
        if _by_words(self.machine, dtype, lanes):
            return _load_by_words(c, pointer, c.value(c.max(count, 0)), lanes, other)
        return c.b.add(MaskedLoad(pointer, c.lanes_below(count, lanes), other)).result

    def some() -> Sequence[Value]:
        given = [c.as_pointer(pointer, dtype), c.value(count), *([] if other is None else [other])]
        if dtype.bits >= WORD and lanes * dtype.bits <= 8 * self.machine.vector_bytes:
            return [part(c, *given)]
        name = f"load_first_{dtype}x{lanes}{'' if other is None else '_or'}"
        return call_shared(self, name, given, [TileType(dtype, (lanes,))], lambda c, given: [part(c, *given)])

    return c.branch(c.compare("ge", count, lanes), lambda: [c.b.add(PtrLoad(pointer, lanes)).result], some)[0]


def _by_words(machine: Machine, dtype: DType, lanes: int) -> bool:
    """Whether the machine has masks for words but not for these elements, of whose lanes LLVM makes a branch each."""
    if machine.masks or machine.vector_bytes < 32 or dtype.is_bool or dtype.bits not in (8, 16):
        return False
    return lanes * dtype.bits >= 2 * WORD


def _load_by_words(c: Cursor, pointer: Value, count: Value, lanes: int, other: Value | None) -> Value:
    """As many whole words as the first ``count`` lanes fill, of which there are fewer than all, then what is left of
    them: half a word, a quarter of one."""
    dtype = pointer_type(pointer).dtype
    each = WORD // dtype.bits
    mask = c.lanes_below(c.arith("quo", count, each), lanes // each)
    fill = None if other is None else c.b.add(Regroup(other, u32)).result
    found = c.b.add(MaskedLoad(c.as_pointer(pointer, u32), mask, fill)).result
    for piece in (u16, u8):
        if piece.bits >= dtype.bits:
            found = _with_piece(c, pointer, count, found, piece, piece.bits // dtype.bits)
    return c.b.add(Regroup(found, dtype)).result


def _with_piece(c: Cursor, pointer: Value, count: Value, words: Value, piece: DType, width: int) -> Value:
    """``words`` with the ``width`` lanes that are left when pieces of twice that many have been loaded, if any are."""

    def load() -> list[Value]:
        start = c.arith("and", count, -2 * width)
        loaded = c.b.add(PtrLoad(c.as_pointer(c.offset(pointer, start), piece))).result
        pieces = c.b.add(Regroup(words, piece)).result
        lanes = pieces.tile.size
        there = c.compare("eq", c.lane_numbers(u16, lanes), c.splat(c.cast(c.arith("quo", start, width), u16), lanes))
        return [c.b.add(Regroup(c.b.add(Select(there, c.splat(loaded, lanes), pieces)).result, u32)).result]

    return c.branch(c.compare("ne", c.arith("and", count, width), 0), load, lambda: [words])[0]


def store_first(self: BlockLowering, pointer: Value, count: Number, value: Value) -> None:
    """Write the first ``count`` lanes of a vector: no lanes, all of them, or any number between."""
    c, lanes = self.c, value.tile.size

    def whole() -> None:
        c.b.add(PtrStore(pointer, value))

    def part() -> None:
        if self.machine.masks:
            c.b.add(MaskedStore(pointer, value, c.lanes_below(count, lanes)))
            return
        dtype = pointer_type(pointer).dtype
        given = [c.as_pointer(pointer, dtype), c.value(count), value]
        call_shared(self, f"store_first_{dtype}x{lanes}", given, [], lambda c, given: c.branch(
            c.compare("gt", given[1], 0), lambda: _store_by_halves(c, *given)))

    c.branch(c.compare("ge", count, lanes), whole, part)


def _store_by_halves(c: Cursor, pointer: Value, count: Value, value: Value) -> None:
    """Write the first lanes of a vector, of which there are fewer than all."""
    rest = value
    while rest.tile.size > 1:
        width = rest.tile.size // 2
        low, high = (c.b.add(Shuffle(rest, tuple(range(n, n + width)))).result for n in (0, width))

        def put(rest: Value = rest, low: Value = low, high: Value = high, width: int = width) -> list[Value]:
            first = c.offset(pointer, c.arith("and", count, -2 * width))
            c.b.add(PtrStore(first, low if width > 1 else c.b.add(Extract(rest, 0)).result))
            return [high]

        def skip(low: Value = low) -> list[Value]:
            return [low]

        rest = c.branch(c.compare("ne", c.arith("and", count, width), 0), put, skip)[0]


__all__ = ["load_first", "store_first"]
