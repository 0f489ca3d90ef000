"""Asking for the operands of a product before its micro-kernels come to them.

A micro-kernel reads a panel of B again for each block of rows, from the first level of the cache, and rows of A again
for each panel. What it reads for the first time lies further away: in the second level or behind it, where memories of
packed operands are (``kept_operands.py``), or, before it is packed, where the arrays are. There it would wait for each
line anew, while in a product the memory has nothing to do. So micro-kernels ask for a line now and then: for those of
the panel after theirs, or, where B is packed for this product, of the rows that become their panel of the next chunk of
K. Many at once would be lost, since a core has few requests under way. Each block of rows asks for some packed rows of
A over that chunk.
"""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.dtypes import u8
from tilus.ir.ops import Select
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.evaluate import leaves
from tilus.lowering.cpu.values import LINE_BYTES, Lazy, Number
from tilus.records import record

MOST_LINES = 24
"""Of A that a block of rows asks for: as many as are under way at once."""


@record(slots=True)
class Rows:
    """Rows of elements of ``size`` bytes, ``stride`` bytes apart; ``pointer`` is one of bytes."""

    pointer: Value
    stride: Number
    size: int


@record(slots=True)
class Ahead:
    """What follows in memory: rows of ``a`` and ``b`` over the next chunk of K, as far as they are known; a chunk has
    ``depth`` rows of B. ``fresh``: B is packed for this product, so that no panel lies behind the last one read.
    ``asks``: whether anything is asked for."""

    a: Rows | None
    b: Rows | None
    fresh: Value
    asks: Value
    depth: int


def rows_of(self: BlockLowering, value: Value) -> Rows | None:
    """Where the rows of a tile of rank 2 lie: those of one load, of memory that runs along them; else None."""
    found = [(rep.window, dims) for rep, dims in leaves(self, value, (0, 1)) if isinstance(rep, Lazy) and rep.window]
    if len(found) != 1:
        return None
    window, dims = found[0]
    if window.memory.packed or window.memory.order is not None or dims[-2:] != (0, 1) or window.strides[-1] != 1:
        return None
    size = container_bytes(window.memory.dtype)
    start = self.c.offset(window.pointer, window.origin)
    return Rows(self.c.as_pointer(start, u8), self.c.mul(window.strides[-2], size), size)


def either_rows(c: Cursor, condition: Value, first: Rows, second: Rows) -> Rows:
    """``first`` where the condition holds; of elements of the same size."""
    pointer = c.b.add(Select(condition, first.pointer, second.pointer, types=(first.pointer.type,))).result
    return Rows(pointer, c.select(condition, first.stride, second.stride), first.size)


@record(slots=True)
class Lines:
    """Lines of the cache, one of each row, and those ``beyond`` bytes behind them."""

    rows: Rows
    beyond: Value

    def ask(self, c: Cursor, row: Number) -> None:
        line = c.offset(self.rows.pointer, c.mul(row, self.rows.stride))
        c.b.add(Prefetch(line))
        c.b.add(Prefetch(c.offset(line, self.beyond)))


def lines_of_panel(c: Cursor, ahead: Ahead, panel: Value, room: int, row_bytes: int, j: Number, last: int, turn: Value,
                   turns: int) -> Lines:
    """What a micro-kernel asks for in the iterations of its loop over K, each of which does ``turns`` steps: lines of
    the panel behind ``panel``, which has room for ``room`` rows, two at a time, or one of each of the rows that become
    this one's, from column ``j`` on. Of the panel at the ``last`` column it asks also for the line in which a row ends,
    since arrays may begin anywhere in a line. The blocks of rows take turns; where all has been asked for, they ask
    for the same line again, which is near."""
    near = c.as_pointer(panel, u8)
    behind = c.offset(near, room * row_bytes)
    if ahead.b is None:
        turns //= 2
        rows, beyond = Rows(behind, 2 * row_bytes, 1), c.const(row_bytes)
    else:
        source = Rows(c.offset(ahead.b.pointer, c.mul(j, ahead.b.size)), ahead.b.stride, 1)
        rows = either_rows(c, ahead.fresh, source, Rows(behind, row_bytes, 1))
        beyond = c.select(c.compare("eq", j, last), row_bytes - 1, 0)
    lines = ahead.depth // turns // (2 if ahead.b is None else 1)
    rows = Rows(c.offset(rows.pointer, c.mul(c.mul(turn, lines), rows.stride)), rows.stride, 1)
    asks = c.both(ahead.asks, c.compare("lt", turn, turns))
    assert asks is not None
    return Lines(either_rows(c, asks, rows, Rows(near, 0, 1)), beyond)


def ask_for_rows(c: Cursor, rows: Rows, first: Number, height: int, row_bytes: int, panel: Number, panels: int) -> None:
    """Ask for what a panel, by its number, has as its share of ``height`` rows of A of ``row_bytes``. Where panels are
    so few that it would take more lines than are under way at once, they come to the next rows too soon for asking."""
    lines = -(-row_bytes // (panels * LINE_BYTES))
    if height * lines > MOST_LINES:
        return
    start = c.offset(rows.pointer, c.add(c.mul(panel, lines * LINE_BYTES), c.mul(first, rows.stride)))

    def ask(i: Value, _: list[Value]) -> None:
        row = c.offset(start, c.mul(i, rows.stride))
        for n in range(lines):
            c.b.add(Prefetch(c.offset(row, n * LINE_BYTES)))

    c.loop(0, height, 1, [], ask)
