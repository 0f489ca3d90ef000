"""Lowering of operations that move elements between threads: slices, inserts, concatenations and takes.

A slice that gives every thread registers it has is free, and so are parts put together that every thread has.
Everything else is written to shared memory row-major and read back in the result's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bool_, i32, u8
from tilus.ir.ops import (
    Cast,
    Compare,
    Concat,
    Insert,
    PtrLoad,
    PtrStore,
    Slice,
    Take,
)
from tilus.layouts import RegisterLayout
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.context import Thread, layout_of
from tilus.lowering.simt.convert import storage_type
from tilus.lowering.simt.scratch import parts_in_place, slice_in_place
from tilus.lowering.simt.views import tile_padding


class _Buffer:
    """A tile of ``shape`` in scratch memory, row-major."""

    def __init__(self, thread: Thread, op: Operation, shape: tuple[int, ...], dtype: DType) -> None:
        self.thread, self.shape, self.dtype = thread, shape, dtype
        self.storage = storage_type(dtype)
        self.pointer = thread.shared_pointer(thread.shared_offsets[op], self.storage)
        self.strides = [1] * len(shape)
        for d in reversed(range(len(shape) - 1)):
            self.strides[d] = self.strides[d + 1] * shape[d + 1]
        reuse_barrier(thread, op)

    def base(self, layout: RegisterLayout) -> Value:
        """The address of the thread's first element."""
        thread, pointer = self.thread, self.pointer
        for d, stride in enumerate(self.strides):
            part = thread.thread_index(layout, d)
            if part is not None:
                pointer = thread.move(pointer, thread.binary("mul", part, stride))
        return pointer

    def constant(self, index: Sequence[int]) -> int:
        return sum(i * s for i, s in zip(index, self.strides, strict=True))

    def write(self, value: Value, layout: RegisterLayout, extents: tuple[int, ...], starts: Sequence[int]) -> None:
        """Store a tile of ``extents`` with its corner at ``starts``."""
        thread = self.thread
        stored = thread.emit(Cast(value, u8)) if value.tile.dtype is bool_ else value
        base, first = self.base(layout), thread.first_replica(layout)
        for local, index in enumerate(layout.local_indices):
            predicate = thread.both(first, tile_padding(thread, layout, extents, local))
            at = self.constant([i + s for i, s in zip(index, starts, strict=True)])
            thread.emit(PtrStore(thread.move(base, None, at), thread.extract(stored, local), 0, predicate))

    def read(self, layout: RegisterLayout, extents: tuple[int, ...], starts: Sequence[int]) -> Value:
        """The tile of ``extents`` whose corner is at ``starts``, in ``layout``."""
        thread, base = self.thread, self.base(layout)
        parts = []
        for local, index in enumerate(layout.local_indices):
            predicate = tile_padding(thread, layout, extents, local)
            at = self.constant([i + s for i, s in zip(index, starts, strict=True)])
            parts.append(thread.emit(PtrLoad(thread.move(base, None, at), 0, 0, predicate)))
        return self.loaded(parts)

    def loaded(self, parts: list[Value]) -> Value:
        result = self.thread.pack(parts)
        if self.dtype is bool_:
            return self.thread.emit(Compare("ne", result, self.thread.const(0, u8, result.tile.size)))
        return result


def _full(thread: Thread, value: Value) -> Value:
    """A tile-level value in its declared element type."""
    return thread.widen(thread.value(value), value.tile.dtype)


def _set(thread: Thread, result: Value, value: Value) -> None:
    thread.set(result, thread.widen(value, thread.element_type(result)))


def lower_slice(thread: Thread, op: Slice) -> None:
    kept = slice_in_place(op)
    if kept is not None:
        thread.set(op.result, thread.take(thread.value(op.x), kept))
        return
    tile = op.x.tile
    buffer = _Buffer(thread, op, tile.shape, tile.dtype)
    buffer.write(_full(thread, op.x), layout_of(op.x), tile.shape, (0,) * tile.rank)
    barrier(thread)
    _set(thread, op.result, buffer.read(layout_of(op.result), op.sizes, op.starts))


def _set_parts(thread: Thread, op: Insert | Concat, places: list[tuple[Value, tuple[int, ...]]]) -> None:
    """Put together what every thread has."""
    count = layout_of(op.result).num_locals
    source = _full(thread, op.x) if isinstance(op, Insert) else None
    elements = [None if source is None else thread.extract(source, n) for n in range(count)]
    for part, locals_ in places:
        value = _full(thread, part)
        for n, local in enumerate(locals_):
            elements[local] = thread.extract(value, n)
    _set(thread, op.result, thread.pack([e for e in elements if e is not None]))


def lower_insert(thread: Thread, op: Insert) -> None:
    places = parts_in_place(op)
    if places is not None:
        _set_parts(thread, op, places)
        return
    tile = op.x.tile
    buffer = _Buffer(thread, op, tile.shape, tile.dtype)
    buffer.write(_full(thread, op.x), layout_of(op.x), tile.shape, (0,) * tile.rank)
    barrier(thread)
    buffer.write(_full(thread, op.part), layout_of(op.part), op.part.tile.shape, op.starts)
    barrier(thread)
    _set(thread, op.result, buffer.read(layout_of(op.result), tile.shape, (0,) * tile.rank))


def lower_concat(thread: Thread, op: Concat) -> None:
    places = parts_in_place(op)
    if places is not None:
        _set_parts(thread, op, places)
        return
    tile = op.result.tile
    buffer = _Buffer(thread, op, tile.shape, tile.dtype)
    starts = [0] * tile.rank
    for part in op.parts:
        buffer.write(_full(thread, part), layout_of(part), part.tile.shape, starts)
        starts[op.axis] += part.tile.shape[op.axis]
    barrier(thread)
    _set(thread, op.result, buffer.read(layout_of(op.result), tile.shape, (0,) * tile.rank))


def lower_take(thread: Thread, op: Take) -> None:
    """``indices`` is in the result's layout; an index outside gives 0."""
    tile, layout = op.x.tile, layout_of(op.result)
    buffer = _Buffer(thread, op, tile.shape, tile.dtype)
    buffer.write(_full(thread, op.x), layout_of(op.x), tile.shape, (0,) * tile.rank)
    barrier(thread)
    pointer = buffer.pointer
    for d, stride in enumerate(buffer.strides):
        part = thread.thread_index(layout, d)
        if d != op.axis and part is not None:
            pointer = thread.move(pointer, thread.binary("mul", part, stride))
    indices = thread.value(op.indices)
    other = thread.const(0, tile.dtype) if tile.dtype.is_codebook else None  # which is no code of zeros there
    parts = []
    for local, offset in enumerate(layout.local_indices):
        index = thread.extract(indices, local)
        index = thread.widen(index, i32) if index.tile.dtype.bits < 32 else index
        predicate = thread.both(thread.compare("ge", index, 0), thread.compare("lt", index, tile.shape[op.axis]))
        predicate = thread.both(predicate, tile_padding(thread, layout, op.result.tile.shape, local))
        elsewhere = [0 if d == op.axis else n for d, n in enumerate(offset)]
        at = thread.move(pointer, thread.binary("mul", index, buffer.strides[op.axis]), buffer.constant(elsewhere))
        parts.append(thread.emit(PtrLoad(at, 0, 0, predicate, other)))
    _set(thread, op.result, buffer.loaded(parts))


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Slice: lower_slice,
    Insert: lower_insert,
    Concat: lower_concat,
    Take: lower_take,
}
