"""Addresses and bounds of one thread's part of a tile in global memory."""

from __future__ import annotations

import math
from typing import Any

from tilus.ir.core import Value
from tilus.ir.dtypes import bool_, i32, i64
from tilus.ir.ops import Binary, Const, Select
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout
from tilus.lowering.simt.access import contiguous_order, vector_width
from tilus.lowering.simt.bits import is_narrow
from tilus.lowering.simt.context import GlobalView, Thread
from tilus.lowering.simt.dense import alignment_of
from tilus.lowering.simt.views import advance, element_predicate, is_counted, is_small, within
from tilus.lowering.spare_registers import registers_of_rows

NEAR = 1 << 16
"""Constants up to which an offset is split: sums of indices in 32 bits stay so."""
FEW = 8
"""Indices along a dimension of which each has a register of its own, at most."""
PART = 4
"""One of so many registers for rows may hold an index."""


class GlobalAccess:
    """Addresses and predicates of one thread's part of a tile in global memory, in groups of ``vector`` locals."""

    def __init__(self, thread: Thread, op: Any, view_value: Value, layout: RegisterLayout, tile: TileType,
                 partial: bool = False) -> None:
        view = thread.views[view_value]
        assert isinstance(view, GlobalView)
        self.thread, self.view, self.layout, self.tile = thread, view, layout, tile
        # Outside of loops, accesses that differ by constants share the addresses and bounds of rows.
        split = [(offset, 0) if thread.loops else _split(offset) for offset in op.offsets]
        self.starts, self.shifts = [start for start, _ in split], [shift for _, shift in split]
        self.offsets: tuple[Value, ...] = op.offsets
        self.in_bounds: tuple[int, ...] = op.in_bounds
        self.small = is_small(thread, view_value)
        self.counted = [is_counted(thread.facts, view_value, d) for d in range(tile.rank)]
        order = contiguous_order(thread.facts, view_value, tile.rank)
        self.dim = order[0] if order else 0
        width = vector_width(thread.facts, op, self.dim, tile, partial) if order else 1
        have = layout.vector_width(self.dim) if order else 1
        self.vector = math.gcd(width, have)
        if is_narrow(tile.dtype) and not alignment_of(tile.dtype, self.vector):
            self.vector = 1
        self.base = self._thread_pointer()
        self.indices = layout.local_indices[:: self.vector]
        self._row_pointers: dict[tuple[int, ...], Value] = {}
        self._bounds: dict[tuple[int, int], Value | None] = {}
        self._first: dict[int, Value] = {}
        self._left: dict[int, Value] = {}

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
                pointer = advance(thread, pointer, part, self.view.strides[d], self.small)
        for d, offset in enumerate(self.starts):
            pointer = advance(thread, pointer, thread.value(offset), self.view.strides[d], self.small)
        return pointer

    def _thread_offset(self) -> Value | None:
        """The offset of the thread's first element in 32 bits, where there is one and all its parts have them."""
        thread, total = self.thread, None
        for d, (offset, stride) in enumerate(zip(self.starts, self.view.strides, strict=True)):
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
        for i, shift, stride in zip(index, self.shifts, self.view.strides, strict=True):
            if isinstance(stride, int):
                constant += (i + shift) * stride
                moving.append(0)
            else:
                moving.append(i + shift)
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
        index, low = self._first_index(d), self.view.lows[d]
        above = known_extent is None or fact.high + reach > known_extent
        # The neighbours of an access may be before the first index: then one asks as the other does, to share that.
        if above and low is None and self.counted[d] and (fact.low < 0 or self.shifts[d]):
            return thread.both(predicate, within(thread, self._moved(index, d, local), extent))
        if above:
            predicate = thread.both(predicate, self._below(d, local, extent))
        if low is not None:
            predicate = thread.both(predicate, thread.compare("ge", self._moved(index, d, local), low))
        elif fact.low < 0:
            predicate = thread.both(predicate, thread.compare("ge", self._moved(index, d, local), 0))
        return predicate

    def _moved(self, index: Value, d: int, local: int) -> Value:
        return self.thread.binary("add", index, local + self.shifts[d])

    def count(self, group: int, predicate: Value | None) -> Value:
        """How many elements of a group are there, of which the first one is where ``predicate`` holds; else none."""
        thread, d = self.thread, self.dim
        extent = self.view.extents[d]
        known = thread.const(extent) if isinstance(extent, int) else extent
        index = self._moved(self._first_index(d), d, self.indices[group][d])
        left = thread.emit(Binary("sub", *thread.same_width(known, index)))
        some = thread.widen(thread.binary("min", left, self.vector), i32)
        return some if predicate is None else thread.emit(Select(predicate, some, thread.const(0)))

    def _first_index(self, d: int) -> Value:
        """Of the thread's first element along a dimension of the view, in as many bits as the others' take."""
        if d not in self._first:
            thread, start = self.thread, self.starts[d]
            index, part = thread.value(start), thread.thread_index(self.layout, d)
            if thread.facts.of(start).high + self.layout.shape[d] + max(0, self.shifts[d]) >= 1 << 31:
                index = thread.widen(index, i64)
            self._first[d] = index if part is None else thread.emit(Binary("add", *thread.same_width(part, index)))
        return self._first[d]

    def _below(self, d: int, local: int, extent: Value | int) -> Value:
        """Whether an element is below the extent. Of many elements what is left of that from the thread's first one on
        is compared with constants, which takes one register for all."""
        thread, index = self.thread, self._first_index(d)
        room = registers_of_rows(thread.function) if thread.loops else None
        few = len({other[d] for other in self.indices}) <= (FEW if room is None else min(FEW, room // PART))
        if few or isinstance(extent, int) or thread.facts.of(self.offsets[d]).low < 0:
            return thread.compare("lt", self._moved(index, d, local), extent)
        if d not in self._left:
            self._left[d] = thread.emit(Binary("sub", *thread.same_width(extent, index)))
        return thread.compare("gt", self._left[d], local + self.shifts[d])


def _split(offset: Value) -> tuple[Value, int]:
    """An offset as what comes before a constant is added, and that constant."""
    maker = offset.defining
    if isinstance(maker, Binary) and maker.kind in ("add", "sub"):
        constant = maker.rhs.defining
        if isinstance(constant, Const) and abs(constant.value) <= NEAR:
            return maker.lhs, int(constant.value if maker.kind == "add" else -constant.value)
    return offset, 0


class ScalarAccess:
    """One element, the same for all threads."""

    def __init__(self, thread: Thread, op: Any) -> None:
        self.thread, self.op, self.vector = thread, op, 1
        self.indices: tuple[tuple[int, ...], ...] = ((),)
        view = thread.views[op.view]
        assert isinstance(view, GlobalView)
        self.view = view
        self.small = is_small(thread, op.view)
        self.offsets: tuple[Value, ...] = op.offsets if hasattr(op, "offsets") else op.indices

    def pointer(self, group: int) -> Value:
        pointer = self.view.pointer
        for d, offset in enumerate(self.offsets):
            pointer = advance(self.thread, pointer, self.thread.value(offset), self.view.strides[d], self.small)
        return pointer

    def predicate(self, group: int) -> Value | None:
        return element_predicate(self.thread, self.view, self.offsets, range(len(self.offsets)))
