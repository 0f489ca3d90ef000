"""Scans along the dimension that is contiguous in memory: prefixes within registers, and a carried total."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Value
from tilus.ir.ops import Extract, Pack, Scan, Shuffle
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.nest import nest, store_buffer, vector_dim, vector_pieces, versions, windows_of
from tilus.lowering.cpu.values import Buffer, Coord, Coords

LEAST = 16
"""Elements of a row for which this pays."""
PART_BITS = 128
"""Lanes beside each other that instructions move within, on processors with wider registers."""
Combine = Callable[[Value, Value], Value]


def runs_along(self: BlockLowering, op: Scan) -> bool:
    """Whether a scan is of rows."""
    shape = op.x.tile.shape
    strides = tuple(int(d == len(shape) - 1) for d in range(len(shape)))
    return shape[op.axis] >= LEAST and vector_dim(self, shape, [op.x], [strides]) == op.axis


def scan_rows(self: BlockLowering, op: Scan, neutral: int | float | bool, combine: Combine) -> Buffer:
    """The scan in a buffer; ``combine`` takes what is earlier first."""
    c, tile, axis = self.c, op.x.tile, op.axis
    result = self.allocate(tile.dtype, tile.shape)
    lanes = max(1, self.machine.vector_bytes // (tile.dtype.bits // 8))
    outer = tuple(1 if d == axis else n for d, n in enumerate(tile.shape))

    def row(coords: Coords) -> None:
        at, saved = list(coords), self.lanes
        total = c.const(neutral, tile.dtype)

        def step(width: int, index: Value, carried: list[Value]) -> list[Value]:
            (before,) = carried
            at[axis] = Coord(index, 0, width > 1)
            x = c.splat(evaluate(self, op.x, tuple(at)), self.lanes)
            x = _prefixes(self, x, width, neutral, combine, op.reverse)
            store_buffer(self, result, tuple(at), combine(before, x))
            last = 0 if op.reverse else width - 1
            return [combine(before, c.b.add(Shuffle(x, (last,) * width)).result if width > 1 else x)]

        pieces = vector_pieces(tile.shape[axis], lanes)
        for start, stop, width in reversed(pieces) if op.reverse else pieces:
            def along(index: Value, carried: list[Value], ends: int = start + stop, width: int = width) -> list[Value]:
                return step(width, c.value(c.sub(ends - width, index)) if op.reverse else index, carried)

            self.lanes = width if width > 1 else 0
            (total,) = c.loop(start, stop, width, [c.splat(total, self.lanes)], along)
            total = _lane(self, total)
        self.lanes = saved

    def emit() -> list[Value]:
        stops = [1 if d == axis else n for d, n in enumerate(stops_of(self, op.result))]
        nest(self, outer, axis, 1, row, stops)
        return []

    versions(self, windows_of(self, [op.x]), emit)
    return result


def _prefixes(self: BlockLowering, x: Value, width: int, neutral: int | float | bool, combine: Combine,
              reverse: bool) -> Value:
    """Of each lane, it and those before it, or in ``reverse`` those after it: over twice as many in each step, first
    within parts of 128 bits, which processors shift fast, and then the last lane of each part to those behind it."""
    nothing = self.c.const(neutral, x.tile.dtype, width if width > 1 else 0)

    def earlier(places: list[int]) -> Value:
        """Lanes of ``x``; of a negative place nothing."""
        if reverse:
            places = [width - 1 - p if p >= 0 else p for p in reversed(places)]
        both = self.c.b.add(Pack((nothing, x))).result
        return self.c.b.add(Shuffle(both, tuple(width + p if p >= 0 else 0 for p in places))).result

    part = min(width, PART_BITS // x.tile.dtype.bits)
    distance = 1
    while distance < part:
        x = combine(earlier([i - distance if i % part >= distance else -1 for i in range(width)]), x)
        distance *= 2
    while distance < width:
        last = [i // distance * distance - 1 if i // distance % 2 else -1 for i in range(width)]
        x = combine(earlier(last), x)
        distance *= 2
    return x


def _lane(self: BlockLowering, x: Value) -> Value:
    return self.c.b.add(Extract(x, 0)).result if x.tile.shape else x


__all__ = ["runs_along", "scan_rows"]
