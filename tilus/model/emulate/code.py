"""Instructions as functions of the state: decoded once, executed for all lanes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tilus.model.emulate import floats, integer, logic, moves
from tilus.model.emulate.memory import (
    LOCAL,
    MemoryAccess,
    access_of,
    load,
    load_local,
    space_of,
    store_local,
    stored_words,
)
from tilus.model.emulate.operands import Source, predicate, registers_of
from tilus.model.emulate.operations import Operation, decode
from tilus.model.emulate.registers import FILES, results
from tilus.model.emulate.state import Keep, State
from tilus.model.emulate.values import UNKNOWN, UNKNOWN_TRUTH, Array, Known, Value, as_array, both, known_for
from tilus.model.flow import ENDS
from tilus.model.sass import Instruction, Program
from tilus.records import record

Run = Callable[[State, Keep], None]
_FILLED = (floats, integer, logic, moves)
"""They have entered their opcodes into the table."""


@record(frozen=True, eq=False)
class Made:
    """An instruction decoded.

    Attributes:
        reads: registers, as bits by their numbers.
        run: executes it; takes the lanes in which results count, None for all.
        operation: what it does to registers, None where its results are unknown.
        memory: what it touches.
        known: whether it is described.
    """

    reads: int
    run: Run
    operation: Operation | None = None
    memory: MemoryAccess | None = None
    known: bool = True


class Step:
    """One instruction, which is decoded when somebody needs that: most have no say in where control goes and which
    memory is touched.

    Attributes:
        writes: registers, as bits by their numbers.
        kills: whether what it writes is written in all lanes that execute it.
        space: of the memory that it touches, "" for none.
    """

    __slots__ = ("_made", "instruction", "kills", "number", "space", "writes")

    def __init__(self, number: int, instruction: Instruction) -> None:
        self.number, self.instruction = number, instruction
        self.space = space_of(instruction)
        stores_local = instruction.opcode == "STL"
        self.writes = 1 << LOCAL if stores_local else bits(results(instruction))
        self.kills = instruction.guard is None and not stores_local
        self._made: Made | None = None

    @property
    def is_decoded(self) -> bool:
        return self._made is not None

    @property
    def made(self) -> Made:
        """It decoded."""
        if self._made is None:
            self._made = _make(self.number, self.instruction)
        return self._made

    @property
    def reads(self) -> int:
        return self.made.reads

    @property
    def run(self) -> Run:
        return self.made.run

    @property
    def operation(self) -> Operation | None:
        return self.made.operation

    @property
    def memory(self) -> MemoryAccess | None:
        return self.made.memory


def bits(registers: Iterable[int]) -> int:
    total = 0
    for register in registers:
        if register >= 0:
            total |= 1 << register
    return total


def steps_of(program: Program) -> tuple[Step, ...]:
    """All instructions of a program."""
    return tuple(Step(number, instruction) for number, instruction in enumerate(program.instructions))


def _make(number: int, i: Instruction) -> Made:
    guard = predicate(i.guard) if i.guard is not None else None
    guards = bits(guard.registers) if guard is not None else 0
    if i.opcode in ENDS:
        # Control flow itself is the machine's; these are the registers that it reads.
        return Made(guards | bits(registers_of([predicate(o) for o in i.operands if o.kind in ("P", "UP")])), _nothing)
    if i.opcode == "BSSY":
        return Made(guards, _enter(i))
    access = access_of(i)
    if access is not None:
        return _make_memory(number, i, access, guard)
    made, known = decode(i)
    found = results(i)
    if made is None:
        return Made(guards, _guarded(guard, _forget(found)), known=known)
    run = _runner(number, made)
    rest = tuple(r for r in found if r not in made.results)
    if any(r >= 0 for r in rest):
        run = _both(run, _forget(rest))
    return Made(guards | bits(registers_of(list(made.sources))), _guarded(guard, run), made)


def _nothing(state: State, keep: Keep) -> None:
    pass


def _both(first: Run, second: Run) -> Run:
    def run(state: State, keep: Keep) -> None:
        first(state, keep)
        second(state, keep)

    return run


def _enter(i: Instruction) -> Run:
    barrier = next(o.number for o in i.operands if o.kind == "B")

    def run(state: State, keep: Keep) -> None:
        old = state.barriers.get(barrier)
        if old is None or keep is None:
            state.barriers[barrier] = state.active
        else:
            state.barriers[barrier] = np.where(state.active.any(axis=2, keepdims=True), state.active, old)

    return run


def unknown_of(register: int) -> Value:
    return UNKNOWN_TRUTH if register >= FILES["P"] else UNKNOWN


def _forget(found: tuple[int, ...]) -> Run:
    chosen = tuple((r, unknown_of(r)) for r in found if r >= 0)

    def run(state: State, keep: Keep) -> None:
        for register, value in chosen:
            state.write(register, value, keep)

    return run


def _runner(number: int, operation: Operation) -> Run:
    reads = tuple(s.read for s in operation.sources)
    found, compute, compares = operation.results, operation.compute, operation.compares
    forget = _forget(found)

    def run(state: State, keep: Keep) -> None:
        known: Known = True
        values = []
        for read in reads:
            value, k = read(state)
            if k is not True:
                known = both(known, k)
                if known is False:
                    break
            values.append(value)
        if compares and state.compared is not None:
            state.compared.setdefault(number, []).append((*values[:2], known))
        if known is False:
            forget(state, keep)
            return
        for register, result in zip(found, compute(*values), strict=False):
            if register >= 0:
                state.write(register, (result, known), keep)

    return run


def _guarded(guard: Source | None, run: Run) -> Run:
    if guard is None:
        return run
    read = guard.read

    def guarded(state: State, keep: Keep) -> None:
        lanes = guard_lanes(state, read(state))
        if lanes is None:
            run(state, keep)
        elif lanes.any():
            active = state.active
            state.active = active & lanes
            run(state, lanes if keep is None else lanes & keep)
            state.active = active

    return guarded


def guard_lanes(state: State, guard: Value) -> Array | None:
    """The lanes that execute a guarded instruction, None for all: where it is not known, they are taken to."""
    value, known = guard
    if not known_for(known, state.active):
        state.assume("guards that depend on data are taken to hold")
        value = value | ~as_array(known)
    return None if value.all() else value


def _make_memory(number: int, i: Instruction, access: MemoryAccess, guard: Source | None) -> Made:
    found = results(i)
    stored = stored_words(i, access) if i.opcode == "STL" else []
    parts: list[Source] = [access.address, *stored]
    parts += [s for s in (guard, access.copies_to, access.condition) if s is not None]
    reads = bits(registers_of(parts)) | (1 << LOCAL if i.opcode == "LDL" else 0)

    def run(state: State, keep: Keep) -> None:
        if state.observer is not None:
            state.observer.touch(number, access, state)
        if i.opcode == "STL":
            store_local(state, access, stored, keep)
            return
        if found:
            values = load_local(state, i, access) if access.space == "local" else load(state, i, access, state.active)
            for register, value in zip(found, values, strict=False):
                if register >= 0:
                    state.write(register, unknown_of(register) if value[1] is False else value, keep)

    return Made(reads, _guarded(guard, run), memory=access)


def unknown_opcodes(steps: tuple[Step, ...]) -> set[str]:
    """What nobody has described, with modifiers; decodes all."""
    return {".".join((s.instruction.opcode, *s.instruction.modifiers)) for s in steps if not s.made.known}


def unknown_in_use(steps: Iterable[Step]) -> set[str]:
    """What of the steps that have been decoded nobody has described."""
    return unknown_opcodes(tuple(s for s in steps if s.is_decoded))


def conditions(i: Instruction) -> list[Source]:
    """The predicates that all have to hold where control is to go on elsewhere."""
    guards = [predicate(i.guard)] if i.guard is not None else []
    return guards + [predicate(o) for o in i.operands if o.kind in ("P", "UP")]


__all__ = ["Run", "Step", "bits", "conditions", "guard_lanes", "steps_of", "unknown_in_use", "unknown_of",
           "unknown_opcodes"]
