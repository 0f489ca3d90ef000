"""Integers of a prepacked array whose words are of columns: shifts and a mask make bytes of four neighbours along K.

What the program adds to them is a part of the shift of the product's form: the codes are multiplied as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, u8, u16, u32
from tilus.ir.ops import Binary, Cast, Load, Pack, PtrLoad, PtrStore, Shuffle
from tilus.ir.ops.simd import Prefetch
from tilus.ir.ops.words import Regroup
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.byte_products import WORD, ByteForm, constant_of, fill_word_panels, range_of
from tilus.lowering.cpu.interleaving import interleaved
from tilus.lowering.cpu.microkernel import over
from tilus.lowering.cpu.nest import versions, windows_of
from tilus.lowering.cpu.prefetching import LONG_ROW_BYTES, PREFETCHED_BYTES
from tilus.lowering.cpu.prepacked import column_words
from tilus.lowering.cpu.spread import WORD_BITS
from tilus.lowering.cpu.values import Lazy, Number, Window
from tilus.records import record


@record(frozen=True, slots=True)
class ColumnCodes:
    """The load that B is made of. ``flip``: the bits of each code that are flipped to become B's bytes."""

    window: Window
    flip: int

    @property
    def dtype(self) -> DType:
        return self.window.memory.dtype

    @property
    def depth(self) -> int:
        """Rows of a word."""
        order = self.window.memory.order
        assert order is not None
        return order.depth

    def there(self, self_: BlockLowering, depth: Number, reach: Number) -> tuple[Value | None, Number]:
        """How many of ``depth`` rows are in the array, whose last words are filled up, and whether that suffices where
        A is zero from ``reach`` on."""
        c, (row_end, column_end) = self_.c, self.window.highs[-2:]
        condition: Value | None = None
        if column_end is not None:
            condition = c.compare("gt", column_end, 0)
        if row_end is not None:
            end = c.mul(c.arith("quo", c.add(row_end, self.depth - 1), self.depth), self.depth)
            condition = c.both(condition, c.compare("ge", end, reach))
            depth = c.min(depth, end)
        return condition, depth

    def words(self, self_: BlockLowering, row: Number, column: Number, further: int, lanes: int) -> list[Value]:
        """For ``lanes`` columns, ``further`` after a multiple of the order's, the words of four rows each from ``row``
        on, a multiple of :attr:`depth`."""
        b, const, bits = self_.c.b, self_.c.const, self.dtype.bits
        word = column_words(self_, self.window, row, column, further, lanes)
        if self.flip:
            flips = sum(self.flip << n for n in range(0, 32, bits))
            word = b.add(Binary("xor", word, const(flips, u32, lanes))).result
        if bits == 8:
            return [word]
        mask = const(0x01010101 * ((1 << bits) - 1), u32, lanes)
        parts = []
        for by in range(0, 8, bits):
            part = b.add(Binary("lsr", word, const(by, u32, lanes))).result if by else word
            parts.append(b.add(Binary("and", part, mask)).result)
        return parts


def column_codes(self: BlockLowering, form: ByteForm, value: Value, lanes: int) -> ColumnCodes | None:
    """What B comes from, if from words of columns by nothing but additions that do not wrap around."""
    found = _codes_of(self, form, value)
    order = found[0].memory.order if found is not None else None
    if found is None or order is None or order.depth == 1 or order.lanes % lanes or \
            any(low is not None for low in found[0].lows):
        return None
    return ColumnCodes(*found)


