"""Execution of one block: its operations in order, thread groups and waits as resumable tasks."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TextIO

import numpy as np

from tilus.diagnostics import CheckError, InternalError, Span
from tilus.interp import elementwise, numbers, tiles
from tilus.interp.evaluate import evaluate
from tilus.interp.memory import ACQUIRE, RELEASE, Access, Copy, Memory, Task, View, poisoned, whole
from tilus.interp.numbers import Array
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    AllocShared,
    Assume,
    Atomic,
    CollapseView,
    CommitAsync,
    CopyAsync,
    DeviceAssert,
    Dim,
    For,
    Gather,
    GatherAsync,
    GridIndex,
    GridSize,
    GridSync,
    Groups,
    If,
    Load,
    Map,
    NamedBarrier,
    PermuteView,
    Print,
    ReduceWith,
    ScanWith,
    Scatter,
    Store,
    Stride,
    Subview,
    Sync,
    WaitAsync,
    WaitUntil,
    While,
    Yield,
)
from tilus.ir.ops.groups import Warps, named_warps, span_of
from tilus.records import field, record


@record(frozen=True)
class Waiting:
    """What a task yields when it cannot go on: ``ready`` says whether it can now."""

    ready: Callable[[], bool]
    span: Span
    what: str


Strand = Generator[Waiting, None, None]


def concurrently(strands: Iterable[Strand]) -> Strand:
    """Run strands by turns, in order, until all have ended; waits where none can go on."""
    waiting: dict[Strand, Waiting | None] = dict.fromkeys(strands)
    while waiting:
        moved = False
        for strand, waits in list(waiting.items()):
            if waits is not None and not waits.ready():
                continue
            moved = True
            try:
                waiting[strand] = next(strand)
            except StopIteration:
                del waiting[strand]
        if not moved:
            yield _first_of([waits for waits in waiting.values() if waits is not None])


def _first_of(waiting: Sequence[Waiting]) -> Waiting:
    """Until one of them is ready; the first is who is named."""
    return Waiting(lambda: any(waits.ready() for waits in waiting), waiting[0].span, waiting[0].what)


@record(eq=False)
class Grid:
    """State that the blocks of a launch share."""

    extents: tuple[int, ...]
    warps: int
    cooperative: bool = False
    output: TextIO = field(default_factory=lambda: sys.stdout)
    numbers: Any = field(default_factory=itertools.count)
    arrived: int = 0
    generation: int = 0
    clock: dict[int, int] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        total = 1
        for extent in self.extents:
            total *= max(0, extent)
        return total


@record(eq=False)
class _Barrier:
    arrived: int = 0
    generation: int = 0
    clock: dict[int, int] = field(default_factory=dict)


class BlockRun:
    """One block of a kernel. ``env`` holds the values: arrays for tiles and scalars, views for memory."""

    def __init__(self, grid: Grid, index: tuple[int, ...], env: dict[Value, Any]) -> None:
        self.grid = grid
        self.index = index
        self.env = env
        self.barriers: dict[int, _Barrier] = {}
        self.ended: dict[frozenset[int], Task] = {}  # groups since the last barrier
        self.not_joined: set[int] = set()
        self.main = Task(next(grid.numbers), index, frozenset())
        self.shared_count = 0

    def get(self, value: Value) -> Any:
        return self.env[value]

    def number(self, value: Value) -> int:
        return int(self.env[value])

    # -- control flow

    def block(self, block: Block, task: Task) -> Strand:
        """Run the operations of a block; its terminator is left to the caller."""
        env = self.env
        for op in block.ops:
            results = evaluate(op, self.get)
            if results is not None:
                for value, array in zip(op.results, results, strict=True):
                    env[value] = array
            elif not isinstance(op, Yield):
                yield from self.step(op, task)

    def values(self, block: Block) -> list[Any]:
        return [self.env[v] for v in block.terminator.operands]

    def step(self, op: Operation, task: Task) -> Strand:
        if isinstance(op, For):
            yield from self._for(op, task)
        elif isinstance(op, If):
            chosen = op.then if bool(self.env[op.condition]) else op.orelse
            yield from self.block(chosen, task)
            self.env.update(zip(op.results, self.values(chosen), strict=True))
        elif isinstance(op, While):
            yield from self._while(op, task)
        elif isinstance(op, Groups):
            yield from self._groups(op)
        elif isinstance(op, (NamedBarrier, GridSync, WaitUntil)):
            yield from _WAITS[type(op)](self, op, task)
        else:
            self.execute(op, task)

    def _for(self, op: For, task: Task) -> Strand:
        start, stop, step = (self.number(v) for v in (op.start, op.stop, op.step))
        if step == 0:
            raise CheckError.at("E0704", "the step of a range is 0", op.span)
        carried = [self.env[v] for v in op.init]
        for index in range(start, stop, step):
            self.env[op.index] = np.asarray(index, np.int64)
            self.env.update(zip(op.carried, carried, strict=True))
            yield from self.block(op.body, task)
            carried = self.values(op.body)
        self.env.update(zip(op.results, carried, strict=True))

    def _while(self, op: While, task: Task) -> Strand:
        carried = [self.env[v] for v in op.init]
        while True:
            self.env.update(zip(op.before.args, carried, strict=True))
            yield from self.block(op.before, task)
            if not bool(self.values(op.before)[0]):
                break
            self.env.update(zip(op.body.args, carried, strict=True))
            yield from self.block(op.body, task)
            carried = self.values(op.body)
        self.env.update(zip(op.results, carried, strict=True))

    # -- groups: each is a strand of its own

    def _groups(self, op: Groups) -> Strand:
        ended: set[int] = set()
        yield from concurrently([self._group(op, index, ended) for index in range(len(op.bodies))])
        self.join_groups()

    def _group(self, op: Groups, index: int, ended: set[int]) -> Strand:
        """The region of a number, once those before it that share its warps are among the ``ended`` ones."""
        before, body = op.before(index), op.bodies[index]
        if not ended.issuperset(before):
            yield Waiting(lambda: ended.issuperset(before), span_of(body), "the groups before it")
        task = self.group_task(op.warps[index], span_of(body))
        yield from self.block(body, task)
        ended.add(index)
        self.end_group(task)

    def end_group(self, task: Task) -> None:
        self.ended[task.warps] = task
        self.not_joined.add(task.number)

    def join_groups(self) -> None:
        """All groups have ended: global memory goes on from them in program order."""
        self.main.before |= self.not_joined
        self.not_joined.clear()

    def group_task(self, group: Warps, span: Span) -> Task:
        """The task of a thread group that begins: that of an earlier one of the same warps goes on."""
        if sum(group) > self.grid.warps:
            raise CheckError.at("E0705", f"a group of {named_warps(group)} in a block of {self.grid.warps} warps",
                                span)
        first, count = group
        warps = frozenset(range(first, first + count))
        task = self.ended.pop(warps, None) or Task(next(self.grid.numbers), self.index, warps)
        task.acquire({**self.main.seen, self.main.number: self.main.epoch})
        task.before |= self.main.before | {self.main.number}
        return task

    def run(self, body: Block) -> Strand:
        """All of the kernel's body."""
        yield from self.block(body, self.main)

    # -- waiting

    def _arrive(self, task: Task, clock: dict[int, int]) -> None:
        """A clock gets what a task's threads have done: the block's are those of groups that have ended, too."""
        for arriving in (task, *(self.ended.values() if task is self.main else ())):
            for number, epoch in arriving.release().items():
                clock[number] = max(epoch, clock.get(number, 0))

    def _named_barrier(self, op: NamedBarrier, task: Task) -> Strand:
        barrier = self.barriers.setdefault(op.id, _Barrier())
        count = len(task.warps) or self.grid.warps
        generation = barrier.generation
        self._arrive(task, barrier.clock)
        barrier.arrived += count
        if barrier.arrived > op.warps:
            raise CheckError.at("E0705", f"{barrier.arrived} warps arrive at barrier {op.id}, which is for "
                                         f"{op.warps}", op.span)
        if barrier.arrived == op.warps:
            barrier.arrived = 0
            barrier.generation += 1
        if op.mode == "sync":
            if barrier.generation == generation:
                yield Waiting(lambda: barrier.generation != generation, op.span, f"barrier {op.id}")
            task.acquire(barrier.clock)

    def _grid_sync(self, op: GridSync, task: Task) -> Strand:
        grid = self.grid
        if not grid.cooperative:
            raise CheckError.at("E0705", "tl.grid_sync needs a cooperative launch", op.span,
                                help="call tl.block(cooperative=True)")
        generation = grid.generation
        self._arrive(task, grid.clock)
        grid.arrived += 1
        if grid.arrived == grid.blocks:
            grid.arrived = 0
            grid.generation += 1
        else:
            yield Waiting(lambda: grid.generation != generation, op.span, "the other blocks at tl.grid_sync")
        task.acquire(grid.clock)

    def _wait_until(self, op: WaitUntil, task: Task) -> Strand:
        view: View = self.env[op.view]
        access = view.points([np.asarray(self.env[i]).reshape(1) for i in op.indices], None)
        if access.empty:
            raise CheckError.at("E0703", "tl.wait_until on an element out of bounds", op.span)
        wanted = self.env[op.value]

        def ready() -> bool:
            return bool(elementwise.compare(op.kind, view.memory.elements(access)[0], wanted))

        if not ready():
            yield Waiting(ready, op.span, "a semaphore")
        key = tuple(int(i[0]) for i in access.index)
        task.acquire(view.memory.clocks.get(key, {}))

    # -- everything else

    def execute(self, op: Operation, task: Task) -> None:
        """An operation that neither waits nor has control flow."""
        rule = _RULES.get(type(op))
        if rule is None:
            raise InternalError.at("E0999", f"the interpreter does not know the operation {op.NAME}", op.span)
        rule(self, op, task)

    def _load(self, op: Load, task: Task) -> None:
        view: View = self.env[op.view]
        shape = op.shape or (1,) * len(op.offsets)
        offsets = [self.number(o) for o in op.offsets]
        mask = None if op.mask is None else np.reshape(self.env[op.mask], shape)
        access = view.box(offsets, shape, mask)
        self._shared_bounds(view, offsets, shape, mask, op.span, task)
        view.memory.on_read(task, access, op.span)
        out = self._other(op.other, view.dtype, shape)
        if not access.empty:
            access.fill(out, view.memory.elements(access))
        self.env[op.result] = out if op.shape else out.reshape(())

    def _other(self, other: Value | None, dtype: DType, shape: tuple[int, ...]) -> Array:
        if other is None:
            return np.zeros(shape, numbers.held_as(dtype))
        return np.full(shape, self.env[other], numbers.held_as(dtype))

    def _shared_bounds(self, view: View, offsets: list[int], shape: tuple[int, ...], mask: Array | None, span: Span,
                       task: Task) -> None:
        """Accesses of named shared memory are not clipped on the GPU's fast path: one that would be is an error."""
        if view.memory.space != "shared" or mask is not None:
            return
        outside = view.empty or any(o < low or o + n > high for o, n, low, high in
                                    zip(offsets, shape, view.low, view.high, strict=True) if n)
        if view.empty and all(shape):
            raise CheckError.at("E0703", f"an access of {view.memory.name} through a view that lies outside of its "
                                         f"shape {view.memory.array.shape}", span, notes=(f"in {task.where}",))
        if outside and all(shape):
            raise CheckError.at("E0703", f"an access of shape {shape} at {tuple(offsets)} exceeds shared memory of "
                                         f"shape {view.extents}", span, notes=(f"in {task.where}",))

    def _store(self, op: Store, task: Task) -> None:
        view: View = self.env[op.view]
        shape = op.value.tile.shape or (1,) * len(op.offsets)
        offsets = [self.number(o) for o in op.offsets]
        mask = None if op.mask is None else np.reshape(self.env[op.mask], shape)
        access = view.box(offsets, shape, mask)
        self._shared_bounds(view, offsets, shape, mask, op.span, task)
        view.memory.on_write(task, access, op.span)
        if not access.empty:
            access.set(view.memory.array, access.select(np.reshape(self.env[op.value], shape)))

    def _gather(self, op: Gather, task: Task) -> None:
        view: View = self.env[op.view]
        access = view.points([self.env[i] for i in op.indices], None if op.mask is None else self.env[op.mask])
        view.memory.on_read(task, access, op.span)
        out = self._other(op.other, view.dtype, op.result.tile.shape)
        out[access.chosen] = view.memory.elements(access)
        self.env[op.result] = out

    def _scatter(self, op: Scatter, task: Task) -> None:
        view: View = self.env[op.view]
        access = view.points([self.env[i] for i in op.indices], None if op.mask is None else self.env[op.mask])
        view.memory.on_write(task, access, op.span)
        access.set(view.memory.array, self.env[op.value][access.chosen])

    def _atomic(self, op: Atomic, task: Task) -> None:
        view: View = self.env[op.view]
        memory = view.memory
        access = view.points([self.env[i] for i in op.indices], None if op.mask is None else self.env[op.mask])
        values = self.env[op.value][access.chosen]
        compare = None if op.compare is None else self.env[op.compare][access.chosen]
        if memory.valid is not None:
            memory.on_read(task, access, op.span)
        memory.will_write()
        old = np.zeros(op.result.tile.shape, numbers.held_as(view.dtype))
        old[access.chosen] = _update(op.kind, memory.array, access.index, values, compare, view.dtype)
        self.env[op.result] = old
        keys = [tuple(int(i[n]) for i in access.index) for n in range(len(values))] if op.order != "relaxed" else []
        if op.order in ACQUIRE:
            for key in keys:
                task.acquire(memory.clocks.get(key, {}))
        if op.order in RELEASE and keys:
            clock = task.release()
            for key in keys:
                before = memory.clocks.setdefault(key, {})
                for number, epoch in clock.items():
                    before[number] = max(epoch, before.get(number, 0))

    def _alloc_shared(self, op: AllocShared, task: Task) -> None:
        self.shared_count += 1
        name = op.result.name or f"shared memory {self.shared_count}"
        memory = Memory(f"{name!r}" if op.result.name else name, poisoned(op.shape, op.dtype), op.dtype, "shared",
                        initialised=False, tracked=True)
        self.env[op.result] = whole(memory)

    def _copy_async(self, op: CopyAsync, task: Task) -> None:
        source: View = self.env[op.source]
        shape = tuple(self.env[op.destination].extents)
        box = source.box([self.number(o) for o in op.offsets], shape, None if op.mask is None else self.env[op.mask])
        self._copy(op, source, box, lambda out: box.fill(out, box.get(source.memory.array)), task)

    def _gather_async(self, op: GatherAsync, task: Task) -> None:
        source: View = self.env[op.view]
        points = source.points([self.env[i] for i in op.indices], None if op.mask is None else self.env[op.mask])

        def fill(out: Array) -> None:
            out[points.chosen] = points.get(source.memory.array)

        self._copy(op, source, points, fill, task)

    def _copy(self, op: CopyAsync | GatherAsync, source: View, access: Access, fill: Callable[[Array], None],
              task: Task) -> None:
        """Start a copy; ``fill`` puts what it reads into zeros of the destination's shape."""
        to: View = self.env[op.destination]
        shape = tuple(to.extents)
        self._shared_bounds(to, [0] * len(shape), shape, None, op.span, task)
        target = to.box((0,) * len(shape), shape, None)
        memory = to.memory
        memory.on_write(task, target, op.span, copy=True)
        pending = memory.pending
        assert pending is not None
        if not target.empty:
            target.set(pending, memory.span_number(op.span))

        def read() -> Array:
            out = np.zeros(shape, memory.array.dtype)
            if not access.empty:
                fill(out)
            return out

        at_start = read()

        def land() -> None:
            source.memory.on_read(task, access, op.span)
            out = read()
            if out.tobytes() != at_start.tobytes():
                raise CheckError.at("E0701", f"race on {source.memory.name}: it is written while an asynchronous copy "
                                    "reads it", op.span, help="call tl.wait before the store",
                                    notes=(f"in {task.where}",))
            if not target.empty:
                target.set(memory.array, out[target.tile])
                target.set(pending, -1)
            memory.mark_written(task, target, op.span)

        task.open_copies.append(Copy(land, target, memory, op.span))

    def _commit(self, op: CommitAsync, task: Task) -> None:
        task.copies.append(task.open_copies)
        task.open_copies = []

    def _wait(self, op: WaitAsync, task: Task) -> None:
        while len(task.copies) > op.pending:
            for one in task.copies.pop(0):
                one.land()

    def _sync(self, op: Sync, task: Task) -> None:
        task.epoch += 1
        if task is self.main:
            for ended in self.ended.values():
                task.acquire(ended.release())
            self.ended.clear()

    def _map(self, op: Map, task: Task) -> None:
        """The body once per element: every element is a run of its own, with its own control flow."""
        shape = op.xs[0].tile.shape
        inputs = [np.reshape(self.env[x], -1) for x in op.xs]
        outs = [np.zeros(len(inputs[0]), numbers.held_as(r.tile.dtype)) for r in op.results]
        captured = [self.env[v] for v in op.captured]
        for n in range(len(inputs[0])):
            for out, value in zip(outs, self._region(op.body, [*(x[n] for x in inputs), *captured], task), strict=True):
                out[n] = value
        for result, out in zip(op.results, outs, strict=True):
            self.env[result] = out.reshape(shape)

    def _region(self, body: Block, arguments: list[Any], task: Task) -> list[Any]:
        self.env.update(zip(body.args, (np.asarray(a) for a in arguments), strict=True))
        for _ in self.block(body, task):
            raise InternalError.at("E0999", "a per-element function waits")
        return self.values(body)

    def _combiner(self, op: ReduceWith | ScanWith, task: Task) -> tiles.Combine:
        types = [numbers.held_as(x.tile.dtype) for x in op.xs]

        def combine(left: list[Array], right: list[Array]) -> list[Array]:
            shape = np.shape(left[0])
            outs = [np.zeros(shape, t) for t in types]
            for at in np.ndindex(shape):
                values = self._region(op.combine, [*(x[at] for x in left), *(x[at] for x in right)], task)
                for out, value in zip(outs, values, strict=True):
                    out[at] = value
            return outs

        return combine

    def _reduce_with(self, op: ReduceWith, task: Task) -> None:
        xs = [self.env[x] for x in op.xs]
        self.env.update(zip(op.results, tiles.reduce_with(xs, op.axis, self._combiner(op, task)), strict=True))

    def _scan_with(self, op: ScanWith, task: Task) -> None:
        xs = [self.env[x] for x in op.xs]
        results = tiles.scan_with(xs, op.axis, self._combiner(op, task), op.reverse)
        self.env.update(zip(op.results, results, strict=True))

    def _print(self, op: Print, task: Task) -> None:
        values = [shown(self.env[v], v.tile.dtype) for v in op.values]
        self.grid.output.write(op.format.format(*values) + "\n")

    def _assert(self, op: DeviceAssert, task: Task) -> None:
        if not np.all(self.env[op.condition]):
            raise CheckError.at("E0704", op.message or "device assertion failed", op.span, notes=(f"in {task.where}",))

    def _assume(self, op: Assume, task: Task) -> None:
        if not bool(self.env[op.condition]):
            raise CheckError.at("E0704", "what tl.assume promises does not hold", op.span, notes=(f"in {task.where}",))

    def _view(self, op: Operation, task: Task) -> None:
        view: View
        if isinstance(op, Subview):
            view = self.env[op.view]
            self.env[op.result] = view.subview([self.number(s) for s in op.starts],
                                               [self.number(e) for e in op.extents], op.dropped)
        elif isinstance(op, PermuteView):
            self.env[op.result] = self.env[op.view].permute(op.permutation)
        elif isinstance(op, CollapseView):
            view = self.env[op.view]
            self.env[op.result] = whole(view.memory.collapsed(op.groups))
        elif isinstance(op, Dim):
            self.env[op.result] = np.asarray(self.env[op.view].extents[op.axis], np.int64)
        elif isinstance(op, Stride):
            self.env[op.result] = np.asarray(self.env[op.view].stride(op.axis), np.int64)
        elif isinstance(op, GridIndex):
            self.env[op.result] = np.asarray(self.index[op.axis], np.int64)
        elif isinstance(op, GridSize):
            self.env[op.result] = np.asarray(self.grid.extents[op.axis], np.int64)


