"""What a batch waits for whose lanes do not progress."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.simulator.bound import BARRIER_WAIT, CLUSTER_WAIT, READY, WARP_WAIT
from tilus.simulator.layout import GLOBAL_BASE
from tilus.simulator.machine import Array
from tilus.simulator.mbarrier import barriers_of

if TYPE_CHECKING:
    from tilus.simulator.schedule import Executor


def blame(executor: Executor, resident_limited: bool) -> None:
    """Log why no lane progresses."""
    for status, check, text in (
        (WARP_WAIT, "sync", "lanes of the warp that it needs never arrive"),
        (BARRIER_WAIT, "deadlock", "threads wait at a barrier that never completes"),
        (CLUSTER_WAIT, "deadlock", "blocks wait at a cluster barrier that never completes"),
    ):
        waiting = (executor.status == status) & executor.batch.live
        for order in np.unique(executor.at[waiting]):
            bound: Any = executor.at_order[int(order)]
            lanes = waiting & (executor.at == order)
            executor.batch.fault(check, f"{bound.gate_op.opcode}: {text}", bound.gate_op, int(np.argmax(lanes)),
                             count=int(lanes.sum()))
    waiting = (executor.status == READY) & executor.batch.live if executor.uniform_at < 0 else executor.batch.live
    reason = "the block it waits for is not resident" if resident_limited else "nothing can end its wait"
    places = executor.at if executor.uniform_at < 0 else np.full(executor.batch.lanes, executor.uniform_at)
    for order in np.unique(places[waiting]).tolist():
        bound = executor.at_order[order]
        lanes = waiting & (places == order)
        op = bound.segment.end or bound.segment.ops[0]
        executor.batch.fault("deadlock", f"threads poll without end: {reason}{_polled(executor, lanes)}", op,
                         int(np.argmax(lanes)), count=int(lanes.sum()))


def _polled(executor: Executor, lanes: Array) -> str:
    """What lanes wait for: the mbarriers with their state, or the memory that they read."""
    batch = executor.batch
    where = np.flatnonzero(lanes)
    barriers = np.unique(batch.waits_for[where])
    barriers = barriers[barriers >= 0]
    if barriers.size:
        first = int(barriers[0])
        parity = int(batch.waits_parity[where[batch.waits_for[where] == first][0]])
        more = f"; and {barriers.size - 1} other mbarriers" if barriers.size > 1 else ""
        return f"; they wait for parity {parity} of {barriers_of(batch).describe(first)}{more}"
    address = int(batch.polls_at[where[0]])
    memory = executor.launch.memory
    if not GLOBAL_BASE <= address < GLOBAL_BASE + memory.views.data.size:
        return ""
    value = int(memory.views.load(np.array([address - GLOBAL_BASE & ~3]), 4, 1)[0])
    return f"; they read {memory.describe(address - GLOBAL_BASE)}, which holds {value:#x}"
