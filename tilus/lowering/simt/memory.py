"""Lowering of memory operations: addresses, predicates and vectors of each thread's part of a tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import bool_, i32, i64
from tilus.ir.ops import (
    AllocShared,
    Atomic,
    Binary,
    CommitAsync,
    CopyAsync,
    For,
    Gather,
    GatherAsync,
    Load,
    PtrLoad,
    PtrStore,
    Scatter,
    Select,
    Store,
    Subview,
    WaitAsync,
    Yield,
)
from tilus.ir.ops.simt import CpAsync, CpAsyncCommit, CpAsyncWait, LdMatrix, PtrAtomic, StMatrix
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout, blocked
from tilus.layouts.mma import ldmatrix_plan
from tilus.layouts.shared import SharedLayout, row_major
from tilus.lowering.facts import Fact
from tilus.lowering.simt.access import contiguous_order, gathered_vector, vector_width, view_facts
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.context import DeferredLoads, GlobalView, SharedView, Thread, layout_of
from tilus.lowering.simt.operands import is_multiply_adds
from tilus.targets import Feature

# -- views


def lower_subview(thread: Thread, op: Subview) -> None:
    view = thread.views[op.view]
    thread.views[op.result] = (
        _global_subview(thread, op, view) if isinstance(view, GlobalView) else _shared_subview(thread, op, view)
    )


def _global_subview(thread: Thread, op: Subview, view: GlobalView) -> GlobalView:
    pointer = view.pointer
    small = _is_small(thread, op.view)
    extents: list[Value | int] = []
    strides: list[Value | int] = []
    lows: list[Value | None] = []
    inside: Value | None = None
    facts = view_facts(thread.facts, op.view)
    for d, (start, extent) in enumerate(zip(op.starts, op.extents, strict=True)):
        first = thread.facts.of(start)
        low_known = first.low >= 0
        pointer = _advance(thread, pointer, thread.value(start), view.strides[d], small)
        if d in op.dropped:
            bounds = element_predicate(thread, view, [start], [d])
            inside = thread.both(inside, bounds)
            continue
        whole = view.extents[d]
        size: Value | int = thread.value(extent)
        given = thread.facts.of(extent)
        if first.is_constant and first.low == 0 and extent.defining is not None and _same_extent(op, d):
            size = whole
        elif not (first.high + given.high <= facts.extents[d].low):
            rest = _minus(thread, whole, thread.value(start))
            size = thread.emit(Binary("min", *thread.same_width(thread.value(extent), rest)))
        extents.append(size)
        strides.append(view.strides[d])
        before = view.lows[d]
        low = None
        if before is not None or not low_known:
            low = _minus(thread, 0 if before is None else before, thread.value(start))
            low = thread.emit(Binary("max", low, thread.const(0, low.tile.dtype)))
        lows.append(low)
    if inside is not None and extents:  # an index outside of a dropped dimension: nothing is in bounds
        size = extents[0] if isinstance(extents[0], Value) else thread.const(extents[0])
        extents[0] = thread.emit(Select(inside, size, thread.const(0, size.tile.dtype)))
    return GlobalView(pointer, extents, strides, lows)


def _same_extent(op: Subview, d: int) -> bool:
    from tilus.ir.ops import Dim

    maker = op.extents[d].defining
    return isinstance(maker, Dim) and maker.view is op.view and maker.axis == d


def _minus(thread: Thread, x: Value | int, y: Value) -> Value:
    left = thread.const(x, y.tile.dtype) if isinstance(x, int) else x
    return thread.emit(Binary("sub", *thread.same_width(left, y)))


def _shared_subview(thread: Thread, op: Subview, view: SharedView) -> SharedView:
    starts, moved = _moved_to(thread, view, op.starts)
    # Of a window with a run-time extent, as much as there may be.
    extents = tuple(
        whole - max(0, thread.facts.of(start).low) if given is None else given
        for given, whole, start in zip(_static_extents(op), view.shape, op.starts, strict=True)
    )
    layout = moved.layout.slice(starts, extents)
    for d in sorted(op.dropped, reverse=True):
        layout = layout.drop(d, 0)
    shape = tuple(e for d, e in enumerate(extents) if d not in op.dropped)
    return replace(moved, layout=layout, shape=shape)


def _moved_to(thread: Thread, view: SharedView, offsets: Sequence[Value]) -> tuple[tuple[int, ...], SharedView]:
    """A view moved to an index: the constant starts that are left for its layout, and the view moved by the others.

    A start that moves by whole periods of the swizzle is an offset of the address. Others are seen by the swizzle.
    """
    layout, moved = view.layout, view
    swizzle = view.swizzle
    period = 1 if swizzle is None else 1 << (swizzle.base + swizzle.shift + swizzle.bits)
    starts = [0] * len(offsets)
    for d, offset in enumerate(offsets):
        fact = thread.facts.of(offset)
        if fact.is_constant:
            stride = layout.strides[d] if len(layout.modes[d]) <= 1 else 0
            if stride and fact.low * stride % period == 0:
                moved = replace(moved, constant=moved.constant + fact.low * stride)
            else:
                starts[d] = fact.low
            continue
        stride = layout.strides[d]
        by = thread.binary("mul", thread.widen(thread.value(offset), i32), stride)
        if stride % period == 0:
            total = by if moved.moving is None else thread.emit(Binary("add", moved.moving, by))
            moved = replace(moved, moving=total, step=math.gcd(moved.step, fact.divisor * stride))
        else:
            total = by if moved.inner is None else thread.emit(Binary("add", moved.inner, by))
            moved = replace(moved, inner=total)
    return tuple(starts), moved


def _static_extents(op: Subview) -> list[int | None]:
    kept = iter(op.shape)
    return [1 if d in op.dropped else next(kept) for d in range(op.view.view.rank)]


def _is_small(thread: Thread, view: Value) -> bool:
    """Whether offsets of in-bounds elements from the view's start fit in 32 bits."""
    op = view.defining
    while op is not None and hasattr(op, "view"):
        view = op.view
        op = view.defining
    parameter = thread.facts.parameters.get(view)
    return parameter is not None and parameter.small


