"""Accesses to the first lanes of a vector that are most often all of them. They are plain then: long streams are not
fetched ahead of masked loads, and where masks are not for all instructions, masked stores take several times as long as
plain ones, and masked accesses to small elements are made of single ones.
"""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.ops import Extract, MaskedLoad, MaskedStore, PtrLoad, PtrStore, Shuffle
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.values import Number


def load_first(self: BlockLowering, pointer: Value, count: Number, lanes: int, other: Value | None) -> Value:
    """A vector whose first ``count`` lanes are loaded (any number: no lanes, all of them); the others are those of
    ``other``, or 0."""
    c = self.c

    def whole() -> list[Value]:
        return [c.b.add(PtrLoad(pointer, lanes)).result]

    def part() -> list[Value]:
        return [c.b.add(MaskedLoad(pointer, c.lanes_below(count, lanes), other)).result]

    return c.branch(c.compare("ge", count, lanes), whole, part)[0]


def store_first(self: BlockLowering, pointer: Value, count: Number, value: Value) -> None:
    """Write the first ``count`` lanes of a vector: no lanes, all of them, or any number between."""
    c, lanes = self.c, value.tile.size

    def whole() -> None:
        c.b.add(PtrStore(pointer, value))

    def part() -> None:
        if self.machine.masks:
            c.b.add(MaskedStore(pointer, value, c.lanes_below(count, lanes)))
        else:
            c.branch(c.compare("gt", count, 0), lambda: _store_by_halves(self, pointer, c.value(count), value))

    c.branch(c.compare("ge", count, lanes), whole, part)


def _store_by_halves(self: BlockLowering, pointer: Value, count: Value, value: Value) -> None:
    """Write the first lanes of a vector, of which there are fewer than all."""
    c, rest = self.c, value
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
