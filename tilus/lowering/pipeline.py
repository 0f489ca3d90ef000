"""Software pipelining: loads of a staged loop go through a ring of shared-memory buffers, ahead of their use.

A loop over tiles ``for k in range(start, stop, step)`` whose loads are S stages deep becomes

* a prologue that starts the copies of the first S - 1 tiles,
* a main loop in which every tile that is copied is whole: its copies have no bounds checks along the loop's dimension
  (a loop of nothing but dots is unrolled S times, so that the slots of the ring are constants),
* a tail loop that does the remaining iterations, the last partial tile and the drain, with the slot as a variable.

Copies past the loop's end read in bounds or give zeros, and nobody uses them. Where a loop does nothing but dots of
staged tiles, the fragments of the next step of k are loaded from shared memory before the multiplications of this one,
across the loop's back edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import bool_, i64
from tilus.ir.ops import (
    AllocShared,
    Binary,
    Broadcast,
    CommitAsync,
    Const,
    CopyAsync,
    Dim,
    Dot,
    For,
    Gather,
    GatherAsync,
    Iota,
    Load,
    Reshape,
    Select,
    Subview,
    Sync,
    Transpose,
    WaitAsync,
    Yield,
)
from tilus.ir.ops.arith import Compare
from tilus.ir.rewriter import is_pure
from tilus.ir.types import TileType
from tilus.lowering.dots import Place, unit_of

DEFAULT_STAGES = 2


def pipeline_loops(module: Module) -> None:
    """Pipeline every loop that asks for it (``stages`` of 2 or more), or that feeds dots from global memory."""
    for function in module.kernels:
        _Pipeliner(function).block(function.body)


@dataclass(slots=True)
class _Staged:
    """A load or gather of the loop with its ring of buffers."""

    load: Load | Gather
    ring: Value


class _Pipeliner:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.dims: dict[Value, tuple[Any, ...]] = {
            v: p.dims for v, p in zip(function.body.args, function.parameters, strict=True) if p.kind == "array"
        }
        self.written = {v for v, p in zip(function.body.args, function.parameters, strict=True) if p.written}

    def block(self, block: Block) -> None:
        ops: list[Operation] = []
        for op in block.ops:
            for region in op.regions:
                self.block(region)
            if isinstance(op, For):
                staged = self.staged_loads(op)
                stages = self.stages_of(op, staged)
                if staged and stages >= 2:
                    ops += _Pipeline(self, op, staged, stages).build()
                    continue
            ops.append(op)
        block.ops = ops

    def stages_of(self, op: For, loads: list[Load | Gather]) -> int:
        if op.stages or op.unroll == 0:  # what is unrolled whole is no loop
            return op.stages
        return DEFAULT_STAGES if any(self.feeds_dot(op, load.result) for load in loads) else 0

    def feeds_dot(self, op: For, value: Value) -> bool:
        for user in op.body.walk():
            if value in user.operands:
                if isinstance(user, Dot):
                    return True
                if isinstance(user, Transpose) and self.feeds_dot(op, user.result):
                    return True
        return False

    def staged_loads(self, op: For) -> list[Load | Gather]:
        """Loads and gathers of the loop's body whose addresses are known ahead and whose arrays nobody writes."""
        inside = {r for inner in op.body.walk() for r in inner.results} | set(op.body.args)
        found: list[Load | Gather] = []
        for inner in op.body.ops:
            if not isinstance(inner, (Load, Gather)) or not inner.result.tile.shape or inner.other is not None:
                continue
            plain = isinstance(inner, Gather) or (inner.mask is None and inner.layout is None)
            plain = plain and inner.view.view.space == "global" and inner.result.tile.dtype.bits >= 8
            if plain and self.root(inner.view) not in self.written and self._known_ahead(op, inner, inside):
                found.append(inner)
        addresses = self.only_addresses(op, found)
        return [load for load in found if load not in addresses]

    def only_addresses(self, loop: For, staged: list[Load | Gather]) -> set[Operation]:
        """The operations of the loop's body that nothing but the addresses of staged gathers needs: they are done where
        the copies start."""
        gathers = {op for op in staged if isinstance(op, Gather)}
        needed: set[Value] = set()
        only: set[Operation] = set()
        for op in reversed(loop.body.ops):
            pure = not op.regions and all(e.kind == "read" for e in op.effects())
            if op not in gathers and pure and op.results and not needed.intersection(op.results):
                only.add(op)
            elif op not in gathers:
                needed.update(v for inner in op.walk() for v in inner.operands)
        return only if gathers else set()

    def root(self, view: Value) -> Value:
        while view.defining is not None and hasattr(view.defining, "view"):
            view = view.defining.view
        return view

    def _known_ahead(self, loop: For, load: Load | Gather, inside: set[Value]) -> bool:
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

    def _reads_constant(self, op: Operation) -> bool:
        """A read of an array that nobody writes, e.g. of a block table."""
        if not isinstance(op, (Load, Gather)) or op.view.view.space != "global":
            return False
        return self.root(op.view) not in self.written

    def same_extent(self, value: Value, view: Value, axis: int) -> bool:
        """Whether ``value`` is at most the extent of ``view`` along ``axis``."""
        maker = value.defining
        if isinstance(maker, Binary) and maker.kind == "min":
            return self.same_extent(maker.lhs, view, axis) or self.same_extent(maker.rhs, view, axis)
        inner = _rounded_down(maker)
        if inner is not None:
            return self.same_extent(inner, view, axis)
        if isinstance(maker, Const) and view.view.shape[axis] is not None:
            return int(maker.value) <= int(view.view.shape[axis] or 0)
        if not isinstance(maker, Dim):
            return False
        if maker.view is view and maker.axis == axis:
            return True
        mine = self.dim_name(view, axis)
        return mine is not None and mine == self.dim_name(maker.view, maker.axis)

    def dim_name(self, view: Value, axis: int) -> Any:
        """The declared name of a view's dimension, followed through views that keep it whole."""
        while view not in self.dims:
            op = view.defining
            if not isinstance(op, Subview):
                return None
            kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
            axis = kept[axis]
            start, extent = op.starts[axis].defining, op.extents[axis].defining
            whole = isinstance(start, Const) and start.value == 0 and isinstance(extent, Dim)
            if not whole:
                return None
            assert isinstance(extent, Dim)
            if (
                extent.view in self.dims
                and self.dims[extent.view][extent.axis] == self.dims.get(op.view, {axis: None})[axis]
            ):
                view = op.view
                continue
            if extent.view is not op.view:
                return None
            view = op.view
        return self.dims[view][axis]


