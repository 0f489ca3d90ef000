"""Barriers, groups of asynchronous copies, special registers, traps."""

from __future__ import annotations

import functools

from tilus.codegen.ptx.instruction import Described, Effects, Immediate, Instruction, Registers
from tilus.ir.ops.simt import Barrier, CpAsyncCommit, CpAsyncWait, Trap, WarpBarrier


def barrier(op: Barrier) -> Instruction:
    """``bar.sync`` or ``bar.arrive``."""
    return _barrier(op.id, op.threads, op.arrive)


@functools.cache
def _barrier(number: int, threads: int, arrive: bool) -> Instruction:
    what = "arrive" if arrive else "sync"
    inputs = [Immediate("id", number)] + ([Immediate("threads", threads)] if arrive or threads else [])
    return Instruction(f"bar_{what}", f"bar.{what} {', '.join(f'${x.name}' for x in inputs)};", (), tuple(inputs))


@functools.cache
def _copies_wait(pending: int) -> Instruction:
    return Instruction("cp_async_wait", "cp.async.wait_group $pending;", (), (Immediate("pending", pending),))


@functools.cache
def read_again(register: str) -> Instruction:
    """A special register (``tid.x``), read where this stands."""
    return Instruction(f"read_{register.replace('.', '_')}", f"mov.u32 $result, %{register};",
                       (Registers("result", "r"),), (), Effects.CONVERGENT)


_WARP_BARRIER = Instruction("bar_warp_sync", "bar.warp.sync 0xffffffff;")
_COPIES_COMMIT = Instruction("cp_async_commit", "cp.async.commit_group;")
_TRAP = Instruction("trap", "trap;")

DESCRIBED: Described = {
    Barrier: barrier,
    WarpBarrier: lambda op: _WARP_BARRIER,
    CpAsyncCommit: lambda op: _COPIES_COMMIT,
    CpAsyncWait: lambda op: _copies_wait(op.pending),
    Trap: lambda op: _TRAP,
}
