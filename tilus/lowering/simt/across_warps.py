"""Reductions across warps: partial results meet in shared memory, and every holder of a result combines them.

Accesses are vectors where they can be: of results that a thread has side by side, or of the partial results of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import bool_, u8
from tilus.ir.ops import Binary, Cast, Compare, PtrLoad, PtrStore
from tilus.layouts import RegisterLayout
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.context import Thread
from tilus.lowering.simt.convert import storage_type
from tilus.records import record

Combine = Callable[[Thread, Sequence[Value], Sequence[Value]], list[Value]]
WORD, VECTOR, BANKS, LANES = 4, 16, 32, 32
"""Bytes of a bank's word and of the widest access, banks of shared memory, lanes of a warp."""


def reduce_warps(thread: Thread, op: Operation, values: list[Value], layout: RegisterLayout, axis: int,
                 digits: list[tuple[int, int]], combine: Combine) -> list[Value]:
    """Through shared memory: one slot per value of the digits, read back and combined in order."""
    result = layout.reduce(axis)
    slots = math.prod(size for _, size in digits)
    slot: Value | None = None
    for divisor, size in digits:
        digit = thread.digit(divisor, size, layout.num_threads)
        slot = digit if slot is None else thread.emit(Binary("add", thread.binary("mul", slot, size), digit))
    assert slot is not None
    writer = _first_of_lanes(thread, layout, axis, digits)
    element = flat_index(thread, result)
    reuse_barrier(thread, op)
    base, meetings = thread.shared_offsets[op], []
    for value in values:
        stored = thread.emit(Cast(value, u8)) if value.tile.dtype is bool_ else value
        storage = storage_type(value.tile.dtype)
        meeting = _Meeting.of(result, slots, thread.shared_pointer(base, storage), storage.itemsize)
        base += -(-slots * result.size * max(WORD, storage.itemsize) // VECTOR) * VECTOR
        meeting.store(thread, stored, element, slot, writer)
        meetings.append(meeting)
    barrier(thread)
    parts = [m.load(thread, element) for m in meetings]
    for n, value in enumerate(values):
        if value.tile.dtype is bool_:
            parts[n] = [thread.emit(Compare("ne", p, thread.const(0, u8, p.tile.size))) for p in parts[n]]
    total = [p[0] for p in parts]
    for s in range(1, slots):
        total = combine(thread, total, [p[s] for p in parts])
    return total


@record(frozen=True, eq=False)
class _Meeting:
    """Where the partial results of a tile lie, and how they are accessed.

    Attributes:
        offsets: by register, the place of its element beside that of the thread's first one.
        side_by_side: elements that an access to one slot moves.
        slots_at_once: slots of an element that a load moves; they lie side by side where that is more than one.
    """

    pointer: Value
    itemsize: int
    slots: int
    size: int
    offsets: tuple[int, ...]
    side_by_side: int
    slots_at_once: int

    @classmethod
    def of(cls, result: RegisterLayout, slots: int, pointer: Value, itemsize: int) -> _Meeting:
        widest = VECTOR // itemsize
        elements = math.gcd(result.vector_width(result.rank - 1), widest) if result.rank else 1
        elements = math.gcd(elements, result.shape[-1]) if result.rank else 1
        together = 1
        if elements == 1:
            lanes = {result.thread_index(t) for t in range(min(LANES, result.num_threads))}
            if len(lanes) * slots * itemsize <= BANKS * WORD:  # else lanes that store meet in banks
                together = math.gcd(slots, widest)
        return cls(pointer, itemsize, slots, result.size, tuple(flat_locals(result)), elements, together)

    @property
    def _strides(self) -> tuple[int, int]:
        """Of slots and of elements."""
        return (1, self.slots) if self.slots_at_once > 1 else (self.size, 1)

    def store(self, thread: Thread, value: Value, element: Value | None, slot: Value, writer: Value | None) -> None:
        along, apart = self._strides
        start = thread.binary("mul", slot, along)
        if element is not None:
            start = thread.emit(Binary("add", start, thread.binary("mul", element, apart)))
        target, width = thread.move(self.pointer, start), self.side_by_side
        alignment = self.itemsize * width if width > 1 else 0
        for local in range(0, len(self.offsets), width):
            part = thread.extract(value, local) if width == 1 else thread.take(value, range(local, local + width))
            thread.emit(PtrStore(thread.move(target, None, self.offsets[local] * apart), part, alignment, writer))

    def load(self, thread: Thread, element: Value | None) -> list[Value]:
        """The vectors that were stored in each slot."""
        along, apart = self._strides
        start = None if element is None else thread.binary("mul", element, apart)
        source = thread.move(self.pointer, start)
        if self.slots_at_once > 1:
            return self._load_together(thread, source)
        width, found = self.side_by_side, []
        vector = (width, self.itemsize * width) if width > 1 else (0, 0)
        for slot in range(self.slots):
            first = thread.move(source, None, slot * along)
            parts = [thread.emit(PtrLoad(thread.move(first, None, o), *vector)) for o in self.offsets[::width]]
            found.append(thread.pack(parts))
        return found

    def _load_together(self, thread: Thread, source: Value) -> list[Value]:
        width = self.slots_at_once
        rows = []
        for offset in self.offsets:
            starts = (thread.move(source, None, offset * self.slots + slot) for slot in range(0, self.slots, width))
            loaded = [thread.emit(PtrLoad(start, width, self.itemsize * width)) for start in starts]
            rows.append([thread.extract(loaded[slot // width], slot % width) for slot in range(self.slots)])
        return [thread.pack(parts) for parts in zip(*rows, strict=True)]


def flat_index(thread: Thread, layout: RegisterLayout) -> Value | None:
    """The thread part of the row-major position."""
    total: Value | None = None
    stride = 1
    for d in reversed(range(layout.rank)):
        part = thread.thread_index(layout, d)
        if part is not None:
            moved = thread.binary("mul", part, stride)
            total = moved if total is None else thread.emit(Binary("add", total, moved))
        stride *= layout.shape[d]
    return total


def flat_locals(layout: RegisterLayout) -> list[int]:
    out = []
    for index in layout.local_indices:
        flat = 0
        for i, n in zip(index, layout.shape, strict=True):
            flat = flat * n + i
        out.append(flat)
    return out


def _first_of_lanes(thread: Thread, layout: RegisterLayout, axis: int, digits: list[tuple[int, int]]) -> Value | None:
    """Whether this thread is the one that stores its slot: replicas and lanes that hold the same do not."""
    result = layout.reduce(axis)
    chosen = [(d, s) for d, s in digits]
    predicate: Value | None = None
    for divisor, size in result.replica_terms:
        for inner, count in _without(divisor, size, chosen):
            digit = thread.digit(inner, count, layout.num_threads)
            predicate = thread.both(predicate, thread.compare("eq", digit, 0))
    return predicate


def _without(divisor: int, size: int, chosen: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a digit that are in none of ``chosen``, which are parts of it or apart from it."""
    for inner, count in chosen:
        if inner >= divisor and inner * count <= divisor * size and (inner - divisor) % divisor == 0:
            out = []
            if inner > divisor:
                out += _without(divisor, inner // divisor, chosen)
            if inner * count < divisor * size:
                out += _without(inner * count, divisor * size // (inner * count), chosen)
            return out
    return [(divisor, size)]


__all__ = ["Combine", "flat_index", "flat_locals", "reduce_warps"]
