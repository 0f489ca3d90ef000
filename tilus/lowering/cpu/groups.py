"""Thread groups that wait for each other: each runs as a task on a stack of its own, all on one core.

Consecutive groups become one function ``enter(words, frame, index)`` whose body branches on the number of the group.
What it uses of the block's values travels through the words: the counter and the number of groups that the runtime
reads, then sixteen barriers, then the captured values.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import i64, u8
from tilus.ir.ops import Const, Group, If, NamedBarrier, PtrLoad, PtrStore, Yield
from tilus.ir.ops.simd import FunctionAddress, HostAtomic, IntToPtr, PtrToInt, ReturnIf
from tilus.ir.rewriter import replace_values
from tilus.ir.types import PointerType, TileType
from tilus.lowering.cpu.block import SECTIONS, BlockLowering, handles, lower
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.state import RUNTIME_COOPERATE, STATE_ERROR, call_runtime
from tilus.lowering.cpu.sync import spin

BARRIERS, CAPTURES = 2, 18
"""Where barriers and captured values start among the words."""


def waits_for_others(group: Group) -> bool:
    """Whether a group has barriers that its own threads do not complete."""
    return any(isinstance(op, NamedBarrier) and (op.mode != "sync" or op.threads != 32 * group.count)
               for op in group.body.walk())


def lower_section(self: BlockLowering, groups: Sequence[Group]) -> None:
    """Groups that stand side by side: in turn where they are independent, as tasks where some wait for others."""
    if len(groups) < 2 or not any(waits_for_others(g) for g in groups):
        for group in groups:
            self.lower_block(group.body)
        return
    body = Block([PointerType(i64), PointerType(u8, "local"), TileType(i64)], ["words", "frame", "index"])
    saved = (self.c, self.yield_frame, self.barriers, self.group_warps)
    top, peak = self.frame_top, self.frame_peak
    regions = []
    self.yield_frame, self.barriers = body.args[1], body.args[0]
    for group in groups:
        region = Block()
        self.c = Cursor(region)
        self.group_warps = (group.first, group.first + group.count - 1)
        # The tasks run by turns: each keeps all that it has used of the frame.
        self.frame_peak = self.frame_top
        self.lower_block(group.body)
        self.frame_top = self.frame_peak
        self.c.b.add(Yield(()))
        regions.append(region)
    self.c, self.yield_frame, self.barriers, self.group_warps = saved
    captured = _free_values(regions, set(body.args))
    name = f"groups_{self.kernel.name}_{len(self.program.functions)}"
    self.program.functions.append(_entry(name, body, regions, captured))
    _start(self, name, len(groups), captured)
    self.frame_peak = max(peak, self.frame_peak)
    self.frame_top = top


def _free_values(regions: Sequence[Block], known: set[Value]) -> list[Value]:
    """Values that the regions use and do not define, in order of use."""
    defined = set(known)
    for region in regions:
        for op in region.walk():
            defined.update(op.results)
            for inner in op.regions:
                defined.update(inner.args)
    found: dict[Value, None] = {}
    for region in regions:
        for op in region.walk():
            found.update((v, None) for v in op.operands if v not in defined)
    return list(found)


def _entry(name: str, body: Block, regions: Sequence[Block], captured: Sequence[Value]) -> Function:
    c = Cursor(body)
    mapping: dict[Value, Value] = {}
    for i, value in enumerate(captured):
        if isinstance(value.defining, Const):
            mapping[value] = c.b.add(value.defining.clone({})).results[0]
            continue
        slot = c.offset(body.args[0], CAPTURES + i)
        if isinstance(value.type, PointerType):
            address = c.b.add(PtrLoad(slot)).result
            mapping[value] = c.b.add(IntToPtr(address, value.type.dtype, value.type.space)).result
        else:
            mapping[value] = c.b.add(PtrLoad(c.as_pointer(slot, value.tile.dtype))).result
    for i, region in enumerate(regions):
        replace_values(region, mapping)
        chosen = c.compare("eq", body.args[2], i)
        c.b.add(If(chosen, region, Block()))
        body.ops[-1].regions[1].ops.append(Yield(()))
    c.b.add(Yield(()))
    return Function(name, body, (), {"linkage": "internal"})


def _start(self: BlockLowering, name: str, count: int, captured: Sequence[Value]) -> None:
    c = self.c
    words = self.allocate_raw(i64, CAPTURES + len(captured))
    for i in range(CAPTURES):
        c.b.add(PtrStore(c.offset(words, i), c.const(count if i == 1 else 0)))
    for i, value in enumerate(captured):
        slot = c.offset(words, CAPTURES + i)
        if isinstance(value.type, PointerType):
            c.b.add(PtrStore(slot, c.b.add(PtrToInt(value)).result))
        elif not isinstance(value.defining, Const):
            c.b.add(PtrStore(c.as_pointer(slot, value.tile.dtype), value))
    call_runtime(c, self.state, RUNTIME_COOPERATE, (
        self.state, words, c.b.add(FunctionAddress(name)).result, c.const(0), self.yield_frame or c.const(0)))
    error = c.b.add(HostAtomic("load", c.offset(self.state, STATE_ERROR), c.const(0))).result
    c.b.add(ReturnIf(c.compare("ne", error, 0)))


def _section(self: BlockLowering, block: Block, position: int) -> int:
    """Lower the groups from ``position`` on with nothing but pure operations between them; gives the position of
    the last."""
    groups: list[Group] = []
    last = at = position
    while at < len(block.ops):
        op = block.ops[at]
        if isinstance(op, Group):
            self.settle(op)
            groups.append(op)
            last = at
        elif op.TERMINATOR or op.regions or op.effects():
            break
        at += 1
    for op in block.ops[position:last]:
        if not isinstance(op, Group):
            lower(self, op)
    lower_section(self, groups)
    return last


SECTIONS[Group] = _section


@handles(NamedBarrier)
def _named_barrier(self: BlockLowering, op: Operation) -> None:
    """Outside of tasks one core goes through the program in order, and there is nobody to wait for."""
    assert isinstance(op, NamedBarrier)
    if self.barriers is None:
        return
    c = self.c
    word = c.offset(self.barriers, BARRIERS + op.id)
    before = c.b.add(PtrLoad(word)).result
    assert self.group_warps is not None
    first, last = self.group_warps
    c.b.add(PtrStore(word, c.value(c.add(before, 32 * (last - first + 1)))))
    if op.mode == "sync":
        target = c.mul(c.add(c.arith("floordiv", before, op.threads), 1), op.threads)
        spin(self, f"barrier {op.id}", op.span,
             lambda: self.c.compare("lt", self.c.b.add(PtrLoad(word, volatile=True)).result, target))
