"""Products with few rows: B is read once, in memory order, and multiplied where it is, without packing.

The accumulators are vectors in registers. Where B is contiguous along its columns they are of neighbouring columns, and
elements of A are broadcast; where it is contiguous along K they are of one column, along K, and summed at the very end.
Elements that are denser than lanes come in an order of their own (``spread.py``), in which the sums are kept until
then.

What is not whole vectors of tiles that are all in bounds is done by a short general loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bool_
from tilus.ir.ops import Binary, PtrLoad, PtrStore, Select
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu import ways
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.evaluate import dependencies, evaluate, leaves, moved_coords
from tilus.lowering.cpu.factors import Factored, factored
from tilus.lowering.cpu.lookup import looked_up
from tilus.lowering.cpu.microkernel import multiply_add, sum_of_lanes
from tilus.lowering.cpu.movements import source_dims
from tilus.lowering.cpu.nest import vector_pieces, windows_of
from tilus.lowering.cpu.prefetching import LINE_BYTES, LONG_ROW_BYTES, RowsToCome, prefetch_row
from tilus.lowering.cpu.prepacked import in_words, prefetch_words
from tilus.lowering.cpu.spread import WORD_BITS, can_spread, gathered, spread
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Number, TileOrder, Window
from tilus.records import record

FEW_ROWS = 8
"""Up to how many rows packing B costs more than it gains."""
HEIGHT = 4
"""Rows at a time, where there are so many."""
WIDEST = 8
"""Vectors of accumulators of a row alone."""
NARROW = 4
"""Vectors of accumulators of each of several rows; half as many where there are 16 registers."""
STREAMED_ROWS = 16
"""Rows of B that are read side by side: fewer than the streams that a processor sees."""
LONGEST_RUN = 64
"""Vectors that the code of a loop over prepacked elements has, at most."""
PREFETCHED_LINES = 64
"""How far ahead prepacked elements are asked for: a page, where the processor's own prefetching ends."""


@record(frozen=True, slots=True)
class Plan:
    """``along``: the dimension of B (K × N) that vectors run along. ``step``: elements of it that a lane is from the
    next one. ``wide``: vectors of columns, or columns, of a row alone; ``narrow``: of ``height`` rows. ``scaled``: what
    is summed up over a piece of B is multiplied by scales. ``run``: vectors along columns that come out of the same
    words; ``depth``: rows of B that do, where they are not one by one."""

    along: int
    step: int
    lanes: int
    wide: int
    narrow: int
    height: int
    scaled: bool
    run: int = 1
    depth: int = 1

    @property
    def block(self) -> int:
        """Elements that ``step`` vectors take."""
        return self.lanes * self.step

    @property
    def columns(self) -> int:
        """Columns that a row alone takes at a time."""
        return max(self.wide, self.run) * self.lanes if self.along == 1 else self.wide


def plan_for(self: BlockLowering, value: Value, dtype: DType, rows: int, depth: int) -> Plan:
    """How a product with B goes, by how it lies in memory: ``rows`` are those of A's tile, ``depth`` is the K over
    which ``value`` is given at a time."""
    columns = value.tile.shape[1]
    lanes = self.machine.vector_bytes // container_bytes(dtype)
    window, along = _main_window(self, value)
    extent = columns if along == 1 else depth
    step, run, deep = 1, 1, 1
    if window is not None and window.memory.order is not None:
        run, deep = _runs(window.memory.order, window.memory.dtype, columns, lanes) if along == 1 else (1, 0)
    elif window is not None and window.memory.packed:
        step = run = next((n for n in (16, 8, 4, 2) if can_spread(window.memory.dtype.bits, n)
                           and extent % (n * lanes) == 0), 1)
    units = columns // lanes if along == 1 else columns
    wide = next((n for n in (16, 8, 4, 2, 1) if n <= max(step, WIDEST) and units % n == 0 and
                 (along == 0 or n % run == 0 or run % n == 0)), 1)
    height = min(HEIGHT, rows)
    scaled = bool(factored(self, value).scales)
    narrow = NARROW if self.machine.registers > 16 else NARROW // 2
    return Plan(along, step, lanes, wide, min(wide, narrow), height, scaled, run, deep)


