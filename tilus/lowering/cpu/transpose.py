"""Tiles whose memory runs along another dimension than their destination's: blocks are transposed in registers, 8×8 or
16×16 elements."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Pack, Shuffle
from tilus.lowering.cpu.block import BlockLowering
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
from tilus.lowering.cpu.values import Buffer, Coord, Coords, Lazy, Number, Window

SIDE = 8
Put = Callable[[Coords, Value], None]


def side_of(self: BlockLowering, dtype: DType, shape: tuple[int, ...], along: int, across: int) -> int:
    """The side of a block: 16 where registers hold as many elements."""
    wide = self.machine.vector_bytes == 64 and dtype.bits == 32
    return 16 if wide and min(shape[along], shape[across]) >= 16 else SIDE


def transpose_registers(self: BlockLowering, rows: Sequence[Value]) -> list[Value]:
    """As many vectors as they have lanes, 8 or 16, transposed: two rounds transpose within parts of four lanes, the
    others move those."""
    b, side = self.c.b, len(rows)
    quarters = side // 4

    def pair(x: Value, y: Value, indices: Sequence[int]) -> Value:
        """``indices`` of lanes of both, those of the second from 16 on."""
        return b.add(Shuffle(b.add(Pack((x, y))).result, tuple(i % 16 + i // 16 * side for i in indices))).result

    def within(x: Value, y: Value, indices: Sequence[int]) -> Value:
        return pair(x, y, [i + 4 * q for q in range(quarters) for i in indices])

    def whole(x: Value, y: Value, indices: Sequence[int]) -> Value:
        return pair(x, y, [4 * (i % 4) + 16 * (i // 4) + k for i in indices for k in range(4)])

    t = [within(rows[i], rows[i + 1], m) for i in range(0, side, 2) for m in ((0, 16, 1, 17), (2, 18, 3, 19))]
    u = [within(t[i + j], t[i + j + 2], m) for i in range(0, side, 4) for j in (0, 1)
         for m in ((0, 1, 16, 17), (2, 3, 18, 19))]
    if side == 8:
        return [whole(u[i], u[i + 4], m) for m in ((0, 4), (1, 5)) for i in range(4)]
    even, odd = (0, 2, 4, 6), (1, 3, 5, 7)
    low, high = ([[whole(u[h + i], u[h + i + 4], m) for i in range(4)] for m in (even, odd)] for h in (0, 8))
    return [whole(low[q % 2][i], high[q % 2][i], even if q < 2 else odd) for q in range(4) for i in range(4)]


def source_dim(self: BlockLowering, value: Value) -> int | None:
    """The dimension along which the memory below ``value`` is contiguous, if it is one only."""
    found: set[int] = set()
    for rep, dims in leaves(self, value, tuple(range(value.tile.rank))):
        strides: Sequence[Number] = ()
        if isinstance(rep, Buffer):
            strides = rep.strides
        elif isinstance(rep, Lazy) and rep.window is not None and rep.window.shape:
            if rep.window.memory.packed:
                return None
            strides = rep.window.strides
        for stride, dim in zip(strides, dims, strict=False):
            if dim is not None and isinstance(stride, int) and stride == 1 and value.tile.shape[dim] > 1:
                found.add(dim)
    return found.pop() if len(found) == 1 else None


def copy_transposed(self: BlockLowering, value: Value, shape: tuple[int, ...], along: int, across: int,
                    put: Put, origin: Coords | None = None, stops: Sequence[Number] | None = None,
                    ends: Sequence[End] = (), side: int = SIDE) -> None:
    """Evaluate by vectors along dimension ``along`` and ``put`` vectors along ``across``. Blocks that are not full
    go element by element. The elements are those from ``origin`` on, where given; ``put`` counts from 0. What is from
    ``stops`` on need not be there. ``ends``: windows that are left along ``across``, for blocks before whose ends
    nothing is checked along it."""
    c = self.c

    def get(coords: Coords) -> Value:
        return evaluate(self, value, coords if origin is None else _moved(self, coords, origin))

    main = tuple(n // side * side if d in (along, across) else n for d, n in enumerate(shape))
    reach: list[Number] = [n if stops is None else c.min(n, stops[d]) for d, n in enumerate(main)]
    saved = self.lanes

    def block(outer: Coords, i: Number, j: Number) -> None:
        self.lanes = side
        coords = list(outer)

        def at(x: Number, vector: bool, r: int = 0) -> Coord:
            return Coord(None, x + r, vector) if isinstance(x, int) else Coord(x, r, vector)

        coords[along] = at(i, True)
        rows = []
        for r in range(side):
            coords[across] = at(j, False, r)
            rows.append(c.splat(get(tuple(coords)), side))
        coords[across] = at(j, True)

        def put_column(r: int, column: Value) -> None:
            coords[along] = at(i, False, r)
            put(tuple(coords), column)

        for r, column in enumerate(transpose_registers(self, rows)):
            if isinstance(reach[along], int) or r == 0:
                put_column(r, column)
            else:
                c.branch(c.compare("lt", c.add(i, r), reach[along]), functools.partial(put_column, r, column))
        self.lanes = saved

    whole = whole_vectors(self, reach[across], side, ends) if ends else 0

    def blocks(outer: Coords) -> None:
        def inner(i: Value, _: list[Value]) -> list[Value]:
            if ends:
                with inside_of(self, ends):
                    c.loop(0, whole, side, [], lambda j, _: block(outer, i, j))
            c.loop(whole, reach[across], side, [], lambda j, _: block(outer, i, j))
            return []

        c.loop(0, reach[along], side, [], inner)

    others = tuple(1 if d in (along, across) else n for d, n in enumerate(shape))
    _outer_nest(self, others, blocks, reach)
    _rest(self, get, shape, main, along, across, put)


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
          along: int, across: int, put: Put) -> None:
    """The two strips beside the full blocks."""
    strips = [(main[along], 0, shape[along] - main[along], shape[across]),
              (0, main[across], main[along], shape[across] - main[across])]
    for first, second, rows, columns in strips:
        if not rows or not columns:
            continue
        extents = tuple(rows if d == along else columns if d == across else n for d, n in enumerate(shape))
        starts = tuple(first if d == along else second if d == across else 0 for d in range(len(shape)))

        def body(coords: Coords, starts: tuple[int, ...] = starts) -> None:
            at = tuple(x.shifted(s) for x, s in zip(coords, starts, strict=True))
            put(at, get(at))

        nest(self, extents, across, 1, body)


def _worthwhile(shape: tuple[int, ...], along: int, across: int) -> bool:
    return shape[along] >= SIDE and shape[across] >= SIDE


def try_transposed(self: BlockLowering, value: Value, target: Buffer, stops: Sequence[Number]) -> bool:
    """Compute a tile up to ``stops`` into a buffer by transposed blocks, where its memory runs along another
    dimension."""
    along = source_dim(self, value)
    across = next((d for d, s in enumerate(target.strides) if s == 1 and target.shape[d] > 1), None)
    if along is None or across is None or along == across or not _worthwhile(target.shape, along, across) \
            or target.dtype.is_bool:
        return False

    def emit() -> list[Value]:
        copy_transposed(self, value, target.shape, along, across,
                        lambda coords, x: store_buffer(self, target, coords, x), stops=stops,
                        side=side_of(self, value.tile.dtype, target.shape, along, across))
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
    if along is None or across is None or along == across or not _worthwhile(shape, along, across):
        return False

    def emit() -> list[Value]:
        ends = ends_along(self, [value], across)
        stops = inside_stops(self, window, shape)
        if stops is not None:
            ends.append((window, across))
        copy_transposed(self, value, shape, along, across,
                        lambda coords, x: store_window(self, window, coords, x, None), stops=stops, ends=ends,
                        side=side_of(self, value.tile.dtype, shape, along, across))
        return []

    versions(self, [window, *windows_of(self, [value])], emit)
    return True


