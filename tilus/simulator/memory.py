"""The state spaces: global memory (one arena), shared memory of a batch's blocks, local memory of its lanes."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.simulator import counters
from tilus.simulator.layout import CLUSTER_SHIFT, GLOBAL_BASE, GUARD, LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES
from tilus.simulator.machine import Array, Batch
from tilus.simulator.resolved import Op

if TYPE_CHECKING:
    from tilus.simulator.shadow import SharedShadow

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Site:
    """One memory instruction: its counters, and the allocation that it touched last."""

    __slots__ = (
        "atomic", "bytes", "hi", "ideal", "lo", "op", "reads", "requests", "space", "units", "writable", "write",
    )

    def __init__(self, op: Op, space: str, write: bool, atomic: bool = False) -> None:
        self.op = op
        self.space = space
        self.lo = 0
        self.hi = 0
        self.writable = False
        self.write = write
        self.atomic = atomic
        self.reads = not write or (atomic and not op.opcode.startswith("st."))
        self.requests = 0
        self.units = 0
        self.ideal = 0
        self.bytes = 0


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
    raw = np.empty(count + 256, np.uint8)
    start = -raw.ctypes.data % 256
    data = raw[start:start + count]
    data[:] = fill
    return data


class Space:
    """Bounds-checked access to one buffer; addresses are relative to the space."""

    name = ""

    def __init__(self, data: Array) -> None:
        self.views = Views(data)

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int) -> Array:
        """Byte offsets into the buffer for the lanes' addresses; those of faulty lanes lead to a trash area."""
        raise NotImplementedError

    def _aligned(
        self, site: Site, batch: Batch, lanes: Array | None, address: Array, offsets: Array, size: int
    ) -> Array:
        if size > 1:
            wrong = (address & (size - 1)) != 0
            if wrong.any():
                lane = int(np.argmax(wrong))
                batch.fault(
                    "align",
                    f"{self.name} address {int(address[lane]):#x} is not a multiple of {size}",
                    site.op,
                    lane if lanes is None else int(lanes[lane]),
                    int(address[lane]),
                    int(wrong.sum()),
                )
                return np.where(wrong, 0, offsets)
        return offsets


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

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int) -> Array:
        offsets = address - GLOBAL_BASE
        if offsets.size == 0:
            return offsets
        low, high = int(offsets.min()), int(offsets.max())
        if low < site.lo or high + size > site.hi:
            offsets = self._check(site, batch, lanes, address, offsets, size, low, high)
        offsets = self._aligned(site, batch, lanes, address, offsets, size)
        launch = batch.launch
        if launch.counting and site.space not in ("param", "const"):
            counters.count_global(site, batch.warps, lanes, offsets, size)
        if launch.global_shadow is not None and site.space not in ("param", "const"):
            launch.global_shadow.access(site, batch, lanes, offsets, size)
        return offsets

    def _check(self, site: Site, batch: Batch, lanes: Array | None, address: Array, offsets: Array, size: int, low: int,
               high: int) -> Array:
        which = int(np.searchsorted(self.starts, low, "right")) - 1
        if which >= 0 and high + size <= self.ends[which] and (self.writable[which] or not site.write):
            site.lo, site.hi = int(self.starts[which]), int(self.ends[which])
            return offsets
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
            bad = np.flatnonzero(outside)
            reported = int(bad[0])
            batch.fault("bounds", self._message(int(offsets[reported]), int(address[reported]), size, site), site.op,
                        reported if lanes is None else int(lanes[reported]), int(address[reported]),
                        int(outside.sum()))
        return np.where(inside, offsets, 0)

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

    def reset(self) -> None:
        self.views.data[:] = 0xFF
        if self.shadow is not None:
            self.shadow.reset()

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int) -> Array:
        offsets = self.place(site, lanes, address, size)
        if batch.launch.counting:
            counters.count_shared(site, batch.warps, lanes, address, size)
        if self.shadow is not None:
            self.shadow.access(site, lanes, offsets, size)
        return offsets

    def place(self, site: Site, lanes: Array | None, address: Array, size: int) -> Array:
        """Buffer offsets without the shadow's checks."""
        base = self.base if lanes is None else self.base[lanes]
        if address.size == 0:
            return address
        high = int(address.max())
        if high + size > self.size or int(address.min()) < 0:
            address, base = self._far(site, lanes, address, base, size)
        return self._aligned(site, self.batch, lanes, address, address + base, size)

    def _far(self, site: Site, lanes: Array | None, address: Array, base: Array, size: int) -> tuple[Array, Array]:
        """Addresses in other blocks of the cluster, and those outside."""
        rank = address >> CLUSTER_SHIFT
        cluster = self.batch.launch.cluster_size
        remote = (rank > 0) & (rank <= cluster) & (address >= 0)
        block = base // self.stride
        block = np.where(remote, block // cluster * cluster + rank - 1, block)
        local = np.where(remote, address & ((1 << CLUSTER_SHIFT) - 1), address)
        if remote.any():
            self._check_resident(site, lanes, address, block, remote)
        outside = (local + size > self.size) | (local < 0)
        if outside.any():
            lane = int(np.argmax(outside))
            verb = "write" if site.write else "read"
            self.batch.fault("bounds", f"{verb} of {size} bytes at shared address {int(local[lane])}; the block has "
                             f"{self.size} bytes", site.op, lane if lanes is None else int(lanes[lane]),
                             int(address[lane]), int(outside.sum()))
        local = np.where(outside, 0, local)
        return local, np.where(outside, self.trash, block * self.stride)

    def _check_resident(self, site: Site, lanes: Array | None, address: Array, block: Array, remote: Array) -> None:
        """Shared memory of a block of the cluster that has ended is gone."""
        alive = self.batch.live.reshape(self.batch.capacity, -1).any(axis=1)
        gone = remote & ~np.asarray(alive)[block]
        if gone.any():
            lane = int(np.argmax(gone))
            verb = "written" if site.write else "read"
            self.batch.fault("bounds", f"shared memory of block {int(block[lane]) % self.batch.launch.cluster_size} of "
                             f"the cluster is {verb} after that block has ended", site.op,
                             lane if lanes is None else int(lanes[lane]), int(address[lane]), int(gone.sum()))

    def full_barrier(self, group: Any) -> None:
        if self.shadow is not None:
            self.shadow.full_barrier()
        if self.batch.launch.global_shadow is not None:
            self.batch.launch.global_shadow.barrier(self.batch, group.mask)

    def partial_barrier(self, lanes: Array) -> None:
        if self.shadow is not None:
            self.shadow.barrier(lanes)
        if self.batch.launch.global_shadow is not None:
            self.batch.launch.global_shadow.barrier(self.batch, lanes)


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

    def locate(self, site: Site, batch: Batch, lanes: Array | None, address: Array, size: int) -> Array:
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
        offsets = self._aligned(site, batch, lanes, address, address + base, size)
        if self.written is not None:
            self._initialised(site, batch, lanes, offsets, size)
        return offsets

    def _initialised(self, site: Site, batch: Batch, lanes: Array | None, offsets: Array, size: int) -> None:
        assert self.written is not None
        cells = offsets[:, None] + np.arange(size)
        if site.write:
            self.written[cells] = True
            if not site.reads:
                return
        missing = ~self.written[cells].all(axis=1)
        if missing.any():
            lane = int(np.argmax(missing))
            batch.fault("uninitialised", "local memory is read before it is written", site.op,
                        lane if lanes is None else int(lanes[lane]), None, int(missing.sum()))


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
