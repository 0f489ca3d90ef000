"""Products of tiles of bytes: instructions that sum four products of neighbours along K in each lane. Pairs of bf16
and of i16 go the same way, two in a word.

Instructions for bytes take the one factor as unsigned and the other as signed. A's elements are as they are, so that
B's have to be of the other kind: what is stored of ``b`` is ``b - shift``, and ``sum a b = sum a (b - shift) + shift *
sum a``. Sums wrap around, so that this is exact. A lies row by row, followed by zeros; B as words of a column's
neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bf16, f32, i8, i16, i32, u8, u16, u32
from tilus.ir.ops import Binary, Bitcast, Broadcast, Cast, Const, Extract, PtrLoad, PtrStore, Shuffle, Transpose
from tilus.ir.ops.simd import DotBytes, DotPairs
from tilus.ir.ops.words import Regroup
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.microkernel import blocking, column_pieces, over, over_panels, panel_widths, sum_of_lanes
from tilus.lowering.cpu.prefetching import prefetch_rows
from tilus.lowering.cpu.transpose import side_of, source_dim, transpose_registers, width_of
from tilus.lowering.cpu.values import Buffer, Coord, Number, coord_at
from tilus.records import record

WORD = 4
"""Bytes in a word."""
LEAST_LANES = 4
"""Of the instructions that multiply words."""
BYTES = (i8, u8)


@record(frozen=True, slots=True)
class ByteForm:
    """How A (``dtype``) and B are multiplied: B as ``b - shift``, which is unsigned where A is signed. ``small``: the
    unsigned one of them is below 128. ``tiles``: the instruction for tile registers, which take any signs, so that B
    may be as it is."""

    dtype: DType
    shift: int
    small: bool
    tiles: str = ""

    @property
    def signed(self) -> bool:
        return self.dtype is i8

    @property
    def word(self) -> int:
        """Elements in a word."""
        return WORD

    @property
    def container(self) -> DType:
        """The bits of an element."""
        return u8

    def multiply(self, lowering: BlockLowering, a: Value, b: Value, total: Value) -> Value:
        return multiply_bytes(lowering, self, a, b, total)


@record(frozen=True, slots=True)
class PairForm:
    """A and B are bf16, or bytes that have become i16, of which words have two. ``tiles`` as of bytes."""

    tiles: str = ""
    dtype: DType = bf16

    @property
    def shift(self) -> int:
        return 0

    @property
    def word(self) -> int:
        """Elements in a word."""
        return 2

    @property
    def container(self) -> DType:
        """The bits of an element."""
        return u16

    def multiply(self, lowering: BlockLowering, a: Value, b: Value, total: Value) -> Value:
        """``total`` plus the products of words of A and of B: vectors of any number of lanes, or scalars."""
        return narrowed(lowering, total, [total, a, b], DotPairs)


WordForm = ByteForm | PairForm


def pair_form(self: BlockLowering, a: Value, b: Value, accumulator: DType) -> PairForm | None:
    """The form of a product of bf16 that is summed in f32; None for others, and where the processor has none."""
    if accumulator is not f32 or a.tile.dtype is not bf16 or b.tile.dtype is not bf16:
        return None
    if self.machine.tiles:
        return PairForm("tdpbf16ps")
    return PairForm() if self.machine.pairs else None


def wide_form(self: BlockLowering, form: ByteForm) -> PairForm | None:
    """Pairs instead of bytes, where packing them takes half as many instructions: where bytes are in two parts, lest
    sums of products overflow."""
    wide = self.machine.byte_products == "pmaddubsw" and not form.small
    return PairForm(dtype=i16) if wide else None


def tile_form(self: BlockLowering, form: ByteForm, b: Value) -> ByteForm:
    """A form for packed products by tile registers, where there are such."""
    if not self.machine.tiles:
        return form
    whole = int(b.tile.dtype.min_value), int(b.tile.dtype.max_value)
    if range_of(b) != whole:  # the shift may be what the program adds to codes, which are packed as they are
        return replace(form, tiles="tdpbsud" if form.signed else "tdpbusd")
    signs = "".join("s" if dtype is i8 else "u" for dtype in (form.dtype, b.tile.dtype))
    return replace(form, shift=0, tiles=f"tdpb{signs}d")


def byte_form(self: BlockLowering, a: Value, b: Value, accumulator: DType) -> ByteForm | None:
    """The form of a product; None where it is not one of bytes, or the processor has no instruction for those."""
    if not self.machine.byte_products or accumulator is not i32 or a.tile.dtype not in BYTES \
            or b.tile.dtype not in BYTES:
        return None
    low, high = range_of(b)
    small = high - low < 128
    if a.tile.dtype is i8:
        return ByteForm(i8, low, small)
    return ByteForm(u8, low if small else low + 128, False)


def range_of(value: Value) -> tuple[int, int]:
    """Bounds of a tile's numbers, as far as conversions and constants that are added say."""
    op, dtype = value.defining, value.tile.dtype
    whole = int(dtype.min_value), int(dtype.max_value)
    found = whole
    if isinstance(op, Transpose):
        return range_of(op.x)
    if isinstance(op, Cast) and op.x.tile.dtype.is_int:
        found = range_of(op.x)
    elif isinstance(op, Binary) and op.kind in ("add", "sub"):
        constant = constant_of(op.rhs)
        if constant is not None:
            low, high = range_of(op.lhs)
            amount = constant if op.kind == "add" else -constant
            found = low + amount, high + amount
    return found if whole[0] <= found[0] and found[1] <= whole[1] else whole


