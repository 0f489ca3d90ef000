"""Products with few rows of several blocks of the grid at once.

Where A has few rows, a block's part of B is read once, and its rows are short pieces of memory, each on another page.
The blocks that follow along one axis of the grid read the pieces beside those. So the first of the blocks that a core
takes one after another computes the product for all of them, with long rows of B, and keeps it; the others find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tilus.ir.core import Function, Value
from tilus.ir.ops import Binary, Cast, Dot, For, PtrLoad, PtrStore, Transpose
from tilus.ir.ops.simd import PtrToInt
from tilus.lowering.cpu import ways
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.evaluate import evaluate, leaves
from tilus.lowering.cpu.kept_operands import plain_load
from tilus.lowering.cpu.microkernel import multiply_add
from tilus.lowering.cpu.nest import vector_pieces
from tilus.lowering.cpu.prefetching import RowsToCome
from tilus.lowering.cpu.slopes import grid_slopes
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Lazy, Machine, Number, Window
from tilus.records import record

BLOCKS, MORE_BLOCKS = 16, 32
"""How many blocks, at most; more where rows are read side by side without asking for them."""
ROW_BYTES, LONG_ROW_BYTES = 8192, 16384
"""Of a row of the product, at most, where it is of so many blocks."""
ROWS = 8
"""The rows that there is room for."""
MAX_PRODUCTS = 4
"""Of how many products of a kernel a core keeps results."""
STREAMS = 4
"""Rows of B that are read side by side, a vector of each by turns: a processor sees that each of them goes on. Some
get more from memory where those are more, and none is asked for (``Machine.streams``)."""
HEIGHT = 4
"""Rows of A that are multiplied with a vector of B at a time, where there are so many."""
# Words of a memory: how many blocks the core takes after this one, which product is there, and its columns.
FOLLOWING, IDENTITY, WIDTH, HEADER = 0, 1, 15, 16


def memory_words(kernel: Function) -> int:
    """Words of 64 bits of the memory of one product, whole lines: its header, and room for the rows."""
    widest = max((op.result.tile.shape[1] for _, op, _ in products(kernel)), default=0)
    return HEADER + ROWS * (max(LONG_ROW_BYTES, 8 * widest) + 64) // 8 // 8 * 8


def blocks_together(machine: Machine) -> int:
    """How many blocks share a product, at most."""
    return MORE_BLOCKS if machine.streams else BLOCKS


def products(kernel: Function) -> Iterator[tuple[For, Dot, int]]:
    """The dots whose results neighbours may share: each with its loop and the axis of the grid."""
    count = 0
    for loop in kernel.body.ops:
        if not isinstance(loop, For):
            continue
        for dot in loop.body.ops:
            axis = _axis(kernel, loop, dot) if isinstance(dot, Dot) and dot.result.tile.rank == 2 else None
            if axis is not None and count < MAX_PRODUCTS:
                count += 1
                yield loop, dot, axis  # type: ignore[misc]


def shared_axis(kernel: Function) -> int | None:
    """The axis along which blocks share products; None where there is none."""
    axes = {axis for _, _, axis in products(kernel)}
    return axes.pop() if len(axes) == 1 else None


def _axis(kernel: Function, loop: For, dot: Dot) -> int | None:
    """Along which axis of the grid blocks multiply the same A with the columns of B that follow."""
    a, b = plain_load(dot.a), plain_load(dot.b)
    if a is None or b is None:
        return None
    column = column_dim(dot.b)
    for axis in range(3):
        slopes = grid_slopes(kernel, axis, whole=True)  # divided blocks are known to have none beside them
        across = [slopes.of(offset) for offset in b.offsets]
        same = [slopes.of(x) for x in (loop.start, loop.stop, loop.step, a.view, b.view, *a.offsets)]
        if across[column] == dot.b.tile.shape[1] and across[1 - column] == 0 and set(same) == {0}:
            return axis
    return None


def column_dim(value: Value) -> int:
    """The dimension of the load that is the columns of a tile."""
    op, dim = value.defining, 1
    while isinstance(op, (Cast, Transpose)):
        dim = op.permutation[dim] if isinstance(op, Transpose) else dim
        op = op.x.defining
    return dim


def forget(c: Cursor, memories: list[Value]) -> None:
    """What another launch has left there is of no use, and no block is known to follow."""
    for memory in memories:
        for word in (FOLLOWING, WIDTH):
            c.b.add(PtrStore(c.offset(memory, word), c.const(0)))


@record(frozen=True, slots=True)
class Columns:
    """``whole``: the columns that are whole vectors; ``last``: where the last vector begins, which is none
    of those if ``ragged``."""

    whole: Number
    last: Value
    ragged: Value


class NeighbourProduct:
    """``home += A @ B`` for few rows, where ``memory`` has what a block before this one has computed of it.

    ``a`` and ``b`` are the operands over all of K, from this block's first column on.
    """

    def __init__(self, lowering: BlockLowering, memory: Value, home: Buffer, a: Value, b: Value) -> None:
        self.lowering, self.c = lowering, lowering.c
        self.memory, self.home, self.a = memory, home, a
        self.dtype, self.columns = home.dtype, home.shape[1]
        size = container_bytes(self.dtype)
        self.lanes = lowering.machine.vector_bytes // size
        line = 64 // size
        self.depth, self.asks = lowering.machine.streams or STREAMS, not lowering.machine.streams
        row_bytes = ROW_BYTES if self.asks else LONG_ROW_BYTES
        self.room = -(-max(row_bytes // size, self.columns) // line) * line
        pointer = self.c.as_pointer(self.c.offset(memory, HEADER), self.dtype)
        self.sums = Buffer(pointer, self.dtype, (ROWS, self.room), (self.room + line, 1))
        self.window_a, self.window_b = window_of(lowering, a), window_of(lowering, b)
        self.column = column_dim(b)

    def run(self, wide: Callable[[Number], Value], rows: Number, wanted: Number, total: Number) -> None:
        """For the first ``rows`` rows and ``wanted`` columns, and ``total`` along K. ``wide`` gives B with a number of
        columns."""
        c = self.c
        words = self.identity(rows, total)
        address = c.b.add(PtrToInt(self.window_b.pointer)).result
        size = container_bytes(self.window_b.memory.dtype)
        offset = c.arith("quo", c.sub(address, self.word(IDENTITY)), size)
        there = c.both(c.compare("ge", offset, 0), c.compare("le", c.add(offset, wanted), self.word(WIDTH)))
        for n, word in enumerate(words):
            there = c.both(there, c.compare("eq", self.word(IDENTITY + 1 + n), word))
        assert there is not None

        def compute() -> None:
            width = self.width(wanted)
            self.multiply(wide(width), rows, width, total)
            for place, word in ((IDENTITY, address), (WIDTH, width), *enumerate(words, IDENTITY + 1)):
                c.b.add(PtrStore(c.offset(self.memory, place), c.value(word)))

        c.branch(there, lambda: None, compute)
        self.take(c.select(there, offset, 0), rows, wanted)

    def word(self, index: int) -> Value:
        return self.c.b.add(PtrLoad(self.c.offset(self.memory, index))).result

    def identity(self, rows: Number, total: Number) -> list[Number]:
        """What is the same for all blocks that share a product: where A is, how much of both, and where their arrays
        end."""
        c, b = self.c, self.window_b
        words: list[Number] = [c.b.add(PtrToInt(self.window_a.pointer)).result, total, rows]
        words += [bound for bound in (*self.window_a.lows, *self.window_a.highs) if isinstance(bound, Value)]
        address, size = c.b.add(PtrToInt(b.pointer)).result, container_bytes(b.memory.dtype)
        for bounds in (b.lows, b.highs):
            for dim, bound in enumerate(bounds):
                if isinstance(bound, Value):
                    words.append(c.add(address, c.mul(bound, size)) if dim == self.column else bound)
        assert IDENTITY + len(words) < WIDTH
        return words

    def width(self, wanted: Number) -> Number:
        """The columns of this block and those that follow, as far as there are some and there is room."""
        c = self.c
        width = c.min(c.add(c.mul(self.word(FOLLOWING), self.columns), wanted), self.room)
        high = self.window_b.highs[self.column]
        return c.max(wanted, width if high is None else c.min(width, high))

    def multiply(self, b: Value, rows: Number, width: Number, total: Number) -> None:
        """``sums = A @ B``."""
        lowering, c, lanes = self.lowering, self.c, self.lanes
        windows = [self.window_a, window_of(lowering, b)]
        saved, lowering.lanes = lowering.lanes, lanes
        zero = c.const(0, self.dtype, lanes)

        def clear(i: Value, _: list[Value]) -> None:
            self.put(i, 0, self.room, zero)
            c.loop(0, width, lanes, [], lambda j, _: self.put(i, 0, j, zero))

        c.loop(0, rows, 1, [], clear)
        full = c.compare("ge", width, lanes)
        for window in windows:
            full = c.both(full, window.full) or full

        def fast() -> None:
            lowering.full_windows.update(windows)
            self.streams(b, rows, width, total)
            lowering.full_windows.difference_update(windows)

        def careful() -> None:
            c.loop(0, rows, 1, [], lambda i, _: self.checked(b, i, width, total))

        c.branch(full, fast, careful)
        lowering.lanes = saved

    def streams(self, b: Value, rows: Number, width: Number, total: Number) -> None:
        """By whole vectors: some rows of B at a time with each row of A, or several. The last vector, where it is not
        whole, begins earlier and has sums of its own, behind all others."""
        c, lowering = self.c, self.lowering
        height = min(HEIGHT, lowering.machine.registers // 8)
        ways.note_way(lowering, ways.FEW_ROWS, self.dtype, height, self.lanes)
        whole = c.mul(c.arith("quo", width, self.lanes), self.lanes)
        columns = Columns(whole, c.value(c.sub(width, self.lanes)), c.compare("ne", whole, width))
        grouped = c.mul(c.arith("quo", rows, height), height)
        depth = self.depth
        main = c.mul(c.arith("quo", total, depth), depth)

        def some(k: Value, _: list[Value]) -> None:
            lowering.pause_if_due()
            if rows != 1:
                c.loop(0, grouped, height, [], lambda i, _: self.part(b, i, height, k, depth, columns))
            c.loop(grouped if rows != 1 else 0, rows, 1, [], lambda i, _: self.part(b, i, 1, k, depth, columns))

        c.loop(0, main, depth, [], some)
        c.loop(main, total, 1, [], lambda k, _: c.loop(
            0, rows, 1, [], lambda i, _: self.part(b, i, 1, k, 1, columns)) and None)
        c.branch(columns.ragged, lambda: c.loop(0, rows, 1, [], lambda i, _: self.put(
            i, 0, columns.last, self.sum_at(i, 0, self.room))) and None)

    def part(self, b: Value, i: Value, height: int, k: Value, depth: int, columns: Columns) -> None:
        """Add the product of some rows of A with ``depth`` rows of B."""
        c, lowering, lanes = self.c, self.lowering, self.lanes
        xs = [[c.splat(evaluate(lowering, self.a, (Coord(i, r), Coord(k, u))), lanes) for u in range(depth)]
              for r in range(height)]
        window, dims = window_of(lowering, b), (0, 1) if self.column else (1, 0)
        to_come = RowsToCome(lowering, window, dims, 0, k, depth) if self.asks and depth > 1 else None
        for index, stride in ((k, window.strides[1 - self.column]), (i, self.sums.strides[0])):
            c.mul(index, stride)  # is known in the loop then

        def column(j: Value, place: Number) -> None:
            totals = [self.sum_at(i, r, place) for r in range(height)]
            ask = to_come.at((ZERO, Coord(j))) if to_come is not None else None
            for u in range(depth):
                if ask is not None:
                    ask(u)
                y = c.splat(evaluate(lowering, b, (Coord(k, u), Coord(j, 0, True))), lanes)
                totals = [multiply_add(lowering, xs[r][u], y, totals[r]) for r in range(height)]
            for r, total in enumerate(totals):
                self.put(i, r, place, total)

        c.loop(0, columns.whole, lanes, [], lambda j, _: column(j, j))
        c.branch(columns.ragged, lambda: column(columns.last, self.room))

    def checked(self, b: Value, i: Value, width: Number, total: Number) -> None:
        """A row, where some elements may be beyond the arrays."""
        c, lowering, lanes = self.c, self.lowering, self.lanes

        def column(j: Value, _: list[Value]) -> None:
            def step(k: Value, sums: list[Value]) -> list[Value]:
                x = c.splat(evaluate(lowering, self.a, (Coord(i), Coord(k))), lanes)
                y = c.splat(evaluate(lowering, b, (Coord(k), Coord(j, 0, True))), lanes)
                return [multiply_add(lowering, x, y, sums[0])]

            self.put(i, 0, j, c.loop(0, total, 1, [self.sum_at(i, 0, j)], step)[0])

        c.loop(0, width, lanes, [], column)

    def place(self, i: Number, r: int, j: Number) -> Value:
        c, stride = self.c, self.sums.strides[0]
        return c.offset(c.offset(self.sums.pointer, c.add(c.mul(i, stride), j)), r * stride)

    def sum_at(self, i: Number, r: int, j: Number) -> Value:
        return self.c.b.add(PtrLoad(self.place(i, r, j), self.lanes)).result

    def put(self, i: Number, r: int, j: Number, value: Value) -> None:
        self.c.b.add(PtrStore(self.place(i, r, j), value))

    def take(self, offset: Number, rows: Number, wanted: Number) -> None:
        """Add this block's columns to ``home``."""
        c = self.c

        def row(i: Value, _: list[Value]) -> None:
            for start, stop, width in vector_pieces(self.columns, self.lanes):
                lanes = width if width > 1 else 0

                def piece(j: Value, _: list[Value], lanes: int = lanes) -> None:
                    target = c.offset(self.home.pointer, c.add(c.mul(i, self.home.strides[0]), j))
                    old = c.b.add(PtrLoad(target, lanes)).result
                    more = c.b.add(PtrLoad(self.place(i, 0, c.add(offset, j)), lanes)).result
                    c.b.add(PtrStore(target, c.b.add(Binary("add", old, more, types=(old.type,))).result))

                c.loop(start, c.min(stop, wanted), width, [], piece)

        c.loop(0, rows, 1, [], row)


def window_of(self: BlockLowering, value: Value) -> Window:
    """The window of the load that a tile is."""
    window = next(rep.window for rep, _ in leaves(self, value, (None, None))
                  if isinstance(rep, Lazy) and rep.window is not None)
    assert window is not None
    return window


def suits(a: Window, b: Window, column: int) -> bool:
    """Whether the operands' arrays do not change, and B's is contiguous along its columns."""
    plain = all(w.memory.read_only and not w.memory.packed and w.memory.order is None for w in (a, b))
    return plain and isinstance(b.strides[column], int) and b.strides[column] == 1


__all__ = ["FOLLOWING", "HEADER", "NeighbourProduct", "blocks_together", "forget", "memory_words", "products",
           "shared_axis", "suits", "window_of"]
