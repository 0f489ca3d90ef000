"""Asking for memory before it is read, where the processor does not see that reading goes on: in short rows, and in
long ones that a block reads piece by piece with much else to do between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import For, Load, While
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.cost import HEAVY_COST
from tilus.lowering.cpu.evaluate import leaves
from tilus.lowering.cpu.memory import offset_of
from tilus.lowering.cpu.slopes import Slopes, constant_of, grid_slopes, loop_slopes
from tilus.lowering.cpu.values import LINE_BYTES, ZERO, Coords, Lazy, Machine, Number, Window

LONG_ROW_BYTES = 2048
"""What a processor's own prefetching works well for."""
CLOSE_ROWS_BYTES = 1024
"""Rows that begin closer to each other are a stream to the processor, however little of each is read."""
PREFETCHED_BYTES = 16 << 10
"""How far ahead rows of B are asked for, by what is read of them."""
AHEAD = 16
"""How many rows ahead rows are asked for that are read side by side."""
AHEAD_BYTES = 8 << 10
"""How far that is at least."""
PAGE_BYTES = 4 << 10

UNROLLED_LINES = 4
"""Of a row, more of which are asked for by a loop: the code is there in many versions."""


def are_asked_for(machine: Machine, size: int) -> bool:
    """Whether pieces of rows, ``size`` bytes each, are asked for of which some are read side by side: short ones, and
    others unless the processor gets as much from memory by itself."""
    return not machine.streams or size < PAGE_BYTES


