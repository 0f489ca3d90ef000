"""Tile operations: elementwise, rearrangement, views and accesses."""

from __future__ import annotations

import functools

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    AllocShared,
    Assume,
    Broadcast,
    CollapseView,
    CommitAsync,
    Concat,
    Const,
    ConvertLayout,
    CopyAsync,
    Dim,
    Gather,
    GatherWords,
    GridIndex,
    GridSize,
    Insert,
    Iota,
    Load,
    Map,
    PermuteView,
    Philox,
    Reshape,
    Scatter,
    Slice,
    Store,
    Stride,
    Subview,
    Sync,
    Take,
    Transpose,
    WaitAsync,
)
from tilus.ir.ops.memory import split_dims
from tilus.ir.ops.simd import GatherLoad
from tilus.lowering.cpu.block import BlockLowering, handles, row_major
from tilus.lowering.cpu.cost import cost_of
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate, inline_block, is_straight, philox_words
from tilus.lowering.cpu.memory import (
    gathered_offset,
    load_gathered,
    load_window,
    make_window,
    store_gathered,
    store_window,
)
from tilus.lowering.cpu.movements import keeps_dimensions
from tilus.lowering.cpu.nest import (
    ends_along,
    inside_stops,
    nest,
    store_buffer,
    vector_dim,
    vector_lanes,
    versions,
    windows_of,
)
from tilus.lowering.cpu.patches import stage_patches
from tilus.lowering.cpu.prefetching import ask_ahead, ask_below
from tilus.lowering.cpu.runs import first_lane, lanes_of_mask, lowest_of, run_dim, run_of, store_run
from tilus.lowering.cpu.streaming import stream_nest, streaming
from tilus.lowering.cpu.transpose import try_transposed_store
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Memory, Number


@handles(Elementwise)
def _elementwise(self: BlockLowering, op: Operation) -> None:
    if op.result.tile.is_scalar:
        self.scalars[op.result] = self.c.computed(op.on([self.scalars[v] for v in op.operands]))
    else:
        self.define(op.result, self.lazy(op, cost_of(op)))


@handles(Const)
def _const(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Const)
    if op.shape:
        self.define(op.result, self.lazy(op, 0, free=True))
    else:
        self.scalars[op.result] = self.c.const(op.value, op.dtype)


@handles(Iota)
def _iota(self: BlockLowering, op: Operation) -> None:
    self.define(op.result, self.lazy(op, 0, free=True))


@handles(Broadcast)
def _broadcast(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Broadcast)
    x = op.x
    if not op.shape:
        self.scalars[op.result] = self.scalars[x]
        return
    if x.tile.is_scalar:
        self.define(op.result, self.lazy(op, 0, free=True))
        return
    rep = self.reps[x]
    if isinstance(rep, Lazy) and rep.cost > 2 and not rep.free and x.tile.size < op.result.tile.size:
        self.force(x)  # it would be computed again for every copy
    self.define(op.result, self.lazy(op, 0))


@handles(Transpose, Slice, ConvertLayout)
def _rearrange(self: BlockLowering, op: Operation) -> None:
    x = op.operands[0]
    rep = self.reps[x]
    if isinstance(rep, Buffer) and isinstance(op, Transpose):
        permuted = Buffer(rep.pointer, rep.dtype, op.result.tile.shape,
                          tuple(rep.strides[p] for p in op.permutation), owned=False)
        if self._is_stable(rep, op.result):
            self.reps[op.result] = permuted
            return
    self.define(op.result, self.lazy(op, 0, free=True))


