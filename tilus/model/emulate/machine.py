"""Executes a slice of a program: lanes that are at the same place go on together, those furthest behind first."""

from __future__ import annotations

from functools import reduce

import numpy as np

from tilus.model.emulate.code import Step, conditions
from tilus.model.emulate.induction import Induction
from tilus.model.emulate.lanes import Lanes
from tilus.model.emulate.operands import Source
from tilus.model.emulate.slices import Slice
from tilus.model.emulate.state import State
from tilus.model.emulate.values import Array, Value, any_lane, both, known_for
from tilus.model.flow import Flow, is_branch, is_call
from tilus.model.sass import Instruction, Program
from tilus.records import record

Place = tuple[int, tuple[int, ...]]
"""A block, and the blocks to which the functions that it is in return."""

MOST_BLOCKS = 400_000
"""Blocks executed before the emulation gives up."""


@record(frozen=True, eq=False)
class Event:
    """A block that warps have executed.

    Attributes:
        block: its number.
        warps: which ones, over (blocks, warps) with extents of 1 where all have.
        repeats: 0, or how often iterations of the loop with this header were passed over.
        path: the blocks of those.
    """

    block: int
    warps: Array
    repeats: int = 0
    path: tuple[int, ...] = ()


@record(frozen=True, eq=False)
class Routine:
    """A program ready to be executed."""

    program: Program
    flow: Flow
    steps: tuple[Step, ...]
    index: dict[int, int]