def _advance(thread: Thread, pointer: Value, index: Value, stride: Value | int, small: bool) -> Value:
    """``pointer`` moved by ``index * stride`` elements; the product is taken in 32 bits where offsets fit."""
    maker = index.defining
    from tilus.ir.ops import Const

    if isinstance(maker, Const) and int(maker.value) == 0:
        return pointer
    if isinstance(maker, Const) and isinstance(stride, int):
        return thread.move(pointer, None, int(maker.value) * stride)
    if isinstance(stride, int) and stride == 1:
        return thread.move(pointer, index)
    width = i32 if small else i64
    index = thread.widen(index, width)
    if isinstance(stride, int):
        return thread.move(pointer, thread.binary("mul", index, stride))
    return thread.move(pointer, thread.emit(Binary("mul", index, thread.widen(stride, width))))


# -- global tiles


class _GlobalAccess:
    """Addresses and predicates of one thread's part of a tile in global memory, in groups of ``vector`` locals."""

    def __init__(self, thread: Thread, op: Any, view_value: Value, layout: RegisterLayout, tile: TileType) -> None:
        view = thread.views[view_value]
        assert isinstance(view, GlobalView)
        self.thread, self.view, self.layout, self.tile = thread, view, layout, tile
        self.offsets: tuple[Value, ...] = op.offsets
        self.in_bounds: tuple[int, ...] = op.in_bounds
        self.small = _is_small(thread, view_value)
        order = contiguous_order(thread.facts, view_value, tile.rank)
        self.dim = order[0] if order else 0
        width = vector_width(thread.facts, op, self.dim, tile) if order else 1
        have = layout.vector_width(self.dim) if order else 1
        self.vector = math.gcd(width, have)
        self.base = self._thread_pointer()
        self.indices = layout.local_indices[:: self.vector]
        self._row_pointers: dict[tuple[int, ...], Value] = {}
        self._bounds: dict[tuple[int, int], Value | None] = {}

    def _thread_pointer(self) -> Value:
        """The address of the thread's first element. In loops the thread's part comes first, since it does not vary;
        elsewhere one sum in 32 bits is widened once."""
        thread, pointer = self.thread, self.view.pointer
        if self.small and not thread.loops:
            total = self._thread_offset()
            if total is not None:
                return thread.move(pointer, total)
        for d in range(self.tile.rank):
            part = thread.thread_index(self.layout, d)
            if part is not None:
                pointer = _advance(thread, pointer, part, self.view.strides[d], self.small)
        for d, offset in enumerate(self.offsets):
            pointer = _advance(thread, pointer, thread.value(offset), self.view.strides[d], self.small)
        return pointer

    def _thread_offset(self) -> Value | None:
        """The offset of the thread's first element in 32 bits, where there is one and all its parts have them."""
        thread, total = self.thread, None
        for d, (offset, stride) in enumerate(zip(self.offsets, self.view.strides, strict=True)):
            part, start = thread.thread_index(self.layout, d), thread.value(offset)
            if start.tile.dtype is not i32 or (isinstance(stride, Value) and stride.tile.dtype is not i32):
                return None
            fact = thread.facts.of(offset)
            zero = fact.is_constant and fact.low == 0
            index = part if zero else start if part is None else thread.emit(Binary("add", part, start))
            if index is None:
                continue
            moved = thread.binary("mul", index, stride)
            total = moved if total is None else thread.emit(Binary("add", total, moved))
        return total

    def pointer(self, group: int) -> Value:
        """The address of a group of locals; constant strides go into the constant part of the address."""
        index = self.indices[group]
        constant, moving = 0, []
        for i, stride in zip(index, self.view.strides, strict=True):
            if isinstance(stride, int):
                constant += i * stride
                moving.append(0)
            else:
                moving.append(i)
        key = tuple(moving)
        row = self._row_pointers.get(key)
        if row is None:
            row = self.base
            for i, stride in zip(key, self.view.strides, strict=True):
                if i:
                    assert isinstance(stride, Value)
                    row = self.thread.move(row, self._scaled(stride, i))
            self._row_pointers[key] = row
        return self.thread.move(row, None, constant)

    def _scaled(self, stride: Value, count: int) -> Value:
        width = i32 if self.small else i64
        return self.thread.binary("mul", self.thread.widen(stride, width), count)

    def predicate(self, group: int) -> Value | None:
        """Whether a group is in bounds of the view, and within the tile; None where it always is."""
        result: Value | None = None
        for d in range(self.tile.rank):
            local = self.indices[group][d]
            if (d, local) not in self._bounds:
                self._bounds[d, local] = self._bound(d, local)
            result = self.thread.both(result, self._bounds[d, local])
        return result

    def _bound(self, d: int, local: int) -> Value | None:
        thread = self.thread
        part = thread.thread_index(self.layout, d)
        reach = self.layout.shape[d]
        predicate: Value | None = None
        if reach > self.tile.shape[d]:  # padded cover
            if part is None:
                predicate = None if local < self.tile.shape[d] else thread.const(False, bool_)
            else:
                predicate = thread.at_entry(
                    ("pad", thread.first_warp, self.layout, d, self.tile.shape[d] - local),
                    lambda: thread.compare("lt", part, self.tile.shape[d] - local),
                )
        if d in self.in_bounds:
            return predicate
        extent = self.view.extents[d]
        offset = self.offsets[d]
        fact = thread.facts.of(offset)
        known_extent = extent if isinstance(extent, int) else None
        index = thread.value(offset)
        if fact.high + reach >= 1 << 31:
            index = thread.widen(index, i64)
        if part is not None:
            index = thread.emit(Binary("add", *thread.same_width(part, index)))
        index = thread.binary("add", index, local)
        if not (known_extent is not None and fact.high + reach <= known_extent):
            predicate = thread.both(predicate, thread.compare("lt", index, extent))
        low = self.view.lows[d]
        if low is not None:
            predicate = thread.both(predicate, thread.compare("ge", index, low))
        elif fact.low < 0:
            predicate = thread.both(predicate, thread.compare("ge", index, 0))
        return predicate


