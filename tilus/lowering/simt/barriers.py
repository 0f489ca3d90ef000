"""Barriers of the executing group, and which barriers of the hardware groups have."""

from __future__ import annotations

from tilus.diagnostics import UserError
from tilus.ir.core import Function, Operation
from tilus.ir.ops import Groups, NamedBarrier
from tilus.ir.ops.groups import Warps, span_of
from tilus.ir.ops.simt import Barrier, WarpBarrier
from tilus.lowering.simt.context import Thread

BARRIERS = 16
"""Barriers of the hardware: 0 is the block's, 1 to 7 may be named by the user."""


def number_barriers(function: Function) -> dict[Warps, int]:
    """The barrier of each group of several warps: groups may run side by side, so that each has its own.

    Raises:
        UserError: there are too few (E0705).
    """
    operations = [op for op in function.walk() if isinstance(op, Groups)]
    groups = {warps: body for op in operations for warps, body in zip(op.warps, op.bodies, strict=True)
              if warps[1] > 1}
    named = {op.id for op in function.walk() if isinstance(op, NamedBarrier)}
    free = [i for i in reversed(range(1, BARRIERS)) if i not in named]
    if len(groups) > len(free):
        late = list(groups.values())[len(free)]
        raise UserError.at(
            "E0705", f"the kernel has {len(groups)} different groups of several warps, but a block has {len(free)} "
            "barriers for them", span_of(late), help="use fewer named barriers, or groups of one warp, which need none")
    return dict(zip(groups, free, strict=False))


def barrier(thread: Thread) -> None:
    """A barrier of the executing group, unless nothing has touched memory since the last one."""
    mine = _own_barrier(thread)
    for op in reversed(thread.block.ops):
        if type(op) is type(mine) and op.attributes == mine.attributes:
            return
        if op.effects() or op.regions:
            break
    thread.emit(mine)


def _own_barrier(thread: Thread) -> Operation:
    if not thread.in_group:
        return Barrier()
    if thread.warps == 1:
        return WarpBarrier()
    return Barrier(thread.group_barriers[thread.first_warp, thread.warps], thread.threads)


def reuse_barrier(thread: Thread, op: Operation) -> None:
    """A barrier before an operation's shared memory is written, where other data may have been there before."""
    if op not in thread.fresh_shared:
        barrier(thread)