class Machine:
    """One execution.

    Args:
        control: the slice of control flow alone: loops that go by constant steps are passed over.
        most: after so many iterations that are executed a loop is left, where a number is given.
        watch, least: iterations of a loop that are executed before any are passed over, and how few are not.
    """

    def __init__(self, routine: Routine, part: Slice, state: State, control: Slice, most: int | None = None,
                 watch: int = 3, least: int = 2) -> None:
        self.routine, self.part, self.state, self.most = routine, part, state, most
        self.program, self.flow = routine.program, routine.flow
        self.pending: dict[Place, Array] = {}
        self.parked: dict[Place, Array] = {}
        self.events: list[Event] = []
        self.iterations = [0] * len(self.flow.loops)
        self.induction = Induction(routine.flow, part, control, state, watch, least)
        self.conditions: dict[int, list[Source]] = {}

    @property
    def lanes(self) -> Lanes:
        return self.state.lanes

    def run(self) -> list[Event]:
        """Until all lanes have ended."""
        self.pending[(0, ())] = self.lanes.exist
        while self.pending or self.parked:
            if len(self.events) > MOST_BLOCKS:
                self.state.assume(f"the emulation stopped after {MOST_BLOCKS:,} blocks of code")
                break
            if not self.pending:
                place = min(self.parked)
                self.pending[place] = self.parked.pop(place)
                self._leave(place, self.pending.pop(place))
                continue
            place = min(self.pending)
            self._execute(place, self.pending.pop(place))
        return self.events

    def _execute(self, place: Place, mask: Array) -> None:
        state, number = self.state, place[0]
        state.active = mask
        keep = None if not self.pending and not self.parked else mask
        self.events.append(Event(number, any_lane(mask)[:, :, 0]))
        for step in self.part.steps[number]:
            step.run(state, keep)
        self._leave(place, mask)

    # -- the end of a block

    def _leave(self, place: Place, mask: Array) -> None:
        number, stack = place
        block = self.flow.blocks[number]
        last = self.program.instructions[block.last]
        following = number + 1
        if last.opcode == "BSYNC" and not self._synchronise(place, mask, last):
            return
        if is_branch(last):
            self._branch(place, mask, last)
        elif last.opcode in ("EXIT", "KILL"):
            taken = self._taken(place, mask, last, leaves=not self._leaves_by_branch(number))
            self._go(place, (following, stack), minus(mask, taken))
        elif last.opcode == "CALL":
            self._call(place, mask, last)
        elif last.opcode == "RET":
            taken = self._taken(place, mask, last, leaves=True)
            if stack and taken is not None:
                self._go(place, (stack[-1], stack[:-1]), taken)
            self._go(place, (following, stack), minus(mask, taken))
        elif last.opcode in ("BRX", "JMX"):
            self.state.assume(f"what {last.text} branches to is not known: threads end there")
        else:
            if last.opcode == "BREAK":
                self._break(mask, last)
            self._go(place, (following, stack), mask)

    def _go(self, source: Place, target: Place, mask: Array | None) -> None:
        """Lanes go on at another block; None for none."""
        if mask is None or target[0] >= len(self.flow.blocks):
            return
        loop = self._entered(source, target)
        if loop is not None:
            repeats, path = self.induction.arrive(loop, mask, self.events)
            if repeats:
                self.events.append(Event(target[0], any_lane(mask)[:, :, 0], repeats, path))
        waiting = self.pending.get(target)
        self.pending[target] = mask if waiting is None else waiting | mask

    def _entered(self, source: Place, target: Place) -> int | None:
        """The loop whose next iteration begins, if one does; counts its iterations."""
        for number in self.flow.around(target[0]):
            loop = self.flow.loops[number]
            if loop.header != target[0]:
                return None
            if source[0] in loop.blocks:
                self.iterations[number] += 1
                return number
            self.iterations[number] = 0
            self.induction.enter(number)
        return None

    def _call(self, place: Place, mask: Array, last: Instruction) -> None:
        number, stack = place
        taken = self._taken(place, mask, last, leaves=False)
        target = self.routine.index.get(last.target if last.target is not None else -1)
        if target is None:
            self.state.assume(f"what {last.text} calls is not known: it is passed over")
            self._go(place, (number + 1, stack), mask)
            return
        if taken is not None:
            self._go(place, (self.flow.block_of[target], (*stack, number + 1)), taken)
        self._go(place, (number + 1, stack), minus(mask, taken))

    def _branch(self, place: Place, mask: Array, last: Instruction) -> None:
        number, stack = place
        target = self.routine.index.get(last.target if last.target is not None else -1)
        if target is None:
            self.state.assume(f"what {last.text} branches to is not known: threads end there")
            return
        there = self.flow.block_of[target]
        if last.has("DIV"):
            self._go(place, (number + 1, stack), mask)
            return
        forced = self._forced(number, there)
        taken = mask if forced is True else None if forced is False else self._taken(place, mask, last, there)
        if taken is not None:
            self._go(place, (there, stack), taken)
        self._go(place, (number + 1, stack), minus(mask, taken))

    def _forced(self, number: int, there: int) -> bool | None:
        """Whether a branch is taken, where it leaves a loop that has run often enough; None for what it says."""
        if self.most is None:
            return None
        for around in self.flow.around(number):
            loop = self.flow.loops[around]
            if self.iterations[around] + 1 >= self.most:
                stays = (number + 1 in loop.blocks, there in loop.blocks)
                if stays == (True, False):
                    return True
                if stays == (False, True) and len(self.flow.blocks[number].successors) == 2:
                    return False
        return None

    def _leaves_by_branch(self, number: int) -> bool:
        """Whether a block is in no loop, or one that is left in another way than by ending the thread."""
        around = self.flow.around(number)
        if not around:
            return True
        loop = self.flow.loops[around[0]]
        return any(s not in loop.blocks for b in loop.blocks for s in self.flow.blocks[b].successors)

    def _taken(self, place: Place, mask: Array, last: Instruction, there: int | None = None,
               leaves: bool | None = None) -> Array | None:
        """The lanes for which the conditions of a branch hold; None for none of them."""
        sources = self.conditions.get(place[0])
        if sources is None:
            sources = self.conditions[place[0]] = conditions(last)
        if not sources:
            return mask
        value, known = self._all_of([s.read(self.state) for s in sources])
        if leaves and self.most is not None and any(
                self.iterations[n] + 1 >= self.most for n in self.flow.around(place[0])):
            return mask
        if not known_for(known, mask):
            guess = self._guess(place[0], there, bool(leaves))
            self.state.assume(f"{last.text} depends on data: taken to {'hold' if guess else 'fail'}")
            value = np.full((1, 1, 1), guess) if known is False else np.where(known, value, guess)
        taken = mask & value
        return taken if taken.any() else None

    @staticmethod
    def _all_of(values: list[Value]) -> Value:
        def both_hold(a: Value, b: Value) -> Value:
            return a[0] & b[0], both(a[1], b[1])

        return reduce(both_hold, values)

    def _guess(self, number: int, there: int | None, leaves: bool) -> bool:
        """How a branch goes that depends on data: out of loops; what it would skip counts, but for calls."""
        if there is None:
            return leaves
        for around in self.flow.around(number):
            blocks = self.flow.loops[around].blocks
            if (there in blocks) != (number + 1 in blocks):
                return there not in blocks
        skipped = range(number + 1, there)
        return any(is_call(self.program.instructions[self.flow.blocks[b].last]) for b in skipped)

    # -- convergence

    def _break(self, mask: Array, last: Instruction) -> None:
        taken = self._taken((-1 - last.address, ()), mask, last)
        for operand in last.operands:
            if operand.kind == "B" and operand.number in self.state.barriers and taken is not None:
                self.state.barriers[operand.number] = self.state.barriers[operand.number] & ~taken

    def _synchronise(self, place: Place, mask: Array, last: Instruction) -> bool:
        """Warps whose lanes have all arrived go on; the others wait. True where the whole group goes on."""
        if place in self.parked:
            mask = mask | self.parked.pop(place)
            self._leave(place, mask)
            return False
        members = self.state.barriers.get(next((o.number for o in last.operands if o.kind == "B"), -1))
        others = [m for p, m in (*self.pending.items(), *self.parked.items()) if p != place]
        if members is None or not others:
            return True
        missing = any_lane(members & reduce(np.logical_or, others) & ~mask)
        if not missing.any():
            return True
        waits, ready = mask & missing, mask & ~missing
        if waits.any():
            self.parked[place] = waits
        if ready.any():
            self._go(place, (place[0] + 1, place[1]), ready)
        return False


def minus(mask: Array, taken: Array | None) -> Array | None:
    """The lanes of a mask without those that are taken; None for none."""
    if taken is None:
        return mask
    if taken is mask:
        return None
    rest = mask & ~taken
    return rest if rest.any() else None


__all__ = ["Event", "Machine", "Routine"]