def _scalar_layout(thread: Thread) -> RegisterLayout:
    return blocked((), thread.threads)


def lower_load(thread: Thread, op: Load) -> None:
    view = thread.views[op.view]
    if isinstance(view, SharedView):
        if op in thread.deferrable:
            if op.result in thread.in_place:
                starts = sum(thread.facts.of(o).low * s for o, s in zip(op.offsets, view.layout.strides, strict=True))
                thread.in_shared[op.result] = SharedView(
                    view.pointer, view.layout, view.shape, view.constant + starts, view.moving, view.step
                )
                return
            if op.mask is None and not is_multiply_adds(thread.deferrable[op], thread.target):
                thread.deferred[op.result] = shared_loads(thread, op, view)
                return
        thread.set(op.result, load_shared(thread, op, view))
        return
    tile = op.result.tile
    layout = layout_of(op.result) if tile.shape else _scalar_layout(thread)
    access = _GlobalAccess(thread, op, op.view, layout, tile) if tile.shape else _ScalarAccess(thread, op)
    read_only = not _written(thread, op.view)
    mask = None if op.mask is None else thread.value(op.mask)
    parts = []
    for group in range(len(access.indices)):
        predicate = access.predicate(group)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group * access.vector))
        count = access.vector if access.vector > 1 else 0
        other = None
        if op.other is not None and predicate is not None:
            value = thread.value(op.other)
            other = thread.splat(value, count) if count else value
        parts.append(
            thread.emit(
                PtrLoad(
                    access.pointer(group),
                    count,
                    access.vector * max(1, tile.dtype.bits // 8),
                    predicate,
                    other,
                    read_only,
                )
            )
        )
    result = parts[0] if tile.is_scalar else thread.pack(parts)
    dtype = thread.element_type(op.result)
    thread.set(op.result, thread.widen(result, dtype))


class _ScalarAccess:
    """One element, the same for all threads."""

    def __init__(self, thread: Thread, op: Any) -> None:
        self.thread, self.op, self.vector = thread, op, 1
        self.indices: tuple[tuple[int, ...], ...] = ((),)
        view = thread.views[op.view]
        assert isinstance(view, GlobalView)
        self.view = view
        self.small = _is_small(thread, op.view)
        self.offsets: tuple[Value, ...] = op.offsets if hasattr(op, "offsets") else op.indices

    def pointer(self, group: int) -> Value:
        pointer = self.view.pointer
        for d, offset in enumerate(self.offsets):
            pointer = _advance(self.thread, pointer, self.thread.value(offset), self.view.strides[d], self.small)
        return pointer

    def predicate(self, group: int) -> Value | None:
        return element_predicate(self.thread, self.view, self.offsets, range(len(self.offsets)))


def element_predicate(thread: Thread, view: GlobalView, offsets: Sequence[Value], dims: Sequence[int]) -> Value | None:
    """Whether indices along ``dims``, tile-level scalars, are in bounds of a view."""
    predicate: Value | None = None
    for d, offset in zip(dims, offsets, strict=True):
        bounds = index_predicate(thread, view, d, thread.value(offset), thread.facts.of(offset))
        predicate = thread.both(predicate, bounds)
    return predicate


def index_predicate(thread: Thread, view: GlobalView, d: int, index: Value, fact: Fact) -> Value | None:
    """Whether an index is in bounds along one dimension of a view."""
    predicate: Value | None = None
    extent, low = view.extents[d], view.lows[d]
    if fact.high >= 1 << 63:  # of u64: as a signed number it would seem to be negative
        largest = thread.const((1 << 63) - 1, index.tile.dtype)
        index = thread.widen(thread.emit(Binary("min", index, largest)), i64)
    if not (isinstance(extent, int) and fact.high < extent):
        predicate = thread.compare("lt", index, extent)
    if low is not None:
        predicate = thread.both(predicate, thread.compare("ge", index, low))
    elif fact.low < 0:
        predicate = thread.both(predicate, thread.compare("ge", index, 0))
    return predicate


def _written(thread: Thread, view: Value) -> bool:
    op = view.defining
    while op is not None and hasattr(op, "view"):
        view = op.view
        op = view.defining
    parameter = thread.facts.parameters.get(view)
    return parameter is None or parameter.written


def _one_thread(thread: Thread) -> Value:
    return thread.at_entry(("one", thread.first_warp), lambda: thread.compare("eq", thread.tid(), 0))


def lower_store(thread: Thread, op: Store) -> None:
    view = thread.views[op.view]
    tile = op.value.tile
    value = thread.widen(thread.value(op.value), tile.dtype)
    if isinstance(view, SharedView):
        store_shared(thread, op, view, value)
        return
    layout = layout_of(op.value) if tile.shape else _scalar_layout(thread)
    access = _GlobalAccess(thread, op, op.view, layout, tile) if tile.shape else _ScalarAccess(thread, op)
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout) if tile.shape else _one_thread(thread)
    for group in range(len(access.indices)):
        predicate = thread.both(access.predicate(group), first)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group * access.vector))
        start = group * access.vector
        part = (
            thread.take(value, range(start, start + access.vector))
            if access.vector > 1
            else (thread.extract(value, start))
        )
        thread.emit(PtrStore(access.pointer(group), part, access.vector * max(1, tile.dtype.bits // 8), predicate))


# -- gather, scatter, atomics


def element_pointers(thread: Thread, op: Any, locals_: Iterable[int]) -> tuple[list[Value], list[Value | None]]:
    """Addresses of a gather, scatter or atomic at some of the thread's elements, and whether they are in bounds."""
    view = thread.views[op.view]
    vectors = [thread.value(i) for i in op.indices]
    facts = [thread.facts.of(i) for i in op.indices]
    if isinstance(view, SharedView):
        return _shared_elements(thread, view, vectors, facts, locals_)
    small = _is_small(thread, op.view)
    pointers, predicates = [], []
    for local in locals_:
        indices = [thread.extract(v, local) for v in vectors]
        indices = [thread.widen(i, i32) if i.tile.dtype.bits < 32 else i for i in indices]
        pointer = view.pointer
        for d, index in enumerate(indices):
            pointer = _advance(thread, pointer, index, view.strides[d], small)
        pointers.append(pointer)
        predicate: Value | None = None
        for d, (index, fact) in enumerate(zip(indices, facts, strict=True)):
            predicate = thread.both(predicate, index_predicate(thread, view, d, index, fact))
        predicates.append(predicate)
    return pointers, predicates


def _shared_elements(
    thread: Thread, view: SharedView, vectors: list[Value], facts: list[Any], locals_: Iterable[int]
) -> tuple[list[Value], list[Value | None]]:
    """Addresses and bounds of elements of shared memory by run-time indices."""
    pointers, predicates = [], []
    for local in locals_:
        given = [thread.extract(v, local) for v in vectors]
        given = [thread.widen(i, i32) if i.tile.dtype.bits < 32 else i for i in given]
        predicate: Value | None = None
        for index, fact, extent in zip(given, facts, view.shape, strict=True):
            if fact.high >= extent:
                predicate = thread.both(predicate, thread.compare("lt", index, extent))
            if fact.low < 0:
                predicate = thread.both(predicate, thread.compare("ge", index, 0))
        indices = [thread.widen(i, i32) for i in given]
        offset = shared_offset(thread, view, list(indices), [0] * len(indices))
        pointer = thread.move(thread.move(view.pointer, view.moving), offset, view.constant)
        pointers.append(pointer)
        predicates.append(predicate)
    return pointers, predicates


def shared_offset(thread: Thread, view: SharedView, parts: Sequence[Value | None], starts: Sequence[int]) -> Value:
    """The swizzled offset of the element of a view at run-time parts plus constant starts."""
    layout, total = view.layout, view.inner
    constant = layout.base
    for d, (part, start) in enumerate(zip(parts, starts, strict=True)):
        terms = layout.terms(d)
        for divisor, modulus, stride in terms:
            if part is None:
                constant += start // divisor % modulus * stride
                continue
            digit = part
            if len(terms) == 1:
                constant += start * stride
            else:
                digit = thread.binary("add", digit, start)
                digit = thread.unsigned("floordiv", digit, divisor)
                if divisor * modulus < layout.shape[d]:
                    digit = thread.unsigned("mod", digit, modulus)
            moved = thread.binary("mul", digit, stride)
            total = moved if total is None else thread.binary("add", total, moved)
    offset = thread.const(constant) if total is None else thread.binary("add", total, constant)
    swizzle = layout.swizzle if view.inner is None else view.swizzle
    if swizzle is not None:
        shifted = thread.binary("and", thread.binary("shr", offset, swizzle.shift), swizzle.mask)
        offset = thread.binary("xor", offset, shifted)
    return offset


def _gathered_locals(thread: Thread, op: Gather | Scatter, layout: RegisterLayout,
                     tile: TileType) -> tuple[range, int]:
    """The first of the elements of each access of a thread, and how many elements an access moves."""
    if not tile.shape:
        return range(1), 1
    along, width = gathered_vector(thread.facts, op)
    vector = math.gcd(width, layout.vector_width(along))
    return range(0, layout.num_locals, vector), vector


def lower_gather(thread: Thread, op: Gather) -> None:
    tile = op.result.tile
    layout = layout_of(op.result) if tile.shape else _scalar_layout(thread)
    locals_, vector = _gathered_locals(thread, op, layout, tile)
    pointers, predicates = element_pointers(thread, op, locals_)
    read_only = not _written(thread, op.view)
    mask = None if op.mask is None else thread.value(op.mask)
    count, size = (vector, vector * tile.dtype.itemsize) if vector > 1 else (0, 0)
    parts = []
    for local, pointer, predicate in zip(locals_, pointers, predicates, strict=True):
        if tile.shape:  # what is known of the indices does not hold of the padding
            predicate = thread.both(predicate, tile_padding(thread, layout, tile.shape, local))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        other = None
        if op.other is not None and predicate is not None:
            other = thread.splat(thread.value(op.other), count) if count else thread.value(op.other)
        parts.append(thread.emit(PtrLoad(pointer, count, size, predicate, other, read_only)))
    result = thread.pack(parts) if tile.shape else parts[0]
    thread.set(op.result, thread.widen(result, thread.element_type(op.result)))


def lower_scatter(thread: Thread, op: Scatter) -> None:
    tile = op.value.tile
    value = thread.widen(thread.value(op.value), tile.dtype)
    layout = layout_of(op.value) if tile.shape else _scalar_layout(thread)
    locals_, vector = _gathered_locals(thread, op, layout, tile)
    pointers, predicates = element_pointers(thread, op, locals_)
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout) if tile.shape else _one_thread(thread)
    for local, pointer, predicate in zip(locals_, pointers, predicates, strict=True):
        predicate = thread.both(predicate, first)
        if tile.shape:
            predicate = thread.both(predicate, tile_padding(thread, layout, op.value.tile.shape, local))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        if vector > 1:
            part = thread.take(value, range(local, local + vector))
            thread.emit(PtrStore(pointer, part, vector * tile.dtype.itemsize, predicate))
        else:
            thread.emit(PtrStore(pointer, thread.extract(value, local), 0, predicate))


def lower_atomic(thread: Thread, op: Atomic) -> None:
    """Only the first holder of an element performs the operation; other replicas get its result by a broadcast. What
    the block did before a release, or does after an acquire, is ordered by barriers around the thread that does it."""
    if op.order in ("release", "acq_rel"):
        barrier(thread)
    _atomic(thread, op)
    if op.order in ("acquire", "acq_rel"):
        barrier(thread)


def _atomic(thread: Thread, op: Atomic) -> None:
    tile = op.result.tile
    value = thread.widen(thread.value(op.value), tile.dtype)
    compare = None if op.compare is None else thread.widen(thread.value(op.compare), tile.dtype)
    layout = layout_of(op.result) if tile.shape else _scalar_layout(thread)
    pointers, predicates = element_pointers(thread, op, range(layout.num_locals if tile.shape else 1))
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout) if tile.shape else _one_thread(thread)
    parts = []
    for local, (pointer, predicate) in enumerate(zip(pointers, predicates, strict=True)):
        predicate = thread.both(predicate, first)
        if tile.shape:
            predicate = thread.both(predicate, tile_padding(thread, layout, op.value.tile.shape, local))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        parts.append(
            thread.emit(
                PtrAtomic(
                    op.kind,
                    pointer,
                    thread.extract(value, local),
                    None if compare is None else thread.extract(compare, local),
                    predicate,
                    op.order,
                    op.scope,
                )
            )
        )
    result = thread.pack(parts) if tile.shape else parts[0]
    if _is_used(thread, op.result):
        from tilus.lowering.simt.collective import broadcast_replicas

        result = broadcast_replicas(thread, op, result, layout)
    thread.set(op.result, thread.widen(result, thread.element_type(op.result)))


def _is_used(thread: Thread, value: Value) -> bool:
    return any(v is value for op in thread.function.walk() for v in op.operands)


# -- shared memory


def lower_alloc_shared(thread: Thread, op: AllocShared) -> None:
    layout = op.result.view.layout or row_major(*op.shape)
    pointer = thread.shared_pointer(thread.shared_offsets[op], op.dtype)
    reuse_barrier(thread, op)
    thread.views[op.result] = SharedView(pointer, layout, op.shape, swizzle=layout.swizzle)


class SharedAccess:
    """Addresses of one thread's part of a tile in shared memory.

    The thread's first address is computed once; the others differ from it by a constant, or, under a swizzle, by a
    constant XOR and a constant. ``starts`` are constant starts per dimension.
    """

    def __init__(
        self, thread: Thread, view: SharedView, rows: RegisterLayout, vector: int, starts: tuple[int, ...]
    ) -> None:
        self.thread, self.view, self.layout, self.rows = thread, view, view.layout, rows
        self.starts = starts
        self.locals = rows.local_indices[::vector]
        import numpy as np

        locals_ = rows.local_offsets()[::vector]
        indices = rows.thread_offsets()[:, None, :] + locals_[None, :, :] + np.array(starts, dtype=np.int64)
        limits = np.array(self.layout.shape, dtype=np.int64) - 1
        self.table = self.layout.offsets(np.minimum(indices, limits))
        self.ones = int(np.bitwise_or.reduce(self.table[:, 0])) if len(self.table) else 0
        self._moved: dict[Value, Value] = {}

    def address(self, group: int) -> Value:
        if self.view.inner is not None:
            return self._at(self.thread.move(self.view.pointer, self._offset(self.locals[group])), 0)
        first, this = self.table[:, 0], self.table[:, group]
        difference = this - first
        if (difference == difference[0]).all():
            return self._at(self._variant(0), int(difference[0]))
        flipped = this ^ first
        if (flipped == flipped[0]).all():
            constant = int(flipped[0])
            low = constant & self.ones
            return self._at(self._variant(low), constant & ~self.ones)
        pointer = self.thread.move(self.view.pointer, self._offset(self.locals[group]))
        return self._at(pointer, 0)

    def _at(self, pointer: Value, constant: int) -> Value:
        """A pointer into slot 0, moved to where the view is."""
        moving = self.view.moving
        if moving is not None:
            moved = self._moved.get(pointer)
            if moved is None:
                moved = self._moved[pointer] = self.thread.move(pointer, moving)
            pointer = moved
        return self.thread.move(pointer, None, constant + self.view.constant)

    def _variant(self, flip: int) -> Value:
        """The thread's first address with some of its bits flipped: one for the whole kernel."""
        thread, view = self.thread, self.view
        key = ("shared address", thread.first_warp, view.pointer, self.layout, self.rows, self.starts, flip)

        def build() -> Value:
            offset = self._first_offset()
            return thread.move(view.pointer, offset if not flip else thread.binary("xor", offset, flip))

        return thread.at_entry(key, build)

    def _first_offset(self) -> Value:
        key = ("shared offset", self.thread.first_warp, self.layout, self.rows, self.starts)
        return self.thread.at_entry(key, lambda: self._offset((0,) * self.rows.rank))

    def _offset(self, local: tuple[int, ...]) -> Value:
        """The swizzled offset of the thread's element at a local index, computed from the thread's number."""
        thread = self.thread
        parts = [thread.thread_index(self.rows, d) for d in range(self.rows.rank)]
        starts = [n + s for n, s in zip(local, self.starts, strict=True)]
        return shared_offset(thread, self.view, parts, starts)


def shared_view_access(thread: Thread, op: Any, view: SharedView, rows: RegisterLayout, vector: int) -> SharedAccess:
    """Accesses at an operation's offsets: constant ones go into the layout, the others move the address."""
    starts, there = _moved_to(thread, view, op.offsets)
    return SharedAccess(thread, there, rows, vector, starts)


def _aligned(thread: Thread, op: Any, view: SharedView, vector: int) -> int:
    """The part of a vector's width that is left for an access at an operation's offsets in a view."""
    if vector == 1:
        return 1
    starts, there = _moved_to(thread, view, op.offsets)
    return _aligned_at(there, vector, starts)


def _aligned_at(view: SharedView, vector: int, starts: Sequence[int] = ()) -> int:
    return 1 if view.inner is not None else math.gcd(vector, view.constant, view.step, *starts)


def _shared_vector(layout: RegisterLayout, shared: SharedLayout, bits: int) -> tuple[int, int]:
    """The dimension and number of elements of the widest access."""
    best = (max(0, layout.rank - 1), 1)
    for d in range(layout.rank):
        width = math.gcd(layout.vector_width(d), shared.vector_width(d))
        width = math.gcd(width, max(1, 128 // bits))
        if width > best[1]:
            best = (d, width)
    return best


def _shared_element(thread: Thread, op: Load | Store, view: SharedView) -> Value:
    """The address of one element, the same for all threads."""
    indices = [thread.widen(thread.value(o), i32) for o in op.offsets]
    offset = shared_offset(thread, view, indices, [0] * len(indices))
    return thread.move(thread.move(view.pointer, view.moving), offset, view.constant)


def load_shared(thread: Thread, op: Load, view: SharedView) -> Value:
    tile = op.result.tile
    if not tile.shape:
        pointer = _shared_element(thread, op, view)
        return thread.widen(thread.emit(PtrLoad(pointer)), thread.element_type(op.result))
    loaded = thread.pack(shared_loads(thread, op, view).all())
    return thread.widen(loaded, thread.element_type(op.result))


def shared_loads(thread: Thread, op: Load, view: SharedView) -> DeferredLoads:
    """The loads of a thread's part of a tile in shared memory: of matrices, or of vectors as wide as layouts allow."""
    tile, layout = op.result.tile, layout_of(op.result)
    plan = _matrix_plan(thread, op, view, tile, Feature.LDMATRIX)
    if plan is not None:
        return matrix_loads(thread, shared_view_access(thread, op, view, plan.rows, plan.vector), plan)
    _, vector = _shared_vector(layout, view.layout, tile.dtype.bits)
    vector = 1 if op.mask is not None else _aligned(thread, op, view, vector)
    access = shared_view_access(thread, op, view, layout, vector)
    mask = None if op.mask is None else thread.value(op.mask)
    other = None if op.other is None else thread.value(op.other)

    def load(group: int) -> Value:
        predicate = None if mask is None else thread.extract(mask, group)
        predicate = thread.both(predicate, _within_view(thread, layout, layout.shape, view, op, group * vector))
        count, size = vector if vector > 1 else 0, vector * tile.dtype.itemsize
        return thread.emit(PtrLoad(access.address(group), count, size, predicate, other if predicate else None))

    return DeferredLoads(load, layout.num_locals // vector, vector)


def _stays_inside(thread: Thread, shape: tuple[int, ...], view: SharedView, op: Any, d: int) -> bool:
    fact = thread.facts.of(op.offsets[d])
    return fact.low >= 0 and fact.high + shape[d] <= view.shape[d]


def _within_view(thread: Thread, layout: RegisterLayout, shape: tuple[int, ...], view: SharedView, op: Any,
                 local: int) -> Value | None:
    """Whether an element of a box of ``shape`` at the operation's offsets is in the view; None where all are."""
    predicate: Value | None = None
    offsets = layout.local_indices[local]
    for d in range(layout.rank):
        if _stays_inside(thread, shape, view, op, d):
            continue
        fact = thread.facts.of(op.offsets[d])
        index = thread.binary("add", thread.widen(thread.value(op.offsets[d]), i32), offsets[d])
        part = thread.thread_index(layout, d)
        if part is not None:
            index = thread.emit(Binary("add", index, part))
        predicate = thread.both(predicate, thread.compare("lt", index, view.shape[d]))
        if fact.low < 0:
            predicate = thread.both(predicate, thread.compare("ge", index, 0))
    return predicate


def _matrix_plan(thread: Thread, op: Load | Store, view: SharedView, tile: TileType, instruction: Feature) -> Any:
    """How ldmatrix loads the tile, or stmatrix stores it; None where it cannot."""
    layout, bits = tile.layout, tile.dtype.bits
    if not thread.target.has(instruction) or op.mask is not None or bits not in (8, 16, 32):
        return None
    if layout is None or layout.rank != 2 or layout.shape != tile.shape:
        return None
    for dim in (1, 0):
        if view.layout.vector_width(dim) * bits >= 128:
            plan = ldmatrix_plan(layout, bits, dim)
            if plan is not None:
                return plan if _aligned(thread, op, view, plan.vector) == plan.vector else None
    return None


def matrix_loads(thread: Thread, access: SharedAccess, plan: Any) -> DeferredLoads:
    """The ldmatrix instructions of a plan."""

    def load(index: int) -> Value:
        return thread.emit(LdMatrix(access.address(index), plan.count, plan.trans))

    return DeferredLoads(load, plan.instructions, plan.count * plan.registers)


def store_matrices(thread: Thread, access: SharedAccess, plan: Any, value: Value) -> None:
    """The stmatrix instructions of a plan."""
    width = plan.count * plan.registers
    for index in range(plan.instructions):
        part = thread.take(value, range(index * width, (index + 1) * width))
        thread.emit(StMatrix(access.address(index), part, plan.count, plan.trans))


def store_shared(thread: Thread, op: Store, view: SharedView, value: Value) -> None:
    tile = op.value.tile
    if not tile.shape:
        thread.emit(PtrStore(_shared_element(thread, op, view), value, 0, _one_thread(thread)))
        return
    layout = layout_of(op.value)
    plan = _matrix_plan(thread, op, view, tile, Feature.STMATRIX)
    inside = all(_stays_inside(thread, tile.shape, view, op, d) for d in range(layout.rank))
    if plan is not None and inside and not layout.is_replicated:
        store_matrices(thread, shared_view_access(thread, op, view, plan.rows, plan.vector), plan, value)
        return
    dim, vector = _shared_vector(layout, view.layout, tile.dtype.bits)
    vector = 1 if op.mask is not None else _aligned(thread, op, view, math.gcd(vector, tile.shape[dim]))
    access = shared_view_access(thread, op, view, layout, vector)
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout)
    for group in range(layout.num_locals // vector):
        predicate = thread.both(first, tile_padding(thread, layout, tile.shape, group * vector))
        predicate = thread.both(predicate, _within_view(thread, layout, tile.shape, view, op, group * vector))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group))
        start = group * vector
        part = thread.take(value, range(start, start + vector)) if vector > 1 else thread.extract(value, start)
        thread.emit(PtrStore(access.address(group), part, vector * tile.dtype.itemsize, predicate))


# -- asynchronous copies


def copy_layout(thread: Thread, op: CopyAsync) -> tuple[RegisterLayout, int]:
    """The layout in which a copy moves its tile, and the elements of one move."""
    shape = tuple(int(d or 1) for d in op.destination.view.shape)
    dtype = op.destination.view.dtype
    order = contiguous_order(thread.facts, op.source, len(shape))
    width = vector_width(thread.facts, op, order[0], TileType(dtype, shape))
    return blocked(shape, thread.threads, width, order), width


def lower_copy_async(thread: Thread, op: CopyAsync) -> None:
    view = thread.views[op.destination]
    assert isinstance(view, SharedView)
    dtype = op.destination.view.dtype
    layout, width = copy_layout(thread, op)
    tile = TileType(dtype, view.shape)
    access = _GlobalAccess(thread, op, op.source, layout, tile)
    vector = _aligned_at(view, math.gcd(access.vector, view.layout.vector_width(access.dim)))
    if vector != access.vector:
        access.vector, access.indices = vector, layout.local_indices[::vector]
    shared = SharedAccess(thread, view, layout, vector, (0,) * layout.rank)
    mask = None if op.mask is None else thread.value(op.mask)
    size = vector * dtype.itemsize
    asynchronous = thread.target.has(Feature.CP_ASYNC) and size in (4, 8, 16)
    many = not asynchronous and len(access.indices) > COPIES_AT_ONCE
    if many and vector == 1 and mask is None and not layout.is_replicated:
        _copy_in_loop(thread, op, view, layout)
        return
    loaded: list[tuple[int, Value, Value | None]] = []
    at_once = max(1, BYTES_AT_ONCE // size)
    read_only = not _written(thread, op.source)
    first = thread.first_replica(layout)
    for group in range(len(access.indices)):
        if len(loaded) == at_once:
            _store_loaded(thread, shared, loaded, size)
        inside = tile_padding(thread, layout, view.shape, group * vector)
        inside = thread.both(inside, first)
        predicate = access.predicate(group)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group * vector))
        if asynchronous and inside is None:
            thread.emit(CpAsync(shared.address(group), access.pointer(group), size, predicate))
            continue
        count, predicate = vector if vector > 1 else 0, thread.both(predicate, inside)
        value = thread.emit(PtrLoad(access.pointer(group), count, size, predicate, read_only=read_only))
        loaded.append((group, value, inside))
    _store_loaded(thread, shared, loaded, size)


def lower_gather_async(thread: Thread, op: GatherAsync) -> None:
    view = thread.views[op.destination]
    assert isinstance(view, SharedView)
    dtype = op.destination.view.dtype
    layout = layout_of(op.indices[0])
    along, width = gathered_vector(thread.facts, op)
    vector = _aligned_at(view, math.gcd(math.gcd(width, layout.vector_width(along)), view.layout.vector_width(along)))
    locals_ = range(0, layout.num_locals, vector)
    pointers, predicates = element_pointers(thread, op, locals_)
    shared = SharedAccess(thread, view, layout, vector, (0,) * layout.rank)
    mask = None if op.mask is None else thread.value(op.mask)
    size = vector * dtype.itemsize
    asynchronous = thread.target.has(Feature.CP_ASYNC) and size in (4, 8, 16)
    read_only = not _written(thread, op.view)
    first = thread.first_replica(layout)
    loaded: list[tuple[int, Value, Value | None]] = []
    for group, (local, pointer, predicate) in enumerate(zip(locals_, pointers, predicates, strict=True)):
        if len(loaded) == max(1, BYTES_AT_ONCE // size):
            _store_loaded(thread, shared, loaded, size)
        inside = thread.both(tile_padding(thread, layout, view.shape, local), first)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        if asynchronous and inside is None:
            thread.emit(CpAsync(shared.address(group), pointer, size, predicate))
            continue
        count, predicate = vector if vector > 1 else 0, thread.both(predicate, inside)
        loaded.append((group, thread.emit(PtrLoad(pointer, count, size, predicate, read_only=read_only)), inside))
    _store_loaded(thread, shared, loaded, size)


def _store_loaded(
    thread: Thread, shared: SharedAccess, loaded: list[tuple[int, Value, Value | None]], size: int
) -> None:
    for group, value, inside in loaded:
        thread.emit(PtrStore(shared.address(group), value, size, inside))
    loaded.clear()


BYTES_AT_ONCE = 32
"""What a thread copies between two waits for memory where there are no asynchronous copies: eight registers."""
COPIES_AT_ONCE = 4
"""Single elements that a thread copies between two waits for memory, where alignment allows no wider copies."""


def _copy_in_loop(thread: Thread, op: CopyAsync, view: SharedView, layout: RegisterLayout) -> None:
    """Copies of single elements in a loop: unrolled, their addresses and predicates would fill the registers."""
    count = next(n for n in range(COPIES_AT_ONCE, 0, -1) if layout.num_locals % n == 0)
    read_only = not _written(thread, op.source)
    body = Block([TileType(i32)], ["copied"])
    outer, thread.block = thread.block, body
    loaded = []
    for u in range(count):
        local = thread.binary("add", body.args[0], u)
        parts = [_index_of(thread, layout, d, local) for d in range(layout.rank)]
        inside, predicate, pointer = _source_element(thread, op, layout, view, parts)
        value = thread.emit(PtrLoad(pointer, 0, 0, thread.both(predicate, inside), read_only=read_only))
        offset = shared_offset(thread, view, list(parts), [0] * len(parts))
        loaded.append((thread.move(thread.move(view.pointer, view.moving), offset, view.constant), value, inside))
    for pointer, value, inside in loaded:
        thread.emit(PtrStore(pointer, value, 0, inside))
    body.ops.append(Yield(()))
    thread.block = outer
    thread.emit(For(thread.const(0), thread.const(layout.num_locals), thread.const(count), (), body))


def _index_of(thread: Thread, layout: RegisterLayout, d: int, local: Value) -> Value:
    """The index along ``d`` of the thread's element with a run-time local number."""
    total = thread.thread_index(layout, d)
    for divisor, modulus, multiplier in layout.local_terms(d):
        digit = thread.unsigned("floordiv", local, divisor)
        if divisor * modulus < layout.num_locals:
            digit = thread.unsigned("mod", digit, modulus)
        part = thread.binary("mul", digit, multiplier)
        total = part if total is None else thread.emit(Binary("add", total, part))
    return thread.const(0) if total is None else total


def _source_element(
    thread: Thread, op: CopyAsync, layout: RegisterLayout, view: SharedView, parts: Sequence[Value]
) -> tuple[Value | None, Value | None, Value]:
    """Whether an element is in the tile, whether it is in bounds of the source, and its address."""
    source = thread.views[op.source]
    assert isinstance(source, GlobalView)
    small = _is_small(thread, op.source)
    inside: Value | None = None
    predicate: Value | None = None
    pointer = source.pointer
    for d, (part, offset) in enumerate(zip(parts, op.offsets, strict=True)):
        if layout.shape[d] > view.shape[d]:
            inside = thread.both(inside, thread.compare("lt", part, view.shape[d]))
        index = thread.emit(Binary("add", *thread.same_width(part, thread.value(offset))))
        pointer = _advance(thread, pointer, index, source.strides[d], small)
        if d in op.in_bounds:
            continue
        predicate = thread.both(predicate, thread.compare("lt", index, source.extents[d]))
        low = source.lows[d]
        if low is not None:
            predicate = thread.both(predicate, thread.compare("ge", index, low))
        elif thread.facts.of(offset).low < 0:
            predicate = thread.both(predicate, thread.compare("ge", index, 0))
    return inside, predicate, pointer


def _below(thread: Thread, layout: RegisterLayout, d: int, part: Value, limit: int) -> Value:
    """Whether the thread's part of the index along ``d`` is below a constant."""
    key = ("pad", thread.first_warp, layout, d, limit)
    return thread.at_entry(key, lambda: thread.compare("lt", part, limit))


def tile_padding(thread: Thread, layout: RegisterLayout, shape: tuple[int, ...], local: int) -> Value | None:
    """Whether a local holds an element of the tile; None where it always does."""
    predicate: Value | None = None
    offsets = layout.local_indices[local]
    for d, extent in enumerate(shape):
        if layout.shape[d] <= extent:
            continue
        limit = extent - offsets[d]
        part = thread.thread_index(layout, d)
        if part is None:
            if limit <= 0:
                return thread.const(False, bool_)
            continue
        predicate = thread.both(predicate, _below(thread, layout, d, part, limit))
    return predicate


def lower_commit(thread: Thread, op: CommitAsync) -> None:
    if thread.target.has(Feature.CP_ASYNC):
        thread.emit(CpAsyncCommit())


def lower_wait(thread: Thread, op: WaitAsync) -> None:
    if thread.target.has(Feature.CP_ASYNC):
        thread.emit(CpAsyncWait(op.pending))


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Load: lower_load,
    Store: lower_store,
    Gather: lower_gather,
    Scatter: lower_scatter,
    Atomic: lower_atomic,
    AllocShared: lower_alloc_shared,
    CopyAsync: lower_copy_async,
    GatherAsync: lower_gather_async,
    CommitAsync: lower_commit,
    WaitAsync: lower_wait,
}
