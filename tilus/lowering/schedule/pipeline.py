"""Carries out the schedules of loops: staged loads go through rings of shared-memory buffers, ahead of their use.

A loop over tiles ``for k in range(start, stop, step)`` whose schedule has S stages becomes

* a prologue that starts the copies of the first S - 1 tiles,
* where the schedule is split a main loop in which every tile that is copied is whole: its copies have no bounds checks
  along the loop's dimension (where fragments are loaded ahead, it is unrolled so that the slots of the ring are
  constants),
* a tail loop that does the remaining iterations, the last partial tile and the drain, with the slot as a variable.

A load may have a ring of its own length d, whose tiles are copied d - 1 iterations ahead.

Copies past the loop's end give zeros where that is the end of their arrays; others are not made, but where fragments
are loaded ahead. Where a loop does nothing but dots of staged tiles, the fragments of the next step of k are loaded
from shared memory before the multiplications of this one, across the loop's back edge.
"""

from __future__ import annotations

from typing import Any

from tilus.diagnostics import UserError
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import bool_, i64
from tilus.ir.ops import (
    AllocShared,
    Dim,
    Dot,
    For,
    Gather,
    If,
    Load,
    Select,
    Subview,
    Transpose,
    Yield,
)
from tilus.ir.ops.arith import Compare, Const
from tilus.ir.schedule import LoopSchedule
from tilus.ir.types import TileType
from tilus.lowering.schedule.plan import fragment_step
from tilus.lowering.schedule.ring import RINGS, RingKind
from tilus.lowering.schedule.staged import Extents, Staged, StagedLoop, windows
from tilus.records import record


def pipeline_loops(module: Module) -> None:
    """Pipeline every loop whose schedule has 2 stages or more. Raises UserError where there is no ring of a name."""
    for function in module.kernels:
        _visit(function.body, Extents(function))


def _visit(block: Block, extents: Extents) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _visit(region, extents)
        loads = [x for x in op.body.ops if isinstance(x, (Load, Gather)) and x.ring] if isinstance(op, For) else []
        if isinstance(op, For) and op.schedule is not None and op.schedule.stages >= 2 and loads:
            ops += _Pipeline(StagedLoop(op, loads, extents), op.schedule).build()
        else:
            ops.append(op)
    block.ops = ops


def _check(staged: StagedLoop, schedule: LoopSchedule) -> None:
    """Raise UserError (E0107) where a schedule, which may be anybody's, does not fit its loop."""
    span = staged.loop.span
    if schedule.unroll < 1:
        raise UserError.at("E0107", f"a loop of {schedule.stages} stages is unrolled by {schedule.unroll}", span)
    for load in staged.loads:
        if load.stages == 1 or load.stages < 0:
            raise UserError.at("E0107", f"a ring of {load.stages} tiles has none ahead", load.span)
    if not schedule.prefetch:
        return
    if any(load.stages not in (0, schedule.stages) for load in staged.loads):
        raise UserError.at("E0107", "fragments are ahead of rings of one length only", span, help="prefetch=0")
    step = fragment_step(staged)
    if schedule.prefetch != step:
        raise UserError.at("E0107", f"fragments of k = {schedule.prefetch} are not what the loop's dots take", span,
                           help=f"prefetch={step}" if step else "prefetch=0: the loop does more than dots of its rings")
    if schedule.unroll % schedule.stages:
        raise UserError.at("E0107", f"with fragments ahead, unroll={schedule.unroll} has to be a multiple of the "
                                    f"{schedule.stages} stages", span)


@record(slots=True)
class _Ring:
    """A load or gather of the loop with its ring of so many buffers."""

    load: Staged
    buffers: Value
    stages: int


def _kind_of(loads: list[Staged]) -> RingKind:
    """How the tiles of a loop get into their rings."""
    for load in loads:
        if load.ring not in RINGS:
            raise UserError.at("E0107", f"there is no ring by {load.ring!r}", load.span,
                               help=f"rings: {', '.join(RINGS)}")
    return RINGS[loads[0].ring]


