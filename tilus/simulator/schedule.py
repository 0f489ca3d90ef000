"""Runs a batch: all lanes together while control flow is uniform, else groups of lanes with equal positions.

Of the groups that can run, the one at the lowest segment in reconvergence order runs, so that diverged lanes meet at
post-dominators. Lanes that poll memory step aside at each backward branch, so that the lanes they wait for progress.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from tilus.simulator.bound import BARRIER_WAIT, CLUSTER_WAIT, DONE, READY, WARP_WAIT, Bound
from tilus.simulator.faults import Checks
from tilus.simulator.flow import Program
from tilus.simulator.machine import Array, Batch, Binder, Group

_FAR = 1 << 30
STALL_ROUNDS = 48
SLICE = 1 << 14
PAUSE = 1 << 16


class Outcome(enum.Enum):
    DONE = 1
    STALLED = 2


class KernelAborted(Exception):
    """The kernel executed a trap, failed an assertion or reached a limit; the fault is in the log."""


class Executor:
    """Executes the program for the blocks of a batch."""

    def __init__(self, program: Program, batch: Batch, binder: Binder) -> None:
        self.program = program
        self.batch = batch
        self.launch = batch.launch
        count = len(program.segments)
        orders = [s.order for s in program.segments]
        reachable = _reachable(program)
        self.at_order: list[Bound | None] = [None] * (count + 1)
        for segment in program.segments:
            if segment.index in reachable:
                self.at_order[segment.order] = Bound(segment, binder, orders)
        self.first = orders[0]
        lanes = batch.lanes
        self.at = np.zeros(lanes, np.int32)
        self.status = np.full(lanes, DONE, np.int8)
        self.passed = np.zeros(lanes, bool)
        self.deferred = np.zeros(lanes, bool)
        self.polling = batch.polling
        self.taint = batch.taint
        batch.release = self._release
        self.uniform_at = -1
        self.group: Group | None = None
        self.idle_rounds = 0
        self.seen_progress = 0
        self.slice = 0
        self.steps = self.counted = self.pause_at = 0
        self.checks: Checks = batch.launch.checks

    def start(self) -> None:
        """Place every live lane at the entry."""
        live = self.batch.live
        self.status[:] = np.where(live, READY, DONE)
        self.at[:] = self.first
        self.passed[:] = False
        self.deferred[:] = False
        self.polling[:] = False
        self.uniform_at = self.first
        self.idle_rounds = 0
        self.steps = self.counted = 0
        self.pause_at = min(self.launch.step_limit, PAUSE)
        self._regroup()

    def _regroup(self) -> None:
        live = self.batch.live
        everyone = bool(live.all())
        self.group = Group(live.copy(), True, everyone)

    def run(self) -> Outcome:
        """Run until every lane has ended, or until none progresses."""
        while True:
            if self.uniform_at >= 0:
                outcome = self._run_uniform()
            else:
                outcome = self._run_diverged()
            if outcome is not None:
                return outcome

    # -- all lanes at one place

    def _run_uniform(self) -> Outcome | None:
        at = self.uniform_at
        group: Any = self.group
        table = self.at_order
        while True:
            bound: Any = table[at]
            if bound.gate and not self._gate_uniform(bound, group):
                self._split(at)
                return None
            self._execute(bound, group)
            bound.executed += group.warps
            self.steps += bound.op_count
            if self.steps > self.pause_at:
                self._pause(bound, group)
            kind = bound.kind
            if kind == "fall":
                following = bound.next
                if following <= at and self.polling.any() and self._stalled():
                    self.uniform_at = following
                    return Outcome.STALLED
                at = following
                continue
            condition = bound.condition
            if kind == "bra":
                if condition is None:
                    following = bound.target
                else:
                    taken = int(np.count_nonzero(condition if group.idx is None else condition[group.idx]))
                    if bound.negated:
                        taken = group.count - taken
                    if taken == 0:
                        following = bound.next
                    elif taken == group.count:
                        following = bound.target
                    else:
                        self._diverge(bound, group)
                        return None
                if following <= at and self.polling.any() and self._stalled():
                    self.uniform_at = following
                    return Outcome.STALLED
                at = following
                continue
            if kind == "brx":
                self._branch_index(bound, group)
                return None
            if kind == "trap":
                self._trap(bound, group)
            self._exit(bound, group)
            if condition is None:
                self.uniform_at = -1
                return Outcome.DONE
            if not self.batch.live.any():
                return Outcome.DONE
            self._regroup()
            group = self.group
            at = bound.next

    def _execute(self, bound: Bound, group: Group) -> None:
        """The steps of a segment, with the bookkeeping of registers from where one holds an undefined value on."""
        taint = self.taint
        if not taint.active:
            for position, step in enumerate(bound.steps):
                step(group)
                if taint.active:
                    for tracked in bound.tracked[position + 1:]:
                        tracked(group)
                    break
        else:
            for tracked in bound.tracked:
                tracked(group)
        if taint.active and (bound.condition is not None or bound.index is not None):
            assert bound.segment.end is not None
            taint.decides(bound.segment.end, group)

    def _stalled(self) -> bool:
        self.polling[:] = False
        if self.launch.progress != self.seen_progress:
            self.seen_progress = self.launch.progress
            self.idle_rounds = 0
            return False
        self.idle_rounds += 1
        if self.idle_rounds > STALL_ROUNDS:
            self.idle_rounds = 0
            return True
        return False

    def _gate_uniform(self, bound: Bound, group: Group) -> bool:
        if bound.gate == "bar":
            return self.batch.barriers.uniform(bound.gate_op, group)
        return bound.gate != "cluster"

    def _split(self, at: int) -> None:
        live = self.batch.live
        self.at[live] = at
        self.status[:] = np.where(live, READY, DONE)
        self.passed[:] = False
        self.deferred[:] = False
        self.uniform_at = -1
        self.slice = 0

    def _diverge(self, bound: Bound, group: Group) -> None:
        self.launch.divergences += 1
        self._split(bound.order)
        self._advance(bound, group)

    def _exit(self, bound: Bound, group: Group) -> None:
        mask = group.mask
        if bound.condition is not None:
            mask = mask & (~bound.condition if bound.negated else bound.condition)
            if not mask.any():
                return
        self.batch.live &= ~mask
        self.status[mask] = DONE
        self.launch.progress += 1
        self.batch.queue.on_exit(mask)
        if self.batch.shared.visits is not None:
            self.batch.shared.visits.ended(mask)
        memory = self.batch.state.get("tensor memory")
        if memory is not None:
            memory.on_exit()

    def _trap(self, bound: Bound, group: Group) -> None:
        mask = group.mask
        if bound.condition is not None:
            mask = mask & (~bound.condition if bound.negated else bound.condition)
        if mask.any():
            self.batch.fault("trap", "the kernel executed a trap", bound.segment.end, int(np.argmax(mask)))
            raise KernelAborted

    def _pause(self, bound: Bound, group: Group) -> None:
        """Now and then: tell how far the launch is, and give up what goes on for too long."""
        self.launch.tick(self.steps - self.counted)
        self.counted = self.steps
        self.pause_at = min(self.launch.step_limit, self.steps + PAUSE)
        if self.steps <= self.launch.step_limit:
            return
        op = bound.segment.end or (bound.segment.ops[0] if bound.segment.ops else None)
        where = self.program.loop_text(bound.segment.index)
        self.batch.fault("limit", f"more than {self.launch.step_limit} instructions of these blocks, the last of them "
                         f"in {where}; max_steps sets another limit", op, int(group.lanes()[0]))
        raise KernelAborted

    def _branch_index(self, bound: Bound, group: Group) -> None:
        self._split(bound.order)
        self._advance(bound, group)

    # -- groups of lanes

    def _run_diverged(self) -> Outcome | None:
        while True:
            ready = (self.status == READY) & ~self.deferred
            if not ready.any():
                outcome = self._nothing_ready()
                if outcome is not None:
                    return outcome
                continue
            order = int(np.min(self.at, where=ready, initial=_FAR))
            bound: Any = self.at_order[order]
            here = self.at == order
            mask = ready & here
            if bound.gate:
                mask = self._gate(bound, mask, here)
                if mask is None:
                    continue
            full = int(np.count_nonzero(mask)) == int(np.count_nonzero(self.batch.live))
            if full:
                self._regroup()
                self.deferred[:] = False
                self.slice = 0
                group = self.group
                assert group is not None
            else:
                group = Group(mask, False, False)
            self._execute(bound, group)
            bound.executed += group.warps
            self.steps += bound.op_count
            if self.steps > self.pause_at:
                self._pause(bound, group)
            self._advance(bound, group)
            if full and self._unite():
                return None

    def _unite(self) -> bool:
        """Return to uniform running where all live lanes stand at one place."""
        live = self.batch.live
        if not live.any():
            return False
        positions = self.at[live]
        first = int(positions[0])
        if (positions != first).any() or (self.status[live] != READY).any() or self.passed[live].any():
            return False
        self._regroup()
        self.uniform_at = first
        return True

    def _advance(self, bound: Bound, group: Group) -> None:
        """Move the group's lanes over the closing branch of a segment."""
        mask, kind = group.mask, bound.kind
        if kind == "fall":
            self._move(mask, bound.next, bound.order)
            return
        if kind == "bra":
            if bound.condition is None:
                self._move(mask, bound.target, bound.order)
                return
            taken = mask & (~bound.condition if bound.negated else bound.condition)
            self._move(mask & ~taken, bound.next, bound.order)
            self._move(taken, bound.target, bound.order)
            return
        if kind == "brx":
            assert bound.index is not None
            index = np.broadcast_to(bound.index, mask.shape).astype(np.int64)
            outside = mask & (index >= len(bound.targets))
            if outside.any():
                self.batch.fault("value", "brx.idx index is outside of its table", bound.segment.end,
                                 int(np.argmax(outside)))
                index = np.minimum(index, len(bound.targets) - 1)
            for number, target in enumerate(bound.targets):
                self._move(mask & (index == number), target, bound.order)
            return
        if kind == "trap":
            self._trap(bound, group)
        self._exit(bound, group)
        self.at[mask & self.batch.live] = bound.next
        self.status[self.status == WARP_WAIT] = READY
        self._release()

    def _move(self, mask: Array, target: int, order: int) -> None:
        """Lanes go on at another segment: those that poll step aside at a backward edge, whatever closes the loop."""
        self.at[mask] = target
        if target <= order:
            self.slice += 1
            self.deferred |= mask & self.polling
            self.polling[mask] = False
            if self.slice > SLICE:
                self.slice = 0
                self.deferred |= mask

    def _release(self) -> None:
        freed = self.batch.barriers.release()
        if freed is not None:
            self.status[freed] = READY
            self.passed |= freed
            self.launch.progress += 1

    def _gate(self, bound: Bound, mask: Array, here: Array) -> Array | None:
        passed = mask & self.passed
        if passed.any():
            self.passed &= ~passed
            return passed
        if bound.gate in ("warp", "group"):
            candidates = mask | (here & (self.status == WARP_WAIT))
            complete = self.batch.barriers.warp_complete(bound.gate_op, candidates)
            self.status[candidates] = WARP_WAIT
            self.status[complete] = READY
            return complete if complete.any() else None
        if bound.gate == "cluster":
            waiting = self.batch.barriers.cluster_wait(bound.gate_op, mask)
            self.status[waiting] = CLUSTER_WAIT
            rest = mask & ~waiting
            return rest if rest.any() else None
        self.batch.barriers.arrive(bound.gate_op, mask)
        self.status[mask] = BARRIER_WAIT
        self._release()
        return None

    def wake_cluster(self, mask: Array) -> None:
        """Let lanes waiting at a cluster barrier go on."""
        self.status[mask] = READY
        self.passed |= mask
        self.launch.progress += 1

    def _nothing_ready(self) -> Outcome | None:
        live = self.batch.live
        if not live.any():
            self.uniform_at = -1
            return Outcome.DONE
        deferred = self.deferred & live & (self.status == READY)
        if deferred.any():
            self.deferred[:] = False
            self.slice = 0
            if self.launch.progress == self.seen_progress:
                self.idle_rounds += 1
                if self.idle_rounds > STALL_ROUNDS:
                    self.idle_rounds = 0
                    return Outcome.STALLED
            else:
                self.seen_progress = self.launch.progress
                self.idle_rounds = 0
            return None
        if self._meet_across_positions():
            return None
        return Outcome.STALLED

    def _meet_across_positions(self) -> bool:
        """Lanes of a warp may meet at different copies of one ``.sync`` operation; let barrier-only ones go on."""
        waiting = self.status == WARP_WAIT
        if not waiting.any():
            return False
        freed = np.zeros_like(waiting)
        for order in np.unique(self.at[waiting]):
            bound: Any = self.at_order[int(order)]
            if bound.gate_op.opcode != "bar.warp.sync":
                return False
        freed = self.batch.barriers.warps_complete_any(waiting)
        self.status[freed] = READY
        self.passed |= freed
        return bool(freed.any())


def _reachable(program: Program) -> set[int]:
    seen = {0}
    work = [0]
    while work:
        for successor in program.segments[work.pop()].successors():
            if successor not in seen:
                seen.add(successor)
                work.append(successor)
    return seen
