"""A whole launch: blocks over multiprocessors, waves and tails, and what limits it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

from tilus.model.boards import Board
from tilus.model.cost import Cost
from tilus.model.multiprocessor import Multiprocessor, Timing
from tilus.model.pipes import STORE_OPCODES
from tilus.model.sample import Access, BlockSample, Sample
from tilus.model.steps import REASONS, Step, steps_of
from tilus.model.traces import cut_for, executions, trace_of
from tilus.records import field, record
from tilus.targets import Target

SECTOR, LINE = 32, 128
EVENTS = 32_000
"""How many issues one simulation of a multiprocessor has at most, about."""
SPILLED = 0.5
"""The share of local memory's bytes that L2 is asked for: L1 keeps some."""
PLENTY = 0.7
"""A resource that is busy for this share of the time limits a kernel."""


@record(frozen=True)
class KernelModel:
    """What the model says of one launch.

    Attributes:
        seconds: from its start to its end, the launch itself included.
        cycles: of a multiprocessor.
        registers, shared: of a thread, and bytes of a block.
        blocks, resident: how many blocks there are, and how many a multiprocessor holds at once.
        waves: how often the machine is filled, the last one counted by how full it is.
        busy: the share of the time in which each resource works: pipes, the path to memory, L2, memory.
        waits: the share of warps' time by what they wait for.
        executed: how often each instruction is executed, by all warps together.
        memory_bytes, l2_bytes: moved between memory and L2, and between L2 and the multiprocessors.
        assumed: what could not be known of the launch, and what was taken instead.
        bottleneck: what limits it, in words.
        timing: of one multiprocessor full of blocks.
    """

    name: str
    seconds: float
    cycles: float
    registers: int
    shared: int
    blocks: int
    resident: int
    waves: float
    busy: Mapping[str, float]
    waits: Mapping[str, float]
    executed: Mapping[int, float]
    memory_bytes: float
    l2_bytes: float
    bottleneck: str
    timing: Timing
    assumed: list[str] = field(default_factory=list)


