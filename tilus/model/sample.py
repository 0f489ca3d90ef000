"""What a launch executes and touches, from samples of its blocks: paths of warps, trip counts, accesses, traffic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilus.model.access import UNNAMED, Access, Recorder, accesses
from tilus.model.emulate.code import Step, steps_of, unknown_in_use
from tilus.model.emulate.lanes import Lanes, lanes_of
from tilus.model.emulate.machine import Event, Machine, Routine
from tilus.model.emulate.slices import Slice, slice_of
from tilus.model.emulate.state import State
from tilus.model.emulate.values import Array
from tilus.model.flow import flow_of
from tilus.model.launch import Launch
from tilus.model.paths import LoopRun, Path, blocks_of, iterations, path_of, signatures
from tilus.model.sass import Program
from tilus.model.traffic import Part, Starts, Traffic, traffic_of
from tilus.records import record
from tilus.targets import Target

UNIFIED = {120: 128 << 10, 90: 256 << 10, 86: 128 << 10, 80: 192 << 10, 75: 96 << 10, 70: 128 << 10}
"""Bytes of shared memory and L1 of a multiprocessor, from this architecture on (CUDA C Programming Guide)."""
BULK = frozenset({"UBLKCP", "UBLKRED", "UTMALDG", "UTMASTG", "UTMAREDG"})
"""Copies that no lane has an address of."""
MOST_COUNTED = 4096
"""Blocks whose trip counts are worked out; of larger grids these are spread evenly."""
GOLDEN = (5 ** 0.5 - 1) / 2
MOST_SAMPLES = 8
"""Kinds of blocks, by what they execute, that get a sample of their own."""
ALL_LANES = 1 << 14
"""Threads of a launch up to which every block's accesses are looked at."""
SOME_BLOCKS = 4
"""Blocks whose accesses are looked at in others."""
SHORT = 8
"""So many iterations are not passed over where accesses are looked at, whose alignment may change with them."""
ITERATIONS = 32
"""After so many that are executed, loops are left where addresses are looked at."""


@record(frozen=True, eq=False)
class BlockSample:
    """A block that stands for others.

    Attributes:
        index: along x, y and z.
        warps: the path of each of its warps; equal ones are one object.
        weight: how many blocks of the grid it stands for.
    """

    index: tuple[int, int, int]
    warps: tuple[Path, ...]
    weight: float


@record(frozen=True, eq=False)
class Sample:
    """What is known of a launch.

    Attributes:
        blocks: samples, of which each stands for blocks that execute about the same.
        block_numbers: the blocks that were counted, in the order of launch (x fastest): all of them up to 4096.
        block_work: for each loop, by the number of its first instruction, the iterations of each of those: of the warp
            that has most, over all entries.
        executions: for each instruction that is executed how often warps do so, in the whole launch.
        accesses: memory instructions by their numbers.
        traffic: bytes between the caches and DRAM.
        assumed: what could not be known, and what was taken instead.
        unknown_opcodes: instructions that nobody has described: their results are unknown.
    """

    program: Program
    launch: Launch
    blocks: tuple[BlockSample, ...]
    block_numbers: Array
    block_work: dict[int, Array]
    executions: dict[int, float]
    accesses: dict[int, Access]
    traffic: Traffic
    assumed: tuple[str, ...]
    unknown_opcodes: frozenset[str]


def take_sample(program: Program, launch: Launch, target: Target, *, wave_blocks: int, l2_bytes: int) -> Sample:
    """Execute the integer part of a kernel for samples of its blocks.

    Args:
        wave_blocks: how many blocks run at once on the whole board.
        l2_bytes: of the board's L2.
    """
    return Sampler(program, launch, target).sample(wave_blocks, l2_bytes)


@record(frozen=True, eq=False)
class _Look:
    """The accesses of some blocks, what executed them, and how often."""

    recorder: Recorder
    machine: Machine
    executed: dict[int, float]


