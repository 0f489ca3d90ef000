"""Elements of prepacked arrays: of a column of tiles each lane has every so many-th element, row by row, in words.

The elements of a lane are dense bits in words of 32; word after word of all lanes side by side. So a vector of
neighbours is a word for each lane, shifted, with bits of the next word where it straddles.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i64, integer, u32, u64
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Pack, PtrLoad, Select
from tilus.ir.ops.simd import GatherLoad, Prefetch
from tilus.ir.prepacked import PrepackedFormat, byte_order, word_layout
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.spread import WORD_BITS
from tilus.lowering.cpu.values import Coord, Coords, Memory, Number, TileOrder, Window

WORD_BYTES = WORD_BITS // 8
LINE_BYTES = 64


def order_of(c: Cursor, format: PrepackedFormat, extents: Sequence[Number]) -> TileOrder | None:
    """Where the elements of an array are; None where it is not an order that the CPU chooses."""
    rows, columns = format.tile
    lanes = format.layout.num_threads
    if columns % lanes:
        return None
    depth = len(format.order) or 1
    if not format.order and format.dtype.packed_bits == 8 and rows % WORD_BYTES == 0 and \
            format.layout == word_layout(rows, columns, lanes, WORD_BYTES):
        depth = WORD_BYTES
    if rows % depth or format.layout != word_layout(rows, columns, lanes, depth) or \
            (format.order and format.order != byte_order(format.dtype.packed_bits)):
        return None
    down, across = (c.arith("quo", c.add(n, t - 1), t) for n, t in zip(extents[-2:], format.tile, strict=True))
    return TileOrder(lanes, rows, columns, format.piece, format.flip, format.tile_bytes, down, across, depth)


def column_of_tiles(c: Cursor, memory: Memory, at: Sequence[Number]) -> Value:
    """The address of the tiles that a load at an index is of."""
    order = memory.order
    assert order is not None
    leading = memory.origin
    for index, stride in zip(at[:-2], memory.strides[:-2], strict=True):
        leading = c.add(leading, c.mul(index, stride))
    matrix: Number = 0
    if not (isinstance(leading, int) and leading == 0):
        matrix = c.arith("quo", leading, c.max(c.mul(memory.extents[-2], memory.extents[-1]), 1))
    column = c.add(c.mul(matrix, order.across), c.arith("quo", at[-1], order.columns))
    return c.offset(memory.pointer, c.mul(c.mul(column, order.down), order.tile_bytes))


def in_words(order: TileOrder, dtype: DType) -> bool:
    """Whether vectors come out of words."""
    return order.piece == WORD_BYTES and dtype.packed_bits <= WORD_BITS


def load_prepacked(self: BlockLowering, window: Window, coords: Coords, condition: Value | None, other: Value | None,
                   lanes: int) -> Value:
    """Elements of a tile; ``other`` where the condition is off."""
    c, memory = self.c, window.memory
    order, dtype = memory.order, memory.dtype
    assert order is not None
    last = coords[-1]
    if condition is None and lanes and last.vector and last.step == 1 and in_words(order, dtype):
        if lanes <= order.lanes and order.lanes % lanes == 0:
            return _element(self, memory, lane_words(self, window, coords, lanes))
        if lanes % order.lanes == 0:
            parts = [(*coords[:-1], last.shifted(n)) for n in range(0, lanes, order.lanes)]
            return c.b.add(Pack(tuple(_element(self, memory, lane_words(self, window, part, order.lanes))
                                      for part in parts))).result
    value = _gather(self, window, coords, condition, lanes)
    if condition is None:
        return value
    zero = Bitcast(c.const(order.flip, integer(dtype.packed_bits, signed=False), lanes), dtype)
    return c.b.add(Select(condition, value, other if other is not None else c.b.add(zero).result)).result


def _element(self: BlockLowering, memory: Memory, words: Value) -> Value:
    """The codes in the low bits of words."""
    c, bits, lanes = self.c, memory.dtype.packed_bits, words.tile.size
    assert memory.order is not None
    code = words
    if memory.order.flip:
        code = c.b.add(Binary("xor", code, c.const(memory.order.flip, u32, lanes))).result
    if bits < WORD_BITS:
        code = c.b.add(Binary("and", code, c.const((1 << bits) - 1, u32, lanes))).result
    return c.b.add(Bitcast(c.cast(code, integer(bits, signed=False)), memory.dtype)).result


def lane_words(self: BlockLowering, window: Window, coords: Coords, lanes: int) -> Value:
    """For each lane a word with its element in the low bits; the first one's column is a multiple of the lanes. Above
    the elements is anything."""
    c, memory, row, column = self.c, window.memory, coords[-2], coords[-1]
    order, bits = memory.order, memory.dtype.packed_bits
    assert order is not None
    if window in self.aligned:
        # The start is at a word; where that is is the same for all rows and columns that follow by constants.
        own, inner = divmod(column.const, order.lanes)
        start = _first_bit(self, window, row.base or 0, column.base or 0)
        at = c.arith("shr", start, 5) if isinstance(start, Value) else start >> 5
        return _static(self, window, at, inner, (row.const * order.vectors + own) * bits, bits, lanes)
    place, first = _first_bit(self, window, c.index(row), c.index(column)), c.index(column)
    part = first % order.lanes if isinstance(first, int) else c.arith("rem", first, order.lanes)
    at = c.arith("shr", place, 5) if isinstance(place, Value) else place >> 5
    by = c.arith("and", place, WORD_BITS - 1) if isinstance(place, Value) else place % WORD_BITS
    amount = c.splat(c.cast(c.value(by), u32), lanes)
    word = c.b.add(Binary("lsr", _word(self, window, at, 0, part, lanes), amount)).result
    if WORD_BITS % bits == 0:
        return word
    # There is no word after the last one, nor anything of it that is wanted.
    end = c.sub(c.mul(order.down, order.tile_bytes // (order.lanes * WORD_BYTES)), 1)
    beyond = _word(self, window, c.min(c.add(at, 1), end), 0, part, lanes)
    beyond = c.b.add(Binary("lsl", beyond, c.const(1, u32, lanes))).result
    left = c.b.add(Binary("sub", c.const(WORD_BITS - 1, u32, lanes), amount)).result
    return c.b.add(Binary("or", word, c.b.add(Binary("lsl", beyond, left)).result)).result


def _first_bit(self: BlockLowering, window: Window, row: Number, column: Number) -> Number:
    """Which of a lane's bits are those of an element of the first lane."""
    c, order = self.c, window.memory.order
    assert order is not None
    across = column // order.lanes if isinstance(column, int) else c.arith("quo", column, order.lanes)
    row, bits = c.add(window.origin, row), window.memory.dtype.packed_bits
    if order.depth == 1:
        return c.mul(c.add(c.mul(row, order.vectors), across), bits)
    word: Number = row // order.depth if isinstance(row, int) else c.arith("quo", row, order.depth)
    within: Number = row % order.depth if isinstance(row, int) else c.arith("rem", row, order.depth)
    if isinstance(within, int):
        place: Number = within % WORD_BYTES * (8 // bits) + within // WORD_BYTES
    else:
        place = c.add(c.mul(c.arith("and", within, WORD_BYTES - 1), 8 // bits), c.arith("shr", within, 2))
    return c.add(c.mul(c.add(c.mul(word, order.vectors), across), WORD_BITS), c.mul(place, bits))


def prefetch_words(self: BlockLowering, window: Window, row: Number, column: Number, vectors: int, ahead: int) -> None:
    """Ask for the words of some vectors that begin at a word, some lines on."""
    c, order = self.c, window.memory.order
    assert order is not None
    start = _first_bit(self, window, row, column)
    at = c.arith("shr", start, 5) if isinstance(start, Value) else start >> 5
    pointer = c.offset(c.as_pointer(window.pointer, u32), c.mul(at, order.lanes))
    words = vectors * window.memory.dtype.packed_bits * order.depth // WORD_BITS
    per_line = max(1, LINE_BYTES // (order.lanes * WORD_BYTES))
    for n in range(0, words, per_line):
        c.b.add(Prefetch(c.offset(pointer, n * order.lanes + ahead * LINE_BYTES // WORD_BYTES)))


def _static(self: BlockLowering, window: Window, at: Number, part: int, further: int, bits: int, lanes: int) -> Value:
    """The word some constant number of bits after one."""
    c = self.c
    index, by = divmod(further, WORD_BITS)
    word = _word(self, window, at, index, part, lanes)
    if by:
        word_low = c.b.add(Binary("lsr", word, c.const(by, u32, lanes))).result
        if by + bits <= WORD_BITS:
            return word_low
        above = _word(self, window, at, index + 1, part, lanes)
        above = c.b.add(Binary("lsl", above, c.const(WORD_BITS - by, u32, lanes))).result
        return c.b.add(Binary("or", word_low, above)).result
    return word


def _word(self: BlockLowering, window: Window, at: Number, further: int, part: Number, lanes: int) -> Value:
    c, order = self.c, window.memory.order
    assert order is not None

    def load() -> Value:
        words = c.as_pointer(window.pointer, u32)
        pointer = c.offset(c.offset(words, c.mul(at, order.lanes)), c.add(further * order.lanes, part))
        return c.b.add(PtrLoad(pointer, lanes)).result

    found: Value = c.once(("word", window, at, further, part, lanes), load)
    return found


def _gather(self: BlockLowering, window: Window, coords: Coords, condition: Value | None, lanes: int) -> Value:
    """Element by element, byte by byte."""
    c, b, memory = self.c, self.c.b, window.memory
    order, bits = memory.order, memory.dtype.packed_bits
    assert order is not None

    def const(value: int, dtype: DType = i64) -> Value:
        return c.const(value, dtype, lanes)

    def op(kind: str, x: Value, y: Value | int) -> Value:
        return b.add(Binary(kind, x, const(y, x.tile.dtype) if isinstance(y, int) else y)).result

    row, column = (_index(self, coord, lanes) for coord in coords[-2:])
    row = op("add", row, c.splat(c.value(window.origin), lanes))
    lane = op("rem", column, order.lanes)
    across = op("quo", column, order.lanes)
    if order.depth == 1:
        place = op("mul", op("add", op("mul", row, order.vectors), across), bits)
    else:
        within = op("rem", row, order.depth)
        own = op("add", op("mul", op("and", within, WORD_BYTES - 1), 8 // bits), op("shr", within, 2))
        word = op("add", op("mul", op("quo", row, order.depth), order.vectors), across)
        place = op("add", op("mul", word, WORD_BITS), op("mul", own, bits))
    shift = b.add(Cast(op("and", place, 7), u64)).result
    first = op("shr", place, 3)
    total: Value | None = None
    ninth: Value | None = None
    for k in range((bits + 14) // 8):
        byte = op("add", first, k) if k else first
        piece, within = op("quo", byte, order.piece), op("rem", byte, order.piece)
        address = op("add", op("mul", op("add", op("mul", piece, order.lanes), lane), order.piece), within)
        needed = condition
        if 8 * k >= bits - 7 and k:
            needed = c.both(condition, b.add(Compare("gt", op("add", shift, bits), const(8 * k, u64))).result)
        got = b.add(Cast(b.add(GatherLoad(window.pointer, address, needed, None)).result, u64)).result
        if k == 8:  # beyond 64 bits
            ninth = op("shl", got, op("sub", const(64, u64), shift))
            break
        got = op("shl", got, 8 * k) if k else got
        total = got if total is None else op("or", total, got)
    assert total is not None
    code = op("shr", total, shift)
    if ninth is not None:
        code = op("or", code, ninth)
    if order.flip:
        code = op("xor", code, order.flip)
    if bits < 64:
        code = op("and", code, (1 << bits) - 1)
    return b.add(Bitcast(c.cast(code, integer(bits, signed=False)), memory.dtype)).result


def _index(self: BlockLowering, coord: Coord, lanes: int) -> Value:
    c = self.c
    base = c.splat(c.value(c.index(coord)), lanes)
    if not coord.vector:
        return base
    numbers = c.lane_numbers(i64, lanes)
    if coord.step > 1:
        numbers = c.b.add(Binary("mul", numbers, c.const(coord.step, i64, lanes))).result
    return c.b.add(Binary("add", base, numbers)).result


def column_words(self: BlockLowering, window: Window, row: Number, column: Number, further: int, lanes: int) -> Value:
    """Of an array whose words are of columns: those of ``lanes`` columns, ``further`` after ``column``, a multiple of
    the lanes of its order, as ``row`` is of its depth."""
    c, order = self.c, window.memory.order
    assert order is not None
    start = _first_bit(self, window, row, column)
    at = c.arith("shr", start, 5) if isinstance(start, Value) else start >> 5
    own, part = divmod(further, order.lanes)
    return _word(self, window, at, own, part, lanes)


__all__ = ["column_of_tiles", "column_words", "in_words", "lane_words", "load_prepacked", "order_of", "prefetch_words"]
