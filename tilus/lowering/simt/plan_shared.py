"""Shared-memory planning: byte offsets for the user's and the compiler's allocations, by live range.

Positions number the operations of a kernel in program order. An allocation lives from its definition to its last use;
one used inside a loop that it was made outside of lives to the loop's end, one that is copied into asynchronously to
the wait for all copies. What a load that waits for a dot reads lives to the dot. Scratch memory of an operation (a
layout conversion, a reduction across warps) lives at its position only. Allocations whose lives overlap get disjoint
bytes.

Warps go into a group and on from its end without a barrier: beside what another group or the rest of the block uses, a
group's memory lives in all of the section, between barriers of the whole block, in which the group uses it.
"""

from __future__ import annotations

from tilus.diagnostics import ResourceError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.families import AsyncCopy
from tilus.ir.ops import AllocShared, Dot, For, GridSync, Sync, Transpose, WaitAsync, While
from tilus.ir.ops.groups import Warps, executing_warps
from tilus.ir.types import ViewType
from tilus.layouts.shared import row_major
from tilus.lowering.simt.bits import WORD, is_narrow
from tilus.lowering.simt.scratch import ROUND_BYTES, scratch_bytes
from tilus.records import field, record
from tilus.targets import Target

ALIGNMENT = 128


@record(slots=True)
class SharedPlanning:
    """``offsets`` maps an AllocShared, or an operation with scratch memory, to its byte offset; ``fresh`` holds those
    whose bytes nothing has used before when they run. Conversions take ``round_bytes`` at a time."""

    offsets: dict[object, int] = field(default_factory=dict)
    bytes: int = 0
    round_bytes: int = 0
    fresh: set[Operation] = field(default_factory=set)


@record(slots=True)
class _Live:
    """``used_by`` are the groups that use it, None for the whole block; ``sections`` where groups do."""

    key: Operation
    size: int
    first: int
    last: int
    in_loop: bool
    used_by: set[Warps | None] = field(default_factory=set)
    sections: set[_Section] = field(default_factory=set)

    def overlaps(self, other: _Live) -> bool:
        if len(self.used_by) == 1 and self.used_by == other.used_by:
            return self.first <= other.last and other.first <= self.last
        (first, last), (start, stop) = self.span(), other.span()
        return first <= stop and start <= last

    def keep_until(self, position: int) -> None:
        self.last = max(self.last, position)

    def span(self) -> tuple[int, int]:
        """When it lives, seen by other threads than those that use it."""
        return (min([self.first, *(s.first for s in self.sections)]),
                max([self.last, *(s.last for s in self.sections)]))


@record(slots=True, eq=False)
class _Section:
    """What stands between two barriers of the whole block at the top level of a kernel."""

    first: int
    last: int = 0


def plan_shared(function: Function, target: Target, deferrable: dict[Operation, Dot],
                in_place: set[Value]) -> SharedPlanning:
    """Place every allocation.

    Args:
        deferrable: loads whose memory is read as late as at a dot.
        in_place: operands of dots that take no scratch memory.

    Raises:
        ResourceError: the target has less shared memory (E0503).
    """
    allocated = sum(allocation_bytes(op) for op in function.walk() if isinstance(op, AllocShared))
    plan = SharedPlanning(round_bytes=max(ROUND_BYTES, allocated))
    lives = _live_ranges(function, target, deferrable, in_place, plan.round_bytes)
    placed: list[tuple[_Live, int]] = []
    for live in sorted(lives, key=lambda x: (-x.size, x.first)):
        offset = 0
        for other, start in sorted(placed, key=lambda x: x[1]):
            if live.overlaps(other) and offset < start + other.size and start < offset + live.size:
                offset = -(-(start + other.size) // ALIGNMENT) * ALIGNMENT
        placed.append((live, offset))
        plan.offsets[live.key] = offset
        plan.bytes = max(plan.bytes, offset + live.size)
    for live, offset in placed:
        earlier = any(other.first < live.first and offset < start + other.size and start < offset + live.size
                      for other, start in placed)
        if not earlier and not live.in_loop:
            plan.fresh.add(live.key)
    limit = target.shared_per_block_optin
    if plan.bytes > limit:
        largest = max(lives, key=lambda x: x.size)
        raise ResourceError.at(
            "E0503", f"the kernel needs {plan.bytes} bytes of shared memory, {target.name} has {limit} per block",
            largest.key.span, label=f"{largest.size} bytes of it are for this",
            help="use smaller tiles or fewer stages")
    return plan


def _live_ranges(function: Function, target: Target, deferrable: dict[Operation, Dot],
                 in_place: set[Value], round_bytes: int) -> list[_Live]:
    lives: dict[Operation, _Live] = {}
    roots: dict[Value, Operation] = {}
    copied: set[Operation] = set()
    homes: dict[Operation, tuple[Block, ...]] = {}
    drained: list[tuple[int, Block]] = []
    position = 0
    section = _Section(0)

    def use(live: _Live, group: Warps | None) -> None:
        live.used_by.add(group)
        if group is not None:
            live.sections.add(section)

    def visit(block: Block, loops: list[tuple[int, list[_Live]]], around: tuple[Block, ...] = (),
              group: Warps | None = None) -> None:
        nonlocal position, section
        around = (*around, block)
        for op in block.ops:
            position += 1
            if isinstance(op, (Sync, GridSync)) and block is function.body:
                section.last = position
                section = _Section(position)
            if isinstance(op, AllocShared):
                lives[op] = _Live(op, allocation_bytes(op), position, position, bool(loops))
                roots[op.result] = op
                homes[op] = around
                if group is not None:
                    use(lives[op], group)
            size = scratch_bytes(op, target, in_place, round_bytes)
            if size:
                lives[op] = _Live(op, size, position, position, bool(loops))
                use(lives[op], group)
            if isinstance(op, WaitAsync) and op.pending == 0:
                drained.append((position, block))
            for value in op.operands:
                root = roots.get(value)
                if root is None:
                    continue
                live = lives[root]
                live.last = position
                use(live, group)
                if isinstance(op, AsyncCopy) and value is op.destination:
                    copied.add(root)
                for start, extended in loops:
                    if live.first < start:
                        extended.append(live)
                for result in op.results:
                    if isinstance(result.type, ViewType) or op in deferrable or isinstance(op, Transpose):
                        roots[result] = root
            is_loop = isinstance(op, (For, While))
            frame: tuple[int, list[_Live]] = (position, [])
            for region, executing in executing_warps(op, group):
                visit(region, [*loops, frame] if is_loop else loops, around, executing)
            if is_loop:
                for live in frame[1]:
                    live.keep_until(position)

    visit(function.body, [])
    section.last = position
    for root in copied:  # a copy may arrive as late as the wait for all copies, or never be waited for
        live = lives[root]
        live.last = min((at for at, block in drained if at >= live.last and block in homes[root]), default=position)
    return list(lives.values())


def allocation_bytes(op: AllocShared) -> int:
    layout = op.result.view.layout or row_major(*op.shape)
    unit = WORD if is_narrow(op.dtype) else 8  # single elements are stored by atomics on whole words
    return -(-layout.size * op.dtype.packed_bits // unit) * unit // 8
