"""The heap of ``malloc`` and ``free`` in device code."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from tilus.simulator.layout import GLOBAL_BASE, GUARD

if TYPE_CHECKING:
    from tilus.simulator.execution import Launch

ALIGN = 16


class Heap:
    """First fit in ``size`` bytes of the arena from ``start`` on; each block has a guard behind it."""

    def __init__(self, launch: Launch, start: int, size: int) -> None:
        self.launch, self.start, self.end = launch, start, start + size
        self.blocks: list[tuple[int, int]] = []      # (start, end with the guard), in order

    def allocate(self, count: int) -> int:
        """The address of a new block, 0 where the heap has no room."""
        room = (count + ALIGN - 1) // ALIGN * ALIGN + GUARD
        at = self.start
        for place, (start, end) in enumerate(self.blocks):
            if start - at >= room:
                return self._take(place, at, count, room)
            at = end
        return self._take(len(self.blocks), at, count, room) if self.end - at >= room else 0

    def _take(self, place: int, start: int, count: int, room: int) -> int:
        self.blocks.insert(place, (start, start + room))
        memory = self.launch.memory
        memory.views.data[start:start + count] = 0xCD
        memory.add(start, start + max(1, count), f"malloc({count})")
        if self.launch.global_shadow is not None:
            self.launch.global_shadow.forget(start, start + room)
        return GLOBAL_BASE + start

    def release(self, address: int) -> bool:
        """Give a block back; whether it was one."""
        start = address - GLOBAL_BASE
        place = bisect_right(self.blocks, (start, self.end)) - 1
        if place < 0 or self.blocks[place][0] != start:
            return False
        del self.blocks[place]
        self.launch.memory.remove(start)
        for site in self.launch.sites.values():
            if site.lo == start:
                site.lo = site.hi = 0
        return True
