"""What happened before what: epochs of the warps of a batch, and what each warp knows of the others.

A warp's epoch ends at each of its releases. Warp w knows of warp u the last epoch that happened before its present:
within a block or cluster in a dense table, of warps of other blocks in :mod:`~tilus.simulator.history`, which also
keeps what synchronisation variables carry. Lanes of one warp are ordered by ``bar.warp.sync`` and wider barriers alone,
as the PTX memory model has it since sm_70.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.barriers import warp_bits
from tilus.simulator.history import Clock, History
from tilus.simulator.machine import Array, Batch


class Order:
    """Happens-before among the warps of a batch.

    ``epoch`` is replaced, never changed in place: accesses that are looked at later keep the array of their moment.
    """

    def __init__(self, batch: Batch, history: History) -> None:
        self.batch, self.history = batch, history
        self.per_block = batch.stride // 32
        self.per_group = self.per_block * batch.launch.cluster_size
        self.column = np.arange(batch.warps) % self.per_group
        self.reset()

    def reset(self) -> None:
        warps, each = self.batch.warps, self.per_group
        self.epoch: Array = np.ones(warps, np.int64)
        self.known: Array = np.zeros((warps, each), np.int64)
        self.floor = 0
        self.lanes_known: Array | None = None
        self.clocks: dict[int, tuple[Array, Array]] = {}
        groups = warps // each
        self.arriving: Array = np.zeros((groups, each), np.int64)
        self.arrived: Array = np.zeros((groups, each), np.int64)

    def place(self) -> None:
        """The batch has been given its blocks: number its warps in the grid."""
        blocks = np.zeros(self.batch.capacity, np.int64)
        blocks[:len(self.batch.blocks)] = self.batch.blocks
        self.grid_warp: Array = (blocks[:, None] * self.per_block + np.arange(self.per_block)).reshape(-1)
        self.block: Array = np.repeat(blocks, self.per_block)
        # Threads of the grid, each block's rounded up to whole warps.
        self.grid_thread: Array = np.repeat(blocks, self.batch.stride) * self.batch.stride + self.batch.thread_of
        self.columns_of: dict[int, int] = {}

    def epochs_of(self, where: Array) -> Array:
        """The present epochs of the lanes."""
        return np.repeat(self.epoch, 32) if where is self.batch.every else self.epoch[self.batch.warp_of[where]]

    def bump(self, warps: Array | int) -> None:
        """End the epochs of these warps."""
        epoch = self.epoch.copy()
        epoch[warps] += 1
        self.epoch = epoch

    def _lower(self) -> None:
        self.floor = int(self.known.min())

    # -- queries

    def cluster_column(self, warps: Array, others: Array) -> Array:
        """The place in the cluster of ``warps`` of warps of the grid, -1 for those of other clusters."""
        place = np.full(others.shape, -1, np.int64)
        first = warps // self.per_group * self.per_group
        for step in range(self.per_group // self.per_block):
            start = self.grid_warp[first + step * self.per_block]
            inside = (others >= start) & (others < start + self.per_block)
            place = np.where(inside, others - start + step * self.per_block, place)
        return place

    def met(self, where: Array, warp: Array, lane: Array, epoch: Array) -> Array | None:
        """Whether accesses of lanes of the own warp came before a meeting of a part of the warp; None: no part met.

        ``where`` are the lanes that ask, (n,); ``warp`` (numbers within the cluster), ``lane`` and ``epoch`` of the
        earlier accesses have the shape (n, k).
        """
        if self.lanes_known is None:
            return None
        own_warp = self.batch.warp_of[where]
        known = self.lanes_known[own_warp[:, None], (where % 32)[:, None], lane]
        return (warp == self.column[own_warp][:, None]) & (epoch <= known)

    def follows(self, lane: int, other: int, epoch: int) -> bool:
        """Whether what a lane does now comes after what another lane of its cluster did at an epoch."""
        warp_of = self.batch.warp_of
        column = np.array([[self.column[warp_of[other]]]])
        if lane == other or epoch <= self.known[warp_of[lane], int(column[0, 0])]:
            return True
        met = self.met(np.array([lane]), column, np.array([[other % 32]]), np.array([[epoch]]))
        return met is not None and bool(met[0, 0])

    def past(self, warp: int) -> Clock:
        """What happens before a release of the warp, by warps of the grid."""
        result = dict(self.history.clocks.get(int(self.grid_warp[warp]), {}))
        first = warp // self.per_group * self.per_group
        row = self.known[warp]
        for column in np.flatnonzero(row).tolist():
            result[int(self.grid_warp[first + column])] = int(row[column])
        result[int(self.grid_warp[warp])] = int(self.epoch[warp])
        return result

    def learn(self, warp: int, clock: Clock) -> None:
        """An acquire: what the clock holds of the own cluster goes into the table, the rest to the history."""
        first = warp // self.per_group * self.per_group
        if not self.columns_of:
            self.columns_of = {int(number): row for row, number in enumerate(self.grid_warp.tolist())}
        far: Clock = {}
        row = self.known[warp]
        for number, epoch in clock.items():
            place = self.columns_of.get(number, -1)
            if first <= place < first + self.per_group:
                if epoch > row[place - first]:
                    row[place - first] = epoch
            else:
                far[number] = epoch
        if far:
            self.history.learn(int(self.grid_warp[warp]), far)
        self._lower()

    # -- barriers

    def barrier_all(self) -> bool:
        """Every live thread meets its block; whether all that came before is now ordered before all that comes."""
        if self.per_group != self.per_block:
            self.barrier(np.ones(self.batch.lanes, bool))
            return False
        each = self.per_group
        table = self.epoch.reshape(-1, 1, each)
        self.known.reshape(-1, each, each)[...] = np.maximum(self.known.reshape(-1, each, each), table)
        self.floor = int(self.epoch.min())
        self.epoch = self.epoch + 1
        self._share(np.arange(self.batch.warps))
        return True

    def barrier(self, lanes: Array) -> None:
        """The lanes meet, those of each block apart."""
        each, members = self.per_group, self.per_block
        warps = np.asarray(lanes.reshape(-1, 32).any(axis=1))
        table = self.known.copy()
        table[np.arange(len(warps)), self.column] = self.epoch
        shaped = np.where(warps[:, None], table, 0).reshape(-1, members, each)
        joined = np.repeat(shaped.max(axis=1), members, axis=0)
        self.known[warps] = np.maximum(self.known[warps], joined[warps])
        self.bump(np.flatnonzero(warps))
        self._lower()
        self._share(np.flatnonzero(warps))

    def _share(self, warps: Array) -> None:
        """Warps of each block that meet share what they know of other blocks."""
        if self.history.clocks:
            blocks = warps // self.per_block
            for block in np.unique(blocks):
                self.history.share(self.grid_warp[warps[blocks == block]].tolist())

    def warp_sync(self, mask: Array, together: Array) -> None:
        """The lanes of each warp meet, or sets of them: ``together`` has for each lane those it meets as bits."""
        warps = np.flatnonzero(mask.reshape(-1, 32).any(axis=1))
        whole = ((together | ~np.repeat(warp_bits(self.batch.live), 32)) == 0xFFFFFFFF).reshape(-1, 32) \
            | ~mask.reshape(-1, 32)
        entire = whole[warps].all(axis=1)
        full = warps[entire]
        self.known[full, self.column[full]] = self.epoch[full]
        if not entire.all():
            self._meet_in_parts(warps[~entire], mask, together)
        self.bump(warps)
        if self.per_group == 1:
            self._lower()

    def _meet_in_parts(self, warps: Array, mask: Array, together: Array) -> None:
        """Lanes learn of the accesses of the lanes of their part alone."""
        if self.lanes_known is None:
            self.lanes_known = np.zeros((self.batch.warps, 32, 32), np.int64)
        bits = np.arange(32, dtype=np.uint32)
        for warp in warps.tolist():
            known = self.lanes_known[warp]
            here = mask[32 * warp:32 * warp + 32]
            meets = ((together[32 * warp:32 * warp + 32, None] >> bits) & 1).astype(bool) & here & here[:, None]
            # What any lane of the part knows, all of its lanes know now; and of each other's past.
            joined = np.where(meets[:, :, None], known[None], 0).max(axis=1)
            self.lanes_known[warp] = np.maximum(known, np.maximum(joined, np.where(meets, self.epoch[warp], 0)))

    # -- the barrier of a cluster

    def cluster_arrive(self, mask: Array) -> None:
        """A release at the cluster barrier."""
        warps = np.flatnonzero(mask.reshape(-1, 32).any(axis=1))
        table = self.known[warps]
        table[np.arange(len(warps)), self.column[warps]] = self.epoch[warps]
        np.maximum.at(self.arriving, warps // self.per_group, table)
        for warp in warps.tolist() if self.history.clocks else ():
            self.history.release((self.batch.shared.key, "cluster", warp // self.per_group), int(self.block[warp]),
                                 self.past(warp))
        self.bump(warps)

    def cluster_complete(self, mask: Array) -> None:
        """All of these lanes' clusters have arrived."""
        groups = np.unique(self.batch.warp_of[mask] // self.per_group)
        self.arrived[groups] = np.maximum(self.arrived[groups], self.arriving[groups])

    def cluster_wait(self, mask: Array) -> None:
        """An acquire at the cluster barrier."""
        warps = np.flatnonzero(mask.reshape(-1, 32).any(axis=1))
        self.known[warps] = np.maximum(self.known[warps], self.arrived[warps // self.per_group])
        for warp in warps.tolist() if self.history.variables else ():
            self._acquire((self.batch.shared.key, "cluster", warp // self.per_group), warp)
        self._lower()

    def _acquire(self, key: object, warp: int) -> None:
        clock = self.history.visible(key, int(self.block[warp]), True)
        if clock:
            self.learn(warp, clock)

    # -- mbarriers

    def _clock(self, offset: int) -> tuple[Array, Array]:
        if offset not in self.clocks:
            self.clocks[offset] = (np.zeros(self.per_group, np.int64), np.zeros(self.per_group, np.int64))
        return self.clocks[offset]

    def together(self, offset: int, block: int) -> bool:
        """Whether the block is in the cluster of the block that holds an offset of shared memory."""
        size = self.batch.launch.cluster_size
        return offset // self.batch.shared.stride // size == block // size

    def init(self, offset: int) -> None:
        """An mbarrier begins anew."""
        self.clocks.pop(offset, None)

    def arrive(self, offset: int, lane: int) -> None:
        """A release at an mbarrier: the arriving warp's past becomes part of the phase."""
        warp = int(self.batch.warp_of[lane])
        if not self.together(offset, int(self.batch.block_of[lane])):
            return
        pending, _ = self._clock(offset)
        np.maximum(pending, self.known[warp], out=pending)
        column = warp % self.per_group
        pending[column] = max(int(pending[column]), int(self.epoch[warp]))
        if self.history.clocks:
            self.history.release((self.batch.shared.key, "mbarrier", offset), int(self.block[warp]), self.past(warp))
        self.bump(warp)

    def deliver(self, offset: int, lane: int) -> int:
        """An asynchronous operation of a lane has taken effect and signals an mbarrier; the epoch of its effect."""
        warp = int(self.batch.warp_of[lane])
        epoch = int(self.epoch[warp])
        pending, _ = self._clock(offset)
        column = int(self.column[warp])
        pending[column] = max(int(pending[column]), epoch)
        self.bump(warp)
        return epoch

    def complete(self, offset: int) -> None:
        """The phase of an mbarrier is complete."""
        pending, done = self._clock(offset)
        np.maximum(done, pending, out=done)

    def wait(self, offsets: Array, lanes: Array) -> None:
        """An acquire: warps that waited at mbarriers learn of the completed phases."""
        warps = self.batch.warp_of[lanes]
        for offset, warp in dict.fromkeys(zip(offsets.tolist(), warps.tolist(), strict=True)):
            if offset in self.clocks and self.together(offset, warp // self.per_block):
                np.maximum(self.known[warp], self.clocks[offset][1], out=self.known[warp])
                if self.history.variables:
                    self._acquire((self.batch.shared.key, "mbarrier", offset), warp)
        self._lower()

    # -- fences, atomics and other strong accesses

    def fence(self, lanes: Array, wide: bool) -> None:
        """A fence: later relaxed writes release the past, earlier relaxed reads acquire."""
        for warp in np.unique(self.batch.warp_of[lanes]).tolist():
            number = int(self.grid_warp[warp])
            found = self.history.acquired(number, int(self.block[warp]), wide)
            if found:
                self.learn(warp, found)
            self.history.fenced.setdefault(number, {})[wide] = self.past(warp)

    def synchronise(self, space: object, lanes: Array, offsets: Array, *, acquire: bool = False,
                    release: bool = False, wide: bool = True, reads: bool = True, writes: bool = True) -> None:
        """A strong access (atomic, volatile, relaxed or stronger) to synchronisation variables.

        ``space`` tells variables of one memory from those of another. ``wide`` is a scope beyond the block; an access
        that writes without reading ends a release sequence.
        """
        history = self.history
        if not (release or history.fenced or history.variables):
            return
        # In the order of the lanes, in which the atomics of one instruction take effect.
        pairs = zip(offsets.tolist(), self.batch.warp_of[lanes].tolist(), strict=True)
        for offset, warp in dict.fromkeys(pairs):
            key, number, block = (space, offset), int(self.grid_warp[warp]), int(self.block[warp])
            if reads:
                if acquire:
                    found = history.visible(key, block, wide)
                    if found:
                        self.learn(warp, found)
                else:
                    history.remember(key, number)
            if writes and history.write(key, number, block, self.past(warp) if release else None, wide, reads):
                self.bump(warp)
