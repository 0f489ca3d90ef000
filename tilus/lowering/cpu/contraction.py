"""Loops over K that do nothing but accumulate dots: run over large chunks of K, whatever the kernel's own BK.

``for k: acc = dot(f(load(a, (i, k))), g(load(b, (k, j))), acc)`` is one product over all of K. It is cut into chunks
that suit the caches; of each chunk both operands are packed, and the accumulators stay in registers for all of it.
Where A's array has few rows left, B is not packed (``few_rows.py``). What each iteration makes of B may depend on its
index in any way, as the scales of a group of rows do: then a chunk of B is made iteration by iteration.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, bool_, u8, u32
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Const,
    For,
    Load,
    Select,
)
from tilus.ir.types import TileType
from tilus.lowering.cpu import neighbours
from tilus.lowering.cpu.block import BlockLowering, container_bytes, lower
from tilus.lowering.cpu.byte_products import (
    WORD,
    ByteForm,
    WordForm,
    add_row_sums,
    byte_form,
    end_rows,
    words_of,
)
from tilus.lowering.cpu.carried import carried_homes
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.dot import PADDING_BYTES, converted, fill_panels, in_form
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.few_byte_rows import FewByteRows
from tilus.lowering.cpu.few_columns import FEW_COLUMNS, FewColumns, turned_tile
from tilus.lowering.cpu.few_rows import FEW_ROWS, FewRows, Plan, plan_for
from tilus.lowering.cpu.gathered_panels import GatheredPanels
from tilus.lowering.cpu.kept_operands import MEMO_STRIDE, PANELS_KEPT, Memo, is_plain, memo_of, remember
from tilus.lowering.cpu.limits import ends_of
from tilus.lowering.cpu.memory import make_window
from tilus.lowering.cpu.microkernel import Product, blocking, emit_product
from tilus.lowering.cpu.movements import source_dims
from tilus.lowering.cpu.neighbours import NeighbourProduct
from tilus.lowering.cpu.nest import store_buffer, versions, windows_of
from tilus.lowering.cpu.panels_ahead import Ahead, Rows, rows_of
from tilus.lowering.cpu.prefetching import prefetch_rows
from tilus.lowering.cpu.products_in_loops import ProductLoop, products_of
from tilus.lowering.cpu.separable import Separable, needed_by
from tilus.lowering.cpu.tile_products import SIDE
from tilus.lowering.cpu.transpose import can_transpose, copy_transposed, side_of, source_dim
from tilus.lowering.cpu.values import BlockState, Buffer, Coord, Lazy, Number
from tilus.lowering.cpu.ways import Multiplied
from tilus.lowering.cpu.word_products import emit_words, pack_words, packed_form
from tilus.records import record

CHUNK_BYTES = 1024
"""Bytes of K that a row of a chunk takes: a panel of B (K × 16 f32) then fills half of a first-level cache."""
LONG_CHUNK_BYTES = 16 << 10
"""The same of what is read where it is, A with few columns or B with few rows: some pages of a row at a time."""


def try_contraction(self: BlockLowering, op: For) -> bool:
    """Lower the loop as one product for each tile that it carries, if it is such."""
    found = products_of(self, op)
    if not found:
        return False
    homes = carried_homes(self, op.init)
    rows_of: dict[tuple[Value, DType], Value] = {}
    for loop in found:
        _Contraction(self, loop, homes[loop.place], rows_of).run()
    return True


@record(slots=True)
class _Rows:
    """Rows of A and how many elements they are apart: ``there`` says that they are the array's."""

    there: Value
    pointer: Value
    stride: Number


@record(slots=True)
class _Panels:
    """Where a chunk of B is packed: ``room`` for it, or a memory of all of them."""

    room: Value
    memo: Memo | None


def _of_bytes(form: WordForm) -> ByteForm:
    assert isinstance(form, ByteForm)
    return form


