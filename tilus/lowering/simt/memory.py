"""Loads and stores of tiles: each thread's part, in vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.ops import (
    AllocShared,
    Load,
    PtrLoad,
    PtrStore,
    Store,
    Subview,
)
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.simt import bits, dense
from tilus.lowering.simt.context import SharedView, Thread, layout_of
from tilus.lowering.simt.global_access import GlobalAccess, ScalarAccess
from tilus.lowering.simt.shared_access import (
    load_dense_shared,
    load_shared,
    lower_alloc_shared,
    shared_loads,
    store_shared,
)
from tilus.lowering.simt.views import is_written, lower_subview, one_thread, scalar_layout


def lower_load(thread: Thread, op: Load) -> None:
    view = thread.views[op.view]
    if isinstance(view, SharedView):
        if bits.is_narrow(op.result.tile.dtype):
            thread.set_words(op.result, load_dense_shared(thread, op, view))
            return
        if op in thread.deferrable:
            if op.result in thread.in_place:
                starts = sum(thread.facts.of(o).low * s for o, s in zip(op.offsets, view.layout.strides, strict=True))
                thread.in_shared[op.result] = SharedView(
                    view.pointer, view.layout, view.shape, view.constant + starts, view.moving, view.step
                )
                return
            if op.mask is None and unit_of(thread.deferrable[op]).place is Place.REGISTERS:
                thread.deferred[op.result] = shared_loads(thread, op, view)
                return
        thread.set(op.result, load_shared(thread, op, view))
        return
    tile = op.result.tile
    layout = layout_of(op.result) if tile.shape else scalar_layout(thread)
    access = GlobalAccess(thread, op, op.view, layout, tile) if tile.shape else ScalarAccess(thread, op)
    read_only = not is_written(thread, op.view)
    mask = None if op.mask is None else thread.value(op.mask)
    if bits.is_narrow(tile.dtype):
        _load_dense(thread, op, access, mask, read_only)
        return
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


def _load_dense(thread: Thread, op: Load, access: GlobalAccess | ScalarAccess, mask: Value | None,
                read_only: bool) -> None:
    """Elements that lie in memory without regard to bytes: they are as dense in registers."""
    dtype, vector = op.result.tile.dtype, access.vector
    other = None if op.other is None else bits.code_of(thread, thread.value(op.other))
    words = bits.Concatenation(thread)
    for group in range(len(access.indices)):
        predicate = access.predicate(group)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group * vector))
        dense.load_group(thread, access.pointer(group), vector, dense.alignment_of(dtype, vector), predicate, other,
                         read_only, words)
    thread.set_words(op.result, words.result())


def _store_dense(thread: Thread, op: Store, access: GlobalAccess | ScalarAccess, mask: Value | None,
                 first: Value | None) -> None:
    dtype, vector = op.value.tile.dtype, access.vector
    words = thread.words(op.value)
    for group in range(len(access.indices)):
        predicate = thread.both(access.predicate(group), first)
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group * vector))
        part = bits.part(thread, words, group * vector, vector, dtype.bits)
        dense.store_group(thread, access.pointer(group), part, vector, dense.alignment_of(dtype, vector), predicate)


def lower_store(thread: Thread, op: Store) -> None:
    view = thread.views[op.view]
    tile = op.value.tile
    if isinstance(view, SharedView):
        store_shared(thread, op, view)
        return
    layout = layout_of(op.value) if tile.shape else scalar_layout(thread)
    access = GlobalAccess(thread, op, op.view, layout, tile) if tile.shape else ScalarAccess(thread, op)
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout) if tile.shape else one_thread(thread)
    if bits.is_narrow(tile.dtype):
        _store_dense(thread, op, access, mask, first)
        return
    value = thread.widen(thread.value(op.value), tile.dtype)
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


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Subview: lower_subview, Load: lower_load, Store: lower_store, AllocShared: lower_alloc_shared,
}
