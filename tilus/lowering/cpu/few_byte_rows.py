"""Products of few rows of bytes: words of B are made where they are needed, and multiplied without packing.

Where B is contiguous along K, vectors are of one column, and their lanes are summed in the end; else they are of
neighbouring columns, and words of A are broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i32, u32
from tilus.ir.ops import Binary, PtrLoad, PtrStore
from tilus.ir.ops.simd import DotPairs, PairSums
from tilus.ir.ops.words import Regroup
from tilus.lowering.cpu import ways
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.byte_products import (
    WORD,
    ByteForm,
    depth_words,
    multiply_bytes,
    over_words,
    row_words,
)
from tilus.lowering.cpu.column_codes import ColumnCodes, RowCodes, column_codes, either, row_codes
from tilus.lowering.cpu.few_rows import (
    FEW_ROWS,
    HEIGHT,
    NARROW,
    PREFETCHED_LINES,
    STREAMED_ROWS,
    WIDEST,
    groups_of_rows,
    row_groups,
)
from tilus.lowering.cpu.microkernel import over, sum_of_lanes
from tilus.lowering.cpu.nest import vector_pieces, versions, windows_of
from tilus.lowering.cpu.prepacked import prefetch_words
from tilus.lowering.cpu.transpose import source_dim
from tilus.lowering.cpu.values import Buffer, Coord, Number, coord_at

SIDE_BY_SIDE = 4
"""Columns that are read at a time, where B is contiguous along K."""


class FewByteRows:
    """A product of ``rows`` rows of A, which come in chunks, with B, which comes in pieces of those. What A's sums add
    to it is not seen to."""

    def __init__(self, lowering: BlockLowering, form: ByteForm, a: Buffer, home: Buffer, rows: Number) -> None:
        self.lowering, self.c, self.form = lowering, lowering.c, form
        self.a, self.home, self.rows = a, home, rows
        self.lanes = lowering.machine.vector_bytes // WORD
        self.height = min(HEIGHT, home.shape[0])
        self.grouped, self.filled = groups_of_rows(self.c, home.shape[0], self.height, rows)

    def multiply(self, value: Value, first: Number, depth: Number, reach: Number | None = None) -> None:
        """Add the product with rows ``first`` (of a word) up to ``first + depth`` of the chunk, which ``value`` gives.
        A is zero from ``first + reach`` on."""
        along = source_dim(self.lowering, value)
        count, alone = (SIDE_BY_SIDE if along == 0 else self.lanes * self.vectors_of(n) for n in (self.height, 1))
        ways.note_way(self.lowering, ways.FEW_ROWS, self.a.dtype, self.height, count,
                      "K" if along == 0 else "columns", alone=alone, of_bytes=True)

        def emit() -> Sequence[Value]:
            if along == 0:
                self.along_depth(value, first, depth)
            else:
                self.along_columns(value, first, depth)
            return []

        codes = column_codes(self.lowering, self.form, value, self.lanes) \
            if self.home.shape[1] % self.lanes == 0 else None
        spread_codes = row_codes(self.lowering, self.form, value, self.lanes)
        if spread_codes is not None:
            either(self.lowering, spread_codes.condition(self.lowering),
                   lambda: self.along_spread(spread_codes, value, first, depth), emit)
            return
        if codes is None:
            versions(self.lowering, windows_of(self.lowering, [value]), emit)
            return
        condition, stop = codes.there(self.lowering, depth, depth if reach is None else reach)
        either(self.lowering, condition, lambda: row_groups(
            self.c, self.rows, self.grouped, self.height,
            lambda i, height: self.code_columns(codes, i, height, first, stop)), emit)

    def vectors_of(self, height: int) -> int:
        """How many vectors of accumulators each of so many rows has."""
        return (WIDEST if height == 1 else NARROW) // (2 if self.lowering.machine.registers <= 16 else 1)

    # Words of columns.

    def code_columns(self, codes: ColumnCodes, i: Number, height: int, first: Number, depth: Number) -> None:
        lowering, lanes = self.lowering, self.lanes
        order = codes.window.memory.order
        assert order is not None
        count = self.vectors_of(height)
        for start, stop, width in vector_pieces(self.home.shape[1], max(count * lanes, order.lanes)):
            def piece(j: Number, width: int = width) -> None:
                for part in range(0, width, count * lanes):
                    self.code_vectors(codes, i, height, first, depth, j, range(part, min(part + count * lanes, width),
                                                                               lanes))

            over(lowering, start, stop, width, piece)

    def code_vectors(self, codes: ColumnCodes, i: Number, height: int, first: Number, depth: Number, j: Number,
                     columns: range) -> None:
        """Some rows by the vectors that begin at ``columns`` after ``j``."""
        lowering, c, lanes = self.lowering, self.c, self.lanes
        places = [self.place(i, r, j, n) for r in range(height) for n in columns]

        def step(k: Value, acc: list[Value]) -> list[Value]:
            prefetch_words(lowering, codes.window, k, c.add(j, columns[0]), len(columns), PREFETCHED_LINES)
            a_words = [[c.splat(self.a_words(i, r, c.add(c.add(first, k), n)), lanes) for r in range(height)]
                       for n in range(0, codes.depth, WORD)]
            for v, column in enumerate(columns):
                for xs, y in zip(a_words, codes.words(lowering, k, j, column, lanes), strict=True):
                    for r, x in enumerate(xs):
                        at = r * len(columns) + v
                        acc[at] = self.multiply_add(x, y, acc[at])
            return acc

        init = [c.b.add(PtrLoad(p, lanes)).result for p in places]
        for p, x in zip(places, c.loop(0, depth, codes.depth, init, step), strict=True):
            c.b.add(PtrStore(p, x))

    def a_words(self, i: Number, r: int, k: Number, lanes: int = 0) -> Value:
        """Words of row ``i + r`` from element ``k`` on."""
        c, stride = self.c, self.a.strides[0]
        pointer = c.offset(c.offset(c.offset(self.a.pointer, c.mul(i, stride)), k), r * stride)
        return c.b.add(PtrLoad(c.as_pointer(pointer, u32), lanes, 0 if not lanes else WORD)).result

    def place(self, i: Number, r: int, j: Number, further: int) -> Value:
        c, stride = self.c, self.home.strides[0]
        return c.offset(c.offset(self.home.pointer, c.add(c.mul(i, stride), j)), r * stride + further)

    def multiply_add(self, x: Value, y: Value, total: Value) -> Value:
        return multiply_bytes(self.lowering, self.form, x, y, total)

    # Codes row by row.

    def along_spread(self, codes: RowCodes, value: Value, first: Number, depth: Number) -> None:
        """As :meth:`along_columns`, with the sums in the order of the codes until the end."""
        lowering, c, lanes, step = self.lowering, self.c, self.lanes, codes.step
        columns = self.home.shape[1]
        sums = lowering.allocate(i32, (min(self.home.shape[0], FEW_ROWS), columns))
        whole = depth // WORD * WORD if isinstance(depth, int) else c.arith("and", depth, -WORD)

        def vectors(buffer: Buffer, i: Number, j: Number) -> list[Value]:
            place = c.offset(buffer.pointer, c.add(c.mul(i, buffer.strides[0]), j))
            return [c.offset(place, n * lanes) for n in range(step)]

        def each(body: Callable[[Value, Value], None]) -> None:
            c.loop(0, self.rows, 1, [], lambda i, _: c.loop(0, columns, step * lanes, [], lambda j, _: body(i, j)))

        def clear(i: Value, j: Value) -> None:
            for place in vectors(sums, i, j):
                c.b.add(PtrStore(place, c.const(0, i32, lanes)))

        def block(top: Value, bottom: Number, i: Value, j: Value) -> None:
            places = vectors(sums, i, j)

            def word(k: Value, acc: list[Value]) -> list[Value]:
                codes.prefetch(lowering, k, j)
                x = c.splat(self.a_words(i, 0, c.add(first, k)), lanes)
                words = [y for z in codes.columns(lowering, k, j, lanes) for y in codes.parts(lowering, z)]
                return [self.multiply_add(x, y, z) for y, z in zip(words, acc, strict=True)]

            init = [c.b.add(PtrLoad(p, lanes)).result for p in places]
            for p, x in zip(places, c.loop(top, bottom, WORD, init, word), strict=True):
                c.b.add(PtrStore(p, x))

        reached: Number = 0
        each(clear)
        if self.sums_in_halves(codes):
            reached = whole // STREAMED_ROWS * STREAMED_ROWS if isinstance(whole, int) else \
                c.arith("and", whole, -STREAMED_ROWS)
            c.loop(0, reached, STREAMED_ROWS, [], lambda top, _: each(
                lambda i, j: self.block_in_halves(codes, i, j, first, top, vectors(sums, i, j))))
        c.loop(reached, whole, STREAMED_ROWS, [], lambda top, _: each(
            lambda i, j: block(top, c.min(c.add(top, STREAMED_ROWS), whole), i, j)))

        def finish(i: Value, j: Value) -> None:
            parts = []
            for place, scale in zip(vectors(sums, i, j), codes.scales * WORD, strict=True):
                x = c.b.add(PtrLoad(place, lanes)).result
                by = c.const(scale.bit_length() - 1, i32, lanes)
                parts.append(c.b.add(Binary("asr", x, by)).result if scale > 1 else x)
            for place, x in zip(vectors(self.home, i, j), codes.in_place(lowering, parts), strict=True):
                c.b.add(PtrStore(place, c.b.add(Binary("add", x, c.b.add(PtrLoad(place, lanes)).result)).result))

        each(finish)
        if not (isinstance(depth, int) and depth == whole):
            row_groups(c, self.rows, self.grouped, self.height,
                       lambda i, height: self.columns(value, i, height, first, whole, depth))

    def sums_in_halves(self, codes: RowCodes) -> bool:
        """Whether i16 holds the sums of two products in each word of a block of rows, which take fewer instructions so
        than in i32."""
        greatest = max(abs(int(n)) for n in (self.form.dtype.min_value, self.form.dtype.max_value))
        return self.lowering.machine.byte_products == "pmaddubsw" and self.form.signed and \
            STREAMED_ROWS // WORD * 2 * greatest * codes.most * max(codes.scales) < 1 << 15

    def block_in_halves(self, codes: RowCodes, i: Number, j: Number, first: Number, top: Number, places: list[Value]
                        ) -> None:
        """Add the products of a block of rows to the sums at ``places``, one of them after another, lest registers run
        short."""
        lowering, c, b, lanes = self.lowering, self.c, self.c.b, self.lanes
        rows = [c.add(top, n) for n in range(0, STREAMED_ROWS, WORD)]
        xs = [c.splat(self.a_words(i, 0, c.add(first, row)), lanes) for row in rows]
        words = []
        for row in rows:
            codes.prefetch(lowering, row, j)
            words.append(codes.columns(lowering, row, j, lanes))
        ones = c.const(0x10001, u32, lanes)
        waiting = iter(places)
        for of_rows in zip(*words, strict=True):
            for parts in zip(*(codes.parts(lowering, word) for word in of_rows), strict=True):
                total = b.add(PairSums(parts[0], xs[0])).result
                for part, x in zip(parts[1:], xs[1:], strict=True):
                    total = b.add(Binary("add", total, b.add(PairSums(part, x)).result)).result
                place = next(waiting)
                old = b.add(PtrLoad(place, lanes)).result
                b.add(PtrStore(place, b.add(DotPairs(old, b.add(Regroup(total, u32)).result, ones)).result))

    # Vectors of columns.

    def along_columns(self, value: Value, first: Number, depth: Number) -> None:
        """Some rows of B at a time, so that they are read as streams and stay near for other rows of A."""
        c = self.c
        whole = depth // WORD * WORD if isinstance(depth, int) else c.arith("and", depth, -WORD)

        def rows(top: Number, bottom: Number) -> None:
            row_groups(c, self.rows, self.grouped, self.height,
                       lambda i, height: self.columns(value, i, height, first, top, bottom))

        c.loop(0, whole, STREAMED_ROWS, [], lambda k, _: rows(k, c.min(c.add(k, STREAMED_ROWS), whole)))
        if not isinstance(depth, int):
            c.branch(c.compare("lt", whole, depth), lambda: rows(whole, depth))
        elif depth != whole:
            rows(whole, depth)

    def columns(self, value: Value, i: Number, height: int, first: Number, top: Number, bottom: Number) -> None:
        lowering, c = self.lowering, self.c
        count = self.vectors_of(height)
        if windows_of(lowering, [value]):  # with bounds to look at, code is to be short
            count = 1
        for start, stop, width in vector_pieces(self.home.shape[1], count * self.lanes):
            lanes = min(width, self.lanes) if width > 1 else 0
            vectors = width // max(1, lanes)

            def piece(j: Number, lanes: int = lanes, vectors: int = vectors) -> None:
                places = [self.place(i, r, j, v * lanes) for r in range(height) for v in range(vectors)]
                columns = [coord_at(j, lanes > 0, v * lanes) for v in range(vectors)]

                def word(k: Value, rows: list[Coord], acc: list[Value]) -> list[Value]:
                    xs = [c.splat(self.a_words(i, r, c.add(first, k)), lanes) for r in range(height)]
                    for v, column in enumerate(columns):
                        y = row_words(lowering, self.form, value, rows, column)
                        for r, x in enumerate(xs):
                            acc[r * vectors + v] = self.multiply_add(x, y, acc[r * vectors + v])
                    return acc

                saved, lowering.lanes = lowering.lanes, lanes
                init = [c.b.add(PtrLoad(p, lanes)).result for p in places]
                for p, x in zip(places, over_words(lowering, top, bottom, init, word), strict=True):
                    c.b.add(PtrStore(p, x))
                lowering.lanes = saved

            over(lowering, start, stop, width, piece)

    # Vectors along K.

    def along_depth(self, value: Value, first: Number, depth: Number) -> None:
        row_groups(self.c, self.rows, self.grouped, self.height,
                   lambda i, height: self.column_groups(value, i, height, first, depth))

    def column_groups(self, value: Value, i: Number, height: int, first: Number, depth: Number) -> None:
        c = self.c
        for start, stop, width in vector_pieces(self.home.shape[1], SIDE_BY_SIDE):
            def columns(j: Number, width: int = width) -> None:
                places = [self.place(i, r, j, n) for r in range(height) for n in range(width)]
                totals = [c.b.add(PtrLoad(p)).result for p in places]
                reached: Number = 0
                for lanes in (self.lanes, WORD):
                    totals, reached = self.vectors(value, i, height, first, reached, depth, j, width, lanes, totals)
                totals = self.single_words(value, i, height, first, reached, depth, j, width, totals)
                for p, x in zip(places, totals, strict=True):
                    c.b.add(PtrStore(p, x))

            over(self.lowering, start, stop, width, columns)

    def vectors(self, value: Value, i: Number, height: int, first: Number, start: Number, depth: Number, j: Number,
                width: int, lanes: int, totals: list[Value]) -> tuple[list[Value], Number]:
        """What vectors of ``lanes`` words from row ``start`` on add to the products of some rows and columns, and the
        row that they reach."""
        c, block = self.c, lanes * WORD
        stop = depth // block * block if isinstance(depth, int) else c.arith("and", depth, -block)
        if isinstance(stop, int) and isinstance(start, int) and stop <= start:
            return totals, start

        def step(k: Value, acc: list[Value]) -> list[Value]:
            xs = [self.a_words(i, r, c.add(first, k), lanes) for r in range(height)]
            for n in range(width):
                y = depth_words(self.lowering, self.form, value, Coord(k, 0, True), coord_at(j, False, n), lanes)
                for r, x in enumerate(xs):
                    acc[r * width + n] = self.multiply_add(x, y, acc[r * width + n])
            return acc

        sums = c.loop(start, stop, block, [c.const(0, i32, lanes)] * len(totals), step)
        return [c.b.add(Binary("add", t, sum_of_lanes(self.lowering, x))).result
                for t, x in zip(totals, sums, strict=True)], stop

    def single_words(self, value: Value, i: Number, height: int, first: Number, start: Number, depth: Number,
                     j: Number, width: int, totals: list[Value]) -> list[Value]:
        c, lowering = self.c, self.lowering
        saved, lowering.lanes = lowering.lanes, 0

        def word(k: Value, rows: list[Coord], acc: list[Value]) -> list[Value]:
            xs = [self.a_words(i, r, c.add(first, k)) for r in range(height)]
            for n in range(width):
                y = row_words(lowering, self.form, value, rows, coord_at(j, False, n))
                for r, x in enumerate(xs):
                    acc[r * width + n] = self.multiply_add(x, y, acc[r * width + n])
            return acc

        totals = over_words(lowering, start, depth, totals, word)
        lowering.lanes = saved
        return totals


__all__ = ["FewByteRows"]