class _Contraction:
    """``home`` is where the sum is carried; ``rows_of`` has memories for what is packed of A, which other products of
    the loop may use as well."""

    def __init__(self, lowering: BlockLowering, loop: ProductLoop, home: Buffer,
                 rows_of: dict[tuple[Value, DType], Value]) -> None:
        self.lowering = lowering
        self.rows_of = rows_of
        self.loop = loop
        self.home = home
        self.dtype: DType = loop.dot.accumulator.tile.dtype
        self.rows, self.columns = loop.dot.result.tile.shape
        self.form: WordForm | None = None
        if loop.block % WORD == 0:
            self.form = byte_form(lowering, loop.dot.a, loop.dot.b, self.dtype)
        if self.form is not None:
            self.dtype = self.form.dtype
        self.uniform = loop.uniform
        self.invariants: list[Value] = []
        self.start: Value
        self.wanted: Number = self.columns
        self.few: Value | bool = False
        self.gathered: GatheredPanels | None = None
        self.set_chunk(CHUNK_BYTES)

    def run(self) -> None:
        lowering, c = self.lowering, self.lowering.c
        home, result = self.home, self.loop.op.results[self.loop.place]
        home.carried = False
        lowering.reps[result] = home
        self.start, stop = (lowering.scalars[v] for v in (self.loop.op.start, self.loop.op.stop))
        trips = c.max(c.arith("floordiv", c.add(c.sub(stop, self.start), self.loop.step - 1), self.loop.step), 0)
        top = lowering.frame_top
        # Nothing comes from where A is beyond its array.
        rows, total = self.inside(c.mul(trips, self.loop.block))
        stops = stops_of(lowering, result)
        rows, self.wanted = c.min(rows, stops[0]), stops[1]
        self.few = self.rows <= FEW_ROWS and self.loop.gathered is None
        if not self.few and not isinstance(rows, int) and self.loop.gathered is None:
            self.few = c.compare("le", rows, FEW_ROWS)
        memory = None if self.few is False or self.form is not None else lowering.neighbours.get(self.loop.dot)
        if memory is not None and self.suits_neighbours():
            self.apart(lambda: self.with_neighbours(memory, home, rows, total), home, rows, total)
        elif self.few is not False and self.form is None and self.is_read_along_k():
            self.apart(lambda: self.by_few_rows(home, rows, total), home, rows, total)
        else:
            self.any_rows(home, rows, total)
        lowering.frame_top = top

    def apart(self, by_few: Callable[[], None], home: Buffer, rows: Number, total: Number) -> None:
        """Few rows in a way that has nothing in common with that of many."""
        few, self.few = self.few, False
        if isinstance(few, Value):
            self.lowering.rarely(few, by_few, lambda: self.any_rows(home, rows, total))
        else:
            by_few()

    def is_read_along_k(self) -> bool:
        """Whether few rows are multiplied with columns of B that lie along K, element by element."""
        plan = self.plan()
        return plan.along == 0 and plan.step == 1

    def any_rows(self, home: Buffer, rows: Number, total: Number) -> None:
        narrow = self.is_narrow()
        if narrow is None:
            self.rows_or_words(home, rows, total)
        else:
            self.lowering.rarely(narrow, lambda: self.by_columns(home, rows, total),
                                 lambda: self.rows_or_words(home, rows, total))

    def suits_neighbours(self) -> bool:
        """Whether blocks beside each other may share the product. The operands are asked for by code that is not
        kept."""
        lowering, dot = self.lowering, self.loop.dot
        if not self.uniform:
            return False
        outer = lowering.c.enter(Block())
        a, b = (neighbours.window_of(lowering, x) for x in (self.a_of(self.start, 1), self.b_of(self.start, 1)))
        suits = neighbours.suits(a, b, neighbours.column_dim(dot.b))
        lowering.c.leave(outer)
        return suits

    def with_neighbours(self, memory: Value, home: Buffer, rows: Number, total: Number) -> None:
        """Few rows, for which this block or one before it computes the product for several."""
        self.set_chunk(CHUNK_BYTES)
        dot = self.loop.dot

        def b(width: Number) -> Value:
            return self.operand(dot.b, (1, 0), self.start, total, width)

        a = self.operand(dot.a, (0, 1), self.start, total, rows)
        NeighbourProduct(self.lowering, memory, home, a, b(self.wanted)).run(b, rows, self.wanted, total)

    def rows_or_words(self, home: Buffer, rows: Number, total: Number) -> None:
        """Where operands are packed as words, they are of another kind than where rows are few."""
        dot, few = self.loop.dot, self.few
        form = packed_form(self.lowering, dot.a, dot.b, home.dtype) if self.loop.block % WORD == 0 else None
        if few is True or form is None or form == self.form or not self.suits_tiles(form):
            self.by_rows(home, rows, total)
        elif few is False:
            self.by_words(form, home, rows, total)
        else:
            self.lowering.rarely(few, lambda: self.by_few_rows(home, rows, total),
                                 lambda: self.by_words(form, home, rows, total))

    def suits_tiles(self, form: WordForm) -> bool:
        """Whether chunks are whole tiles of words, where they have to be."""
        dtype, form_before = self.dtype, self.form
        self.form, self.dtype = form, form.dtype
        self.set_chunk(CHUNK_BYTES)
        suits = not form.tiles or self.chunk % (form.word * SIDE) == 0
        self.form, self.dtype = form_before, dtype
        return suits

    def by_few_rows(self, home: Buffer, rows: Number, total: Number) -> None:
        few, self.few = self.few, True
        self.by_rows(home, rows, total)
        self.few = few

    def by_words(self, form: WordForm, home: Buffer, rows: Number, total: Number) -> None:
        """Both operands are packed, B as words."""
        before = self.form, self.dtype, self.few
        self.form, self.dtype, self.few = form, form.dtype, False
        self.by_rows(home, rows, total)
        self.form, self.dtype, self.few = before

    def is_narrow(self) -> Value | None:
        """Whether B's array has few columns left, but A's many rows; None where that is never so."""
        c = self.lowering.c
        if self.form is not None or not self.uniform or self.few is True or \
                (isinstance(self.wanted, int) and self.wanted > FEW_COLUMNS):
            return None
        narrow = c.compare("le", self.wanted, FEW_COLUMNS)
        return c.select(self.few, c.const(False, bool_), narrow) if isinstance(self.few, Value) else narrow

    def set_chunk(self, size: int) -> None:
        """How many bytes of K a row of a chunk takes."""
        elements = size // container_bytes(self.dtype)
        self.chunk = max(1, elements // self.loop.block) * self.loop.block
        self.stride = self.chunk + PADDING_BYTES // container_bytes(self.dtype)
        self.slack = 4 * self.lowering.machine.vector_bytes // container_bytes(self.dtype)
        self.lowering.multiplied = Multiplied(self.loop.dot, self.chunk)

    def by_columns(self, home: Buffer, rows: Number, total: Number) -> None:
        """A is read once, where it is, and multiplied with columns of B."""
        lowering, c = self.lowering, self.lowering.c
        self.set_chunk(LONG_CHUNK_BYTES)
        columns = min(self.columns, FEW_COLUMNS)
        outer = c.enter(Block())
        a = turned_tile(lowering, self.a_of(self.start, self.chunk))
        plan = plan_for(lowering, a, self.dtype, columns, self.chunk)
        c.leave(outer)
        turned = lowering.allocate(self.dtype, (columns, self.chunk), (self.stride, 1), extra=self.slack)
        product = FewColumns(lowering, plan, turned, home, rows, self.wanted)
        product.begin()

        def chunk(at: Value, _: list[Value]) -> None:
            lowering.pause_if_due()
            depth, index = c.min(c.sub(total, at), self.chunk), self.index_at(at)
            b = self.operand(self.loop.dot.b, (1, 0), index, self.reach_of(depth))
            self.fill_a(turned_tile(lowering, b), turned, depth, product.stream.filled)
            # Where rows of A are read one by one, those beyond its array are not.
            reach = rows if plan.along == 0 else None
            product.multiply(self.operand(self.loop.dot.a, (0, 1), index, depth, reach), depth)

        c.loop(0, total, self.chunk, [], chunk)
        product.end()

    def by_rows(self, home: Buffer, rows: Number, total: Number) -> None:
        """B is packed, or, where rows are few, read once, where it is: as much of its columns at a time as is long."""
        lowering, c = self.lowering, self.lowering.c
        self.set_chunk(CHUNK_BYTES)
        if self.few is True and self.form is None and self.is_read_along_k():
            self.set_chunk(LONG_CHUNK_BYTES)
        a = lowering.allocate(self.dtype, (self.rows, self.chunk), (self.stride, 1), extra=self.slack)
        stream: FewRows | FewByteRows | None = None
        if self.few is not False:
            stream = FewRows(lowering, self.plan(), a, home, rows, self.wanted if self.plan().along == 0 else None) \
                if self.form is None else FewByteRows(lowering, _of_bytes(self.form), a, home, rows)
        panels, memo_a = None, None
        filled = c.min(self.rows, c.add(rows, blocking(lowering.machine, home.dtype).rows))
        if self.few is not True:
            memory = lowering.memos.pop() if lowering.memos else None
            room = lowering.allocate_raw(self.dtype, self.chunk * self.columns)
            panels = _Panels(room, self.memo_of_b(memory, total))
            if self.loop.gathered is not None:
                self.gathered = self.find_columns(self.loop.gathered)
            memo_a = self.memo_of_a(memory, total, filled)
        kept = panels is not None and panels.memo is not None
        lowering.multiplied = Multiplied(self.loop.dot, self.chunk, kept)
        if stream is not None:
            filled = stream.filled if panels is None else c.select(self.is_few, stream.filled, filled)
        if isinstance(stream, FewRows):
            self.either(stream.begin, None)

        def chunk(at: Value, _: list[Value]) -> None:
            lowering.pause_if_due()
            depth, index = c.min(c.sub(total, at), self.chunk), self.index_at(at)
            packed = a if memo_a is None else self.kept_rows(memo_a, a, at, filled)
            read = self.read_where_it_is(index, depth, packed, None if memo_a is None else memo_a.fits)
            there = read.there if read is not None else None
            if memo_a is not None:
                there = memo_a.hit if there is None else c.b.add(Binary("or", there, memo_a.hit)).result
            if there is None:
                self.pack_a(packed, index, depth, filled)
            else:
                c.branch(there, lambda: None, lambda: self.pack_a(packed, index, depth, filled))
            if isinstance(self.form, ByteForm):
                add_row_sums(lowering, self.form, packed, depth, rows, home, clear=False)

            def multiply() -> None:
                assert stream is not None
                if isinstance(stream, FewRows):
                    stream.chunk(depth)
                    if self.uniform and stream.plan.along == 0:  # columns are read one by one, as many as are wanted
                        stream.multiply(self.operand(self.loop.dot.b, (1, 0), index, depth, self.wanted), 0, depth)
                        return
                self.pieces(at, depth, index, stream.multiply)

            def pack() -> None:
                assert panels is not None
                b = self.packed(panels, at, depth, index)
                rows_of_a = (packed.pointer, self.stride) if read is None else (read.pointer, read.stride)
                ahead = self.ahead(at, total, packed, filled, memo_a, panels.memo)
                self.emit_product(*rows_of_a, b, home, depth, rows, ahead)

            self.either(multiply, pack)

        c.loop(0, total, self.chunk, [], chunk)
        if isinstance(stream, FewRows):
            self.either(stream.end, None)
        for memo in (panels.memo if panels is not None else None, memo_a):
            if memo is not None:
                remember(lowering, memo)

    def pack_a(self, a: Buffer, index: Value, depth: Number, filled: Number) -> None:
        """The first rows of A over a chunk."""
        self.fill_a(self.a_of(index, depth), a, depth, filled)
        if self.form is not None:
            end_rows(self.lowering, a, depth, filled)

    def read_where_it_is(self, index: Value, depth: Number, packed: Buffer, kept: Value | None) -> _Rows | None:
        """A over a chunk for tile registers, which take rows as they lie: where the array has all of them, in whole
        words, and they are not packed for other blocks (``kept``); else those of ``packed``. None where A is made of
        something else."""
        lowering, c, form = self.lowering, self.lowering.c, self.form
        if form is None or not form.tiles or form.shift:
            return None
        rep = lowering.reps[self.operand(self.loop.dot.a, (0, 1), index, depth)]
        window = rep.window if isinstance(rep, Lazy) and isinstance(rep.op, Load) else None
        if window is None or window.memory.packed or window.strides[1] != 1:
            return None
        step = form.word * SIDE
        uneven = c.arith("or", c.arith("and", depth, step - 1), c.arith("and", window.strides[0], form.word - 1))
        there = c.both(window.full, c.compare("eq", uneven, 0))
        assert there is not None
        if kept is not None:
            there = c.select(kept, c.const(False, bool_), there)
        pointer = c.b.add(Select(there, window.pointer, packed.pointer, types=(packed.pointer.type,))).result
        return _Rows(there, pointer, c.select(there, window.strides[0], self.stride))

    def emit_product(self, a: Value, stride: Number, panels: Value, home: Buffer, depth: Number, rows: Number,
                     ahead: Ahead | None) -> None:
        """That of a chunk, with the first rows of A."""
        lowering, c, form = self.lowering, self.lowering.c, self.form
        places = home.pointer, home.strides[0], self.rows, self.columns
        if form is None:
            emit_product(lowering, Product(a, stride, panels, self.chunk, *places, depth, self.dtype, False, rows,
                                           self.wanted, ahead=ahead))
            return
        words = functools.partial(lowering.c.as_pointer, dtype=u32)
        emit_words(lowering, form, Product(
            words(a), stride // form.word if isinstance(stride, int) else c.arith("quo", stride, form.word),
            words(panels), self.chunk // form.word, *places,
            words_of(lowering, depth, form.word), home.dtype, False, rows, self.wanted))

    @property
    def is_few(self) -> Value:
        assert isinstance(self.few, Value)
        return self.few

    def either(self, streams: Callable[[], None], packs: Callable[[], None] | None) -> None:
        """What is done where rows are few, and what is where they are not."""
        if isinstance(self.few, Value):
            self.lowering.c.branch(self.few, streams, packs)
        elif self.few:
            streams()
        elif packs is not None:
            packs()

    def plan(self) -> Plan:
        """How few rows go. What B is like is asked of code that is not kept."""
        lowering = self.lowering
        top, outer = lowering.frame_top, lowering.c.enter(Block())
        depth = self.chunk if self.uniform else self.loop.block
        y = self.b_of(self.start, depth) if self.uniform else self.b_in_iteration(self.start)
        plan = plan_for(lowering, y, self.dtype, self.rows, depth)
        lowering.c.leave(outer)
        lowering.frame_top = top
        return plan

    def inside(self, total: Number) -> tuple[Number, Number]:
        """How many rows of A are not beyond its array, and how much of ``total`` along K."""
        lowering, c = self.lowering, self.lowering.c
        x = self.a_of(self.start, 1)
        limits: list[Number] = [self.rows, total]
        for high, dim in ends_of(lowering, x, (0, 1)):
            limits[dim] = c.max(c.min(limits[dim], high), 0)
        return limits[0], limits[1]

    def index_at(self, at: Number) -> Value:
        """The loop's index where K is ``at``, at the beginning of an iteration."""
        c, loop = self.lowering.c, self.loop
        if loop.step == loop.block:
            return c.value(c.add(self.start, at))
        return c.value(c.add(self.start, c.mul(c.arith("quo", at, loop.block), loop.step)))

    def packed(self, panels: _Panels, at: Value, depth: Number, index: Value) -> Value:
        """The panels of a chunk of B, packed now or before."""
        c, memo = self.lowering.c, panels.memo

        def fill(place: Value) -> None:
            if self.gathered is not None:
                self.fill_gathered(self.gathered, place, at, depth)
                return
            self.pieces(at, depth, index, lambda y, first, n: self.fill_b(y, place, first, n))

        if memo is None:
            fill(panels.room)
            return panels.room
        kept = c.offset(memo.panels, c.mul(at, self.columns))
        place = c.b.add(Select(memo.fits, kept, panels.room, types=(kept.type,))).result
        c.branch(memo.hit, lambda: None, lambda: fill(place))
        return place

    def pieces(self, at: Value, depth: Number, index: Value, body: Callable[[Value, Number, Number], None]) -> None:
        """Run ``body(b, first, depth)`` on the parts of a chunk of B that are one tile: all of it, or iterations."""
        lowering, c = self.lowering, self.lowering.c
        if self.uniform:
            body(self.b_of(index, depth), 0, depth)
            return
        block = self.loop.block

        def iteration(first: Value, _: list[Value]) -> None:
            top = lowering.frame_top
            y = self.b_in_iteration(self.index_at(c.add(at, first)))
            body(y, first, c.min(c.sub(depth, first), block))
            lowering.frame_top = top

        c.loop(0, depth, block, [], iteration)

    # The memory of packed panels.

    def memo_of_b(self, memory: Value | None, total: Number) -> Memo | None:
        """Panels of the column of the grid that the block is in."""
        c = self.lowering.c
        if memory is None or not self.uniform or not is_plain(self.loop.dot.b):
            return None
        column = c.arith("and", self.lowering.block_index[1], PANELS_KEPT - 1) if self.lowering.grouped else 0
        key = c.offset(memory, c.mul(column, MEMO_STRIDE // 8))
        size = c.mul(c.add(total, self.chunk), self.columns)
        return self.memo(key, self.b_of(self.start, 1), total, self.wanted, size)

    def memo_of_a(self, memory: Value | None, total: Number, filled: Number) -> Memo | None:
        """Rows of A for all of K, chunk by chunk."""
        c = self.lowering.c
        if memory is None or not is_plain(self.loop.dot.a):
            return None
        chunks = c.arith("quo", c.add(total, self.chunk - 1), self.chunk)
        size = c.add(c.mul(chunks, c.mul(filled, self.stride)), self.slack)
        memory = memory if self.form is not None else self.rows_of.setdefault((self.loop.dot.a, self.dtype), memory)
        return self.memo(c.offset(memory, PANELS_KEPT * (MEMO_STRIDE // 8)), self.a_of(self.start, 1), total, filled,
                         size)

    def kept_rows(self, memo: Memo, otherwise: Buffer, at: Value, filled: Number) -> Buffer:
        """Where the ``filled`` rows of the chunk at ``at`` are kept, or, where there is no room for all, packed."""
        c = self.lowering.c
        region = c.mul(c.arith("quo", at, self.chunk), c.mul(filled, self.stride))
        place = c.offset(memo.panels, region)
        pointer = c.b.add(Select(memo.fits, place, otherwise.pointer, types=(place.type,))).result
        return Buffer(pointer, otherwise.dtype, otherwise.shape, otherwise.strides)

    def ahead(self, at: Value, total: Number, packed: Buffer, filled: Number, memo_a: Memo | None,
              memo_b: Memo | None) -> Ahead | None:
        """What is read after the chunk at ``at``, where it is one of several; ``filled`` rows of A are ``packed``."""
        lowering, c = self.lowering, self.lowering.c
        if not lowering.machine.asks_for_panels or self.form is not None or not self.uniform:
            return None
        following = c.compare("lt", c.add(at, self.chunk), total)
        index = self.index_at(c.select(following, c.add(at, self.chunk), at))
        b = rows_of(lowering, self.operand(self.loop.dot.b, (1, 0), index, self.chunk))
        a, size = None, container_bytes(self.dtype)
        if memo_a is not None:
            # After the last chunk the next block begins with the first one, if its rows are the same.
            region = c.mul(filled, self.stride)
            further = c.select(following, region, c.sub(0, c.mul(c.arith("quo", at, self.chunk), region)))
            kept = c.offset(packed.pointer, c.select(memo_a.fits, further, 0))
            a = Rows(c.as_pointer(kept, u8), self.stride * size, size)
        hit = c.const(False, bool_) if memo_b is None else memo_b.hit
        return Ahead(a, b, c.select(hit, c.const(False, bool_), following), c.compare("gt", total, self.chunk),
                     self.chunk)

    def memo(self, key: Value, value: Value, total: Number, needed: Number, size: Number) -> Memo | None:
        c = self.lowering.c
        many = c.b.add(Binary("xor", self.few, c.const(True, bool_))).result if isinstance(self.few, Value) else None
        return memo_of(self.lowering, key, value, self.dtype, total, needed, size, many)

    # The operands over a chunk.

    def a_of(self, index: Value, depth: Number) -> Value:
        """A over the chunk that starts where the loop's index has the given value. It is packed by vectors along K that
        may run past the chunk's end."""
        return self.operand(self.loop.dot.a, (0, 1), index, self.reach_of(depth))

    def reach_of(self, depth: Number) -> Number:
        """How far vectors along K may run."""
        c, width = self.lowering.c, self.slack
        return c.mul(c.arith("quo", c.add(depth, width - 1), width), width)

    def b_of(self, index: Value, depth: Number) -> Value:
        """The same of B, which is packed row by row, exactly, or by blocks where the memory runs along K."""
        y = self.operand(self.loop.dot.b, (1, 0), index, depth)
        if self.form is not None or source_dim(self.lowering, y) != 0:
            return y
        c, side = self.lowering.c, side_of(y.tile.dtype)
        reach = c.mul(c.arith("quo", c.add(depth, side - 1), side), side)
        return self.operand(self.loop.dot.b, (1, 0), index, reach)

    def operand(self, value: Value, dims: tuple[int | None, ...], index: Value, reach: Number,
                across: Number | None = None) -> Value:
        """An operand over ``reach`` along K from an index of the loop on; ``across``: rows of A, or columns of B, other
        than a tile's."""
        lowering = self.lowering
        for known in self.invariants:  # whose windows were computed in another branch, perhaps
            del lowering.reps[known]
        self.invariants.clear()
        self.enter_iteration(index, lambda op: all(r.tile.is_scalar for r in op.results))
        longer = self.converted(self.lengthen(value, dims, reach, across, {}))
        lowering.blocks.pop()
        return longer

    def find_columns(self, found: Separable) -> GatheredPanels:
        """Where the columns of a gathered B are, for all of K."""
        panels = GatheredPanels(self.lowering, found, self.chunk, self.columns, self.dtype)
        needed = needed_by(found.values(1, None), self.loop.op.body)
        self.enter_iteration(self.start, lambda op: any(r in needed for r in op.results))
        panels.find_columns()
        self.lowering.blocks.pop()
        return panels

    def fill_gathered(self, panels: GatheredPanels, place: Value, at: Value, depth: Number) -> None:
        """Panels of a chunk of a gathered B: first where its rows are."""
        lowering, c = self.lowering, self.lowering.c
        needed = needed_by(panels.found.values(0), self.loop.op.body)

        def iteration(first: Value, _: list[Value]) -> None:
            top = lowering.frame_top
            self.enter_iteration(self.index_at(c.add(at, first)), lambda op: any(r in needed for r in op.results))
            panels.find_rows(first, self.loop.block)
            lowering.blocks.pop()
            lowering.frame_top = top

        c.loop(0, depth, self.loop.block, [], iteration)
        panels.fill(place, depth, self.wanted)

    def b_in_iteration(self, index: Value) -> Value:
        """B of one iteration of the loop, by the program's own operations."""
        lowering = self.lowering
        needed = needed_by([self.loop.dot.b], self.loop.op.body)
        self.enter_iteration(index, lambda op: any(r in needed for r in op.results))
        y = self.converted(self.loop.dot.b)
        lowering.blocks.pop()
        return y

    def converted(self, value: Value) -> Value:
        """An operand in the type in which it is multiplied."""
        if self.form is not None:
            return in_form(self.lowering, self.form, value)
        return converted(self.lowering, value, self.dtype)

    def enter_iteration(self, index: Value, wanted: Callable[[Operation], bool]) -> None:
        """Lower some operations of the loop's body for a value of its index."""
        lowering = self.lowering
        lowering.scalars[self.loop.op.index] = index
        lowering.blocks.append(BlockState())
        for op in self.loop.op.body.ops:
            if op is not self.loop.dot and not op.TERMINATOR and wanted(op):
                lower(lowering, op)

    def lengthen(self, value: Value, dims: tuple[int | None, ...], reach: Number, across: Number | None,
                 mapping: dict[Value, Value]) -> Value:
        """The tile with its K extent grown to that of a chunk."""
        lowering = self.lowering
        if value.tile.is_scalar or 1 not in dims:
            return self.invariant(value)
        if value in mapping:
            return mapping[value]
        op = value.defining
        assert op is not None
        shape = tuple(self.chunk if d == 1 else n for n, d in zip(value.tile.shape, dims, strict=True))
        if isinstance(op, Const):
            copy: Operation = Const(op.value, op.dtype, shape)
            rep = lowering.lazy(copy, 0, free=True)
        elif isinstance(op, Load):
            copy = Load(op.view, op.offsets, shape, None, op.other, types=(TileType(value.tile.dtype, shape),))
            extents: list[Number] = [reach if d == 1 else n if across is None or d is None else across
                                     for n, d in zip(shape, dims, strict=True)]
            memory = lowering.views[op.view]
            window = make_window(lowering, memory, op.offsets, shape, extents)
            rep = lowering.lazy(copy, 1, window=window, roots=(memory.root,))
        else:
            sources = [self.lengthen(o, () if o.tile.is_scalar else source_dims(op, o, dims), reach, across,
                                    mapping)
                       for o in op.operands]
            copy = self.rebuild(op, sources, shape)
            rep = lowering.lazy(copy, 1)
        lowering.reps[copy.result] = rep
        mapping[value] = copy.result
        return copy.result

    def invariant(self, value: Value) -> Value:
        """A tile without K: as it is, made lazy if it is defined in the loop."""
        lowering = self.lowering
        if not value.tile.is_scalar and value not in lowering.reps:
            op = value.defining
            assert op is not None
            for operand in op.operands:
                if isinstance(operand.type, TileType):
                    self.invariant(operand)
            lower(lowering, op)
            self.invariants.append(value)
        return value

    def rebuild(self, op: Operation, sources: Sequence[Value], shape: tuple[int, ...]) -> Operation:
        operands = iter(sources)
        values = dict(op.attributes)
        for name, _ in op.OPERAND_FIELDS:
            values[name] = next(operands)
        if isinstance(op, Broadcast):
            values["shape"] = shape
        return type(op)(span=op.span, types=(TileType(op.result.tile.dtype, shape),), **values)

    # Packing.

    def fill_b(self, value: Value, pointer: Value, first: Number, depth: Number) -> None:
        lowering = self.lowering
        if self.form is not None:
            word = self.form.word
            pack_words(lowering, self.form, value, lowering.c.as_pointer(pointer, u32), depth, self.columns,
                       self.chunk // word, words_of(lowering, first, word), depth)
            return

        def emit() -> list[Value]:
            fill_panels(lowering, value, pointer, depth, self.columns, self.dtype, self.wanted, self.chunk, first)
            return []

        versions(lowering, windows_of(lowering, [value]), emit)

    def fill_a(self, value: Value, target: Buffer, depth: Number, rows: Number) -> None:
        """Rows by vectors along K, the last of which may run past the end; or transposed blocks."""
        lowering, c = self.lowering, self.lowering.c

        def emit() -> list[Value]:
            if source_dim(lowering, value) == 0 and can_transpose(value.tile.dtype, *target.shape):
                copy_transposed(lowering, value, target.shape, 0, 1,
                                lambda at, x: store_buffer(lowering, target, at, x), stops=(rows, depth))
                return []
            lanes = min(4 * lowering.machine.vector_bytes // container_bytes(self.dtype), self.chunk)
            lanes = 1 << (lanes.bit_length() - 1)
            saved, lowering.lanes = lowering.lanes, lanes if lanes > 1 else 0

            def row(i: Value, _: list[Value]) -> list[Value]:
                prefetch_rows(lowering, value, i)

                def column(k: Value, _: list[Value]) -> list[Value]:
                    at = (Coord(i), Coord(k, 0, lanes > 1))
                    store_buffer(lowering, target, at, evaluate(lowering, value, at))
                    return []

                c.loop(0, depth, lanes, [], column)
                return []

            c.loop(0, rows, 1, [], row)
            lowering.lanes = saved
            return []

        versions(lowering, windows_of(lowering, [value]), emit)
