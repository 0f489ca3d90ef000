"""Tiles in shared memory: addresses under swizzles, vectors, and the matrix instructions."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i32, u32
from tilus.ir.ops import (
    AllocShared,
    Binary,
    Load,
    PtrLoad,
    PtrStore,
    Store,
)
from tilus.ir.ops.simt import LdMatrix, StMatrix
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout
from tilus.layouts.mma import ldmatrix_plan
from tilus.layouts.shared import SharedLayout, row_major
from tilus.lowering.simt import bits, dense
from tilus.lowering.simt.barriers import reuse_barrier
from tilus.lowering.simt.context import DeferredLoads, SharedView, Thread, layout_of
from tilus.lowering.simt.views import moved_to, one_thread, shared_offset, tile_padding
from tilus.targets import Feature


def lower_alloc_shared(thread: Thread, op: AllocShared) -> None:
    layout = op.result.view.layout or row_major(*op.shape)
    pointer = thread.shared_pointer(thread.shared_offsets[op], op.dtype)
    pointer.name = pointer.name or op.result.name
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
        threads = dict.fromkeys(rows.thread_indices)
        self._threads = [tuple(index[d] for index in threads) for d in range(rows.rank)]  # their parts, by dimension
        self._known_parts: dict[tuple[int, int], list[int]] = {}
        self.first = self._offsets((0,) * rows.rank)
        self.ones = functools.reduce(operator.or_, self.first)
        self._moved: dict[Value, Value] = {}

    def address(self, group: int) -> Value:
        if self.view.inner is not None:
            return self._at(self.thread.move(self.view.pointer, self._offset(self.locals[group])), 0)
        this = self._offsets(self.locals[group])
        difference = _common(map(operator.sub, this, self.first))
        if difference is not None:
            return self._at(self._variant(0), difference)
        constant = _common(map(operator.xor, this, self.first))
        if constant is not None:
            low = constant & self.ones
            return self._at(self._variant(low), constant & ~self.ones)
        pointer = self.thread.move(self.view.pointer, self._offset(self.locals[group]))
        return self._at(pointer, 0)

    def _offsets(self, local: tuple[int, ...]) -> list[int]:
        """Of the element at a local index, for every thread; those beyond the tile are taken to be at its end."""
        parts = [self._parts(d, local[d] + self.starts[d]) for d in range(self.rows.rank)]
        base, swizzle = self.layout.base, self.layout.swizzle
        offsets = [base + sum(of_thread) for of_thread in zip(*parts, strict=True)] if parts else [base]
        return offsets if swizzle is None else [swizzle(offset) for offset in offsets]

    def _parts(self, dim: int, moved: int) -> list[int]:
        """What the indices along ``dim``, ``moved`` from those of the threads, add to the offsets."""
        found = self._known_parts.get((dim, moved))
        if found is None:
            own, last = self._threads[dim], self.layout.shape[dim] - 1
            part = {n: self.layout.part(dim, min(n + moved, last)) for n in set(own)}
            found = self._known_parts[dim, moved] = [part[n] for n in own]
        return found

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


def _common(numbers: Iterable[int]) -> int | None:
    """What all of them are, None where they differ."""
    found = set(numbers)
    return found.pop() if len(found) == 1 else None


def shared_view_access(thread: Thread, op: Any, view: SharedView, rows: RegisterLayout, vector: int) -> SharedAccess:
    """Accesses at an operation's offsets: constant ones go into the layout, the others move the address."""
    starts, there = moved_to(thread, view, op.offsets)
    return SharedAccess(thread, there, rows, vector, starts)


def _aligned(thread: Thread, op: Any, view: SharedView, vector: int) -> int:
    """The part of a vector's width that is left for an access at an operation's offsets in a view."""
    if vector == 1:
        return 1
    starts, there = moved_to(thread, view, op.offsets)
    return aligned_at(there, vector, starts)


def aligned_at(view: SharedView, vector: int, starts: Sequence[int] = ()) -> int:
    return 1 if view.inner is not None else math.gcd(vector, view.constant, view.step, *starts)


def _shared_vector(layout: RegisterLayout, shared: SharedLayout, dtype: DType) -> tuple[int, int]:
    """The dimension and number of elements of the widest access."""
    best = (max(0, layout.rank - 1), 1)
    for d in range(layout.rank):
        width = math.gcd(layout.vector_width(d), shared.vector_width(d))
        width = math.gcd(width, dense.widest_vector(dtype))
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
    _, vector = _shared_vector(layout, view.layout, tile.dtype)
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
    layout, width = tile.layout, tile.dtype.bits
    if not thread.target.has(instruction) or op.mask is not None or width not in (4, 8, 16, 32):
        return None
    if layout is None or layout.rank != 2 or layout.shape != tile.shape:
        return None
    for dim in (1, 0):
        if view.layout.vector_width(dim) * width >= 128:
            plan = ldmatrix_plan(layout, width, dim)
            if plan is not None:
                return plan if _aligned(thread, op, view, plan.vector) == plan.vector else None
    return None


def matrix_loads(thread: Thread, access: SharedAccess, plan: Any) -> DeferredLoads:
    """The ldmatrix instructions of a plan."""

    def load(index: int) -> Value:
        return thread.emit(LdMatrix(access.address(index), plan.count, plan.trans))

    return DeferredLoads(load, plan.instructions, plan.count * plan.registers)


