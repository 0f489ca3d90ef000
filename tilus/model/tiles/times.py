"""The cycles of a launch, from what the regions of its kernel take and how often blocks execute them."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.model.kernel import makespan
from tilus.model.multiprocessor import L2_PORT, SUB_CORES
from tilus.model.tiles.follow import Follower, Touched, writes
from tilus.model.tiles.regions import Region
from tilus.model.tiles.windows import SECTOR

if TYPE_CHECKING:
    from tilus.model.tiles.predict import LaunchModel

MOST_BLOCKS = 4096
"""Blocks whose way over the multiprocessors is followed; of larger grids the mean stands for all."""


def together(warps: int, demands: Sequence[float], chain: float) -> float:
    """Cycles in which each of some warps does an iteration.

    Args:
        warps: that share a sub-core.
        demands: cycles of its pipes that an iteration of one takes.
        chain: cycles that an iteration takes a warp alone.

    Mean value analysis of a closed network of queues (Reiser and Lavenberg, 1980): who comes to a pipe finds there what
    one warp less would leave. A warp's own instructions overlap, so that it waits for the busiest pipe only.
    """
    demands = [demand for demand in demands if demand]
    if not demands:
        return chain
    queues = [0.0] * len(demands)
    period = chain
    for count in range(1, warps + 1):
        waiting = max(d * q for d, q in zip(demands, queues, strict=True))
        period = max(chain + waiting, count * max(demands))
        queues = [count / period * d * (1 + q) for d, q in zip(demands, queues, strict=True)]
    return period


class Times:
    """The cycles of blocks and launches, from what the regions take and how often blocks execute them."""

    def __init__(self, model: LaunchModel, followed: Follower, shares: Mapping[bool, Mapping[str, float]],
                 spilled: Mapping[Region, float]) -> None:
        self.model, self.board, self.regions = model, model.board, model.regions
        self.weights = model.weights
        zero = np.zeros(len(self.weights))
        self.counts = {r: zero + followed.counts.get(r.block, 0.0) for r in self.regions}
        self.bytes = {r: self._bytes(r, followed, shares) for r in self.regions}
        for region, size in spilled.items():
            self.bytes[region][0][:] += self.counts[region] * size
        self.l2, self.memory = (sum(float(self.weights @ b[n]) for b in self.bytes.values()) for n in (0, 1))

    def _bytes(self, region: Region, followed: Follower, shares: Mapping[bool, Mapping[str, float]]) -> tuple[Any, Any]:
        """Of all executions by each block: those between it and L2, and those of them that memory delivers or takes."""
        l2, memory = np.zeros(len(self.weights)), np.zeros(len(self.weights))
        for op in region.accesses:
            touched: Touched | None = followed.touched.get(op)
            if touched is not None:
                moved = SECTOR * (l2 * 0 + touched.sectors)
                l2 += moved
                memory += moved * shares[writes(op)].get(touched.array, 1.0)
        return l2, memory

    def block(self, resident: int, sharers: int, region: Region) -> Any:
        """Cycles that each block spends in a region, where so many share a multiprocessor, and so many of these L2."""
        counts, board = self.counts[region], self.board
        rates = (min(L2_PORT, board.l2_bandwidth / sharers), board.memory_bytes_per_cycle / sharers)
        flow = np.maximum(*(moved / rate for moved, rate in zip(self.bytes[region], rates, strict=True)))
        executed = float(self.weights @ counts)
        each = self._execution(region, resident, float(self.weights @ flow) / executed if executed else 0.0, rates[0])
        return np.maximum(counts * each, flow * resident) + self._entries(region) * region.latency

    def _execution(self, region: Region, resident: int, flow: float, rate: float) -> float:
        """Cycles of one execution of a region: the phases of a block one after the other, each with its warps
        together, and then blocks beside each other.

        Args:
            flow: cycles in which L2 or memory delivers what an execution asks for.
            rate: bytes that come from L2 in a cycle.
        """
        lanes = min(SUB_CORES, region.warps)
        own = -(-region.warps // lanes)
        phases = [[p.issued, *p.pipes.values(), p.path * lanes] for p in region.phases]
        alone = sum(together(own, demands, p.chain) for demands, p in zip(phases, region.phases, strict=True))
        names = {name for p in region.phases for name in p.pipes}
        spread = own * lanes / min(SUB_CORES, lanes * resident)  # few warps of several blocks fill the sub-cores
        demands = [spread * sum(p.pipes.get(name, 0.0) for p in region.phases) for name in names]
        demands.append(spread * sum(p.issued for p in region.phases))
        demands.append(region.warps * sum(p.path for p in region.phases))
        if not region.latency:
            return together(resident, [*demands, flow], alone)
        # A block's copies are behind those of half of the others, in the mean.
        arrival = region.latency + region.copied / rate * (resident + 1) / 2
        return together(resident, demands, max(alone, arrival / region.ahead) if region.ahead else alone + arrival)

    def _entries(self, region: Region) -> Any:
        """How often a loop begins, where it has iterations."""
        if not region.ahead or region.loop is None or region.parent is None:
            return 0.0
        return np.minimum(self.counts[region.parent], self.counts[region])

    def together(self, blocks: int) -> tuple[Any, Any]:
        """Cycles of each block in loops, and outside of them, where so many are on the machine."""
        machines = self.board.sm_count
        resident, sharers = -(-blocks // machines), min(machines, blocks)
        loops, outside = np.zeros(len(self.weights)), np.zeros(len(self.weights))
        strands: dict[Any, Any] = {}
        for region in self.regions:
            spent = self.block(resident, sharers, region)
            if region.strand is not None:
                strands[region.strand] = strands.get(region.strand, 0.0) + spent
            elif region.loop is not None or any(True for _ in region.loops):
                loops += spent
            else:
                outside += spent
        for groups in {op for op, _ in strands}:  # which run side by side
            loops += np.max([spent for (op, _), spent in strands.items() if op is groups], axis=0)
        return loops, outside

    def cycles(self, full: int) -> float:
        """Until the last block has ended."""
        model, machines = self.model, self.board.sm_count
        slots = machines * full
        loops, outside = self.together(min(slots, model.blocks))
        alone = sum(self.together(min(machines, model.blocks)))
        generation = loops + outside
        if full > 1 and model.blocks > slots:  # blocks drift apart: some are in their loops while others are not
            generation = np.maximum(alone, loops + outside / full)
        found = self._makespan(generation, slots)
        return found * max(1.0, *self.busy(found).values()) if found else 0.0

    def _makespan(self, generation: Any, slots: int) -> float:
        blocks = self.model.blocks
        mean = float(self.weights @ generation / np.sum(self.weights))
        if np.ptp(generation) > 0.01 * mean:
            work = self._of_all(generation)
            if work is not None:
                return makespan(work, slots)
            return max(float(np.max(generation)), blocks / slots * mean + mean / 2)
        whole, rest = divmod(blocks, slots)
        last = 0.0
        if rest:
            loops, outside = self.together(rest)
            last = float(self.weights @ (loops + outside) / np.sum(self.weights))
        return whole * mean + last

    def _of_all(self, generation: Any) -> list[float] | None:
        """The cycles of every block in the order of launch, between those that are followed in proportion; None for
        large grids."""
        if self.model.blocks > MOST_BLOCKS:
            return None
        found = generation.reshape([len(axis) for axis in self.model.axes])
        for d, (axis, extent) in enumerate(zip(self.model.axes, self.model.grid, strict=True)):
            known, every = [i for i, _ in axis], np.arange(extent)
            found = np.apply_along_axis(partial(_between, every, known), d, found)
        return found.transpose(2, 1, 0).ravel().tolist()

    def busy(self, cycles: float) -> dict[str, float]:
        """The share of the time in which each resource works."""
        machines = self.board.sm_count
        pipes: dict[str, float] = {}
        issued = path = 0.0
        for region in self.regions:
            executed = float(self.weights @ self.counts[region])
            executed *= region.warps
            for phase in region.phases:
                for name, spent in phase.pipes.items():
                    pipes[name] = pipes.get(name, 0.0) + spent * executed
                issued += phase.issued * executed
                path += phase.path * executed
        lanes = min(SUB_CORES, self.model.warps * self.model.resident)
        busy = {name: spent / (lanes * machines * cycles) for name, spent in {**pipes, "issue": issued}.items()
                if name != "control"}
        busy["memory"] = path / (machines * cycles)
        busy["L2"] = self.l2 / (self.board.l2_bandwidth * cycles)
        busy["DRAM"] = self.memory / (self.board.memory_bytes_per_cycle * cycles)
        return busy


def _between(places: Any, known: Sequence[int], numbers: Any) -> Any:
    return np.interp(places, known, numbers)


__all__ = ["Times", "together"]