def prefetch_row(self: BlockLowering, window: Window, dims: Sequence[int | None], k: Number, j: Number, columns: int,
                 read: int) -> None:
    """Ask for ``columns`` elements from column ``j`` on of a row that is read some rows after ``k``; ``dims`` are the
    dimensions of B that those of the window follow, ``read`` is how many elements of a row are read."""
    c, memory = self.c, window.memory
    bits = memory.dtype.bits if memory.packed else 8 * container_bytes(memory.dtype)
    if read * bits >= 8 * LONG_ROW_BYTES:
        return
    offset = window.origin
    ahead = max(1, 8 * PREFETCHED_BYTES // (read * bits))
    for stride, dim in zip(window.strides, dims, strict=True):
        at: Number = 0 if dim is None else c.add(k, ahead) if dim == 0 else j
        offset = c.add(offset, c.mul(at, stride))
    if memory.packed:
        offset = c.arith("shr", c.mul(offset, bits), 3)
    line = LINE_BYTES if memory.packed else LINE_BYTES * 8 // bits
    lines = max(1, columns * bits // (8 * LINE_BYTES))
    start = c.offset(window.pointer, offset)

    def ask(at: Number) -> None:
        c.b.add(Prefetch(c.offset(start, at)))

    if lines > UNROLLED_LINES:
        c.loop(0, lines, 1, [], lambda n, _: ask(c.mul(n, line)))
    else:
        for n in range(lines):
            ask(n * line)
    ask(columns * line * bits // (8 * LINE_BYTES) - 1)  # arrays may begin anywhere in a line


def prefetch_rows(self: BlockLowering, value: Value, k: Number) -> None:
    """Ask for what is read of a tile some rows after ``k``, of memory that runs along its rows."""
    columns = value.tile.shape[1]
    for rep, dims in leaves(self, value, (0, 1)):
        window = rep.window if isinstance(rep, Lazy) else None
        if window is None or not {0, 1} <= set(dims) or window.memory.order is not None:
            continue
        along, between = (window.strides[dims.index(d)] for d in (1, 0))
        if not isinstance(along, int) or along != 1:
            continue
        size = 1 if window.memory.packed else container_bytes(window.memory.dtype)

        def ask(window: Window = window, dims: Sequence[int | None] = dims) -> None:
            prefetch_row(self, window, dims, k, 0, columns, columns)

        if not isinstance(between, int):
            self.c.branch(self.c.compare("ge", between, CLOSE_ROWS_BYTES // size), ask)
        elif between >= CLOSE_ROWS_BYTES // size:
            ask()


def ask_ahead(self: BlockLowering, value: Value, coords: Coords) -> None:
    """Ask for what lies some way behind what elements of a tile are computed from, if they take long to compute and
    reading goes on there: memory is then as busy while functions are computed as it is when rows are read again."""
    rep = self.reps.get(value)
    if not isinstance(rep, Lazy) or rep.cost < HEAVY_COST or not rep.roots or not self.lanes or self.short:
        return
    c = self.c
    for leaf, dims in leaves(self, value, tuple(range(value.tile.rank))):
        window = leaf.window if isinstance(leaf, Lazy) else None
        if window is None or not isinstance(leaf, Lazy) or not _goes_on(self, leaf.op, window):
            continue
        if dims[-1] is None or not coords[dims[-1]].vector:
            continue
        size = container_bytes(window.memory.dtype)
        places = tuple(ZERO if d is None else coords[d] for d in dims)

        def ask(window: Window = window, places: Coords = places, size: int = size) -> bool:
            pointer = c.offset(window.pointer, offset_of(self, places, window.strides))
            for n in range(0, self.lanes * size, LINE_BYTES):
                c.b.add(Prefetch(c.offset(pointer, (PREFETCHED_BYTES + n) // size)))
            return True

        c.once(("asked", window, places, self.lanes), ask)


def ask_below(self: BlockLowering, value: Value, coords: Coords) -> None:
    """Ask for what the next iteration of a loop reads in place of the elements of a tile, if that is rows below: of
    pieces of rows that are read all at once, with much else to do until the next ones, the processor does not see that
    they go on."""
    if not self.lanes or self.short:
        return
    if self.goes_below is None:
        self.goes_below = set(_loads_that_go_below(self.kernel.body, None))
    c = self.c
    for leaf, dims in leaves(self, value, tuple(range(value.tile.rank))):
        window = leaf.window if isinstance(leaf, Lazy) else None
        if window is None or not isinstance(leaf, Lazy) or leaf.op not in self.goes_below or window.memory.packed or \
                window.strides[-1] != 1 or dims[-1] is None or not coords[dims[-1]].vector:
            continue
        size = container_bytes(window.memory.dtype)
        if window.shape[-1] * size >= LONG_ROW_BYTES or coords[dims[-1]].const * size % LINE_BYTES:
            continue
        places = tuple(ZERO if d is None else coords[d] for d in dims)
        below = c.mul(window.strides[-2], window.shape[-2])
        pointer = c.offset(window.pointer, c.add(offset_of(self, places, window.strides), below))
        for n in range(0, self.lanes * size, LINE_BYTES):
            c.b.add(Prefetch(c.offset(pointer, n // size)))


def _loads_that_go_below(block: Block, loop: For | None) -> Iterator[Load]:
    """Those of tiles that are as many rows further down in the next iteration of their loop."""
    slopes, step = (loop_slopes(loop), constant_of(loop.step)) if loop is not None else (None, None)
    for op in block.ops:
        if isinstance(op, Load) and op.result.tile.rank > 1 and slopes is not None and step is not None:
            row, others = slopes.of(op.offsets[-2]), (op.view, *op.offsets[:-2], op.offsets[-1])
            if row is not None and row * step == op.result.tile.shape[-2] and all(slopes.of(x) == 0 for x in others):
                yield op
        for region in op.regions:
            yield from _loads_that_go_below(region, op if isinstance(op, For) else loop)


def _goes_on(self: BlockLowering, op: Operation, window: Window) -> bool:
    """Whether what a load of contiguous rows reads next lies behind it in memory, in the next iteration or block."""
    if self.going_on is None:
        self.going_on = set(_loads_that_go_on(self.kernel.body, None, grid_slopes(self.kernel, 0)))
    return op in self.going_on and not window.memory.packed and window.strides[-1] == 1


def _loads_that_go_on(block: Block, loop: Operation | None, slopes: Slopes) -> Iterator[Load]:
    """``slopes`` are with the index of ``loop``, or a block's place in the grid."""
    for op in block.ops:
        if isinstance(op, Load) and op.result.tile.shape and (_next_in_loop(op, loop, slopes) if loop is not None
                                                              else _next_in_grid(op, slopes)):
            yield op
        for region in op.regions:
            inner = loop_slopes(op) if isinstance(op, For) else slopes
            yield from _loads_that_go_on(region, op if isinstance(op, (For, While)) else loop, inner)


def _next_in_loop(op: Load, loop: Operation, slopes: Slopes) -> bool:
    step = constant_of(loop.step) if isinstance(loop, For) else None
    slope = slopes.of(op.offsets[-1]) if step is not None else None
    return slope is not None and step is not None and slope * step == op.result.tile.shape[-1] and \
        all(slopes.of(x) == 0 for x in (op.view, *op.offsets[:-1]))


def _next_in_grid(op: Load, slopes: Slopes) -> bool:
    """Rows that begin where those of the array do are taken to be as long."""
    if len(op.offsets) > 1:
        return constant_of(op.offsets[-1]) == 0
    return slopes.of(op.offsets[0]) == op.result.tile.size


class RowsToCome:
    """Asks for vectors of some rows of a window, ``AHEAD`` rows before they are read, or more of short ones.

    ``dims`` are the dimensions of a tile that the window's are, rows follow each other along ``axis`` of it; those that
    are read now are ``count`` from ``first`` on.
    """

    def __init__(self, lowering: BlockLowering, window: Window, dims: Sequence[int | None], axis: int, first: Number,
                 count: int) -> None:
        c, across = lowering.c, window.strides[dims.index(axis)]
        self.lowering, self.window, self.dims = lowering, window, dims
        ahead = c.mul(across, AHEAD)
        least = c.max(ahead, AHEAD_BYTES // container_bytes(window.memory.dtype))
        ahead = c.select(c.compare("gt", across, 0), least, ahead)
        self.start = c.offset(window.pointer, c.add(c.mul(first, across), ahead))
        self.apart = [c.mul(across, n) for n in range(count)]

    def at(self, coords: Coords) -> Callable[[int], None]:
        """Asks for what is at some coordinates of the tile, in the row of a number."""
        c = self.lowering.c
        places = [ZERO if d is None else coords[d] for d in self.dims]
        pointer = c.offset(self.start, offset_of(self.lowering, tuple(places), self.window.strides))

        def ask(row: int) -> None:
            c.b.add(Prefetch(c.offset(pointer, self.apart[row])))

        return ask


__all__ = ["LINE_BYTES", "LONG_ROW_BYTES", "PAGE_BYTES", "RowsToCome", "are_asked_for", "ask_ahead", "ask_below",
           "prefetch_row", "prefetch_rows"]
