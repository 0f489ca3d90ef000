"""How long a call takes on this machine, by a model: from the lowered code of its kernels, before LLVM compiles it."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tilus.ir.core import Block, Function
from tilus.lowering.cpu.kept_operands import MEMO_STRIDE, PANELS_KEPT
from tilus.model.cpu.analysis import LINE_BYTES, ROOT_BITS, Analysis, Region
from tilus.model.cpu.caches import Stream, Traffic
from tilus.model.cpu.execution import Execution
from tilus.model.cpu.instructions import INSTRUCTIONS, PORTS, Core
from tilus.model.cpu.launches import FRAME, Launch, Memory
from tilus.model.cpu.machine import Host
from tilus.model.sampled import sampled
from tilus.records import field, record

MOST_CORNERS = 9
"""Blocks that are followed where several axes of a grid matter; of more, one axis after another."""
FORWARDING = 5
"""Cycles from a store to a load of the same place."""
WAITING = "waiting for results"
MOST_CHUNKS = 512
"""Chunks of blocks whose way over the cores is followed."""


@record
class Estimate:
    """What a launch takes, by the model.

    Attributes:
        seconds: of the launch.
        parts: seconds of one core by what they are spent on, in words.
        counts: over all blocks, ``blocks``, ``flops``, ``read`` and ``written`` (bytes that the code asks arrays for),
            uses of each of ``PORTS`` by name, and bytes that come from each level by its name.
        assumed: what was not known.
    """

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)

    @property
    def bottleneck(self) -> str:
        """What most of the time is spent on."""
        return max(self.parts, key=self.parts.__getitem__) if self.parts else "nothing"


class LaunchModel:
    """Of one launch of a kernel."""

    def __init__(self, function: Function, launch: Launch, memory: Memory, host: Host, threads: int,
                 memos: int, grouped: bool, frame_bytes: int) -> None:
        self.launch, self.host, self.memos, self.grouped = launch, host, memos, grouped
        rows, *others = launch.grid
        self.grid = rows * launch.parts, *others  # parts count as blocks, along the first axis
        self.blocks = math.prod(self.grid)
        self.threads = max(1, min(threads, -(-self.blocks // launch.chunk)))
        self.sizes: Mapping[int, float] = {**memory.sizes, FRAME >> ROOT_BITS: frame_bytes}
        self.analysis = Analysis(function, launch.memory, Core(host.vector_bytes, *host.latencies))
        self.cycles: dict[Region, tuple[float, str]] = {}
        self.counts: dict[Region, float] = {}
        self.followed: dict[tuple[int, int, int], Execution] = {}
        self.assumed: set[str] = set()

    def arguments(self, block: tuple[int, int, int]) -> dict[int, int]:
        row, part = divmod(block[0], self.launch.parts)
        return dict(enumerate((self.launch.arguments, FRAME, self.launch.state, row, *block[1:], part)))

    def _cycles(self, region: Region) -> tuple[float, str]:
        """Of one execution of a region's own operations, and what limits it."""
        host = self.host
        limits = {name: used / rate for name, used, rate in zip(PORTS, region.ports, host.per_cycle, strict=True)}
        limits["instructions"] = sum(region.ports[port] for port in INSTRUCTIONS) / host.issued
        limits["dependent operations"] = region.recurrence
        what = max(limits, key=limits.__getitem__)
        return limits[what], what

    # Blocks.

    def runs(self, block: Block) -> bool:
        """Whether any of the blocks that :meth:`estimate` has followed comes to a block of the code."""
        region = self.analysis.regions.get(block)
        return region is not None and self.counts.get(region, 0.0) > 0

    def estimate(self) -> Estimate:
        """The model's answer."""
        if not self.blocks:
            return Estimate(self.host.launch)
        counts = self.counts = self._counts()
        self.analysis.look(self.arguments((0, 0, 0)), counts)
        self.cycles = {r: self._cycles(r) for r in counts}
        streams = Traffic(self.analysis.body, self._axes(), counts, self._capacities(), self.sizes,
                          self.threads).streams
        parts, uses = self._parts(counts, streams)
        work = sum(parts.values())
        overhead = self.blocks * self.host.block
        parts["beginning blocks"] = overhead
        uses["blocks"] = self.blocks
        share = self._share()
        seconds = (work + overhead) * share
        parts["waiting for the last blocks"] = (work + overhead) * (share * self.threads - 1)
        parts["the launch"] = (self.host.launch + (self.host.fork if self.threads > 1 else 0)) * self.threads
        seconds += self.host.launch + (self.host.fork if self.threads > 1 else 0)
        return Estimate(seconds, parts, uses, self.assumed)

    def _counts(self) -> dict[Region, float]:
        """How often each region runs over all blocks."""
        total: dict[Region, float] = {}
        for block, weight in self._samples():
            execution = self._follow(block)
            self.assumed |= execution.assumed
            for region, count in execution.counts.items():
                total[region] = total.get(region, 0.0) + weight * count
        return total

    def _follow(self, block: tuple[int, int, int]) -> Execution:
        words = dict(self.launch.memory)
        words.update(dict.fromkeys((FRAME + memo * MEMO_STRIDE for memo in range(self.memos)), 0))
        if self.memos:
            for before in self._before(block):
                Execution(self.analysis, words, shallow=True).block(self.arguments(before), 1.0)
        execution = Execution(self.analysis, words)
        execution.block(self.arguments(block), 1.0)
        self.followed[block] = execution
        return execution

    def _before(self, block: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        """Blocks that the same core has done before this one, whose packed operands it may find: the same column of the
        row before, and the column before in the same group. Blocks at the beginning of a core's work have none."""
        row, column, plane = block
        found = [(row - 1, column, plane)] if row else []
        if column and ((self.grouped and column % PANELS_KEPT) or self.grid[0] == 1):
            found.append((row, column - 1, plane))
        return found

    def _samples(self) -> list[tuple[tuple[int, int, int], float]]:
        """Blocks that stand for all, with weights that sum up to their number."""
        grid, varies = self.grid, self.analysis.block_varies
        axes = [sampled(g) if v else [(min(g - 1, 1), float(g))] for g, v in zip(grid, varies, strict=True)]
        if self.grouped and len(axes[1]) == 1 and grid[1] > 1:  # the first column of a group packs A
            groups = -(-grid[1] // PANELS_KEPT)
            axes[1] = [(0, float(groups)), (1, float(grid[1] - groups))]
        corners = 1
        for axis in axes:
            corners *= len(axis)
        if corners <= MOST_CORNERS:
            return [((a[0], b[0], c[0]), a[1] * b[1] * c[1]) for a, b, c in itertools.product(*axes)]
        # One axis after another, from a block in the middle: the differences from it are added up.
        middle = [axis[min(1, len(axis) - 1)][0] for axis in axes]
        total = float(self.blocks)
        weights: dict[tuple[int, int, int], float] = {}
        for d, axis in enumerate(axes):
            for place, weight in axis:
                block = [*middle]
                block[d] = place
                key = (block[0], block[1], block[2])
                weights[key] = weights.get(key, 0.0) + weight * total / self.grid[d]
        key = (middle[0], middle[1], middle[2])
        weights[key] -= total * (len(axes) - 1)
        return list(weights.items())

    # Time.

    def _axes(self) -> list[tuple[Region, float]]:
        """The loops over the blocks of one core, the first axis innermost: cores share the first ones that are long
        enough."""
        trips = [float(g) for g in self.grid]
        left = float(self.threads)
        for d, count in enumerate(trips):
            share = min(left, count)
            trips[d] = count / share
            left /= share
        return list(zip(self.analysis.axes, trips, strict=True))

    def _capacities(self) -> list[float]:
        return [self.host.l1_bytes, *(level.capacity for level in self.host.levels[:-1])]

    def _parts(self, counts: Mapping[Region, float],
               streams: Iterable[Stream]) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of one core for all blocks by what they are spent on: in each region its operations and its data
        overlap."""
        data: dict[Region, tuple[float, str]] = {}
        uses: dict[str, float] = {}
        for stream in streams:
            seconds, name = self._seconds(stream, counts, uses)
            before = data.get(stream.access.region, (0.0, name))
            data[stream.access.region] = (before[0] + seconds, name if seconds > before[0] else before[1])
        parts = {WAITING: sum(exposed(self.analysis.body, counts, self.cycles)) / self.host.hertz}
        for region, count in counts.items():
            if count <= 0:
                continue
            cycles, what = self.cycles[region]
            seconds = cycles * count / self.host.hertz
            brought, level = data.get(region, (0.0, ""))
            if brought > seconds:
                seconds, what = brought, level
            parts[what] = parts.get(what, 0.0) + seconds
            moved = (("flops", region.flops), ("read", region.read), ("written", region.written))
            for name, used in (*zip(PORTS, region.ports, strict=True), *moved):
                uses[name] = uses.get(name, 0.0) + used * count
        return parts, uses

    def _seconds(self, stream: Stream, counts: Mapping[Region, float],
                 uses: dict[str, float]) -> tuple[float, str]:
        """That the data of an access take, on one core for all of its blocks, and the level that most of it is of."""
        access, levels = stream.access, self.host.levels
        traffic = [*stream.traffic, 0.0]
        if access.around:
            traffic = [access.width * access.copies * counts.get(access.region, 0.0) / self.threads] * len(levels)
            traffic.append(0.0)
        factor = 2.0 if access.store and not access.around else 1.0
        run = max(1.0, min(stream.run, 4096.0) / LINE_BYTES)
        most, name, seconds = -1.0, "", 0.0
        for level, (outer, inner) in zip(levels, itertools.pairwise(traffic), strict=True):
            served = factor * max(0.0, outer - inner) * self.threads
            nanoseconds = level.nanoseconds if self.threads > 1 else level.alone
            nanoseconds += max(0.0, level.single / LINE_BYTES - nanoseconds) / run
            uses[level.name] = uses.get(level.name, 0.0) + served
            took = served * nanoseconds * 1e-9
            seconds += took
            if took > most:
                most, name = took, level.name
        return seconds, name

    def _share(self) -> float:
        """The part of all work that the core does which is last."""
        blocks, chunk, threads = self.blocks, self.launch.chunk, self.threads
        if threads == 1:
            return 1.0
        if -(-blocks // chunk) > MOST_CHUNKS:
            return 1 / threads + chunk / (2 * blocks)
        costs = self._costs()
        return makespan(costs, threads) / sum(costs)

    def _costs(self) -> list[float]:
        """Of the chunks of blocks, in order: a block's as if what each axis changes were independent."""
        blocks, chunk = self.blocks, self.launch.chunk
        times = {at: sum(self.cycles[r][0] * n for r, n in e.counts.items()) for at, e in self.followed.items()}
        usual = sum(times.values()) / len(times) or 1.0
        profiles = [_profile(times, d, usual) for d in range(3)]
        if not any(profiles):
            return [float(min(chunk, blocks - first)) for first in range(0, blocks, chunk)]
        a, b, _ = self.grid
        step = max(1, chunk // 4)  # a few blocks stand for a chunk

        def cost(number: int) -> float:
            place = (number % a, number // a % b, number // (a * b))
            return math.prod(_between(p, x) for p, x in zip(profiles, place, strict=True) if p)

        return [step * sum(cost(n) for n in range(first, min(blocks, first + chunk), step))
                for first in range(0, blocks, chunk)]


def inclusive(region: Region, counts: Mapping[Region, float], cycles: Mapping[Region, tuple[float, str]]) -> float:
    """Cycles of one execution of a region, with the regions within."""
    within = sum(counts[child] * inclusive(child, counts, cycles) for child in region.children if counts.get(child))
    return cycles[region][0] + within / counts[region]


def exposed(region: Region, counts: Mapping[Region, float],
            cycles: Mapping[Region, tuple[float, str]]) -> Iterator[float]:
    """Cycles, over all executions, for which a core waits for what a loop stores at its end, since what stands beside
    the loop reads that: the last iteration takes as long as its operations that depend on each other."""
    children = [child for child in region.children if counts.get(child)]
    beside = region.loaded.difference(*(child.loaded for child in children))
    for child in children:
        if child.stored & beside.union(*(other.loaded for other in children if other is not child)):
            yield counts[region] * _drain(child, counts, cycles)
        yield from exposed(child, counts, cycles)


def _drain(region: Region, counts: Mapping[Region, float], cycles: Mapping[Region, tuple[float, str]]) -> float:
    """By how much the last iteration's chain is longer than what an iteration takes; of a branch that of its loops, as
    often as it is taken."""
    if region.is_loop:
        return max(0.0, region.path + FORWARDING - inclusive(region, counts, cycles))
    parent = region.parent
    assert parent is not None
    loops = [_drain(child, counts, cycles) for child in region.children if counts.get(child)]
    return max(loops, default=0.0) * counts[region] / counts[parent]


def _profile(times: Mapping[tuple[int, int, int], float], axis: int, usual: float) -> list[tuple[int, float]]:
    """How the cost of blocks depends on an axis, relative to the usual one; nothing where it does not."""
    found: dict[int, list[float]] = {}
    for at, time in times.items():
        found.setdefault(at[axis], []).append(time / usual)
    points = sorted((x, sum(y) / len(y)) for x, y in found.items())
    return points if len(points) > 1 else []


def _between(points: Sequence[tuple[int, float]], x: int) -> float:
    """Linearly between the nearest two points."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return max(1e-3, y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return points[-1][1]


def makespan(costs: Sequence[float], cores: int) -> float:
    """When the last of ``cores`` is done, each taking the next piece of work as soon as it is free."""
    free = [0.0] * cores
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


__all__ = ["Estimate", "LaunchModel", "makespan"]
