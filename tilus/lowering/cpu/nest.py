"""Loop nests over tiles: one dimension by vectors, the others by scalars; versions for tiles all in bounds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Compare, Gather, GatherWords, Load, PtrStore, Slice
from tilus.ir.ops.simd import ScatterStore
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.cost import HEAVY_COST
from tilus.lowering.cpu.evaluate import buffer_pointer, leaves
from tilus.lowering.cpu.limits import Uniform
from tilus.lowering.cpu.movements import source_dims
from tilus.lowering.cpu.runs import run_dim
from tilus.lowering.cpu.values import ZERO, Buffer, Coord, Coords, Lazy, Number, Window, coord_at

ONE_SIDED = ("lt", "le", "gt", "ge")
"""Comparisons that are one and the same before the index where they change, too."""
SHORT = 64
"""Elements of a row at most, where the lowering is told that rows are short."""
Body = Callable[[Coords], None]
End = tuple[Window | Compare, int]
"""A window and the dimension along which it ends, or a comparison that is one thing along a dimension up to some index
and the other one from there on."""


def vector_lanes(self: BlockLowering, values: Sequence[Value], extent: int) -> int:
    """How many elements of the vector dimension an iteration takes: a few registers' worth, and more of rows that
    indices name, since those are looked at once an iteration."""
    widest, cost, named = 1, 0, False
    for value in values:
        for rep, _ in leaves(self, value, (None,) * value.tile.rank):
            if isinstance(rep, Lazy):
                cost = max(cost, rep.cost)
                runs = isinstance(rep.op, Gather) and run_dim(self, rep.op) is not None
                named |= runs
                for v in (*rep.op.results, *(() if runs else rep.op.operands)):
                    if v not in self.views and not v.tile.is_scalar:
                        widest = max(widest, _compute_bytes(v))
            else:
                widest = max(widest, container_bytes(rep.dtype))
        widest = max(widest, _compute_bytes(value))
    registers = 2 if cost >= HEAVY_COST else 8 if named else 4
    lanes = max(1, registers * self.machine.vector_bytes // widest)
    while lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes


def _compute_bytes(value: Value) -> int:
    """Bytes of an element while it is computed with: 16-bit floats are widened, index tiles count little."""
    dtype = value.tile.dtype
    if dtype.is_float and dtype.bits <= 16:
        return 4
    return container_bytes(dtype)


def vector_dim(self: BlockLowering, shape: tuple[int, ...], values: Sequence[Value],
               targets: Sequence[tuple[int | Value, ...]] = ()) -> int:
    """The dimension to run by vectors: the one along which most memory is contiguous, the last among equals.
    ``targets`` are the strides of what is written. What is repeated along a dimension counts by its own elements."""
    candidates = [d for d, n in enumerate(shape) if n > 1]
    if len(candidates) <= 1:
        return candidates[0] if candidates else max(0, len(shape) - 1)
    score = dict.fromkeys(candidates, 0.0)

    def account(strides: Sequence[object], dims: Sequence[int | None], weight: float) -> None:
        weight /= math.prod(n for d, n in enumerate(shape) if d not in dims)
        for stride, dim in zip(strides, dims, strict=True):
            if dim in score and stride == 1:
                score[dim] += weight

    for strides in targets:
        account(strides, range(len(shape)), 1.5)
    for value in values:
        for rep, dims in leaves(self, value, tuple(range(len(shape)))):
            if isinstance(rep, Buffer):
                account(rep.strides, dims, 1.0)
            elif rep.window is not None and rep.window.shape:
                account(rep.window.strides, dims, 1.0)
            elif isinstance(rep.op, Gather):
                run = run_dim(self, rep.op)
                account([1 if d == run else 0 for d in range(len(dims))], dims, 1.5)
    wide = 2 * self.machine.vector_bytes // 4
    for d in candidates:
        score[d] += 0.01 * d + (0 if shape[d] >= wide else -1.25 if shape[d] < 4 else -0.5)
    return max(candidates, key=lambda d: score[d])


def nest(self: BlockLowering, shape: tuple[int, ...], vector: int, lanes: int, body: Body,
         stops: Sequence[Number] | None = None, ends: Sequence[End] = ()) -> None:
    """Run ``body`` over all elements of ``shape``, ``lanes`` at a time along ``vector``; up to ``stops``, if given: of
    what is beyond them only what is in one vector with what is not. ``ends``: windows that are left along ``vector``,
    for whole vectors before whose ends nothing is checked."""
    if any(n == 0 for n in shape):
        return
    coords: list[Coord] = [ZERO] * len(shape)
    outer = [d for d in range(len(shape)) if d != vector or lanes == 1]

    def descend(level: int) -> None:
        if level < len(outer):
            d = outer[level]
            stop = shape[d] if stops is None else stops[d]
            if stop == 1:
                descend(level + 1)
                return

            def step(index: Number) -> None:
                self.c.note_below(index, stop)
                coords[d] = coord_at(index, False)
                descend(level + 1)

            if shape[d] == 1:
                self.c.branch(self.c.compare("gt", stop, 0), lambda: step(0))
            else:
                self.c.loop(0, stop, 1, [], lambda index, _: step(index))
            coords[d] = ZERO
            return
        if not shape or shape[vector] == 1 or lanes == 1:
            body(tuple(coords))
            return
        stop = shape[vector] if stops is None else stops[vector]
        if isinstance(stop, int):
            for start, end, width in vector_pieces(stop, lanes):
                _along(self, coords, vector, start, end, width, body)
        else:
            _along_to(self, coords, vector, shape[vector], stop, lanes, body, ends)

    descend(0)


def vector_pieces(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """(start, stop, width): a main part of whole vectors, then a rest by halves."""
    main = extent // lanes * lanes
    pieces = [(0, main, lanes)] if main else []
    start = main
    while start < extent:
        width = 1 << ((extent - start).bit_length() - 1)
        pieces.append((start, start + width, width))
        start += width
    return pieces


def few_lanes(self: BlockLowering, lanes: int) -> int:
    """How many elements an iteration takes where a tile ends: a register's worth."""
    return min(lanes, max(self.machine.vector_bytes // 4, lanes // 4))


def _along_to(self: BlockLowering, coords: list[Coord], vector: int, extent: int, stop: Number, lanes: int, body: Body,
              ends: Sequence[End]) -> None:
    """As far as ``stop``: many lanes at a time, a register's from where a window ends on, and the tile's rest."""
    c = self.c
    main = extent // lanes * lanes
    if main:
        reached = c.min(stop, main)
        narrow = few_lanes(self, lanes)
        whole = whole_vectors(self, reached, lanes, ends) if (narrow < lanes or ends) and not self.short else 0
        if whole != 0:
            with inside_of(self, ends):
                _along(self, coords, vector, 0, whole, lanes, body)
        _along(self, coords, vector, whole, reached, narrow, body)
    for start, end, width in vector_pieces(extent - main, lanes):
        def rest(start: int = main + start, end: int = main + end, width: int = width) -> None:
            _along(self, coords, vector, start, end, width, body)

        c.branch(c.compare("lt", main + start, stop), rest)


def whole_vectors(self: BlockLowering, stop: Number, lanes: int, ends: Sequence[End]) -> Number:
    """Where the last group of ``lanes`` ends that is before ``stop`` and inside of windows."""
    c = self.c
    for end in ends:
        high = end_index(self, end)
        stop = stop if high is None else c.min(stop, high)
    return c.mul(c.arith("floordiv", c.max(stop, 0), lanes), lanes)


def end_index(self: BlockLowering, end: End) -> Number | None:
    """Where an end is along its dimension; None where there is none."""
    what, d = end
    if isinstance(what, Window):
        return what.highs[d]
    change = Uniform(self).change(what, d)
    return None if change is None else change[0]


def inside_stops(self: BlockLowering, window: Window, shape: tuple[int, ...]) -> list[Number] | None:
    """Where a tile ends in its array, along each dimension: what is beyond takes no time. None where it is inside."""
    if window.full is None or window in self.full_windows:
        return None
    return [n if high is None else self.c.max(self.c.min(high, n), 0)
            for n, high in zip(shape, window.highs, strict=True)]


@contextlib.contextmanager
def inside_of(self: BlockLowering, ends: Sequence[End]) -> Iterator[None]:
    """For code that stays before the ends of windows."""
    new = {end: _before(self, *end) for end in ends if end not in self.inside}
    self.inside |= new
    yield
    for end in new:
        del self.inside[end]


def _before(self: BlockLowering, what: Window | Compare, d: int) -> bool:
    """What a comparison is up to where it changes; elements of windows are there."""
    change = Uniform(self).change(what, d) if isinstance(what, Compare) else None
    return change is None or not change[1]


@contextlib.contextmanager
def outside_of(self: BlockLowering, windows: Sequence[Window]) -> Iterator[None]:
    """For code that reads nothing but what is beyond the ends of windows."""
    new = set(windows) - self.outside
    self.outside |= new
    yield
    self.outside -= new


def ends_along(self: BlockLowering, values: Sequence[Value], vector: int) -> list[End]:
    """The windows and comparisons below ``values`` that end along dimension ``vector``, each with its own dimension;
    not those that are read elsewhere than at the element that is computed, or along ``vector`` by one dimension here
    and another there."""
    found: dict[Window | Compare, set[tuple[int, ...]]] = {}
    moved: set[Window | Compare] = set()
    seen: set[tuple[Value, tuple[int | None, ...], bool]] = set()
    stack: list[tuple[Value, tuple[int | None, ...], bool]] = [(v, tuple(range(v.tile.rank)), False) for v in values]
    while stack:
        value, dims, sliced = stack.pop()
        if (value, dims, sliced) in seen:
            continue
        seen.add((value, dims, sliced))
        rep = self.reps.get(value)
        if not isinstance(rep, Lazy):
            continue
        what = rep.op if isinstance(rep.op, Compare) else rep.window
        if what is not None and sliced:
            moved.add(what)
        elif what is not None:
            along = tuple(d for d, dim in enumerate(dims) if dim == vector)
            found.setdefault(what, set()).add(along)
        sliced = sliced or isinstance(rep.op, Slice)
        stack += [(o, source_dims(rep.op, o, dims), sliced) for o in rep.op.operands if o in self.reps]
    return [(what, d) for what, ways in found.items() if len(ways) == 1
            and what not in moved and what not in self.full_windows
            for d in next(iter(ways)) if _may_end(self, what, d)]


def _may_end(self: BlockLowering, what: Window | Compare, d: int) -> bool:
    return end_index(self, (what, d)) is not None and (isinstance(what, Window) or what.kind in ONE_SIDED)


def _along(self: BlockLowering, coords: list[Coord], vector: int, start: Number, stop: Number, width: int,
           body: Body) -> None:
    saved, self.lanes = self.lanes, width if width > 1 else 0
    if isinstance(start, int) and isinstance(stop, int) and stop - start == width:
        coords[vector] = Coord(None, start, width > 1)
        body(tuple(coords))
    else:
        def step(index: Value, _: list[Value]) -> list[Value]:
            coords[vector] = Coord(index, 0, width > 1)
            body(tuple(coords))
            return []

        self.c.loop(start, stop, width, [], step)
    coords[vector] = ZERO
    self.lanes = saved


def windows_of(self: BlockLowering, values: Sequence[Value]) -> list[Window]:
    """The windows that the evaluation of ``values`` loads from and that may be partly out of bounds."""
    found: dict[Window, None] = {}
    for value in values:
        if value.tile.is_scalar:
            continue
        for rep, _ in leaves(self, value, (None,) * value.tile.rank):
            if isinstance(rep, Lazy) and rep.window is not None and rep.window.full is not None:
                found[rep.window] = None
    return [w for w in found if w not in self.full_windows]


def versions(self: BlockLowering, windows: Sequence[Window], emit: Callable[[], Sequence[Value]]) -> list[Value]:
    """Emit code twice: without bounds checks for when all windows are full, and with them."""
    checked = list(dict.fromkeys(w for w in windows if w.full is not None and w not in self.full_windows))
    if any(_is_cut(self, window) for window in checked):
        return list(emit())
    condition: Value | None = None
    for window in checked:
        condition = self.c.both(condition, window.full)
    if condition is None:
        return list(emit())

    def fast() -> Sequence[Value]:
        self.full_windows.update(checked)
        result = emit()
        self.full_windows.difference_update(checked)
        return result

    return self.c.branch(condition, fast, emit)


def _is_cut(self: BlockLowering, window: Window) -> bool:
    """Whether a window is always longer than the rows of its array."""
    return self.short and any(n > SHORT and high is not None
                              for n, high in zip(window.shape, window.highs, strict=False))


def store_buffer(self: BlockLowering, target: Buffer, coords: Coords, value: Value) -> None:
    c = self.c
    pointer = buffer_pointer(self, target, coords)
    lanes = self.lanes_of(coords)
    stride = next((s for x, s in zip(coords, target.strides, strict=True) if x.vector), 0)
    value = c.splat(value, lanes)
    if not lanes or stride == 1:
        c.b.add(PtrStore(pointer, value))
        return
    indices = c.b.add(Binary("mul", c.lane_numbers(i64, lanes), c.const(stride, i64, lanes))).result
    c.b.add(ScatterStore(pointer, indices, value))


def elementwise_over(self: BlockLowering, value: Value, home: object) -> bool:
    """Whether every read of ``home`` (a buffer, or the root of a view) below ``value`` is of the element that is
    being computed."""
    identity = tuple(range(value.tile.rank))
    stack: list[tuple[Value, tuple[int | None, ...]]] = [(value, identity)]
    seen = set()
    while stack:
        current, dims = stack.pop()
        if current.tile.is_scalar or (current, dims) in seen:
            continue
        seen.add((current, dims))
        rep = self.reps[current]
        if isinstance(rep, Buffer):
            if rep is home and dims != identity:
                return False
            continue
        if home not in rep.roots:
            continue
        if isinstance(rep.op, (Slice, Gather, GatherWords, Load)):
            return False
        stack.extend((o, source_dims(rep.op, o, dims)) for o in rep.op.operands if o not in self.views)
    return True
