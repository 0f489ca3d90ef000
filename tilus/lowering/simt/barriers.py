"""Barriers of the executing group."""

from __future__ import annotations

from tilus.ir.core import Operation
from tilus.ir.ops.simt import Barrier
from tilus.lowering.simt.context import Thread


def barrier(thread: Thread) -> None:
    """A barrier of the executing group, unless nothing has touched memory since the last one."""
    for op in reversed(thread.block.ops):
        if isinstance(op, Barrier):
            return
        if op.effects() or op.regions:
            break
    thread.emit(Barrier(thread.barrier_id, thread.threads if thread.barrier_id else 0))


def reuse_barrier(thread: Thread, op: Operation) -> None:
    """A barrier before an operation's shared memory is written, where other data may have been there before."""
    if op not in thread.fresh_shared:
        barrier(thread)
