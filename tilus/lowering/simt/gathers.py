"""Gathers, scatters and atomics: accesses by run-time indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i32
from tilus.ir.ops import (
    Atomic,
    Binary,
    Gather,
    PtrLoad,
    PtrStore,
    Scatter,
)
from tilus.ir.ops.thread import PtrAtomic
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout
from tilus.lowering.simt import bits, dense
from tilus.lowering.simt.access import added_at_once, along_memory, gathered_vector
from tilus.lowering.simt.barriers import barrier
from tilus.lowering.simt.bits import Concatenation, code_of, is_narrow
from tilus.lowering.simt.context import GlobalView, SharedView, Thread, layout_of
from tilus.lowering.simt.views import (
    advance,
    index_predicate,
    is_counted,
    is_small,
    is_written,
    one_thread,
    scalar_layout,
    shared_offset,
    tile_padding,
)
from tilus.records import record


def element_pointers(thread: Thread, op: Any, locals_: Iterable[int],
                     layout: RegisterLayout | None = None) -> Iterator[tuple[Value, Value | None]]:
    """Addresses of a gather, scatter or atomic at some of the thread's elements, and whether they are in bounds;
    without a layout at its only one. Each is computed when it is asked for, so that few wait for their access."""
    view = thread.views[op.view]
    vectors = [thread.value(i) for i in op.indices]
    facts = [thread.facts.of(i) for i in op.indices]
    if isinstance(view, SharedView):
        yield from _shared_elements(thread, view, vectors, facts, locals_)
        return
    small = is_small(thread, op.view)
    counted = [is_counted(thread.facts, op.view, d) for d in range(len(facts))]
    neighbours = None if layout is None else _Neighbours.of(thread, op, layout)
    first: dict[tuple[int, ...], tuple[int, Value]] = {}
    for local in locals_:
        indices = [thread.extract(v, local) for v in vectors]
        indices = [thread.widen(i, i32) if i.tile.dtype.bits < 32 else i for i in indices]
        run, place = ((local,), 0) if neighbours is None else neighbours.place(local)
        if run not in first:
            first[run] = place, _moved(thread, view, indices, small)
        begun, pointer = first[run]
        predicate: Value | None = None
        for d, (index, fact) in enumerate(zip(indices, facts, strict=True)):
            predicate = thread.both(predicate, index_predicate(thread, view, d, index, fact, counted[d]))
        yield thread.move(pointer, None, place - begun), predicate


@record(frozen=True)
class _Neighbours:
    """Elements of a thread that lie at constant distances: those of a run along a dimension of the tile."""

    layout: RegisterLayout
    dim: int
    length: int

    @classmethod
    def of(cls, thread: Thread, op: Any, layout: RegisterLayout) -> _Neighbours | None:
        found = along_memory(thread.facts, op)
        if found is None:
            return None
        dim, _, index = found
        whole = index.run >= layout.shape[dim]  # else a thread's may begin within a run, but for those of its vectors
        return cls(layout, dim, index.run if whole else math.gcd(index.run, layout.vector_width(dim)))

    def place(self, local: int) -> tuple[tuple[int, ...], int]:
        """The run that a register's element is in, and its place in memory beside others of the run."""
        index = self.layout.local_indices[local]
        at = index[self.dim]
        return (*index[:self.dim], at // self.length, *index[self.dim + 1:]), at


def _moved(thread: Thread, view: GlobalView, indices: list[Value], small: bool) -> Value:
    """The address of an element. Offsets that fit in 32 bits are added up before they become one of bytes."""
    if small and all(i.tile.dtype.bits <= 32 for i in indices):
        total: Value | None = None
        for index, stride in zip(indices, view.strides, strict=True):
            index = thread.widen(index, i32)
            part = thread.binary("mul", index, stride) if isinstance(stride, int) else thread.emit(
                Binary("mul", index, thread.widen(stride, i32)))
            total = part if total is None else thread.emit(Binary("add", total, part))
        return thread.move(view.pointer, total)
    pointer = view.pointer
    for index, stride in zip(indices, view.strides, strict=True):
        pointer = advance(thread, pointer, index, stride, small)
    return pointer


def _shared_elements(
    thread: Thread, view: SharedView, vectors: list[Value], facts: list[Any], locals_: Iterable[int]
) -> Iterator[tuple[Value, Value | None]]:
    """Addresses and bounds of elements of shared memory by run-time indices."""
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
        yield thread.move(thread.move(view.pointer, view.moving), offset, view.constant), predicate


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
    layout = layout_of(op.result) if tile.shape else scalar_layout(thread)
    locals_, vector = _gathered_locals(thread, op, layout, tile)
    places = element_pointers(thread, op, locals_, layout if tile.shape else None)
    read_only = not is_written(thread, op.view)
    mask = None if op.mask is None else thread.value(op.mask)
    if is_narrow(tile.dtype):
        _gather_dense(thread, op, layout, zip(locals_, places, strict=True), vector)
        return
    count, size = (vector, vector * tile.dtype.itemsize) if vector > 1 else (0, 0)
    parts = []
    for local, (pointer, predicate) in zip(locals_, places, strict=True):
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


def _gather_dense(thread: Thread, op: Gather, layout: RegisterLayout,
                  places: Iterable[tuple[int, tuple[Value, Value | None]]], vector: int) -> None:
    """Of elements that lie without regard to bytes."""
    tile = op.result.tile
    mask = None if op.mask is None else thread.value(op.mask)
    other = None if op.other is None else code_of(thread, thread.value(op.other))
    words = Concatenation(thread)
    for local, (pointer, predicate) in places:
        if tile.shape:
            predicate = thread.both(predicate, tile_padding(thread, layout, tile.shape, local))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        dense.load_group(thread, pointer, vector, dense.alignment_of(tile.dtype, vector), predicate, other,
                         not is_written(thread, op.view), words)
    thread.set_words(op.result, words.result())


def lower_scatter(thread: Thread, op: Scatter) -> None:
    tile = op.value.tile
    layout = layout_of(op.value) if tile.shape else scalar_layout(thread)
    locals_, vector = _gathered_locals(thread, op, layout, tile)
    places = element_pointers(thread, op, locals_, layout if tile.shape else None)
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout) if tile.shape else one_thread(thread)
    for local, (pointer, predicate) in zip(locals_, places, strict=True):
        predicate = thread.both(predicate, first)
        if tile.shape:
            predicate = thread.both(predicate, tile_padding(thread, layout, op.value.tile.shape, local))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        if is_narrow(tile.dtype):
            part = bits.part(thread, thread.words(op.value), local, vector, tile.dtype.bits)
            dense.store_group(thread, pointer, part, vector, dense.alignment_of(tile.dtype, vector), predicate)
            continue
        value = thread.widen(thread.value(op.value), tile.dtype)
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
    layout = layout_of(op.result) if tile.shape else scalar_layout(thread)
    used = _is_used(thread, op.result)
    discards = not used and op.kind not in ("exchange", "cas")
    vector = 1
    if tile.shape and discards:
        along, width = gathered_vector(thread.facts, op)
        vector = math.gcd(width, layout.vector_width(along), added_at_once(op, thread.target))
    locals_ = range(0, layout.num_locals if tile.shape else 1, vector)
    places = element_pointers(thread, op, locals_, layout if tile.shape else None)
    mask = None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout) if tile.shape else one_thread(thread)
    parts = []
    for local, (pointer, predicate) in zip(locals_, places, strict=True):
        predicate = thread.both(predicate, first)
        if tile.shape:
            predicate = thread.both(predicate, tile_padding(thread, layout, op.value.tile.shape, local))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, local))
        if discards:
            part = thread.take(value, range(local, local + vector)) if vector > 1 else thread.extract(value, local)
            thread.emit(PtrAtomic(op.kind, pointer, part, None, predicate, op.order, op.scope, discards=True))
            continue
        other = None if compare is None else thread.extract(compare, local)
        parts.append(thread.emit(PtrAtomic(op.kind, pointer, thread.extract(value, local), other, predicate, op.order,
                                           op.scope)))
    if discards:
        return
    result = thread.pack(parts) if tile.shape else parts[0]
    if used:
        from tilus.lowering.simt.collective import broadcast_replicas

        result = broadcast_replicas(thread, op, result, layout)
    thread.set(op.result, thread.widen(result, thread.element_type(op.result)))


def _is_used(thread: Thread, value: Value) -> bool:
    return any(v is value for op in thread.function.walk() for v in op.operands)


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Gather: lower_gather, Scatter: lower_scatter, Atomic: lower_atomic,
}