def _windows(view: Value) -> list[Subview]:
    """The windows between an array and a view of it in which dimensions are dropped."""
    found = []
    op = view.defining
    while op is not None and hasattr(op, "view"):
        if isinstance(op, Subview) and op.dropped:
            found.append(op)
        op = op.view.defining
    return found


def _unbroadcast(value: Value) -> Value:
    """The value that broadcasts and reshapes spread."""
    while isinstance(value.defining, (Broadcast, Reshape)):
        value = value.defining.x
    return value


def _rounded_down(op: Operation | None) -> Value | None:
    """What ``x // c * c`` rounds down, and ``max(x, 0)`` of what may be negative: values that are at most ``x`` where
    that is an extent."""
    if not isinstance(op, Binary) or not isinstance(op.rhs.defining, Const):
        return None
    constant = int(op.rhs.defining.value)
    if op.kind == "max" and constant == 0:
        return op.lhs
    quotient = op.lhs.defining
    if op.kind != "mul" or constant <= 0 or not isinstance(quotient, Binary) or quotient.kind != "floordiv":
        return None
    divisor = quotient.rhs.defining
    return quotient.lhs if isinstance(divisor, Const) and int(divisor.value) == constant else None


class _Pipeline:
    """Builds the pipelined form of one loop."""

    def __init__(self, pass_: _Pipeliner, loop: For, loads: list[Load | Gather], stages: int) -> None:
        self.pass_, self.loop, self.stages = pass_, loop, stages
        self.b = Builder(Block(), loop.span)
        self.staged: list[_Staged] = []
        self.loads = loads
        self.addresses = pass_.only_addresses(loop, loads)
        self.kstep = self._fragment_step()

    # -- the whole

    def build(self) -> list[Operation]:
        loop, b, s = self.loop, self.b, self.stages
        for load in self.loads:
            shape = load.result.tile.shape
            ring = b.add(AllocShared(load.result.tile.dtype, (s, *shape), ordered=True, span=load.span)).result
            ring.name = f"{load.result.name}_ring"
            self.staged.append(_Staged(load, ring))
        for u in range(s - 1):
            self.copies(b, self.plus(b, loop.start, u), b.const(u), whole=False)
        self.await_tile(b)
        carried = list(loop.init)
        if self.kstep:
            carried += self.fragments(b, b.const(0), 0)
        index, slot = loop.start, b.const(0)
        if self.worth_splitting():
            index, slot, carried = self.main_loop(carried)
        results = self.tail_loop(index, slot, carried)
        b.add(WaitAsync(0))
        mapping = dict(zip(loop.results, results, strict=False))
        return self.rename(mapping)

    def worth_splitting(self) -> bool:
        """Whether a loop over whole tiles does without checks that the loop over all of them needs."""
        masks = any(isinstance(op, Compare) and self.holds_in_whole_tiles(op) for op in self.loop.body.ops)
        return bool(self.kstep) or masks or self.loop.unroll > 1 or any(self.bounded(load) for load in self.loads)

    def rename(self, mapping: dict[Value, Value]) -> list[Operation]:
        """The operations, with the loop's results made the results of the last loop built."""
        for old, new in mapping.items():
            owner = new.defining
            assert owner is not None
            old.owner, old.index, old.type = owner, new.index, new.type
            owner.results = tuple(old if r is new else r for r in owner.results)
        return self.b.block.ops

    def main_loop(self, carried: list[Value]) -> tuple[Value, Value, list[Value]]:
        loop, b, s = self.loop, self.b, self.stages
        # With constant slots, a multiple of the ring's length.
        count = s * -(-loop.unroll // s) if self.kstep else loop.unroll
        reach = b.binary("mul", loop.step, b.const(self.steps_ahead(count)))
        stop = b.binary("add", b.binary("sub", loop.stop, reach), b.const(1))
        inside = self.windows_inside()
        if inside is not None:
            stop = b.add(Select(inside, stop, loop.start)).result
        stride = b.binary("mul", loop.step, b.const(count))
        body = Block(
            [TileType(i64), TileType(i64), TileType(i64), *(v.type for v in carried)],
            [loop.index.name, "", "slot", *(v.name for v in carried)],
        )
        inner = b.at(body)
        values = list(body.args[3:])
        slot = body.args[2]
        for u in range(count):
            at = u if self.kstep else slot
            values = self.iteration(inner, self.plus(inner, body.args[0], u), values, at, whole=True)
            if not self.kstep:
                slot = self.advance(inner, slot)
        following = inner.binary("add", body.args[0], stride)
        inner.add(Yield((following, slot, *values)))
        op = b.add(For(loop.start, stop, stride, (loop.start, b.const(0), *carried), body, iterations=count))
        return op.results[0], op.results[1], list(op.results[2:])

    def steps_ahead(self, count: int) -> int:
        """After how many steps the tile ends that is copied in the last of ``count`` iterations."""
        return count + self.stages - 1

    def tail_loop(self, start: Value, first_slot: Value, carried: list[Value]) -> list[Value]:
        loop, b = self.loop, self.b
        body = Block(
            [TileType(i64), TileType(i64), *(v.type for v in carried)],
            [loop.index.name, "slot", *(v.name for v in carried)],
        )
        inner = b.at(body)
        slot = body.args[1]
        values = self.iteration(inner, body.args[0], list(body.args[2:]), slot, whole=False)
        inner.add(Yield((self.advance(inner, slot), *values)))
        op = b.add(For(start, loop.stop, loop.step, (first_slot, *carried), body))
        return list(op.results[1 : 1 + len(loop.init)])

    def advance(self, b: Builder, slot: Value) -> Value:
        """The slot after this one."""
        following = b.binary("add", slot, b.const(1))
        if self.stages & (self.stages - 1) == 0:
            return b.binary("and", following, b.const(self.stages - 1))
        last = b.add(Compare("ge", following, b.const(self.stages))).result
        bounded = b.binary("min", following, b.const(self.stages - 1))  # for the analysis of ranges
        return b.add(Select(last, b.const(0), bounded)).result

    def plus(self, b: Builder, index: Value, count: int) -> Value:
        return index if not count else b.binary("add", index, b.binary("mul", self.loop.step, b.const(count)))

    # -- one iteration

    def iteration(self, b: Builder, index: Value, carried: list[Value], slot: int | Value, whole: bool) -> list[Value]:
        if isinstance(slot, int):
            this, previous, following = (b.const((slot + n) % self.stages) for n in (0, self.stages - 1, 1))
        else:
            this, following = slot, self.advance(b, slot)
            before = b.binary("add", slot, b.const(-1))
            if self.stages & (self.stages - 1) == 0:
                previous = b.binary("and", before, b.const(self.stages - 1))
                return self._iteration(b, index, carried, (this, previous, following), whole)
            first = b.add(Compare("lt", before, b.const(0))).result
            previous = b.add(Select(first, b.const(self.stages - 1), b.binary("max", before, b.const(0)))).result
        return self._iteration(b, index, carried, (this, previous, following), whole)

    def _iteration(
        self, b: Builder, index: Value, carried: list[Value], slots: tuple[Value, Value, Value], whole: bool
    ) -> list[Value]:
        this, previous, following = slots
        ahead = self.plus(b, index, self.stages - 1)
        if self.kstep:
            return self._fragment_iteration(b, index, carried, (this, previous, following), ahead, whole)
        self.await_tile(b)
        self.copies(b, ahead, previous, whole)
        mapping: dict[Value, Value] = {self.loop.index: index}
        mapping.update(zip(self.loop.carried, carried, strict=True))
        return self.clone_body(b, mapping, this, whole)

    def clone_body(self, b: Builder, mapping: dict[Value, Value], slot: Value, whole: bool) -> list[Value]:
        rings = {s.load: s.ring for s in self.staged}
        for op in self.loop.body.ops:
            if op in self.addresses:
                continue
            if isinstance(op, Yield):
                return [mapping.get(v, v) for v in op.values]
            if whole and isinstance(op, Compare) and self.holds_in_whole_tiles(op):
                mapping[op.result] = b.const(True, bool_, op.result.tile.shape)
            elif isinstance(op, (Load, Gather)) and op in rings:
                tile = op.result.tile
                view = self.slot_view(b, rings[op], slot)
                mapping[op.result] = self.read(b, view, (0,) * tile.rank, tile.shape, op)
            else:
                b.block.ops.append(op.clone(mapping))
        raise AssertionError("a loop's body ends in a yield")

    def holds_in_whole_tiles(self, op: Compare) -> bool:
        """Whether the comparison is ``index + i < stop`` for i below the step: the mask of the last, partial tile."""
        step = self.loop.step.defining
        if op.kind not in ("lt", "gt") or not isinstance(step, Const) or int(step.value) <= 0:
            return False
        position, limit = (op.lhs, op.rhs) if op.kind == "lt" else (op.rhs, op.lhs)
        limit = _unbroadcast(limit)
        same = limit is self.loop.stop or self._same_number(limit, self.loop.stop)
        return same and self._reach(_unbroadcast(position)) <= int(step.value)

    def _same_number(self, x: Value, y: Value) -> bool:
        a, b = x.defining, y.defining
        if isinstance(a, Dim) and isinstance(b, Dim):
            first, second = self.pass_.dim_name(a.view, a.axis), self.pass_.dim_name(b.view, b.axis)
            return first is not None and first == second
        return isinstance(a, Const) and isinstance(b, Const) and a.value == b.value

    def _reach(self, value: Value) -> float:
        """How far a position is from the index at most, plus one; infinite where it is not index + iota."""
        if value is self.loop.index:
            return 1
        maker = value.defining
        if not isinstance(maker, Binary) or maker.kind != "add":
            return float("inf")
        for x, y in ((maker.lhs, maker.rhs), (maker.rhs, maker.lhs)):
            iota = _unbroadcast(y).defining
            if isinstance(iota, Iota) and _unbroadcast(x) is self.loop.index:
                return iota.shape[iota.axis]
        return float("inf")

    def slot_view(self, b: Builder, ring: Value, slot: Value) -> Value:
        shape = tuple(int(d or 0) for d in ring.view.shape[1:])
        zero = b.const(0)
        extents = (b.const(1), *(b.const(d) for d in shape))
        return b.add(Subview(ring, (slot, *(zero for _ in shape)), extents, shape, (0,))).result

    def read(self, b: Builder, view: Value, starts: tuple[int, ...], shape: tuple[int, ...],
             load: Load | Gather) -> Value:
        offsets = tuple(b.const(n) for n in starts)
        value = b.add(Load(view, offsets, shape, span=load.span)).result
        value.name = load.result.name
        return value

    def await_tile(self, b: Builder) -> None:
        """Wait for the oldest copies; all threads have then read the slot that is filled next, too."""
        b.add(WaitAsync(self.stages - 2))
        b.add(Sync())

    def copies(self, b: Builder, index: Value, slot: Value, whole: bool) -> None:
        """Start copying the tiles of the iteration at ``index`` into a slot; ``whole`` tiles end within the loop."""
        for staged in self.staged:
            load = staged.load
            mapping: dict[Value, Value] = {self.loop.index: index}
            view = self.at_index(b, load.view, mapping)
            destination = self.slot_view(b, staged.ring, slot)
            if isinstance(load, Gather):
                indices = tuple(self.at_index(b, i, mapping) for i in load.indices)
                mask = None if load.mask is None else self.at_index(b, load.mask, mapping)
                b.add(GatherAsync(destination, view, indices, mask, span=load.span))
                continue
            offsets = tuple(self.at_index(b, o, mapping) for o in load.offsets)
            b.add(CopyAsync(destination, view, offsets, None, self.bounded(load) if whole else (), span=load.span))
        b.add(CommitAsync())

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

    def bounded(self, load: Load | Gather) -> tuple[int, ...]:
        """Dimensions along which a whole tile is in bounds: those that the index walks up to their extent."""
        if isinstance(load, Gather):
            return ()
        found: list[int] = []
        if any(any(window is op for op in self.loop.body.ops) for window in _windows(load.view)):
            return ()
        for d, offset in enumerate(load.offsets):
            covers = self.within_a_step(load, d)
            if offset is self.loop.index and covers and self.pass_.same_extent(self.loop.stop, load.view, d):
                start = self.loop.start.defining
                if isinstance(start, Const) and int(start.value) >= 0:
                    found.append(d)
        return tuple(found)

    def within_a_step(self, load: Load, d: int) -> bool:
        """Whether a load's tile is no longer along a dimension than the loop's step."""
        step = self.loop.step.defining
        return isinstance(step, Const) and load.result.tile.shape[d] <= int(step.value)

    def windows_inside(self) -> Value | None:
        """Whether the indices that dropped dimensions of bounded loads' arrays are in bounds: else these loads have
        nothing to read, and no tile of theirs is whole."""
        b = self.b
        inside: Value | None = None
        windows = dict.fromkeys(w for load in self.loads if self.bounded(load) for w in _windows(load.view))
        for window in windows:
            for d in window.dropped:
                start = window.starts[d]
                above = b.add(Compare("ge", start, b.const(0))).result
                below = b.add(Compare("lt", start, b.add(Dim(window.view, d)).result)).result
                both = b.binary("and", above, below)
                inside = both if inside is None else b.binary("and", inside, both)
        return inside

    # -- fragments across the back edge

    def _fragment_step(self) -> int:
        """The k of one step of fragments, or 0 where the loop does more than dots of staged tiles."""
        loads = {load.result for load in self.loads}
        turned = dict.fromkeys(loads)
        step = 0
        for op in self.loop.body.ops:
            if op in self.addresses:
                continue
            if isinstance(op, Transpose) and op.x in loads and op.x.tile.rank == 2:
                turned[op.result] = None
            elif isinstance(op, Dot):
                unit = unit_of(op)
                k = op.a.tile.shape[-1]
                staged = op.a in turned and op.b in turned and op.a.tile.rank == 2
                if unit.place is not Place.REGISTERS or not staged:
                    return 0
                depth = unit.depth
                if k % depth or k // depth < 2 or step not in (0, depth):
                    return 0
                step = depth
            elif (
                (
                    not (isinstance(op, (Yield, Load)) or op in self.loads)
                    and any(r.type.shape for r in op.results if isinstance(r.type, TileType))
                )
                or any(v in turned for v in op.operands)
                or (isinstance(op, Load) and op.result.tile.shape and (op.result not in loads))
            ):
                return 0
        dots = [op for op in self.loop.body.ops if isinstance(op, Dot)]
        used = [v for op in dots for v in (op.a, op.b)]
        same_depth = len({op.a.tile.shape[-1] for op in dots}) == 1
        return step if dots and same_depth and len(set(used)) == len(used) else 0

    def _dots(self) -> list[Dot]:
        return [op for op in self.loop.body.ops if isinstance(op, Dot)]

    def _operands(self) -> list[tuple[Value, int]]:
        """The operands of the dots with their k dimension."""
        return [pair for op in self._dots() for pair in ((op.a, 1), (op.b, 0))]

    def fragments(self, b: Builder, slot: Value, step: int) -> list[Value]:
        """The fragments of every dot's operands for one step of k, from a slot."""
        out = []
        rings = {s.load.result: s for s in self.staged}
        for operand, dim in self._operands():
            maker = operand.defining
            source = maker.x if isinstance(maker, Transpose) else operand
            axis = 1 - dim if isinstance(maker, Transpose) else dim
            staged = rings[source]
            shape = list(source.tile.shape)
            shape[axis] = self.kstep
            starts = [0, 0]
            starts[axis] = step * self.kstep
            value = self.read(b, self.slot_view(b, staged.ring, slot), tuple(starts), tuple(shape), staged.load)
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
        ahead: Value,
        whole: bool,
    ) -> list[Value]:
        this, previous, following = slots
        count = len(self.loop.init)
        accumulators: dict[Value, Value] = {}
        mapping: dict[Value, Value] = {self.loop.index: index}
        mapping.update(zip(self.loop.carried, carried[:count], strict=True))
        current = carried[count:]
        steps = self._dots()[0].a.tile.shape[-1] // self.kstep
        for step in range(steps):
            if step < steps - 1:
                coming = self.fragments(b, this, step + 1)
            else:
                self.await_tile(b)
                coming = self.fragments(b, following, 0)
            if step == 0:
                self.copies(b, ahead, previous, whole)
            for n, op in enumerate(self._dots()):
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