@handles(Reshape)
def _reshape(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Reshape)
    if op.x.tile.is_scalar or not op.shape:
        if op.x.tile.is_scalar and not op.shape:
            self.scalars[op.result] = self.scalars[op.x]
        elif op.x.tile.is_scalar:
            buffer = self.allocate(op.x.tile.dtype, op.shape)
            store_buffer(self, buffer, (ZERO,) * len(op.shape), self.scalars[op.x])
            self.reps[op.result] = buffer
        else:
            self.scalars[op.result] = evaluate(self, op.x, (ZERO,) * op.x.tile.rank)
        return
    if keeps_dimensions(op):
        self.define(op.result, self.lazy(op, 0, free=True))
        return
    source = self.reps[op.x]
    if not (isinstance(source, Buffer) and source.strides == row_major(source.shape)
            and self._is_stable(source, op.result)):
        source = self.allocate(op.x.tile.dtype, op.x.tile.shape)
        rep = self.reps[op.x]
        self.force(op.x, source)
        self.reps[op.x] = rep
    self.reps[op.result] = Buffer(source.pointer, source.dtype, op.shape, row_major(op.shape),
                                  owned=source.owned and self.uses[op.x] == 1)


@handles(Concat, Insert)
def _assemble(self: BlockLowering, op: Operation) -> None:
    """The parts are computed into their places of one buffer."""
    tile = op.result.tile
    buffer = self.allocate(tile.dtype, tile.shape)
    parts: list[tuple[Value, tuple[int, ...]]] = []
    if isinstance(op, Insert):
        parts = [(op.x, (0,) * tile.rank), (op.part, op.starts)]
    elif isinstance(op, Concat):
        at = 0
        for part in op.parts:
            parts.append((part, tuple(at if d == op.axis else 0 for d in range(tile.rank))))
            at += part.tile.shape[op.axis]
    for part, starts in parts:
        offset = sum(s * t for s, t in zip(starts, buffer.strides, strict=True))
        place = Buffer(self.c.offset(buffer.pointer, offset), tile.dtype, part.tile.shape, buffer.strides)
        rep = self.reps[part]
        self.force(part, place)
        self.reps[part] = rep
    self.reps[op.result] = buffer


@handles(Take)
def _take(self: BlockLowering, op: Operation) -> None:
    """Gathers from the operand's buffer; an index outside gives 0."""
    assert isinstance(op, Take)
    source = self.force(op.x)
    result = self.allocate(op.result.tile.dtype, op.result.tile.shape)
    shape, extent = result.shape, op.x.tile.shape[op.axis]
    memory = Memory(source.pointer, source.dtype, (0,), (extent,), (extent,), (source.strides[op.axis],), op.x)
    vector = vector_dim(self, shape, [op.indices], [result.strides])
    by_code = op.x.tile.dtype.is_codebook  # where what is not there is no code of zeros

    def body(coords: Coords) -> None:
        from tilus.ir.ops import Binary as Sum

        lanes = self.lanes_of(coords)
        index = evaluate(self, op.indices, coords)
        offsets, inside = gathered_offset(self, memory, [index], None, lanes)
        for d, (coord, stride) in enumerate(zip(coords, source.strides, strict=True)):
            if d == op.axis:
                continue
            rest = self.c.value(self.c.mul(self.c.index(coord), stride))
            offsets = self.c.b.add(Sum("add", offsets, self.c.splat(rest, lanes))).result
            if coord.vector:
                steps = self.c.b.add(Sum("mul", self.c.lane_numbers(i64, lanes), self.c.const(stride, i64, lanes)))
                offsets = self.c.b.add(Sum("add", offsets, steps.result)).result
        other = self.c.const(0, source.dtype, lanes) if by_code else None
        store_buffer(self, result, coords, self.c.b.add(GatherLoad(source.pointer, offsets, inside, other)).result)

    def emit() -> list[Value]:
        nest(self, shape, vector, min(8, vector_lanes(self, [op.indices], shape[vector])), body)
        return []

    versions(self, windows_of(self, [op.indices]), emit)
    self.reps[op.result] = result


@handles(Philox)
def _philox(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Philox)
    if op.offset.tile.is_scalar:
        for result, value in zip(op.results, philox_words(self, op, (), 0), strict=True):
            self.scalars[result] = value
        return
    used = [r for r in op.results if self.uses[r]]
    if len(used) > 1:
        _compute_all(self, op, used)
    else:
        for result in op.results:
            self.define(result, self.lazy(op, 60))