def constant_of(value: Value) -> int | None:
    """The number that all elements of a tile are."""
    op = value.defining
    while isinstance(op, Broadcast):
        op = op.x.defining
    return int(op.value) if isinstance(op, Const) else None


def multiply_bytes(self: BlockLowering, form: ByteForm, a: Value, b: Value, total: Value) -> Value:
    """``total`` plus the products of words of A and of B: vectors of any number of lanes, or scalars."""
    unsigned, signed = (b, a) if form.signed else (a, b)
    instruction = self.machine.byte_products
    return narrowed(self, total, [total, unsigned, signed], lambda *x: DotBytes(*x, instruction, form.small))


def narrowed(self: BlockLowering, total: Value, operands: Sequence[Value], make: Callable[..., Operation]) -> Value:
    """An operation of at least four lanes on vectors of any number of lanes, or scalars."""
    c, lanes = self.c, total.tile.size if total.tile.shape else 0
    if lanes < LEAST_LANES:
        operands = [_widened(self, x, lanes) for x in operands]
    result = c.b.add(make(*operands)).result
    if not lanes:
        return c.b.add(Extract(result, 0)).result
    return c.b.add(Shuffle(result, tuple(range(lanes)))).result if lanes < LEAST_LANES else result


def _widened(self: BlockLowering, x: Value, lanes: int) -> Value:
    """A scalar or short vector as one of four lanes."""
    if not lanes:
        return self.c.splat(x, LEAST_LANES)
    return self.c.b.add(Shuffle(x, tuple(n % lanes for n in range(LEAST_LANES)))).result


# Packing.


