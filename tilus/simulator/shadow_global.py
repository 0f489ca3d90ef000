"""Shadow of global memory: races between threads, by happens-before over barriers, fences and atomics.

To stay affordable, order is tracked between warps: each warp of the grid has a clock of the other warps it has
synchronised with, kept sparse. Accesses are recorded for cells of four bytes, or fewer where the kernel has narrower
accesses.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tilus.simulator.barriers import warp_bits
from tilus.simulator.machine import Array, Batch, Group
from tilus.simulator.syntax import TYPE_BITS

if TYPE_CHECKING:
    from tilus.simulator.launch import Launch
    from tilus.simulator.memory import Part, Site

_SHIFT = 5


def _granularity(launch: Launch) -> int:
    smallest = 4
    for op in launch.program.decoded.ops:
        if op.opcode.split(".", 1)[0] in ("st", "red", "atom"):
            kind = op.fields.get("t")
            if kind in TYPE_BITS:
                smallest = min(smallest, max(1, TYPE_BITS[kind] // 8))
    return smallest


Clock: TypeAlias = dict[int, int]
"""Warp of the grid to the last epoch of it that is known to have happened before."""
Entries: TypeAlias = dict[tuple[bool, int], Clock]
"""Releases to a variable: (beyond the block?, block of the releasing thread) to what was released."""


def join(clock: Clock, other: Clock) -> None:
    """Raise ``clock`` to the maximum of both."""
    for key, value in other.items():
        if value > clock.get(key, 0):
            clock[key] = value


class GlobalShadow:
    """The last writer and some last readers of each cell, as threads of the grid with their epochs."""

    def __init__(self, launch: Launch, size: int) -> None:
        self.launch = launch
        self.cell = _granularity(launch)
        cells = size // self.cell + 8
        self.enabled = size <= launch.checks.global_limit
        if not self.enabled:
            launch.note(f"global_race was off: the arguments take {size} bytes, more than the limit of "
                        f"{launch.checks.global_limit} (Checks.global_limit)")
        count = cells if self.enabled else 0
        self.writer = np.zeros(count, np.int64)
        self.write_epoch = np.zeros(count, np.int32)
        self.write_atomic = np.zeros(count, bool)
        # The last reader, the last of another warp of its block, and the last of another block.
        self.readers = [np.zeros(count, np.int64) for _ in range(3)]
        self.read_epochs = [np.zeros(count, np.int32) for _ in range(3)]
        self.warps_per_block = (launch.threads + 31) // 32
        warps = launch.blocks * self.warps_per_block
        self.epoch = np.ones(warps, np.int32)
        self.block_epoch = np.zeros(warps, np.int32)
        self.warp_epoch = np.zeros(warps, np.int32)
        self.lanes_known: dict[int, Array] = {}
        self.clocks: dict[int, Clock] = {}
        self.variables: dict[object, Entries] = {}
        self.fenced: dict[int, dict[bool, Clock]] = {}
        self.acquiring: dict[int, Entries] = {}

    def _threads(self, batch: Batch, lanes: Array | None) -> Array:
        where = np.arange(batch.lanes) if lanes is None else lanes
        block = batch.blocks[np.minimum(batch.block_of[where], len(batch.blocks) - 1)]
        result: Array = block * (self.warps_per_block * 32) + batch.thread_of[where]
        return result

    def access(self, site: Site, batch: Batch, lanes: Array | None, offsets: Array, size: int) -> None:
        """Record and check an access."""
        if not self.enabled or not offsets.size:
            return
        cells = (offsets // self.cell)[:, None] + np.arange(max(1, size // self.cell))
        thread = self._threads(batch, lanes)[:, None]
        atomic = site.atomic
        if site.write:
            self._check_write(site, batch, lanes, cells, thread, atomic)
            epoch = self.epoch[thread >> _SHIFT]
            self.writer[cells] = thread + 1
            self.write_epoch[cells] = epoch
            self.write_atomic[cells] = atomic
            return
        weak = ".volatile" not in site.op.opcode and site.op.fields.get("sem") is None
        self._check_read(site, batch, lanes, cells, thread, weak)
        if weak:
            self._note_readers(cells, thread)

    def _note_readers(self, cells: Array, thread: Array) -> None:
        """Make the threads the last readers; one that they replace stays as that of another warp or block."""
        now, epochs = thread + 1, self.epoch[thread >> _SHIFT]
        self._displace(cells, now, self.readers[0][cells], self.read_epochs[0][cells])
        self.readers[0][cells] = now
        self.read_epochs[0][cells] = epochs
        last = self.readers[0][cells]
        if (last != now).any():
            # Threads of one instruction that read one cell: the last of them stands in its place.
            self._displace(cells, last, np.broadcast_to(now, cells.shape), np.broadcast_to(epochs, cells.shape))

    def _displace(self, cells: Array, now: Array, old: Array, epochs: Array) -> None:
        moved = (old != 0) & ((old - 1) >> _SHIFT != (now - 1) >> _SHIFT)
        if not moved.any():
            return
        per_block = self.warps_per_block << _SHIFT
        far = moved & ((old - 1) // per_block != (now - 1) // per_block)
        for slot, chosen in ((1, moved & ~far), (2, far)):
            self.readers[slot][cells[chosen]] = old[chosen]
            self.read_epochs[slot][cells[chosen]] = epochs[chosen]

    def _ordered(self, mine: Array, other: Array, epoch: Array) -> Array:
        """Whether accesses of other threads at their epochs happened before the present ones."""
        my_warp, warp = mine >> _SHIFT, other >> _SHIFT
        same_block = my_warp // self.warps_per_block == warp // self.warps_per_block
        result = (other == mine) | (same_block & (epoch <= self.block_epoch[warp]))
        result |= (my_warp == warp) & (epoch <= self.warp_epoch[warp])
        open_cases = np.argwhere(~result & (epoch > 0))
        for row, column in open_cases:
            number = int(my_warp[row, 0] if my_warp.shape[1] == 1 else my_warp[row, column])
            if number == int(warp[row, column]) and number in self.lanes_known:
                lane = int(mine[row, 0] if mine.shape[1] == 1 else mine[row, column]) & 31
                if self.lanes_known[number][lane, int(other[row, column]) & 31] >= int(epoch[row, column]):
                    result[row, column] = True
                    continue
            clock = self.clocks.get(number)
            if clock and clock.get(int(warp[row, column]), 0) >= int(epoch[row, column]):
                result[row, column] = True
        return result

    def _report(self, batch: Batch, site: Site, lanes: Array | None, bad: Array, other: Array, text: str) -> None:
        row = int(np.argmax(bad.any(axis=1)))
        column = int(np.argmax(bad[row]))
        thread = int(other[row, column])
        per_block = self.warps_per_block * 32
        batch.fault("global-race", f"race in global memory: {text} thread {thread % per_block} of block "
                    f"{thread // per_block} without synchronisation", site.op,
                    row if lanes is None else int(lanes[row]), count=int(bad.any(axis=1).sum()))

    def _check_read(self, site: Site, batch: Batch, lanes: Array | None, cells: Array, thread: Array,
                    weak: bool) -> None:
        writer = self.writer[cells]
        if not writer.any():
            return
        suspect = (writer != 0) & (writer != thread + 1) & (weak | ~self.write_atomic[cells])
        if not suspect.any():
            return
        bad = suspect & ~self._ordered(thread, writer - 1, np.where(suspect, self.write_epoch[cells], 0))
        if bad.any():
            self._report(batch, site, lanes, bad, writer - 1, "reads what was written by")

    def _check_write(self, site: Site, batch: Batch, lanes: Array | None, cells: Array, thread: Array,
                     atomic: bool) -> None:
        writer = self.writer[cells]
        if writer.any():
            suspect = (writer != 0) & (writer != thread + 1)
            if atomic:
                suspect &= ~self.write_atomic[cells]
            if suspect.any():
                bad = suspect & ~self._ordered(thread, writer - 1, np.where(suspect, self.write_epoch[cells], 0))
                if bad.any():
                    self._report(batch, site, lanes, bad, writer - 1, "overwrites what was written by")
        for readers, epochs in zip(self.readers, self.read_epochs, strict=True):
            reader = readers[cells]
            suspect = (reader != 0) & (reader != thread + 1)
            if suspect.any():
                bad = suspect & ~self._ordered(thread, reader - 1, np.where(suspect, epochs[cells], 0))
                if bad.any():
                    self._report(batch, site, lanes, bad, reader - 1, "overwrites what was read by")
                    return

    # -- order

    def barrier(self, batch: Batch, lanes: Array) -> None:
        """Threads of each block meet."""
        threads = self._threads(batch, np.flatnonzero(lanes))
        warps = np.unique(threads >> _SHIFT)
        self.block_epoch[warps] = self.epoch[warps]
        self.epoch[warps] += 1
        if self.clocks:
            self._merge_blocks(warps)

    def warp_sync(self, batch: Batch, mask: Array, together: Array) -> None:
        """Lanes of each warp meet, or sets of them: ``together`` has for each lane those it meets as bits."""
        lanes = np.flatnonzero(mask)
        threads = self._threads(batch, lanes)
        alive = np.repeat(warp_bits(batch.live), 32)
        whole = (together[lanes] | ~alive[lanes]) == 0xFFFFFFFF
        if not whole.all():
            self._meet_in_parts(threads[~whole], together[lanes][~whole])
        full = np.unique(threads[whole] >> _SHIFT)
        self.warp_epoch[full] = self.epoch[full]
        self.epoch[np.unique(threads >> _SHIFT)] += 1

    def _meet_in_parts(self, threads: Array, together: Array) -> None:
        """Lanes learn of the accesses of the lanes of their part alone."""
        bits = np.arange(32, dtype=np.uint32)
        for warp in np.unique(threads >> _SHIFT).tolist():
            known = self.lanes_known.setdefault(warp, np.zeros((32, 32), np.int64))
            here = np.zeros(32, bool)
            here[threads[threads >> _SHIFT == warp] & 31] = True
            masks = np.zeros(32, np.uint32)
            masks[threads[threads >> _SHIFT == warp] & 31] = together[threads >> _SHIFT == warp]
            meets = ((masks[:, None] >> bits) & 1).astype(bool) & here & here[:, None]
            joined = np.where(meets[:, :, None], known[None], 0).max(axis=1)
            np.maximum(known, np.maximum(joined, np.where(meets, self.epoch[warp], 0)), out=known)

    def _merge_blocks(self, warps: Array) -> None:
        for block in np.unique(warps // self.warps_per_block):
            members = warps[warps // self.warps_per_block == block]
            merged: Clock = {}
            for warp in members:
                join(merged, self.clocks.get(int(warp), {}))
            if merged:
                for warp in members:
                    self.clocks[int(warp)] = dict(merged)

    def _past(self, warp: int) -> Clock:
        """What happens before a release of the warp: its own epoch, its block's meetings, what it has acquired."""
        past = dict(self.clocks.get(warp, {}))
        first = warp // self.warps_per_block * self.warps_per_block
        join(past, {other: int(self.block_epoch[other]) for other in range(first, first + self.warps_per_block)})
        past[warp] = int(self.epoch[warp])
        return past

    def _visible(self, entries: Entries, block: int, wide: bool) -> Clock:
        """What an acquire sees of a variable: releases whose scope and its own include both threads."""
        result: Clock = {}
        for (far, releaser), clock in entries.items():
            if releaser == block or (far and wide):
                join(result, clock)
        return result

    def fence(self, batch: Batch, g: Group, wide: bool) -> None:
        """A fence: later relaxed writes release the past, earlier relaxed reads acquire."""
        for warp in np.unique(self._threads(batch, g.idx) >> _SHIFT):
            number = int(warp)
            block = number // self.warps_per_block
            kept = self.acquiring.pop(number, {})
            if kept:
                join(self.clocks.setdefault(number, {}), self._visible(kept, block, wide))
            self.fenced[number] = self.fenced.get(number, {})
            self.fenced[number][wide] = self._past(number)

    def synchronise(self, batch: Batch, part: Part, lanes: Array | None, offsets: Array, *, acquire: bool = False,
                    release: bool = False, wide: bool = True, reads: bool = True, writes: bool = True) -> None:
        """A strong access (atomic, volatile, relaxed or stronger) to synchronisation variables.

        ``wide`` is a scope beyond the block; an access that writes without reading ends a release sequence.
        """
        if part.space is not self.launch.memory or not (release or self.fenced or self.variables):
            return
        threads = self._threads(batch, lanes)
        # In the order of the lanes, in which the atomics of one instruction take effect.
        pairs = zip(offsets.tolist(), (threads >> _SHIFT).tolist(), strict=True)
        for offset, warp in dict.fromkeys(pairs):
            self._one(offset, warp, acquire, release, wide, reads, writes)

    def _one(self, offset: object, warp: int, acquire: bool, release: bool, wide: bool, reads: bool,
             writes: bool) -> None:
        block = warp // self.warps_per_block
        entries = self.variables.get(offset, {})
        if entries and reads:
            if acquire:
                join(self.clocks.setdefault(warp, {}), self._visible(entries, block, wide))
            else:
                kept = self.acquiring.setdefault(warp, {})
                for key, clock in entries.items():
                    join(kept.setdefault(key, {}), clock)
        if not writes:
            return
        fences = self.fenced.get(warp, {})
        released: list[tuple[bool, Clock]] = [(far and wide, clock) for far, clock in fences.items()]
        if release:
            released.append((wide, self._past(warp)))
        if not reads:
            entries = {}
        for far, clock in released:
            join(entries.setdefault((far, block), {}), clock)
        if entries or offset in self.variables:
            self.variables[offset] = entries
        if released:
            self.epoch[warp] += 1

    def arrive(self, batch: Batch, key: object, lane: int) -> None:
        """An arrival at an mbarrier releases the thread's past to the block."""
        warp = int(self._threads(batch, np.array([lane]))[0]) >> _SHIFT
        self._one((id(batch), key), warp, False, True, True, True, True)

    def wait(self, batch: Batch, keys: Sequence[object], lanes: Array) -> None:
        """A successful wait at mbarriers, or at the barrier of a cluster, acquires."""
        warps = self._threads(batch, lanes) >> _SHIFT
        for key, warp in {(k, int(w)) for k, w in zip(keys, warps, strict=True)}:
            self._one((id(batch), key), warp, True, False, True, True, False)
