"""Where accesses find what they need: how many bytes each brings into each cache, over a whole launch.

From the innermost region outwards: what one iteration of a loop touches is still there in the next one where it fits a
cache, so that the loop brings only what is new; otherwise each iteration brings all of it again (the layer condition
of stencil models, applied to any nest: Stengel et al., "Quantifying performance bottlenecks of stencil computations
using the execution-cache-memory model", 2015). A cache counts as if it kept what was used last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tilus.model.cpu.analysis import LINE_BYTES, Access, Region, extend
from tilus.records import record


@record(eq=False, slots=True)
class Stream:
    """An access over what has been looked at of the nest.

    Attributes:
        copies, width: distinct pieces of memory.
        traffic: bytes brought into each cache.
        run: bytes from one place on, as the innermost loops that move leave them.
        share: in which part of the executions the branches around it are taken.
    """

    access: Access
    copies: float
    width: float
    traffic: list[float]
    run: float
    share: float = 1.0

    def bytes(self, sizes: Mapping[int, float]) -> float:
        """Distinct bytes, in whole lines."""
        lines = self.copies * LINE_BYTES * math.ceil(self.width / LINE_BYTES)
        root = self.access.root
        size = sizes.get(root, math.inf) if root is not None else math.inf
        return min(lines, max(size, LINE_BYTES))


def fits(size: float, capacity: float) -> float:
    """Which part of some bytes is still in a cache when they are gone through again: caches are no perfect stacks, so
    that it is neither all up to their capacity nor nothing beyond."""
    return min(1.0, max(0.0, 1.5 - size / capacity))


class Traffic:
    """Of the accesses below a function's body, in a nest of blocks.

    Attributes:
        streams: what each access brings, over all.
    """

    def __init__(self, body: Region, axes: Sequence[tuple[Region, float]], counts: Mapping[Region, float],
                 capacities: Sequence[float], sizes: Mapping[int, float], cores: int) -> None:
        self.counts, self.capacities, self.sizes = counts, capacities, sizes
        streams = self._inside(body)
        for axis, trips in axes:
            streams = self._repeat(axis, trips, streams)
        footprint = self._distinct(streams)
        for level, capacity in enumerate(capacities):
            # A call finds what the one before has left; but blocks go to whatever core is free, so that what lies in
            # caches of one core is for another one as often as for itself. The last cache is for all.
            left = fits(footprint, capacity) / (cores if level < len(capacities) - 1 else 1)
            for stream in streams:
                stream.traffic[level] *= 1 - left
        self.streams = streams
        self.footprint = footprint

    def _inside(self, region: Region) -> list[Stream]:
        """Of one execution of a region."""
        executions = self.counts.get(region, 0.0)
        streams = []
        for access in region.accesses:
            stream = Stream(access, access.copies, access.width, [], access.width)
            stream.traffic = [stream.bytes(self.sizes)] * len(self.capacities)
            streams.append(stream)
        for child in region.children:
            count = self.counts.get(child, 0.0)
            if count:
                streams += self._repeat(child, count / executions, self._inside(child))
        return self._shared(streams)

    def _repeat(self, region: Region, trips: float, streams: list[Stream]) -> list[Stream]:
        """Of all iterations of a loop, or of a branch that is taken ``trips`` times on average."""
        if not region.is_loop:
            for stream in streams:
                stream.copies *= min(trips, 1.0)
                stream.share *= min(trips, 1.0)
                stream.traffic = [t * trips for t in stream.traffic]
            return streams
        touched = self._distinct(streams)
        stays = [fits(touched, capacity) for capacity in self.capacities]
        for stream in streams:
            slope = abs(stream.access.slopes.get(region, 0.0))
            before = stream.bytes(self.sizes)
            if stream.access.start is None:
                stream.copies *= trips
            else:
                stream.copies, stream.width = extend(stream.copies, stream.width, trips, slope)
            grown = stream.bytes(self.sizes) / before if before else 0.0
            if slope and slope <= max(stream.run, LINE_BYTES):
                stream.run = max(stream.run, stream.width)
            stream.traffic = [brought * (trips + (grown - trips) * kept)
                              for brought, kept in zip(stream.traffic, stays, strict=True)]
        return streams

    def _distinct(self, streams: list[Stream]) -> float:
        """Bytes that are touched: what begins at one address counts once, if it is not in different branches."""
        most: dict[tuple[int | None, int | None], float] = {}
        parts: dict[tuple[int | None, int | None], float] = {}
        total = 0.0
        for stream in streams:
            access = stream.access
            size = stream.bytes(self.sizes)
            if access.start is None:
                total += size
                continue
            key = (access.root, access.start)
            most[key] = max(most.get(key, 0.0), size / (stream.share or 1.0))
            parts[key] = parts.get(key, 0.0) + size
        return total + sum(min(most[key], part) for key, part in parts.items())

    def _shared(self, streams: list[Stream]) -> list[Stream]:
        """Accesses that begin at one address, one after another in a region: the later ones find what the first has
        brought, where all of it fits. Of those in branches as many are taken to be in different executions as can."""
        if len(streams) < 2:
            return streams
        touched = self._distinct(streams)
        covered: dict[tuple[int | None, int | None], float] = {}
        there: dict[tuple[int | None, int | None], list[float]] = {}
        stays = [fits(touched, capacity) for capacity in self.capacities]
        for stream in streams:
            key = (stream.access.root, stream.access.start)
            if stream.access.start is None:
                continue
            before, found = covered.get(key, 0.0), there.setdefault(key, [0.0] * len(stays))
            again = max(0.0, before + stream.share - 1) / (stream.share or 1.0)
            covered[key] = min(1.0, before + stream.share)
            for level, kept in enumerate(stays):
                brought = stream.traffic[level]
                stream.traffic[level] -= min(brought * again, found[level]) * kept
                found[level] = max(found[level], brought)
        return streams


__all__ = ["Stream", "Traffic"]
