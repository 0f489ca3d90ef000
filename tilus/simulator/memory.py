"""The state spaces: global memory (one arena), shared memory of a batch's blocks, local memory of its lanes."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from tilus.simulator import counters
from tilus.simulator.layout import CLUSTER_SHIFT, GLOBAL_BASE, GUARD, LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES
from tilus.simulator.machine import Array, Batch
from tilus.simulator.sites import Pattern, Site

if TYPE_CHECKING:
    from tilus.simulator.shadow import SharedShadow
    from tilus.simulator.visits import Visits

_GENERATIONS = itertools.count()
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Views:
    """One byte buffer, viewed as vectors of elements: ``views(size, count)`` has one row for each aligned vector."""

    def __init__(self, data: Array) -> None:
        self.data = data
        self._made: dict[tuple[int, int], Array] = {}

    def __call__(self, size: int, count: int) -> Array:
        key = (size, count)
        if key not in self._made:
            typed = self.data.view(_UNSIGNED[size])
            usable = len(typed) // count * count
            self._made[key] = typed[:usable].reshape(-1, count) if count > 1 else typed
        return self._made[key]

    def load(self, offsets: Array, size: int, count: int) -> Array:
        """Elements at aligned byte offsets: shape (n,) or (n, count)."""
        shift = (size * count).bit_length() - 1
        return np.take(self(size, count), offsets >> shift, axis=0, mode="clip")

    def store(self, offsets: Array, size: int, count: int, values: Array) -> None:
        shift = (size * count).bit_length() - 1
        self(size, count)[offsets >> shift] = values


def aligned_zeros(count: int, fill: int = 0) -> Array:
    """Bytes whose address is a multiple of 256."""
    count = (count + 255) // 256 * 256
    raw = np.zeros(count + 256, np.uint8)  # zeros are pages that nobody has touched: large gaps cost nothing
    start = -raw.ctypes.data % 256
    data = raw[start:start + count]
    if fill:
        data[:] = fill
    return data


class Space:
    """Bounds-checked access to one buffer; addresses are relative to the space."""

    name = ""

    def __init__(self, data: Array) -> None:
        self.views = Views(data)
        self.key: object = self.name

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int,
               data: Array | None = None) -> Array:
        """Byte offsets into the buffer for the lanes' addresses; those of faulty lanes lead to a trash area.

        ``data`` are the values that the access is about to store, (n,) or (n, count).
        """
        raise NotImplementedError

    def undefined(self, offsets: Array, size: int, count: int) -> Array | None:
        """Which elements, (n,) or (n, count), hold undefined values; None where none does."""
        return None

    def forget(self, offsets: Array, size: int, count: int, undefined: Array) -> None:
        """These elements, (n,) or (n, count), were stored with undefined values."""

    def aligned(
        self, site: Site, batch: Batch, lanes: Array | None, address: Array, offsets: Array, size: int
    ) -> Array:
        """The offsets, where addresses are multiples of ``size``; the others are faults."""
        wrong = (address & (size - 1)) != 0
        if not wrong.any():
            return offsets
        lane = int(np.argmax(wrong))
        batch.fault("align", f"{self.name} address {int(address[lane]):#x} is not a multiple of {size}", site.op,
                    lane if lanes is None else int(lanes[lane]), int(address[lane]), int(wrong.sum()))
        return np.where(wrong, 0, offsets)


class GlobalSpace(Space):
    """The arena: module variables, parameters and the argument arrays, with guards between them."""

    name = "global"

    def __init__(self, size: int) -> None:
        super().__init__(aligned_zeros(size))
        self.starts: Array = np.zeros(0, np.int64)
        self.ends: Array = np.zeros(0, np.int64)
        self.names: list[str] = []
        self.writable: list[bool] = []

    def set_allocations(self, entries: list[tuple[int, int, str, bool]]) -> None:
        """Allocations as (start, end, name, writable) with offsets into the arena."""
        entries = sorted(entries)
        self.starts = np.array([e[0] for e in entries], np.int64)
        self.ends = np.array([e[1] for e in entries], np.int64)
        self.names = [e[2] for e in entries]
        self.writable = [e[3] for e in entries]

    def add(self, start: int, end: int, name: str) -> None:
        """One more allocation, which kernels may write."""
        place = int(np.searchsorted(self.starts, start))
        self.starts, self.ends = np.insert(self.starts, place, start), np.insert(self.ends, place, end)
        self.names.insert(place, name)
        self.writable.insert(place, True)

    def remove(self, start: int) -> None:
        """The allocation that begins at ``start`` is gone."""
        place = int(np.searchsorted(self.starts, start))
        self.starts, self.ends = np.delete(self.starts, place), np.delete(self.ends, place)
        del self.names[place], self.writable[place]

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int,
               data: Array | None = None) -> Array:
        if address.size == 0:
            return address
        pattern = site.match(address, lanes)
        plain = offsets = address - GLOBAL_BASE
        first = int(address[0])
        site.fault = False
        low, high = first - GLOBAL_BASE + pattern.low, first - GLOBAL_BASE + pattern.high
        if low < site.lo or high + size > site.hi:
            offsets = self._check(site, batch, lanes, address, offsets, size, low, high)
        if (first | pattern.bits) & (size - 1):
            offsets = self.aligned(site, batch, lanes, address, offsets, size)
        if site.space in ("param", "const"):
            return offsets
        launch = batch.launch
        if launch.counting:
            self._count(site, batch, pattern, lanes, offsets, first, size)
        if launch.global_shadow is not None:
            launch.global_shadow.access(site, batch, lanes, offsets, size, data, pattern if offsets is plain else None)
        return offsets

    def _count(self, site: Site, batch: Batch, pattern: Pattern, lanes: Array | None, offsets: Array, first: int,
               size: int) -> None:
        site.space = "global"
        found = pattern.counts.get(first % counters.SECTOR)
        if found is None or site.fault:
            found = counters.count_global(batch.warps, lanes, offsets, size)
            if not site.fault:
                pattern.counts[first % counters.SECTOR] = found
        site.count(*found, offsets.size * size)

    def _check(self, site: Site, batch: Batch, lanes: Array | None, address: Array, offsets: Array, size: int, low: int,
               high: int) -> Array:
        which = int(np.searchsorted(self.starts, low, "right")) - 1
        if which >= 0 and high + size <= self.ends[which] and (self.writable[which] or not site.write):
            site.lo, site.hi = int(self.starts[which]), int(self.ends[which])
            site.read_only = not self.writable[which]
            return offsets
        # Accesses to several allocations: none is remembered.
        site.lo = site.hi = 0
        site.read_only = False
        index = np.searchsorted(self.starts, offsets, "right") - 1
        inside = (index >= 0) & (offsets + size <= self.ends[np.maximum(index, 0)])
        if site.write:
            readonly = inside & ~np.array(self.writable)[np.maximum(index, 0)]
            if readonly.any():
                lane = int(np.argmax(readonly))
                batch.fault("readonly", f"write to read-only {self.names[int(index[lane])]}", site.op,
                            lane if lanes is None else int(lanes[lane]), int(address[lane]), int(readonly.sum()))
                inside &= ~readonly
        outside = ~inside
        if outside.any():
            site.fault = True
            bad = np.flatnonzero(outside)
            reported = int(bad[0])
            batch.fault("bounds", self._message(int(offsets[reported]), int(address[reported]), size, site), site.op,
                        reported if lanes is None else int(lanes[reported]), int(address[reported]),
                        int(outside.sum()))
        return np.where(inside, offsets, 0)

    def address(self, offset: int) -> int:
        """The address of a byte of the arena."""
        return GLOBAL_BASE + offset

    def describe(self, offset: int) -> str:
        """``byte 12 of argument x`` for an offset into the arena."""
        which = int(np.searchsorted(self.starts, offset, "right")) - 1
        if which < 0 or offset >= int(self.ends[which]):
            return f"address {GLOBAL_BASE + offset:#x}"
        return f"byte {offset - int(self.starts[which])} of {self.names[which]}"

    def _message(self, offset: int, address: int, size: int, site: Site) -> str:
        verb = "write" if site.write else "read"
        if not len(self.starts):
            return f"{verb} of {size} bytes at {address:#x}: no memory is allocated"
        nearest = int(np.argmin(np.minimum(abs(self.starts - offset), abs(self.ends - offset))))
        start, end = int(self.starts[nearest]), int(self.ends[nearest])
        if offset >= start and abs(offset - start) < 1 << 32:
            return (f"{verb} of {size} bytes at byte {offset - start} of {self.names[nearest]}, "
                    f"which has {end - start} bytes")
        if abs(start - offset) < 1 << 32:
            return f"{verb} of {size} bytes {start - offset} bytes before {self.names[nearest]}"
        return f"{verb} of {size} bytes at {address:#x}, where nothing is allocated"


class SharedSpace(Space):
    """Shared memory of every block of a batch; an address may name another block of the cluster in its high bits."""

    name = "shared"

    def __init__(self, batch: Batch, size: int) -> None:
        self.size = size
        self.stride = (size + 255) // 256 * 256 + 256
        super().__init__(aligned_zeros(batch.capacity * self.stride + GUARD, 0xFF))
        self.base = batch.block_of * self.stride
        self.trash = batch.capacity * self.stride
        self.batch = batch
        self.shadow: SharedShadow | None = None
        self.visits: Visits | None = None
        cluster = batch.launch.cluster_size
        # In a cluster a thread's own addresses have the block's rank in their high bits, as any other's.
        self.windows: Array | None = (batch.block_of % cluster) << CLUSTER_SHIFT if cluster > 1 else None

    def reset(self) -> None:
        self.views.data[:] = 0xFF
        launch = self.batch.launch
        if launch.reserves_shared:
            blocks = self.views.data[:self.trash].reshape(-1, self.stride)
            blocks[:, launch.reserved_base:self.size] = 0
        self.key = ("shared", next(_GENERATIONS))
        if self.shadow is not None:
            self.shadow.reset()
            if launch.reserves_shared:
                self.shadow.variables[:, launch.reserved_base // self.shadow.cell:] = True
        if self.visits is not None:
            self.visits.reset()

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int,
               data: Array | None = None) -> Array:
        offsets = self.place(site, lanes, address, size)
        if batch.launch.counting and address.size:
            self._count(site, lanes, address, size)
        if self.shadow is not None:
            self.shadow.access(site, lanes, offsets, size, data)
        return offsets

    def _count(self, site: Site, lanes: Array | None, address: Array, size: int) -> None:
        site.space = "shared"
        assert site.pattern is not None
        # Banks turn with the first address: what counts is how the words lie to each other.
        key = int(address[0]) & 3
        counts = site.pattern.counts
        if key not in counts:
            counts[key] = counters.count_shared(self.batch.warps, lanes, address, size)
        site.count(*counts[key], address.size * size)

    def place(self, site: Site, lanes: Array | None, address: Array, size: int) -> Array:
        """Buffer offsets without the shadow's checks."""
        base = self.base if lanes is None else self.base[lanes]
        if address.size == 0:
            return address
        pattern = site.match(address, lanes)
        first = int(address[0])
        if self.windows is not None:
            own = address - (self.windows if lanes is None else self.windows[lanes])
            if int(own.min()) < 0 or int(own.max()) + size > self.size:
                own, base = self._far(site, lanes, address, base, size)
        elif first + pattern.low < 0 or first + pattern.high + size > self.size:
            own, base = self._outside(site, lanes, address, base, size)
        else:
            own = address
        offsets = own + base
        return self.aligned(site, self.batch, lanes, address, offsets, size) \
            if (first | pattern.bits) & (size - 1) else offsets

    def _far(self, site: Site, lanes: Array | None, address: Array, base: Array, size: int) -> tuple[Array, Array]:
        """Addresses in other blocks of the cluster, whose ranks stand in their high bits, and those outside."""
        cluster = self.batch.launch.cluster_size
        rank = np.maximum(address, 0) >> CLUSTER_SHIFT
        block = base // self.stride
        own = block % cluster
        if site.own:
            # In the window of the own block a constant address needs no rank.
            rank = np.where(rank == 0, own, rank)
        named = rank < cluster
        remote = named & (rank != own) & (address >= 0)
        block = np.where(remote, block // cluster * cluster + rank, block)
        local = np.where(named & (address >= 0), address & ((1 << CLUSTER_SHIFT) - 1), address)
        if remote.any():
            self._visit(site, lanes, address, block, remote)
        return self._outside(site, lanes, local, block * self.stride, size)

    def _outside(self, site: Site, lanes: Array | None, local: Array, base: Array, size: int) -> tuple[Array, Array]:
        outside = (local + size > self.size) | (local < 0)
        if outside.any():
            lane = int(np.argmax(outside))
            verb = "write" if site.write else "read"
            self.batch.fault("bounds", f"{verb} of {size} bytes at shared address {int(local[lane])}; the block has "
                             f"{self.size} bytes", site.op, lane if lanes is None else int(lanes[lane]),
                             int(local[lane]), int(outside.sum()))
            return np.where(outside, 0, local), np.where(outside, self.trash, base)
        return local, base

    def _visit(self, site: Site, lanes: Array | None, address: Array, block: Array, remote: Array) -> None:
        """Shared memory of a block of the cluster that has ended is gone; of one that may end it may be."""
        batch = self.batch
        where = (batch.every if lanes is None else lanes)[remote]
        alive = batch.live.reshape(batch.capacity, -1).any(axis=1)
        gone = ~np.asarray(alive)[block[remote]]
        if gone.any():
            lane = int(np.argmax(gone))
            verb = "written" if site.write else "read"
            batch.fault("bounds", f"shared memory of block {int(block[remote][lane]) % batch.launch.cluster_size} of "
                        f"the cluster is {verb} after that block has ended", site.op, int(where[lane]),
                        int(address[remote][lane]), int(gone.sum()))
        elif self.visits is not None:
            self.visits.note(site.op, site.write, where, block[remote])

    def undefined(self, offsets: Array, size: int, count: int) -> Array | None:
        return self.shadow.undefined(offsets, size, count) if self.shadow is not None else None

    def forget(self, offsets: Array, size: int, count: int, undefined: Array) -> None:
        if self.shadow is not None:
            self.shadow.forget(offsets, size, count, undefined)


class LocalSpace(Space):
    """Local memory of every lane: depots, and the parameters of inlined calls."""

    name = "local"

    def __init__(self, batch: Batch, size: int) -> None:
        self.size = size
        self.stride = (size + 15) // 16 * 16
        super().__init__(aligned_zeros(batch.lanes * self.stride + GUARD, 0xFF))
        self.base = np.arange(batch.lanes) * self.stride
        self.trash = batch.lanes * self.stride
        self.written = np.zeros(batch.lanes * self.stride + GUARD, bool) if batch.launch.checks.uninitialised else None

    def reset(self) -> None:
        if self.size:
            self.views.data[:] = 0xFF
            if self.written is not None:
                self.written[:] = False

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int,
               data: Array | None = None) -> Array:
        base = self.base if lanes is None else self.base[lanes]
        if address.size == 0:
            return address
        if int(address.max()) + size > self.size or int(address.min()) < 0:
            outside = (address + size > self.size) | (address < 0)
            lane = int(np.argmax(outside))
            batch.fault("bounds", f"local address {int(address[lane])} is outside of the thread's {self.size} bytes",
                        site.op, lane if lanes is None else int(lanes[lane]), int(address[lane]), int(outside.sum()))
            base = np.where(outside, self.trash, base)
            address = np.where(outside, 0, address)
        offsets = address + base
        if size > 1:
            offsets = self.aligned(site, batch, lanes, address, offsets, size)
        if self.written is not None:
            if site.write:
                self.written[offsets[:, None] + np.arange(size)] = True
            elif not site.tracks:
                self._initialised(site, batch, lanes, offsets, size)
        return offsets

    def _initialised(self, site: Site, batch: Batch, lanes: Array | None, offsets: Array, size: int) -> None:
        missing = self.undefined(offsets, size, 1)
        if missing is not None:
            lane = int(np.argmax(missing))
            batch.fault("uninitialised", "local memory is read before it is written", site.op,
                        lane if lanes is None else int(lanes[lane]), None, int(missing.sum()))

    def undefined(self, offsets: Array, size: int, count: int) -> Array | None:
        if self.written is None or not offsets.size:
            return None
        ready = self.written[offsets[:, None] + np.arange(size * count)]
        ready |= (offsets >= self.trash)[:, None]
        if ready.all():
            return None
        missing: Array = ~np.asarray(ready.reshape(offsets.size, count, size).all(axis=2))
        return missing[:, 0] if count == 1 else missing

    def forget(self, offsets: Array, size: int, count: int, undefined: Array) -> None:
        if self.written is not None:
            where = offsets[:, None] + np.arange(size * count)
            self.written[where[np.repeat(undefined.reshape(offsets.size, count), size, axis=1)]] = False