def shown(value: Array, dtype: DType) -> str:
    """A value as tl.print shows it."""
    if not (dtype.is_arithmetic or dtype.is_bool):
        value = numbers.decode(value, dtype)
    return str(value[()]) if value.ndim == 0 else np.array2string(value, separator=", ")


def _update(kind: str, array: Array, index: tuple[Array, ...], values: Array, compare: Array | None,
            dtype: DType) -> Array:
    """Read-modify-write of the points one after another; gives the old values."""
    old = np.zeros(len(values), array.dtype)
    for n, value in enumerate(values):
        at = tuple(int(i[n]) for i in index)
        before = array[at]
        old[n] = before
        if kind == "exchange":
            array[at] = value
        elif kind == "cas":
            assert compare is not None
            array[at] = value if before.tobytes() == compare[n].tobytes() else before
        else:
            array[at] = elementwise.binary(kind, np.asarray(before), np.asarray(value), dtype)
    return old


_WAITS: dict[type[Operation], Callable[[BlockRun, Any, Task], Strand]] = {
    NamedBarrier: BlockRun._named_barrier, GridSync: BlockRun._grid_sync, WaitUntil: BlockRun._wait_until,
}
_RULES: dict[type[Operation], Callable[[BlockRun, Any, Task], None]] = {
    Load: BlockRun._load, Store: BlockRun._store, Gather: BlockRun._gather, Scatter: BlockRun._scatter,
    Atomic: BlockRun._atomic, AllocShared: BlockRun._alloc_shared, CopyAsync: BlockRun._copy_async,
    GatherAsync: BlockRun._gather_async,
    CommitAsync: BlockRun._commit, WaitAsync: BlockRun._wait, Sync: BlockRun._sync, Map: BlockRun._map,
    ReduceWith: BlockRun._reduce_with, ScanWith: BlockRun._scan_with, Print: BlockRun._print,
    DeviceAssert: BlockRun._assert, Assume: BlockRun._assume, Subview: BlockRun._view, PermuteView: BlockRun._view,
    CollapseView: BlockRun._view,
    Dim: BlockRun._view, Stride: BlockRun._view, GridIndex: BlockRun._view, GridSize: BlockRun._view,
}
