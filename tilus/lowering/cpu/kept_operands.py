"""Memories of packed operands, which are kept from one block to the next on the same core.

A dot in a loop has some for panels of B and one for rows of A, each a line for what it holds and room for that.
"""

from __future__ import annotations

from tilus.ir.core import Function, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Cast, Dot, For, Load, PtrLoad, PtrStore, Transpose
from tilus.ir.ops.simd import PtrToInt
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.evaluate import leaves
from tilus.lowering.cpu.values import Buffer, Number, Window
from tilus.records import record

MEMO_BYTES = 2 << 20
"""Room for one packed operand of a whole loop."""
MAX_MEMOS = 4
"""How many dots of a kernel get memories."""
PANELS_KEPT = 4
"""How many of these a core keeps of B for a dot: blocks run in groups of as many columns of the grid, row by row, so
that what is packed of A serves them all."""
GROUPED_ROWS = 64
"""From how many rows of their tiles on blocks run in such groups."""
MEMO_STRIDE = 64 + MEMO_BYTES
MEMOS_OF_DOT = PANELS_KEPT + 1


def count_memos(kernel: Function) -> int:
    """How many dots in loops of a kernel get memories of their packed operands."""
    return min(len(_dots_in_loops(kernel)), MAX_MEMOS)


def _dots_in_loops(kernel: Function) -> list[Dot]:
    return [o for op in kernel.walk() if isinstance(op, For) for o in op.body.ops if isinstance(o, Dot)]


def may_group(kernel: Function) -> bool:
    """Whether blocks go in groups of columns of the grid: where tiles have many rows, panels of B may come from further
    away than the nearer caches, and what is packed of A is worth keeping."""
    dots = _dots_in_loops(kernel)
    return bool(dots) and all(o.result.tile.shape[-2] >= GROUPED_ROWS for o in dots)


@record(slots=True)
class Memo:
    """Packed panels of B, or rows of A, kept between blocks: ``hit`` says that those at ``panels`` are the ones wanted,
    ``fits`` that there is room for them."""

    key: Value
    identity: list[Value]
    panels: Value
    hit: Value
    fits: Value


def is_plain(value: Value) -> bool:
    """Whether a tile is loaded and converted, nothing else."""
    return _load_of(value) is not None


def plain_load(value: Value) -> Load | None:
    """The load of rank 2 that a tile is, converted or transposed, without a mask or anything of its own for what is not
    there."""
    op = _load_of(value)
    if op is None or op.mask is not None or op.other is not None or not len(op.offsets) == value.tile.rank == 2:
        return None
    return op


def _load_of(value: Value) -> Load | None:
    op = value.defining
    if isinstance(op, (Cast, Transpose)):
        return _load_of(op.x)
    return op if isinstance(op, Load) else None


def kept_window(self: BlockLowering, value: Value) -> Window | None:
    """That of the one load which a tile is of, of an array that the kernel does not write; None for other tiles."""
    windows = [rep.window for rep, _ in leaves(self, value, (None, None))
               if not isinstance(rep, Buffer) and rep.window is not None]
    memory = windows[0].memory if len(windows) == 1 else None
    if memory is None or not memory.read_only or memory.packed or memory.order is not None:
        return None
    return windows[0]


def memo_of(self: BlockLowering, key: Value, value: Value, dtype: DType, total: Number, needed: Number, size: Number,
            allowed: Value | None) -> Memo | None:
    """An operand is recognised by the address of its first element, its depth, its bounds and how much of it is needed
    (seven words at most), if it comes from one load of an array that the kernel does not write. ``size`` is how many
    elements of ``dtype`` are kept, ``allowed`` whether any may be, where that is not always so."""
    c = self.c
    window = kept_window(self, value)
    if window is None:
        return None
    identity = [c.b.add(PtrToInt(window.pointer)).result, c.value(total)]
    identity += [bound for bound in (*window.lows, *window.highs, needed) if isinstance(bound, Value)]
    hit: Value | None = None
    for i, word in enumerate(identity):
        old = c.b.add(PtrLoad(c.offset(key, i))).result
        hit = c.both(hit, c.compare("eq", old, word))
    fits = c.both(c.compare("le", size, MEMO_BYTES // container_bytes(dtype)), allowed)
    hit = c.both(hit, fits)
    assert fits is not None
    assert hit is not None
    return Memo(key, identity, c.as_pointer(c.offset(key, 8), dtype), hit, fits)


def remember(self: BlockLowering, memo: Memo) -> None:
    """What is wanted is there now, unless there is no room for it."""
    c = self.c
    for i, word in enumerate(memo.identity):
        c.b.add(PtrStore(c.offset(memo.key, i), c.select(memo.fits, word, 0)))


__all__ = ["MEMOS_OF_DOT", "MEMO_STRIDE", "PANELS_KEPT", "Memo", "count_memos", "is_plain", "kept_window", "may_group",
           "memo_of", "plain_load", "remember"]
