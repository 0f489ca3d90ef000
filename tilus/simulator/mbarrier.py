"""State of mbarrier objects, kept in their eight bytes of shared memory, and the barrier of a cluster."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.simulator.machine import Array, Batch
from tilus.simulator.resolved import Op

if TYPE_CHECKING:
    from tilus.simulator.schedule import Executor

_COUNT = (1 << 20) - 1
_BIAS = 1 << 20
VALID = 1 << 62
PHASE = 1 << 63


def encode(pending: int, expected: int, transactions: int, phase: int) -> int:
    """Bits 0-19 pending arrivals, 20-39 arrivals of a phase, 40-60 pending bytes, 62 initialised, 63 phase."""
    return (pending & _COUNT) | (expected & _COUNT) << 20 | (transactions + _BIAS) << 40 | VALID | phase << 63


@dataclass
class Initialised:
    """The lane that initialised an mbarrier, its epoch then, and the lanes that were found to come after it.

    ``fenced``: the lane executed ``fence.mbarrier_init``; ``ordered``: it had when it arrived at the cluster's barrier;
    ``met``: the cluster met there.
    """

    lane: int
    epoch: int
    after: set[int]
    fenced: bool = False
    arrived: bool = False
    ordered: bool = False
    met: bool = False


def fields_of(word: int) -> tuple[int, int, int, int]:
    """(pending arrivals, arrivals of a phase, pending bytes, phase)."""
    return word & _COUNT, word >> 20 & _COUNT, (word >> 40 & ((1 << 21) - 1)) - _BIAS, word >> 63


class MBarriers:
    """Arrivals and transactions at the mbarriers of a batch; offsets are into the batch's shared memory."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.words: Array = batch.shared.views(8, 1)
        self.initialised: dict[int, Initialised] = {}

    def reset(self) -> None:
        self.initialised.clear()

    def describe(self, offset: int) -> str:
        """``the mbarrier at byte 8 of bars, shared address 0x8: phase of parity 0, 3 of 64 arrivals and 256 bytes``."""
        batch = self.batch
        address = offset % batch.shared.stride
        named = batch.launch.program.decoded.describe_shared(address, batch.launch.dynamic_base)
        word = int(self.words[offset >> 3])
        if not word & VALID:
            return f"the mbarrier at {named}shared address {address:#x}, which is not initialised"
        pending, expected, transactions, phase = fields_of(word)
        return (f"the mbarrier at {named}shared address {address:#x}: its phase, of parity {phase}, lacks {pending} of "
                f"{expected} arrivals and {transactions} bytes of transactions")

    def init(self, offset: int, count: int, lane: int) -> None:
        self.words[offset >> 3] = encode(count, count, 0, 0)
        if self.batch.launch.shadow_hooks:
            order = self.batch.order
            order.init(offset)
            self.initialised[offset] = Initialised(lane, int(order.epoch[self.batch.warp_of[lane]]), {lane})

    def used(self, op: Op, offset: int, lane: int) -> None:
        """Whether a thread that uses an mbarrier comes after the one that initialised it."""
        made = self.initialised.get(offset)
        if made is None or lane in made.after:
            return
        made.after.add(lane)
        batch, order = self.batch, self.batch.order
        near = all(order.together(offset, int(batch.block_of[who])) for who in (lane, made.lane))
        if not batch.launch.checks.race or not near or order.follows(lane, made.lane, made.epoch):
            return
        address = offset % batch.shared.stride
        named = batch.launch.program.decoded.describe_shared(address, batch.launch.dynamic_base)
        # Known to work within a block: CUB's scan for sm_100 does so.
        formal = made.met and batch.block_of[lane] == batch.block_of[made.lane]
        between = "with only a relaxed arrival at the cluster's barrier, and no fence.mbarrier_init," if formal else \
            "without a barrier"
        batch.fault("race", f"race: an mbarrier is used that thread {int(batch.thread_of[made.lane])} initialises "
                    f"{between} between, at {named}shared address {address:#x}", op, lane, address,
                    level="formal" if formal else "error")

    def fence(self, mask: Array) -> None:
        """These lanes executed ``fence.mbarrier_init``."""
        for made in self.initialised.values():
            made.fenced |= bool(mask[made.lane])

    def arrived(self, mask: Array) -> None:
        """These lanes arrived at the barrier of their cluster."""
        for made in self.initialised.values():
            if mask[made.lane]:
                made.arrived, made.ordered = True, made.fenced

    def ready(self, members: Array) -> None:
        """These lanes' clusters met: what was fenced and then arrived is initialised for all."""
        for made in self.initialised.values():
            made.met |= made.arrived and bool(members[made.lane])
        self.initialised = {offset: made for offset, made in self.initialised.items()
                            if not (made.met and made.ordered)}

    def update(self, offset: int, op: Op, lane: int, *, arrive: int = 0, expect: int = 0, complete: int = 0,
               drop: int = 0) -> int:
        """Change an mbarrier and complete its phase where due; the word before."""
        word = int(self.words[offset >> 3])
        if not word & VALID or word >> 61 & 1:
            self.batch.fault("value", f"{op.opcode} on memory that is not an initialised mbarrier", op, lane)
            return word
        pending, expected, transactions, phase = fields_of(word)
        transactions += expect - complete
        expected -= drop
        if arrive + drop > pending:
            self.batch.fault("barrier", f"{op.opcode}: more arrivals than the mbarrier's phase expects "
                             f"({pending} pending)", op, lane)
            arrive, drop = pending, 0
        pending -= arrive + drop
        if abs(transactions) >= _BIAS:
            self.batch.fault("barrier", f"{op.opcode}: the transaction count of the mbarrier overflows", op, lane)
            transactions = 0
        self.batch.launch.progress += 1
        if pending == 0 and transactions == 0:
            phase ^= 1
            pending = expected
            if self.batch.launch.shadow_hooks:
                self.batch.order.complete(offset)
        self.words[offset >> 3] = encode(pending, expected, transactions, phase)
        return word


