"""Products of tiles of bytes: instructions that sum four products of neighbours along K in each lane.

They take the one factor as unsigned and the other as signed. A's elements are as they are, so that B's have to be of
the other kind: what is stored of ``b`` is ``b - shift``, and ``sum a b = sum a (b - shift) + shift * sum a``. Sums wrap
around, so that this is exact. A lies row by row, followed by zeros; B as words, each of four neighbours of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i8, i32, u8, u32
from tilus.ir.ops import Binary, Bitcast, Broadcast, Cast, Const, Extract, PtrLoad, PtrStore, Shuffle, Transpose
from tilus.ir.ops.simd import DotBytes
from tilus.ir.ops.words import Regroup
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.microkernel import blocking, column_pieces, over, sum_of_lanes
from tilus.lowering.cpu.transpose import side_of, source_dim, transpose_registers, width_of
from tilus.lowering.cpu.values import Buffer, Coord, Number
from tilus.records import record

WORD = 4
"""Elements in a word."""
BYTES = (i8, u8)


@record(frozen=True, slots=True)
class ByteForm:
    """How A (``dtype``) and B are multiplied: B as ``b - shift``, which is unsigned where A is signed. ``small``: the
    unsigned one of them is below 128."""

    dtype: DType
    shift: int
    small: bool

    @property
    def signed(self) -> bool:
        return self.dtype is i8


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
    c, lanes = self.c, total.tile.size if total.tile.shape else 0
    unsigned, signed = (b, a) if form.signed else (a, b)
    operands = [total, unsigned, signed]
    if lanes < WORD:
        operands = [_widened(self, x, lanes) for x in operands]
    result = c.b.add(DotBytes(*operands, self.machine.byte_products, form.small)).result
    if not lanes:
        return c.b.add(Extract(result, 0)).result
    return c.b.add(Shuffle(result, tuple(range(lanes)))).result if lanes < WORD else result


def _widened(self: BlockLowering, x: Value, lanes: int) -> Value:
    """A scalar or short vector as one of four lanes."""
    if not lanes:
        return self.c.splat(x, WORD)
    return self.c.b.add(Shuffle(x, tuple(n % lanes for n in range(WORD)))).result


# Packing.


def words_of(self: BlockLowering, depth: Number) -> Number:
    """How many words ``depth`` elements take."""
    return -(-depth // WORD) if isinstance(depth, int) else self.c.arith("shr", self.c.add(depth, WORD - 1), 2)


def end_rows(self: BlockLowering, a: Buffer, depth: Number, rows: Number) -> None:
    """Write zeros behind ``depth`` elements of some rows of A: what fills up words and vectors."""
    zero = self.c.const(0, u8, self.machine.vector_bytes)

    def row(i: Value, _: list[Value]) -> None:
        place = self.c.offset(a.pointer, self.c.add(self.c.mul(i, a.strides[0]), depth))
        self.c.b.add(PtrStore(place, zero, 1))

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


def fill_byte_panels(self: BlockLowering, form: ByteForm, value: Value, pointer: Value, depth: Number, columns: int,
                     room: Number, first: Number = 0) -> None:
    """Write the words of ``depth`` rows of B to the panels at ``pointer`` (words), from word ``first`` of each on;
    ``room`` is the number of words that a column of a panel has room for. Behind the last row is anything."""
    c = self.c
    for start, stop, width in column_pieces(columns, blocking(self.machine, i32)):
        def panel(j: Number, width: int = width) -> None:
            place = c.offset(pointer, c.add(c.mul(j, room), c.mul(first, width)))
            reached: Number = 0
            if source_dim(self, value) == 0 and width >= side_of(u32):
                reached = _panel_along_depth(self, form, value, place, j, depth, width)
            _panel(self, form, value, place, j, reached, depth, width)

        over(self, start, stop, width, panel)


def column_at(j: Number, vector: bool, shift: int = 0) -> Coord:
    return Coord(None, j + shift, vector) if isinstance(j, int) else Coord(j, shift, vector)


def _panel(self: BlockLowering, form: ByteForm, value: Value, place: Value, j: Number, start: Number, depth: Number,
           width: int) -> None:
    c = self.c
    saved, self.lanes = self.lanes, width if width > 1 else 0

    def put(k: Value, rows: list[Coord], _: list[Value]) -> list[Value]:
        x = row_words(self, form, value, rows, column_at(j, width > 1))
        c.b.add(PtrStore(c.offset(place, c.mul(c.arith("shr", k, 2), width)), x))
        return []

    over_words(self, start, depth, [], put)
    self.lanes = saved


def over_words(self: BlockLowering, start: Number, depth: Number, init: list[Value],
               body: Callable[[Value, list[Coord], list[Value]], list[Value]]) -> list[Value]:
    """A loop over the words from row ``start`` on: ``body`` takes the first row of one, all four, and what is carried.
    Of the last word, rows beyond ``depth`` are the last one again."""
    c = self.c
    if isinstance(start, int) and isinstance(depth, int) and start >= depth:
        return init
    whole = depth // WORD * WORD if isinstance(depth, int) else c.arith("and", depth, -WORD)

    def inside(k: Value, acc: list[Value]) -> list[Value]:
        return body(k, [Coord(k, u) for u in range(WORD)], acc)

    def last(k: Value, acc: list[Value]) -> list[Value]:
        return body(k, [Coord(c.value(c.min(c.add(k, u), c.sub(depth, 1)))) for u in range(WORD)], acc)

    total = c.loop(start, whole, WORD, init, inside)
    if not (isinstance(depth, int) and depth == whole):
        total = c.loop(c.max(start, whole), depth, WORD, total, last)
    return total


def row_words(self: BlockLowering, form: ByteForm, value: Value, rows: Sequence[Coord], column: Coord) -> Value:
    """Words of four elements along K, of the columns of ``self.lanes`` or of one."""
    c, lanes = self.c, self.lanes_of((column,))
    total: Value | None = None
    for u, row in enumerate(rows):
        x = c.b.add(Bitcast(c.splat(evaluate(self, value, (row, column)), lanes), u8)).result
        x = c.cast(x, u32)
        if u:
            x = c.b.add(Binary("lsl", x, c.const(8 * u, u32, lanes))).result
        total = x if total is None else c.b.add(Binary("or", total, x)).result
    assert total is not None
    return shifted_bytes(self, form, total)


def shifted_bytes(self: BlockLowering, form: ByteForm, words: Value) -> Value:
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


def depth_words(self: BlockLowering, form: ByteForm, value: Value, k: Coord, j: Coord, lanes: int) -> Value:
    """``lanes`` words of one column, one after another along K."""
    c = self.c
    saved, self.lanes = self.lanes, lanes * WORD
    x = c.splat(evaluate(self, value, (k, j)), self.lanes)
    self.lanes = saved
    return shifted_bytes(self, form, c.b.add(Regroup(c.b.add(Bitcast(x, u8)).result, u32)).result)


def _panel_along_depth(self: BlockLowering, form: ByteForm, value: Value, place: Value, j: Number, depth: Number,
                       width: int) -> Number:
    """The memory runs along K: blocks of words are transposed in registers."""
    c, side, together = self.c, side_of(u32), width_of(self, u32, width)
    block = side * WORD
    whole = depth // block * block if isinstance(depth, int) else c.arith("and", depth, -block)

    def words(k: Value, _: list[Value]) -> None:
        at = c.offset(place, c.mul(c.arith("shr", k, 2), width))
        for first in range(0, width, together):
            columns = [depth_words(self, form, value, Coord(k, 0, True), column_at(j, False, first + n), side)
                       for n in range(together)]
            for n, x in enumerate(transpose_registers(self, columns)):
                c.b.add(PtrStore(c.offset(at, n * width + first), x))

    c.loop(0, whole, block, [], words)
    return whole


__all__ = ["ByteForm", "add_row_sums", "byte_form", "column_at", "constant_of", "depth_words", "end_rows",
           "fill_byte_panels", "multiply_bytes", "over_words", "range_of", "row_words", "words_of"]