class Part:
    """The lanes of a generic access that fall into one space: ``select`` indexes the access, None means all."""

    __slots__ = ("address", "select", "space")

    def __init__(self, space: Space, select: Array | None, address: Array) -> None:
        self.space = space
        self.select = select
        self.address = address


def split_generic(batch: Batch, address: Array) -> list[Part]:
    """Sort generic addresses into the windows of the spaces."""
    if address.size == 0:
        return []
    low, high = int(address.min()), int(address.max())
    table = ((SHARED_WINDOW, batch.shared), (LOCAL_WINDOW, batch.local))
    for window, space in table:
        if low >= window and high < window + WINDOW_BYTES:
            return [Part(space, None, address - window)]
    if high < LOCAL_WINDOW or low >= SHARED_WINDOW + WINDOW_BYTES:
        return [Part(batch.launch.memory, None, address)]
    parts = []
    rest = np.ones(address.shape, bool)
    for window, space in table:
        inside = (address >= window) & (address < window + WINDOW_BYTES)
        if inside.any():
            select = np.flatnonzero(inside)
            parts.append(Part(space, select, address[select] - window))
            rest &= ~inside
    if rest.any():
        select = np.flatnonzero(rest)
        parts.append(Part(batch.launch.memory, select, address[select]))
    return parts
