"""Tensor memory: 128 lanes of 512 32-bit columns for each block, who allocated it, and who may touch it when.

Order between warps is that of the tcgen05 rules: an access of one warp happens before that of another if the first
executes ``tcgen05.fence::before_thread_sync`` and releases (``tcgen05.commit`` does both for the operations of its
thread), and the second acquires and executes ``tcgen05.fence::after_thread_sync``. Accesses are recorded for every 16
lanes of a column.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tilus.simulator.machine import Array, Batch
from tilus.simulator.resolved import Op

LANES, COLUMNS, HALVES = 128, 512, 8


@dataclass
class Issued:
    """An asynchronous operation (mma, cp, shift) of a lane that has not taken effect."""

    lane: int
    run: Callable[[], None]
    writes: list[tuple[int, Array, Array]]
    reads: list[tuple[int, Array, Array]]
    serial: int = 0


@dataclass
class Allocation:
    column: int
    count: int
    op: Op
    lane: int


@dataclass
class BlockState:
    """Allocations of a block."""

    allocations: dict[int, Allocation] = field(default_factory=dict)
    relinquished: bool = False


class TensorMemory:
    """Tensor memory of the blocks of a batch; a region is (block, lanes, columns)."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        blocks = batch.capacity
        self.words = np.zeros((blocks, LANES, COLUMNS), np.uint32)
        self.written = np.zeros((blocks, LANES, COLUMNS), bool)
        # Words that were written with undefined values.
        self.undefined = np.zeros((blocks, LANES, COLUMNS), bool)
        self.allocated = np.zeros((blocks, COLUMNS), bool)
        self.writing = np.zeros((blocks, HALVES, COLUMNS), np.int32)
        self.reading = np.zeros((blocks, HALVES, COLUMNS), np.int32)
        self.storing = np.zeros((blocks, HALVES, COLUMNS), np.int32)
        self.per_block = batch.stride // 32
        self.writer_warp = np.zeros((blocks, HALVES, COLUMNS), np.int16)
        self.writer_epoch = np.zeros((blocks, HALVES, COLUMNS), np.int64)
        self.readers = np.zeros((blocks, self.per_block, HALVES, COLUMNS), np.int64)
        self.blocks = [BlockState() for _ in range(blocks)]
        self.pipe: list[Issued] = []
        self.serial = 0
        self.fences: list[list[int]] = [[] for _ in range(batch.warps)]
        self.seen = np.zeros((batch.warps, batch.order.per_group), np.int64)

    # -- allocation

    def allocate(self, block: int, count: int, op: Op, lane: int) -> int:
        """The first column of ``count`` free ones."""
        state = self.blocks[block]
        if count < 32 or count > COLUMNS or count & (count - 1):
            self.batch.fault("value", f"tcgen05.alloc of {count} columns: a power of two from 32 to 512 is expected",
                             op, lane)
            count = min(COLUMNS, max(32, 1 << (count - 1).bit_length() if count > 0 else 32))
        if state.relinquished:
            self.batch.fault("value", "tcgen05.alloc after tcgen05.relinquish_alloc_permit", op, lane)
        for start in range(0, COLUMNS, count):
            if not self.allocated[block, start:start + count].any():
                self.allocated[block, start:start + count] = True
                state.allocations[start] = Allocation(start, count, op, lane)
                return start
        self.batch.fault("value", f"tcgen05.alloc of {count} columns waits for ever: the block holds "
                         f"{int(self.allocated[block].sum())} of {COLUMNS}", op, lane)
        return 0

    def free(self, block: int, address: int, count: int, op: Op, lane: int) -> None:
        start = address & 0xFFFF
        known = self.blocks[block].allocations.pop(start, None)
        if known is None or known.count != count or address >> 16:
            self.batch.fault("value", f"tcgen05.dealloc of {count} columns at {address:#x}, which tcgen05.alloc did "
                             "not return", op, lane)
            return
        columns = slice(start, start + count)
        busy = self.writing[block][:, columns].any() or self.reading[block][:, columns].any()
        if busy and self.batch.launch.checks.asynchronous:
            self.batch.fault("async", "tensor memory is deallocated while a tcgen05 operation on it is in flight", op,
                             lane)
        self.allocated[block, columns] = False
        self.written[block, :, columns] = False

    def on_exit(self) -> None:
        """Blocks that have ended must have given their columns back."""
        alive = self.batch.live.reshape(self.batch.capacity, -1).any(axis=1)
        for block in np.flatnonzero(~alive):
            for entry in self.blocks[block].allocations.values():
                self.batch.fault("value", f"the block ends without tcgen05.dealloc of these {entry.count} columns",
                                 entry.op, entry.lane)
            self.blocks[block].allocations.clear()

    # -- accesses

    def locate(self, op: Op, lane: int, block: int, rows: Array, columns: Array) -> tuple[Array, Array]:
        """The region clipped to the memory; a fault where it is outside or not allocated."""
        if int(rows.max()) >= LANES or int(columns.max()) >= COLUMNS:
            self.batch.fault("bounds", f"tensor memory lane {int(rows.max())}, column {int(columns.max())}: there are "
                             f"{LANES} lanes of {COLUMNS} columns", op, lane)
            rows, columns = np.minimum(rows, LANES - 1), np.minimum(columns, COLUMNS - 1)
        held = self.allocated[block, columns]
        if not held.all():
            column = int(columns.reshape(-1)[int(np.argmin(held.reshape(-1)))])
            self.batch.fault("bounds", f"tensor memory column {column} is not allocated", op, lane)
        return rows, columns

    def access(self, op: Op, lane: int, block: int, rows: Array, columns: Array, write: bool,
               generic: bool = True) -> None:
        """Check and record an access. ``generic``: by ld or st; others follow earlier mma and cp in order."""
        batch, checks = self.batch, self.batch.launch.checks
        half, column = _cells(rows, columns)
        if checks.asynchronous:
            if generic and self.writing[block, half, column].any():
                verb = "written" if write else "read"
                batch.fault("async", f"tensor memory is {verb} before the tcgen05 operation that writes it was "
                            "committed and waited for", op, lane)
            if generic and write and self.reading[block, half, column].any():
                batch.fault("async", "tensor memory is written while a tcgen05 operation in flight reads it", op, lane)
            if self.storing[block, half, column].any():
                batch.fault("async", "tensor memory is used before tcgen05.wait::st", op, lane)
        if not (write or generic) and checks.uninitialised and self.missing(block, rows, columns).any():
            batch.fault("uninitialised", "tensor memory is read before it is written", op, lane)
        if write:
            self.written[block, rows, columns] = True
            self.undefined[block, rows, columns] = False
        if checks.race and block == int(batch.block_of[lane]):
            self._order(op, lane, block, half, column, write)

    def missing(self, block: int, rows: Array, columns: Array) -> Array:
        """Which words are undefined: never written, or written with undefined values."""
        return ~self.written[block, rows, columns] | self.undefined[block, rows, columns]

    def _order(self, op: Op, lane: int, block: int, half: Array, columns: Array, write: bool) -> None:
        warp = int(self.batch.warp_of[lane])
        column = warp % self.per_block
        others = self.writer_epoch[block, half, columns]
        self._compare(op, lane, block, warp, self.writer_warp[block, half, columns], others, "writes", write)
        if write:
            for other in range(self.per_block):
                if other != column:
                    epochs = self.readers[block, other][half, columns]
                    self._compare(op, lane, block, warp, np.full(epochs.shape, other), epochs, "reads", write)
        epoch = int(self.batch.order.epoch[warp])
        if write:
            self.writer_warp[block, half, columns] = column
            self.writer_epoch[block, half, columns] = epoch
        else:
            self.readers[block, column][half, columns] = epoch

    def _compare(self, op: Op, lane: int, block: int, warp: int, owners: Array, epochs: Array, theirs: str,
                 write: bool) -> None:
        column = warp % self.per_block
        old = epochs != 0
        if not old.any():
            return
        for value in set((owners[old].astype(np.int64) << 40 | epochs[old]).tolist()):
            owner, epoch = value >> 40, value & ((1 << 40) - 1)
            if owner == column:
                continue
            fences = self.fences[block * self.per_block + owner]
            at = bisect_right(fences, epoch)
            in_group = (block * self.per_block + owner) % self.seen.shape[1]
            if at < len(fences) and self.seen[warp, in_group] >= fences[at]:
                continue
            verb = "written" if write else "read"
            ordered = self.batch.order.known[warp, in_group] >= epoch
            missing = "tcgen05.fence::before_thread_sync" if at == len(fences) else \
                "tcgen05.fence::after_thread_sync" if ordered else "a barrier and tcgen05.fence::after_thread_sync"
            # With a barrier between, hardware is known to keep the order without the fences.
            self.batch.fault("race", f"race: tensor memory is {verb} that warp {owner} of the block {theirs}, "
                             f"without {missing} between", op, lane, level="formal" if ordered else "error")
            self._excuse(warp, in_group, block * self.per_block + owner, epoch, bool(at == len(fences)))
            return

    def _excuse(self, warp: int, column: int, owner: int, epoch: int, unfenced: bool) -> None:
        """What follows from a missing fence that was told is not told again."""
        if unfenced:
            self.fences[owner].append(epoch + 1)
        self.seen[warp, column] = max(int(self.seen[warp, column]), epoch + 1)

    def fence_before(self, warps: Array) -> None:
        order = self.batch.order
        order.bump(warps)
        for warp in warps.tolist():
            self.fences[warp].append(int(order.epoch[warp]))

    def fence_after(self, warps: Array) -> None:
        self.seen[warps] = np.maximum(self.seen[warps], self.batch.order.known[warps])

    # -- the asynchronous operations

    def issue(self, entry: Issued) -> None:
        for table, regions in ((self.writing, entry.writes), (self.reading, entry.reads)):
            for block, rows, columns in regions:
                self._count(table, block, rows, columns, 1)
        self.serial += 1
        entry.serial = self.serial
        self.pipe.append(entry)

    def _count(self, table: Array, block: int, rows: Array, columns: Array, step: int) -> None:
        table[block][_cells(rows, columns)] += step

    def complete(self, lane: int, upto: int) -> None:
        """Carry out what the lane has issued, up to a serial number."""
        ready = [entry for entry in self.pipe if entry.lane == lane and entry.serial <= upto]
        chosen = set(map(id, ready))
        self.pipe = [entry for entry in self.pipe if id(entry) not in chosen]
        warp = int(self.batch.warp_of[lane])
        order = self.batch.order
        order.bump(warp)
        self.fences[warp].append(int(order.epoch[warp]))
        for entry in ready:
            entry.run()
            for block, rows, columns in entry.writes:
                self._count(self.writing, block, rows, columns, -1)
                if block == int(self.batch.block_of[lane]):
                    self.writer_epoch[block][_cells(rows, columns)] = int(order.epoch[warp]) - 1
            for block, rows, columns in entry.reads:
                self._count(self.reading, block, rows, columns, -1)


def _cells(rows: Array, columns: Array) -> tuple[Array, Array]:
    """Each (16 lanes, column) that a region touches, once."""
    touched = np.zeros(HALVES * COLUMNS, bool)
    touched[rows // 16 * COLUMNS + columns] = True
    cells = np.flatnonzero(touched)
    return cells // COLUMNS, cells % COLUMNS


def tensor_memory(batch: Batch) -> TensorMemory:
    """The tensor memory of a batch, made at its first use."""
    made: TensorMemory = batch.state.get("tensor memory") or batch.state.setdefault("tensor memory",
                                                                                  TensorMemory(batch))
    return made
