"""Lowering of operations that move elements between threads: slices, inserts, concatenations, takes and scans.

A slice that gives every thread registers it has is free. Everything else is written to shared memory row-major and
read back in the result's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, bool_, i32, u8
from tilus.ir.ops import (
    Binary,
    Cast,
    Compare,
    Concat,
    For,
    Insert,
    PtrLoad,
    PtrStore,
    Scan,
    ScanWith,
    Select,
    Slice,
    Take,
    Yield,
)
from tilus.layouts import RegisterLayout
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.collective import (
    Combine,
    combine_kind,
    combine_region,
    exists,
    identity,
    pad,
    where_it_exists,
)
from tilus.lowering.simt.context import Thread, layout_of
from tilus.lowering.simt.convert import storage_type
from tilus.lowering.simt.scratch import slice_in_place
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


def lower_insert(thread: Thread, op: Insert) -> None:
    tile = op.x.tile
    buffer = _Buffer(thread, op, tile.shape, tile.dtype)
    buffer.write(_full(thread, op.x), layout_of(op.x), tile.shape, (0,) * tile.rank)
    barrier(thread)
    buffer.write(_full(thread, op.part), layout_of(op.part), op.part.tile.shape, op.starts)
    barrier(thread)
    _set(thread, op.result, buffer.read(layout_of(op.result), tile.shape, (0,) * tile.rank))


def lower_concat(thread: Thread, op: Concat) -> None:
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


# -- scans


def axis_threads(layout: RegisterLayout, axis: int) -> list[tuple[int, int]]:
    """Thread digits ``(divisor, size)`` along the axis, outermost first."""
    return [(divisor, size) for divisor, size, dim, _ in layout.thread_digits if dim == axis]


def lower_scan(thread: Thread, op: Scan) -> None:
    value = _full(thread, op.x)
    value = pad(thread, value, layout_of(op.x), op.x.tile.shape, op.axis, identity(op.kind, op.x.tile.dtype))
    (result,) = _scan(thread, op, [value], layout_of(op.x), op.axis, op.reverse, combine_kind(op.kind))
    _set(thread, op.result, result)


def lower_scan_with(thread: Thread, op: ScanWith) -> None:
    values = [_full(thread, x) for x in op.xs]
    layout, combine = layout_of(op.xs[0]), combine_region(op.combine)
    if op.reverse and layout.shape[op.axis] != op.xs[0].tile.shape[op.axis]:
        values.append(exists(thread, layout, op.axis, op.xs[0].tile.shape[op.axis]))
        combine = where_it_exists(combine, left=True)
    results = _scan(thread, op, values, layout, op.axis, op.reverse, combine)
    for old, new in zip(op.results, results, strict=False):
        _set(thread, old, new)


def _scan(
    thread: Thread, op: Any, values: list[Value], layout: RegisterLayout, axis: int, reverse: bool, combine: Combine
) -> list[Value]:
    """Within each thread, then over the threads along the axis, whose totals go through shared memory. Elements in
    the padding beyond the tile come last along the axis; where reversed they come first, as identities."""
    rows = _rows(layout, axis, reverse)
    columns: list[list[list[Value]]] = []  # [row][position][operand]
    for members in rows:
        running: list[list[Value]] = []
        for local in members:
            here = [thread.take(v, (local,)) for v in values]
            running.append(here if not running else combine(thread, running[-1], here))
        columns.append(running)
    digits = axis_threads(layout, axis)
    if digits:
        prefixes = _prefixes(thread, op, [c[-1] for c in columns], layout, axis, reverse, digits, combine)
        for column, (exists, prefix) in zip(columns, prefixes, strict=True):
            for i, here in enumerate(column):
                joined = combine(thread, prefix, here)
                column[i] = [thread.emit(Select(exists, j, h)) for j, h in zip(joined, here, strict=True)]
    results = []
    for n in range(len(values)):
        placed: list[Value | None] = [None] * layout.num_locals
        for members, column in zip(rows, columns, strict=True):
            for local, here in zip(members, column, strict=True):
                placed[local] = here[n]
        results.append(thread.pack([p for p in placed if p is not None]))
    return results


def _rows(layout: RegisterLayout, axis: int, reverse: bool) -> list[list[int]]:
    """Locals that differ along the axis only, in the order of the scan."""
    rows: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for local, index in enumerate(layout.local_indices):
        rows.setdefault(tuple(index[:axis] + index[axis + 1 :]), []).append((index[axis], local))
    return [[local for _, local in sorted(members, reverse=reverse)] for members in rows.values()]


def _prefixes(
    thread: Thread,
    op: Any,
    totals: list[list[Value]],
    layout: RegisterLayout,
    axis: int,
    reverse: bool,
    digits: list[tuple[int, int]],
    combine: Combine,
) -> list[tuple[Value, list[Value]]]:
    """For each row whether threads come before this one along the axis, and what their totals combine to."""
    count = 1
    position: Value | None = None
    for divisor, size in digits:
        digit = thread.digit(divisor, size, layout.num_threads)
        position = (
            digit if position is None else thread.emit(Binary("add", thread.binary("mul", position, size), digit))
        )
        count *= size
    assert position is not None
    if reverse:
        position = thread.emit(Binary("sub", thread.const(count - 1), position))
    group = layout.num_threads // count
    lane = _other_digits(thread, layout, axis)
    pointers = []
    base = thread.shared_offsets[op]
    for value in totals[0]:
        storage = storage_type(value.tile.dtype)
        pointers.append(thread.shared_pointer(base, storage))
        base += -(-count * group * len(totals) * max(4, storage.itemsize) // 16) * 16
    reuse_barrier(thread, op)
    slot = thread.binary("mul", position, group * len(totals))
    slot = slot if lane is None else thread.emit(Binary("add", slot, lane))
    for row, total in enumerate(totals):
        for value, pointer in zip(total, pointers, strict=True):
            stored = thread.emit(Cast(value, u8)) if value.tile.dtype is bool_ else value
            at = thread.move(pointer, slot, row * group)
            thread.emit(PtrStore(at, thread.extract(stored, 0)))
    barrier(thread)
    exists = thread.splat(thread.compare("gt", position, 0), 1)
    return [(exists, prefix) for prefix in _combined(thread, pointers, totals, group, position, lane, combine)]


def _combined(
    thread: Thread,
    pointers: list[Value],
    like: list[list[Value]],
    group: int,
    position: Value,
    lane: Value | None,
    combine: Combine,
) -> list[list[Value]]:
    """The totals of the threads before this one, combined in order by a loop over them, of all rows at once."""
    width = len(pointers)

    def load(slot: Value | None) -> list[Value]:
        out = []
        for row, values in enumerate(like):
            for value, pointer in zip(values, pointers, strict=True):
                at = thread.move(thread.move(pointer, lane), slot, row * group)
                part = thread.pack([thread.emit(PtrLoad(at))])
                if value.tile.dtype is bool_:
                    part = thread.emit(Compare("ne", part, thread.const(0, u8, 1)))
                out.append(part)
        return out

    first = load(None)
    body = Block([position.type, *(v.type for v in first)])
    outer, thread.block = thread.block, body
    here, so_far = load(thread.binary("mul", body.args[0], group * len(like))), body.args[1:]
    following: list[Value] = []
    for n in range(0, len(here), width):
        following += combine(thread, so_far[n : n + width], here[n : n + width])
    body.ops.append(Yield(tuple(following)))
    thread.block = outer
    loop = For(thread.const(1), position, thread.const(1), tuple(first), body)
    thread.emit(loop)
    return [list(loop.results[n : n + width]) for n in range(0, len(first), width)]


def _other_digits(thread: Thread, layout: RegisterLayout, axis: int) -> Value | None:
    """A number for the thread among those at the same place along the axis."""
    total: Value | None = None
    for divisor, size, dim, _ in layout.thread_digits:
        if dim == axis:
            continue
        digit = thread.digit(divisor, size, layout.num_threads)
        total = digit if total is None else thread.emit(Binary("add", thread.binary("mul", total, size), digit))
    return total


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Slice: lower_slice,
    Insert: lower_insert,
    Concat: lower_concat,
    Take: lower_take,
    Scan: lower_scan,
    ScanWith: lower_scan_with,
}
