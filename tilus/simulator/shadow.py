"""Shadow of shared memory: who wrote and read each cell, to find races and uninitialised reads.

Order comes from :mod:`~tilus.simulator.order`. Reads are noted in a log, and entered into the table of readers when
something is written before the next barrier of all threads, which empties the log: loops that only read between two
barriers cost little.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilus.simulator.faults import Other
from tilus.simulator.lanes import put_rows
from tilus.simulator.machine import Array, Batch
from tilus.simulator.resolved import Op
from tilus.simulator.syntax import TYPE_BITS

if TYPE_CHECKING:
    from tilus.simulator.order import Order
    from tilus.simulator.sites import Site

# A writer: lane, warp of the cluster, strong?, by another agent (a copy, or several lanes)?, operation, epoch.
_LANE, _WARP_SHIFT, _WARPS, STRONG, AGENT, _OP_SHIFT, _OPS, _EPOCH_SHIFT = 31, 5, 511, 1 << 14, 1 << 15, 16, 0xFFFF, 32
_THREAD = _WARPS << _WARP_SHIFT | _LANE
# A reader, of the warp whose column it is in: lane, strong?, operation, epoch.
_R_STRONG, _R_OP_SHIFT, _R_EPOCH_SHIFT = 1 << 5, 6, 22
MAX_READERS = 1 << 25
MAX_LOG = 512
_SHARED_FAMILIES = ("ld", "st", "atom", "red")
_ASYNC_PROXY = ("cp.async.bulk", "cp.reduce", "wgmma", "tcgen05")


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
        if op.opcode.startswith("red") and op.fields.get("op") in ("and", "or"):
            return 1  # they touch some of the bytes
        if kind in TYPE_BITS:
            smallest = min(smallest, max(1, TYPE_BITS[kind] // 8))
    return smallest


class SharedShadow:
    """Shadow cells of all blocks of a batch."""

    def __init__(self, batch: Batch, order: Order, ops: list[Op]) -> None:
        self.batch, self.order = batch, order
        self.cell = granularity(ops)
        space = batch.shared
        cells = len(space.views.data) // self.cell
        self.checks = checks = batch.launch.checks
        self.limit = space.trash // self.cell
        per_block, cluster = order.per_block, batch.launch.cluster_size
        # Readers are a table of cells by warps: where it grows too large, blocks are looked at one by one.
        self.blocks_each = cluster if cells * cluster * per_block <= MAX_READERS else 1
        self.per_group = per_block * self.blocks_each
        if self.blocks_each < cluster and checks.race:
            batch.launch.note("race looked at each block alone: clusters of this size with so much shared memory need "
                              f"a table of more than {MAX_READERS} readers")
        self.written = np.zeros(cells, bool)
        blocks = self.written[:batch.capacity * space.stride // self.cell].reshape(batch.capacity, -1)
        self.variables = blocks[:, :space.size // self.cell]
        self.racing = checks.race
        self.writer = np.zeros(cells if self.racing else 0, np.int64)
        self.readers = np.zeros((cells, self.per_group) if self.racing else (0, 0), np.int64)
        self.timed = checks.asynchronous and any(op.opcode.startswith(_ASYNC_PROXY) for op in ops)
        self.pending = np.zeros(cells, np.uint8)
        self.source = np.zeros(cells, np.uint8)
        self.write_time = np.zeros(cells if self.timed else 0, np.int64)
        self.column = order.column[batch.warp_of] % self.per_group
        self.ident = (np.arange(batch.lanes) % 32 | order.column[batch.warp_of] << _WARP_SHIFT).astype(np.int64)
        self.every = batch.every
        self.log: list[tuple[Op, Array, Array, int, Array, bool]] = []
        self.entered = False
        self.reset()

    def reset(self) -> None:
        self.written[:] = False
        self.complete = False
        self.pending[:] = 0
        self.outstanding = 0
        self.source[:] = 0
        self.sources = 0
        self.writer[:] = 0
        if self.entered:
            self.readers[:] = 0
            self.entered = False
        self.write_time[:] = 0
        self.log.clear()
        self.unordered_writes = self.unordered_reads = False
        self.fenced = np.zeros(self.batch.warps, np.int64)
        self.clock = 0

    # -- accesses

    def cells(self, offsets: Array, size: int) -> Array:
        first = offsets // self.cell
        if size <= self.cell:
            return first[:, None]
        return first[:, None] + np.arange(size // self.cell)

    def distinct(self, offsets: Array, size: int) -> Array:
        """The cells of accesses near each other, each once and in order."""
        cells = self.cells(offsets, size).reshape(-1)
        if not cells.size:
            return cells
        first = int(cells.min())
        touched = np.zeros(int(cells.max()) - first + 1, bool)
        touched[cells - first] = True
        return np.flatnonzero(touched) + first

    def access(self, site: Site, lanes: Array | None, offsets: Array, size: int, data: Array | None = None) -> None:
        """Record and check an access of the lanes (None: all) to buffer offsets; ``data`` are the values stored."""
        if not offsets.size:
            return
        where = self.every if lanes is None else lanes
        if site.keeps and data is not None:
            where, offsets = site.changed(where, offsets, data, size)
            size, data = 1, None
            if not offsets.size:
                return
        if not site.write:
            self._read(site, where, offsets, size)
            return
        cells = self.cells(offsets, size)
        if self.checks.asynchronous:
            if self.outstanding:
                self._check_pending(site, where, cells)
            if self.sources:
                self._check_source(site.op, where, cells)
        if site.reads and not site.keeps and self.checks.uninitialised:
            self._check_written(site.op, where, cells)
        if not self.complete:
            self.written[cells] = True
        if self.timed:
            self.clock += 1
            self.write_time[cells] = self.clock
        if self.racing:
            self.record_write(site.op, where, cells, STRONG if site.strong else 0, offsets=offsets, data=data)

    def _read(self, site: Site, where: Array, offsets: Array, size: int) -> None:
        if self.outstanding and self.checks.asynchronous:
            self._check_pending(site, where, self.cells(offsets, size))
        if not site.tracks and self.checks.uninitialised and not self.all_written():
            self._check_written(site.op, where, self.cells(offsets, size))
        if self.racing:
            self.record_read(site.op, where, offsets, size, site.strong)

    def all_written(self) -> bool:
        """Whether nothing of the blocks' shared memory is undefined."""
        if not self.complete:
            self.complete = bool(self.variables.all())
        return self.complete

    def undefined(self, offsets: Array, size: int, count: int) -> Array | None:
        """Which elements of an access, (n,) or (n, count), were never written; None where all were."""
        if self.all_written() or not offsets.size:
            return None
        cells = self.cells(offsets, size * count)
        ready = self.written[cells] | (cells >= self.limit)
        if ready.all():
            return None
        per_element = max(1, size // self.cell)
        missing: Array = ~np.asarray(ready.reshape(offsets.size, count, per_element).all(axis=2))
        return missing[:, 0] if count == 1 else missing

    def forget(self, offsets: Array, size: int, count: int, undefined: Array) -> None:
        """Elements that were stored with undefined values."""
        cells = self.cells(offsets, size * count)
        per_element = max(1, size // self.cell)
        elements = np.repeat(undefined.reshape(offsets.size, count), per_element, axis=1)
        self.written[cells[elements]] = False
        self.complete = False

    def _check_written(self, op: Op, where: Array, cells: Array) -> None:
        ready = self.written[cells]
        if not ready.all():
            bad = (~ready & (cells < self.limit)).any(axis=1)
            if bad.any():
                lane = int(np.argmax(bad))
                self.fault("uninitialised", "shared memory is read before it is written", op, where, lane, cells,
                           int(bad.sum()))

    def fault(self, check: str, message: str, op: Op, where: Array, lane: int, cells: Array, count: int,
              other: Other | None = None) -> None:
        address = int(cells[lane, 0]) * self.cell % self.batch.shared.stride
        named = self.batch.launch.program.decoded.describe_shared(address, self.batch.launch.dynamic_base)
        self.batch.fault(check, f"{message}, at {named}shared address {address:#x}", op, int(where[lane]), address,
                         count, other)

    # -- races

    def record_read(self, op: Op, where: Array, offsets: Array, size: int, strong: bool) -> None:
        """Check a read against the writers, where it is not ordered after all of them, and note it."""
        order = self.order
        if self.unordered_writes:
            cells = self.cells(offsets, size)
            previous = self.writer[cells]
            if (int(previous.max()) >> _EPOCH_SHIFT) > order.floor:
                bad = self._unordered(where, previous)
                if strong:
                    bad &= (previous & STRONG) == 0
                bad &= (cells < self.limit) & self._same_group(where, cells)
                if bad.any():
                    self._against_writer("reads", op, where, cells, bad, previous)
        self.log.append((op, where, offsets, size, order.epoch, strong))
        if len(self.log) > MAX_LOG:
            self.flush()

    def flush(self) -> None:
        """Enter the noted reads into the table."""
        self.unordered_reads = self.entered = True
        for op, where, offsets, size, epochs, strong in self.log:
            flag = self.batch.launch.number(op) << _R_OP_SHIFT | (_R_STRONG if strong else 0)
            packed = epochs[self.batch.warp_of[where]] << _R_EPOCH_SHIFT | where & _LANE | flag
            self.readers[self.cells(offsets, size), self.column[where][:, None]] = packed[:, None]
        self.log.clear()

    def record_write(self, op: Op, where: Array, cells: Array, flag: int, *, agent: bool = False,
                     offsets: Array | None = None, data: Array | None = None) -> None:
        if self.log:
            self.flush()
        order = self.order
        previous = self.writer.take(cells)
        if (int(previous.max()) >> _EPOCH_SHIFT) > order.floor:
            bad = self._unordered(where, previous)
            if flag & STRONG:
                bad &= (previous & STRONG) == 0
            bad &= (cells < self.limit) & self._same_group(where, cells)
            if data is not None and offsets is not None and bad.any():
                bad &= self._changes(offsets, data)[:, None]
            if bad.any():
                self._against_writer("writes", op, where, cells, bad, previous)
        if self.unordered_reads:
            reads = self.readers[cells]
            if (int(reads.max()) >> _R_EPOCH_SHIFT) > order.floor:
                self._check_readers(op, where, cells, reads, bool(flag & STRONG))
        number = self.batch.launch.number(op) << _OP_SHIFT | flag | (AGENT if agent else 0)
        packed = order.epochs_of(where) << _EPOCH_SHIFT
        packed |= self.ident if where is self.every else self.ident[where]
        packed |= number
        put_rows(self.writer, cells, packed)
        self.unordered_writes = True
        if flag & STRONG:
            several = self.writer[cells] != packed[:, None]
            if several.any():
                self.writer[cells[several]] |= AGENT

    def _changes(self, offsets: Array, data: Array) -> Array:
        """Which lanes store what is not there already; threads that write one value do not race with each other."""
        count = data.shape[1] if data.ndim > 1 else 1
        differs = self.batch.shared.views.load(offsets, data.dtype.itemsize, count) != data
        return differs.any(axis=1) if differs.ndim > 1 else differs

    def _unordered(self, where: Array, packed: Array) -> Array:
        """Whether earlier writes are concurrent with the present accesses of the lanes."""
        order = self.order
        warp, epoch = (packed >> _WARP_SHIFT) & _WARPS, packed >> _EPOCH_SHIFT
        recent = epoch > order.known[self.batch.warp_of[where][:, None], warp]
        same = ((packed & _THREAD) == self.ident[where][:, None]) & ((packed & AGENT) == 0)
        met = order.met(where, warp, packed & _LANE, epoch)
        return recent & ~(same if met is None else same | met)

    def _check_readers(self, op: Op, where: Array, cells: Array, reads: Array, strong: bool) -> None:
        order = self.order
        warps = self.batch.warp_of[where]
        first = order.column[warps] // self.per_group * self.per_group
        known = order.known[warps[:, None], first[:, None] + np.arange(self.per_group)]
        late = (reads >> _R_EPOCH_SHIFT) > known[:, None, :]
        if strong:
            late &= (reads & _R_STRONG) == 0
        own = self.column[where][:, None, None].repeat(cells.shape[1], 1)
        last = np.take_along_axis(reads, own, axis=2)[..., 0]
        harmless = (last & _LANE) == (where & _LANE)[:, None]
        met = order.met(where, np.broadcast_to(order.column[warps][:, None], last.shape), last & _LANE,
                        last >> _R_EPOCH_SHIFT)
        if met is not None:
            harmless |= met
        np.put_along_axis(late, own, (np.take_along_axis(late, own, axis=2)[..., 0] & ~harmless)[..., None], axis=2)
        late &= ((cells < self.limit) & self._same_group(where, cells))[..., None]
        bad = late.any(axis=2)
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            column = int(np.argmax(bad[row]))
            theirs = int(np.argmax(late[row, column]))
            other = int(reads[row, column, theirs])
            self._race("writes", "reads", op, where, row, cells[:, column:], int(bad.any(axis=1).sum()),
                       int(first[row]) + theirs, other & _LANE, other >> _R_OP_SHIFT & _OPS)

    def _same_group(self, where: Array, cells: Array) -> Array:
        block = cells * self.cell // self.batch.shared.stride
        result: Array = block // self.blocks_each == self.batch.block_of[where][:, None] // self.blocks_each
        return result

    def _against_writer(self, mine: str, op: Op, where: Array, cells: Array, bad: Array, packed: Array) -> None:
        row = int(np.argmax(bad.any(axis=1)))
        column = int(np.argmax(bad[row]))
        other = int(packed[row, column])
        self._race(mine, "writes", op, where, row, cells[:, column:], int(bad.any(axis=1).sum()),
                   other >> _WARP_SHIFT & _WARPS, other & _LANE, other >> _OP_SHIFT & _OPS)

    def _race(self, mine: str, theirs: str, op: Op, where: Array, row: int, cells: Array, count: int, warp: int,
              lane: int, number: int) -> None:
        per_block = self.order.per_block
        thread, rank = warp % per_block * 32 + lane, warp // per_block
        size = self.batch.launch.cluster_size
        same = rank == int(self.batch.block_of[where[row]]) % size
        other = Other(theirs, self.batch.launch.operation(number), thread, None if same else rank)
        message = f"race: a thread {mine} what {other.text()} without a barrier between"
        self.fault("race", message, op, where, row, cells, count, other)

    def ordered(self) -> None:
        """All that came before is ordered before all that comes."""
        self.log.clear()
        self.unordered_writes = self.unordered_reads = False

    # -- asynchronous copies

    def _check_pending(self, site: Site, where: Array, cells: Array) -> None:
        bad = (self.pending[cells] != 0).any(axis=1)
        if bad.any():
            verb = "written" if site.write else "read"
            message = f"shared memory is {verb} before the asynchronous copy into it was waited for"
            self.fault("async", message, site.op, where, int(np.argmax(bad)), cells, int(bad.sum()))

    def _check_source(self, op: Op, where: Array, cells: Array) -> None:
        bad = (self.source[cells] != 0).any(axis=1)
        if bad.any():
            self.fault("async", "shared memory is written while an asynchronous copy may still read it", op, where,
                       int(np.argmax(bad)), cells, int(bad.sum()))

    def bulk_source(self, offsets: Array, size: int, ends: bool) -> None:
        """A bulk copy reads shared memory from now on, or has read it."""
        cells = self.distinct(offsets, size)
        if ends:
            self.source[cells] -= np.minimum(self.source[cells], 1)
        else:
            self.source[cells] += 1
        self.sources += -1 if ends else 1

    def async_issue(self, op: Op, where: Array, offsets: Array, size: int) -> None:
        """A copy into shared memory begins: it may write from now on."""
        cells = self.cells(offsets, size)
        if self.checks.asynchronous:
            again = (self.pending[cells] != 0).any(axis=1)
            if again.any():
                self.fault("async", "two asynchronous copies into the same shared memory are in flight", op, where,
                           int(np.argmax(again)), cells, int(again.sum()))
        if self.racing:
            self.record_write(op, where, cells, 0)
        self.pending[cells] = 1
        self.outstanding += cells.size

    def async_done(self, op: Op, where: Array, offsets: Array, size: int) -> None:
        """The copy has taken effect; its threads see it, others after a barrier."""
        cells = self.cells(offsets, size)
        self._landed(cells)
        if self.racing:
            epoch = self.order.epochs_of(where)
            number = self.batch.launch.number(op) << _OP_SHIFT
            self.writer[cells] = (self.ident[where] | epoch << _EPOCH_SHIFT | number)[:, None]
            self.unordered_writes = True

    def _landed(self, cells: Array) -> None:
        self.pending[cells] = 0
        self.outstanding = max(0, self.outstanding - cells.size)
        self.written[cells] = True

    # -- the async proxy

    def bulk_issue(self, op: Op, lane: int, offsets: Array, size: int) -> None:
        """A bulk copy into shared memory by one thread begins."""
        if not offsets.size:
            return
        cells = self.distinct(offsets, size)[:, None]
        where = np.full(len(cells), lane)
        if self.checks.asynchronous and (self.pending[cells] != 0).any():
            message = "two asynchronous copies into the same shared memory are in flight"
            self.fault("async", message, op, where, 0, cells, 1)
        if self.racing:
            self.record_write(op, where, cells, 0, agent=True)
        self.pending[cells] = 1
        self.outstanding += cells.size

    def bulk_done(self, op: Op, lane: int, offsets: Array, size: int, barrier: int) -> None:
        """The bulk copy has landed; whoever waits for the mbarrier sees it."""
        cells = self.distinct(offsets, size)
        self._landed(cells)
        order = self.order
        epoch = order.deliver(barrier, lane) if barrier >= 0 else int(order.epoch[self.batch.warp_of[lane]])
        if self.racing:
            number = self.batch.launch.number(op) << _OP_SHIFT
            self.writer[cells] = int(self.ident[lane]) | epoch << _EPOCH_SHIFT | AGENT | number
            self.unordered_writes = True

    def proxy_read(self, op: Op, lanes: Array, offsets: Array, size: int, what: str) -> None:
        """The async proxy reads shared memory for these lanes: earlier generic writes need a proxy fence."""
        cells = self.distinct(offsets, size)
        where = np.full(1, int(lanes[0]))
        if self.checks.uninitialised and not self.written[cells].all():
            self.fault("uninitialised", f"{what} reads shared memory that was never written", op, where, 0,
                       cells[~self.written[cells]][None], 1)
        if self.checks.asynchronous and (self.pending[cells] != 0).any():
            self.fault("async", f"{what} reads shared memory before the asynchronous copy into it was waited for", op,
                       where, 0, cells[None], 1)
        if self.checks.asynchronous:
            self._check_fenced(op, lanes, cells, where, what)
        if self.racing and len(cells):
            self.record_read(op, np.full(len(cells), int(lanes[0])), cells * self.cell, self.cell, False)

    def _check_fenced(self, op: Op, lanes: Array, cells: Array, where: Array, what: str) -> None:
        times = self.write_time[cells]
        if not times.any():
            return
        fenced = np.zeros(cells.shape, np.int64)
        if self.racing:
            size = self.batch.launch.cluster_size
            group = cells * self.cell // self.batch.shared.stride // size
            writers = group * self.order.per_group + ((self.writer[cells] >> _WARP_SHIFT) & _WARPS)
            fenced = self.fenced[np.minimum(writers, len(self.fenced) - 1)]
        own = self.fenced[np.unique(self.batch.warp_of[lanes])].max()
        bad = (times > np.maximum(fenced, own)) & (times > 0)
        if bad.any():
            self.fault("proxy", f"{what} reads what generic stores wrote without fence.proxy.async between", op, where,
                       0, cells[bad][None], int(bad.sum()))

    def proxy_written(self, offsets: Array, size: int) -> None:
        """The async proxy wrote these bytes: no fence is needed before it reads them."""
        cells = self.distinct(offsets, size)
        self.written[cells] = True
        if self.timed:
            self.write_time[cells] = 0

    def proxy_fence(self, mask: Array) -> None:
        self.clock += 1
        self.fenced[np.unique(self.batch.warp_of[mask])] = self.clock