def _runs(order: TileOrder, dtype: DType, columns: int, lanes: int) -> tuple[int, int]:
    """Of a prepacked array: vectors along columns, and rows, after which elements begin at words again. 0 rows where
    they are too many, or elements are not in words."""
    if not in_words(order, dtype) or order.depth > 1 or order.columns != columns or order.lanes % lanes:
        return 1, 0
    period = WORD_BITS // math.gcd(WORD_BITS, dtype.packed_bits)
    if order.vectors % period == 0:
        run, deep = period, 1
    else:
        run, deep = order.vectors, period // math.gcd(period, order.vectors)
    run *= order.lanes // lanes
    return (run, deep) if run * deep <= LONGEST_RUN and deep <= lanes else (1, 0)


def _main_window(self: BlockLowering, value: Value) -> tuple[Window | None, int]:
    """The load that most of B's bits come from, and along which dimension it is contiguous."""
    best: tuple[Window | None, int] = (None, 1)
    for rep, dims in leaves(self, value, (0, 1)):
        window = rep.window if isinstance(rep, Lazy) else None
        if window is None or 0 not in dims or 1 not in dims:
            continue
        along = next((d for s, d in zip(window.strides, dims, strict=True)
                      if d is not None and isinstance(s, int) and s == 1), None)
        if along is not None and (best[0] is None or window.memory.packed):
            best = (window, along)
    return best


def groups_of_rows(c: Cursor, tile_rows: int, height: int, rows: Number) -> tuple[Number, Number]:
    """How many of ``rows`` are done in groups of ``height``, and how many that makes with those that are done alone:
    rows that do not fill a group are done alone, or with rows of zeros where there is room for those."""
    padding = 1 if tile_rows % height == 0 and height > 2 else 0
    grouped: Number = 0
    if height > 1:
        groups = (rows + padding) // height if isinstance(rows, int) else c.arith("quo", c.add(rows, padding), height)
        grouped = c.mul(groups, height)
    return grouped, c.max(grouped, rows)


def row_groups(c: Cursor, rows: Number, grouped: Number, height: int, body: Callable[[Number, int], None]) -> None:
    """Run ``body(first, rows)`` for groups of rows, then for rows alone."""
    if isinstance(rows, int) and rows == 1:
        body(0, 1)
        return
    if height > 1:
        c.loop(0, grouped, height, [], lambda i, _: body(i, height))
    c.loop(grouped, rows, 1, [], lambda i, _: body(i, 1))


