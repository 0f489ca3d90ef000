"""The stack of a thread, above its other local memory: frames of recursive functions, and ``alloca``.

A recursive function is one piece of code with one set of registers. ``call.(push)`` opens a frame on top, copies the
arguments into it and keeps the caller's registers; ``call.(pop)`` copies the results out and restores them.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Batch, Binder, Group, Op, Run
from tilus.simulator.resolved import Const, StackCall, Symbol
from tilus.simulator.schedule import KernelAborted


class CallStack:
    """Where the stack of every lane ends, and what its open calls keep: registers by depth."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.base = batch.launch.program.decoded.local_bytes
        self.top = np.full(batch.lanes, self.base, np.int64)
        self.depth = np.zeros(batch.lanes, np.int64)
        self.kept: dict[tuple[str, int, int], Array] = {}

    def open(self, op: Op, lanes: Array, size: Array, align: int, what: str) -> Array:
        """Move the top up by some bytes; where they begin, as addresses of local memory."""
        local = self.batch.local
        start: Array = (self.top[lanes] + align - 1) // align * align
        end = start + size
        over = (end > local.size) | (size < 0)
        if over.any():
            self.batch.fault("bounds", f"{what} more than the {local.size - self.base} bytes of a thread's stack: "
                             "raise stack_bytes, or end the recursion", op, int(lanes[np.argmax(over)]),
                             count=int(over.sum()))
            raise KernelAborted
        self.top[lanes] = end
        if local.written is not None:
            opened = local.base[lanes] + start
            for length in np.unique(size):
                local.written[opened[size == length][:, None] + np.arange(length)] = False
        return start

    def keep(self, kind: str, key: tuple[int, int], row: Array, lanes: Array, clear: bool = False) -> None:
        """Copy a row of the lanes to their depths."""
        depth = self.depth[lanes]
        name = (kind, *key)
        store = self.kept.get(name)
        needed = int(depth.max()) + 1
        if store is None or len(store) < needed:
            grown = np.zeros((max(8, 2 * needed), *row.shape), row.dtype)
            if store is not None:
                grown[:len(store)] = store
            store = grown
            self.kept[name] = store
        store[depth, lanes] = row[lanes]
        if clear:
            row[lanes] = False

    def restore(self, kind: str, key: tuple[int, int], row: Array, lanes: Array) -> None:
        name = (kind, *key)
        row[lanes] = self.kept[name][self.depth[lanes], lanes]


def _stack(batch: Batch) -> CallStack:
    stack: CallStack | None = batch.state.get("call stack")
    if stack is None:
        stack = batch.state["call stack"] = CallStack(batch)
    return stack


def _places(b: Binder, symbol: Symbol, frame: Array, lanes: Array, size: int) -> Array:
    """Bytes of a variable in the buffer of local memory: one row for each lane."""
    start = b.batch.local.base[lanes] + symbol.address
    if symbol.space == "frame":
        start = start + frame[lanes].astype(np.int64)
    return start[:, None] + np.arange(size)


def _copy(b: Binder, source: Array, target: Array) -> None:
    local = b.batch.local
    local.views.data[target] = local.views.data[source]
    if local.written is not None:
        local.written[target] = local.written[source]


@instr("call.(push)", writes=2, kind="call")
def push(b: Binder, op: Op) -> Run:
    call = op.data
    assert isinstance(call, StackCall)
    frame, back = b.row(call.frame), b.row(call.back)
    batch, local = b.batch, b.batch.local
    kept = call.caller.registers if call.caller is not None else []

    def run(g: Group) -> None:
        lanes, stack = g.lanes(), _stack(batch)
        start = stack.open(op, lanes, np.full(lanes.size, call.callee.frame_bytes), 16,
                           f"the calls of {call.callee.name!r} need")
        sources = [(_places(b, actual, frame, lanes, size), offset, size) for actual, offset, size in call.arguments]
        for key in kept:
            stack.keep("value", key, b.batch.regs[key[0]][key[1]], lanes)
            if key in batch.valid:
                stack.keep("valid", key, batch.valid[key], lanes, clear=True)
        for which, row in ((0, frame), (1, back)):
            stack.keep("link", (0, which), row, lanes)
        opened = local.base[lanes] + start
        for source, offset, size in sources:
            _copy(b, source, opened[:, None] + offset + np.arange(size))
        frame[lanes] = start
        back[lanes] = call.number
        stack.depth[lanes] += 1

    return run


@instr("call.(pop)", writes=2, kind="call")
def pop(b: Binder, op: Op) -> Run:
    call = op.data
    assert isinstance(call, StackCall)
    frame, back = b.row(call.frame), b.row(call.back)
    batch, local = b.batch, b.batch.local
    kept = call.caller.registers if call.caller is not None else []

    def run(g: Group) -> None:
        lanes, stack = g.lanes(), _stack(batch)
        opened = local.base[lanes] + frame[lanes].astype(np.int64)
        stack.depth[lanes] -= 1
        stack.top[lanes] = frame[lanes].astype(np.int64)
        for which, row in ((0, frame), (1, back)):
            stack.restore("link", (0, which), row, lanes)
        for key in kept:
            stack.restore("value", key, b.batch.regs[key[0]][key[1]], lanes)
            if key in batch.valid:
                stack.restore("valid", key, batch.valid[key], lanes)
        for actual, offset, size in call.results:
            _copy(b, opened[:, None] + offset + np.arange(size), _places(b, actual, frame, lanes, size))

    return run


@instr("alloca t:u32|u64", kind="logic")
def alloca(b: Binder, op: Op) -> Run:
    """Bytes on the stack until the function returns or the stack is restored."""
    kind = str(op.fields["t"])
    d, count, *align = b.need(op, 2, 3)
    if align and not isinstance(align[0], Const):
        raise b.error("the alignment must be a constant", op)
    to = int(align[0].value) if align and isinstance(align[0], Const) else 8
    if to < 1 or to & (to - 1):
        raise b.error(f"the alignment {to} is not a power of two", op)
    dst, size = b.dst(op, d, kind), b.src(op, count, kind)

    def run(g: Group) -> None:
        lanes = g.lanes()
        sizes = np.broadcast_to(size, b.lanes)[lanes].astype(np.int64)
        dst[lanes] = _stack(b.batch).open(op, lanes, sizes, to, "alloca needs")

    return run


@instr("stacksave t:u32|u64", kind="logic")
def stacksave(b: Binder, op: Op) -> Run:
    dst = b.dst(op, b.need(op, 1)[0], str(op.fields["t"]))

    def run(g: Group) -> None:
        lanes = g.lanes()
        dst[lanes] = _stack(b.batch).top[lanes]

    return run


@instr("stackrestore t:u32|u64", writes=0, kind="logic")
def stackrestore(b: Binder, op: Op) -> Run:
    source = b.src(op, b.need(op, 1)[0], str(op.fields["t"]))

    def run(g: Group) -> None:
        lanes, stack = g.lanes(), _stack(b.batch)
        value = np.broadcast_to(source, b.lanes)[lanes].astype(np.int64)
        wrong = (value < stack.base) | (value > stack.top[lanes])
        if wrong.any():
            b.batch.fault("value", "stackrestore of what stacksave did not give", op, int(lanes[np.argmax(wrong)]),
                          count=int(wrong.sum()))
            value = np.where(wrong, stack.top[lanes], value)
        stack.top[lanes] = value

    return run
