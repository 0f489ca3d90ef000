"""Asking for rows of B before they are read, where they are too short for the processor to see that they go on."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.evaluate import leaves
from tilus.lowering.cpu.values import LINE_BYTES, Lazy, Number, Window

LONG_ROW_BYTES = 2048
"""What a processor's own prefetching works well for."""
PREFETCHED_BYTES = 16 << 10
"""How far ahead rows of B are asked for, by what is read of them."""


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


__all__ = ["LINE_BYTES", "prefetch_row", "prefetch_rows"]
