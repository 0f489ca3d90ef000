"""The schedule of every loop: how many stages, which loads go through rings, what is loaded ahead, how far to unroll.

A loop over tiles ``for k in range(start, stop, step)`` is pipelined where it asks for ``stages`` of 2 or more, or where
it feeds dots from global memory. Its loads whose addresses are known ahead and whose arrays nobody writes meanwhile are
staged.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tilus.ir.codebooks import reads_as_zero
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import Atomic, Dot, For, Gather, Load, Transpose, Yield
from tilus.ir.ops.arith import Compare, Const
from tilus.ir.rewriter import is_pure
from tilus.ir.schedule import LoopSchedule
from tilus.ir.types import TileType
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.forms import root_of
from tilus.lowering.schedule.ring import CP_ASYNC
from tilus.lowering.schedule.staged import Extents, Staged, StagedLoop, only_addresses
from tilus.lowering.simt.access import contiguous_order, gathered_vector, may_be_partial, vector_width
from tilus.targets import Target, get_target

WORD = 32
"""Bits that an asynchronous copy moves at least."""
MOST_COPIES = 24
"""Of a thread in an iteration, beside fragments that are loaded ahead."""
DEFAULT_STAGES = 2
"""Of loops that feed dots from global memory and do not say."""
ROW_PADDING_BYTES = 16
"""At most, where rows of a ring are apart so that threads meet different banks."""


def plan_loops(module: Module) -> None:
    """Give every loop of a tile module its schedule, and the loads that are staged their ring, in place. Schedules that
    are there already stay."""
    for function in module.kernels:
        _Planner(function, get_target(module.target)).block(function.body)


def ring_bytes(loop: For) -> int:
    """The shared memory that the rings of a planned loop take."""
    stages = loop.schedule.stages if loop.schedule is not None else 1
    loads = [op for op in loop.body.ops if isinstance(op, (Load, Gather)) and op.ring]
    return sum((op.stages or stages) * op.result.tile.size * op.result.tile.dtype.bits // 8 for op in loads)


class _Planner:
    def __init__(self, function: Function, target: Target) -> None:
        self.target, self.threads = target, function.attributes.warps * target.warp_size
        self.extents = Extents(function)
        parameters = list(zip(function.body.args, function.parameters, strict=True))
        self.written = {v for v, p in parameters if p.written}
        self.overlapping = {v for v, p in parameters if p.name in function.attributes.may_alias}
        self.changing = self.written

    def block(self, block: Block) -> None:
        for op in block.ops:
            for region in op.regions:
                self.block(region)
            if isinstance(op, For) and op.schedule is None:
                self.plan(op)

    def plan(self, loop: For) -> None:
        self.changing = self._changing(loop)
        loads = self.staged_loads(loop)
        stages = self.stages_of(loop, loads)
        if not loads or stages < 2:
            loop.schedule = LoopSchedule(unroll=loop.unroll) if loop.unroll != 1 else None
            return
        for load in loads:
            load.ring = CP_ASYNC.name
        staged = StagedLoop(loop, loads, self.extents)
        alike = all(load.stages in (0, stages) for load in loads)
        prefetch = fragment_step(staged) if loop.prefetch is not False and alike else 0
        if prefetch and loop.prefetch is None and self.takes_registers(loads):
            prefetch = 0  # which fragments would fill
        # With constant slots, a multiple of the ring's length.
        unroll = stages * -(-loop.unroll // stages) if prefetch else loop.unroll
        schedule = LoopSchedule(stages, unroll, prefetch)
        loop.schedule = replace(schedule, split=worth_splitting(staged, schedule))

    def takes_registers(self, loads: list[Staged]) -> bool:
        """Whether copies of the loads' tiles take many registers: those of single elements go through them, and many
        narrow ones have as many addresses."""
        widths = [self.width(load) for load in loads]
        narrow = any(n * load.result.tile.dtype.packed_bits < WORD for n, load in zip(widths, loads, strict=True))
        copies = sum(load.result.tile.size // n for n, load in zip(widths, loads, strict=True))
        return narrow or copies > MOST_COPIES * self.threads

    def width(self, load: Staged) -> int:
        """How many elements of a load's tile a copy may move."""
        tile, facts = load.result.tile, self.extents.facts
        if isinstance(load, Gather):
            return gathered_vector(facts, load)[1]
        order = contiguous_order(facts, load.view, tile.rank)
        return vector_width(facts, load, order[0], tile, may_be_partial(self.target, tile.dtype))

    def stages_of(self, loop: For, loads: list[Staged]) -> int:
        if loop.stages or loop.unroll == 0:  # what is unrolled whole is no loop
            return loop.stages
        if any(load.stages for load in loads):
            return DEFAULT_STAGES
        asked = any(self.feeds_dot(loop, load.result) for load in loads)
        return DEFAULT_STAGES if asked and self.fit(loads, DEFAULT_STAGES) else 0

    def fit(self, loads: list[Staged], stages: int) -> bool:
        """Whether rings of so many tiles, with padded rows, are in shared memory at once."""
        tiles = (load.result.tile for load in loads)
        rows = sum(tile.size // tile.shape[-1] * (tile.shape[-1] * tile.dtype.bits // 8 + ROW_PADDING_BYTES)
                   for tile in tiles)
        return stages * rows <= self.target.shared_per_block_optin

    def feeds_dot(self, loop: For, value: Value) -> bool:
        for user in loop.body.walk():
            if value in user.operands:
                if isinstance(user, Dot):
                    return True
                if isinstance(user, Transpose) and self.feeds_dot(loop, user.result):
                    return True
        return False

    def staged_loads(self, op: For) -> list[Staged]:
        """Loads and gathers of the loop's body whose addresses are known ahead and whose arrays nobody writes
        meanwhile."""
        inside = {r for inner in op.body.walk() for r in inner.results} | set(op.body.args)
        found: list[Staged] = []
        for inner in op.body.ops:
            if not isinstance(inner, (Load, Gather)) or not inner.result.tile.shape or not _leaves_zeros(inner) or \
                    inner.stages == 1:
                continue
            plain = isinstance(inner, Gather) or (inner.layout is None and not self._reads(op, inner.mask, inside))
            plain = plain and inner.view.view.space == "global" and _fills_words(inner.result.tile)
            if plain and root_of(inner.view) not in self.changing and self._known_ahead(op, inner, inside):
                found.append(inner)
        addresses = only_addresses(op, found)
        return [load for load in found if load not in addresses]

    def _known_ahead(self, loop: For, load: Staged, inside: set[Value]) -> bool:
        """Whether the view and offsets depend on the index and on values from outside the loop only."""
        front = list(load.operands)
        while front:
            value = front.pop()
            if value is loop.index or value not in inside:
                continue
            maker = value.defining
            if maker is None or not (is_pure(maker) or self._reads_constant(maker)) or maker.regions:
                return False
            front += maker.operands
        return True

    def _reads(self, loop: For, value: Value | None, inside: set[Value]) -> bool:
        """Whether memory is read within the loop for a value that is known ahead: masks that copies would wait for."""
        front = [] if value is None else [value]
        while front:
            maker = front.pop().defining
            if maker is None or not inside.intersection(maker.results):
                continue
            if isinstance(maker, (Load, Gather)) and maker.results[0].tile.shape:
                return True
            front += maker.operands
        return False

    def _reads_constant(self, op: Operation) -> bool:
        """A read of an array that nobody writes meanwhile, e.g. of a block table."""
        if not isinstance(op, (Load, Gather)) or op.view.view.space != "global":
            return False
        return root_of(op.view) not in self.changing

    def _changing(self, loop: For) -> set[Value]:
        """The arrays that may be written while a loop runs: by itself, or, where it waits, by anyone."""
        effects = [(op, effect) for op in loop.body.walk() for effect in op.effects()]
        found = {root_of(e.value) for _, e in effects if e.kind in ("write", "atomic") and e.value is not None}
        if any(e.kind == "sync" or (isinstance(op, Atomic) and op.order != "relaxed") for op, e in effects):
            found |= self.written
        return found | self.overlapping if found & self.overlapping else found


