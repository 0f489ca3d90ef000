"""Shadow of shared memory: who wrote and read each cell, to find races, uninitialised reads and missing waits.

Happens-before is kept between the warps of a block, or of a cluster: warp w has an epoch that each of its releases
ends, and knows of every other warp u the last epoch that happened before its present. Lanes of one warp are ordered by
``bar.warp.sync`` and wider barriers alone, as the PTX memory model has it since sm_70.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilus.simulator.barriers import warp_bits
from tilus.simulator.machine import Array, Batch
from tilus.simulator.resolved import Op
from tilus.simulator.syntax import TYPE_BITS

if TYPE_CHECKING:
    from tilus.simulator.memory import Site

_LANE, _WARP_SHIFT, _WARPS, _ATOMIC, _AGENT, _EPOCH_SHIFT = 31, 5, 511, 1 << 14, 1 << 15, 16
_THREAD = _WARPS << _WARP_SHIFT | _LANE
MAX_READERS = 1 << 26
_SHARED_FAMILIES = ("ld", "st", "atom", "red")


def granularity(ops: list[Op]) -> int:
    """Bytes of a shadow cell: the smallest access that may touch shared memory, at most 4."""
    smallest = 4
    for op in ops:
        if op.opcode.split(".", 1)[0] not in _SHARED_FAMILIES:
            continue
        space = op.fields.get("ss")
        if space is not None and not space.startswith("shared"):
            continue
        kind = op.fields.get("t")
        if kind in TYPE_BITS:
            smallest = min(smallest, max(1, TYPE_BITS[kind] // 8))
    return smallest


class SharedShadow:
    """Shadow cells of all blocks of a batch."""

    def __init__(self, batch: Batch, cell: int) -> None:
        self.batch = batch
        self.cell = cell
        self.warps_per_block = batch.stride // 32
        space = batch.shared
        cells = len(space.views.data) // cell
        checks = batch.launch.checks
        self.checks = checks
        self.limit = space.trash // cell
        cluster = batch.launch.cluster_size
        # Readers are a table of cells by warps: where it grows too large, blocks are looked at one by one.
        self.blocks_each = cluster if cells * cluster * self.warps_per_block <= MAX_READERS else 1
        self.per_group = self.warps_per_block * self.blocks_each
        if self.blocks_each < cluster and batch.launch.checks.race:
            batch.launch.note("race looked at each block alone: clusters of this size with so much shared memory need "
                              f"a table of more than {MAX_READERS} readers")
        self.written = np.zeros(cells, bool)
        self.racing = checks.race
        self.writer = np.zeros(cells if self.racing else 0, np.int64)
        self.reader = np.zeros(cells if self.racing else 0, np.int64)
        self.readers = np.zeros((cells, self.per_group) if self.racing else (0, 0), np.int32)
        self.pending = np.zeros(cells, np.uint8)
        self.outstanding = 0
        self.source = np.zeros(cells, np.uint8)
        self.sources = 0
        self.write_time = np.zeros(cells, np.int64)
        self.column = batch.warp_of % self.per_group
        self.ident = (np.arange(batch.lanes) % 32 | self.column << _WARP_SHIFT).astype(np.int64)
        self.reset()

    def reset(self) -> None:
        warps, each = self.batch.warps, self.per_group
        self.written[:] = False
        self.pending[:] = 0
        self.outstanding = 0
        self.source[:] = 0
        self.sources = 0
        self.writer[:] = 0
        self.reader[:] = 0
        self.readers[:] = 0
        self.write_time[:] = 0
        self.epoch = np.ones(warps, np.int64)
        self.known = np.zeros((warps, each), np.int64)
        self.floor = 0
        self.lanes_known: Array | None = None
        self.initialised: dict[int, tuple[int, int, set[int]]] = {}
        self.fenced = np.zeros(warps, np.int64)
        self.clock = 0
        self.uses_async_proxy = False
        self.clocks: dict[int, tuple[Array, Array]] = {}
        groups = warps // each
        self.arriving: Array = np.zeros((groups, each), np.int64)
        self.arrived: Array = np.zeros((groups, each), np.int64)

    # -- accesses

    def _cells(self, offsets: Array, size: int) -> Array:
        first = offsets // self.cell
        if size <= self.cell:
            return first[:, None]
        return first[:, None] + np.arange(size // self.cell)

    def access(self, site: Site, lanes: Array | None, offsets: Array, size: int) -> None:
        """Record and check an access of the lanes (None: all) to buffer offsets."""
        if not offsets.size:
            return
        cells = self._cells(offsets, size)
        where = np.arange(self.batch.lanes) if lanes is None else lanes
        if self.outstanding and self.checks.asynchronous:
            self._check_pending(site, where, cells)
        if self.sources and site.write and self.checks.asynchronous:
            self._check_source(site.op, where, cells)
        if site.reads and self.checks.uninitialised:
            self._check_written(site.op, where, cells)
        if site.write:
            self.written[cells] = True
            self.clock += 1
            self.write_time[cells] = self.clock
        if self.racing:
            if site.write:
                self.record_write(site.op, where, cells, _ATOMIC if site.atomic else 0)
            else:
                self.record_read(site.op, where, cells)

    def _check_written(self, op: Op, where: Array, cells: Array) -> None:
        ready = self.written[cells]
        if not ready.all():
            bad = (~ready & (cells < self.limit)).any(axis=1)
            if bad.any():
                lane = int(np.argmax(bad))
                self._fault("uninitialised", "shared memory is read before it is written", op, where, lane, cells,
                            int(bad.sum()))

    def _fault(self, check: str, message: str, op: Op, where: Array, lane: int, cells: Array, count: int) -> None:
        address = int(cells[lane, 0]) * self.cell % self.batch.shared.stride
        self.batch.fault(check, f"{message}, at shared address {address:#x}", op, int(where[lane]), address, count)

    def _known(self, where: Array, packed: Array) -> Array:
        """The epoch of the packed access's warp that the accessing lanes know."""
        warp = (packed >> _WARP_SHIFT) & _WARPS
        result: Array = self.known[self.batch.warp_of[where][:, None], warp]
        return result

    def _unordered(self, where: Array, packed: Array) -> Array:
        """Whether earlier accesses are concurrent with the present ones of the lanes."""
        recent = (packed >> _EPOCH_SHIFT) > self._known(where, packed)
        own = self.ident[where][:, None]
        same = ((packed & _THREAD) == own) & ((packed & _AGENT) == 0)
        if self.lanes_known is not None:
            same |= self._met(where, packed)
        return recent & ~same

    def record_read(self, op: Op, where: Array, cells: Array) -> None:
        previous = self.writer[cells]
        if (int(previous.max()) >> _EPOCH_SHIFT) > self.floor:
            bad = self._unordered(where, previous) & (cells < self.limit) & self._same_group(where, cells)
            if bad.any():
                self._race("reads what another thread", "writes", op, where, cells, bad, previous)
        epoch = self.epoch[self.batch.warp_of[where]]
        self.readers[cells, self.column[where][:, None]] = epoch[:, None]
        self.reader[cells] = (self.ident[where] | epoch << _EPOCH_SHIFT)[:, None]

    def record_write(self, op: Op, where: Array, cells: Array, flag: int, agent: bool = False) -> None:
        previous = self.writer[cells]
        if (int(previous.max()) >> _EPOCH_SHIFT) > self.floor:
            bad = self._unordered(where, previous)
            if flag & _ATOMIC:
                bad &= (previous & _ATOMIC) == 0
            bad &= (cells < self.limit) & self._same_group(where, cells)
            if bad.any():
                self._race("writes what another thread", "writes", op, where, cells, bad, previous)
        reads = self.readers[cells]
        if reads.size and int(reads.max()) > self.floor:
            self._check_readers(op, where, cells, reads)
        epoch = self.epoch[self.batch.warp_of[where]]
        packed = self.ident[where] | epoch << _EPOCH_SHIFT | flag | (_AGENT if agent else 0)
        self.writer[cells] = packed[:, None]
        if flag & _ATOMIC:
            several = self.writer[cells] != packed[:, None]
            if several.any():
                self.writer[cells[several]] |= _AGENT

    def _check_readers(self, op: Op, where: Array, cells: Array, reads: Array) -> None:
        known = self.known[self.batch.warp_of[where]][:, None, :]
        late = reads > known
        own_warp = self.column[where]
        own_late = np.take_along_axis(late, own_warp[:, None, None].repeat(cells.shape[1], 1), axis=2)[..., 0]
        last = self.reader[cells]
        only_self = (last & _THREAD) == self.ident[where][:, None]
        if self.lanes_known is not None:
            only_self |= self._met(where, last)
        others = late.copy()
        np.put_along_axis(others, own_warp[:, None, None].repeat(cells.shape[1], 1), False, axis=2)
        bad = others.any(axis=2) | (own_late & ~only_self)
        bad &= (cells < self.limit) & self._same_group(where, cells)
        if bad.any():
            self._race("writes what another thread", "reads", op, where, cells, bad, last)

    def _same_group(self, where: Array, cells: Array) -> Array:
        block = cells * self.cell // self.batch.shared.stride
        result: Array = block // self.blocks_each == self.batch.block_of[where][:, None] // self.blocks_each
        return result

    def _race(self, mine: str, theirs: str, op: Op, where: Array, cells: Array, bad: Array, packed: Array) -> None:
        lane = int(np.argmax(bad.any(axis=1)))
        column = int(np.argmax(bad[lane]))
        other = int(packed[lane, column])
        warp = other >> _WARP_SHIFT & _WARPS
        thread = warp % self.warps_per_block * 32 + (other & _LANE)
        rank = warp // self.warps_per_block
        same = rank == int(self.batch.block_of[where[lane]]) % self.blocks_each
        block = "the block" if same else f"block {rank} of the cluster"
        message = f"race: a thread {mine} (thread {thread} of {block}) {theirs} without a barrier between"
        self._fault("race", message, op, where, lane, cells[:, column:], int(bad.any(axis=1).sum()))

    # -- asynchronous copies

    def _check_pending(self, site: Site, where: Array, cells: Array) -> None:
        bad = (self.pending[cells] != 0).any(axis=1)
        if bad.any():
            verb = "written" if site.write else "read"
            message = f"shared memory is {verb} before the asynchronous copy into it was waited for"
            self._fault("async", message, site.op, where, int(np.argmax(bad)), cells, int(bad.sum()))

    def _check_source(self, op: Op, where: Array, cells: Array) -> None:
        bad = (self.source[cells] != 0).any(axis=1)
        if bad.any():
            self._fault("async", "shared memory is written while an asynchronous copy may still read it", op, where,
                        int(np.argmax(bad)), cells, int(bad.sum()))

    def bulk_source(self, offsets: Array, size: int, ends: bool) -> None:
        """A bulk copy reads shared memory from now on, or has read it."""
        cells = np.unique(self._cells(offsets, size))
        if ends:
            self.source[cells] -= np.minimum(self.source[cells], 1)
        else:
            self.source[cells] += 1
        self.sources += -1 if ends else 1

    def async_issue(self, op: Op, where: Array, offsets: Array, size: int) -> None:
        """A copy into shared memory begins: it may write from now on."""
        cells = self._cells(offsets, size)
        if self.checks.asynchronous:
            again = (self.pending[cells] != 0).any(axis=1)
            if again.any():
                self._fault("async", "two asynchronous copies into the same shared memory are in flight", op, where,
                            int(np.argmax(again)), cells, int(again.sum()))
        if self.racing:
            self.record_write(op, where, cells, 0)
        self.pending[cells] = 1
        self.outstanding += cells.size

    def async_done(self, op: Op, where: Array, offsets: Array, size: int) -> None:
        """The copy has taken effect; its threads see it, others after a barrier."""
        cells = self._cells(offsets, size)
        self.pending[cells] = 0
        self.outstanding = max(0, self.outstanding - cells.size)
        self.written[cells] = True
        if self.racing:
            epoch = self.epoch[self.batch.warp_of[where]]
            self.writer[cells] = (self.ident[where] | epoch << _EPOCH_SHIFT)[:, None]

    # -- the async proxy

    def bulk_issue(self, op: Op, lane: int, offsets: Array, size: int) -> None:
        """A bulk copy into shared memory by one thread begins."""
        if not offsets.size:
            return
        cells = np.unique(self._cells(offsets, size))[:, None]
        where = np.full(len(cells), lane)
        if self.checks.asynchronous and (self.pending[cells] != 0).any():
            message = "two asynchronous copies into the same shared memory are in flight"
            self._fault("async", message, op, where, 0, cells, 1)
        if self.racing:
            self.record_write(op, where, cells, 0, agent=True)
        self.pending[cells] = 1
        self.outstanding += cells.size

    def bulk_done(self, lane: int, offsets: Array, size: int, barrier: int) -> None:
        """The bulk copy has landed; whoever waits for the mbarrier sees it."""
        cells = np.unique(self._cells(offsets, size))
        self.pending[cells] = 0
        self.outstanding = max(0, self.outstanding - cells.size)
        self.written[cells] = True
        if self.racing:
            warp = int(self.batch.warp_of[lane])
            epoch = int(self.epoch[warp])
            self.writer[cells] = int(self.ident[lane]) | epoch << _EPOCH_SHIFT | _AGENT
            if barrier >= 0:
                pending, _ = self._clock(barrier)
                column = int(self.column[lane])
                pending[column] = max(int(pending[column]), epoch)
                self.epoch[warp] += 1

    def proxy_read(self, op: Op, lanes: Array, offsets: Array, size: int, what: str) -> None:
        """The async proxy reads shared memory for these lanes: earlier generic writes need a proxy fence."""
        cells = np.unique(self._cells(offsets, size))
        where = np.full(1, int(lanes[0]))
        if self.checks.uninitialised and not self.written[cells].all():
            self._fault("uninitialised", f"{what} reads shared memory that was never written", op, where, 0,
                        cells[~self.written[cells]][None], 1)
        if self.checks.asynchronous and (self.pending[cells] != 0).any():
            self._fault("async", f"{what} reads shared memory before the asynchronous copy into it was waited for", op,
                        where, 0, cells[None], 1)
        times = self.write_time[cells]
        if self.checks.asynchronous and times.any():
            block = cells * self.cell // self.batch.shared.stride
            if self.racing:
                group = block // self.blocks_each
                writers = group * self.per_group + ((self.writer[cells] >> _WARP_SHIFT) & _WARPS)
                fenced = self.fenced[np.minimum(writers, len(self.fenced) - 1)]
            else:
                fenced = np.zeros(cells.shape, np.int64)
            own = self.fenced[np.unique(self.batch.warp_of[lanes])].max()
            bad = (times > np.maximum(fenced, own)) & (times > 0)
            if bad.any():
                self._fault("proxy", f"{what} reads what generic stores wrote without fence.proxy.async between", op,
                            where, 0, cells[bad][None], int(bad.sum()))
        if self.racing and len(cells):
            self.record_read(op, np.full(len(cells), int(lanes[0])), cells[:, None])

    def proxy_written(self, offsets: Array, size: int) -> None:
        """The async proxy wrote these bytes: no fence is needed before it reads them."""
        cells = np.unique(self._cells(offsets, size))
        self.written[cells] = True
        self.write_time[cells] = 0

    def proxy_fence(self, mask: Array) -> None:
        self.clock += 1
        self.fenced[np.unique(self.batch.warp_of[mask])] = self.clock

    # -- order

    def full_barrier(self) -> None:
        """Every live thread of every block meets its block."""
        if self.blocks_each > 1:
            self.barrier(np.ones(self.batch.lanes, bool))
            return
        each = self.per_group
        table = self.epoch.reshape(-1, 1, each)
        self.known.reshape(-1, each, each)[...] = np.maximum(self.known.reshape(-1, each, each), table)
        self.floor = int(self.epoch.min())
        self.epoch += 1

    def barrier(self, lanes: Array) -> None:
        """The lanes meet, those of each block apart."""
        each, members = self.per_group, self.warps_per_block
        warps = np.asarray(lanes.reshape(-1, 32).any(axis=1))
        table = self.known.copy()
        own = np.arange(len(warps))
        table[own, own % each] = self.epoch
        shaped = np.where(warps[:, None], table, 0).reshape(-1, members, each)
        joined = np.repeat(shaped.max(axis=1), members, axis=0)
        self.known[warps] = np.maximum(self.known[warps], joined[warps])
        self.epoch[warps] += 1
        self._lower()

    def warp_sync(self, mask: Array, together: Array) -> None:
        """The lanes of each warp meet, or sets of them: ``together`` has for each lane those it meets as bits."""
        warps = np.flatnonzero(mask.reshape(-1, 32).any(axis=1))
        whole = ((together | ~self.alive()) == 0xFFFFFFFF).reshape(-1, 32) | ~mask.reshape(-1, 32)
        full = warps[whole[warps].all(axis=1)]
        self.known[full, full % self.per_group] = self.epoch[full]
        parts = warps[~whole[warps].all(axis=1)]
        if len(parts):
            self._meet_in_parts(parts, mask, together)
        self.epoch[warps] += 1
        if self.per_group == 1:
            self._lower()

    def alive(self) -> Array:
        """For each lane the lanes of its warp that have not ended, as bits."""
        return np.repeat(warp_bits(self.batch.live), 32)

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

    def _met(self, where: Array, packed: Array) -> Array:
        """Whether earlier accesses of lanes of the own warp came before a meeting of a part of the warp."""
        assert self.lanes_known is not None
        warp = self.batch.warp_of[where]
        own = ((packed >> _WARP_SHIFT) & _WARPS) == self.column[where][:, None]
        known = self.lanes_known[warp[:, None], (where % 32)[:, None], packed & _LANE]
        return own & ((packed >> _EPOCH_SHIFT) <= known)

    def cluster_arrive(self, mask: Array) -> None:
        """A release at the cluster barrier."""
        warps = np.flatnonzero(mask.reshape(-1, 32).any(axis=1))
        table = self.known[warps]
        table[np.arange(len(warps)), warps % self.per_group] = self.epoch[warps]
        np.maximum.at(self.arriving, warps // self.per_group, table)
        self.epoch[warps] += 1

    def cluster_complete(self, mask: Array) -> None:
        """All of these lanes' clusters have arrived."""
        if self.blocks_each != self.batch.launch.cluster_size:
            self.barrier(mask)
            return
        groups = np.unique(self.batch.warp_of[mask] // self.per_group)
        self.arrived[groups] = np.maximum(self.arrived[groups], self.arriving[groups])

    def cluster_wait(self, mask: Array) -> None:
        """An acquire at the cluster barrier."""
        if self.blocks_each == self.batch.launch.cluster_size:
            warps = np.flatnonzero(mask.reshape(-1, 32).any(axis=1))
            self.known[warps] = np.maximum(self.known[warps], self.arrived[warps // self.per_group])
            self._lower()

    def _lower(self) -> None:
        self.floor = int(self.known.min())

    def _clock(self, offset: int) -> tuple[Array, Array]:
        if offset not in self.clocks:
            self.clocks[offset] = (np.zeros(self.per_group, np.int64), np.zeros(self.per_group, np.int64))
        return self.clocks[offset]

    def mbarrier_init(self, offset: int, lane: int) -> None:
        self.clocks.pop(offset, None)
        self.initialised[offset] = (lane, int(self.epoch[self.batch.warp_of[lane]]), {lane})

    def mbarrier_used(self, op: Op, offset: int, lane: int) -> None:
        """Whether a thread that uses an mbarrier comes after the one that initialised it."""
        found = self.initialised.get(offset)
        if found is None or lane in found[2]:
            return
        maker, epoch, after = found
        after.add(lane)
        if not self.racing or not self._together(offset, int(self.batch.block_of[lane])) or \
                not self._together(offset, int(self.batch.block_of[maker])):
            return
        packed = np.array([[int(self.ident[maker]) | epoch << _EPOCH_SHIFT]])
        if self._unordered(np.array([lane]), packed).any():
            cells = self._cells(np.array([offset]), 8)
            self._fault("race", f"race: an mbarrier is used that thread {int(self.batch.thread_of[maker])} initialises "
                        "without a barrier between", op, np.array([lane]), 0, cells, 1)

    def mbarrier_arrive(self, offset: int, lane: int) -> None:
        """A release: the arriving warp's past becomes part of the phase."""
        warp = int(self.batch.warp_of[lane])
        pending, _ = self._clock(offset)
        if not self._together(offset, int(self.batch.block_of[lane])):
            return
        np.maximum(pending, self.known[warp], out=pending)
        column = warp % self.per_group
        pending[column] = max(int(pending[column]), int(self.epoch[warp]))
        self.epoch[warp] += 1

    def _together(self, offset: int, block: int) -> bool:
        """Whether the block's warps are in the group of the block that holds an offset."""
        return offset // self.batch.shared.stride // self.blocks_each == block // self.blocks_each

    def mbarrier_complete(self, offset: int) -> None:
        pending, done = self._clock(offset)
        np.maximum(done, pending, out=done)

    def mbarrier_wait(self, offsets: Array, lanes: Array) -> None:
        """An acquire: waiting warps learn of the completed phases."""
        warps = self.batch.warp_of[lanes]
        pairs = {(int(o), int(w)) for o, w in zip(offsets, warps, strict=True)}
        for offset, warp in pairs:
            if offset in self.clocks and self._together(offset, warp // self.warps_per_block):
                np.maximum(self.known[warp], self.clocks[offset][1], out=self.known[warp])
        self._lower()