@handles(Map)
def _map(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Map)
    if not op.results or not op.results[0].tile.shape:
        arguments = [self.scalars[v] for v in op.operands]
        self.scalars.update(zip(op.results, inline_block(self, op.body, arguments, 0), strict=True))
    elif is_straight(op.body) and len(op.results) == 1:
        self.define(op.result, self.lazy(op, 1 + sum(cost_of(o) for o in op.body.ops)))
    else:
        _compute_all(self, op, list(op.results), vectors=is_straight(op.body))


def _compute_all(self: BlockLowering, op: Operation, results: list[Value], vectors: bool = True) -> None:
    """Compute several results of one operation in one loop."""
    shape = results[0].tile.shape
    buffers = [self.allocate(r.tile.dtype, shape) for r in results]
    inputs = [o for o in op.operands if not o.tile.is_scalar]
    for result in results:
        self.reps[result] = self.lazy(op, 60)
    vector = vector_dim(self, shape, inputs, [b.strides for b in buffers])
    lanes = vector_lanes(self, results, shape[vector]) if vectors else 1
    stops = [functools.reduce(self.c.max, ends) for ends in zip(*(stops_of(self, r) for r in results), strict=True)]

    def body(coords: Coords) -> None:
        for result, buffer in zip(results, buffers, strict=True):
            store_buffer(self, buffer, coords, evaluate(self, result, coords))

    def emit() -> list[Value]:
        nest(self, shape, vector, lanes, body, stops)
        return []

    versions(self, windows_of(self, inputs), emit)
    for result, buffer in zip(results, buffers, strict=True):
        self.reps[result] = buffer


# Views.


@handles(Dim)
def _dim(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Dim)
    self.scalars[op.result] = self.c.value(self.views[op.view].extents[op.axis])


@handles(Stride)
def _stride(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Stride)
    self.scalars[op.result] = self.c.value(self.views[op.view].strides[op.axis])


@handles(Subview)
def _subview(self: BlockLowering, op: Operation) -> None:
    """Bounds are those of the window and of the view together; a dropped index that is out of bounds empties it."""
    assert isinstance(op, Subview)
    c, memory = self.c, self.views[op.view]
    lows: list[Number] = []
    highs: list[Number] = []
    origin: Number = 0
    valid: Value | None = None
    kept = []
    for d in range(op.view.view.rank):
        start, extent = c.number(self.scalars[op.starts[d]]), c.number(self.scalars[op.extents[d]])
        origin = c.add(origin, c.mul(start, memory.strides[d]))
        if d in op.dropped:
            low = memory.lows[d]
            if not (isinstance(start, int) and isinstance(low, int) and start >= low):
                valid = c.both(valid, c.compare("ge", start, low))
            valid = c.both(valid, c.compare("lt", start, memory.highs[d]))
            continue
        kept.append(d)
        lows.append(c.max(0, c.sub(memory.lows[d], start)))
        highs.append(c.min(extent, c.sub(memory.highs[d], start)))
    if valid is not None and kept:
        highs[0] = c.select(valid, highs[0], 0)
    extents = tuple(c.number(self.scalars[op.extents[d]]) for d in kept)
    strides = tuple(memory.strides[d] for d in kept)
    pointer = memory.pointer if memory.packed else c.offset(memory.pointer, origin)
    self.views[op.result] = Memory(
        pointer, memory.dtype, tuple(lows), tuple(highs), extents, strides, memory.root,
        c.add(memory.origin, origin) if memory.packed else 0, memory.packed, memory.read_only, memory.order)


@handles(PermuteView)
def _permute_view(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, PermuteView)
    m, p = self.views[op.view], op.permutation
    lows, highs, extents, strides = (tuple(x[d] for d in p) for x in (m.lows, m.highs, m.extents, m.strides))
    self.views[op.result] = Memory(m.pointer, m.dtype, lows, highs, extents, strides, m.root, m.origin, m.packed,
                                   m.read_only)


@handles(CollapseView)
def _collapse_view(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, CollapseView)
    m = self.views[op.view]
    extents = tuple(functools.reduce(self.c.mul, part) for part in split_dims(m.extents, op.groups))
    strides = tuple(part[-1] for part in split_dims(m.strides, op.groups))
    self.views[op.result] = Memory(m.pointer, m.dtype, (0,) * len(extents), extents, extents, strides, m.root, m.origin,
                                   m.packed, m.read_only)


