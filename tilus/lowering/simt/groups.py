"""Lowering of thread groups, named barriers and waits between blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.diagnostics import UnsupportedError, UserError
from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import (
    Binary,
    Compare,
    GridSync,
    Groups,
    If,
    NamedBarrier,
    Select,
    Unary,
    WaitUntil,
    While,
    Yield,
)
from tilus.ir.ops.groups import Warps, check_within
from tilus.ir.ops.simt import Barrier
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic
from tilus.lowering.simt.barriers import barrier
from tilus.lowering.simt.context import GlobalView, Thread
from tilus.lowering.simt.gathers import element_pointers

LAST_NAMED_BARRIER = 7
"""The user has barriers 1 to this one."""


def lower_groups(thread: Thread, op: Groups, lower_block: Callable[[Thread, Block], None]) -> None:
    """One body after another: the warps that are not in a group go on to the next, which is theirs."""
    check_within(op, thread.function.attributes.warps)
    for warps, body in zip(op.warps, op.bodies, strict=True):
        _lower_group(thread, warps, body, lower_block)


def _lower_group(thread: Thread, warps: Warps, body: Block, lower_block: Callable[[Thread, Block], None]) -> None:
    """The body under "this warp is in the group", with the group's threads numbered from 0."""
    first, count = warps
    size = thread.target.warp_size
    warp = thread.at_entry("warp number", lambda: thread.unsigned("floordiv", thread.special("tid"), size))
    inside = thread.both(
        thread.compare("ge", warp, first) if first else None, thread.compare("lt", warp, first + count)
    )
    saved = (thread.first_warp, thread.warps)
    with thread.branch(body, lowered := Block()):
        thread.first_warp, thread.warps, thread.in_group = first, count, True
        lower_block(thread, body)
        lowered.ops.append(Yield(()))
    thread.first_warp, thread.warps = saved
    thread.in_group = False
    assert inside is not None
    thread.emit(If(inside, lowered, _nothing()))
    thread.branches_end()


def lower_named_barrier(thread: Thread, op: NamedBarrier) -> None:
    if not 1 <= op.id <= LAST_NAMED_BARRIER:
        raise UserError.at("E0705", f"barrier {op.id} is not one of 1 to {LAST_NAMED_BARRIER}", op.span)
    thread.emit(Barrier(op.id, op.warps * thread.target.warp_size, op.mode == "arrive"))


def lower_wait_until(thread: Thread, op: WaitUntil) -> None:
    """One thread polls with acquire loads; a barrier lets the others go on after it."""
    view = thread.views[op.view]
    if not isinstance(view, GlobalView):
        raise UnsupportedError.at("E0507", "waiting on shared memory", op.span, help="use named barriers")
    ((pointer, _),) = element_pointers(thread, op, range(1))
    value = thread.widen(thread.value(op.value), op.value.tile.dtype)
    outer = thread.block
    thread.block = before = Block()
    flag = thread.emit(AtomicLoad(pointer, scope=op.scope))
    held = thread.emit(Compare(op.kind, flag, value))
    before.ops.append(Yield((thread.emit(Unary("not", held)),)))
    thread.block = polling = Block()
    thread.emit(While((), before, _nothing()))
    polling.ops.append(Yield(()))
    thread.block = outer
    thread.emit(If(thread.compare("eq", thread.tid(), 0), polling, _nothing()))
    barrier(thread)


def lower_grid_sync(thread: Thread, op: GridSync) -> None:
    """One thread of each block adds to a counter and polls until its sign changes: block 0 adds 2³¹ less the number of
    the other blocks, which add 1. Barriers around it make it an order of all that the blocks' threads do."""
    assert op.counter is not None
    view = thread.views[op.counter]
    assert isinstance(view, GlobalView)
    share = _share(thread)
    barrier(thread)
    outer = thread.block
    thread.block = arriving = Block()
    before = thread.emit(PtrAtomic("add", view.pointer, share, order="acq_rel"))
    thread.block = unchanged = Block()
    now = thread.emit(AtomicLoad(view.pointer))
    same_sign = thread.compare("ge", thread.emit(Binary("xor", now, before)), 0)
    unchanged.ops.append(Yield((same_sign,)))
    thread.block = arriving
    thread.emit(While((), unchanged, _nothing()))
    arriving.ops.append(Yield(()))
    thread.block = outer
    thread.emit(If(thread.compare("eq", thread.tid(), 0), arriving, _nothing()))
    barrier(thread)


def _share(thread: Thread) -> Value:
    """What this block adds to the counter: the shares of all blocks are 2³¹ together."""
    axes = "xyz"[: thread.function.attributes.grid_rank]
    blocks, index = thread.special("nctaid.x"), thread.special("ctaid.x")
    for axis in axes[1:]:
        blocks = thread.emit(Binary("mul", blocks, thread.special(f"nctaid.{axis}")))
        index = thread.emit(Binary("or", index, thread.special(f"ctaid.{axis}")))
    first = thread.emit(Binary("sub", thread.const(-(2**31) + 1), blocks))
    return thread.emit(Select(thread.compare("eq", index, 0), first, thread.const(1)))


def _nothing() -> Block:
    block = Block()
    block.ops.append(Yield(()))
    return block


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    NamedBarrier: lower_named_barrier,
    WaitUntil: lower_wait_until,
    GridSync: lower_grid_sync,
}