def _leaves_zeros(load: Staged) -> bool:
    """Whether elements that are absent are 0, as copies leave them."""
    if load.other is None:
        return True
    maker, dtype = load.other.defining, load.result.tile.dtype
    plain = not dtype.is_codebook and reads_as_zero(dtype)
    return plain and isinstance(maker, Const) and maker.value == 0 and math.copysign(1, maker.value) > 0


def _fills_words(tile: TileType) -> bool:
    """Whether rows of a tile are made of bytes, or of whole words of narrower elements."""
    return tile.dtype.bits >= 8 or tile.shape[-1] * tile.dtype.bits % WORD == 0


def worth_splitting(staged: StagedLoop, schedule: LoopSchedule) -> bool:
    """Whether a loop over whole tiles does without checks that the loop over all of them needs."""
    masks = any(isinstance(op, Compare) and staged.holds_in_whole_tiles(op) for op in staged.loop.body.ops)
    checked = any(staged.bounded(load) or not staged.ends_with_array(load) for load in staged.loads)
    return bool(schedule.prefetch) or masks or schedule.unroll > 1 or checked


def fragment_step(staged: StagedLoop) -> int:
    """The k of one step of fragments that may be loaded ahead; 0 where the loop does more than dots of staged tiles."""
    loads = {load.result for load in staged.loads}
    turned = dict.fromkeys(loads)
    step = 0
    for op in staged.loop.body.ops:
        if op in staged.addresses:
            continue
        if isinstance(op, Transpose) and op.x in loads and op.x.tile.rank == 2:
            turned[op.result] = None
        elif isinstance(op, Dot):
            unit = unit_of(op)
            k = op.a.tile.shape[-1]
            in_rings = op.a in turned and op.b in turned and op.a.tile.rank == 2
            if unit.place is not Place.REGISTERS or not in_rings or not op.is_plain:
                return 0
            depth = unit.depth
            if k % depth or k // depth < 2 or step not in (0, depth):
                return 0
            step = depth
        elif (
            (
                not (isinstance(op, (Yield, Load)) or op in staged.loads)
                and any(r.type.shape for r in op.results if isinstance(r.type, TileType))
            )
            or any(v in turned for v in op.operands)
            or (isinstance(op, Load) and op.result.tile.shape and (op.result not in loads))
        ):
            return 0
    dots = staged.dots()
    used = [v for op in dots for v in (op.a, op.b)]
    same_depth = len({op.a.tile.shape[-1] for op in dots}) == 1
    return step if dots and same_depth and len(set(used)) == len(used) else 0


__all__ = ["fragment_step", "plan_loops", "ring_bytes"]
