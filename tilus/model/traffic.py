"""What passes between L1 and L2, and between L2 and DRAM.

A block touches each sector of its part of an array; other blocks touch it too. Blocks of one wave run side by side, so
that what they share is read from DRAM once. What a later wave touches again is still in L2 if the bytes that the waves
in between touch fit there.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilus.model.emulate.memory import MemoryAccess
from tilus.model.emulate.state import Observer, State
from tilus.model.emulate.values import Array
from tilus.records import record
from tilus.simulator.counters import SECTOR


@record(frozen=True)
class Traffic:
    """Bytes of a whole launch, by array.

    Attributes:
        requested_bytes: that the multiprocessors ask L2 for or send there: whole sectors of every request. L1 is taken
            to keep nothing.
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
        requested: sectors of all requests.
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
        if known is not True:
            return
        sector = np.where(state.active, address.view(np.int64) // SECTOR, np.int64(1) << 62)
        least = np.broadcast_to(sector.min(axis=(1, 2)), state.lanes.shape[0])
        self.keys[number] = np.where(least == np.int64(1) << 62, -1, least)


def share(keys: Array, wave: int, waves_kept: float) -> float:
    """Which part of the touches of a sector by blocks goes to DRAM.

    Args:
        keys: for each block, in the order of launch, what it touches; -1 for nothing.
        wave: blocks that run at once.
        waves_kept: for so many waves L2 keeps what has been touched.
    """
    number = np.arange(len(keys)) // wave
    chosen = keys >= 0
    keys, number = keys[chosen], number[chosen]
    if not len(keys):
        return 0.0
    order = np.lexsort((number, keys))
    keys, number = keys[order], number[order]
    again = keys[1:] == keys[:-1]
    hits = again & (number[1:] - number[:-1] <= waves_kept)
    return 1.0 - float(hits.sum()) / len(keys)


def traffic_of(parts: list[Part], sizes: Mapping[str, int], wave: int, blocks: int, l2_bytes: int) -> Traffic:
    """The traffic of a launch of so many blocks.

    Args:
        sizes: bytes of each array.
    """
    cache: dict[tuple[bytes, float], float] = {}

    def shared(keys: Array, kept: float) -> float:
        pattern = (keys - keys.max()).tobytes(), kept
        if pattern not in cache:
            cache[pattern] = share(keys, wave, kept)
        return cache[pattern]

    together = sum(p.own * SECTOR * shared(p.keys, 0.0) for p in parts) * min(1.0, wave / max(blocks, 1))
    kept = max(0.0, l2_bytes / together) if together else np.inf
    requested: dict[str, float] = {}
    read: dict[str, float] = {}
    written: dict[str, float] = {}
    for p in parts:
        requested[p.array] = requested.get(p.array, 0.0) + p.requested * SECTOR
        for does, total in ((p.reads, read), (p.writes, written)):
            if does:
                total[p.array] = total.get(p.array, 0.0) + p.own * SECTOR * shared(p.keys, np.floor(kept))
    if kept >= blocks / wave:
        # L2 holds all that is ever touched: nothing is read twice, however blocks overlap.
        for total in (read, written):
            for name in total:
                total[name] = min(total[name], float(-(-sizes.get(name, 1 << 62) // SECTOR) * SECTOR))
    return Traffic(requested, read, written)


__all__ = ["Part", "Starts", "Traffic", "share", "traffic_of"]