class FewRows:
    """A product of ``rows`` rows of A, which come in chunks, with B, which comes in pieces of those. ``wanted``: how
    many columns of B are read where vectors run along K, if not all."""

    def __init__(self, lowering: BlockLowering, plan: Plan, a: Buffer, home: Buffer, rows: Number,
                 wanted: Number | None = None) -> None:
        self.lowering, self.c, self.plan = lowering, lowering.c, plan
        self.a, self.home, self.rows = a, home, rows
        self.dtype = home.dtype
        self.tile_rows, self.columns = home.shape
        self.wanted: Number = self.columns if wanted is None else wanted
        self.way = ways.FEW_ROWS
        few = min(self.tile_rows, -(-FEW_ROWS // plan.height) * plan.height)
        self.ordered = a
        if plan.step > 1 and plan.along == 0:
            self.ordered = lowering.allocate(a.dtype, (few, a.strides[0]))
        self.sums = home
        if plan.along == 0 or plan.step > 1:
            self.sums = lowering.allocate(self.dtype, (few, self.columns * (plan.lanes if plan.along == 0 else 1)))
        # Sums over a piece of B in several passes, before they are scaled.
        self.parts = self.sums
        if plan.scaled and plan.along == 1:
            self.parts = lowering.allocate(self.dtype, (few, self.columns))
        self.grouped, self.filled = groups_of_rows(self.c, self.tile_rows, plan.height, rows)

    def begin(self) -> None:
        """Before the first chunk."""
        c, lanes = self.c, self.plan.lanes
        zero = c.const(0, self.dtype, lanes)
        for buffer in {id(b): b for b in (self.sums, self.parts) if b is not self.home}.values():
            count = buffer.shape[1] // lanes * lanes

            def row(i: Value, _: list[Value], buffer: Buffer = buffer, count: int = count) -> None:
                c.loop(0, count, lanes, [], lambda at, _: self.put(self.row_of(buffer, i, 0, at), zero))

            c.loop(0, self.filled, 1, [], row)

    def put(self, pointer: Value, value: Value) -> None:
        self.c.b.add(PtrStore(pointer, value))

    def chunk(self, depth: Number) -> None:
        """A holds another chunk: bring it into the order of B's elements."""
        if self.plan.depth > 1:  # rows of B come in groups, and the last one may be filled up
            zero = self.c.const(0, self.dtype, self.plan.lanes)
            self.c.loop(0, self.filled, 1, [], lambda i, _: self.put(self.row_of(self.a, i, 0, depth), zero))
        if self.ordered is self.a:
            return
        c, lanes, block = self.c, self.plan.lanes, self.plan.block

        def row(i: Value, _: list[Value]) -> None:
            source = c.offset(self.a.pointer, c.mul(i, self.a.strides[0]))
            target = c.offset(self.ordered.pointer, c.mul(i, self.ordered.strides[0]))

            def part(k: Value, _: list[Value]) -> None:
                run = [self.load(c.offset(source, k), n * lanes, lanes) for n in range(self.plan.step)]
                for n, x in enumerate(spread(self.lowering, run)):
                    c.b.add(PtrStore(c.offset(c.offset(target, k), n * lanes), x))

            c.loop(0, c.mul(self.blocks(depth), block), block, [], part)

        c.loop(0, self.filled, 1, [], row)

    def blocks(self, depth: Number) -> Number:
        block = self.plan.block
        return depth // block if isinstance(depth, int) else self.c.arith("quo", depth, block)

    def multiply(self, value: Value, first: Number, depth: Number) -> None:
        """Add the product with rows ``first`` up to ``first + depth`` of the chunk, which ``value`` gives."""
        lowering, c, plan = self.lowering, self.c, self.plan
        unit, along = (plan.lanes, "columns") if plan.along == 1 else (1, "K")
        ways.note_way(lowering, self.way, self.dtype, plan.height, plan.narrow * unit, along, alone=plan.wide * unit)
        product = factored(lowering, value)
        windows = windows_of(lowering, [value])
        words = self.in_words(value)
        condition: Value | None = None
        for window in windows:
            condition = c.both(condition, window.full)
        if plan.step > 1:
            condition = c.both(condition, self.whole_bytes(value))
        whole: Number = self.columns // plan.columns * plan.columns
        if plan.along == 0:
            whole = c.mul(self.blocks(depth), plan.block)

        def fast() -> None:
            lowering.full_windows.update(windows)
            lowering.aligned.update(words)
            saved, lowering.lanes = lowering.lanes, plan.lanes
            with looked_up(lowering, product.value):
                self.prefetch_following(value)
                if plan.along == 0:
                    self.row_groups(lambda i, height: self.along_depth(product, i, height, first, whole))
                else:
                    self.along_columns(product, first, depth)
            lowering.lanes = saved
            lowering.aligned.difference_update(words)
            lowering.full_windows.difference_update(windows)

        reached = whole
        if condition is None:
            fast()
        else:
            c.branch(condition, fast)
            reached = c.select(condition, whole, 0)
        if plan.along == 0:
            self.rest_of_depth(value, first, reached, depth)
        else:
            self.rest_of_columns(value, first, reached, depth)

    def in_words(self, value: Value) -> list[Window]:
        """The prepacked tile whose elements are found in words without counting."""
        window, _ = _main_window(self.lowering, value)
        return [window] if window is not None and window.memory.order is not None and self.plan.depth else []

    def whole_bytes(self, value: Value) -> Value | None:
        """Whether the runs of packed elements begin at bytes."""
        c = self.c
        bits: Number = 0
        for rep, dims in leaves(self.lowering, value, (0, 1)):
            window = rep.window if isinstance(rep, Lazy) else None
            if window is None or not window.memory.packed or window.memory.order is not None:
                continue
            for amount in (window.origin, *(s for s, d in zip(window.strides, dims, strict=True)
                                            if d is not None and not (isinstance(s, int) and s == 1))):
                more = c.mul(amount, window.memory.dtype.bits)
                bits = bits | more if isinstance(bits, int) and isinstance(more, int) else c.arith("or", bits, more)
        if isinstance(bits, int):
            return None if bits % 8 == 0 else c.const(False, bool_)
        return c.compare("eq", c.arith("and", bits, 7), 0)

    # Rows.

    def row_groups(self, body: Callable[[Number, int], None]) -> None:
        row_groups(self.c, self.rows, self.grouped, self.plan.height, body)

    def load(self, pointer: Value, offset: Number, lanes: int) -> Value:
        return self.c.b.add(PtrLoad(self.c.offset(pointer, offset), lanes)).result

    def row_of(self, buffer: Buffer, i: Number, r: int, at: Number) -> Value:
        """The address of element ``at`` of row ``i + r``."""
        c = self.c
        return c.offset(c.offset(buffer.pointer, c.add(c.mul(i, buffer.strides[0]), at)), r * buffer.strides[0])

    def accumulate(self, places: Sequence[Value], scales: Sequence[Value], loop: Callable[[list[Value]], list[Value]]
                   ) -> None:
        """Add what a loop sums up to the vectors at some places, times scales where there are any."""
        c, lanes = self.c, self.plan.lanes
        old = [] if scales else [self.load(p, 0, lanes) for p in places]
        new = loop(old or [c.const(0, self.dtype, lanes)] * len(places))
        for n, place in enumerate(places):
            x = new[n]
            if scales:
                x = multiply_add(self.lowering, x, scales[n % len(scales)], self.load(place, 0, lanes))
            self.put(place, x)

    # Whole vectors.

    def along_columns(self, product: Factored, first: Number, depth: Number) -> None:
        """Some rows of B at a time, so that they are read as streams and stay near for other rows of A."""
        c, plan = self.c, self.plan
        stop = self.columns // plan.columns * plan.columns

        def rows(top: Number, bottom: Number) -> None:
            def group(i: Number, height: int) -> None:
                count = plan.wide if height == 1 else plan.narrow
                together = max(count, plan.run)

                def columns(j: Number) -> None:
                    for part in range(0, together, count):
                        self.vectors(product, i, height, first, top, bottom, j, part)

                if stop == together * plan.lanes:
                    columns(0)
                else:
                    c.loop(0, stop, together * plan.lanes, [], lambda j, _: columns(j))

            self.row_groups(group)

        if stop == plan.columns and plan.run > plan.step:
            rows(0, depth)
        elif stop:
            c.loop(0, depth, STREAMED_ROWS, [], lambda k, _: rows(k, c.min(c.add(k, STREAMED_ROWS), depth)))
        if stop and product.scales:
            self.scale_parts(product, stop)

    def scale_parts(self, product: Factored, stop: int) -> None:
        """Add the sums over a piece of B times their scales to all others."""
        c, plan, lanes = self.c, self.plan, self.plan.lanes

        def columns(j: Value, _: list[Value]) -> None:
            scales = [product.scale(self.lowering, (ZERO, Coord(j, n, True, plan.step)), lanes)
                      for n in range(plan.step)]

            def row(i: Value, _: list[Value]) -> None:
                for n, scale in enumerate(scales):
                    part, place = (self.row_of(buffer, i, 0, c.add(j, n * lanes)) for buffer in (self.parts, self.sums))
                    total = multiply_add(self.lowering, self.load(part, 0, lanes), scale, self.load(place, 0, lanes))
                    self.put(place, total)
                    self.put(part, c.const(0, self.dtype, lanes))

            c.loop(0, self.rows, 1, [], row)

        c.loop(0, stop, plan.block, [], columns)

    def vectors(self, product: Factored, i: Number, height: int, first: Number, top: Number, bottom: Number, j: Number,
                part: int) -> None:
        """Some of the vectors from column ``j`` on, as many as there are accumulators for, over some rows of B."""
        c, plan, lowering = self.c, self.plan, self.lowering
        count, lanes = plan.wide if height == 1 else plan.narrow, plan.lanes
        rows = [self.row_of(self.a, i, r, first) for r in range(height)]

        deep = max(1, plan.depth)

        def column(v: int) -> Coord:
            at = v * lanes if plan.step == 1 else v // plan.step * plan.block + v % plan.step
            return Coord(None, j + at, True, plan.step) if isinstance(j, int) else Coord(j, at, True, plan.step)

        at = [column(v) for v in range(part, part + count)]
        places = [c.offset(self.row_of(self.parts, i, r, j), (part + v) * lanes)
                  for r in range(height) for v in range(count)]
        for coord in at:
            _hoist(lowering, product.value, moved_coords(product.moves, (_ANYWHERE, coord)))

        def step(k: Value, acc: list[Value]) -> list[Value]:
            if part == 0:
                self.prefetch(product, k, j, deep * max(plan.run, count))
            for u in range(deep):
                xs = [c.splat(c.b.add(PtrLoad(c.offset(c.offset(row, k), u))).result, lanes) for row in rows]
                for v, coord in enumerate(at):
                    y = evaluate(lowering, product.value, moved_coords(product.moves, (Coord(k, u), coord)))
                    for r, x in enumerate(xs):
                        acc[r * count + v] = multiply_add(lowering, x, c.splat(y, lanes), acc[r * count + v])
            return acc

        self.accumulate(places, [], lambda init: c.loop(top, bottom, deep, init, step))

    def along_depth(self, product: Factored, i: Number, height: int, first: Number, whole: Number) -> None:
        c, plan, lowering = self.c, self.plan, self.lowering
        together, lanes = plan.wide if height == 1 else plan.narrow, plan.lanes
        rows = [self.row_of(self.ordered, i, r, first) for r in range(height)]

        def columns(j: Value, count: int) -> None:
            places = [c.offset(self.row_of(self.sums, i, r, c.mul(j, lanes)), n * lanes)
                      for r in range(height) for n in range(count)]

            to_come = self.columns_to_come(product, whole, j, count)

            def step(k: Value, acc: list[Value]) -> list[Value]:
                for e in range(plan.step):
                    asks = [columns.at((Coord(k, e, True), ZERO)) for columns in to_come]
                    xs = [self.load(c.offset(row, k), e * lanes, lanes) for row in rows]
                    for n in range(count):
                        for ask in asks:
                            ask(n)
                        at = (Coord(k, e, True, plan.step), Coord(j, n))
                        y = c.splat(evaluate(lowering, product.value, moved_coords(product.moves, at)), lanes)
                        for r, x in enumerate(xs):
                            acc[r * count + n] = multiply_add(lowering, x, y, acc[r * count + n])
                return acc

            def loop(init: list[Value]) -> list[Value]:
                return c.loop(0, whole, plan.block, init, step)

            for n in range(count):
                _hoist(lowering, product.value, moved_coords(product.moves, (_ANYWHERE, Coord(j, n))))
            scales = [product.scale(lowering, (ZERO, Coord(j, n)), lanes) for n in range(count)] \
                if product.scales else []
            self.accumulate(places, scales, loop)

        reached: Number = self.columns
        if not isinstance(self.wanted, int):
            reached = c.mul(c.arith("quo", self.wanted, together), together)
            c.loop(reached, self.wanted, 1, [], lambda j, _: columns(j, 1))
        c.loop(0, reached, together, [], lambda j, _: columns(j, together))

    def prefetch(self, product: Factored, k: Value, j: Number, vectors: int) -> None:
        """Ask for what is read of B some rows on, where rows are too short for the processor to see that they go on;
        of prepacked elements for as many vectors as are read meanwhile."""
        plan = self.plan
        for window, dims in self.loads_of(product):
            order = window.memory.order
            if order is not None:
                if window in self.lowering.aligned:
                    words = vectors * plan.lanes // order.lanes
                    prefetch_words(self.lowering, window, k, j, words, PREFETCHED_LINES)
                continue
            prefetch_row(self.lowering, window, dims, k, j, plan.columns, self.columns)

    def loads_of(self, product: Factored) -> list[tuple[Window, tuple[int | None, ...]]]:
        """The windows from which B's elements are loaded one by one, and the dimensions of B that theirs are."""
        dims: tuple[int | None, ...] = (0, 1)
        for op in product.moves:
            dims = source_dims(op, op.operands[0], dims)
        return [(rep.window, found) for rep, found in leaves(self.lowering, product.value, dims)
                if isinstance(rep, Lazy) and rep.window is not None and {0, 1} <= set(found)]

    def columns_to_come(self, product: Factored, depth: Number, j: Number, count: int) -> list[RowsToCome]:
        """What asks for columns of B some way behind ``count`` from ``j`` on, where vectors run along columns that are
        too short for the processor to see that they go on."""
        found = []
        for window, dims in self.loads_of(product):
            memory = window.memory
            if isinstance(depth, int) and not memory.packed and memory.order is None and \
                    depth * container_bytes(memory.dtype) < LONG_ROW_BYTES and window.strides[dims.index(0)] == 1:
                found.append(RowsToCome(self.lowering, window, dims, 1, j, count))
        return found

    def prefetch_following(self, value: Value) -> None:
        """Ask for the row after those that go with all of a piece of B, such as its scales: the next piece's."""
        c = self.c
        for rep, dims in leaves(self.lowering, value, (0, 1)):
            window = rep.window if isinstance(rep, Lazy) else None
            if window is None or 0 in dims or 1 not in dims or None not in dims or window.memory.order is not None:
                continue
            memory = window.memory
            bits = memory.dtype.bits if memory.packed else 8 * container_bytes(memory.dtype)
            along, across = window.strides[dims.index(1)], window.strides[dims.index(None)]
            if not isinstance(along, int) or along != 1:
                continue
            first, per_line = c.add(window.origin, across), LINE_BYTES * 8 // bits

            def line(j: Value, _: list[Value], window: Window = window, first: Number = first, bits: int = bits
                     ) -> None:
                at = c.add(first, j)
                if window.memory.packed:
                    at = c.arith("shr", c.mul(at, bits), 3)
                c.b.add(Prefetch(c.offset(window.pointer, at)))

            c.loop(0, self.columns, per_line, [], line)

    # What is left.

    def rest_of_columns(self, value: Value, first: Number, reached: Number, depth: Number) -> None:
        c, lowering = self.c, self.lowering
        if isinstance(reached, int) and reached == self.columns:
            return
        saved = lowering.lanes
        for start, stop, width in vector_pieces(self.columns, self.plan.lanes):
            lanes = lowering.lanes = width if width > 1 else 0

            def columns(j: Value, _: list[Value], lanes: int = lanes) -> None:
                def row(i: Value, _: list[Value]) -> None:
                    a, place = self.row_of(self.a, i, 0, first), self.row_of(self.home, i, 0, j)

                    def step(k: Value, acc: list[Value]) -> list[Value]:
                        y = c.splat(evaluate(lowering, value, (Coord(k), Coord(j, 0, lanes > 0))), lanes)
                        x = c.splat(c.b.add(PtrLoad(c.offset(a, k))).result, lanes)
                        return [multiply_add(lowering, x, y, acc[0])]

                    c.b.add(PtrStore(place, c.loop(0, depth, 1, [self.load(place, 0, lanes)], step)[0]))

                c.loop(0, self.rows, 1, [], row)

            c.loop(c.max(start, reached), stop, width, [], columns)
        lowering.lanes = saved

    def rest_of_depth(self, value: Value, first: Number, reached: Number, depth: Number) -> None:
        c, lowering, lanes = self.c, self.lowering, self.plan.lanes
        if isinstance(reached, int) and reached == depth:
            return
        saved, lowering.lanes = lowering.lanes, lanes

        def column(j: Value, _: list[Value]) -> None:
            def part(k: Value, _: list[Value]) -> None:
                y = c.splat(evaluate(lowering, value, (Coord(k, 0, True), Coord(j))), lanes)
                inside = c.lanes_below(c.sub(depth, k), lanes)

                def row(i: Value, _: list[Value]) -> None:
                    place = self.row_of(self.sums, i, 0, c.mul(j, lanes))
                    old = self.load(place, 0, lanes)
                    x = self.load(self.row_of(self.a, i, 0, c.add(first, k)), 0, lanes)
                    new = multiply_add(lowering, x, y, old)
                    c.b.add(PtrStore(place, c.b.add(Select(inside, new, old)).result))

                c.loop(0, self.rows, 1, [], row)

            c.loop(reached, depth, lanes, [], part)

        c.loop(0, self.wanted, 1, [], column)
        lowering.lanes = saved

    def end(self) -> None:
        """After the last chunk: put the sums where they belong."""
        c, lowering, plan, lanes = self.c, self.lowering, self.plan, self.plan.lanes
        if self.sums is self.home:
            return

        def row(i: Value, _: list[Value]) -> None:
            def columns(j: Value, _: list[Value]) -> None:
                place = self.row_of(self.home, i, 0, j)
                if plan.along == 0:
                    total = sum_of_lanes(lowering, self.load(self.row_of(self.sums, i, 0, c.mul(j, lanes)), 0, lanes))
                    c.b.add(PtrStore(place, self.plus(self.load(place, 0, 0), total)))
                    return
                parts = [self.load(self.row_of(self.sums, i, 0, j), n * lanes, lanes) for n in range(plan.step)]
                for n, x in enumerate(gathered(self.lowering, parts)):
                    at = c.offset(place, n * lanes)
                    c.b.add(PtrStore(at, self.plus(self.load(at, 0, lanes), x)))

            stop, step = (self.wanted, 1) if plan.along == 0 else (
                self.columns // plan.columns * plan.columns, plan.block)
            c.loop(0, stop, step, [], columns)

        c.loop(0, self.rows, 1, [], row)

    def plus(self, x: Value, y: Value) -> Value:
        return self.c.b.add(Binary("add", x, y, types=(x.type,))).result


_ANYWHERE = Coord(None, -1)
"""Stands for the coordinate along K where it does not matter."""


def _hoist(self: BlockLowering, value: Value, coords: Coords) -> None:
    """Compute what does not depend on the coordinate along K, so that it is known in the loop over that."""
    stack = [(value, coords)]
    while stack:
        current, at = stack.pop()
        if current.tile.is_scalar:
            continue
        if _ANYWHERE not in at:
            evaluate(self, current, at)
        else:
            stack += dependencies(self, current, at)


__all__ = ["FEW_ROWS", "FewRows", "Plan", "groups_of_rows", "plan_for", "row_groups"]