def _matrix_words(thread: Thread, access: SharedAccess, plan: Any, index: int) -> Value:
    """An ldmatrix instruction of elements that fill no register: words, in which they are dense."""
    address = dense.first_byte(thread, access.address(index))
    return thread.emit(LdMatrix(thread.pointer_as(address, u32), plan.count))


def store_matrices(thread: Thread, access: SharedAccess, plan: Any, value: Value) -> None:
    """The stmatrix instructions of a plan."""
    width = plan.count * plan.registers
    for index in range(plan.instructions):
        part = thread.take(value, range(index * width, (index + 1) * width))
        thread.emit(StMatrix(access.address(index), part, plan.count, plan.trans))


def load_dense_shared(thread: Thread, op: Load, view: SharedView) -> Value:
    """The words of elements that lie in memory without regard to bytes."""
    tile = op.result.tile
    words = bits.Concatenation(thread)
    other = None if op.other is None else bits.code_of(thread, thread.value(op.other))
    if not tile.shape:
        dense.load_group(thread, _shared_element(thread, op, view), 1, dense.alignment_of(tile.dtype, 1), None, None,
                         False, words)
        return words.result()
    layout = layout_of(op.result)
    plan = _matrix_plan(thread, op, view, tile, Feature.LDMATRIX)
    if plan is not None:
        access = shared_view_access(thread, op, view, plan.rows, plan.vector)
        return thread.pack([_matrix_words(thread, access, plan, index) for index in range(plan.instructions)])
    vector = 1 if op.mask is not None else _dense_vector(thread, op, view, layout, tile)
    access = shared_view_access(thread, op, view, layout, vector)
    mask = None if op.mask is None else thread.value(op.mask)
    for group in range(layout.num_locals // vector):
        predicate = None if mask is None else thread.extract(mask, group)
        predicate = thread.both(predicate, _within_view(thread, layout, layout.shape, view, op, group * vector))
        dense.load_group(thread, access.address(group), vector, dense.alignment_of(tile.dtype, vector), predicate,
                         other, False, words)
    return words.result()


def _dense_vector(thread: Thread, op: Load | Store, view: SharedView, layout: RegisterLayout, tile: TileType) -> int:
    dim, vector = _shared_vector(layout, view.layout, tile.dtype)
    vector = _aligned(thread, op, view, math.gcd(vector, tile.shape[dim]))
    return vector if dense.alignment_of(tile.dtype, vector) else 1


def store_dense_shared(thread: Thread, op: Store, view: SharedView) -> None:
    tile, words = op.value.tile, thread.words(op.value)
    if not tile.shape:
        dense.store_group(thread, _shared_element(thread, op, view), words, 1, dense.alignment_of(tile.dtype, 1),
                          one_thread(thread))
        return
    layout = layout_of(op.value)
    vector = 1 if op.mask is not None else _dense_vector(thread, op, view, layout, tile)
    alignment = dense.alignment_of(tile.dtype, vector)
    for start, address, predicate in _stored_groups(thread, op, view, layout, vector):
        part = bits.part(thread, words, start, vector, tile.dtype.bits)
        dense.store_group(thread, address, part, vector, alignment, predicate)


def _stored_groups(thread: Thread, op: Store, view: SharedView, layout: RegisterLayout,
                   vector: int) -> Iterator[tuple[int, Value, Value | None]]:
    """The first local of each group of ``vector`` that a thread stores, its address, and whether it is stored."""
    access = shared_view_access(thread, op, view, layout, vector)
    shape, mask = op.value.tile.shape, None if op.mask is None else thread.value(op.mask)
    first = thread.first_replica(layout)
    for group in range(layout.num_locals // vector):
        start = group * vector
        predicate = thread.both(first, tile_padding(thread, layout, shape, start))
        predicate = thread.both(predicate, _within_view(thread, layout, shape, view, op, start))
        if mask is not None:
            predicate = thread.both(predicate, thread.extract(mask, group))
        yield start, access.address(group), predicate


def store_shared(thread: Thread, op: Store, view: SharedView) -> None:
    tile = op.value.tile
    if bits.is_narrow(tile.dtype):
        store_dense_shared(thread, op, view)
        return
    value = thread.widen(thread.value(op.value), tile.dtype)
    if not tile.shape:
        thread.emit(PtrStore(_shared_element(thread, op, view), value, 0, one_thread(thread)))
        return
    layout = layout_of(op.value)
    plan = _matrix_plan(thread, op, view, tile, Feature.STMATRIX)
    inside = all(_stays_inside(thread, tile.shape, view, op, d) for d in range(layout.rank))
    if plan is not None and inside and not layout.is_replicated:
        store_matrices(thread, shared_view_access(thread, op, view, plan.rows, plan.vector), plan, value)
        return
    dim, vector = _shared_vector(layout, view.layout, tile.dtype)
    vector = 1 if op.mask is not None else _aligned(thread, op, view, math.gcd(vector, tile.shape[dim]))
    for start, address, predicate in _stored_groups(thread, op, view, layout, vector):
        part = thread.take(value, range(start, start + vector)) if vector > 1 else thread.extract(value, start)
        thread.emit(PtrStore(address, part, vector * tile.dtype.itemsize, predicate))
