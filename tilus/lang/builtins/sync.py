"""Synchronisation that the user names: barriers, thread groups, semaphores between blocks."""

from __future__ import annotations

import itertools
import operator
from typing import Any

from tilus.ir.core import Block
from tilus.ir.ops import Atomic, GridSync, Groups, NamedBarrier, ResidentBlocks, Sync, WaitUntil, Yield
from tilus.ir.ops.arith import COMPARE_KINDS
from tilus.ir.ops.groups import MAX_WARPS, check_warps
from tilus.ir.rewriter import is_pure
from tilus.lang.builtins.memory import _indices, _view
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, emit, fail
from tilus.lang.views import View


def sync() -> None:
    """Barrier among the threads that execute it (a group's, or all of the block); orders their memory accesses."""
    current().emit(Sync(span=current().span))


def grid_sync() -> None:
    """Barrier among all blocks of a cooperative launch (``tl.block(cooperative=True)``); orders global memory."""
    context = current()
    context.emit(GridSync(context.grid_counter(), span=context.span))


def resident_blocks() -> Tile:
    """How many blocks of this kernel the device runs at once (i32); for the extents of the grid and of workspaces
    only. In the body ``tl.grid_size(axis)`` gives how many blocks there are."""
    context = current()
    context.asks_resident_blocks = True
    return emit(ResidentBlocks(span=context.span))


class group:
    """``with tl.group(first_warp, warps):`` runs its body on those warps of the block only. Groups with nothing but
    arithmetic between them run side by side, those with a warp in common one after another; what follows begins when
    all have ended. A tile made in a group belongs to it."""

    __tilus_region__ = True

    def __init__(self, first_warp: int, warps: int) -> None:
        try:
            self.first, self.count = operator.index(first_warp), operator.index(warps)
        except TypeError:
            raise fail("E0105", "the warps of a group are compile-time integers") from None
        check_warps((self.first, self.count), current().span)

    def __enter__(self) -> None:
        from tilus.lang.trace_context import TraceContext

        context = current()
        self.span = context.span
        self.body = Block()
        if isinstance(context, TraceContext):
            self.outer, context.block = context.block, self.body
        else:
            context.emit(self._groups())

    def __exit__(self, *exception: object) -> None:
        from tilus.lang.trace_context import TraceContext

        context = current()
        if isinstance(context, TraceContext):
            self.body.ops.append(Yield((), span=self.span))
            context.block = self.outer
            _append(self.outer, self._groups())

    def _groups(self) -> Groups:
        return Groups(((self.first, self.count),), (self.body,), span=self.span)


def _append(block: Block, group: Groups) -> None:
    """Put a group at the end of a block: into the groups that end it, apart from pure operations, which go before."""
    between = list(itertools.takewhile(lambda op: not op.regions and is_pure(op), reversed(block.ops)))[::-1]
    at = len(block.ops) - len(between) - 1
    beside = block.ops[at] if at >= 0 else None
    if isinstance(beside, Groups):
        group = Groups(beside.warps + group.warps, beside.bodies + group.bodies, span=beside.span, types=())
        block.ops[at:] = between
    block.append(group)


class named_barrier:
    """Barrier ``id`` (1 to 15) of the block, complete when ``warps`` warps have arrived."""

    def __init__(self, id: int, warps: int) -> None:
        try:
            self.id, self.warps = operator.index(id), operator.index(warps)
        except TypeError:
            raise fail("E0105", "a named barrier takes compile-time integers") from None
        if not 1 <= self.id <= 15:
            raise fail("E0107", f"named barriers have the numbers 1 to 15, not {self.id}")
        if not 1 <= self.warps <= MAX_WARPS:
            raise fail("E0107", f"a barrier waits for 1 to {MAX_WARPS} warps, not {self.warps}")

    def sync(self) -> None:
        """Arrive and wait."""
        current().emit(NamedBarrier(self.id, self.warps, "sync", span=current().span))

    def arrive(self) -> None:
        """Arrive and go on."""
        current().emit(NamedBarrier(self.id, self.warps, "arrive", span=current().span))


def wait_until(array: View, indices: Any, kind: str, value: Any, *, scope: str = "device") -> None:
    """Waits, with acquire semantics, until ``array[indices] KIND value`` holds.

    ``kind`` is one of ``eq``, ``ne``, ``lt``, ``le``, ``gt``, ``ge``. Blocks may wait for blocks of lower number only,
    unless the launch is cooperative.
    """
    view = _view(array, "tl.wait_until")
    if kind not in COMPARE_KINDS:
        raise fail("E0107", f"a comparison is one of {', '.join(COMPARE_KINDS)}, not {kind!r}")
    values = _scalar_indices(view, indices)
    wanted = as_tile(value, view.dtype)
    current().emit(WaitUntil(kind, view.value, values, wanted.value, scope, span=current().span))


def acquire(array: View, indices: Any, value: Any, *, scope: str = "device") -> None:
    """Waits until the semaphore ``array[indices]`` is ``value``; what was written before its release is then seen."""
    wait_until(array, indices, "eq", value, scope=scope)


def release(array: View, indices: Any, value: Any, *, scope: str = "device") -> None:
    """Sets the semaphore ``array[indices]`` to ``value`` after all that this block has written before."""
    view = _view(array, "tl.release")
    values = _scalar_indices(view, indices)
    context = current()
    context.emit(Sync(span=context.span))
    context.emit(Atomic("exchange", view.value, values, as_tile(value, view.dtype).value, None, None, "release", scope,
                        span=context.span))


def _scalar_indices(view: View, indices: Any) -> tuple[Any, ...]:
    values, shape = _indices(view, indices)
    if shape:
        raise fail("E0301", f"a semaphore is one element, but its indices have shape {shape}")
    return values