class _Pipeline:
    """Builds the pipelined form of one loop."""

    def __init__(self, staged: StagedLoop, schedule: LoopSchedule) -> None:
        _check(staged, schedule)
        self.staged, self.loop, self.schedule = staged, staged.loop, schedule
        self.kstep = schedule.prefetch
        lengths = [load.stages or schedule.stages for load in staged.loads]
        self.lengths = sorted(set(lengths))
        """Of the rings; slots are given for each of them."""
        self.stages = self.lengths[-1]
        self.kind = _kind_of(staged.loads)
        self.b = Builder(Block(), self.loop.span)
        self.rings: list[_Ring] = []

    # -- the whole

    def build(self) -> list[Operation]:
        loop, b = self.loop, self.b
        for load in self.staged.loads:
            stages, shape = load.stages or self.schedule.stages, load.result.tile.shape
            ring = b.add(AllocShared(load.result.tile.dtype, (stages, *shape), ordered=True, span=load.span)).result
            ring.name = f"{load.result.name}_ring".lstrip("_")
            self.rings.append(_Ring(load, ring, stages))
        for u in range(1 - self.stages, 0):
            tiles = {n: u + n - 1 for n in self.lengths if u + n > 0}
            self.copies(b, {n: (self.plus(b, loop.start, t), b.const(t)) for n, t in tiles.items()}, whole=False)
        self.await_tile(b)
        carried = list(loop.init)
        if self.kstep:
            carried += self.fragments(b, b.const(0), 0)
        index, slots = loop.start, [b.const(0) for _ in self.lengths]
        if self.schedule.split:
            index, slots, carried = self.main_loop(carried)
        results = self.tail_loop(index, slots, carried)
        self.kind.drain(b)
        mapping = dict(zip(loop.results, results, strict=False))
        return self.rename(mapping)

    def rename(self, mapping: dict[Value, Value]) -> list[Operation]:
        """The operations, with the loop's results made the results of the last loop built."""
        for old, new in mapping.items():
            owner = new.defining
            assert owner is not None
            old.owner, old.index, old.type = owner, new.index, new.type
            owner.results = tuple(old if r is new else r for r in owner.results)
        return self.b.block.ops

    def main_loop(self, carried: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        loop, b, count, rings = self.loop, self.b, self.schedule.unroll, len(self.lengths)
        reach = b.binary("mul", loop.step, b.const(self.steps_ahead(count)))
        stop = b.binary("add", b.binary("sub", loop.stop, reach), b.const(1))
        inside = self.windows_inside()
        if inside is not None:
            stop = b.add(Select(inside, stop, loop.start)).result
        stride = b.binary("mul", loop.step, b.const(count))
        body = Block(
            [TileType(i64), TileType(i64), *[TileType(i64)] * rings, *(v.type for v in carried)],
            [loop.index.name, "", *["slot"] * rings, *(v.name for v in carried)],
        )
        inner = b.at(body)
        slots, values = list(body.args[2 : 2 + rings]), list(body.args[2 + rings :])
        for u in range(count):
            at: list[Any] = [u] if self.kstep else slots
            values, following_slots = self.iteration(inner, self.plus(inner, body.args[0], u), values, at, whole=True)
            if not self.kstep:
                slots = following_slots
        following = inner.binary("add", body.args[0], stride)
        inner.add(Yield((following, *slots, *values)))
        zeros = [b.const(0) for _ in slots]
        op = b.add(For(loop.start, stop, stride, (loop.start, *zeros, *carried), body, iterations=count))
        return op.results[0], list(op.results[1 : 1 + rings]), list(op.results[1 + rings :])

    def steps_ahead(self, count: int) -> int:
        """After how many steps the tile ends that is copied in the last of ``count`` iterations."""
        return count + self.stages - 1

    def tail_loop(self, start: Value, first_slots: list[Value], carried: list[Value]) -> list[Value]:
        loop, b, rings = self.loop, self.b, len(self.lengths)
        body = Block(
            [TileType(i64), *[TileType(i64)] * rings, *(v.type for v in carried)],
            [loop.index.name, *["slot"] * rings, *(v.name for v in carried)],
        )
        inner = b.at(body)
        slots = list(body.args[1 : 1 + rings])
        values, following = self.iteration(inner, body.args[0], list(body.args[1 + rings :]), slots, whole=False)
        inner.add(Yield((*following, *values)))
        op = b.add(For(start, loop.stop, loop.step, (*first_slots, *carried), body))
        return list(op.results[rings : rings + len(loop.init)])

    def advance(self, b: Builder, slot: Value, length: int) -> Value:
        """The slot after this one of a ring."""
        following = b.binary("add", slot, b.const(1))
        if length & (length - 1) == 0:
            return b.binary("and", following, b.const(length - 1))
        last = b.add(Compare("ge", following, b.const(length))).result
        bounded = b.binary("min", following, b.const(length - 1))  # for the analysis of ranges
        return b.add(Select(last, b.const(0), bounded)).result

    def retreat(self, b: Builder, slot: Value, length: int) -> Value:
        """The slot before this one."""
        before = b.binary("add", slot, b.const(-1))
        if length & (length - 1) == 0:
            return b.binary("and", before, b.const(length - 1))
        first = b.add(Compare("lt", before, b.const(0))).result
        return b.add(Select(first, b.const(length - 1), b.binary("max", before, b.const(0)))).result

    def plus(self, b: Builder, index: Value, count: int) -> Value:
        return index if not count else b.binary("add", index, b.binary("mul", self.loop.step, b.const(count)))

    # -- one iteration

    def iteration(self, b: Builder, index: Value, carried: list[Value], slots: list[Any], whole: bool
                  ) -> tuple[list[Value], list[Value]]:
        """What is carried on, and the slots after ``slots``, which are numbers where fragments are loaded ahead in a
        main loop."""
        around = [self.slots_around(b, slot, n) for slot, n in zip(slots, self.lengths, strict=True)]
        following = [slot for _, _, slot in around]
        if self.kstep:
            return self._fragment_iteration(b, index, carried, around[0], whole), following
        ahead = {n: (self.plus(b, index, n - 1), slot) for n, (_, slot, _) in zip(self.lengths, around, strict=True)}
        self.await_tile(b)
        self.copies(b, ahead, whole)
        mapping: dict[Value, Value] = {self.loop.index: index}
        mapping.update(zip(self.loop.carried, carried, strict=True))
        this = {n: slot for n, (slot, _, _) in zip(self.lengths, around, strict=True)}
        values = self.clone_body(b, mapping, this, whole)
        for slot in this.values():
            self.kind.release(b, slot)
        return values, following

    def slots_around(self, b: Builder, slot: int | Value, length: int) -> tuple[Value, Value, Value]:
        """This slot of a ring, the one before and the one behind."""
        if isinstance(slot, int):
            this, previous, following = (b.const((slot + n) % length) for n in (0, length - 1, 1))
            return this, previous, following
        following = self.advance(b, slot, length)
        return slot, self.retreat(b, slot, length), following

    def clone_body(self, b: Builder, mapping: dict[Value, Value], slots: dict[int, Value], whole: bool) -> list[Value]:
        rings = {r.load: r for r in self.rings}
        for op in self.loop.body.ops:
            if op in self.staged.addresses:
                continue
            if isinstance(op, Yield):
                return [mapping.get(v, v) for v in op.values]
            if whole and isinstance(op, Compare) and self.staged.holds_in_whole_tiles(op):
                mapping[op.result] = b.const(True, bool_, op.result.tile.shape)
            elif isinstance(op, (Load, Gather)) and op in rings:
                tile = op.result.tile
                view = self.slot_view(b, rings[op].buffers, slots[rings[op].stages])
                mapping[op.result] = self.read(b, view, (0,) * tile.rank, tile.shape, op)
            else:
                b.block.ops.append(op.clone(mapping))
        raise AssertionError("a loop's body ends in a yield")

    def slot_view(self, b: Builder, ring: Value, slot: Value) -> Value:
        shape = tuple(int(d or 0) for d in ring.view.shape[1:])
        zero = b.const(0)
        extents = (b.const(1), *(b.const(d) for d in shape))
        return b.add(Subview(ring, (slot, *(zero for _ in shape)), extents, shape, (0,))).result

    def read(self, b: Builder, view: Value, starts: tuple[int, ...], shape: tuple[int, ...],
             load: Staged) -> Value:
        offsets = tuple(b.const(n) for n in starts)
        value = b.add(Load(view, offsets, shape, span=load.span)).result
        value.name = load.result.name
        return value

    def await_tile(self, b: Builder) -> None:
        """Wait for the oldest tile of each ring: those of the shortest ones have been on their way for the least."""
        self.kind.wait(b, self.lengths[0] - 2)

    def copies(self, b: Builder, tiles: dict[int, tuple[Value, Value]], whole: bool) -> None:
        """For the rings of each length, start copying the tiles of the iteration at an index into a slot; ``whole``
        tiles end within the loop."""
        for length, (at, slot) in tiles.items():
            self.kind.acquire(b, slot)
            rings = [ring for ring in self.rings if ring.stages == length]
            # Fragments that are loaded ahead are read past the loop's end too, where nobody uses them.
            if whole or self.kstep or all(self.staged.ends_with_array(ring.load) for ring in rings):
                self._copies(b, rings, at, slot, whole)
                continue
            made, left_out = Block(), Block()
            self._copies(b.at(made), rings, at, slot, whole)
            for block in (made, left_out):
                b.at(block).add(Yield(()))
            b.add(If(self.is_in_loop(b, at), made, left_out))
        self.kind.commit(b)

    def is_in_loop(self, b: Builder, index: Value) -> Value:
        """Whether the loop has an iteration at an index, which is not before its start."""
        loop, zero = self.loop, b.const(0)
        up = b.add(Compare("lt", index, loop.stop)).result
        step = loop.step.defining
        if isinstance(step, Const) and int(step.value) > 0:
            return up
        down = b.add(Compare("gt", index, loop.stop)).result
        return b.add(Select(b.add(Compare("gt", loop.step, zero)).result, up, down)).result

    def _copies(self, b: Builder, rings: list[_Ring], index: Value, slot: Value, whole: bool) -> None:
        for ring in rings:
            load = ring.load
            mapping: dict[Value, Value] = {self.loop.index: index}
            view = self.at_index(b, load.view, mapping)
            destination = self.slot_view(b, ring.buffers, slot)
            places = load.indices if isinstance(load, Gather) else load.offsets
            at = tuple(self.at_index(b, place, mapping) for place in places)
            if whole and load.mask is not None:
                self.whole_masks(b, load.mask, mapping)
            mask = None if load.mask is None else self.at_index(b, load.mask, mapping)
            self.kind.copy(b, load, view, destination, at, mask, self.staged.bounded(load) if whole else ())

    def whole_masks(self, b: Builder, value: Value, mapping: dict[Value, Value]) -> None:
        """The comparisons behind a mask that hold in whole tiles are true there."""
        maker = value.defining
        if maker is None or not any(maker is op for op in self.loop.body.ops):
            return
        if isinstance(maker, Compare) and self.staged.holds_in_whole_tiles(maker):
            mapping[value] = b.const(True, bool_, value.tile.shape)
            return
        for operand in maker.operands:
            self.whole_masks(b, operand, mapping)

    def at_index(self, b: Builder, value: Value, mapping: dict[Value, Value]) -> Value:
        """``value``, as the loop's body computes it, for another index."""
        if value in mapping:
            return mapping[value]
        maker = value.defining
        inside = maker is not None and any(maker is op for op in self.loop.body.ops)
        if maker is None or not inside:
            return value
        for operand in maker.operands:
            self.at_index(b, operand, mapping)
        b.block.ops.append(maker.clone(mapping))
        return mapping[value]

    def windows_inside(self) -> Value | None:
        """Whether the indices that dropped dimensions of bounded loads' arrays are in bounds: else these loads have
        nothing to read, and no tile of theirs is whole."""
        b = self.b
        inside: Value | None = None
        bounded = [load for load in self.staged.loads if self.staged.bounded(load)]
        for window in dict.fromkeys(w for load in bounded for w in windows(load.view)):
            for d in window.dropped:
                start = window.starts[d]
                above = b.add(Compare("ge", start, b.const(0))).result
                below = b.add(Compare("lt", start, b.add(Dim(window.view, d)).result)).result
                both = b.binary("and", above, below)
                inside = both if inside is None else b.binary("and", inside, both)
        return inside

    # -- fragments across the back edge

    def _operands(self) -> list[tuple[Value, int]]:
        """The operands of the dots with their k dimension."""
        return [pair for op in self.staged.dots() for pair in ((op.a, 1), (op.b, 0))]

    def fragments(self, b: Builder, slot: Value, step: int) -> list[Value]:
        """The fragments of every dot's operands for one step of k, from a slot."""
        out = []
        rings = {r.load.result: r for r in self.rings}
        for operand, dim in self._operands():
            maker = operand.defining
            source = maker.x if isinstance(maker, Transpose) else operand
            axis = 1 - dim if isinstance(maker, Transpose) else dim
            ring = rings[source]
            shape = list(source.tile.shape)
            shape[axis] = self.kstep
            starts = [0, 0]
            starts[axis] = step * self.kstep
            value = self.read(b, self.slot_view(b, ring.buffers, slot), tuple(starts), tuple(shape), ring.load)
            if isinstance(maker, Transpose):
                value = b.add(Transpose(value, (1, 0), span=maker.span)).result
            out.append(value)
        return out

    def _fragment_iteration(
        self,
        b: Builder,
        index: Value,
        carried: list[Value],
        slots: tuple[Value, Value, Value],
        whole: bool,
    ) -> list[Value]:
        this, previous, following = slots
        ahead = self.plus(b, index, self.stages - 1)
        count = len(self.loop.init)
        accumulators: dict[Value, Value] = {}
        mapping: dict[Value, Value] = {self.loop.index: index}
        mapping.update(zip(self.loop.carried, carried[:count], strict=True))
        current = carried[count:]
        steps = self.staged.dots()[0].a.tile.shape[-1] // self.kstep
        for step in range(steps):
            if step < steps - 1:
                coming = self.fragments(b, this, step + 1)
            else:
                self.kind.release(b, this)
                self.await_tile(b)
                coming = self.fragments(b, following, 0)
            if step == 0:
                self.copies(b, {self.stages: (ahead, previous)}, whole)
            for n, op in enumerate(self.staged.dots()):
                start = accumulators.get(op.result)
                if start is None:
                    start = self.at_index(b, op.accumulator, mapping)
                accumulators[op.result] = b.add(
                    Dot(current[2 * n], current[2 * n + 1], start, op.precision, op.unit, span=op.span)
                ).result
                accumulators[op.result].name = op.result.name
            current = coming
        mapping.update(accumulators)
        terminator = self.loop.body.terminator
        assert isinstance(terminator, Yield)
        return [*(self.at_index(b, v, mapping) for v in terminator.values), *current]