class ClusterBarrier:
    """``barrier.cluster``: completes when every live thread of the cluster has arrived."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        size = batch.launch.cluster_size
        self.cluster_of = batch.block_of // size
        self.count = batch.capacity // size
        self.reset()

    def reset(self) -> None:
        self.arrived = np.zeros(self.batch.lanes, bool)
        self.generation = np.zeros(self.count, np.int64)
        self.target = np.zeros(self.batch.lanes, np.int64)
        self.waiting = np.zeros(self.batch.lanes, bool)

    def arrive(self, op: Op, mask: Array) -> None:
        twice = mask & self.arrived
        if twice.any():
            self.batch.fault("barrier", "a thread arrives twice at the cluster barrier", op, int(np.argmax(twice)))
        self.arrived |= mask
        self.target[mask] = self.generation[self.cluster_of[mask]] + 1
        if ".relaxed" not in op.opcode:
            self._release(mask)
        if self.batch.launch.shadow_hooks:
            barriers_of(self.batch).arrived(mask)
        self.check()

    def _release(self, mask: Array) -> None:
        batch = self.batch
        if batch.launch.shadow_hooks:
            batch.order.cluster_arrive(mask)

    def acquire(self, mask: Array) -> None:
        """Lanes have passed the wait."""
        if self.batch.launch.shadow_hooks:
            self.batch.order.cluster_wait(mask)

    def wait(self, op: Op | None, mask: Array) -> Array:
        """The lanes that must wait."""
        if op is not None:
            never = mask & (self.target == 0)
            if never.any():
                self.batch.fault("barrier", "barrier.cluster.wait without an arrive", op, int(np.argmax(never)))
        blocked: Array = mask & (self.target > self.generation[self.cluster_of])
        self.waiting |= blocked
        return blocked

    def check(self) -> None:
        """Complete the phases at which all live threads have arrived."""
        missing = np.zeros(self.count, bool)
        np.logical_or.at(missing, self.cluster_of, self.batch.live & ~self.arrived)
        some = np.zeros(self.count, bool)
        np.logical_or.at(some, self.cluster_of, self.arrived)
        done = some & ~missing
        if not done.any():
            return
        lanes = done[self.cluster_of]
        self.generation[done] += 1
        self.arrived &= ~lanes
        if self.batch.launch.shadow_hooks:
            members = lanes & self.batch.live
            self.batch.order.cluster_complete(members)
            barriers_of(self.batch).ready(members)
            if self.batch.shared.visits is not None:
                self.batch.shared.visits.met(np.flatnonzero(members))
        freed = self.waiting & lanes
        self.waiting &= ~freed
        if freed.any():
            executor: Executor = self.batch.state["executor"]
            executor.wake_cluster(freed)


def barriers_of(batch: Batch) -> MBarriers:
    """The mbarriers of a batch."""
    state: dict[str, Any] = batch.state
    if "mbarriers" not in state:
        state["mbarriers"] = MBarriers(batch)
    made: MBarriers = state["mbarriers"]
    return made