def words_of(self: BlockLowering, depth: Number, word: int = WORD) -> Number:
    """How many words ``depth`` elements take."""
    return -(-depth // word) if isinstance(depth, int) else self.c.arith("quo", self.c.add(depth, word - 1), word)


def end_rows(self: BlockLowering, a: Buffer, depth: Number, rows: Number) -> None:
    """Write zeros behind ``depth`` elements of some rows of A: what fills up words and vectors."""
    zero = self.c.const(0, u8, self.machine.vector_bytes)

    def row(i: Value, _: list[Value]) -> None:
        place = self.c.offset(a.pointer, self.c.add(self.c.mul(i, a.strides[0]), depth))
        self.c.b.add(PtrStore(self.c.as_pointer(place, u8), zero, 1))

    self.c.loop(0, rows, 1, [], row)


def add_row_sums(self: BlockLowering, form: ByteForm, a: Buffer, depth: Number, rows: Number, target: Buffer,
                 clear: bool) -> None:
    """Add ``shift`` times the sums of A's rows to the rows of the product; ``clear``: write them there."""
    c = self.c
    lanes = self.machine.vector_bytes // WORD
    if not form.shift:
        return

    def row(i: Value, _: list[Value]) -> None:
        total = _row_sum(self, form, c.offset(a.pointer, c.mul(i, a.strides[0])), depth, lanes)
        total = c.b.add(Binary("mul", total, c.const(form.shift, i32))).result
        place = c.offset(target.pointer, c.mul(i, target.strides[0]))
        for start, stop, width in column_pieces(target.shape[1], blocking(self.machine, i32)):
            count = width if width > 1 else 0

            def part(j: Number, count: int = count) -> None:
                at = c.offset(place, j)
                x = c.splat(total, count)
                if not clear:
                    x = c.b.add(Binary("add", x, c.b.add(PtrLoad(at, count)).result)).result
                c.b.add(PtrStore(at, x))

            over(self, start, stop, width, part)

    c.loop(0, rows, 1, [], row)


def _row_sum(self: BlockLowering, form: ByteForm, row: Value, depth: Number, lanes: int) -> Value:
    c = self.c
    ones = c.const(0x01010101, u32, lanes)
    positive = ByteForm(form.dtype, 0, form.signed)

    def step(k: Value, acc: list[Value]) -> list[Value]:
        x = c.b.add(PtrLoad(c.as_pointer(c.offset(row, k), u32), lanes, 1)).result
        return [multiply_bytes(self, positive, x, ones, acc[0])]

    return sum_of_lanes(self, c.loop(0, depth, lanes * WORD, [c.const(0, i32, lanes)], step)[0])


def fill_word_panels(self: BlockLowering, form: WordForm, value: Value, pointer: Value, depth: Number, columns: int,
                     room: Number, first: Number = 0) -> None:
    """Write the words of ``depth`` rows of B to the panels at ``pointer`` (words), from word ``first`` of each on;
    ``room`` is the number of words that a column of a panel has room for. Behind the last row is anything."""
    panels = functools.partial(over_panels, self, pointer, columns, i32, room, first, None)

    def row(k: Value, rows: list[Coord], _: list[Value]) -> list[Value]:
        prefetch_rows(self, value, k)
        panels(lambda place, j, width: _panel_row(self, form, value, place, j, k, rows, width))
        return []

    reached: Number = 0
    if source_dim(self, value) == 0 and all(n >= side_of(u32) for n in panel_widths(self, columns, i32)):
        block = side_of(u32) * form.word
        reached = whole = depth // block * block if isinstance(depth, int) else self.c.arith("and", depth, -block)
        panels(lambda place, j, width: _panel_along_depth(self, form, value, place, j, whole, width))
    over_words(self, reached, depth, [], row, form.word)


def _panel_row(self: BlockLowering, form: WordForm, value: Value, place: Value, j: Number, k: Value,
               rows: Sequence[Coord], width: int) -> None:
    c, saved = self.c, self.lanes
    self.lanes = width if width > 1 else 0
    x = row_words(self, form, value, rows, coord_at(j, width > 1))
    c.b.add(PtrStore(c.offset(place, c.mul(c.arith("quo", k, form.word), width)), x))
    self.lanes = saved


def over_words(self: BlockLowering, start: Number, depth: Number, init: list[Value],
               body: Callable[[Value, list[Coord], list[Value]], list[Value]], size: int = WORD) -> list[Value]:
    """A loop over the words from row ``start`` on: ``body`` takes the first row of one, all of them, and what is
    carried. Of the last word of bytes, rows beyond ``depth`` are the last one again; of pairs there is only the first
    row."""
    c = self.c
    if isinstance(start, int) and isinstance(depth, int) and start >= depth:
        return init
    whole = depth // size * size if isinstance(depth, int) else c.arith("and", depth, -size)

    def inside(k: Value, acc: list[Value]) -> list[Value]:
        return body(k, [Coord(k, u) for u in range(size)], acc)

    def last(k: Value, acc: list[Value]) -> list[Value]:
        if size < WORD:
            return body(k, [Coord(k)], acc)
        return body(k, [Coord(c.value(c.min(c.add(k, u), c.sub(depth, 1)))) for u in range(size)], acc)

    total = c.loop(start, whole, size, init, inside)
    if not (isinstance(depth, int) and depth == whole):
        total = c.loop(c.max(start, whole), depth, size, total, last)
    return total


def row_words(self: BlockLowering, form: WordForm, value: Value, rows: Sequence[Coord], column: Coord) -> Value:
    """Words of elements along K, of the columns of ``self.lanes`` or of one."""
    c, lanes = self.c, self.lanes_of((column,))
    total: Value | None = None
    for u, row in enumerate(rows):
        x = c.b.add(Bitcast(c.splat(evaluate(self, value, (row, column)), lanes), form.container)).result
        x = c.cast(x, u32)
        if u:
            x = c.b.add(Binary("lsl", x, c.const(form.container.bits * u, u32, lanes))).result
        total = x if total is None else c.b.add(Binary("or", total, x)).result
    assert total is not None
    return shifted_bytes(self, form, total)


def shifted_bytes(self: BlockLowering, form: WordForm, words: Value) -> Value:
    """The bytes of words, each less the shift."""
    c, lanes = self.c, words.tile.size if words.tile.shape else 0
    by = form.shift % 256
    if not by:
        return words
    if by == 128:
        return c.b.add(Binary("xor", words, c.const(0x80808080, u32, lanes))).result
    # Bytes are added by their lower seven bits, which do not carry into the next ones, and the upper ones flipped.
    add = (256 - by) * 0x01010101
    low = c.b.add(Binary("and", words, c.const(0x7F7F7F7F, u32, lanes))).result
    low = c.b.add(Binary("add", low, c.const(add & 0x7F7F7F7F, u32, lanes))).result
    high = c.b.add(Binary("xor", words, c.const(add, u32, lanes))).result
    high = c.b.add(Binary("and", high, c.const(0x80808080, u32, lanes))).result
    return c.b.add(Binary("xor", low, high)).result


def depth_words(self: BlockLowering, form: WordForm, value: Value, k: Coord, j: Coord, lanes: int) -> Value:
    """``lanes`` words of one column, one after another along K."""
    c = self.c
    saved, self.lanes = self.lanes, lanes * form.word
    x = c.splat(evaluate(self, value, (k, j)), self.lanes)
    self.lanes = saved
    return shifted_bytes(self, form, c.b.add(Regroup(c.b.add(Bitcast(x, form.container)).result, u32)).result)


def _panel_along_depth(self: BlockLowering, form: WordForm, value: Value, place: Value, j: Number, whole: Number,
                       width: int) -> None:
    """The memory runs along K: blocks of words are transposed in registers, those before row ``whole``."""
    c, side, together = self.c, side_of(u32), width_of(self, u32, width)

    def words(k: Value, _: list[Value]) -> None:
        at = c.offset(place, c.mul(c.arith("quo", k, form.word), width))
        for first in range(0, width, together):
            columns = [depth_words(self, form, value, Coord(k, 0, True), coord_at(j, False, first + n), side)
                       for n in range(together)]
            for n, x in enumerate(transpose_registers(self, columns)):
                c.b.add(PtrStore(c.offset(at, n * width + first), x))

    c.loop(0, whole, side * form.word, [], words)


__all__ = ["ByteForm", "PairForm", "WordForm", "add_row_sums", "byte_form", "constant_of", "depth_words",
           "end_rows", "fill_word_panels", "multiply_bytes", "over_words", "pair_form", "range_of", "row_words",
           "tile_form", "wide_form", "words_of"]
