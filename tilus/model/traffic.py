"""What passes between L1 and L2, and between L2 and DRAM.

A block touches each sector of its part of an array; other blocks touch it too. Blocks of one wave run side by side, so
that what they share is read from DRAM once. What a later block touches again is still in L2 if the bytes that all
blocks launched in between touch fit there.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilus.model.emulate.memory import MemoryAccess
from tilus.model.emulate.state import Observer, State
from tilus.model.emulate.values import Array, known_for
from tilus.records import record
from tilus.simulator.counters import SECTOR


@record(frozen=True)
class Traffic:
    """Bytes of a whole launch, by array.

    Attributes:
        requested_bytes: that the multiprocessors ask L2 for or send there, in whole sectors. L1 keeps what plain loads
            of a block read until its share of L1 has been filled again; blocks are taken not to help each other there.
        dram_bytes: read from DRAM.
        written_bytes: written to DRAM.
    """

    requested_bytes: dict[str, float]
    dram_bytes: dict[str, float]
    written_bytes: dict[str, float]


@record(frozen=True, eq=False)
class Part:
    """One instruction's share of the traffic of a launch.

    Attributes:
        array: its name.
        requested: sectors that L2 is asked for.
        own: sectors that blocks touch, each counted once for each block.
        reads, writes: whether it does.
        keys: for each block looked at the first sector that it touches, -1 for none.
    """

    array: str
    requested: float
    own: float
    reads: bool
    writes: bool
    keys: Array


class Starts(Observer):
    """Takes, of each block, the first address that an instruction touches; the machine has one lane for each warp."""

    def __init__(self) -> None:
        self.keys: dict[int, Array] = {}

    def touch(self, number: int, access: MemoryAccess, state: State) -> None:
        if access.space != "global" or number in self.keys:
            return
        address, known = access.address.read(state)
        if not known_for(known, state.active):
            return
        sector = np.where(state.active, address.view(np.int64) // SECTOR, np.int64(1) << 62)
        least = np.broadcast_to(sector.min(axis=(1, 2)), state.lanes.shape[0])
        self.keys[number] = np.where(least == np.int64(1) << 62, -1, least)


def share(keys: Array, apart: float) -> float:
    """Which part of the touches of a sector by blocks goes to DRAM.

    Args:
        keys: for each block, in the order of launch, what it touches; -1 for nothing.
        apart: what blocks touch that were launched fewer than so many apart is still in L2.
    """
    place = np.flatnonzero(keys >= 0)
    if not len(place):
        return 0.0
    chosen = keys[place]
    order = np.argsort(chosen, kind="stable")
    chosen, place = chosen[order], place[order]
    hits = (chosen[1:] == chosen[:-1]) & (place[1:] - place[:-1] < apart)
    return 1.0 - float(hits.sum()) / len(place)


def traffic_of(parts: list[Part], sizes: Mapping[str, int], wave: int, blocks: int, l2_bytes: int) -> Traffic:
    """The traffic of a launch of so many blocks.

    Args:
        sizes: bytes of each array.
        wave: blocks that run at once: what they share is read once.
    """
    cache: dict[tuple[bytes, float], float] = {}

    def missing(keys: Array, apart: float) -> float:
        pattern = (keys - keys.max()).tobytes(), apart
        if pattern not in cache:
            cache[pattern] = share(keys, apart)
        return cache[pattern]

    each = sum(p.own * SECTOR * missing(p.keys, wave) for p in parts) / blocks
    apart = max(wave, l2_bytes / each) if each else np.inf
    requested: dict[str, float] = {}
    read: dict[str, float] = {}
    written: dict[str, float] = {}
    for p in parts:
        requested[p.array] = requested.get(p.array, 0.0) + p.requested * SECTOR
        for does, total in ((p.reads, read), (p.writes, written)):
            if does:
                total[p.array] = total.get(p.array, 0.0) + p.own * SECTOR * missing(p.keys, apart)
    if apart >= blocks:
        # L2 holds all that is ever touched: nothing is read twice, however blocks overlap.
        for total in (read, written):
            for name in total:
                total[name] = min(total[name], float(-(-sizes.get(name, 1 << 62) // SECTOR) * SECTOR))
    return Traffic(requested, read, written)


__all__ = ["Part", "Starts", "Traffic", "share", "traffic_of"]
