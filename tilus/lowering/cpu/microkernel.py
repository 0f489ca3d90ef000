"""The register-blocked inner loops of dot: C += A · B with C held in registers.

A is row-major with any row stride; B is packed in panels of ``width`` columns, each panel K rows of ``width``
consecutive elements. Row blocks run inside panels, so that a panel stays in the first-level cache while A streams.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tilus.ir.core import Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Binary, Extract, Fma, PtrLoad, PtrStore, Shuffle
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.nest import vector_pieces
from tilus.lowering.cpu.panels_ahead import Ahead, Lines, ask_for_rows, lines_of_panel
from tilus.lowering.cpu.values import Machine, Number
from tilus.lowering.cpu.ways import PACKED, note_way
from tilus.records import record


@record(frozen=True, slots=True)
class Blocking:
    """Rows and columns of C in registers, and lanes of a vector, for one element type."""

    rows: int
    columns: int
    lanes: int


def blocking(machine: Machine, dtype: DType) -> Blocking:
    """Two vectors of columns; rows so that the accumulators, two vectors of B and one of A fit in the registers."""
    lanes = machine.vector_bytes // container_bytes(dtype)
    return Blocking((machine.registers - 3) // 2 if machine.registers <= 16 else 12, 2 * lanes, lanes)


def row_pieces(rows: int, block: int) -> list[tuple[int, int, int]]:
    """(start, stop, height): full blocks, then what is left in one or two blocks of like height."""
    full, rest = divmod(rows, block)
    if rest == 0:
        return [(0, rows, block)] if rows else []
    if full == 0 or rest >= block - 1:
        pieces = [(0, full * block, block)] if full else []
        return [*pieces, (full * block, rows, rest)]
    start = (full - 1) * block
    pieces = [(0, start, block)] if start else []
    first, second = (rest + block + 1) // 2, (rest + block) // 2
    if first == second:
        return [*pieces, (start, rows, first)]
    return [*pieces, (start, start + first, first), (start + first, rows, second)]


_IN_PARTS = ("", "pmaddubsw", "pmaddwd")
"""Instructions after which products are added by another one."""


def low_rows(c: Cursor, rows: Value, block: int) -> tuple[Value, Value]:
    """Where full blocks end, and where the low ones behind them, of two thirds of a block, which cover ``rows`` rows
    and hardly more."""
    third = block // 3
    thirds = c.arith("quo", c.add(rows, third - 1), third)
    low = c.mul(c.arith("rem", c.mul(thirds, 2), 3), 2)  # what leaves a multiple of three
    return c.value(c.mul(c.max(c.sub(thirds, low), 0), third)), c.value(c.mul(thirds, third))


def column_pieces(columns: int, block: Blocking) -> list[tuple[int, int, int]]:
    """(start, stop, width) of the panels."""
    return vector_pieces(columns, block.columns)


def over(self: BlockLowering, start: int, stop: int, step: int, body: Callable[[Number], None],
         wanted: Number | None = None) -> None:
    """A loop, or its body where it runs once; up to what contains ``wanted``, if given."""
    if stop - start == step and (start == 0 or wanted is None or isinstance(wanted, int)):
        body(start)
        return

    def step_body(index: Value, _: list[Value]) -> list[Value]:
        body(index)
        return []

    self.c.loop(start, stop if wanted is None else self.c.min(stop, wanted), step, [], step_body)


def panel_widths(self: BlockLowering, columns: int, dtype: DType) -> list[int]:
    """Those of a product's panels that differ."""
    return [width for *_, width in column_pieces(columns, blocking(self.machine, dtype))]


