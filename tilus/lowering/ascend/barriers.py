"""Barriers between what one pipe does: right before the first call, on every path, that meets one which may still be
under way, and no others.

The units of vectors and of copies begin an operation before the last one is done. What is under way is followed through
the program: a barrier ends it, and so does a flag that lets a ring's slot be filled again, since it comes from a pipe
that has waited for what was in it. A flag of one number is set and waited for in turn; when it comes from a pipe that
has itself waited for a flag of this one, all is done that was called before that was set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tilus.ir.core import Block, Module, Operation
from tilus.ir.ops import For, If, While
from tilus.ir.ops.cores import Call, PipeBarrier, QueueStep, SetFlag, WaitFlag
from tilus.lowering.ascend.accesses import Access, accesses
from tilus.lowering.ascend.programs import program_blocks

COPIES = ("MTE2", "MTE3")
PIPES = ("V", *COPIES)


class Known(NamedTuple):
    """Of whom the accesses of ``pipe`` that may not be done are: of the pipe itself; of another one (``by``), for all
    that it has waited for; or of the last setting of a flag (``flag``) from or to that one."""

    pipe: str
    by: str = ""
    flag: int = -1
    arrives: bool = False
    """Whether the flag is one for ``pipe``."""


UnderWay = dict[Known, frozenset[Access]]
"""The accesses that may not be done, as far as each knows."""


def insert_barriers(module: Module) -> None:
    """Put the barriers into all programs, in place."""
    for function in module.kernels:
        for block in program_blocks(function):
            _Barriers().place(block)


class _Barriers:
    """The barriers of a program: before which operations and at the end of which branches, of which pipes."""

    def __init__(self) -> None:
        self.needed: dict[Operation, set[str]] = {}
        self.at_end: dict[Block, set[str]] = {}
        self.accesses: dict[Operation, frozenset[Access]] = {}

    def place(self, program: Block) -> None:
        self.block(program, dict.fromkeys(_all_known(program), frozenset()))
        _insert(program, self.needed, self.at_end)

    def block(self, block: Block, state: UnderWay) -> UnderWay:
        """What is under way behind a block; barriers are noted on the way."""
        for place, op in enumerate(block.ops):
            state = (self.branches(op, block.ops[place + 1:], state) if isinstance(op, If) else
                     self.operation(op, state))
        return state

    def branches(self, op: If, rest: Sequence[Operation], state: UnderWay) -> UnderWay:
        """A barrier that only one branch needs stands at its end, so that the other path has none."""
        then, orelse = self.block(op.then, state), self.block(op.orelse, state)
        for block in (op.then, op.orelse):
            self.at_end.pop(block, None)
        for pipe in PIPES:
            own = Known(pipe)
            if self.meets_alone(rest, pipe, then[own] - orelse[own], orelse[own]):
                self.at_end.setdefault(op.then, set()).add(pipe)
                then = _ended(then, (pipe,))
            elif self.meets_alone(rest, pipe, orelse[own] - then[own], then[own]):
                self.at_end.setdefault(op.orelse, set()).add(pipe)
                orelse = _ended(orelse, (pipe,))
        return _joined(then, orelse)

    def meets_alone(self, rest: Sequence[Operation], pipe: str, alone: frozenset[Access],
                    others: frozenset[Access]) -> bool:
        """Whether a later call of a block meets what one branch has under way before any meets what both may have."""
        for op in rest if alone else ():
            for inner in op.walk():
                if isinstance(inner, PipeBarrier) and inner.pipe in (pipe, "ALL"):
                    return False
                if isinstance(inner, Call) and inner.pipe == pipe:
                    mine = self.of(inner)
                    if _meet_any(mine, others, pipe):
                        return False
                    if _meet_any(mine, alone, pipe):
                        return True
                    others |= mine
        return False

    def operation(self, op: Operation, state: UnderWay) -> UnderWay:
        if isinstance(op, (For, While)):
            return self.loop(op, state)
        self.needed.pop(op, None)
        if isinstance(op, PipeBarrier):
            return _ended(state, PIPES if op.pipe == "ALL" else (op.pipe,))
        if isinstance(op, SetFlag) and op.slot is None:
            return _set(op, state)
        if isinstance(op, WaitFlag):
            return _waited(op, state)
        if isinstance(op, QueueStep):
            return _stepped(op, state)
        if isinstance(op, Call) and Known(op.pipe) in state:
            return self.call(op, state)
        return state

    def call(self, op: Call, state: UnderWay) -> UnderWay:
        mine = self.of(op)
        if _meet_any(mine, state[Known(op.pipe)], op.pipe):
            self.needed.setdefault(op, set()).add(op.pipe)
            state = _ended(state, (op.pipe,))
        return {known: s | mine if known.pipe == op.pipe else s for known, s in state.items()}

    def of(self, op: Call) -> frozenset[Access]:
        if op not in self.accesses:
            self.accesses[op] = frozenset(accesses(op))
        return self.accesses[op]

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
            state = _ended(state, outside)
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


def _all_known(program: Block) -> list[Known]:
    """The pipes, and for those that exchange flags what the other ones and the flags know."""
    flags = {(op.source, op.target, op.number) for op in program.walk() if isinstance(op, SetFlag) and op.slot is None}
    found = [Known(pipe) for pipe in PIPES]
    for source, target, number in sorted(flags):
        if not any((target, source) == (a, b) for a, b, _ in flags):
            continue
        found += [Known(source, target, number)] if source in PIPES else []
        found += [Known(target, source), Known(target, source, number, arrives=True)] if target in PIPES else []
    return list(dict.fromkeys(found))


def _ended(state: UnderWay, pipes: Collection[str]) -> UnderWay:
    return {known: frozenset() if known.pipe in pipes else s for known, s in state.items()}


def _set(op: SetFlag, state: UnderWay) -> UnderWay:
    leaves, arrives = Known(op.source, op.target, op.number), Known(op.target, op.source, op.number, arrives=True)
    state = dict(state)
    if leaves in state:
        state[leaves] = frozenset()
    if arrives in state:
        state[arrives] = state[Known(op.target, op.source)]
    return state


def _waited(op: WaitFlag, state: UnderWay) -> UnderWay:
    state, own = dict(state), Known(op.target)
    if op.rings and own in state:
        state[own] = frozenset(a for a in state[own] if a.ring not in op.rings)
    if op.slot is not None:
        return state
    left, other = Known(op.source, op.target, op.number), Known(op.source, op.target)
    if left in state and other in state:
        state[other] &= state[left]
    arrived = Known(op.target, op.source, op.number, arrives=True)
    if arrived in state:
        state[own] &= state[arrived]
    return state


def _stepped(op: QueueStep, state: UnderWay) -> UnderWay:
    """A buffer's source gets it when its target is done, which has waited for the source, and the other way round."""
    waits = {"AllocTensor": op.source, "DeQue": op.target}.get(op.kind)
    return {known: frozenset(a for a in s if a.queue != op.queue) if known.pipe == waits and not known.by else s
            for known, s in state.items()}


def _joined(a: UnderWay, b: UnderWay) -> UnderWay:
    return {known: a[known] | b[known] for known in a}


def _meet(a: Access, b: Access, pipe: str) -> bool:
    """Copies of one pipe go in one direction, so that they meet where they write, in local memory."""
    if pipe in COPIES and not (a.write and b.write and a.tensor is not None):
        return False
    return a.meets(b)


def _meet_any(mine: frozenset[Access], others: frozenset[Access], pipe: str) -> bool:
    return any(_meet(a, b, pipe) for a in mine for b in others)


def _insert(block: Block, needed: dict[Operation, set[str]], at_end: dict[Block, set[str]]) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _insert(region, needed, at_end)
        pipes = needed.get(op, set()) | (at_end.get(block, set()) if op is block.terminator else set())
        ops += [PipeBarrier(pipe, span=op.span) for pipe in sorted(pipes)]
        ops.append(op)
    block.ops = ops


