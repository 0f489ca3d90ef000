"""Tiles whose memory runs along another dimension than their destination's: blocks, transposed in registers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Gather, Pack, Shuffle
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.evaluate import evaluate, leaves
from tilus.lowering.cpu.memory import store_window
from tilus.lowering.cpu.nest import (
    End,
    ends_along,
    inside_of,
    inside_stops,
    nest,
    store_buffer,
    versions,
    whole_vectors,
    windows_of,
)
from tilus.lowering.cpu.runs import run_dim
from tilus.lowering.cpu.values import LINE_BYTES, Buffer, Coord, Coords, Lazy, Number, Window, coord_at

PART_BYTES = 16
"""What the processor's shuffles stay within: rows are loaded in such parts, and exchanged there."""
Put = Callable[[Coords, Value], None]


def side_of(dtype: DType) -> int:
    """Elements of a part, which is how many of them a block takes along the memory."""
    return max(1, PART_BYTES // container_bytes(dtype))


def width_of(self: BlockLowering, dtype: DType, extent: int) -> int:
    """Rows that a block takes, if there are so many: as fill whole lines of memory once they are columns: those
    of many columns may share a set of the cache, which would not keep halves of them until the rest is written."""
    width = max(LINE_BYTES, self.machine.vector_bytes) // container_bytes(dtype)
    while width > extent:
        width //= 2
    return width


def transpose_registers(self: BlockLowering, rows: Sequence[Value]) -> list[Value]:
    """The columns of rows of a part each, as vectors with an element of every row: rows are put side by side so that
    those that become neighbours are in the same part of different vectors, and exchanged in each part by halves."""
    b, side = self.c.b, rows[0].tile.size
    parts = len(rows) // side
    vectors = [b.add(Pack(tuple(rows[n + side * g] for g in range(parts)))).result if parts > 1 else rows[n]
               for n in range(side)]
    run = 1
    while run < side:
        after: list[Value] = []
        for first in range(0, side, 2 * run):
            for n in range(first, first + run):
                both = b.add(Pack((vectors[n], vectors[n + run]))).result
                after += [b.add(Shuffle(both, _interleaved(side, parts, run, half))).result for half in (0, 1)]
        vectors, run = after, 2 * run
    return vectors


@functools.cache
def _interleaved(side: int, parts: int, run: int, half: int) -> tuple[int, ...]:
    """Runs of elements from one half of each part of two vectors by turns."""
    indices: list[int] = []
    for part in range(0, side * parts, side):
        for at in range(half * side // 2, (half + 1) * side // 2, run):
            for vector in (0, side * parts):
                indices += range(vector + part + at, vector + part + at + run)
    return tuple(indices)


def source_dim(self: BlockLowering, value: Value) -> int | None:
    """The dimension along which the memory below ``value`` is contiguous, if it is one only."""
    found: set[int | None] = set()
    for rep, dims in leaves(self, value, tuple(range(value.tile.rank))):
        strides: Sequence[Number] = ()
        if isinstance(rep, Buffer):
            strides = rep.strides
        elif isinstance(rep, Lazy) and rep.window is not None and rep.window.shape:
            if rep.window.memory.packed:
                return None
            strides = rep.window.strides
        elif isinstance(rep, Lazy) and isinstance(rep.op, Gather):
            run = run_dim(self, rep.op)
            found |= set() if run is None else {dims[run]} - {None}
        for stride, dim in zip(strides, dims, strict=False):
            if dim is not None and isinstance(stride, int) and stride == 1 and value.tile.shape[dim] > 1:
                found.add(dim)
    return found.pop() if len(found) == 1 else None


def copy_transposed(self: BlockLowering, value: Value, shape: tuple[int, ...], along: int, across: int,
                    put: Put, origin: Coords | None = None, stops: Sequence[Number] | None = None,
                    ends: Sequence[End] = (), rows: Sequence[End] = ()) -> None:
    """Evaluate by vectors along dimension ``along`` and ``put`` vectors along ``across``. Blocks that are not full
    go element by element. The elements are those from ``origin`` on, where given; ``put`` counts from 0. What is from
    ``stops`` on need not be there. ``ends``: windows that are left along ``across``, for blocks before whose ends
    nothing is checked along it. ``rows``: windows that are written, whose rows beyond ``stops`` are passed over by
    branches: some processors take long for masked stores to where no memory is."""
    c, dtype = self.c, value.tile.dtype

    def get(coords: Coords) -> Value:
        return evaluate(self, value, coords if origin is None else _moved(self, coords, origin))

    steps = {along: side_of(dtype), across: width_of(self, dtype, shape[across])}
    main = tuple(n // steps.get(d, 1) * steps.get(d, 1) for d, n in enumerate(shape))
    stops = shape if stops is None else stops
    reach = [c.min(n, stops[d]) for d, n in enumerate(main)]
    saved = self.lanes

    def block(outer: Coords, i: Number, j: Number) -> None:
        coords = list(outer)

        self.lanes, coords[along] = steps[along], coord_at(i, True)
        parts = []
        for r in range(steps[across]):
            coords[across] = coord_at(j, False, r)
            parts.append(c.splat(get(tuple(coords)), self.lanes))
        self.lanes, coords[across] = steps[across], coord_at(j, True)
        for r, column in enumerate(transpose_registers(self, parts)):
            coords[along] = coord_at(i, False, r)
            if r == 0 or not rows or isinstance(stops[along], int):
                put(tuple(coords), column)
                continue

            def one(at: Coords = tuple(coords), column: Value = column) -> None:
                with inside_of(self, rows):
                    put(at, column)

            c.branch(c.compare("lt", c.add(i, r), stops[along]), one)
        self.lanes = saved

    whole = whole_vectors(self, reach[across], steps[across], ends) if ends else 0

    def blocks(outer: Coords) -> None:
        def inner(j: Value, _: list[Value]) -> None:
            c.loop(0, reach[along], steps[along], [], lambda i, _: block(outer, i, j))

        if ends:
            with inside_of(self, ends):
                c.loop(0, whole, steps[across], [], inner)
        c.loop(whole, reach[across], steps[across], [], inner)

    others = tuple(1 if d in (along, across) else n for d, n in enumerate(shape))
    _outer_nest(self, others, blocks, reach)
    _rest(self, get, shape, main, along, across, put, stops)


def _moved(self: BlockLowering, coords: Coords, origin: Coords) -> Coords:
    moved = []
    for x, o in zip(coords, origin, strict=True):
        base = o.base if x.base is None else x.base if o.base is None else self.c.arith("add", o.base, x.base)
        moved.append(Coord(base, x.const + o.const, x.vector, x.step))
    return tuple(moved)


def _outer_nest(self: BlockLowering, shape: tuple[int, ...], body: Callable[[Coords], None],
                stops: Sequence[Number]) -> None:
    nest(self, shape, len(shape) - 1, 1, body, stops)


def _rest(self: BlockLowering, get: Callable[[Coords], Value], shape: tuple[int, ...], main: tuple[int, ...],
          along: int, across: int, put: Put, stops: Sequence[Number]) -> None:
    """The two strips beside the full blocks."""
    c = self.c
    others = tuple(1 if d in (along, across) else n for d, n in enumerate(shape))
    for rows, columns in (((main[along], shape[along]), (0, shape[across])),
                          ((0, main[along]), (main[across], shape[across]))):
        if rows[0] == rows[1] or columns[0] == columns[1]:
            continue

        def strip(outer: Coords, rows: tuple[int, int] = rows, columns: tuple[int, int] = columns) -> None:
            at = list(outer)

            def row(i: Value, _: list[Value]) -> None:
                def element(j: Value, _: list[Value]) -> None:
                    at[along], at[across] = Coord(i), Coord(j)
                    put(tuple(at), get(tuple(at)))

                c.loop(columns[0], c.min(columns[1], stops[across]), 1, [], element)

            c.loop(rows[0], c.min(rows[1], stops[along]), 1, [], row)

        _outer_nest(self, others, strip, stops)


def can_transpose(dtype: DType, along: int, across: int) -> bool:
    """Whether a tile with these extents has a block."""
    return min(along, across) >= side_of(dtype) > 1


def try_transposed(self: BlockLowering, value: Value, target: Buffer, stops: Sequence[Number]) -> bool:
    """Compute a tile up to ``stops`` into a buffer by transposed blocks, where its memory runs along another
    dimension."""
    along = source_dim(self, value)
    across = next((d for d, s in enumerate(target.strides) if s == 1 and target.shape[d] > 1), None)
    if along is None or across is None or along == across or target.dtype.is_bool or \
            not can_transpose(target.dtype, target.shape[along], target.shape[across]):
        return False

    def emit() -> list[Value]:
        copy_transposed(self, value, target.shape, along, across,
                        lambda coords, x: store_buffer(self, target, coords, x), stops=stops)
        return []

    versions(self, windows_of(self, [value]), emit)
    return True


def try_transposed_store(self: BlockLowering, value: Value, window: Window) -> bool:
    """Store a tile by transposed blocks, where its memory runs along another dimension than the view's."""
    if window.memory.packed or window.memory.dtype.is_bool:
        return False
    shape = value.tile.shape
    along = source_dim(self, value)
    across = next((d for d, s in enumerate(window.strides) if isinstance(s, int) and s == 1 and shape[d] > 1), None)
    if along is None or across is None or along == across or not can_transpose(
            value.tile.dtype, shape[along], shape[across]):
        return False

    def emit() -> list[Value]:
        ends = ends_along(self, [value], across)
        stops = inside_stops(self, window, shape)
        if stops is not None:
            ends.append((window, across))
        copy_transposed(self, value, shape, along, across,
                        lambda coords, x: store_window(self, window, coords, x, None), stops=stops, ends=ends,
                        rows=[(window, along)])
        return []

    versions(self, [window, *windows_of(self, [value])], emit)
    return True


