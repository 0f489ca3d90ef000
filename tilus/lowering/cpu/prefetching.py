"""Asking for rows of B before they are read, where they are too short for the processor to see that they go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.evaluate import leaves
from tilus.lowering.cpu.memory import offset_of
from tilus.lowering.cpu.values import LINE_BYTES, ZERO, Coords, Lazy, Number, Window

LONG_ROW_BYTES = 2048
"""What a processor's own prefetching works well for."""
PREFETCHED_BYTES = 16 << 10
"""How far ahead rows of B are asked for, by what is read of them."""
AHEAD = 16
"""How many rows ahead rows are asked for that are read side by side."""


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
    for n in range(max(1, columns * bits // (8 * LINE_BYTES))):
        c.b.add(Prefetch(c.offset(window.pointer, c.add(offset, n * line))))


def prefetch_rows(self: BlockLowering, value: Value, k: Number) -> None:
    """Ask for what is read of a tile some rows after ``k``, of memory that runs along its rows."""
    columns = value.tile.shape[1]
    for rep, dims in leaves(self, value, (0, 1)):
        window = rep.window if isinstance(rep, Lazy) else None
        if window is None or not {0, 1} <= set(dims) or window.memory.order is not None:
            continue
        along = window.strides[dims.index(1)]
        if isinstance(along, int) and along == 1:
            prefetch_row(self, window, dims, k, 0, columns, columns)


class RowsToCome:
    """Asks for vectors of some rows of a window, ``AHEAD`` rows before they are read.

    ``dims`` are the dimensions of a tile that the window's are, rows follow each other along ``axis`` of it; those that
    are read now are ``count`` from ``first`` on.
    """

    def __init__(self, lowering: BlockLowering, window: Window, dims: Sequence[int | None], axis: int, first: Number,
                 count: int) -> None:
        c, across = lowering.c, window.strides[dims.index(axis)]
        self.lowering, self.window, self.dims = lowering, window, dims
        self.start = c.offset(window.pointer, c.mul(c.add(first, AHEAD), across))
        self.apart = [c.mul(across, n) for n in range(count)]

    def at(self, coords: Coords) -> Callable[[int], None]:
        """Asks for what is at some coordinates of the tile, in the row of a number."""
        c = self.lowering.c
        places = [ZERO if d is None else coords[d] for d in self.dims]
        pointer = c.offset(self.start, offset_of(self.lowering, tuple(places), self.window.strides))

        def ask(row: int) -> None:
            c.b.add(Prefetch(c.offset(pointer, self.apart[row])))

        return ask


__all__ = ["LINE_BYTES", "RowsToCome", "prefetch_row", "prefetch_rows"]