def over_panels(self: BlockLowering, pointer: Value, columns: int, dtype: DType, room: Number, first: Number,
                wanted: Number | None, body: Callable[[Value, Number, int], None]) -> None:
    """Run ``body(address, column, width)`` for each panel of ``columns`` columns, up to what contains ``wanted``; the
    address is that of row ``first`` of panels that have room for ``room`` rows."""
    for start, stop, width in column_pieces(columns, blocking(self.machine, dtype)):
        def panel(j: Number, width: int = width) -> None:
            place = self.c.offset(pointer, self.c.add(self.c.mul(j, room), self.c.mul(first, width)))
            body(place, j, width)

        over(self, start, stop, width, panel, wanted)


MultiplyAdd = Callable[[Value, Value, Value], Value]


@record(slots=True)
class Product:
    """Operands of a block product: ``c[i, j] += sum over k < depth of a[i, k] b[k, j]``. ``b_depth`` is the number of
    rows that a panel of B is laid out for; blocks of rows from ``wanted_rows`` on, if given, are left out, and panels
    from ``wanted_columns`` on. ``multiply``, if given, is what is done instead of multiplying elements and adding them,
    by ``instruction``: A and B are of 32-bit words then, as C. ``first`` is how many
    rows of a panel are left out; ``ahead``, if given, is what is read after this product."""

    a: Value
    a_stride: Number
    b: Value
    b_depth: Number
    c: Value
    c_stride: int
    rows: int
    columns: int
    depth: Number
    dtype: DType
    clear: bool = False
    wanted_rows: Number | None = None
    wanted_columns: Number | None = None
    multiply: MultiplyAdd | None = None
    instruction: str = ""
    first: Number = 0
    ahead: Ahead | None = None