@handles(AllocShared)
def _alloc_shared(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, AllocShared)
    buffer = self.allocate(op.dtype, op.shape)
    self.own_memory.add(op.result)
    self.views[op.result] = Memory(buffer.pointer, op.dtype, (0,) * len(op.shape), op.shape, op.shape, buffer.strides,
                                   op.result)


# Accesses.


@handles(Load)
def _load(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Load)
    window = make_window(self, self.views[op.view], op.offsets, op.shape)
    if not op.shape:
        mask = None if op.mask is None else self.scalars[op.mask]
        other = None if op.other is None else self.scalars[op.other]
        self.scalars[op.result] = load_window(self, window, (), mask, other)
        return
    unit = any(isinstance(s, int) and s == 1 for s in window.strides)
    self.define(op.result, self.lazy(op, (3 if window.memory.packed else 1) if unit else 7, window=window,
                                     roots=(window.memory.root,)))


@handles(Gather)
def _gather(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Gather)
    memory = self.views[op.view]
    if not op.result.tile.shape:
        mask = None if op.mask is None else self.scalars[op.mask]
        other = None if op.other is None else self.scalars[op.other]
        indices = [self.scalars[i] for i in op.indices]
        self.scalars[op.result] = load_gathered(self, memory, indices, mask, other, 0)
        return
    self.define(op.result, self.lazy(op, 7, roots=(memory.root,)))


@handles(GatherWords)
def _gather_words(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, GatherWords)
    self.define(op.result, self.lazy(op, 7, roots=(self.views[op.view].root,)))


def settle_own(self: BlockLowering, values: list[Value], memory: Memory, same: object) -> None:
    """Compute operands that read the memory that is about to be written, unless each element is read where it is
    written: by loads that ``same`` recognises."""
    for value in values:
        rep = self.reps.get(value)
        if isinstance(rep, Lazy) and memory.root in rep.roots and not _reads_in_place(self, value, memory, same):
            self.force(value)


def _reads_in_place(self: BlockLowering, value: Value, memory: Memory, same: object) -> bool:
    if not isinstance(same, Store):
        return False
    stack = [value]
    while stack:
        current = stack.pop()
        rep = self.reps.get(current)
        if not isinstance(rep, Lazy) or memory.root not in rep.roots:
            continue
        op = rep.op
        if isinstance(op, Load) and self.views[op.view].root is memory.root:
            if op.view is not same.view or op.offsets != same.offsets or op.shape != same.value.tile.shape:
                return False
            if op.mask is not None:
                stack.append(op.mask)
            continue
        if isinstance(op, (Transpose, Slice, Reshape, Broadcast, Gather, GatherWords)):
            return False
        stack.extend(o for o in op.operands if o not in self.views)
    return True


@handles(Store)
def _store(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Store)
    memory = self.views[op.view]
    window = make_window(self, memory, op.offsets, op.value.tile.shape)
    if op.value.tile.is_scalar:
        mask = None if op.mask is None else self.scalars[op.mask]
        store_window(self, window, (), self.scalars[op.value], mask)
        return
    inputs = [op.value] if op.mask is None else [op.value, op.mask]
    if any(s == 0 for s in memory.strides) or not all(isinstance(s, int) for s in memory.strides[-1:]):
        for value in inputs:  # elements may overlap: nothing is read while it is written
            if memory.root in getattr(self.reps[value], "roots", ()):
                self.force(value)
    settle_own(self, inputs, memory, op)
    if op.mask is None and try_transposed_store(self, op.value, window):
        return
    stage_patches(self, inputs)
    shape = op.value.tile.shape
    vector = vector_dim(self, shape, inputs, [window.strides])
    lanes = vector_lanes(self, inputs, shape[vector])

    def body(coords: Coords, streams: bool = False) -> None:
        ask_ahead(self, op.value, coords)
        if memory.root in self.own_memory:
            ask_below(self, op.value, coords)
        value = self.c.splat(evaluate(self, op.value, coords), self.lanes_of(coords))
        mask = None if op.mask is None else self.c.splat(evaluate(self, op.mask, coords), self.lanes_of(coords))
        store_window(self, window, coords, value, mask, streams)

    def write() -> None:
        nest(self, shape, vector, lanes, body, inside_stops(self, window, shape),
             ends_along(self, inputs, vector) + [(window, vector)])

    def emit() -> list[Value]:
        streams = streaming(self, window, op, vector, lanes)
        if streams is None:
            write()
        else:
            self.c.branch(streams, lambda: stream_nest(
                self, window, shape, vector, lanes, lambda coords: body(coords, True)), write)
        return []

    versions(self, [window, *windows_of(self, inputs)], emit)