class Sampler:
    """A program made ready, and one launch of it."""

    def __init__(self, program: Program, launch: Launch, target: Target) -> None:
        flow = flow_of(program)
        self.program, self.launch, self.target, self.arch = program, launch, target, target.arch
        self.routine = Routine(program, flow, steps_of(program), program.index())
        self.assumed: set[str] = set()
        self.control = self._slice("")

    def sample(self, wave_blocks: int, l2_bytes: int) -> Sample:
        flow, launch = self.routine.flow, self.launch
        numbers = spread(launch.blocks, MOST_COUNTED)
        machine = self._machine(numbers, "")
        events = self._run(machine)
        executed = _executions(self.routine, events, machine.lanes, launch.blocks / len(numbers))
        look = self._look(l1_share(self.target, launch, wave_blocks))
        traffic = self._traffic(look, executed, wave_blocks, l2_bytes)
        bulk = sorted({self.program.instructions[n].opcode for n in executed} & BULK)
        if bulk:
            self.assumed.add(f"what {', '.join(bulk)} move is not known: they are taken to move nothing")
        return Sample(
            self.program, launch, self._samples(events, numbers), numbers, iterations(flow, events, len(numbers)),
            executed, accesses(look.recorder.seen, look.executed), traffic, tuple(sorted(self.assumed)),
            frozenset(unknown_in_use(self.routine.steps)))

    def _slice(self, space: str) -> Slice:
        """Control flow, and the addresses of a space (``"all"``: of all)."""
        def wanted(step: Step) -> bool:
            return step.space != "" and space in ("all", step.space)

        return slice_of(self.program, self.routine.flow, self.routine.steps, wanted)

    def _machine(self, numbers: Sequence[int] | Array, space: str, lane: Sequence[int] = range(32),
                 most: int | None = None) -> Machine:
        state = State(self.launch, self.arch, lanes_of(self.launch, numbers, lane))
        part = self._slice(space) if space else self.control
        watch = SHORT if space == "all" else 0
        return Machine(self.routine, part, state, self.control, most, watch, max(watch, 2))

    def _run(self, machine: Machine) -> list[Event]:
        events = machine.run()
        self.assumed |= machine.state.assumed
        return events

    def _look(self, l1_bytes: float) -> _Look:
        """The accesses of all threads of some blocks, in the first iterations of loops."""
        launch = self.launch
        some = launch.blocks if launch.blocks * launch.threads <= ALL_LANES else SOME_BLOCKS
        machine = self._machine(spread(launch.blocks, some), "all", most=ITERATIONS)
        machine.state.observer = recorder = Recorder(launch.arrays, l1_bytes)
        events = self._run(machine)
        recorder.settle(machine.lanes.shape[0])
        return _Look(recorder, machine, _executions(self.routine, events, machine.lanes))

    def _traffic(self, look: _Look, executed: dict[int, float], wave: int, l2_bytes: int) -> Traffic:
        launch = self.launch
        numbers = window(launch.blocks, MOST_COUNTED, wave)
        machine = self._machine(numbers, "global", lane=(0,), most=1)
        machine.state.observer = starts = Starts()
        self._run(machine)
        apart = np.arange(len(numbers), dtype=np.int64)
        parts = []
        for number, seen in look.recorder.seen.items():
            if seen.access.space != "global" or not seen.requests or number not in executed:
                continue
            scale = executed[number] / look.executed[number]
            own = seen.fresh * scale
            requested = (seen.sectors if seen.array == UNNAMED else seen.missed) * scale
            keys = starts.keys.get(number)
            if keys is None or not (keys >= 0).any():
                keys = apart
            parts.append(Part(seen.array, requested, own if seen.array != UNNAMED else requested,
                              seen.access.reads, seen.access.writes, keys))
        return traffic_of(parts, {a.name: a.bytes for a in launch.arrays}, wave, launch.blocks, l2_bytes)

    def _samples(self, events: list[Event], numbers: Array) -> tuple[BlockSample, ...]:
        """One block for each kind, the middle one; of many kinds some that do more and less."""
        signature = signatures(events, len(numbers))
        kinds, first, inverse, counts = np.unique(signature, return_index=True, return_inverse=True, return_counts=True)
        chosen: list[tuple[int, float]] = []
        if len(kinds) <= MOST_SAMPLES:
            for kind in range(len(kinds)):
                members = np.flatnonzero(inverse == kind)
                chosen.append((int(members[len(members) // 2]), float(counts[kind])))
        else:
            work = sum(_blocks_executed(events, len(numbers), self.launch.warps))
            order = np.argsort(work, kind="stable")
            for members in np.array_split(order, MOST_SAMPLES):
                chosen.append((int(members[len(members) // 2]), float(len(members))))
        scale = self.launch.blocks / len(numbers)
        return tuple(self._sample_of(events, place, int(numbers[place]), count * scale)
                     for place, count in sorted(chosen))

    def _sample_of(self, events: list[Event], place: int, number: int, weight: float) -> BlockSample:
        gx, gy, _ = self.launch.grid
        known: dict[tuple[tuple[int, int], ...], Path] = {}
        warps = []
        for warp in range(self.launch.warps):
            blocks = tuple(blocks_of(events, place, warp))
            path = known.get(blocks)
            if path is None:
                path = known[blocks] = path_of(self.routine.flow, blocks)
            warps.append(path)
        return BlockSample((number % gx, number // gx % gy, number // (gx * gy)), tuple(warps), weight)


def l1_share(target: Target, launch: Launch, wave_blocks: int) -> float:
    """Bytes of L1 for each of the blocks that a multiprocessor holds: what their shared memory leaves."""
    resident = max(1, round(wave_blocks / target.sm_count))
    whole = next(size for arch, size in UNIFIED.items() if target.arch >= arch)
    return max(0.0, whole / resident - launch.shared - target.shared_reserved)


def spread(count: int, most: int) -> Array:
    """Numbers below ``count``: all, or so many, one from each of equal parts, at changing places of these: grids have
    extents that are multiples of each other."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    part = np.arange(most)
    return ((part + part * GOLDEN % 1) * count / most).astype(np.int64)


def window(count: int, most: int, wave: int) -> Array:
    """Consecutive numbers below ``count``: all, or whole waves in the middle, so many blocks at most."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    width = max(1, most // wave) * wave
    width = min(width, max(most, wave), count)
    start = (count - width) // 2 // wave * wave
    return np.arange(start, start + width, dtype=np.int64)


def _blocks_executed(events: list[Event], blocks: int, warps: int) -> list[Array]:
    """For each event how many blocks of code the warps of each block have executed."""
    return [np.broadcast_to(e.warps.sum(axis=1) * (warps // e.warps.shape[1]) * max(1, e.repeats * len(e.path)), blocks)
            for e in events]


def _executions(routine: Routine, events: list[Event], lanes: Lanes, scale: float = 1.0) -> dict[int, float]:
    """How often warps execute each instruction, times a scale."""
    flow = routine.flow
    total = [0.0] * len(flow.blocks)
    blocks, warps, _ = lanes.shape
    for event in events:
        count = float(event.warps.sum()) * (blocks // event.warps.shape[0]) * (warps // event.warps.shape[1])
        for block in event.path or (event.block,):
            total[block] += count * max(1, event.repeats)
    return {n: total[b] * scale for n, b in enumerate(flow.block_of) if total[b]}


__all__ = ["Access", "BlockSample", "LoopRun", "Path", "Sample", "Sampler", "Traffic", "take_sample"]
