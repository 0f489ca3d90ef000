"""Loops that go by constant steps are not walked: iterations in which every comparison comes out alike are passed over.

Let the registers that an iteration hands to the next be S. Where what it does to them is linear, S' = A S + b, and two
steps in a row were the same, D = S2 - S1 = S1 - S0, every further one is: A D = D. So S after n more iterations
is S2 + n D, as long as the comparisons among which the iteration chooses come out as before; those compare numbers that
go by constant steps too, so that a division says when that ends. Steps are modulo 2^32, comparisons are not: n ends
before a number that is compared would wrap around.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.model.emulate.code import Step
from tilus.model.emulate.registers import FILES
from tilus.model.emulate.slices import Slice
from tilus.model.emulate.state import State
from tilus.model.emulate.values import Array, Value
from tilus.model.flow import Flow, Loop
from tilus.records import record

if TYPE_CHECKING:
    from tilus.model.emulate.machine import Event

FAR = 1 << 62
LEAST = 2
"""Fewer iterations are walked."""


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
    """

    def __init__(self, flow: Flow, part: Slice, control: Slice, state: State) -> None:
        self.flow, self.part, self.control, self.state = flow, part, control, state
        self.inner = [not any(other.parent == n for other in flow.loops) for n in range(len(flow.loops))]
        self.carried: dict[int, tuple[int, ...]] = {}
        self.seen: list[list[Seen]] = [[] for _ in flow.loops]
        self.since = [0] * len(flow.loops)

    def enter(self, loop: int) -> None:
        """The loop begins."""
        self.seen[loop].clear()
        self.state.compared = {} if self.inner[loop] else None

    def arrive(self, loop: int, mask: Array, events: list[Event]) -> tuple[int, tuple[int, ...]]:
        """An iteration has ended and the next begins; how many are passed over before that, and their blocks."""
        observer = self.state.observer
        passed = self._observe(loop, mask, events) if self.inner[loop] else (0, ())
        if observer is not None:
            if passed[0]:
                observer.repeat(passed[0])
            observer.mark()
        return passed

    def _observe(self, loop: int, mask: Array, events: list[Event]) -> tuple[int, tuple[int, ...]]:
        carried = self._carried(loop)
        path = tuple(e.block for e in events[self.since[loop]:])
        self.since[loop] = len(events)
        seen = self.seen[loop]
        seen.append(Seen(mask, tuple(self.state.values[r] for r in carried), self.state.compared or {}, path))
        self.state.compared = {}
        del seen[:-3]
        if len(seen) < 3 or not all(np.array_equal(seen[2].mask, s.mask) for s in seen[:2]):
            return 0, ()
        count = self._count(self.flow.loops[loop], carried, seen)
        if count < LEAST:
            return 0, ()
        for register, *values in zip(carried, *(s.values for s in seen), strict=True):
            if _changes(register, values):
                now, before = values[2][0], values[1][0]
                self.state.values[register] = now + (now - before) * np.uint32(count & 0xFFFF_FFFF), True
        seen.clear()
        return count, path

    def _carried(self, loop: int) -> tuple[int, ...]:
        found = self.carried.get(loop)
        if found is None:
            blocks = self.flow.loops[loop].blocks
            written = 0
            for block in blocks:
                for step in self.part.steps[block]:
                    written |= step.writes
            both = written & self.part.live[self.flow.loops[loop].header]
            found = self.carried[loop] = tuple(n for n in range(both.bit_length()) if both >> n & 1)
        return found

    def _count(self, loop: Loop, carried: tuple[int, ...], seen: list[Seen]) -> int:
        """How many further iterations go as the last two did."""
        if seen[1].path != seen[2].path:
            return 0
        varying = 0
        needed = self._needed(loop)
        for register, *values in zip(carried, *(s.values for s in seen), strict=True):
            if not needed >> register & 1:
                continue
            changes = _changes(register, values)
            if changes is None:
                return 0
            varying |= changes << register
        if self._mixed(loop, varying):
            return 0
        return self._until(seen)

    def _needed(self, loop: Loop) -> int:
        """The registers from the iteration before on which control flow depends, as bits."""
        return self.control.live[loop.header]

    def _mixed(self, loop: Loop, varying: int) -> bool:
        """Whether the loop does anything but linear operations and comparisons to what varies."""
        steps = [s for b in sorted(loop.blocks) for s in self.control.steps[b]]
        for _ in range(2):
            for step in steps:
                if not step.reads & varying or not step.writes:
                    continue
                if not _is_plain(step, varying):
                    return True
                if step.operation is not None and step.operation.linear:
                    varying |= step.writes
                elif step.operation is not None and len(step.operation.compares) == 1:
                    varying |= step.writes  # the least of two is one of them, as long as it is the same one
        return False

    def _until(self, seen: list[Seen]) -> int:
        last = {n: entries for n, entries in seen[2].compared.items() if self._kind(n)}
        if any(not set(s.compared) >= set(last) for s in seen[:2]):
            return 0
        most = FAR
        for number, entries in last.items():
            rows = [s.compared[number] for s in seen]
            if any(len(r) != 1 for r in rows):
                return 0
            if entries[0][2] is False:
                continue
            kind = self._kind(number)
            most = min(most, _steps_alike(kind, [r[0][:2] for r in rows], seen[2].mask))
            if most < LEAST:
                return 0
        return 0 if most == FAR else most

    def _kind(self, number: int) -> str:
        """How an instruction compares; nothing where control flow does not depend on it."""
        for step in self.control.steps[self.flow.block_of[number]]:
            if step.number == number and step.operation is not None:
                return step.operation.compares
        return ""


def _is_plain(step: Step, varying: int) -> bool:
    operation = step.operation
    if operation is None:
        # What is unknown stays so, but for loads, whose addresses then vary.
        return step.memory is None
    if operation.compares:
        return True
    if not operation.linear:
        return False
    factors = [any(varying >> r & 1 for r in s.registers) for s in operation.sources]
    return not (operation.product and factors[0] and factors[1])


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
