"""Reductions and scans. A reduction runs by vectors along its own axis, with a last step across the lanes, or along
another dimension, whichever has the contiguous memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, i64
from tilus.ir.ops import Binary, Compare, Reduce, ReduceWith, Scan, ScanWith, Select, Shuffle
from tilus.lowering.cpu.block import BlockLowering, handles
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate, inline_block, is_straight
from tilus.lowering.cpu.limits import Uniform, limited
from tilus.lowering.cpu.nest import (
    ends_along,
    few_lanes,
    inside_of,
    nest,
    store_buffer,
    vector_dim,
    vector_lanes,
    vector_pieces,
    versions,
    whole_vectors,
    windows_of,
)
from tilus.lowering.cpu.prefix import runs_along, scan_rows
from tilus.lowering.cpu.values import ZERO, Coord, Coords, Number

_KINDS = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "any": "or", "all": "and", "xor": "xor"}
_NO_INDEX = (1 << 63) - 1


def identity(kind: str, dtype: DType) -> int | float | bool:
    """The value that changes nothing; for minima and maxima of floats the NaN that yields to any number."""
    if kind in ("sum", "xor"):
        return 0
    if kind == "prod":
        return 1
    if kind in ("any", "all"):
        return kind == "all"
    if dtype.is_float:
        return math.nan if kind in ("min", "max") else math.inf if kind == "argmin" else -math.inf
    return dtype.max_value if kind in ("min", "argmin") else dtype.min_value


class _Combiner:
    """How partial results are combined: plain kinds carry one value, arg kinds an extremum and its index."""

    def __init__(self, self_: BlockLowering, kind: str, dtype: DType) -> None:
        self.lowering = self_
        self.kind = kind
        self.dtype = dtype
        self.is_arg = kind.startswith("arg")

    @property
    def neutral(self) -> int | float | bool:
        return identity(self.kind, self.dtype)

    def initial(self, lanes: int) -> list[Value]:
        c = self.lowering.c
        first = c.const(identity(self.kind, self.dtype), self.dtype, lanes)
        return [first, c.const(_NO_INDEX, i64, lanes)] if self.is_arg else [first]

    def element(self, x: Value, coord: Coord, lanes: int) -> list[Value]:
        """The partial result of elements ``x`` whose index along the axis is ``coord``."""
        if not self.is_arg:
            return [x]
        c = self.lowering.c
        index = c.splat(c.value(c.index(coord)), lanes)
        if coord.vector:
            index = c.b.add(Binary("add", index, c.lane_numbers(i64, lanes))).result
        return [x, index]

    def combine(self, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        builder = self.lowering.c.b
        if not self.is_arg:
            return [builder.add(Binary(_KINDS[self.kind], a[0], b[0], False)).result]

        def test(kind: str, x: Value, y: Value) -> Value:
            return builder.add(Compare(kind, x, y)).result

        def both(kind: str, x: Value, y: Value) -> Value:
            return builder.add(Binary(kind, x, y)).result

        better = test("gt" if self.kind == "argmax" else "lt", b[0], a[0])
        earlier = both("and", test("eq", b[0], a[0]), test("lt", b[1], a[1]))
        take = both("or", better, earlier)
        return [builder.add(Select(take, y, x)).result for x, y in zip(a, b, strict=True)]

    def finish(self, parts: Sequence[Value]) -> Value:
        """The result: where nothing but NaNs was seen, index 0."""
        if not self.is_arg:
            return parts[0]
        c = self.lowering.c
        lanes = parts[1].tile.shape[0] if parts[1].tile.shape else 0
        none = c.b.add(Compare("eq", parts[1], c.const(_NO_INDEX, i64, lanes))).result
        return c.b.add(Select(none, c.const(0, i64, lanes), parts[1])).result

    def is_neutral(self, value: int | float | bool | None) -> bool:
        """Whether elements of that value may be left out."""
        return value is not None and self.kind in ("sum", "prod", "xor", "any", "all") and value == self.neutral

    @property
    def counts(self) -> bool:
        """Whether :meth:`times` is to be had: products and the rounding of few bits are not made at once."""
        return self.kind != "prod" and not (self.kind == "sum" and self.dtype.is_float and self.dtype.bits <= 16)

    def times(self, one: list[Value], count: Value) -> list[Value]:
        """What ``count`` equal elements come to, the first of which is ``one``."""
        c = self.lowering.c
        if self.kind == "sum":
            return [c.b.add(Binary("mul", one[0], c.cast(count, self.dtype), False)).result]
        if self.kind == "xor":
            odd = c.compare("eq", c.arith("and", count, 1), 1)
            return [c.b.add(Select(odd, one[0], c.const(0, self.dtype))).result]
        return one

    def across(self, parts: list[Value], down_to: int = 1) -> list[Value]:
        """Combine the lanes of vectors (a power of two of them), by halves: into scalars, or so many lanes."""
        from tilus.ir.ops import Extract

        builder = self.lowering.c.b
        width = parts[0].tile.shape[0]
        while width > down_to:
            half = width // 2
            low = [builder.add(Shuffle(p, tuple(range(half)))).result for p in parts]
            high = [builder.add(Shuffle(p, tuple(range(half, width)))).result for p in parts]
            parts = self.combine(low, high)
            width = half
        return [builder.add(Extract(p, 0)).result for p in parts] if width == 1 else parts


def all_lanes(self: BlockLowering, mask: Value) -> Value:
    """Whether all lanes of a mask are on."""
    return _Combiner(self, "all", mask.tile.dtype).across([mask])[0]


@handles(Reduce)
def _reduce(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, Reduce)
    tile, axis = op.x.tile, op.axis
    shape = tile.shape
    combiner = _Combiner(self, op.kind, tile.dtype)
    if tile.rank == 1:
        self.scalars[op.result] = versions(
            self, windows_of(self, [op.x]), lambda: [_along_axis(self, op.x, axis, [ZERO], combiner)])[0]
        return
    result = self.allocate(op.result.tile.dtype, op.result.tile.shape)
    vector, stops = vector_dim(self, shape, [op.x]), stops_of(self, op.result)

    def emit() -> list[Value]:
        if vector == axis:
            def row(coords: Coords) -> None:
                full = list(coords)
                full.insert(axis, ZERO)
                store_buffer(self, result, coords, _along_axis(self, op.x, axis, full, combiner))

            outer = op.result.tile.shape
            nest(self, outer, len(outer) - 1, 1, row, stops)
        else:
            _across_axis(self, op, vector, combiner, stops, lambda c, v: store_buffer(self, result, c, v))
        return []

    versions(self, windows_of(self, [op.x]), emit)
    self.reps[op.result] = result


def _along_axis(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: _Combiner) -> Value:
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


def _up_to(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: _Combiner, lanes: int,
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


def _elements(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: _Combiner, at: Coord
              ) -> list[Value]:
    coords[axis] = at
    return combiner.element(self.c.splat(evaluate(self, x, tuple(coords)), self.lanes), at, self.lanes)


def _piece(self: BlockLowering, x: Value, axis: int, coords: list[Coord], combiner: _Combiner, start: Number,
           stop: Number, width: int, initial: list[Value] | None = None) -> list[Value]:
    vector = width > 1
    if isinstance(start, int) and isinstance(stop, int) and stop - start == width:
        only = _elements(self, x, axis, coords, combiner, Coord(None, start, vector))
        return combiner.combine(combiner.initial(self.lanes), only) if combiner.is_arg else only
    first = initial or combiner.initial(self.lanes)
    return self.c.loop(start, stop, width, first, lambda index, parts: combiner.combine(
        parts, _elements(self, x, axis, coords, combiner, Coord(index, 0, vector))))


def _across_axis(self: BlockLowering, op: Reduce, vector: int, combiner: _Combiner, stops: Sequence[Number],
                 store: Callable[[Coords, Value], None]) -> None:
    """Vectors along another dimension; the axis is the innermost loop."""
    axis, shape = op.axis, op.result.tile.shape
    extent = op.x.tile.shape[axis]
    kept = vector - (vector > axis)
    lanes = vector_lanes(self, [op.x], shape[kept])

    def body(coords: Coords) -> None:
        full = list(coords)
        full.insert(axis, ZERO)

        def step(index: Value, parts: list[Value]) -> list[Value]:
            full[axis] = Coord(index)
            x = self.c.splat(evaluate(self, op.x, tuple(full)), self.lanes_of(coords))
            return combiner.combine(parts, combiner.element(x, full[axis], self.lanes_of(coords)))

        parts = self.c.loop(0, extent, 1, combiner.initial(self.lanes_of(coords)), step)
        store(coords, combiner.finish(parts))

    nest(self, shape, kept, lanes, body, stops)


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
    kind = _KINDS[op.kind]
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
