"""Thread groups that wait for each other: each runs as a task on a stack of its own, all on one core.

The groups become one function ``enter(words, frame, index)`` whose body branches on the number of the group. What it
uses of the block's values travels through the words: the counter and the number of groups that the runtime reads, then
which groups have ended, then the captured values.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import i64, u8
from tilus.ir.ops import Const, Groups, If, NamedBarrier, PtrLoad, PtrStore, Yield
from tilus.ir.ops.groups import Warps, span_of
from tilus.ir.ops.simd import FunctionAddress, IntToPtr, PtrToInt, ReturnIf
from tilus.ir.ops.thread import AtomicLoad
from tilus.ir.rewriter import replace_values
from tilus.ir.types import PointerType, TileType
from tilus.lowering.cpu.block import BlockLowering, handles
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.state import RUNTIME_COOPERATE, STATE_ERROR, call_runtime
from tilus.lowering.cpu.sync import spin

ENDED = 2
"""Where it stands among the words which groups have ended."""


@handles(Groups)
def _groups(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Groups)
    if op.is_sequential:
        for warps, body in zip(op.warps, op.bodies, strict=True):
            _lower_group(self, warps, body)
    else:
        _lower_as_tasks(self, op)


def _lower_group(self: BlockLowering, warps: Warps, body: Block) -> None:
    self.group_warps = warps
    self.lower_block(body)
    self.group_warps = None


def _lower_as_tasks(self: BlockLowering, op: Groups) -> None:
    count = len(op.bodies)
    body = Block([PointerType(i64), PointerType(u8, "local"), TileType(i64)], ["words", "frame", "index"])
    saved = (self.c, self.yield_frame)
    top, peak = self.frame_top, self.frame_peak
    self.yield_frame = body.args[1]
    regions = []
    for index in range(count):
        # The tasks run by turns: each keeps all that it has used of the frame.
        self.frame_peak = self.frame_top
        regions.append(_task(self, op, index, body.args[0]))
        self.frame_top = self.frame_peak
    self.c, self.yield_frame = saved
    captured = _free_values(regions, set(body.args))
    name = f"groups_{self.kernel.name}_{len(self.program.functions)}"
    self.program.functions.append(_entry(name, body, regions, captured))
    _start(self, name, count, captured)
    self.frame_peak = max(peak, self.frame_peak)
    self.frame_top = top


def _task(self: BlockLowering, op: Groups, index: int, words: Value) -> Block:
    """What the task of a group runs: it begins when those before it that share its warps have ended."""
    region = Block()
    self.c = Cursor(region)
    self.group_warps = op.warps[index]
    for before in op.before(index):
        spin(self, "the groups before it", span_of(op.bodies[index]), lambda before=before: self.c.compare(  # type: ignore[misc]
            "eq", self.c.b.add(PtrLoad(self.c.offset(words, ENDED + before), volatile=True)).result, 0))
    _lower_group(self, op.warps[index], op.bodies[index])
    self.c.b.add(PtrStore(self.c.offset(words, ENDED + index), self.c.const(1)))
    self.c.b.add(Yield(()))
    return region


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
    c, captures = Cursor(body), ENDED + len(regions)
    mapping: dict[Value, Value] = {}
    for i, value in enumerate(captured):
        if isinstance(value.defining, Const):
            mapping[value] = c.b.add(value.defining.clone({})).results[0]
            continue
        slot = c.offset(body.args[0], captures + i)
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
    return Function(name, body, (), Attributes(linkage="internal"))


def _start(self: BlockLowering, name: str, count: int, captured: Sequence[Value]) -> None:
    c, captures = self.c, ENDED + count
    words = self.allocate_raw(i64, captures + len(captured))
    for i in range(captures):
        c.b.add(PtrStore(c.offset(words, i), c.const(count if i == 1 else 0)))
    for i, value in enumerate(captured):
        slot = c.offset(words, captures + i)
        if isinstance(value.type, PointerType):
            c.b.add(PtrStore(slot, c.b.add(PtrToInt(value)).result))
        elif not isinstance(value.defining, Const):
            c.b.add(PtrStore(c.as_pointer(slot, value.tile.dtype), value))
    call_runtime(c, self.state, RUNTIME_COOPERATE, (
        self.state, words, c.b.add(FunctionAddress(name)).result, c.const(0), self.yield_frame or c.const(0)))
    error = c.b.add(AtomicLoad(c.offset(self.state, STATE_ERROR), "relaxed")).result
    c.b.add(ReturnIf(c.compare("ne", error, 0)))


def lower_barriers(self: BlockLowering) -> None:
    """At the beginning of a kernel with named barriers: nobody has arrived."""
    numbers = [op.id for op in self.kernel.walk() if isinstance(op, NamedBarrier)]
    if numbers:
        self.barriers = self.allocate_raw(i64, 1 + max(numbers))
        for i in range(1 + max(numbers)):
            self.c.b.add(PtrStore(self.c.offset(self.barriers, i), self.c.const(0)))


@handles(NamedBarrier)
def _named_barrier(self: BlockLowering, op: Operation) -> None:
    """A word counts the warps that have arrived, over all times that the barrier is complete."""
    assert isinstance(op, NamedBarrier)
    assert self.barriers is not None
    c = self.c
    word = c.offset(self.barriers, op.id)
    before = c.b.add(PtrLoad(word)).result
    warps = self.kernel.attributes.warps if self.group_warps is None else self.group_warps[1]
    c.b.add(PtrStore(word, c.value(c.add(before, warps))))
    if op.mode == "sync":
        target = c.mul(c.add(c.arith("floordiv", before, op.warps), 1), op.warps)
        spin(self, f"barrier {op.id}", op.span,
             lambda: self.c.compare("lt", self.c.b.add(PtrLoad(word, volatile=True)).result, target))
