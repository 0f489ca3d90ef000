"""Lowering of scans: within each thread, then over the lanes of a warp by shuffles, then over warps by shared memory.

Layout inference gave the operands a layout in which each thread holds a run along the axis and threads follow along it
(:mod:`tilus.lowering.scan_layouts`). Elements in the padding beyond the tile come last along the axis; where reversed
they come first, as identities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, bool_, u8
from tilus.ir.ops import Binary, Cast, Compare, For, PtrLoad, PtrStore, Scan, ScanWith, Select, Yield
from tilus.ir.ops.simt import WarpShuffle
from tilus.lowering.simt.across_warps import Combine
from tilus.lowering.simt.barriers import barrier, reuse_barrier
from tilus.lowering.simt.collective import (
    combine_kind,
    combine_region,
    exists,
    identity,
    pad,
    where_it_exists,
)
from tilus.lowering.simt.context import Thread, layout_of
from tilus.lowering.simt.convert import storage_type
from tilus.lowering.simt.scratch import scan_digits, scan_slots


def lower_scan(thread: Thread, op: Scan) -> None:
    dtype = op.x.tile.dtype
    neutral = -0.0 if op.kind == "sum" and dtype.is_float else identity(op.kind, dtype)  # 0.0 would turn −0.0 into 0.0
    value = thread.widen(thread.value(op.x), dtype)
    value = pad(thread, value, layout_of(op.x), op.x.tile.shape, op.axis, neutral)
    _Scan(thread, op, op.reverse, combine_kind(op.kind), neutral).lower([value])


def lower_scan_with(thread: Thread, op: ScanWith) -> None:
    values = [thread.widen(thread.value(x), x.tile.dtype) for x in op.xs]
    layout, combine = layout_of(op.xs[0]), combine_region(op.combine)
    if op.reverse and layout.shape[op.axis] != op.xs[0].tile.shape[op.axis]:
        values.append(exists(thread, layout, op.axis, op.xs[0].tile.shape[op.axis]))
        combine = where_it_exists(combine, left=True)
    _Scan(thread, op, op.reverse, combine, None).lower(values)


class _Scan:
    """One scan. ``neutral`` is what its combination passes over, if that is known.

    What is combined at once are vectors with an element for each row of a thread, one for each operand.
    """

    def __init__(self, thread: Thread, op: Scan | ScanWith, reverse: bool, combine: Combine,
                 neutral: float | None) -> None:
        self.thread, self.op, self.reverse, self.combine, self.neutral = thread, op, reverse, combine, neutral
        self.layout = layout_of(op.results[0])
        self.lanes, self.digits = scan_digits(self.layout, op.axis)

    def lower(self, values: list[Value]) -> None:
        thread = self.thread
        columns = self._locals(values)
        before = self._before(columns[-1])
        if before is not None:
            found, prefix = before
            if self.neutral is not None:
                prefix = self._select(found, prefix, None)
                columns = [self.combine(thread, prefix, here) for here in columns]
            else:
                columns = [self._select(found, self.combine(thread, prefix, here), here) for here in columns]
        rows = self._rows()
        for n, result in enumerate(self.op.results):
            placed: list[Value] = [columns[0][n]] * self.layout.num_locals
            for r, members in enumerate(rows):
                for column, member in zip(columns, members, strict=True):
                    placed[member] = thread.extract(column[n], r)
            thread.set(result, thread.widen(thread.pack(placed), thread.element_type(result)))

    def _locals(self, values: list[Value]) -> list[list[Value]]:
        """By place along the axis, what the elements of a thread up to it come to."""
        columns: list[list[Value]] = []
        for members in zip(*self._rows(), strict=True):
            here = [self.thread.take(v, members) for v in values]
            columns.append(self.combine(self.thread, columns[-1], here) if columns else here)
        return columns

    def _rows(self) -> list[list[int]]:
        """Locals that differ along the axis only, in the order of the scan."""
        axis = self.op.axis
        rows: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for number, index in enumerate(self.layout.local_indices):
            rows.setdefault(tuple(index[:axis] + index[axis + 1 :]), []).append((index[axis], number))
        return [[number for _, number in sorted(members, reverse=self.reverse)] for members in rows.values()]

    def _before(self, totals: list[Value]) -> tuple[Value, list[Value]] | None:
        """Whether threads come before this one along the axis, and what their totals come to; None where there are no
        others."""
        thread = self.thread
        if self.lanes is None:
            return self._before_in_memory(totals, None) if self.digits else None
        position = self._position([self.lanes])
        within = self._over_lanes(totals, position)
        others, size = self._shifted(within, 1), self.lanes[1]
        later = thread.compare("gt", position, 0)
        if not self.digits:
            return later, others
        last = thread.compare("eq", position, size - 1)
        earlier, prefix = self._before_in_memory(within, last)
        both = self._select(earlier, self.combine(thread, prefix, others), others)
        return thread.emit(Binary("or", later, earlier)), self._select(later, both, prefix)

    def _over_lanes(self, totals: list[Value], position: Value) -> list[Value]:
        """What the totals of the lanes up to each one come to."""
        assert self.lanes is not None
        step = 1
        while step < self.lanes[1]:
            others = self._shifted(totals, step)
            found = self.thread.compare("ge", position, step)
            if self.neutral is not None:
                totals = self.combine(self.thread, self._select(found, others, None), totals)
            else:
                totals = self._select(found, self.combine(self.thread, others, totals), totals)
            step *= 2
        return totals

    def _shifted(self, values: list[Value], step: int) -> list[Value]:
        """The values of the lanes that come ``step`` before along the axis; anything where there are none."""
        assert self.lanes is not None
        distance = self.thread.const(self.lanes[0] * step)
        return [self.thread.emit(WarpShuffle(v, distance, "down" if self.reverse else "up")) for v in values]

    def _select(self, condition: Value, yes: list[Value], no: list[Value] | None) -> list[Value]:
        """One of two lists of vectors by a scalar; the second one may be what combinations pass over."""
        thread, out = self.thread, []
        for n, value in enumerate(yes):
            count = value.tile.size
            if no is None:
                assert self.neutral is not None
                other = thread.const(self.neutral, value.tile.dtype, count)
            else:
                other = no[n]
            out.append(thread.emit(Select(thread.splat(condition, count), value, other)))
        return out

    def _position(self, digits: Sequence[tuple[int, int]]) -> Value:
        """The thread's number, in the order of the scan, among those that differ in these digits."""
        thread, count = self.thread, 1
        position: Value | None = None
        for divisor, size in digits:
            digit = thread.digit(divisor, size, self.layout.num_threads)
            shifted = None if position is None else thread.binary("mul", position, size)
            position = digit if shifted is None else thread.emit(Binary("add", shifted, digit))
            count *= size
        assert position is not None
        return thread.emit(Binary("sub", thread.const(count - 1), position)) if self.reverse else position

    def _before_in_memory(self, totals: list[Value], writes: Value | None) -> tuple[Value, list[Value]]:
        """As :meth:`_before`, of the threads that differ in digits which shuffles do not do; ``writes`` says which
        lanes have their warp's totals."""
        thread, op = self.thread, self.op
        position, lane = self._position(self.digits), self._row_number()
        count, group = scan_slots(self.layout, op.axis)
        rows = totals[0].tile.size
        base, pointers = thread.shared_offsets[op], []
        for value in totals:
            storage = storage_type(value.tile.dtype)
            pointers.append(thread.shared_pointer(base, storage))
            base += -(-count * group * rows * max(4, storage.itemsize) // 16) * 16
        reuse_barrier(thread, op)
        slot = thread.binary("mul", position, group * rows)
        slot = slot if lane is None else thread.emit(Binary("add", slot, lane))
        for value, pointer in zip(totals, pointers, strict=True):
            stored = thread.emit(Cast(value, u8)) if value.tile.dtype is bool_ else value
            for row in range(rows):
                thread.emit(PtrStore(thread.move(pointer, slot, row * group), thread.extract(stored, row), 0, writes))
        barrier(thread)

        def load(start: Value | None) -> list[Value]:
            both = zip(totals, pointers, strict=True)
            return [self._load(p, lane, start, group, rows, v.tile.dtype) for v, p in both]

        return thread.compare("gt", position, 0), self._combined(load, position, group * rows)

    def _load(self, pointer: Value, lane: Value | None, start: Value | None, group: int, rows: int,
              dtype: DType) -> Value:
        """The totals of all rows of one place."""
        thread = self.thread
        at = thread.move(thread.move(pointer, lane), start)
        loaded = thread.pack([thread.emit(PtrLoad(thread.move(at, None, row * group))) for row in range(rows)])
        return thread.emit(Compare("ne", loaded, thread.const(0, u8, rows))) if dtype is bool_ else loaded

    def _combined(self, load: Callable[[Value | None], list[Value]], position: Value, stride: int) -> list[Value]:
        """The totals of the places before this one, combined in order by a loop over them."""
        thread = self.thread
        first = load(None)
        body = Block([position.type, *(v.type for v in first)])
        outer, thread.block = thread.block, body
        here = load(thread.binary("mul", body.args[0], stride))
        body.ops.append(Yield(tuple(self.combine(thread, body.args[1:], here))))
        thread.block = outer
        loop = For(thread.const(1), position, thread.const(1), tuple(first), body)
        thread.emit(loop)
        return list(loop.results)

    def _row_number(self) -> Value | None:
        """A number for the thread among those at the same place along the axis."""
        total: Value | None = None
        for divisor, size, dim, _ in self.layout.thread_digits:
            if dim == self.op.axis:
                continue
            digit = self.thread.digit(divisor, size, self.layout.num_threads)
            shifted = None if total is None else self.thread.binary("mul", total, size)
            total = digit if shifted is None else self.thread.emit(Binary("add", shifted, digit))
        return total


LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {Scan: lower_scan, ScanWith: lower_scan_with}