class LaunchModel:
    """The model of one launch on one board.

    Args:
        sample: what is executed.
        target: the architecture.
        registers: of a thread.
        shared: bytes of a block, static and dynamic.
    """

    def __init__(self, sample: Sample, target: Target, board: Board, registers: int, shared: int) -> None:
        self.sample, self.target, self.board = sample, target, board
        self.registers, self.shared = registers, shared
        x, y, z = sample.launch.block
        self.threads = x * y * z
        self.warps = -(-self.threads // 32)
        gx, gy, gz = sample.launch.grid
        self.blocks = gx * gy * gz
        self.resident = target.resident_blocks(self.threads, registers, shared)
        self.executed = sample.executions
        self.steps = self._steps()

    def _steps(self) -> list[Step]:
        program = self.sample.program
        shares = self._shares()
        costs = {number: self._cost(number, access, shares) for number, access in self.sample.accesses.items()}
        return steps_of(program.instructions, costs, self.target.arch, half_rate=self.board.half_rate)

    def _shares(self) -> dict[tuple[str, bool], tuple[float, float]]:
        """Of the sectors that an array's loads (or, with True, its stores) ask for: which share L2 is asked for, and
        which share memory delivers or takes."""
        asked: dict[tuple[str, bool], float] = {}
        for number, access in self.sample.accesses.items():
            if access.space == "global":
                bytes_ = self.executed.get(number, 0.0) * access.requests * access.sectors * SECTOR
                key = access.array, self._stores(number)
                asked[key] = asked.get(key, 0.0) + bytes_
        traffic = self.sample.traffic
        found = {}
        for (name, store), own in asked.items():
            total = own + asked.get((name, not store), 0.0)
            moved = traffic.written_bytes if store else traffic.dram_bytes
            if own:
                l2 = 1.0 if store else min(1.0, traffic.requested_bytes.get(name, total) / total)
                found[name, store] = l2, min(l2, moved.get(name, own) / own)
        return found

    def _stores(self, number: int) -> bool:
        return self.sample.program.instructions[number].opcode in STORE_OPCODES

    def _cost(self, number: int, access: Access, shares: Mapping[tuple[str, bool], tuple[float, float]]) -> Cost:
        store, part = self._stores(number), access.requests
        if access.space == "shared":
            return Cost(True, store, part * access.wavefronts, access.wavefronts - access.least_wavefronts)
        least = access.least_sectors * SECTOR / LINE
        # Sectors beyond the least lie in lines of their own, of which one is looked up a cycle.
        passes = max(1.0, least + max(0.0, access.sectors - access.least_sectors), access.wavefronts)
        bytes_ = part * access.sectors * SECTOR
        if access.space == "local":
            return Cost(False, store, part * passes, 0.0, SPILLED, bytes_ * SPILLED, 0.0)
        l2, memory = shares.get((access.array, store), (1.0, 1.0))
        return Cost(False, store, part * passes, 0.0, l2, bytes_ * l2, bytes_ * memory)

    # -- time

    def model(self, *, timeline: bool = False) -> KernelModel:
        """Simulate, and put the blocks in order."""
        if not self.blocks:
            return self._nothing()
        machines = self.board.sm_count
        full = max(1, min(self.resident, -(-self.blocks // machines)))
        typical = self._typical()
        timings: dict[int, Timing] = {}

        def timing(count: int) -> Timing:
            if count not in timings:
                timings[count] = self._simulate(typical, count, timeline=timeline and count == full)
            return timings[count]

        cycles = self._cycles(typical, full, timing)
        l2_bytes, memory_bytes = self._bytes()
        # However blocks overlap, nothing does more than it can.
        cycles *= max(1.0, *self._busy(cycles, l2_bytes, memory_bytes).values())
        seconds = self.board.launch + cycles / (self.board.clock * 1e9)
        waits = self._waits(timing(full))
        busy = self._busy(cycles, l2_bytes, memory_bytes)
        waves = self.blocks / (machines * full)
        return KernelModel(
            self.sample.program.name, seconds, cycles, self.registers, self.shared, self.blocks, full, waves, busy,
            waits, self.executed, memory_bytes, l2_bytes, self._bottleneck(busy, waits, waves), timing(full),
            list(self.sample.assumed))

    def _nothing(self) -> KernelModel:
        return KernelModel(self.sample.program.name, self.board.launch, 0.0, self.registers, self.shared, 0, 0, 0.0, {},
                           {}, {}, 0.0, 0.0, "nothing to do", Timing(0.0, 0.0, {}, {}, {}))

    def _typical(self) -> BlockSample:
        """The sample whose work is nearest to the mean."""
        work = [sum(sum(executions(path).values()) for path in block.warps) for block in self.sample.blocks]
        total = sum(block.weight for block in self.sample.blocks)
        mean = sum(w * block.weight for w, block in zip(work, self.sample.blocks, strict=True)) / total
        nearest = min(range(len(work)), key=lambda n: abs(work[n] - mean))
        return self.sample.blocks[nearest]

    def _simulate(self, block: BlockSample, count: int, *, timeline: bool) -> Timing:
        cut = cut_for(block.warps, max(EVENTS // count, 1))
        traces = {id(path): trace_of(path, cut) for path in block.warps}
        of_block = [traces[id(path)] for path in block.warps]
        sharers = min(self.board.sm_count, -(-self.blocks // count))
        return Multiprocessor(self.steps, [of_block] * count, self.board, sharers, timeline=timeline).run()

    def _cycles(self, typical: BlockSample, full: int, timing: Any) -> float:
        """Until the last block has ended."""
        machines = self.board.sm_count
        one = self._generation(full, timing)
        work = self._work(typical, one, timing(full))
        if work is not None:
            return makespan(work, machines * full)
        whole, rest = divmod(self.blocks, machines * full)
        if not whole:
            return float(timing(full).cycles)
        last = 0.0
        if rest:
            count = -(-rest // machines)
            last = timing(count).cycles
        return whole * one + last

    def _generation(self, full: int, timing: Any) -> float:
        """Cycles from one generation of blocks to the next. Where several blocks share a multiprocessor, they drift
        apart: what each does before and after its loops goes on beside the others' loops."""
        together = timing(full)
        if full == 1 or self.blocks <= self.board.sm_count * full:
            return float(together.cycles)
        outside = together.cycles - together.loop_cycles
        return float(max(timing(1).cycles, together.loop_cycles + outside / full))

    def _work(self, typical: BlockSample, cycles: float, timing: Timing) -> list[float] | None:
        """The cycles of each block in launch order; None where all do the same."""
        loops = {first: counts for first, counts in self.sample.block_work.items() if len(set(counts.tolist())) > 1}
        if not loops:
            return None
        executed = executions(typical.warps[0])
        numbers: Any = 0.0
        for first, counts in loops.items():
            numbers = numbers + (counts - executed.get(first, 0.0)) * timing.periods.get(first, 0.0)
        found = [max(0.0, cycles + float(more)) for more in numbers]
        repeat = self.blocks / len(found)
        return [found[min(len(found) - 1, int(n / repeat))] for n in range(self.blocks)] if repeat != 1 else found

    # -- what limits it

    def _bytes(self) -> tuple[float, float]:
        l2 = memory = 0.0
        for number, times in self.executed.items():
            cost = self.steps[number].cost
            if cost is not None:
                l2 += cost.l2_bytes * times
                memory += cost.memory_bytes * times
        return l2, memory

    def _busy(self, cycles: float, l2_bytes: float, memory_bytes: float) -> dict[str, float]:
        machines = self.board.sm_count
        pipes: dict[str, float] = {"issue": 0.0}
        path = 0.0
        for number, times in self.executed.items():
            step = self.steps[number]
            pipes["issue"] += times
            pipes[step.use.pipe] = pipes.get(step.use.pipe, 0.0) + times * step.use.interval
            if step.cost is not None:
                path += times * max(2.0, step.cost.passes)
        busy = {name: spent / (4 * machines * cycles) for name, spent in pipes.items() if name != "control"}
        busy["memory"] = path / (machines * cycles)
        busy["L2"] = l2_bytes / (self.board.l2_bandwidth * cycles)
        busy["DRAM"] = memory_bytes / (self.board.memory_bytes_per_cycle * cycles)
        return busy

    def _waits(self, timing: Timing) -> dict[str, float]:
        """The share of each reason in what warps wait, loops in full."""
        sums = [0.0] * len(REASONS)
        for number, spent in timing.waits.items():
            times = self.executed.get(number, 0.0) / timing.issues[number]
            for reason, cycles in enumerate(spent):
                sums[reason] += cycles * times
        total = sum(sums) or 1.0
        return {reason: spent / total for reason, spent in zip(REASONS, sums, strict=True)}

    def _bottleneck(self, busy: Mapping[str, float], waits: Mapping[str, float], waves: float) -> str:
        name, share = max(busy.items(), key=lambda item: item[1])
        if share >= PLENTY:
            return f"{WORDS.get(name, name + ' pipe')} busy {share:.0%} of the time"
        reason, waited = max(waits.items(), key=lambda item: item[1])
        few = " (fewer blocks than fill the machine)" if waves < 0.9 else ""
        return f"warps wait for {WAITS[reason]} ({waited:.0%} of their waiting){few}"


WORDS = {
    "DRAM": "memory bandwidth", "L2": "L2 bandwidth", "memory": "the path to shared memory and L1",
    "tensor": "tensor cores", "issue": "issue slots",
    "slow": "special functions (MUFU)", "fma": "multiply-adds", "alu": "integer arithmetic",
    "fma heavy": "integer multiply-adds", "half": "f16 arithmetic",
    "double": "f64 arithmetic",
}
WAITS = {
    "stall count": "results of fixed latency", "global memory": "global memory", "shared memory": "shared memory",
    "other scoreboard": "other results of variable latency", "barrier": "other warps at barriers",
    "pipe busy": "busy pipes", "memory queue full": "the memory queue", "other warps first": "issue slots",
}


def makespan(work: list[float], slots: int) -> float:
    """When the last of the blocks ends, each taken in order by the slot that is free first."""
    free = [0.0] * min(slots, len(work))
    for cycles in work:
        heapq.heapreplace(free, free[0] + cycles)
    return max(free)


__all__ = ["PLENTY", "SPILLED", "WORDS", "KernelModel", "LaunchModel", "makespan"]
