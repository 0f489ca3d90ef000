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
    """An access over what has been looked at of the nest: distinct pieces of memory, and bytes brought into each
    cache."""

    access: Access
    copies: float
    width: float
    traffic: list[float]
    run: float  # bytes from one place on, as an iteration of the innermost loop that moves leaves them

    def bytes(self, sizes: Mapping[int, float]) -> float:
        """Distinct bytes, in whole lines."""
        lines = self.copies * LINE_BYTES * math.ceil(self.width / LINE_BYTES)
        root = self.access.root
        size = sizes.get(root, math.inf) if root is not None else math.inf
        return min(lines, max(size, LINE_BYTES))


class Traffic:
    """Of the accesses below a function's body, in a nest of blocks.

    Attributes:
        streams: what each access brings, over all.
    """

    def __init__(self, body: Region, axes: Sequence[tuple[Region, float]], counts: Mapping[Region, float],
                 capacities: Sequence[float], sizes: Mapping[int, float]) -> None:
        self.counts, self.capacities, self.sizes = counts, capacities, sizes
        streams = self._inside(body)
        for axis, trips in axes:
            streams = self._repeat(axis, trips, streams)
        footprint = self._distinct(streams)
        for level, capacity in enumerate(capacities):
            if footprint <= capacity:  # a call finds what the one before has left
                for stream in streams:
                    stream.traffic[level] = 0.0
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
                stream.traffic = [t * trips for t in stream.traffic]
            return streams
        touched = self._distinct(streams)
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
            stream.traffic = [t * (grown if touched <= capacity else trips)
                              for t, capacity in zip(stream.traffic, self.capacities, strict=True)]
        return streams

    def _distinct(self, streams: list[Stream]) -> float:
        """Bytes that are touched: what begins at one address counts once."""
        most: dict[tuple[int | None, int | None], float] = {}
        total = 0.0
        for stream in streams:
            access = stream.access
            size = stream.bytes(self.sizes)
            if access.start is None:
                total += size
                continue
            key = (access.root, access.start)
            most[key] = max(most.get(key, 0.0), size)
        return total + sum(most.values())

    def _shared(self, streams: list[Stream]) -> list[Stream]:
        """Accesses that begin at one address, one after another in a region: the later ones find what the first has
        brought, where all of it fits."""
        if len(streams) < 2:
            return streams
        touched = self._distinct(streams)
        first: dict[tuple[int | None, int | None], list[float]] = {}
        for stream in streams:
            key = (stream.access.root, stream.access.start)
            if stream.access.start is None:
                continue
            there = first.get(key)
            if there is None:
                first[key] = list(stream.traffic)
                continue
            for level, capacity in enumerate(self.capacities):
                if touched <= capacity:
                    brought = stream.traffic[level]
                    stream.traffic[level] = max(0.0, brought - there[level])
                    there[level] = max(there[level], brought)
        return streams


__all__ = ["Stream", "Traffic"]
