"""Tiles of B that a core keeps packed, from one block to the next, of dots in loops that are no products over K.

The blocks of one column of the grid, as the tiles of queries of attention, go through the same tiles of B one after
another. Each iteration finds its tile in a table, by where it is in its array, or packs it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Dot, For, Groups, PtrLoad, PtrStore, Select
from tilus.ir.ops.simd import PtrToInt
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.few_rows import FEW_ROWS
from tilus.lowering.cpu.kept_operands import kept_window, plain_load
from tilus.lowering.cpu.slopes import Slopes, grid_slopes
from tilus.lowering.cpu.state import STATE_GRID0
from tilus.lowering.cpu.values import Number

ROOM_BYTES = 2 << 20
"""For all tiles of one operand."""
MAX_TILES = 256
FEWEST_TILES = 8
MAX_OPERANDS = 4
SLOT_WORDS = 8
"""What says which tile is there: its address and, in seven words, how much of it there is."""


def kept_dots(kernel: Function) -> list[Dot]:
    """The dots whose B is kept: tiles of arrays that do not depend on the block's place along the grid's first axis."""
    loops = list(_loops(kernel.body))
    slopes = grid_slopes(kernel, 0)
    dots = [op for loop in loops for op in loop.body.ops if isinstance(op, Dot) and op.accumulator not in loop.carried]
    return [dot for dot in dots if _is_kept(dot, slopes)][:MAX_OPERANDS]


def _loops(block: Block) -> Iterator[For]:
    """Those that are no thread group's alone."""
    for op in block.ops:
        if isinstance(op, For):
            yield op
        if not isinstance(op, Groups):
            for region in op.regions:
                yield from _loops(region)


def _is_kept(dot: Dot, slopes: Slopes) -> bool:
    load = plain_load(dot.b)
    if load is None or dot.result.tile.rank != 2:
        return False
    return dot.result.tile.shape[0] > FEW_ROWS and tiles_of(dot) >= FEWEST_TILES and \
        all(slopes.of(x) == 0 for x in (load.view, *load.offsets))


def tiles_of(dot: Dot) -> int:
    """How many tiles there is room for: of elements of 4 bytes, which are the longest that are packed but for f64."""
    size = max(4, container_bytes(dot.accumulator.tile.dtype)) * dot.b.tile.size
    return min(MAX_TILES, ROOM_BYTES // size) if size else 0


def room_words(dot: Dot) -> int:
    """Words of 64 bits of the memory for a dot's tiles: the table, and the tiles."""
    return tiles_of(dot) * SLOT_WORDS + ROOM_BYTES // 8


def forget(c: Cursor, dots: list[Dot], pointer: Value) -> None:
    """What another launch has left, from ``pointer`` on, is of no use."""
    for dot in dots:
        def clear(i: Value, _: list[Value], table: Value = pointer) -> None:
            c.b.add(PtrStore(c.offset(table, i), c.const(0)))

        c.loop(0, tiles_of(dot) * SLOT_WORDS, SLOT_WORDS, [], clear)
        pointer = c.offset(pointer, room_words(dot))


def packed_tile(self: BlockLowering, dot: Operation | None, b: Value, wanted: Number, room: Value,
                fill: Callable[[Value], None]) -> Value:
    """The address of a packed tile: one that is kept, or one that ``fill(address)`` packs now, in ``room`` where none
    are kept. ``b`` is the operand, ``wanted`` how much of it is packed."""
    memory = None if dot is None else self.tiles.get(dot)
    window = kept_window(self, b) if memory is not None else None
    if memory is None or window is None or not isinstance(dot, Dot):
        fill(room)
        return room
    c = self.c
    bounds = [x for x in (*window.lows, *window.highs, wanted) if isinstance(x, Value)]
    assert len(bounds) < SLOT_WORDS
    load = plain_load(dot.b)
    assert load is not None
    number: Number = 0
    for offset, extent in zip(load.offsets, load.result.tile.shape, strict=True):
        number = c.add(number, c.arith("quo", c.number(self.scalars[offset]), extent))
    count = tiles_of(dot)
    slot = c.arith("rem", c.max(number, 0), count)
    entry = c.offset(memory, c.mul(slot, SLOT_WORDS))
    address = c.b.add(PtrToInt(window.pointer)).result
    words = [address, *bounds]
    there: Value | None = None
    for n, word in enumerate(words):
        there = c.both(there, c.compare("eq", c.b.add(PtrLoad(c.offset(entry, n))).result, word))
    several = c.compare("gt", c.b.add(PtrLoad(c.offset(self.state, STATE_GRID0))).result, 1)
    there = c.both(there, several)
    assert there is not None
    tiles = c.as_pointer(c.offset(c.offset(memory, count * SLOT_WORDS), c.mul(slot, ROOM_BYTES // 8 // count)), i64)
    place = c.b.add(Select(several, c.as_pointer(tiles, room.type.dtype), room, types=(room.type,))).result

    def pack() -> None:
        fill(place)
        for n, word in enumerate(words):
            c.b.add(PtrStore(c.offset(entry, n), c.select(several, word, 0)))

    c.branch(there, lambda: None, pack)
    return place


__all__ = ["forget", "kept_dots", "packed_tile", "room_words"]
