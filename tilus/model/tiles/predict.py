"""The time of a launch: what its blocks take, over multiprocessors and waves."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tilus.ir.core import Function, Operation, Value
from tilus.ir.ops import Atomic, Dot
from tilus.ir.rewriter import find_users
from tilus.lowering.dots import unit_of
from tilus.lowering.facts import Facts
from tilus.lowering.schedule.raster import launched_grid
from tilus.model.boards import Board
from tilus.model.kernel import PLENTY, SPILLED, WORDS
from tilus.model.multiprocessor import REQUEST
from tilus.model.sample import window
from tilus.model.sampled import sampled
from tilus.model.tiles.follow import Follower, reads, writes
from tilus.model.tiles.regions import Region, price, regions_of
from tilus.model.tiles.resources import Shared, registers_of, shared_memory
from tilus.model.tiles.times import Times
from tilus.model.tiles.windows import SECTOR
from tilus.model.tiles.work import LANES, Worker
from tilus.model.traffic import Part, Traffic, traffic_of
from tilus.records import field, record
from tilus.targets import Target

MOST_TOGETHER = 1024
"""Blocks in the order of their launch of which it is looked at what they share."""
LATENCY = "results (latency)"


@record
class Estimate:
    """What is known of a call before it is compiled.

    Attributes:
        seconds: infinite where it cannot be launched.
        bottleneck: what limits it, in words; why it cannot be launched.
        counts: of all launches together: ``blocks``; ``multiply-adds UNIT`` of each unit; ``read`` and ``written``,
            bytes of elements in bounds, each access for itself; ``L2`` and ``DRAM``, bytes that multiprocessors ask L2
            for, and that come from or go to memory; ``atomics``, elements.
        kernels: of each launch its figures.
        assumed: what was not known, in words.
    """

    seconds: float = 0.0
    bottleneck: str = ""
    counts: dict[str, float] = field(default_factory=dict)
    kernels: list[KernelEstimate] = field(default_factory=list)
    assumed: set[str] = field(default_factory=set)


@record(frozen=True)
class KernelEstimate:
    """Of one launch.

    Attributes:
        seconds: from its start to its end, the launch itself included.
        registers: of a thread.
        spilled: how many more it needs.
        shared: bytes of a block.
        blocks, resident: of the grid, and of a multiprocessor at once.
        waves: how often the machine is filled.
        busy: the share of the time in which each resource works.
    """

    name: str
    seconds: float
    registers: int
    spilled: int
    shared: int
    blocks: int
    resident: int
    waves: float
    busy: Mapping[str, float]


class LaunchModel:
    """One launch of a kernel whose loops are planned and whose tiles have layouts.

    Args:
        numbers: what is known of its parameters: numbers and windows.
        sizes: bytes of each array, by its name.
    """

    def __init__(self, function: Function, facts: Facts, grid: tuple[int, ...], numbers: Mapping[Value, Any],
                 sizes: Mapping[str, int], target: Target, board: Board) -> None:
        self.function, self.facts, self.numbers, self.sizes = function, facts, numbers, sizes
        self.target, self.board = target, board
        x, y, z = (*grid, 1, 1)[:3]
        self.grid = (x, y, z)
        self.blocks = x * y * z
        self.warps = function.attributes.warps
        self.users = find_users(function)
        self.shared: Shared = shared_memory(function, target)
        self.thread = registers_of(function)
        self.limit = self._register_limit()
        self.resident = max(1, target.resident_blocks(self.warps * LANES, self.registers, self.shared.likely))
        self.regions = regions_of(function)
        self.axes = [sampled(extent) for extent in self.grid]
        self.assumed: set[str] = set()

    def _register_limit(self) -> int:
        """Of a thread: the target's, and what the registers of a multiprocessor are for so many."""
        per_thread = self.target.registers_per_sm // (self.warps * LANES) // 8 * 8
        return min(self.target.max_registers_per_thread, per_thread, self.function.attributes.max_registers or 255)

    @property
    def registers(self) -> int:
        return min(self.thread.wanted, self.limit)

    @property
    def spilled(self) -> int:
        return max(0, self.thread.needed - self.limit)

    def refusal(self) -> str:
        """Why the kernel surely cannot be launched; empty where it may."""
        target, threads = self.target, self.warps * LANES
        if self.shared.certain > target.shared_per_block_optin:
            return (f"{self.shared.certain} bytes of shared memory, and {target.name} has "
                    f"{target.shared_per_block_optin} for a block")
        if threads > target.max_threads_per_block:
            return f"{threads} threads, and a block of {target.name} has at most {target.max_threads_per_block}"
        return ""

    # -- what is executed

    def _followed(self) -> Follower:
        """Blocks that stand for all."""
        indices = np.meshgrid(*([i for i, _ in axis] for axis in self.axes), indexing="ij")
        return self._follow(tuple(np.asarray(i, np.int64).ravel() for i in indices), briefly=False)

    def _together(self, wave: int) -> Follower:
        """Blocks that run side by side, and those that follow, in the order of their launch."""
        x, y, z = self.grid
        launched, groups = launched_grid(self.grid, self.function.attributes.raster or 0)
        width = launched[0]
        numbers = window(launched[0] * launched[1] * launched[2], MOST_TOGETHER, wave)
        first, second, third = numbers % width, numbers // width % y, numbers // (width * y)
        if self.function.attributes.raster:
            first, third = third % groups * width + first, third // groups
        there = first < x
        return self._follow((first[there], second[there], third[there]), briefly=True)

    def _follow(self, indices: Any, *, briefly: bool) -> Follower:
        follower = Follower(self.function, self.facts, self.grid, indices, self.numbers, briefly)
        follower.run()
        self.assumed |= follower.assumed
        return follower

    @property
    def weights(self) -> Any:
        """How many blocks each of those that are followed stands for."""
        x, y, z = ([share for _, share in axis] for axis in self.axes)
        return np.einsum("i,j,k->ijk", x, y, z).ravel()

    # -- memory

    def _traffic(self, followed: Follower, wave: int) -> Traffic:
        together = self._together(wave)
        weights = self.weights
        parts, seen = [], set()
        for region in self.regions:
            for op in region.accesses:
                touched = followed.touched.get(op)
                if touched is None:
                    continue
                requested = float(weights @ np.broadcast_to(touched.sectors, weights.shape))
                briefly = together.touched.get(op)
                keys = briefly.first if briefly is not None else np.full(together.blocks, -1)
                if not (keys >= 0).any():
                    keys = np.arange(together.blocks)
                own = requested * self._fresh(op, region, followed)
                # What a block has just touched comes from L2.
                place = (touched.array, keys.tobytes(), round(own))
                own = 0.0 if place in seen and reads(op) else own
                seen.add(place)
                parts.append(Part(touched.array, requested, own, reads(op), writes(op), keys))
        return traffic_of(parts, self.sizes, wave, self.blocks, self.board.l2)

    def _fresh(self, op: Operation, region: Region, followed: Follower) -> float:
        """The share of an access's executions by a block that touch something else than those before: in loops whose
        index its place does not depend on all do the same."""
        share = 1.0
        depends = self._depends(op)
        for loop in region.loops:
            if loop.block not in depends and loop.parent is not None:
                inside, outside = (float(np.sum(self.weights * followed.counts.get(b, 0.0)))
                                   for b in (loop.block, loop.parent.block))
                share *= min(1.0, outside / inside) if inside else 1.0
        return share

    def _depends(self, op: Operation) -> set[Any]:
        """The regions whose arguments the place of an access follows from."""
        front = [v for v in op.operands if v is not getattr(op, "value", None)]
        seen, found = set(front), set()
        while front:
            value = front.pop()
            maker = value.defining
            if maker is None:
                found.add(value.owner)
                continue
            for operand in maker.operands:
                if operand not in seen:
                    seen.add(operand)
                    front.append(operand)
        return found

    # -- time

    def estimate(self, counts: dict[str, float]) -> KernelEstimate:
        """Of a launch that is possible; its counts are added to ``counts``."""
        board, followed = self.board, self._followed()
        machines = board.sm_count
        full = max(1, min(self.resident, -(-self.blocks // machines)))
        traffic = self._traffic(followed, self.resident * machines)
        shares = _shares(followed, traffic, self.weights)
        worker = Worker(self.function, self.facts, self.target, board, self.users)

        def latency(op: Operation) -> float:
            touched = followed.touched.get(op)
            share = shares[False].get(touched.array, 1.0) if touched is not None else 1.0
            # A request waits for the slowest of its sectors.
            return board.l2_latency + min(1.0, 4 * share) * (board.memory_latency - board.l2_latency)

        for region in self.regions:
            price(region, worker, self.target, latency)
        times = Times(self, followed, shares, self._spill(followed))
        cycles = times.cycles(full)
        busy = times.busy(cycles)
        self._count(counts, followed, times, cycles)
        return KernelEstimate(
            self.function.name, board.launch + cycles / (board.clock * 1e9), self.registers,
            self.spilled, self.shared.likely, self.blocks, full, self.blocks / (machines * full), busy)

    def _spill(self, followed: Follower) -> dict[Region, float]:
        """What registers do not hold is stored and loaded again, in the region that is executed most. Gives the bytes
        that L2 is asked for in an execution of it."""
        if not self.spilled:
            return {}
        often = max(self.regions, key=lambda r: float(np.sum(self.weights * followed.counts.get(r.block, 0.0))))
        moved = self.thread.moved(self.limit)
        phase = often.phases[-1]
        phase.path += REQUEST * moved
        phase.issued += moved
        phase.chain += moved + self.board.l1_latency
        return {often: SPILLED * moved * 4 * LANES * often.warps}

    def _count(self, counts: dict[str, float], followed: Follower, times: Times, cycles: float) -> None:
        def add(name: str, value: float) -> None:
            counts[name] = counts.get(name, 0.0) + value

        weights = self.weights
        for name in ("read", "written"):
            add(name, 0.0)
        add("blocks", float(self.blocks))
        for region in self.regions:
            executed = float(np.sum(weights * followed.counts.get(region.block, 0.0)))
            for op in region.block.ops:
                if isinstance(op, Dot):
                    add(f"multiply-adds {unit_of(op).name}", executed * op.result.tile.size * op.a.tile.shape[-1])
        for op, touched in followed.touched.items():
            elements = float(weights @ np.broadcast_to(touched.elements, weights.shape))
            if isinstance(op, Atomic):
                add("atomics", elements)
            elif reads(op):
                add("read", elements * touched.bits / 8)
            else:
                add("written", elements * touched.bits / 8)
        add("L2", times.l2)
        add("DRAM", times.memory)


def _shares(followed: Follower, traffic: Traffic, weights: Any) -> dict[bool, dict[str, float]]:
    """Of the sectors that an array's loads (False) and stores (True) ask L2 for: which share memory has to move."""
    asked: dict[bool, dict[str, float]] = {False: {}, True: {}}
    for op, touched in followed.touched.items():
        total = SECTOR * float(weights @ np.broadcast_to(touched.sectors, weights.shape))
        for kind, does in ((False, reads(op)), (True, writes(op))):
            if does:
                asked[kind][touched.array] = asked[kind].get(touched.array, 0.0) + total
    moved = {False: traffic.dram_bytes, True: traffic.written_bytes}
    return {kind: {name: min(1.0, moved[kind].get(name, total) / total) for name, total in arrays.items() if total}
            for kind, arrays in asked.items()}


def bottleneck_of(kernel: KernelEstimate) -> str:
    """What limits a launch, in words."""
    name, share = max(kernel.busy.items(), key=lambda item: item[1], default=("", 0.0))
    if kernel.spilled and kernel.busy.get("memory", 0.0) >= PLENTY:
        return f"{kernel.spilled} registers are spilled"
    if share >= PLENTY:
        return f"{WORDS.get(name, name + ' pipe')} busy {share:.0%} of the time"
    few = " (fewer blocks than fill the machine)" if kernel.waves < 0.9 else ""
    return f"warps wait for {LATENCY}{few}"


__all__ = ["Estimate", "KernelEstimate", "LaunchModel", "bottleneck_of"]
