"""Barriers of a block (``bar``/``barrier``), of a warp's member lanes, and of a cluster, for diverged lanes."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.machine import Array, Batch, Group
from tilus.simulator.resolved import Const, Op

_FULL = np.uint32(0xFFFFFFFF)
_BITS = (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(np.uint32)


def _aligned(op: Op) -> bool:
    return op.opcode.startswith("bar.") or ".aligned" in op.opcode


def warp_bits(mask: Array) -> Array:
    """Lane masks of all warps, uint32, from one bool for each lane."""
    return (mask.reshape(-1, 32) * _BITS).sum(axis=1, dtype=np.uint32)


class BarrierOp:
    """The operands of one ``bar`` instruction as rows: id, thread count (or None), predicate and result."""

    def __init__(self, ident: Array, count: Array | None, mode: str, predicate: Array | None) -> None:
        self.ident = ident
        self.count = count
        self.mode = mode
        self.predicate = predicate


class BarrierState:
    """Arrivals at the 16 barriers of each block of a batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.arrived: dict[int, Array] = {}
        self.waiting: dict[int, Array] = {}
        self.expected: dict[int, Array] = {}
        self.results: Array = np.zeros(batch.lanes, np.uint32)
        self.votes: Array = np.zeros(batch.lanes, bool)
        self.modes: dict[int, str] = {}
        self.ops: dict[int, BarrierOp] = {}
        self.members: dict[int, Array | None] = {}
        self.places: dict[int, Array] = {}
        self.origin: dict[int, Op] = {}
        self.last: dict[int, Op] = {}
        self.cluster_arrived = np.zeros(batch.lanes, bool)
        self.waits = 0
        self.phases: dict[int, Array] = {}

    def reset(self) -> None:
        self.phases.clear()
        self.arrived.clear()
        self.waiting.clear()
        self.expected.clear()
        self.places.clear()
        self.cluster_arrived[:] = False

    # -- block barriers

    def uniform(self, op: Op | None, group: Group) -> bool:
        """Whether a barrier that every live lane reaches at once completes at once; completes it."""
        assert op is not None
        info = self.ops[id(op)]
        self.waits += group.warps
        if info.mode != "sync" or info.ident.size != 1 or int(info.ident[0]) in self.arrived:
            return False
        if info.count is not None:
            if info.count.size != 1 or int(info.count[0]) != self._threads_rounded():
                return False
        if self.batch.launch.shadow_hooks:
            self.phases.pop(int(info.ident[0]), None)
            shadow = self.batch.shared.shadow
            if self.batch.order.barrier_all() and shadow is not None:
                shadow.ordered()
        return True

    def _threads_rounded(self) -> int:
        return (self.batch.launch.threads + 31) // 32 * 32

    def arrive(self, op: Op | None, mask: Array) -> None:
        """Lanes arrive and, unless the operation is ``arrive``, wait."""
        assert op is not None
        info = self.ops[id(op)]
        self.origin.setdefault(op.line, op)
        lanes = np.flatnonzero(mask)
        idents = np.broadcast_to(info.ident, mask.shape)
        batch = self.batch
        for ident in np.unique(idents[lanes]):
            number = int(ident)
            if number > 15:
                batch.fault("barrier", f"barrier {number} does not exist", op, int(lanes[0]))
                continue
            part = mask & (idents == ident)
            self._expect(op, info, number, part)
            self._follows(op, number, part)
            arrived = self.arrived.setdefault(number, np.zeros(batch.lanes, bool))
            again = arrived & part
            if again.any():
                batch.fault("barrier", f"a thread arrives twice at barrier {number} in one phase", op,
                            int(np.argmax(again)))
            arrived |= part
            # Copies of an inlined function share their line: lanes at them are at one instruction.
            self.places.setdefault(number, np.zeros(batch.lanes, np.int64))[part] = op.line if _aligned(op) else 0
            if info.mode != "arrive":
                self.waiting.setdefault(number, np.zeros(batch.lanes, bool))[part] = True
            if info.predicate is not None:
                self.votes[part] = np.broadcast_to(info.predicate, mask.shape)[part]
            self.modes[number] = info.mode
            self.last[number] = op
            self.waits += int(np.unique(batch.warp_of[part]).size)

    def _expect(self, op: Op, info: BarrierOp, number: int, part: Array) -> None:
        batch = self.batch
        expected = self.expected.setdefault(number, np.zeros(batch.capacity, np.int64))
        blocks = np.unique(batch.block_of[part])
        if info.count is None:
            wanted = np.full(blocks.size, -1, np.int64)
        else:
            counts = np.broadcast_to(info.count, part.shape).astype(np.int64)
            bad = part & ((counts % 32 != 0) | (counts == 0))
            if bad.any():
                batch.fault("barrier", "the thread count of a barrier must be a positive multiple of 32", op,
                            int(np.argmax(bad)))
            wanted = np.array([counts[part & (batch.block_of == b)][0] for b in blocks])
        known = expected[blocks]
        clash = (known != 0) & (known != wanted)
        if clash.any():
            lane = int(np.argmax(part & (batch.block_of == blocks[clash][0])))
            batch.fault("barrier", f"barrier {number} is used with different thread counts in one phase "
                        f"({int(known[clash][0])} and {int(wanted[clash][0])})", op, lane)
        expected[blocks] = wanted

    # -- one barrier for two sets of warps

    def _remember(self, number: int, done: Array, waiting: Array | None) -> None:
        """The epochs that the warps which waited in a phase of these blocks have behind it."""
        batch = self.batch
        if not batch.launch.checks.race:
            return
        epochs = self.phases.setdefault(number, np.zeros(batch.warps, np.int64))
        here = np.repeat(done, batch.stride // 32)
        waited = here if waiting is None else here & waiting.reshape(-1, 32).any(axis=1)
        epochs[here] = 0
        epochs[waited] = batch.order.epoch[waited]

    def _follows(self, op: Op, number: int, part: Array) -> None:
        """Whether warps that arrive come after the barrier's last phase, so that they cannot be counted in it."""
        epochs = self.phases.get(number)
        if epochs is None:
            return
        batch, order = self.batch, self.batch.order
        for warp in np.unique(batch.warp_of[part]).tolist():
            first = warp // order.per_block * order.per_block
            last = epochs[first:first + order.per_block]
            column = int(order.column[first])
            known = order.known[warp, column:column + order.per_block]
            if not last.any() or epochs[warp] or (known >= last)[last > 0].any():
                continue
            users = ", ".join(map(str, np.flatnonzero(last).tolist()))
            lane = int(np.argmax(part & (batch.warp_of == warp)))
            batch.fault("race", f"race: warp {warp - first} arrives at barrier {number}, which warps {users} used "
                        "before, and nothing orders it after them: it may be counted in their phase", op, lane)
            return

    def _too_many(self, number: int, over: Array, counted: Array, expected: Array) -> None:
        batch = self.batch
        block = int(np.argmax(over))
        lane = int(np.argmax(self.arrived[number] & (batch.block_of == block)))
        op = self.last[number]
        batch.fault("barrier", f"{int(counted[block])} threads are at barrier {number} at once, which expects "
                    f"{int(expected[block])}: which of them make up a phase is left to chance", op, lane)

    def release(self) -> Array | None:
        """Lanes whose barrier is now complete, or None."""
        freed: Array | None = None
        batch = self.batch
        for number in list(self.arrived):
            arrived = self.arrived[number]
            per_warp = arrived.reshape(-1, 32).sum(axis=1)
            live = batch.live.reshape(-1, 32).sum(axis=1)
            whole = (per_warp > 0) & (per_warp >= live)
            counted = np.where(whole, 32, per_warp).reshape(batch.capacity, -1).sum(axis=1)
            expected = self.expected[number]
            missing = ((live > per_warp).reshape(batch.capacity, -1)).any(axis=1)
            here = per_warp.reshape(batch.capacity, -1).any(axis=1)
            done = here & np.where(expected < 0, ~missing, counted >= expected)
            if not done.any():
                continue
            lanes = done[batch.block_of] & arrived
            over = done & (expected > 0) & (counted > expected)
            if over.any():
                self._too_many(number, over, counted, expected)
            self._finish(number, done, lanes)
            waiting = self.waiting.get(number)
            self._remember(number, done, waiting)
            if waiting is not None:
                out = waiting & lanes
                waiting &= ~lanes
                freed = out if freed is None else freed | out
            arrived &= ~lanes
            expected[done] = 0
            if not arrived.any():
                del self.arrived[number]
        return freed

    def _check_aligned(self, number: int, lanes: Array) -> None:
        """Whether each warp came whole, and to one instruction, where the barrier is ``.aligned``."""
        batch = self.batch
        if not batch.launch.checks.sync:
            return
        place = np.where(lanes, self.places[number], 0).reshape(-1, 32)
        first = place.max(axis=1)
        apart = (first > 0) & ((place != first[:, None]) & batch.live.reshape(-1, 32)).any(axis=1)
        if apart.any():
            warp = int(np.argmax(apart))
            lane = warp * 32 + int(np.argmax(place[warp] == first[warp]))
            op = next(op for op in self.origin.values() if op.line == first[warp])
            batch.fault("sync", f"{op.opcode} is .aligned: all lanes of a warp must be at it, and some are elsewhere",
                        op, lane, count=int(apart.sum()))

    def _finish(self, number: int, done: Array, lanes: Array) -> None:
        batch = self.batch
        self._check_aligned(number, lanes)
        if self.modes.get(number) in ("popc", "and", "or"):
            votes = (self.votes & lanes).reshape(batch.capacity, -1).sum(axis=1)
            total = lanes.reshape(batch.capacity, -1).sum(axis=1)
            mode = self.modes[number]
            value = votes if mode == "popc" else (votes == total if mode == "and" else votes > 0)
            self.results[lanes] = np.repeat(value, batch.stride)[lanes]
        if batch.launch.shadow_hooks:
            batch.order.barrier(lanes)

    # -- warps

    def warp_complete(self, op: Op | None, mask: Array) -> Array:
        """Of the lanes at a warp-wide operation, those whose member lanes are all there."""
        assert op is not None
        if op.form is not None and op.form.gate == "group":
            return self._group_complete(mask)
        present = warp_bits(mask)
        live = warp_bits(self.batch.live)
        members = self.members.get(id(op))
        if members is None:
            complete = (present == live) & (present != 0)
            return mask & np.repeat(complete, 32)
        wanted = np.broadcast_to(members, mask.shape) & np.repeat(live, 32)
        return mask & ((wanted & ~np.repeat(present, 32)) == 0)

    def _group_complete(self, mask: Array) -> Array:
        """Of the lanes at an operation of warp groups, those whose group of 128 threads is all there."""
        batch = self.batch
        number = batch.block_of * ((batch.stride + 127) // 128) + batch.thread_of // 128
        missing = np.bincount(number, weights=batch.live & ~mask)
        return mask & (missing[number] == 0)

    def warps_complete_any(self, waiting: Array) -> Array:
        """Lanes waiting at ``bar.warp.sync`` anywhere whose warps are complete."""
        present = warp_bits(waiting)
        live = warp_bits(self.batch.live)
        return waiting & np.repeat((present == live) & (present != 0), 32)

    def cluster_wait(self, op: Op | None, mask: Array) -> Array:
        """Lanes that must wait for the rest of their cluster."""
        clusters: Any = self.batch.state["clusters"]
        result: Array = clusters.wait(op, mask)
        return result


def constant_operand(item: object) -> int | None:
    """The integer of a constant operand, else None."""
    return int(item.value) if isinstance(item, Const) else None
