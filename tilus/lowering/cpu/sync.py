"""Checks, prints, and waiting between blocks."""

from __future__ import annotations

from collections.abc import Callable

from tilus.diagnostics import Span
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import f64, i64, u64
from tilus.ir.ops import (
    Alloca,
    Binary,
    Bitcast,
    Cast,
    Compare,
    DeviceAssert,
    GridSync,
    Print,
    PtrLoad,
    PtrStore,
    Reduce,
    WaitUntil,
    While,
    Yield,
)
from tilus.ir.ops.groups import Warps
from tilus.ir.ops.simd import CallPointer, IntToPtr, PtrToInt, ReturnIf
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic
from tilus.ir.types import TileType
from tilus.lowering.cpu.block import BlockLowering, handles, lower, row_major
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.launch_function import failed_assertion
from tilus.lowering.cpu.memory import gathered_offset
from tilus.lowering.cpu.nest import nest, store_buffer, versions, windows_of
from tilus.lowering.cpu.state import (
    RUNTIME_PRINT,
    RUNTIME_WAIT,
    STATE_ARRIVED,
    STATE_ERROR,
    STATE_GRID0,
    STATE_RUNTIME,
    STATE_TOTAL,
    call_runtime,
)
from tilus.lowering.cpu.values import Buffer, Coords, Number
from tilus.records import record


@handles(DeviceAssert)
def _device_assert(self: BlockLowering, op: Operation) -> None:
    """The first failure is recorded in the launch's state; the block ends, and no further ones start."""
    assert isinstance(op, DeviceAssert)
    self.program.checks.append(failed_assertion(op))
    code = len(self.program.checks)
    condition = op.condition
    while not condition.tile.is_scalar:
        reduction = Reduce("all", condition, condition.tile.rank - 1)
        lower(self, reduction)
        condition = reduction.result
    c = self.c
    failed = c.b.add(Binary("xor", self.scalars[condition], c.const(True, condition.tile.dtype))).result

    def record() -> list[Value]:
        self.c.b.add(PtrAtomic("cas", self.c.offset(self.state, STATE_ERROR), self.c.const(code), self.c.const(0)))
        return []

    c.branch(failed, record)
    c.b.add(ReturnIf(failed))


@handles(Print)
def _print(self: BlockLowering, op: Operation) -> None:
    """All elements as 64-bit words, for the runtime to format."""
    assert isinstance(op, Print)
    c = self.c
    total = sum(v.tile.size for v in op.values)
    words = c.b.add(Alloca(i64, max(1, total), 16)).result if total <= 1024 else self.allocate_raw(i64, total)
    at = 0
    layout = []
    for value in op.values:
        _store_words(self, value, c.offset(words, at))
        layout.append((value.tile.dtype.name, value.tile.shape))
        at += value.tile.size
    description = (op.format, tuple(layout))
    key = print_key(description)
    self.program.prints[key] = description
    runtime = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(self.state, STATE_RUNTIME))).result, i64)).result
    callee = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(runtime, RUNTIME_PRINT))).result, i64)).result
    c.b.add(CallPointer(callee, (c.const(key), c.b.add(PtrToInt(words)).result)))


def print_key(description: object) -> int:
    """A number for what a print says, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(description).encode()).digest()[:7], "little")


def _store_words(self: BlockLowering, value: Value, pointer: Value) -> None:
    def word(x: Value) -> Value:
        b = self.c.b
        if x.tile.dtype.is_float:
            return b.add(Bitcast(self.c.cast(x, f64), i64)).result
        if x.tile.dtype is u64:
            return b.add(Bitcast(x, i64)).result
        return b.add(Cast(x, i64)).result if x.tile.dtype is not i64 else x

    if value.tile.is_scalar:
        self.c.b.add(PtrStore(pointer, word(self.scalars[value])))
        return
    shape = value.tile.shape
    target = Buffer(pointer, i64, shape, row_major(shape))

    def body(coords: Coords) -> None:
        store_buffer(self, target, coords, word(evaluate(self, value, coords)))

    def emit() -> list[Value]:
        nest(self, shape, len(shape) - 1, 1, body)
        return []

    versions(self, windows_of(self, [value]), emit)


@handles(WaitUntil)
def _wait_until(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, WaitUntil)
    c, memory = self.c, self.views[op.view]
    offset, inside = gathered_offset(self, memory, [self.scalars[i] for i in op.indices], None, 0)
    pointer = c.offset(memory.pointer, offset)
    value = self.scalars[op.value]

    def pending() -> Value:
        seen = self.c.b.add(AtomicLoad(pointer)).result
        holds = self.c.b.add(Compare(op.kind, seen, value)).result
        return self.c.b.add(Binary("xor", holds, self.c.const(True, holds.tile.dtype))).result

    cooperative = self.kernel.attributes.cooperative
    help = None if cooperative else "blocks may wait for lower ones only; tl.block(cooperative=True) lifts this"

    def wait() -> None:
        spin(self, "a semaphore", op.span, pending, help)

    if inside is None:
        wait()
    else:
        c.branch(inside, wait)


@handles(GridSync)
def _grid_sync(self: BlockLowering, op: Operation) -> None:
    """Counts arrivals over the whole launch; the block is suspended until all have come this far."""
    c = self.c
    arrived = c.offset(self.state, STATE_ARRIVED)
    total = c.b.add(PtrLoad(c.offset(self.state, STATE_TOTAL))).result
    before = c.b.add(PtrAtomic("add", arrived, c.const(1), order="acq_rel")).result
    target = c.mul(c.add(c.arith("floordiv", before, total), 1), total)
    spin(self, "the other blocks at tl.grid_sync", op.span, lambda: self.c.compare("lt", self.c.b.add(
        AtomicLoad(arrived)).result, target))


@record(frozen=True)
class Wait:
    """A place in a kernel where something is waited for, for the message of a deadlock.

    ``warps`` are those of the thread group that waits, if it is one; ``help`` says what lifts the wait.
    """

    what: str
    span: Span
    kernel: str
    warps: Warps | None = None
    help: str | None = None


def spin(self: BlockLowering, what: str, span: Span, pending: Callable[[], Value], help: str | None = None) -> None:
    """Wait while ``pending()`` holds, letting other blocks and tasks run. Ends the function where a check has failed
    somewhere, or nothing can go on."""
    self.program.waits.append(Wait(what, span, self.kernel.name, self.group_warps, help))
    place = len(self.program.waits) - 1
    before, body = Block([TileType(i64)]), Block([TileType(i64)])
    first = self.c.const(1)
    outer = self.c.enter(before)
    self.c.b.add(Yield((pending(), *before.args)))
    self.c.leave(outer)
    outer = self.c.enter(body)
    frame = self.yield_frame or self.c.const(0)
    error = call_runtime(self.c, self.state, RUNTIME_WAIT, (
        self.state, frame, self.ticks.words, self.c.const(place), self.c.value(linear_index(self)), body.args[0]),
        returns=True)
    assert error is not None
    self.c.b.add(ReturnIf(self.c.compare("ne", error, 0)))
    self.c.b.add(Yield((self.c.const(0),)))
    self.c.leave(outer)
    self.c.b.add(While((first,), before, body))


def linear_index(self: BlockLowering) -> Number:
    """The number of the block; the first axis varies fastest."""
    c = self.c
    b0, b1, b2 = self.block_index
    extents = [c.b.add(PtrLoad(c.offset(self.state, STATE_GRID0 + i))).result for i in range(2)]
    return c.add(b0, c.mul(extents[0], c.add(b1, c.mul(extents[1], b2))))
