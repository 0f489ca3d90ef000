"""Shadow of global memory: races between threads, by happens-before over barriers, fences and atomics.

Accesses are recorded for cells of four bytes, or fewer where the kernel has narrower accesses. Most cells are written
once and never again: accesses are noted in logs, and entered into the tables only when they are needed. Those are, for
reads of an array that nothing was written to, its first write; for writes, an access to a cell that was written before.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilus.simulator.faults import Other
from tilus.simulator.history import History
from tilus.simulator.lanes import put_rows
from tilus.simulator.layout import GUARD
from tilus.simulator.machine import Array, Batch
from tilus.simulator.resolved import Op
from tilus.simulator.syntax import TYPE_BITS

if TYPE_CHECKING:
    from tilus.simulator.execution import Launch
    from tilus.simulator.sites import Pattern, Site

_SHIFT = 5
_THREAD_SHIFT, _OPS = 16, 0xFFFF     # a thread of the grid, plus one, above the number of the operation
LOG_BYTES = 1 << 27


def _granularity(launch: Launch) -> int:
    smallest = 4
    for op in launch.program.decoded.ops:
        if op.opcode.split(".", 1)[0] in ("st", "red", "atom"):
            kind = op.fields.get("t")
            if op.opcode.startswith("red") and op.fields.get("op") in ("and", "or"):
                return 1  # they touch some of the bytes
            if kind in TYPE_BITS:
                smallest = min(smallest, max(1, TYPE_BITS[kind] // 8))
    return smallest


@dataclass(frozen=True)
class _Access:
    """An access as it was, with the tables of its moment, which are replaced and never changed.

    Its offsets are ``first + delta``: accesses of one pattern share ``delta``, so that logs stay small.
    """

    op: Op
    strong: bool
    where: Array
    first: int
    delta: Array
    size: int
    grid_thread: Array
    warp_of: Array
    epoch: Array

    def offsets(self) -> Array:
        return self.delta + self.first if self.first else self.delta

    def threads(self) -> Array:
        """The threads of the grid, (n, 1)."""
        return self.grid_thread[self.where][:, None]

    def epochs(self) -> Array:
        """Their epochs, (n, 1)."""
        return self.epoch[self.warp_of[self.where]][:, None]


class GlobalShadow:
    """The last writer and some last readers of each cell, as threads of the grid with their epochs."""

    def __init__(self, launch: Launch, size: int, history: History) -> None:
        self.launch, self.history = launch, history
        self.cell = _granularity(launch)
        cells = size // self.cell + 8
        self.enabled = size <= launch.checks.global_limit
        if not self.enabled:
            launch.note(f"global_race was off: the arguments take {size} bytes, more than the limit of "
                        f"{launch.checks.global_limit} (Checks.global_limit)")
        count = cells if self.enabled else 0
        self.writer = np.zeros(count, np.int64)
        self.write_epoch = np.zeros(count, np.int32)      # twice the epoch, plus one for a strong write
        # The last reader, the last of another warp of its block, and the last of another block.
        self.readers = [np.zeros(count, np.int64) for _ in range(3)]
        self.read_epochs = [np.zeros(count, np.int32) for _ in range(3)]
        self.warps_per_block = (launch.threads + 31) // 32
        self.entered = False
        self.touched: set[int] = set()
        self.written = np.zeros(count, bool)
        self.reads: dict[int, list[_Access]] = {}
        self.writes: list[_Access] = []
        self.logged = 0

    def _cells(self, offsets: Array, size: int) -> Array:
        first = (offsets // self.cell)[:, None]
        return first if size <= self.cell else first + np.arange(size // self.cell)

    def access(self, site: Site, batch: Batch, lanes: Array | None, offsets: Array, size: int, data: Array | None,
               pattern: Pattern | None) -> None:
        """Record and check an access; ``data`` are the values stored; a pattern is that of the offsets."""
        if not self.enabled or not offsets.size or (site.read_only and not site.write):
            return
        where = batch.every if lanes is None else lanes
        if site.fault:
            kept = offsets >= GUARD
            offsets, where = offsets[kept], where[kept]
            data = data[kept] if data is not None else None
            pattern = None
            if not offsets.size:
                return
        if site.keeps and data is not None:
            where, offsets = site.changed(where, offsets, data, size)
            size, data, pattern = 1, None, None
            if not offsets.size:
                return
        first, delta = (0, offsets) if pattern is None else (int(offsets[0]), pattern.delta)
        order = batch.order
        access = _Access(site.op, site.strong, where, first, delta, size, order.grid_thread, batch.warp_of, order.epoch)
        if not site.write and site.lo not in self.touched and site.hi and not site.strong:
            self._note(self.reads.setdefault(site.lo, []), access)
            return
        cells = self._cells(offsets, size)
        if site.write:
            self._touch(site)
            self._check_write(site, batch, access, cells, offsets, data)
            if cells.shape[1] == 1:
                self.written[cells[:, 0]] = True
            else:
                self.written[cells] = True
            self._note(self.writes, access)
            return
        if self._settled(cells):
            self._check_read(site, batch, access, cells)
        if not site.strong:
            self._enter(site.op, cells, access.threads(), access.epochs())

    # -- the logs

    def _note(self, log: list[_Access], access: _Access) -> None:
        log.append(access)
        self.logged += access.delta.nbytes
        if self.logged > LOG_BYTES:
            for start in list(self.reads):
                self._open(start)
            self._settle()

    def _settled(self, cells: Array) -> bool:
        """Whether any of the cells was written; the table of writers tells by whom."""
        if not self.written.take(cells).any():
            return False
        self._settle()
        return True

    def _settle(self) -> None:
        """Enter the noted writes into the table."""
        for access in self.writes:
            cells = self._cells(access.offsets(), access.size)
            put_rows(self.writer, cells, access.threads()[:, 0] + 1 << _THREAD_SHIFT | self.launch.number(access.op))
            put_rows(self.write_epoch, cells, 2 * access.epochs()[:, 0] + access.strong)
            self.logged -= access.delta.nbytes
        self.writes.clear()

    def _touch(self, site: Site) -> None:
        """The arrays that an access writes keep no log; where they are not known, none does."""
        if site.hi and not site.fault:
            if site.lo not in self.touched:
                self._open(site.lo)
        else:
            for start in self.launch.memory.starts.tolist():
                if start not in self.touched:
                    self._open(start)

    def _open(self, start: int) -> None:
        self.touched.add(start)
        for access in self.reads.pop(start, ()):
            self._enter(access.op, self._cells(access.offsets(), access.size), access.threads(), access.epochs())
            self.logged -= access.delta.nbytes

    def _enter(self, op: Op, cells: Array, thread: Array, epochs: Array) -> None:
        """Make the threads the last readers; one that they replace stays as that of another warp or block."""
        self.entered = True
        now = thread + 1 << _THREAD_SHIFT | self.launch.number(op)
        epochs = epochs.astype(np.int32)
        self._displace(cells, now, self.readers[0][cells], self.read_epochs[0][cells])
        self.readers[0][cells] = now
        self.read_epochs[0][cells] = epochs
        last = self.readers[0][cells]
        if (last != now).any():
            # Threads of one instruction that read one cell: the last of them stands in its place.
            self._displace(cells, last, np.broadcast_to(now, cells.shape), np.broadcast_to(epochs, cells.shape))

    def _displace(self, cells: Array, now: Array, old: Array, epochs: Array) -> None:
        before, after = (old >> _THREAD_SHIFT) - 1, (now >> _THREAD_SHIFT) - 1
        moved = (old != 0) & (before >> _SHIFT != after >> _SHIFT)
        if not moved.any():
            return
        per_block = self.warps_per_block << _SHIFT
        far = moved & (before // per_block != after // per_block)
        for slot, chosen in ((1, moved & ~far), (2, far)):
            self.readers[slot][cells[chosen]] = old[chosen]
            self.read_epochs[slot][cells[chosen]] = epochs[chosen]

    def forget(self, start: int, end: int) -> None:
        """Memory from ``start`` to ``end`` is new: nobody has touched it."""
        if self.enabled:
            self._settle()
            cells = slice(start // self.cell, end // self.cell)
            tables: list[Array] = [self.writer, self.write_epoch, self.written, *self.readers, *self.read_epochs]
            for table in tables:
                table[cells] = 0
            self.touched.add(start)
            self.reads.pop(start, None)

    # -- order

    def _ordered(self, batch: Batch, where: Array, mine: Array, other: Array, epoch: Array) -> Array:
        """Whether accesses of other threads at their epochs happened before the present ones of the lanes."""
        order = batch.order
        warp = other >> _SHIFT
        my_warp = batch.warp_of[where][:, None]
        first = my_warp // order.per_group * order.per_group
        base = order.grid_warp[my_warp]
        # Blocks of a cluster need not be neighbours in the grid, the warps of one block are.
        column = warp - base + my_warp - first if order.per_group == order.per_block else \
            order.cluster_column(my_warp, warp)
        near = (column >= 0) & (column < order.per_group) & (other >= 0)
        column = np.where(near, column, 0)
        result = (other == mine) | (near & (epoch <= order.known[my_warp, column]))
        met = order.met(where, np.where(near, column, -1), other & 31, epoch)
        if met is not None:
            result |= met & near
        if self.history.clocks:
            for row, place in np.argwhere(~result & (epoch > 0)).tolist():
                clock = self.history.clocks.get(int(order.grid_warp[my_warp[row, 0]]))
                if clock and clock.get(int(warp[row, place]), 0) >= int(epoch[row, place]):
                    result[row, place] = True
        return result

    def _report(self, batch: Batch, site: Site, where: Array, cells: Array, bad: Array, other: Array, mine: str,
                theirs: str) -> None:
        row = int(np.argmax(bad.any(axis=1)))
        column = int(np.argmax(bad[row]))
        thread, number = (int(other[row, column]) >> _THREAD_SHIFT) - 1, int(other[row, column]) & _OPS
        per_block = self.warps_per_block * 32
        party = Other(theirs, self.launch.operation(number), thread % per_block, None,
                      self.launch.block_coordinates(thread // per_block))
        offset = int(cells[row, column]) * self.cell
        batch.fault("global-race", f"race in global memory: a thread {mine} what {party.text()} without "
                    f"synchronisation, at {self.launch.memory.describe(offset)}", site.op, int(where[row]),
                    self.launch.memory.address(offset), int(bad.any(axis=1).sum()), party)

    def _check_read(self, site: Site, batch: Batch, access: _Access, cells: Array) -> None:
        thread = access.threads()
        writer, epochs = self.writer.take(cells), self.write_epoch.take(cells)
        suspect = (writer != 0) & (writer >> _THREAD_SHIFT != thread + 1)
        if site.strong:
            suspect &= (epochs & 1) == 0
        self._judge(site, batch, access.where, cells, thread, suspect, writer, epochs >> 1, "reads", "writes")

    def _judge(self, site: Site, batch: Batch, where: Array, cells: Array, thread: Array, suspect: Array,
               other: Array, epochs: Array, mine: str, theirs: str) -> bool:
        """Report accesses of suspects that no order puts before the present ones."""
        if not suspect.any():
            return False
        bad = suspect & ~self._ordered(batch, where, thread, (other >> _THREAD_SHIFT) - 1, np.where(suspect, epochs, 0))
        if bad.any():
            self._report(batch, site, where, cells, bad, other, mine, theirs)
            return True
        return False

    def _check_write(self, site: Site, batch: Batch, access: _Access, cells: Array, offsets: Array,
                     data: Array | None) -> None:
        before = self._settled(cells)
        if not before and not self.entered:
            return
        where, thread = access.where, access.threads()
        if before:
            writer, epochs = self.writer.take(cells), self.write_epoch.take(cells)
            suspect = (writer != 0) & (writer >> _THREAD_SHIFT != thread + 1)
            if site.strong:
                suspect &= (epochs & 1) == 0
            if data is not None and suspect.any():
                suspect &= self._changes(offsets, data)[:, None]
            self._judge(site, batch, where, cells, thread, suspect, writer, epochs >> 1, "writes", "writes")
        for readers, read in zip(self.readers, self.read_epochs, strict=True) if self.entered else ():
            reader = readers.take(cells)
            suspect = (reader != 0) & (reader >> _THREAD_SHIFT != thread + 1)
            if self._judge(site, batch, where, cells, thread, suspect, reader, read[cells], "writes", "reads"):
                return

    def _changes(self, offsets: Array, data: Array) -> Array:
        """Which lanes store what is not there already; threads that write one value do not race with each other."""
        count = data.shape[1] if data.ndim > 1 else 1
        differs = self.launch.memory.views.load(offsets, data.dtype.itemsize, count) != data
        return differs.any(axis=1) if differs.ndim > 1 else differs
