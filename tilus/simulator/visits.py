"""Accesses to shared memory of other blocks of a cluster: each block must stay until they are over."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.machine import Array, Batch
from tilus.simulator.order import Order
from tilus.simulator.resolved import Op


class Visits:
    """For each block of a batch, when each warp of its cluster last touched its shared memory, and by what."""

    def __init__(self, batch: Batch, order: Order) -> None:
        self.batch, self.order = batch, order
        self.epoch = np.zeros((batch.capacity, order.per_group), np.int64)
        self.lane = np.zeros((batch.capacity, order.per_group), np.int64)
        self.what: dict[tuple[int, int], tuple[Op, bool]] = {}
        self.reset()

    def reset(self) -> None:
        self.epoch[:] = 0
        self.what.clear()

    def note(self, op: Op, write: bool, lanes: Array, blocks: Array) -> None:
        """Lanes access shared memory of these blocks, which are not their own."""
        warps = self.batch.warp_of[lanes]
        columns = self.order.column[warps]
        self.epoch[blocks, columns] = self.order.epoch[warps]
        self.lane[blocks, columns] = lanes
        for pair in set(zip(blocks.tolist(), columns.tolist(), strict=True)):
            self.what[pair] = (op, write)

    def met(self, lanes: Array) -> None:
        """The clusters of these lanes met at their barrier: no block of them ends before what came before it."""
        self.epoch[np.unique(self.batch.block_of[lanes])] = 0

    def ended(self, mask: Array) -> None:
        """Lanes have ended: whether what others did in the memory of blocks that are gone is known to be over."""
        batch, order = self.batch, self.order
        for block in np.unique(batch.block_of[mask]).tolist():
            if not self.epoch[block].any() or batch.live[block * batch.stride:(block + 1) * batch.stride].any():
                continue
            known = order.known[block * order.per_block:(block + 1) * order.per_block].max(axis=0)
            late = np.flatnonzero(self.epoch[block] > known)
            if late.size:
                column = int(late[0])
                op, write = self.what[block, column]
                verb = "writes" if write else "reads"
                batch.fault("race", f"a thread {verb} shared memory of block {block % batch.launch.cluster_size} of "
                            "the cluster, and nothing keeps that block from ending before: a barrier of the cluster "
                            "is missing after the access", op, int(self.lane[block, column]), count=int(late.size))
            self.epoch[block] = 0
