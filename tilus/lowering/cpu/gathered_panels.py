"""Panels of a B that is gathered at separable indices (``separable.py``), as the patches of an image.

Where the element of row k and column n lies is the sum of an offset of the row and one of the column. Columns that
follow each other in memory, or that are two pieces which do (as positions at the end of one row of an image and the
beginning of the next), are read as vectors; others element by element. Bounds are looked at where a vector has columns
near them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bool_, i32, i64, u32
from tilus.ir.ops import Binary, Cast, Compare, Extract, MaskedLoad, PtrLoad, PtrStore, Select, Shuffle
from tilus.ir.ops.simd import GatherLoad
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.microkernel import over_panels, panel_widths
from tilus.lowering.cpu.separable import Part, Separable
from tilus.lowering.cpu.values import ZERO, Coord, Coords, Memory, Number
from tilus.records import record

OUTSIDE = 1 << 30
"""An index that is outside of any array, with whatever is added to it."""
ONE_PIECE, TWO_PIECES, SCATTERED = 0, 1, 2
"""How the columns of a vector lie in memory."""


@record(slots=True)
class Places:
    """Tables over rows (or columns): the offsets of what is there, and, for each index that is checked, its part."""

    offsets: Value
    indices: list[Value]


def suits_panels(self: BlockLowering, found: Separable, columns: int, dtype: DType) -> bool:
    """Whether panels are of whole vectors."""
    lanes, held = self.machine.vector_bytes // container_bytes(dtype), self.views[found.gather.view].dtype
    return lanes > 1 and container_bytes(held) == container_bytes(dtype) and \
        all(width % lanes == 0 for width in panel_widths(self, columns, dtype))


class GatheredPanels:
    """``chunk``: rows of a panel that there are tables for; ``columns``: those of the tile."""

    def __init__(self, lowering: BlockLowering, found: Separable, chunk: int, columns: int, dtype: DType) -> None:
        self.lowering, self.found, self.dtype = lowering, found, dtype
        self.memory: Memory = lowering.views[found.gather.view]
        self.columns, self.chunk = columns, chunk
        self.lanes = lowering.machine.vector_bytes // container_bytes(dtype)
        self.checked = [d for d, parts in enumerate(found.of(1)) if parts]
        self.of_rows = self.tables(chunk + self.lanes)
        self.of_columns = self.tables(columns)
        self.ways = lowering.allocate_raw(i64, columns // self.lanes)
        self.ranges = [[lowering.allocate_raw(i32, columns // self.lanes) for _ in range(2)] for _ in self.checked]

    def tables(self, count: int) -> Places:
        allocate = self.lowering.allocate_raw
        return Places(allocate(i64, count), [allocate(i32, count) for _ in self.checked])

    # Where rows and columns are.

    def find_columns(self) -> None:
        """The tables of columns, and how each vector of them lies."""
        parts = [a + b for a, b in zip(self.found.of(None), self.found.of(1), strict=True)]
        alone = [d for d, rows in enumerate(self.found.of(0)) if not rows and d not in self.checked]
        self.lowering.c.loop(0, self.columns, self.lanes, [], lambda n, _: self.place(
            self.of_columns, n, parts, (ZERO, Coord(n, 0, True)), alone))
        self.lowering.c.loop(0, self.columns // self.lanes, 1, [], lambda v, _: self.look_at(v))

    def find_rows(self, first: Value, count: int) -> None:
        """The tables of ``count`` rows of the tile as it is lowered now: those of a chunk from ``first`` on."""
        parts = self.found.of(0)
        alone = [d for d, rows in enumerate(parts) if rows and d not in self.checked]
        c = self.lowering.c
        c.loop(0, count, self.lanes, [], lambda k, _: self.place(
            self.of_rows, k, parts, (Coord(k, 0, True), ZERO), alone, first))

    def place(self, table: Places, at: Value, parts: Sequence[Sequence[Part]], coords: Coords, alone: Sequence[int],
              first: Number = 0) -> None:
        """Write a vector of a table; indices that nothing else is added to (``alone``) are checked here."""
        c, memory = self.lowering.c, self.memory
        saved, self.lowering.lanes = self.lowering.lanes, self.lanes
        zero = c.const(0, i64, self.lanes)
        sums = [self.sum_of(p, coords) or zero for p in parts]
        offset, beyond = zero, None
        if self.found.rows is not None and table is self.of_rows:
            there = evaluate(self.lowering, self.found.rows.value, coords)
            beyond = c.b.add(Binary("xor", there, c.const(True, bool_, self.lanes))).result
        for d, index in enumerate(sums):
            offset = self.binary("add", offset, self.binary("mul", index, self.splat(memory.strides[d])))
            if d in alone:
                low, high = (self.splat(n[d]) for n in (memory.lows, memory.highs))
                outside = self.either(c.b.add(Compare("lt", index, low)).result,
                                      c.b.add(Compare("ge", index, high)).result)
                beyond = outside if beyond is None else self.either(beyond, outside)
        to = c.add(first, at)
        c.b.add(PtrStore(c.offset(table.offsets, to), offset))
        for n, d in enumerate(self.checked):
            index = sums[d]
            if table is self.of_columns:
                index = self.binary("sub", index, self.splat(memory.lows[d]))
            if n == 0 and beyond is not None:
                index = c.b.add(Select(beyond, c.const(-OUTSIDE, i64, self.lanes), index)).result
            c.b.add(PtrStore(c.offset(table.indices[n], to), c.b.add(Cast(index, i32)).result))
        self.lowering.lanes = saved

    def sum_of(self, parts: Sequence[Part], coords: Coords) -> Value | None:
        c, total = self.lowering.c, None
        for part in parts:
            value = part.value
            x = self.lowering.scalars[value] if value.tile.is_scalar else evaluate(self.lowering, value, tuple(
                coords[d] if d == part.along else ZERO for d in range(2)))
            x = c.splat(c.cast(x, i64), self.lanes)
            if total is None and not part.negative:
                total = x
            else:
                total = self.binary("sub" if part.negative else "add",
                                    c.const(0, i64, self.lanes) if total is None else total, x)
        return total

    def look_at(self, v: Value) -> None:
        """How a vector of columns lies, and between which numbers its indices are."""
        c = self.lowering.c
        first = c.mul(v, self.lanes)
        ahead, behind = self.pieces(first)
        whole = self.all(ahead)
        two = self.all(self.either(ahead, behind))
        way = c.select(whole, ONE_PIECE, c.select(two, TWO_PIECES, SCATTERED))
        c.b.add(PtrStore(c.offset(self.ways, v), way))
        for n, (least, most) in enumerate(self.ranges):
            x = c.b.add(PtrLoad(c.offset(self.of_columns.indices[n], first), self.lanes)).result
            c.b.add(PtrStore(c.offset(least, v), self.fold("min", x)))
            c.b.add(PtrStore(c.offset(most, v), self.fold("max", x)))

    def pieces(self, first: Number) -> tuple[Value, Value]:
        """Which columns of a vector follow the first one in memory, and which are followed by the last one."""
        c, offsets = self.lowering.c, self.of_columns.offsets
        at = c.b.add(PtrLoad(c.offset(offsets, first), self.lanes)).result
        numbers = c.lane_numbers(i64, self.lanes)
        ahead, behind = (self.binary("add", numbers, c.splat(c.value(n), self.lanes)) for n in self.bases(first))
        return c.b.add(Compare("eq", at, ahead)).result, c.b.add(Compare("eq", at, behind)).result

    def bases(self, first: Number) -> tuple[Number, Number]:
        """The offset of the first column of a vector, and of the first lane of one that ends with its last."""
        c, offsets = self.lowering.c, self.of_columns.offsets
        start, last = (c.b.add(PtrLoad(c.offset(offsets, c.add(first, n)))).result for n in (0, self.lanes - 1))
        return start, c.sub(last, self.lanes - 1)

    # Packing.

    def fill(self, pointer: Value, depth: Number, wanted: Number) -> None:
        """The panels of the first ``depth`` rows, whose tables are there, and of the columns ``wanted``."""
        c = self.lowering.c
        bounds = [self.bounds_of_rows(table, depth) for table in self.of_rows.indices]

        def panel(place: Value, j: Number, width: int) -> None:
            for n in range(0, width, self.lanes):
                self.vector(c.offset(place, n), c.add(j, n), width, depth, bounds)

        over_panels(self.lowering, pointer, self.columns, self.dtype, self.chunk, 0, wanted, panel)

    def bounds_of_rows(self, table: Value, depth: Number) -> tuple[Value, Value]:
        """The least and the greatest of a table's numbers."""
        c = self.lowering.c
        first = [c.const(OUTSIDE, i32), c.const(-OUTSIDE, i32)]

        def row(k: Value, found: list[Value]) -> list[Value]:
            x = c.b.add(PtrLoad(c.offset(table, k))).result
            return [c.b.add(Binary(kind, y, x, types=(x.type,))).result
                    for kind, y in zip(("min", "max"), found, strict=True)]

        least, most = c.loop(0, depth, 1, first, row)
        return least, most

    def vector(self, place: Value, first: Number, width: int, depth: Number, bounds: Sequence[tuple[Value, Value]]
               ) -> None:
        """The rows of some columns that are a vector: by the way that suits them."""
        c = self.lowering.c
        v = c.arith("quo", first, self.lanes)
        way = c.b.add(PtrLoad(c.offset(self.ways, v))).result
        inside = [self.is_inside(n, v, *bounds[n]) for n in range(len(self.checked))]
        aligned = c.compare("eq", way, ONE_PIECE)
        last = len(self.checked) - 1
        for n in range(last):
            aligned = c.b.add(Binary("and", aligned, inside[n])).result

        def rows(load: Callable[[Value], Value]) -> None:
            def row(k: Value, _: list[Value]) -> None:
                x = load(k)
                c.b.add(PtrStore(c.offset(place, c.mul(k, width)), c.cast(x, self.dtype)))

            c.loop(0, depth, 1, [], row)

        def in_pieces() -> None:
            c.branch(c.compare("le", way, TWO_PIECES), lambda: rows(self.in_two(first)),
                     lambda: rows(self.scattered(first)))

        def in_one() -> None:
            c.branch(inside[last], lambda: rows(self.whole(first)), lambda: rows(self.in_one(first)))

        c.branch(aligned, in_one, in_pieces)

    def is_inside(self, n: int, v: Value, least: Value, most: Value) -> Value:
        """Whether the ``n``-th index that is checked is in bounds for all columns of a vector, in all rows."""
        c, d = self.lowering.c, self.checked[n]
        low, high = (c.cast(c.b.add(PtrLoad(c.offset(end, v))).result, i64) for end in self.ranges[n])
        extent = c.sub(self.memory.highs[d], self.memory.lows[d])
        found = c.both(c.compare("ge", c.add(low, c.cast(least, i64)), 0),
                       c.compare("lt", c.add(high, c.cast(most, i64)), extent))
        assert found is not None
        return found

    def whole(self, first: Number) -> Callable[[Value], Value]:
        """A row of columns that lie side by side in bounds."""
        c = self.lowering.c
        base = c.offset(self.memory.pointer, self.bases(first)[0])
        return lambda k: c.b.add(PtrLoad(c.offset(base, self.row_offset(k)), self.lanes)).result

    def in_one(self, first: Number) -> Callable[[Value], Value]:
        """A row of columns that lie side by side, of which the last index may be outside for some."""
        c = self.lowering.c
        base = c.offset(self.memory.pointer, self.bases(first)[0])
        inside = self.inside(first, len(self.checked) - 1)
        return lambda k: c.b.add(MaskedLoad(c.offset(base, self.row_offset(k)), inside(k))).result

    def in_two(self, first: Number) -> Callable[[Value], Value]:
        """A row of columns in one or two pieces, some of which may be outside."""
        c = self.lowering.c
        ahead, _ = self.pieces(first)
        behind = c.b.add(Binary("xor", ahead, c.const(True, bool_, self.lanes))).result
        starts = [c.offset(self.memory.pointer, n) for n in self.bases(first)]
        inside = self.inside(first)

        def load(k: Value) -> Value:
            there, offset, x = inside(k), self.row_offset(k), None
            for mask, start in zip((ahead, behind), starts, strict=True):
                here = c.b.add(Binary("and", there, mask)).result
                x = c.b.add(MaskedLoad(c.offset(start, offset), here, x)).result
            assert x is not None
            return x

        return load

    def scattered(self, first: Number) -> Callable[[Value], Value]:
        """A row of columns that lie anywhere; for those outside something that is there is read."""
        c, memory = self.lowering.c, self.memory
        at = c.b.add(PtrLoad(c.offset(self.of_columns.offsets, first), self.lanes)).result
        inside, zero = self.inside(first), c.const(0, i64, self.lanes)
        empty: Value | None = None
        for low, high in zip(memory.lows, memory.highs, strict=True):
            none = c.compare("ge", low, high)
            empty = none if empty is None else self.either(empty, none)
        assert empty is not None
        spare = c.as_pointer(self.of_rows.offsets, memory.dtype)
        pointer = c.b.add(Select(empty, spare, memory.pointer, types=(spare.type,))).result
        nothing = c.const(0.0 if memory.dtype.is_float else 0, memory.dtype, self.lanes)

        def load(k: Value) -> Value:
            there = inside(k)
            offset = self.binary("add", at, c.splat(self.row_offset(k), self.lanes))
            x = c.b.add(GatherLoad(pointer, c.b.add(Select(there, offset, zero)).result)).result
            return c.b.add(Select(there, x, nothing)).result

        return load

    def inside(self, first: Number, start: int = 0) -> Callable[[Value], Value]:
        """Which columns of a vector are in bounds in a row, by the indices that are checked from number ``start`` on:
        numbers that wrap are compared once for both ends."""
        c = self.lowering.c
        columns = [c.b.add(PtrLoad(c.offset(c.as_pointer(t, u32), first), self.lanes)).result
                   for t in self.of_columns.indices[start:]]
        extents = [self.narrow(c.max(c.sub(self.memory.highs[d], self.memory.lows[d]), 0))
                   for d in self.checked[start:]]

        def mask(k: Value) -> Value:
            found: Value | None = None
            for column, extent, table in zip(columns, extents, self.of_rows.indices[start:], strict=True):
                row = c.b.add(PtrLoad(c.offset(c.as_pointer(table, u32), k))).result
                here = c.b.add(Compare("lt", self.binary("add", column, c.splat(row, self.lanes)), extent)).result
                found = c.both(found, here)
            assert found is not None
            return found

        return mask

    def row_offset(self, k: Value) -> Value:
        c = self.lowering.c
        return c.b.add(PtrLoad(c.offset(self.of_rows.offsets, k))).result

    # Small things.

    def splat(self, x: Number) -> Value:
        return self.lowering.c.splat(self.lowering.c.value(x), self.lanes)

    def narrow(self, x: Number) -> Value:
        c = self.lowering.c
        return c.splat(c.cast(c.value(c.min(x, OUTSIDE)), u32), self.lanes)

    def binary(self, kind: str, x: Value, y: Value) -> Value:
        return self.lowering.c.b.add(Binary(kind, x, y, False, types=(x.type,))).result

    def either(self, x: Value, y: Value) -> Value:
        return self.lowering.c.b.add(Binary("or", x, y)).result

    def all(self, mask: Value) -> Value:
        c = self.lowering.c
        ones = c.b.add(Select(mask, c.const(1, i32, self.lanes), c.const(0, i32, self.lanes))).result
        return c.b.add(Compare("ne", self.fold("min", ones), c.const(0, i32))).result

    def fold(self, kind: str, x: Value) -> Value:
        """The combination of all lanes."""
        c, count = self.lowering.c, self.lanes
        while count > 1:
            count //= 2
            low, high = (c.b.add(Shuffle(x, tuple(range(n, n + count)))).result for n in (0, count))
            x = self.binary(kind, low, high)
        return c.b.add(Extract(x, 0)).result


__all__ = ["GatheredPanels", "suits_panels"]
