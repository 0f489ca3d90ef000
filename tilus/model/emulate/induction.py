"""Loops that go by constant steps are not walked: iterations in which every comparison comes out alike are passed over.

Let the registers that an iteration hands to the next be S. Where what it does to them is linear, S' = A S + b, and two
steps in a row were the same, D = S2 - S1 = S1 - S0, every further one is: A D = D. So S after n more iterations is
S2 + n D, as long as the comparisons among which the iteration chooses come out as before; those compare numbers that go
by constant steps too, so that a division says when that ends. Steps are modulo 2^32 (2^64 of pairs), comparisons are
not: n ends before a number that is compared would wrap around. All of this goes for periods of several iterations as it
does for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.model.emulate.code import Step
from tilus.model.emulate.registers import FILES, REGISTERS
from tilus.model.emulate.slices import Slice
from tilus.model.emulate.state import State
from tilus.model.emulate.values import Array, Value, both, high_word, join, low_word
from tilus.model.flow import Flow, Loop
from tilus.records import record

if TYPE_CHECKING:
    from tilus.model.emulate.machine import Event

FAR = 1 << 62
LONGEST = 4
"""Iterations of a period: a ring of buffers is at the same place again after so many, or every other one does more."""


@record(frozen=True, eq=False)
class Seen:
    """The state at the beginning of an iteration, and what the one before it compared and executed."""

    mask: Array
    values: tuple[Value, ...]
    compared: dict[int, list[Any]]
    path: tuple[int, ...]


class Induction:
    """Observes loops and passes over iterations.

    Args:
        part: what is executed.
        control: of that what control flow depends on. What is not in it has no say in how many iterations are passed
            over: registers that do not go by constant steps are left as they are.
        watch: iterations that are executed before any are passed over, three at least, and after that three.
        least: fewer iterations are executed one by one.
    """

    def __init__(self, flow: Flow, part: Slice, control: Slice, state: State, watch: int, least: int) -> None:
        self.flow, self.part, self.control, self.state = flow, part, control, state
        self.watch, self.least = max(watch, 3), least
        self.inner = [not any(other.parent == n for other in flow.loops) for n in range(len(flow.loops))]
        self.carried: dict[int, tuple[int, ...]] = {}
        self.known: set[int] = set()
        self.spilled: set[int] = set()
        """Loops whose control flow depends on local memory that they write: they are executed one by one."""
        self.pairs: dict[int, dict[int, int]] = {}
        self.seen: list[list[Seen]] = [[] for _ in flow.loops]
        self.since = [0] * len(flow.loops)

    def enter(self, loop: int) -> None:
        """The loop begins."""
        self.seen[loop].clear()
        self.known.discard(loop)
        self.state.compared = {} if self.inner[loop] else None

    def arrive(self, loop: int, mask: Array, events: list[Event]) -> tuple[int, tuple[int, ...]]:
        """An iteration has ended and the next begins; how often the last ones are repeated before that, and the blocks
        of those."""
        observer = self.state.observer
        if observer is not None:
            observer.mark()
        if not self.inner[loop]:
            return 0, ()
        seen = self._look(loop, mask, events)
        if len(seen) < (3 if loop in self.known else self.watch):
            return 0, ()
        for period in range(1, len(seen) // 3 + 1):
            count = self._count(loop, seen, period)
            if count and count * period >= (2 if loop in self.known else self.least):
                self.known.add(loop)
                self._advance(loop, seen, period, count)
                if observer is not None:
                    observer.repeat(count * period, _alike(seen, period))
                path = tuple(block for s in seen[-period:] for block in s.path)
                seen.clear()
                return count, path
        return 0, ()

    def _look(self, loop: int, mask: Array, events: list[Event]) -> list[Seen]:
        path = tuple(e.block for e in events[self.since[loop]:])
        self.since[loop] = len(events)
        seen, carried = self.seen[loop], self._carried(loop)
        seen.append(Seen(mask, tuple(self.state.values[r] for r in carried), self.state.compared or {}, path))
        self.state.compared = {}
        del seen[:-3 * LONGEST]
        return seen

    def _advance(self, loop: int, seen: list[Seen], period: int, count: int) -> None:
        """Registers go on by so many periods."""
        registers = self._carried(loop)
        states = [dict(zip(registers, seen[-1 - n * period].values, strict=True)) for n in (2, 1, 0)]
        halves = {low: high for high, low in self._pairs(loop).items()}
        for register in registers:
            high = halves.get(register, -1)
            values = [_value(s, register, high) for s in states]
            if _changes(register, values):
                now, before = values[2][0], values[1][0]
                value = now + (now - before) * now.dtype.type(count)
                self.state.values[register] = low_word(value), True
                if high >= 0:
                    self.state.values[high] = high_word(value), True

    def _pairs(self, loop: int) -> dict[int, int]:
        """The lower half of each register that is the upper one of a number handed from iteration to iteration."""
        found = self.pairs.get(loop)
        if found is None:
            carried = self._carried(loop)
            found = self.pairs[loop] = {
                high: low for block in self.flow.loops[loop].blocks for high, low in pairs_of(self.part.steps[block])
                if high in carried and low in carried}
        return found

    def _carried(self, loop: int) -> tuple[int, ...]:
        found = self.carried.get(loop)
        if found is None:
            blocks = self.flow.loops[loop].blocks
            written = 0
            for block in blocks:
                for step in self.part.steps[block]:
                    written |= step.writes
            both = written & self.part.live[self.flow.loops[loop].header]
            if both >> REGISTERS & self.control.live[self.flow.loops[loop].header] >> REGISTERS:
                self.spilled.add(loop)
            found = self.carried[loop] = tuple(n for n in range(REGISTERS) if both >> n & 1)
        return found

    def _count(self, loop: int, seen: list[Seen], period: int) -> int:
        """How often the last iterations, so many as a period has, are repeated as they are."""
        now, before, first = seen[-1], seen[-1 - period], seen[-1 - 2 * period]
        if any(a.path != b.path for a, b in zip(seen[-period:], seen[-2 * period:-period], strict=True)):
            return 0
        if any(s.mask is not now.mask and not np.array_equal(s.mask, now.mask) for s in seen[-3 * period:]):
            return 0
        if loop in self.spilled:
            return 0
        varying = 0
        needed, pairs, registers = self._needed(self.flow.loops[loop]), self._pairs(loop), self._carried(loop)
        states = [dict(zip(registers, s.values, strict=True)) for s in (first, before, now)]
        for register in registers:
            if needed >> register & 1:
                low, high = pairs.get(register, register), register if register in pairs else -1
                changes = _changes(register, [_value(s, low, high) for s in states])
                if changes is None:
                    return 0
                varying |= changes << register
        if self._mixed(self.flow.loops[loop], varying):
            return 0
        places = [[seen[-n - 2 * period], seen[-n - period], seen[-n]] for n in range(1, period + 1)]
        most = min(map(self._until, places))
        if most == FAR:
            return 0
        guards = min(map(self._until_guards, places))
        return min(most, guards) if self.least <= guards * period else most

    def _needed(self, loop: Loop) -> int:
        """The registers from the iteration before on which control flow depends, as bits."""
        return self.control.live[loop.header]

    def _mixed(self, loop: Loop, varying: int) -> bool:
        """Whether the loop does anything but linear operations and comparisons to what varies."""
        blocks = [self.control.steps[b] for b in sorted(loop.blocks)]
        highs = {high for steps in blocks for high, _ in pairs_of(steps)}
        for _ in range(2):
            for step in (s for steps in blocks for s in steps):
                if not step.reads & varying or not step.writes:
                    continue
                if not _is_plain(step, varying, highs):
                    return True
                assert step.operation is not None or step.memory is None
                if step.operation is not None and (step.operation.linear or len(step.operation.compares) == 1):
                    varying |= step.writes  # the least of two is one of them, as long as it is the same one
        return False

    def _until(self, seen: list[Seen]) -> int:
        """How many further steps all comparisons of an iteration come out alike, which is seen three times."""
        last = {n: entries for n, entries in seen[2].compared.items() if self._kind(n)}
        if any(not set(s.compared) >= set(last) for s in seen[:2]):
            return 0
        most = FAR
        for number, entries in last.items():
            rows = [s.compared[number] for s in seen]
            if any(len(r) != 1 for r in rows):
                return 0
            if entries[0][2] is not False and not self._is_low(number):
                operands = [r[0][:2] for r in rows]
                low = self._low(number)
                if low is not None:
                    operands = [(join(s.compared[low][0][0], a), join(s.compared[low][0][1], b))
                                for s, (a, b) in zip(seen, operands, strict=True)]
                most = min(most, _steps_alike(self._kind(number), operands, seen[2].mask))
        return most

    def _until_guards(self, seen: list[Seen]) -> int:
        """How many further steps the comparisons come out alike on which accesses depend, but not control flow."""
        most = FAR
        for number in seen[2].compared:
            rows = [s.compared.get(number, []) for s in seen]
            kind = "" if self._kind(number) else self._kind(number, self.part)
            if kind and len(kind) > 1 and all(len(r) == 1 and r[0][2] is not False for r in rows):
                most = min(most, _steps_alike(kind, [r[0][:2] for r in rows], seen[2].mask) or FAR)
        return most

    def _low(self, number: int) -> int | None:
        """The instruction that compares the lower halves of what this one compares the upper ones of."""
        steps = self.control.steps[self.flow.block_of[number]]
        carry = next(s.operation.carry for s in steps if s.number == number and s.operation is not None)
        writers = [s.number for s in steps if s.number < number and carry >= 0 and s.writes >> carry & 1]
        return writers[-1] if writers else None

    def _is_low(self, number: int) -> bool:
        steps = self.control.steps[self.flow.block_of[number]]
        return any(self._low(s.number) == number for s in steps
                   if s.operation is not None and s.operation.compares and s.operation.carry >= 0)

    def _kind(self, number: int, part: Slice | None = None) -> str:
        """How an instruction of a part compares; nothing where it is not in that. The part is what control flow depends
        on where none is given."""
        for step in (part or self.control).steps[self.flow.block_of[number]]:
            if step.number == number and step.operation is not None:
                return step.operation.compares
        return ""


def _alike(seen: list[Seen], period: int) -> int:
    """How many of the last iterations, in whole periods, executed the same in the same lanes."""
    now, count = seen[-1], period
    while count + period <= len(seen) and all(
            a.path == b.path and np.array_equal(a.mask, now.mask)
            for a, b in zip(seen[-count - period:len(seen) - count], seen[-period:], strict=True)):
        count += period
    return count


def pairs_of(steps: tuple[Step, ...]) -> list[tuple[int, int]]:
    """Registers that are upper and lower half of one number, as sums in two steps and of 64 bits leave them."""
    found: list[tuple[int, int]] = []
    carried: dict[int, int] = {}
    for step in steps:
        operation = step.operation
        if operation is None or operation.compares or not operation.results:
            continue
        first = operation.results[0]
        if operation.carry in carried and first >= 0:
            found.append((first, carried[operation.carry]))
        if operation.wide and first >= 0:
            found.append((operation.results[1], first))
        for predicate in operation.results[2 if operation.wide else 1:]:
            if predicate >= FILES["P"] and first >= 0:
                carried[predicate] = first
    return found


def _is_plain(step: Step, varying: int, highs: set[int]) -> bool:
    """Whether a step that reads what varies gives what goes by constant steps, or a truth that does not change."""
    operation = step.operation
    if operation is None:
        # What is unknown stays so, but for loads, whose addresses then vary.
        return step.memory is None
    if operation.compares:
        return True
    if not operation.linear:
        return False
    truths = [r for s in operation.sources for r in s.registers if r >= FILES["P"] and varying >> r & 1]
    if truths and (truths != [operation.carry] or operation.results[0] not in highs):
        return False
    factors = [any(varying >> r & 1 for r in s.registers) for s in operation.sources]
    if operation.product and operation.wide:
        return not (factors[0] or factors[1])  # factors are extended, which is not linear
    return not (operation.product and factors[0] and factors[1])


def _value(state: dict[int, Value], low: int, high: int) -> Value:
    """A register, or the 64 bits of two."""
    if high < 0:
        return state[low]
    (a, known_a), (b, known_b) = state[low], state[high]
    return join(a, b), both(known_a, known_b)


def _changes(register: int, values: list[Value]) -> bool | None:
    """Whether a register goes by a constant step that is not 0; None where it goes in another way."""
    (a, ka), (b, kb), (c, kc) = values
    if ka is False and kb is False and kc is False:
        return False
    if not (ka is True and kb is True and kc is True):
        return None
    if b is c and a is b:
        return False
    if register >= FILES["P"]:
        return False if np.array_equal(a, b) and np.array_equal(b, c) else None
    step = c - b
    if not np.array_equal(step, b - a):
        return None
    return bool(step.any())


def _steps_alike(kind: str, operands: list[tuple[Array, Array]], mask: Array) -> int:
    """How many further steps a comparison comes out as the last time, for all lanes of a mask."""
    unsigned, name = kind.endswith("u"), kind[:-1]
    (a0, b0), (a1, b1), (a2, b2) = (tuple(_numbers(v, unsigned) for v in pair) for pair in operands)
    step_a, step_b = a2 - a1, b2 - b1
    if not (np.array_equal(step_a, a1 - a0) and np.array_equal(step_b, b1 - b0)):
        return 0
    step = step_a - step_b
    if not step_a.any() and not step_b.any():
        return FAR
    half = 1 << (62 if operands[0][0].dtype == np.uint64 else 31)
    low, high = (0, 2 * half) if unsigned and half < FAR else (-half, half)
    counts = [_before(a2, step_a, low, high), _before(b2, step_b, low, high), _crossing(name, a2 - b2, step)]
    most = counts[0]
    for count in counts[1:]:
        most = np.minimum(most, count)
    shape = np.broadcast_shapes(most.shape, mask.shape)
    return int(np.where(np.broadcast_to(mask, shape), most, FAR).min())


def _numbers(value: Array, unsigned: bool) -> Array:
    if value.dtype == np.uint32 and not unsigned:
        value = value.view(np.int32)
    # 64-bit numbers beyond the signed ones are not met in counts and addresses.
    return value.astype(np.int64)


def _before(value: Array, step: Array, low: int, high: int) -> Array:
    """How many steps a number stays within bounds."""
    safe = np.where(step == 0, 1, step)
    up, down = (high - 1 - value) // np.maximum(safe, 1), (value - low) // np.maximum(-safe, 1)
    return np.where(step == 0, FAR, np.where(step > 0, up, down))


def _crossing(name: str, difference: Array, step: Array) -> Array:
    """How many steps the outcome of ``a ~ b`` stays, of the difference ``a - b`` and its step."""
    if name in ("EQ", "NE"):
        safe = np.where(step == 0, 1, step)
        meets = (step != 0) & (difference % safe == 0) & (-difference // safe > 0)
        return np.where(difference == 0, np.where(step == 0, FAR, 0), np.where(meets, -difference // safe - 1, FAR))
    # The outcome is a question of `difference < bound`: a < b for LT and GE, and a <= b, a - b < 1, for LE and GT.
    bound = 1 if name in ("LE", "GT") else 0
    below = difference < bound
    up = (bound - 1 - difference) // np.maximum(step, 1)
    down = (difference - bound) // np.maximum(-step, 1)
    towards = np.where(below, step > 0, step < 0)
    return np.where(towards, np.where(below, up, down), FAR)


__all__ = ["Induction"]