def _codes_of(self: BlockLowering, form: ByteForm, value: Value) -> tuple[Window, int] | None:
    """The load that B is made of by additions that do not wrap around, and the bits of each code that are flipped to
    become B's bytes."""
    low, high = range_of(value)
    added, current = 0, value
    while True:
        rep = self.reps[current]
        op = rep.op if isinstance(rep, Lazy) else None
        if isinstance(op, Load):
            break
        if isinstance(op, Cast):
            current = op.x
            continue
        constant = constant_of(op.rhs) if isinstance(op, Binary) and op.kind in ("add", "sub") else None
        if constant is None:
            return None
        assert isinstance(op, Binary)
        added += constant if op.kind == "add" else -constant
        current = op.lhs
    assert isinstance(rep, Lazy)
    window, dtype = rep.window, current.tile.dtype
    if window is None or op.mask is not None or op.other is not None:
        return None
    if (low, high) != (dtype.min_value + added, dtype.max_value + added):
        return None
    flip = 1 << (dtype.bits - 1) if dtype.kind == "int" else 0
    return window, flip ^ (form.shift - low)


@record(frozen=True, slots=True)
class RowCodes:
    """Short integers row by row, several columns in a word: of four rows, a transposition of bytes makes words of
    columns. They come in the order of :attr:`order`."""

    window: Window
    flip: int

    @property
    def bits(self) -> int:
        return self.window.memory.dtype.bits

    @property
    def most(self) -> int:
        """The greatest code."""
        return (1 << self.bits) - 1

    @property
    def step(self) -> int:
        """Columns in a word."""
        return WORD_BITS // self.bits

    def order(self, lanes: int) -> list[int]:
        """The column of each lane of :attr:`step` vectors: bytes of rows are interleaved within 128 bits."""
        return [((lane // WORD * WORD + v) * WORD + lane % WORD) * 8 // self.bits + u
                for v in range(WORD) for u in range(8 // self.bits) for lane in range(lanes)]

    def in_place(self, self_: BlockLowering, parts: Sequence[Value]) -> list[Value]:
        """Vectors of neighbouring columns from those that are in :meth:`order`."""
        b, lanes = self_.c.b, parts[0].tile.size
        places = {column: at for at, column in enumerate(self.order(lanes))}
        whole = b.add(Pack(tuple(parts))).result
        return [b.add(Shuffle(whole, tuple(places[n + lane] for lane in range(lanes)))).result
                for n in range(0, len(parts) * lanes, lanes)]

    def condition(self, self_: BlockLowering) -> Value | None:
        """Whether all of the tile is there, and its rows begin at bytes."""
        c, bits = self_.c, self.window.memory.dtype.bits
        places = c.arith("or", self.window.origin, self.window.strides[0])
        aligned = c.compare("eq", c.arith("and", c.mul(places, bits), 7), 0)
        return c.both(self.window.full, aligned)

    def row_bytes(self, self_: BlockLowering) -> Number:
        """How far rows are apart, where they begin at bytes."""
        return self_.c.arith("shr", self_.c.mul(self.window.strides[0], self.window.memory.dtype.bits), 3)

    def pointer(self, self_: BlockLowering, row: Number, column: Number) -> Value:
        """Where the word is that has some columns of a row, and begins at a byte."""
        c, bits = self_.c, self.window.memory.dtype.bits
        first, further = (c.arith("shr", c.mul(x, bits), 3) for x in (self.window.origin, column))
        return c.offset(c.offset(self.window.memory.pointer, first),
                        c.add(c.mul(row, self.row_bytes(self_)), further))

    def prefetch(self, self_: BlockLowering, row: Number, column: Number) -> None:
        """Ask for what is read some rows on by as much as a vector has, where rows are too short for the processor to
        see that they go on."""
        c, columns = self_.c, self.window.shape[1]
        size = columns * self.bits // 8
        if size < LONG_ROW_BYTES:
            at = self.pointer(self_, c.add(row, PREFETCHED_BYTES // size), column)
            for n in range(WORD):
                c.b.add(Prefetch(c.offset(at, c.mul(self.row_bytes(self_), n))))

    def columns(self, self_: BlockLowering, row: Number, column: Number, lanes: int) -> list[Value]:
        """Of the four rows from ``row`` on, words whose bytes are of one row each, with the codes of neighbouring
        columns."""
        c, b = self_.c, self_.c.b

        at = self.pointer(self_, row, column)
        places = [c.offset(at, c.mul(self.row_bytes(self_), n)) for n in range(WORD)]
        rows = [b.add(PtrLoad(c.as_pointer(place, u8), WORD * lanes, 1)).result for place in places]
        pairs = [[b.add(Regroup(x, u16)).result for x in interleaved(b, rows[n], rows[n + 1])]
                 for n in (0, 2)]
        words = [b.add(Regroup(x, u32)).result for of_rows in zip(*pairs, strict=True)
                 for x in interleaved(b, *of_rows)]
        flips = sum(self.flip << n for n in range(0, 32, self.bits))
        return [b.add(Binary("xor", x, c.const(flips, u32, lanes))).result if flips else x for x in words]

    def parts(self, self_: BlockLowering, word: Value) -> list[Value]:
        """The words of four rows of each column that one of :meth:`columns` has, times :meth:`scales`."""
        c, b, lanes = self_.c, self_.c.b, word.tile.size
        found = []
        for at, scale in zip(range(0, 8, self.bits), self.scales, strict=True):
            by = at - (scale.bit_length() - 1)
            part = b.add(Binary("lsr", word, c.const(by, u32, lanes))).result if by else word
            found.append(b.add(Binary("and", part, c.const(0x01010101 * self.most * scale, u32, lanes))).result)
        return found

    @property
    def scales(self) -> list[int]:
        """What the codes at each place in a byte come times, so that two of them take one shift where they are as
        short as that."""
        return [1 << self.bits * (n % 2) if self.bits <= 2 else 1 for n in range(8 // self.bits)]


def row_codes(self: BlockLowering, form: ByteForm, value: Value, lanes: int) -> RowCodes | None:
    """What B comes from, if from short integers row by row; ``lanes`` are columns."""
    found = _codes_of(self, form, value)
    if found is None:
        return None
    window = found[0]
    if not window.memory.packed or window.memory.order is not None or window.memory.dtype.bits not in (2, 4) or \
            window.strides[-1] != 1 or len(window.strides) != 2:
        return None
    codes = RowCodes(*found)
    return codes if value.tile.shape[1] % (lanes * codes.step) == 0 else None


def pack_columns(self: BlockLowering, form: ByteForm, value: Value, pointer: Value, depth: Number, columns: int,
                 room: Number, first: Number, reach: Number) -> None:
    """The panels of ``depth`` rows of B, as :func:`fill_word_panels` writes them, of which this takes what it can from
    words of columns; A is zero from row ``reach`` on."""
    c, lanes = self.c, self.machine.vector_bytes // WORD
    width = 2 * lanes

    def general() -> list[Value]:
        fill_word_panels(self, form, value, pointer, depth, columns, room, first)
        return []

    codes = column_codes(self, form, value, lanes) if columns % width == 0 else None
    if codes is None:
        versions(self, windows_of(self, [value]), general)
        return
    condition, stop = codes.there(self, depth, reach)

    def panel(j: Number) -> None:
        place = c.offset(pointer, c.add(c.mul(j, room), c.mul(first, width)))

        def rows(k: Value, _: list[Value]) -> None:
            at = c.offset(place, c.mul(c.arith("shr", k, 2), width))
            for part in range(0, width, lanes):
                for n, x in enumerate(codes.words(self, k, j, part, lanes)):
                    c.b.add(PtrStore(c.offset(at, n * width + part), x))

        c.loop(0, stop, codes.depth, [], rows)

    either(self, condition, lambda: over(self, 0, columns, width, panel), general)


def either(self: BlockLowering, condition: Value | None, fast: Callable[[], object], general: Callable[[], object]
           ) -> None:
    """One of two, where ``condition`` is not always so."""
    def run(body: Callable[[], object]) -> Callable[[], None]:
        def ran() -> None:
            body()
        return ran

    if condition is None:
        fast()
    else:
        self.c.branch(condition, run(fast), run(general))


__all__ = ["ColumnCodes", "RowCodes", "column_codes", "either", "pack_columns", "row_codes"]
