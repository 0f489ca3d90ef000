"""What each memory instruction asks of the memory: sectors, wavefronts, and what of it no earlier one has touched."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tilus.model.emulate.induction import LONGEST
from tilus.model.emulate.lanes import WARP
from tilus.model.emulate.memory import MemoryAccess
from tilus.model.emulate.operands import Source
from tilus.model.emulate.state import Observer, State
from tilus.model.emulate.values import Array, as_array, known_for
from tilus.model.launch import ArrayAt
from tilus.records import record
from tilus.simulator.counters import SECTOR, count_global, count_shared

Counts = tuple[int, int, int]
"""Requests, what they take, and the least that their bytes need."""

UNNAMED = "?"
"""The array of an access whose address is in none, or not known."""


@record(frozen=True)
class Access:
    """One memory instruction; the numbers are means over the requests of warps with a lane that takes part.

    Attributes:
        instruction: its number.
        space: ``global`` (asynchronous copies to shared memory too), ``shared`` or ``local``.
        bytes_per_lane: that one lane moves.
        lanes: that take part.
        sectors: of 32 bytes, that a request touches in global or local memory, and the least that its bytes need.
        wavefronts: that a request takes in shared memory, and the least that its bytes need.
        array: the name of the array, ``"?"`` where that is not known.
        requests: of a warp for each time that it executes the instruction: less than 1 where guards fail.
    """

    instruction: int
    space: str
    bytes_per_lane: int
    lanes: float
    sectors: float
    least_sectors: float
    wavefronts: float
    least_wavefronts: float
    array: str
    requests: float


@record
class Seen:
    """Sums over the requests of one instruction."""

    access: MemoryAccess
    requests: float = 0
    lanes: float = 0
    sectors: float = 0
    least_sectors: float = 0
    shared: float = 0
    wavefronts: float = 0
    least_wavefronts: float = 0
    array: str = UNNAMED
    fresh: float = 0
    """Sectors that a block had not touched before."""
    missed: float = 0
    """Sectors that L1 asks L2 for: all of them where it keeps nothing."""

    def add(self, amounts: tuple[float, ...], times: float) -> None:
        """Requests, lanes, sectors, least sectors, shared requests, wavefronts and least wavefronts, so many times."""
        requests, lanes, sectors, least_sectors, shared, wavefronts, least_wavefronts = amounts
        self.requests += requests * times
        self.lanes += lanes * times
        self.sectors += sectors * times
        self.least_sectors += least_sectors * times
        self.shared += shared * times
        self.wavefronts += wavefronts * times
        self.least_wavefronts += least_wavefronts * times

    def result(self, number: int, executed: float) -> Access:
        """``executed``: how often warps have executed it."""
        n = max(self.requests, self.shared)
        return Access(number, self.access.space, self.access.size, self.lanes / n, self.sectors / n,
                      self.least_sectors / n, self.wavefronts / n, self.least_wavefronts / n, self.array, n / executed)


@record
class Touched:
    """Sectors that an instruction touched, together with the number of the block that did; how many its requests ask
    for; what goes for it goes for so many further iterations."""

    number: int
    sectors: Array
    asked: float
    weight: float = 1


class Recorder(Observer):
    """Takes accesses while a machine runs.

    Args:
        l1_bytes: of L1, that each block can count on.
    """

    def __init__(self, arrays: tuple[ArrayAt, ...], l1_bytes: float) -> None:
        self.arrays = sorted(arrays, key=lambda a: a.address)
        self.starts = np.array([a.address for a in self.arrays] or [0], np.int64)
        self.l1_bytes = l1_bytes
        self.seen: dict[int, Seen] = {}
        self.touched: list[Touched] = []
        self.passed: list[tuple[int, float]] = []
        self.added: list[tuple[Seen, tuple[float, ...]]] = []
        self.counts: dict[tuple[Any, int, bytes], Counts] = {}
        self.marks = deque([(0, 0)], maxlen=3 * LONGEST + 1)

    def mark(self) -> None:
        self.marks.append((len(self.added), len(self.touched)))

    def repeat(self, count: int, alike: int) -> None:
        (added, touched), (added_end, touched_end) = self.marks[-1 - alike], self.marks[-1]
        for seen, amounts in self.added[added:added_end]:
            seen.add(amounts, count / alike)
        passed = 0.0
        for sectors in self.touched[touched:touched_end]:
            sectors.weight += count / alike
            passed += len(sectors.sectors) * count / alike
        self.passed.append((len(self.touched), passed))

    def touch(self, number: int, access: MemoryAccess, state: State) -> None:
        seen = self.seen.setdefault(number, Seen(access))
        if access.space == "global":
            self._global(number, seen, state)
        elif access.space == "shared":
            self._shared(seen, access, access.address, state)
        else:
            self._plain(seen, state.active, state)
        if access.copies_to is not None:
            self._shared(seen, access, access.copies_to, state)

    def _add(self, seen: Seen, factor: float, *amounts: float) -> None:
        scaled = tuple(float(a) * factor for a in amounts)
        seen.add(scaled, 1)
        self.added.append((seen, scaled))

    def _global(self, number: int, seen: Seen, state: State) -> None:
        access, active = seen.access, state.active
        if access.condition is not None:
            value, known = access.condition.read(state)
            active = active & (value | ~as_array(known))
        address, known = access.address.read(state)
        if not known_for(known, active):
            state.assume("addresses that depend on data are taken to be one after another")
            self._plain(seen, active, state)
            return
        where = address.view(np.int64)
        table, factor = tabulate(where, active, state)
        if len(table):
            requests, sectors, least = self._counted(count_global, table, access.size)
            self._add(seen, factor, requests, (table >= 0).sum(), sectors, least, 0, 0, 0)
            seen.array = self.array_of(first_of(where, active))
            self._note(number, where, active, sectors * factor, state)

    def _counted(self, count: Callable[..., Counts], table: Array, size: int) -> Counts:
        """Counts of a pattern of addresses, which many instructions and iterations have in common."""
        key = count, size, table.tobytes()
        found = self.counts.get(key)
        if found is None:
            found = self.counts[key] = count(len(table), None, table.reshape(-1), size)
        return found

    def array_of(self, address: int) -> str:
        place = int(np.searchsorted(self.starts, address, side="right")) - 1
        if place < 0 or not self.arrays:
            return UNNAMED
        array = self.arrays[place]
        return array.name if address < array.address + array.bytes else UNNAMED

    def _note(self, number: int, address: Array, active: Array, asked: float, state: State) -> None:
        """Which sectors each block touches."""
        blocks = state.lanes.shape[0]
        shape = np.broadcast_shapes(address.shape, active.shape, (blocks, 1, 1))
        sector = np.broadcast_to(address // SECTOR, shape) + (np.arange(blocks, dtype=np.int64) << 48)[:, None, None]
        chosen = sector[np.broadcast_to(active, shape)]
        fresh = np.empty(len(chosen), bool)
        fresh[:1] = True
        np.not_equal(chosen[1:], chosen[:-1], out=fresh[1:])
        self.touched.append(Touched(number, chosen[fresh], asked))

    def _shared(self, seen: Seen, access: MemoryAccess, source: Source, state: State) -> None:
        address, known = source.read(state)
        active = state.active
        if access.rows:
            active = active & (np.arange(WARP) < access.rows)
        counted = 0 if access.copies_to is not None else 1
        if not known_for(known, active):
            state.assume("addresses in shared memory that depend on data are taken to have no conflicts")
            table, factor = tabulate(np.zeros((1, 1, 1), np.int64), active, state)
            least = len(table) * max(1, access.size // 4)
            self._add(seen, factor, 0, counted * (table >= 0).sum(), 0, 0, len(table), least, least)
            return
        table, factor = tabulate(address.astype(np.int64), active, state)
        if len(table):
            requests, fronts, least = self._counted(count_shared, table, access.size)
            self._add(seen, factor, 0, counted * (table >= 0).sum(), 0, 0, requests, fronts, least)

    def _plain(self, seen: Seen, active: Array, state: State) -> None:
        """Requests whose lanes lie side by side, as words of local memory do."""
        table, factor = tabulate(np.zeros((1, 1, 1), np.int64), active, state)
        lanes = (table >= 0).sum(axis=1)
        sectors = (-(-lanes * seen.access.size // SECTOR)).sum()
        self._add(seen, factor, len(table), lanes.sum(), sectors, sectors, 0, 0, 0)

    def settle(self, blocks: int) -> None:
        """Find out, once all has been executed by so many blocks, which sectors each access was the first to touch, and
        which L1 no longer had."""
        if not self.touched:
            return
        sizes = np.array([len(t.sectors) for t in self.touched])
        sector = np.concatenate([t.sectors for t in self.touched])
        event = np.repeat(np.arange(len(sizes)), sizes)
        order = np.argsort(sector, kind="stable")
        sector, event = sector[order], event[order]
        again = np.zeros(len(sector), bool)
        np.equal(sector[1:], sector[:-1], out=again[1:])
        before = np.zeros(len(event), np.int64)
        before[1:] = event[:-1]
        steps = np.concatenate([[0.0], sizes])
        for place, amount in self.passed:
            steps[place] += amount
        between = np.cumsum(steps) * (SECTOR / blocks)
        kept = again & (between[event] - between[before] <= self.l1_bytes)
        fresh = np.bincount(event[~again], minlength=len(sizes))
        # What several warps ask for at once is asked for once.
        missed = np.bincount(event[~kept & ~(again & (event == before))], minlength=len(sizes))
        for number, touched in enumerate(self.touched):
            seen = self.seen[touched.number]
            seen.fresh += float(fresh[number]) * touched.weight
            seen.missed += float(missed[number] if seen.access.cached else touched.asked) * touched.weight
        self.touched.clear()


def first_of(address: Array, active: Array) -> int:
    """The address of one lane that takes part."""
    if address.size == 1:
        return int(address.item())
    shape = np.broadcast_shapes(address.shape, active.shape)
    place = int(np.broadcast_to(active, shape).argmax())
    return int(np.broadcast_to(address, shape)[np.unravel_index(place, shape)])


def tabulate(address: Array, active: Array, state: State) -> tuple[Array, float]:
    """Addresses of the requests, one row of 32 each with -1 for lanes that take no part, and how many requests each row
    stands for. They are less a multiple of 128, which changes neither sectors nor banks."""
    blocks, warps, lanes = state.lanes.shape
    shape = np.broadcast_shapes(address.shape, active.shape, (1, 1, lanes))
    exist = state.lanes.exist
    if exist.size > 1:  # the last warp has fewer lanes than the others
        shape = np.broadcast_shapes(shape, exist.shape)
        active = active & exist
    factor = blocks * warps / (shape[0] * shape[1])
    if active.size == 1 and active.item():
        table = np.broadcast_to(address - (int(address.min()) & ~127), shape).reshape(-1, lanes)
        return table, factor
    active = np.broadcast_to(active, shape)
    address = np.broadcast_to(address, shape)
    base = int(address.min(where=active, initial=1 << 62)) & ~127
    table = np.where(active, address - base, -1).reshape(-1, lanes)
    return table[active.any(axis=2).reshape(-1)], factor


def accesses(seen: Mapping[int, Seen], executed: Mapping[int, float]) -> dict[int, Access]:
    """By the number of the instruction; those that no lane ever takes part in are left out."""
    return {number: s.result(number, executed[number]) for number, s in sorted(seen.items())
            if s.requests or s.shared}


__all__ = ["UNNAMED", "Access", "Recorder", "Seen", "accesses", "tabulate"]
