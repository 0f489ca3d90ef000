"""Reductions and scans. A reduction runs by vectors along its own axis, with a last step across the lanes, or along
another dimension, whichever has the contiguous memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Binary, Reduce, ReduceWith, Scan, ScanWith
from tilus.lowering.cpu.block import BlockLowering, container_bytes, handles
from tilus.lowering.cpu.combining import KINDS, Combiner, identity
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate, inline_block, is_straight, leaves, load_buffer
from tilus.lowering.cpu.limits import Uniform, limited
from tilus.lowering.cpu.nest import (
    ends_along,
    few_lanes,
    inside_of,
    nest,
    outside_of,
    store_buffer,
    vector_dim,
    vector_lanes,
    vector_pieces,
    versions,
    whole_vectors,
    windows_of,
)
from tilus.lowering.cpu.prefetching import RowsToCome, are_asked_for, ask_ahead
from tilus.lowering.cpu.prefix import runs_along, scan_rows
from tilus.lowering.cpu.row_reductions import load_rows
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Number, Window

STREAMS = 8
"""Rows of memory that are read side by side, a vector of each by turns: a processor sees that each of them goes on."""


def all_lanes(self: BlockLowering, mask: Value) -> Value:
    """Whether all lanes of a mask are on."""
    return Combiner(self, "all", mask.tile.dtype).across([mask])[0]


@handles(Reduce)
def _reduce(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Reduce)
    tile, axis = op.x.tile, op.axis
    shape = tile.shape
    combiner = Combiner(self, op.kind, tile.dtype)
    if tile.rank == 1:
        self.scalars[op.result] = versions(
            self, windows_of(self, [op.x]), lambda: [_along_axis(self, op.x, axis, [ZERO], combiner)])[0]
        return
    result = self.allocate(op.result.tile.dtype, op.result.tile.shape)
    vector, stops = vector_dim(self, shape, [op.x]), stops_of(self, op.result)

    def emit() -> list[Value]:
        if vector == axis and _side_by_side(self, op, combiner, stops, result):
            pass
        elif vector == axis:
            def row(coords: Coords) -> None:
                full = list(coords)
                full.insert(axis, ZERO)
                store_buffer(self, result, coords, _along_axis(self, op.x, axis, full, combiner))

            outer = op.result.tile.shape
            nest(self, outer, len(outer) - 1, 1, row, stops)
        else:
            _across_axis(self, op, vector, combiner, stops, result)
        return []

    versions(self, windows_of(self, [op.x]), emit)
    self.reps[op.result] = result


def _along_axis(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: Combiner) -> Value:
    """One element of the result: vectors along the axis, then across their lanes."""
    extent = x.tile.shape[axis]
    lanes = vector_lanes(self, [x], extent)
    few = few_lanes(self, lanes)
    if extent > few and extent % lanes == 0:
        real = limited(self, x, axis, combiner.neutral)
        if real is not None:
            return _up_to(self, x, axis, coords, combiner, lanes, real[0], real[1], neutral=True)
        uniform = Uniform(self)
        end = uniform.start(x, axis) if combiner.counts else None
        if end is not None:
            value = uniform.constant(x, axis)
            return _up_to(self, x, axis, coords, combiner, lanes, x, end, combiner.is_neutral(value), value)
    saved = self.lanes
    total: list[Value] | None = None
    for start, stop, width in vector_pieces(extent, lanes):
        self.lanes = width if width > 1 else 0
        part = _piece(self, x, axis, list(coords), combiner, start, stop, width)
        if width > 1:
            part = combiner.across(part)
        total = part if total is None else combiner.combine(total, part)
    self.lanes = saved
    return combiner.finish(total if total is not None else combiner.initial(0))


def _side_by_side(self: BlockLowering, op: Reduce, combiner: Combiner, stops: Sequence[Number], result: Buffer
                  ) -> bool:
    """Reduce short rows into ``result``, as many at once as a register has lanes, if that can be done."""
    x, axis, extent = op.x, op.axis, op.x.tile.shape[op.axis]
    lanes = vector_lanes(self, [x], extent)
    few, rows = few_lanes(self, lanes), op.result.tile.shape
    if not self.short or combiner.is_arg or few < 2 or rows[-1] % few or extent % few:
        return False
    real, rest = x, None
    end: Number = extent
    if extent > few:
        limit = limited(self, x, axis, combiner.neutral)
        start = Uniform(self).start(x, axis) if limit is None and combiner.counts else None
        if limit is not None:
            real, end = limit
        elif start is not None:
            end, rest = start, Uniform(self).constant(x, axis)
    c, parts = self.c, self.allocate(combiner.dtype, (*rows, few))
    end = c.max(0, c.min(end, extent))

    def row(coords: Coords) -> None:
        saved, self.lanes = self.lanes, few
        full = [*coords[:axis], ZERO, *coords[axis:]]
        (sums,) = _piece(self, real, axis, full, combiner, 0, end, few, combiner.initial(few))
        store_buffer(self, parts, (*coords, Coord(None, 0, True)), sums)
        self.lanes = saved

    nest(self, rows, len(rows) - 1, 1, row, stops)
    covered = c.mul(c.arith("floordiv", c.add(end, few - 1), few), few)
    beyond = [window for window, _ in ends_along(self, [x], axis) if isinstance(window, Window)]

    def total(coords: Coords) -> list[Value]:
        return [load_rows(self, parts, coords, lambda a, b: combiner.combine([a], [b])[0])]

    def with_rest(coords: Coords) -> list[Value]:
        full = [*coords[:axis], Coord(c.value(covered)), *coords[axis:]]
        with outside_of(self, beyond):
            one = [c.splat(evaluate(self, x, tuple(full)), few)]
        return combiner.combine(total(coords), combiner.times(one, c.value(c.sub(extent, covered))))

    def finish(make: Callable[[Coords], list[Value]]) -> Callable[[], None]:
        return lambda: nest(self, rows, len(rows) - 1, few, lambda coords: store_buffer(
            self, result, coords, make(coords)[0]))

    if isinstance(end, int) or combiner.is_neutral(rest) or real is not x:
        finish(total)()
    else:
        c.branch(c.compare("lt", covered, extent), finish(with_rest), finish(total))
    return True


def _up_to(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: Combiner, lanes: int,
           real: Value, end: Number, neutral: bool = False, value: int | float | bool | None = None) -> Value:
    """As :func:`_along_axis` for a tile whose elements are one from ``end`` on, the neutral one or any, and those of
    ``real`` before: that one is computed once, where it is not the constant ``value``."""
    c, saved, extent = self.c, self.lanes, x.tile.shape[axis]
    end = c.max(0, c.min(end, extent))
    few = few_lanes(self, lanes)
    ends = ends_along(self, [real], axis)
    whole = whole_vectors(self, end, lanes, ends) if few < lanes or ends else 0

    def many() -> list[Value]:
        self.lanes = lanes
        with inside_of(self, ends):
            parts = _piece(self, real, axis, list(coords), combiner, 0, whole, lanes)
        return combiner.across(parts, few)

    self.lanes = few
    first = combiner.initial(few if few > 1 else 0)
    parts = first if whole == 0 else c.branch(c.compare("gt", whole, 0), many, lambda: first)
    self.lanes = few
    parts = _piece(self, x, axis, list(coords), combiner, whole, end, few, parts)
    parts = combiner.across(parts)
    self.lanes = 0
    if not neutral:
        covered = c.mul(c.arith("floordiv", c.add(end, few - 1), few), few)

        def others() -> list[Value]:
            at = Coord(c.value(covered))
            one = _elements(self, x, axis, list(coords), combiner, at) if value is None else \
                combiner.element(c.const(value, combiner.dtype), at, 0)
            return combiner.combine(parts, combiner.times(one, c.value(c.sub(extent, covered))))

        parts = c.branch(c.compare("lt", covered, extent), others, lambda: parts)
    self.lanes = saved
    return combiner.finish(parts)


def _elements(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: Combiner, at: Coord
              ) -> list[Value]:
    coords[axis] = at
    ask_ahead(self, x, tuple(coords))
    return combiner.element(self.c.splat(evaluate(self, x, tuple(coords)), self.lanes), at, self.lanes)


def _piece(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: Combiner, start: Number,
           stop: Number, width: int, initial: list[Value] | None = None) -> list[Value]:
    vector = width > 1
    if isinstance(start, int) and isinstance(stop, int) and stop - start == width:
        only = _elements(self, x, axis, coords, combiner, Coord(None, start, vector))
        return combiner.combine(combiner.initial(self.lanes), only) if combiner.is_arg else only
    first = initial or combiner.initial(self.lanes)
    return self.c.loop(start, stop, width, first, lambda index, parts: combiner.combine(
        parts, _elements(self, x, axis, coords, combiner, Coord(index, 0, vector))))


def _across_axis(self: BlockLowering, op: Reduce, vector: int, combiner: Combiner, stops: Sequence[Number],
                 result: Buffer) -> None:
    """Vectors along another dimension; the axis is the innermost loop."""
    axis, shape = op.axis, op.result.tile.shape
    extent = op.x.tile.shape[axis]
    kept = vector - (vector > axis)
    lanes = vector_lanes(self, [op.x], shape[kept])

    def at(coords: Coords, along: Coord) -> list[Value]:
        full = (*coords[:axis], along, *coords[axis:])
        x = self.c.splat(evaluate(self, op.x, full), self.lanes_of(coords))
        return combiner.element(x, along, self.lanes_of(coords))

    def body(coords: Coords) -> None:
        parts = self.c.loop(0, extent, 1, combiner.initial(self.lanes_of(coords)), lambda index, parts:
                            combiner.combine(parts, at(coords, Coord(index))))
        store_buffer(self, result, coords, combiner.finish(parts))

    windows = _windows_of_rows(self, op.x, axis, vector)
    asks = are_asked_for(self.machine, op.x.tile.shape[vector] * container_bytes(op.x.tile.dtype))
    if combiner.is_arg or extent % STREAMS or extent <= STREAMS or not windows:
        nest(self, shape, kept, lanes, body, stops)
        return
    lanes = min(lanes, self.machine.vector_bytes // container_bytes(op.x.tile.dtype))

    def rows(first: Number, before: Callable[[Coords], Value]) -> None:
        to_come = [RowsToCome(self, window, dims, axis, first, STREAMS) for window, dims in windows if asks]

        def columns(coords: Coords) -> None:
            parts = [self.c.splat(before(coords), self.lanes_of(coords))]
            asks = [rows.at((*coords[:axis], ZERO, *coords[axis:])) for rows in to_come]
            for n in range(STREAMS):
                for ask in asks:
                    ask(n)
                parts = combiner.combine(parts, at(coords, Coord(first, n) if not isinstance(first, int) else
                                                   Coord(None, first + n)))
            store_buffer(self, result, coords, parts[0])

        nest(self, shape, kept, lanes, columns, stops)

    def further(first: Value, _: list[Value]) -> None:
        rows(first, lambda coords: load_buffer(self, result, coords))

    ends = ends_along(self, [op.x], axis)
    if not ends:
        rows(0, lambda coords: combiner.initial(self.lanes_of(coords))[0])
        self.c.loop(STREAMS, extent, STREAMS, [], further)
        return
    nest(self, shape, kept, lanes, lambda coords: store_buffer(
        self, result, coords, combiner.initial(self.lanes_of(coords))[0]), stops)
    whole = whole_vectors(self, extent, STREAMS, ends)
    with inside_of(self, ends):
        self.c.loop(0, whole, STREAMS, [], further)
    limit = limited(self, op.x, axis, combiner.neutral)
    self.c.loop(whole, extent if limit is None else self.c.min(limit[1], extent), STREAMS, [], further)


def _windows_of_rows(self: BlockLowering, x: Value, axis: int, vector: int
                     ) -> list[tuple[Window, tuple[int | None, ...]]]:
    """Of the loads of rows that run along ``vector``, one for each index along ``axis``: windows, and the dimensions of
    ``x`` that theirs are."""
    found: dict[Window, tuple[int | None, ...]] = {}
    for rep, dims in leaves(self, x, tuple(range(x.tile.rank))):
        window = rep.window if isinstance(rep, Lazy) else None
        if window is not None and {axis, vector} <= set(dims) and window.strides[dims.index(vector)] == 1 and \
                not window.memory.packed:
            found[window] = dims
    return list(found.items())


# In order along the axis: scans, and reductions by a user-given function.


def _sequential(self: BlockLowering, xs: Sequence[Value], axis: int, results: Sequence[Value], reverse: bool,
                combine: Callable[[Sequence[Value], Sequence[Value], int], list[Value]], vectors: bool,
                scan: bool) -> None:
    """Walk along ``axis`` from its first (or last) element, combining as it goes; a scan keeps every value."""
    shape = xs[0].tile.shape
    extent = shape[axis]
    others = shape[:axis] + shape[axis + 1 :]
    buffers = [self.allocate(r.tile.dtype, r.tile.shape) for r in results if r.tile.shape]
    scalars: list[Value] = []
    kept = next((d for d in reversed(range(len(others))) if others[d] > 1), max(0, len(others) - 1))
    lanes = min(vector_lanes(self, xs, others[kept]), 16) if others and vectors else 1

    def body(coords: Coords) -> None:
        width = self.lanes_of(coords)

        def at(coord: Coord) -> Coords:
            return (*coords[:axis], coord, *coords[axis:])

        def values(coord: Coord) -> list[Value]:
            return [self.c.splat(evaluate(self, x, at(coord)), width) for x in xs]

        def keep(coord: Coord, parts: Sequence[Value]) -> None:
            for buffer, part in zip(buffers, parts, strict=True):
                store_buffer(self, buffer, at(coord) if scan else coords, part)

        first = Coord(None, extent - 1 if reverse else 0)
        parts = values(first)
        if scan:
            keep(first, parts)

        def step(index: Value, carried: list[Value]) -> list[Value]:
            coord = Coord(index)
            new = values(coord)
            following = combine(carried, new, width)
            if scan:
                keep(coord, following)
            return following

        bounds = (extent - 2, -1, -1) if reverse else (1, extent, 1)
        parts = self.c.loop(*bounds, parts, step)
        if not scan and buffers:
            keep(first, parts)
        scalars[:] = parts

    def emit() -> list[Value]:
        if not others:
            body(())
        elif extent:
            nest(self, others, kept, lanes, body)
        return [] if buffers else list(scalars)

    if extent == 0:
        return _define(self, results, buffers, [])
    made = versions(self, windows_of(self, xs), emit)
    _define(self, results, buffers, made)


def _define(self: BlockLowering, results: Sequence[Value], buffers: Sequence[object], scalars: Sequence[Value]) -> None:
    remaining, rest = iter(buffers), iter(scalars)
    for result in results:
        if result.tile.shape:
            self.reps[result] = next(remaining)  # type: ignore[assignment]
        else:
            self.scalars[result] = next(rest)


@handles(Scan)
def _scan(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Scan)
    kind = KINDS[op.kind]
    dtype = op.x.tile.dtype
    if runs_along(self, op) and not (dtype.is_float and dtype.bits <= 16):  # those are rounded in each step
        self.reps[op.result] = scan_rows(self, op, identity(op.kind, dtype), lambda a, b: self.c.b.add(
            Binary(kind, a, b, False)).result)
        return
    _sequential(self, [op.x], op.axis, op.results, op.reverse,
                lambda a, b, _: [self.c.b.add(Binary(kind, a[0], b[0], False)).result], True, True)


@handles(ReduceWith)
def _reduce_with(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, ReduceWith)
    _sequential(self, op.xs, op.axis, op.results, False,
                lambda a, b, lanes: inline_block(self, op.combine, [*a, *b], lanes), is_straight(op.combine), False)


@handles(ScanWith)
def _scan_with(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, ScanWith)

    def combine(a: Sequence[Value], b: Sequence[Value], lanes: int) -> list[Value]:
        # From the far end the accumulated part is still the left operand: the scan of the reversed sequence.
        return inline_block(self, op.combine, [*a, *b], lanes)

    _sequential(self, op.xs, op.axis, op.results, op.reverse, combine, is_straight(op.combine), True)
