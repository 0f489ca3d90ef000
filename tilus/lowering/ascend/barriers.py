"""Barriers between what one pipe does: right before the first call, on every path, that meets one which may still be
under way, and no others.

The units of vectors and of copies begin an operation before the last one is done. What is under way is followed through
the program: a barrier ends it, and so does a flag that lets a ring's slot be filled again, since it comes from a pipe
that has waited for what was in it.
"""

from __future__ import annotations

from tilus.ir.core import Block, Module, Operation
from tilus.ir.ops import For, If, While
from tilus.ir.ops.cores import Call, PipeBarrier, WaitFlag
from tilus.lowering.ascend.accesses import Access, accesses
from tilus.lowering.ascend.rotation import program_blocks

UnderWay = dict[str, frozenset[Access]]
"""By pipe, the accesses that may not be done."""
COPIES = ("MTE2", "MTE3")
PIPES = ("V", *COPIES)


def insert_barriers(module: Module) -> None:
    """Put the barriers into all programs, in place."""
    for function in module.kernels:
        for block in program_blocks(function):
            _Barriers().place(block)


class _Barriers:
    """The barriers of a program: before which operations, of which pipes."""

    def __init__(self) -> None:
        self.needed: dict[Operation, set[str]] = {}
        self.accesses: dict[Operation, frozenset[Access]] = {}

    def place(self, program: Block) -> None:
        self.block(program, dict.fromkeys(PIPES, frozenset()))
        _insert(program, self.needed)

    def block(self, block: Block, state: UnderWay) -> UnderWay:
        """What is under way behind a block; barriers are noted on the way."""
        for op in block.ops:
            state = self.operation(op, state)
        return state

    def operation(self, op: Operation, state: UnderWay) -> UnderWay:
        if isinstance(op, (For, While)):
            return self.loop(op, state)
        if isinstance(op, If):
            return _joined(self.block(op.then, state), self.block(op.orelse, state))
        self.needed.pop(op, None)
        if isinstance(op, PipeBarrier):
            return {p: frozenset() if op.pipe in (p, "ALL") else s for p, s in state.items()}
        if isinstance(op, WaitFlag) and op.rings and op.target in state:
            return {**state, op.target: frozenset(a for a in state[op.target] if a.ring not in op.rings)}
        if isinstance(op, Call) and op.pipe in state:
            return {**state, op.pipe: self.call(op, state[op.pipe])}
        return state

    def call(self, op: Call, before: frozenset[Access]) -> frozenset[Access]:
        mine = self.accesses.get(op)
        if mine is None:
            mine = self.accesses[op] = frozenset(accesses(op))
        if any(_meet(a, b, op.pipe) for a in mine for b in before):
            self.needed.setdefault(op, set()).add(op.pipe)
            return mine
        return before | mine

    def loop(self, op: For | While, state: UnderWay) -> UnderWay:
        """Barriers that only the first iteration needs stand before the loop."""
        nothing: UnderWay = dict.fromkeys(state, frozenset())
        carried = self.carried(op, nothing)
        alone = self.snapshot(op)
        outside: set[str] = set()
        carried_with = self.carried(op, _joined(state, carried))
        for inner, pipes in self.snapshot(op).items():
            outside |= pipes - alone.get(inner, set())
        if outside:
            state = {p: frozenset() if p in outside else s for p, s in state.items()}
            carried_with = self.carried(op, _joined(state, carried))
        self.needed.pop(op, None)
        if outside:
            self.needed[op] = outside
        return _joined(state, carried_with)

    def carried(self, op: For | While, state: UnderWay) -> UnderWay:
        """What is under way behind an iteration, when ``state`` and that may be before it."""
        while True:
            after = self.around(op, state)
            joined = _joined(state, after)
            if joined == state:
                return after
            state = joined

    def around(self, op: For | While, state: UnderWay) -> UnderWay:
        if isinstance(op, While):
            state = self.block(op.before, state)
        return self.block(op.body, state)

    def snapshot(self, op: Operation) -> dict[Operation, set[str]]:
        return {inner: set(self.needed[inner]) for inner in op.walk() if inner is not op and inner in self.needed}


def _joined(a: UnderWay, b: UnderWay) -> UnderWay:
    return {pipe: a[pipe] | b[pipe] for pipe in a}


def _meet(a: Access, b: Access, pipe: str) -> bool:
    """Copies of one pipe go in one direction, so that they meet where they write, in local memory."""
    if pipe in COPIES and not (a.write and b.write and a.tensor is not None):
        return False
    return a.meets(b)


def _insert(block: Block, needed: dict[Operation, set[str]]) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _insert(region, needed)
        ops += [PipeBarrier(pipe, span=op.span) for pipe in sorted(needed.get(op, ()))]
        ops.append(op)
    block.ops = ops