@handles(Scatter)
def _scatter(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Scatter)
    memory = self.views[op.view]
    if op.value.tile.is_scalar:
        mask = None if op.mask is None else self.scalars[op.mask]
        store_gathered(self, memory, [self.scalars[i] for i in op.indices], self.scalars[op.value], mask, 0)
        return
    inputs = [*op.indices, op.value, *([op.mask] if op.mask is not None else [])]
    settle_own(self, inputs, memory, None)
    shape = op.value.tile.shape
    along = run_dim(self, op)
    strides = tuple(int(d == along) for d in range(len(shape)))  # of what is written, as far as it is one after another
    vector = vector_dim(self, shape, inputs, [strides])
    first = tuple(Coord(None, 0, d == vector and n > 1) for d, n in enumerate(shape))
    run = run_of(self, memory, op.indices, first)
    lanes = vector_lanes(self, inputs, shape[vector])

    def body(coords: Coords) -> None:
        lanes = self.lanes_of(coords)
        if run is not None and lanes:
            mask = None if op.mask is None else evaluate(self, op.mask, lanes_of_mask(self, op.mask, coords))
            starts = [evaluate(self, i, first_lane(coords)) for i in op.indices]
            value = self.c.splat(evaluate(self, op.value, coords), lanes)
            store_run(self, memory, starts, run, lowest_of(self, op.indices[run]), value, mask)
            return
        mask = None if op.mask is None else self.c.splat(evaluate(self, op.mask, coords), lanes)
        indices = [self.c.splat(evaluate(self, i, coords), lanes) for i in op.indices]
        store_gathered(self, memory, indices, self.c.splat(evaluate(self, op.value, coords), lanes), mask, lanes)

    def emit() -> list[Value]:
        nest(self, shape, vector, lanes if run is not None else min(8, lanes), body)
        return []

    versions(self, windows_of(self, inputs), emit)


@handles(CopyAsync)
def _copy_async(self: BlockLowering, op: Operation) -> None:
    """A plain copy: one core runs the block, so nothing is gained by waiting."""
    assert isinstance(op, CopyAsync)
    to = self.views[op.destination]
    shape = tuple(d or 0 for d in op.destination.view.shape)
    source = make_window(self, self.views[op.source], op.offsets, shape)
    target = Buffer(to.pointer, to.dtype, shape, tuple(int(s) for s in to.strides if isinstance(s, int)))
    inputs = [] if op.mask is None else [op.mask]
    vector = vector_dim(self, shape, inputs, [target.strides, source.strides])

    def body(coords: Coords) -> None:
        mask = None if op.mask is None else evaluate(self, op.mask, coords)
        store_buffer(self, target, coords, load_window(self, source, coords, mask, None))

    lanes = max(1, 4 * self.machine.vector_bytes // max(1, to.dtype.bits // 8))
    while lanes > 1 and lanes // 2 >= shape[vector]:
        lanes //= 2

    def emit() -> list[Value]:
        nest(self, shape, vector, lanes, body)
        return []

    versions(self, [source, *windows_of(self, inputs)], emit)


@handles(CommitAsync, WaitAsync, Sync, Assume)
def _nothing(self: BlockLowering, op: Operation) -> None:
    """One core runs the block in program order."""


@handles(GridIndex)
def _grid_index(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, GridIndex)
    self.scalars[op.result] = self.grid_number(GridIndex, op.axis)


@handles(GridSize)
def _grid_size(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, GridSize)
    self.scalars[op.result] = self.grid_number(GridSize, op.axis)
