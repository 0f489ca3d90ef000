"""A kernel's regions of code, and what an execution of each takes: pipes, and the chain of results that wait for each
other.

A warp's instructions on elements of a tile go through one after another, so that of a chain of elementwise operations
each begins when the first elements of the one before are there; reductions wait for the last ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.families import AsyncCopy, Elementwise
from tilus.ir.ops import ConvertLayout, Dot, For, Gather, If, Load, ReduceWith, ScanWith, WaitAsync, While
from tilus.ir.ops.groups import Groups
from tilus.model.tiles.follow import is_global
from tilus.model.tiles.work import BARRIER, Work, Worker, staged_load
from tilus.records import field, record
from tilus.targets import Feature, Target

OVERHEAD = 6
"""Instructions by which a loop goes on: its index, the slots of its rings, the branch."""


@record
class Phase:
    """What warps do from one barrier to the next.

    Attributes:
        pipes: cycles of a sub-core's pipes that a warp takes.
        issued: its instructions.
        path: cycles of the multiprocessor's path to memory that it takes.
        chain: cycles that it takes alone.
    """

    pipes: dict[str, float] = field(default_factory=dict)
    issued: float = 0.0
    path: float = 0.0
    chain: float = 0.0


@record(eq=False)
class Region:
    """One region of code.

    Attributes:
        block: its operations; those of regions within are not counted here.
        warps: how many execute it.
        loop: whose body it is.
        parent: the region around it.
        strand: the operation of groups and the number of the group that executes it, None for the whole block.
        phases: what lies between barriers, one after the other.
        ahead: so many iterations before their use copies are started; 0 where they are waited for at once.
        latency: cycles until a copy arrives, where copies are started and waited for; else 0.
        copied: bytes that an iteration copies.
        accesses: the operations that access global memory.
    """

    block: Block
    warps: int
    loop: For | None
    parent: Region | None
    strand: tuple[Operation, int] | None
    phases: list[Phase] = field(default_factory=list)
    ahead: int = 0
    latency: float = 0.0
    copied: float = 0.0
    accesses: list[Operation] = field(default_factory=list)

    @property
    def loops(self) -> Iterator[Region]:
        """The regions of the loops around it, its own the first."""
        region: Region | None = self
        while region is not None:
            if region.loop is not None:
                yield region
            region = region.parent


def regions_of(function: Function) -> list[Region]:
    """The regions of a kernel that are executed as such, outer first."""
    found: list[Region] = []

    def visit(block: Block, warps: int, loop: For | None, parent: Region | None,
              strand: tuple[Operation, int] | None) -> None:
        region = Region(block, warps, loop, parent, strand)
        found.append(region)
        for op in block.ops:
            if isinstance(op, Groups):
                for number, (body, (_, count)) in enumerate(zip(op.bodies, op.warps, strict=True)):
                    visit(body, count, None, region, (op, number))
            elif isinstance(op, (For, If, While)):
                for inner in op.regions:
                    visit(inner, warps, op if isinstance(op, For) else None, region, strand)
            if is_global(op):
                region.accesses.append(op)

    visit(function.body, function.attributes.warps, None, None, None)
    return found


def price(region: Region, worker: Worker, target: Target, latency_of: Callable[[Operation], float]) -> None:
    """Fill in what an execution of a region takes.

    Args:
        latency_of: cycles that a load from global memory takes.
    """
    _Pricer(region, worker, target, latency_of).run()


class _Pricer:
    def __init__(self, region: Region, worker: Worker, target: Target,
                 latency_of: Callable[[Operation], float]) -> None:
        self.region, self.worker, self.target, self.latency_of = region, worker, target, latency_of
        schedule = region.loop.schedule if region.loop is not None else None
        self.stages = schedule.stages if schedule is not None else 1
        self.ahead = schedule is not None and schedule.prefetch > 0
        self.ready: dict[Value, tuple[float, float]] = {}
        self.phase = Phase()
        self.began = self.last = self.copies = self.copied = self.burst = 0.0
        self.pending: int | None = None

    def run(self) -> None:
        region = self.region
        for op in region.block.ops:
            if not op.regions or isinstance(op, (Elementwise, ReduceWith, ScanWith)):
                self.operation(op)
        if region.loop is not None:
            self.phase.issued += OVERHEAD
        self.close()
        self.wait_for_copies()

    def close(self) -> None:
        """A barrier: what follows begins when all before has ended."""
        phase = self.phase
        phase.chain = max(self.last - self.began, phase.issued, max(phase.pipes.values(), default=0.0))
        self.region.phases.append(phase)
        self.began += phase.chain
        self.last = self.began
        self.phase = Phase()

    def operation(self, op: Operation) -> None:
        if isinstance(op, (Load, Gather)) and op.view.view.space == "global":
            self.worker.global_latency = self.latency_of(op)
            if op.ring:
                self.copies = max(self.copies, self.worker.global_latency)
                self.copied += op.result.tile.size * op.result.tile.dtype.packed_bits / 8
        elif isinstance(op, AsyncCopy):
            view = op.destination.view
            self.copies = max(self.copies, self.latency_of(op))
            self.copied += math.prod(n or 1 for n in view.shape) * view.dtype.packed_bits / 8
        elif isinstance(op, WaitAsync):
            self.pending = op.pending if self.pending is None else min(self.pending, op.pending)
        work = self.worker.of(op, self.region.warps)
        if work.is_free:
            self.pass_on(op)
            return
        for name, cycles in work.pipes.items():
            self.phase.pipes[name] = self.phase.pipes.get(name, 0.0) + cycles
        self.phase.issued += work.issued
        self.phase.path += work.path
        if isinstance(op, AsyncCopy) or (isinstance(op, (Load, Gather)) and op.ring):
            self.burst += work.path * self.region.warps
        self.follow(op, work)
        if work.barriers:
            self.close()

    def pass_on(self, op: Operation) -> None:
        """What takes nothing is there when its operands are."""
        times = [self.ready[v] for v in op.operands if v in self.ready]
        if times:
            self.ready.update(dict.fromkeys(op.results, (max(t for t, _ in times), max(t for _, t in times))))

    def follow(self, op: Operation, work: Work) -> None:
        times = [self.ready[v] for v in op.operands if v in self.ready]
        flows = isinstance(op, (Elementwise, Dot))
        starts = max((first if flows else last for first, last in times), default=self.began)
        starts = max(starts, self.began)
        ended = max((last for _, last in times), default=0.0)
        if isinstance(op, ConvertLayout) and staged_load(op.x) is not None:
            # The first of several steps; with fragments loaded ahead none is waited for.
            found = (self.began,) * 2 if self.ahead else (starts + work.latency,) * 2
        elif isinstance(op, (Load, Gather)) and op.ring:
            found = (self.began,) * 2
        else:
            last = max(starts + work.span, ended) + work.latency
            found = ((starts + work.latency) if isinstance(op, Elementwise) else last, last)
        self.last = max(self.last, found[1])
        self.ready.update(dict.fromkeys(op.results, found))

    def wait_for_copies(self) -> None:
        """Copies that were started some iterations ago, and the barrier after the wait for them."""
        region = self.region
        if not self.copies:
            return
        last = region.phases[-1]
        # All warps start their copies at once, and issue nothing else while the memory's queue is full.
        last.chain += self.burst
        if self.stages > 1:
            last.chain += BARRIER
            # Without asynchronous copies they pass through registers, which are waited for.
            region.ahead = self.stages - 1 if self.target.has(Feature.CP_ASYNC) else 0
        elif self.pending is not None:
            region.ahead = self.pending
        else:  # the user waits elsewhere
            return
        region.latency, region.copied = self.copies, self.copied


__all__ = ["Phase", "Region", "price", "regions_of"]
