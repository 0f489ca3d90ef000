"""Asynchronous copies from global to shared memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import i32
from tilus.ir.ops import (
    Binary,
    CommitAsync,
    CopyAsync,
    For,
    GatherAsync,
    PtrLoad,
    PtrStore,
    WaitAsync,
    Yield,
)
from tilus.ir.ops.simt import CpAsync, CpAsyncCommit, CpAsyncWait
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout
from tilus.lowering.simt import dense
from tilus.lowering.simt.access import copied_layout, gathered_vector, may_be_partial, view_facts
from tilus.lowering.simt.bits import Concatenation, is_narrow
from tilus.lowering.simt.context import GlobalView, SharedView, Thread, layout_of
from tilus.lowering.simt.gathers import element_pointers
from tilus.lowering.simt.global_access import GlobalAccess
from tilus.lowering.simt.shared_access import SharedAccess, aligned_at
from tilus.lowering.simt.views import advance, is_small, is_written, shared_offset, tile_padding
from tilus.targets import Feature


def lower_copy_async(thread: Thread, op: CopyAsync) -> None:
    view = thread.views[op.destination]
    assert isinstance(view, SharedView)
    dtype = op.destination.view.dtype
    layout, _ = copied_layout(thread.facts, op, thread.threads, thread.target)
    tile = TileType(dtype, view.shape)
    partial = may_be_partial(thread.target, dtype)
    access = GlobalAccess(thread, op, op.source, layout, tile, partial)
    vector = aligned_at(view, math.gcd(access.vector, view.layout.vector_width(access.dim)))
    if is_narrow(dtype):
        _copy_dense(thread, op, view, layout, access)
        return
    if vector != access.vector:
        access.vector, access.indices = vector, layout.local_indices[::vector]
    shared = SharedAccess(thread, view, layout, vector, (0,) * layout.rank)
    mask = None if op.mask is None else thread.value(op.mask)
    size = vector * dtype.itemsize
    asynchronous = thread.target.has(Feature.CP_ASYNC) and size in (4, 8, 16)
    counted = partial and access.dim not in op.in_bounds and \
        view_facts(thread.facts, op.source).extents[access.dim].divisor % vector != 0
    many = not asynchronous and len(access.indices) > COPIES_UNROLLED
    if many and vector == 1 and mask is None and not layout.is_replicated:
        _copy_in_loop(thread, op, view, layout)
        return
    loaded: list[tuple[int, Value, Value | None]] = []
    at_once = _at_once(size)
    read_only = not is_written(thread, op.source)
    first = thread.first_replica(layout)
    for group in range(len(access.indices)):
        if len(loaded) == at_once:
            _store_loaded(thread, shared, loaded, size)
        inside = tile_padding(thread, layout, view.shape, group * vector)
        inside = thread.both(inside, first)
        predicate = access.predicate(group)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group * vector))
        if asynchronous and counted:
            there = thread.binary("mul", access.count(group, predicate), dtype.itemsize)
            thread.emit(CpAsync(shared.address(group), access.pointer(group), size, None, inside, there))
            continue
        if asynchronous:
            thread.emit(CpAsync(shared.address(group), access.pointer(group), size, predicate, inside))
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
    vector = aligned_at(view, math.gcd(math.gcd(width, layout.vector_width(along)), view.layout.vector_width(along)))
    vector = 1 if is_narrow(dtype) else vector
    locals_ = range(0, layout.num_locals, vector)
    places = zip(locals_, element_pointers(thread, op, locals_, layout), strict=True)
    shared = SharedAccess(thread, view, layout, vector, (0,) * layout.rank)
    mask = None if op.mask is None else thread.value(op.mask)
    if is_narrow(dtype):
        _gather_dense(thread, op, view, layout, shared, places, mask)
        return
    size = vector * dtype.itemsize
    asynchronous = thread.target.has(Feature.CP_ASYNC) and size in (4, 8, 16)
    read_only = not is_written(thread, op.view)
    first = thread.first_replica(layout)
    loaded: list[tuple[int, Value, Value | None]] = []
    for group, (local, (pointer, predicate)) in enumerate(places):
        if len(loaded) == _at_once(size):
            _store_loaded(thread, shared, loaded, size)
        inside = thread.both(tile_padding(thread, layout, view.shape, local), first)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        if asynchronous:
            thread.emit(CpAsync(shared.address(group), pointer, size, predicate, inside))
            continue
        count, predicate = vector if vector > 1 else 0, thread.both(predicate, inside)
        loaded.append((group, thread.emit(PtrLoad(pointer, count, size, predicate, read_only=read_only)), inside))
    _store_loaded(thread, shared, loaded, size)


def _copy_dense(thread: Thread, op: CopyAsync, view: SharedView, layout: RegisterLayout, access: GlobalAccess) -> None:
    """Elements that lie without regard to bytes: asynchronously where groups of them have words of their own on both
    sides, else what fills bytes of shared memory is gathered first."""
    dtype, dim = op.destination.view.dtype, access.dim
    whole = aligned_at(view, math.gcd(layout.vector_width(dim), view.layout.vector_width(dim), view.shape[dim]))
    whole = whole if dense.alignment_of(dtype, whole) else 1
    vector = access.vector = math.gcd(access.vector, whole)
    access.indices = layout.local_indices[::vector]
    shared = SharedAccess(thread, view, layout, whole, (0,) * layout.rank)
    mask = None if op.mask is None else thread.value(op.mask)
    alignment, read_only = dense.alignment_of(dtype, vector), not is_written(thread, op.source)
    first = thread.first_replica(layout)
    for group in range(layout.num_locals // whole):
        inside = thread.both(tile_padding(thread, layout, view.shape, group * whole), first)
        words = Concatenation(thread)
        for part in range(group * whole // vector, (group + 1) * whole // vector):
            predicate = access.predicate(part)
            if mask is not None:
                predicate = thread.both(predicate, thread.extract(mask, part * vector))
            if thread.target.has(Feature.CP_ASYNC) and vector == whole and alignment >= 4:
                there = shared.address(group)
                dense.copy_group(thread, access.pointer(part), there, whole, alignment, predicate, inside)
                continue
            dense.load_group(thread, access.pointer(part), vector, alignment, thread.both(predicate, inside), None,
                             read_only, words)
        if words.at:
            dense.store_group(thread, shared.address(group), words.result(), whole, dense.alignment_of(dtype, whole),
                              inside)


def _gather_dense(thread: Thread, op: GatherAsync, view: SharedView, layout: RegisterLayout, shared: SharedAccess,
                  places: Iterable[tuple[int, tuple[Value, Value | None]]], mask: Value | None) -> None:
    """Element by element."""
    dtype, first = op.destination.view.dtype, thread.first_replica(layout)
    alignment = dense.alignment_of(dtype, 1)
    for group, (local, (pointer, predicate)) in enumerate(places):
        inside = thread.both(tile_padding(thread, layout, view.shape, local), first)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        words = Concatenation(thread)
        dense.load_group(thread, pointer, 1, alignment, thread.both(predicate, inside), None,
                         not is_written(thread, op.view), words)
        dense.store_group(thread, shared.address(group), words.result(), 1, alignment, inside)


def _store_loaded(
    thread: Thread, shared: SharedAccess, loaded: list[tuple[int, Value, Value | None]], size: int
) -> None:
    for group, value, inside in loaded:
        thread.emit(PtrStore(shared.address(group), value, size, inside))
    loaded.clear()


REGISTERS_AT_ONCE = 8
"""What a thread copies between two waits for memory where there are no asynchronous copies."""


def _at_once(size: int) -> int:
    """How many accesses of so many bytes fill the registers that a copy takes."""
    return max(1, REGISTERS_AT_ONCE // max(1, size // 4))


COPIES_UNROLLED = 64
"""Single elements that a thread copies one after another without a loop."""
COPIES_AT_ONCE = 4
"""Single elements that a thread copies between two waits for memory, where alignment allows no wider copies."""


def _copy_in_loop(thread: Thread, op: CopyAsync, view: SharedView, layout: RegisterLayout) -> None:
    """Copies of single elements in a loop: unrolled, their addresses and predicates would fill the registers."""
    count = next(n for n in range(COPIES_AT_ONCE, 0, -1) if layout.num_locals % n == 0)
    read_only = not is_written(thread, op.source)
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
    small = is_small(thread, op.source)
    inside: Value | None = None
    predicate: Value | None = None
    pointer = source.pointer
    for d, (part, offset) in enumerate(zip(parts, op.offsets, strict=True)):
        if layout.shape[d] > view.shape[d]:
            inside = thread.both(inside, thread.compare("lt", part, view.shape[d]))
        index = thread.emit(Binary("add", *thread.same_width(part, thread.value(offset))))
        pointer = advance(thread, pointer, index, source.strides[d], small)
        if d in op.in_bounds:
            continue
        predicate = thread.both(predicate, thread.compare("lt", index, source.extents[d]))
        low = source.lows[d]
        if low is not None:
            predicate = thread.both(predicate, thread.compare("ge", index, low))
        elif thread.facts.of(offset).low < 0:
            predicate = thread.both(predicate, thread.compare("ge", index, 0))
    return inside, predicate, pointer


def lower_commit(thread: Thread, op: CommitAsync) -> None:
    if thread.target.has(Feature.CP_ASYNC):
        thread.emit(CpAsyncCommit())


def lower_wait(thread: Thread, op: WaitAsync) -> None:
    if thread.target.has(Feature.CP_ASYNC):
        thread.emit(CpAsyncWait(op.pending))


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    CopyAsync: lower_copy_async, GatherAsync: lower_gather_async, CommitAsync: lower_commit, WaitAsync: lower_wait,
}