def emit_product(self: BlockLowering, p: Product) -> None:
    """All of C, panel by panel."""
    block = blocking(self.machine, p.dtype)
    note_way(self, PACKED, p.dtype, min(block.rows, p.rows), block.columns, instruction=p.instruction)
    ends: tuple[Value, Value] | None = None
    low = 2 * block.rows // 3
    if isinstance(p.wanted_rows, Value) and p.rows % (block.rows // 3) == 0 and p.rows >= block.rows:
        ends = low_rows(self.c, p.wanted_rows, block.rows)
    for start, stop, width in column_pieces(p.columns, block):
        def panel(j: Number, width: int = width) -> None:
            b = self.c.offset(p.b, self.c.add(self.c.mul(j, p.b_depth), self.c.mul(p.first, width)))

            def rows(i: Number, height: int) -> None:
                asked = None if p.ahead is None or width != block.columns else _ask_ahead(self, p, p.ahead, b, j, i)
                a = self.c.offset(p.a, self.c.mul(i, p.a_stride))
                c = self.c.offset(p.c, self.c.add(self.c.mul(i, p.c_stride), j))
                _micro(self, p, a, b, c, height, width, block, asked)

            if ends is None:
                for top, bottom, height in row_pieces(p.rows, block.rows):
                    over(self, top, bottom, height, functools.partial(rows, height=height), p.wanted_rows)
            else:
                self.c.loop(0, ends[0], block.rows, [], lambda i, _: rows(i, block.rows))
                self.c.loop(*ends, low, [], lambda i, _: rows(i, low))

        over(self, start, stop, width, panel, p.wanted_columns)


def _ask_ahead(self: BlockLowering, p: Product, ahead: Ahead, b: Value, j: Number, i: Number) -> Lines | None:
    """Ask for some rows of A over the next chunk; the lines that the micro-kernel of these rows and panel asks for."""
    c, block, size = self.c, blocking(self.machine, p.dtype), container_bytes(p.dtype)
    panels = -(-p.columns // block.columns)
    if not isinstance(p.b_depth, int):
        return None
    if ahead.a is not None:
        rows, row_bytes = ahead.a, p.b_depth * size
        c.branch(ahead.asks, lambda: ask_for_rows(c, rows, i, block.rows, row_bytes, c.arith("quo", j, block.columns),
                                                  panels))
    return lines_of_panel(c, ahead, b, p.b_depth, block.columns * size, j,
                          p.columns // block.columns * block.columns - block.columns,
                          c.arith("quo", i, block.rows), unrolled(self, p))


def unrolled(self: BlockLowering, p: Product) -> int:
    """Steps along K in an iteration of the micro-kernel."""
    if p.dtype.is_int and p.instruction in _IN_PARTS:
        return 1  # sums of integers would be put in another order, and their parts need registers
    return 4 if self.machine.registers <= 16 else 2


def _micro(self: BlockLowering, p: Product, a: Value, b: Value, c: Value, height: int, width: int,
           block: Blocking, asked: Lines | None) -> None:
    """``height`` rows by ``width`` columns of C, the sum over K in registers; of ``asked`` a line an iteration. What C
    is before is added last: registers that begin with zeros do not wait for it."""
    cursor = self.c
    lanes = min(width, block.lanes)
    vectors = width // lanes
    scalar = lanes == 1

    def load(pointer: Value) -> Value:
        return cursor.b.add(PtrLoad(pointer, 0 if scalar else lanes)).result

    def place(i: int, v: int) -> Value:
        return cursor.offset(c, i * p.c_stride + v * lanes)

    multiply = p.multiply or functools.partial(multiply_add, self)
    unroll = unrolled(self, p)

    def step(k: Number, acc: list[Value], count: int) -> list[Value]:
        a_k = cursor.offset(a, k)
        b_k = cursor.offset(b, cursor.mul(k, width))
        if asked is not None and count == unroll:
            asked.ask(cursor, cursor.arith("quo", k, unroll))
        for u in range(count):
            columns = [load(cursor.offset(b_k, u * width + v * lanes)) for v in range(vectors)]
            for i in range(height):
                offset = cursor.add(cursor.mul(i, p.a_stride), u)
                x = cursor.b.add(PtrLoad(cursor.offset(a_k, offset))).result
                x = x if scalar else cursor.splat(x, lanes)
                for v in range(vectors):
                    acc[i * vectors + v] = multiply(x, columns[v], acc[i * vectors + v])
        return acc

    acc = [cursor.const(0, p.dtype, 0 if scalar else lanes)] * (height * vectors)
    if isinstance(p.depth, int):
        main = p.depth // unroll * unroll
        if main == unroll:
            acc = step(0, acc, unroll)
        elif main:
            acc = cursor.loop(0, main, unroll, acc, lambda k, x: step(k, list(x), unroll))
        if p.depth - main:
            acc = step(main, acc, p.depth - main)
    else:
        main_ = cursor.arith("and", p.depth, -unroll)
        acc = cursor.loop(0, main_, unroll, acc, lambda k, x: step(k, list(x), unroll))
        acc = cursor.loop(main_, p.depth, 1, acc, lambda k, x: step(k, list(x), 1))
    for i in range(height):
        for v in range(vectors):
            x = acc[i * vectors + v]
            if not p.clear:
                x = cursor.b.add(Binary("add", load(place(i, v)), x, types=(x.type,))).result
            cursor.b.add(PtrStore(place(i, v), x))


def multiply_add(self: BlockLowering, x: Value, y: Value, z: Value) -> Value:
    """x y + z; where no instruction does that in one, floats are rounded between, since a call for each lane would take
    a hundred times as long."""
    b = self.c.b
    if x.tile.dtype.is_float and self.machine.fma:
        return b.add(Fma(x, y, z, types=(z.type,))).result
    product = b.add(Binary("mul", x, y, types=(z.type,))).result
    return b.add(Binary("add", product, z, types=(z.type,))).result


def sum_of_lanes(self: BlockLowering, x: Value) -> Value:
    b = self.c.b
    count = x.tile.size
    while count > 1:
        count //= 2
        low, high = (b.add(Shuffle(x, tuple(range(first, first + count)))).result for first in (0, count))
        x = b.add(Binary("add", low, high, types=(low.type,))).result
    return b.add(Extract(x, 0)).result
