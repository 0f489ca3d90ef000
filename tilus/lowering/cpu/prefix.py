"""Scans along the dimension that is contiguous in memory: prefixes within registers, and a carried total."""

from __future__ import annotations

import functools
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
Combine = Callable[[Value, Value], Value]


def runs_along(self: BlockLowering, op: Scan) -> bool:
    """Whether a scan is of rows, from their first element on."""
    shape = op.x.tile.shape
    strides = tuple(int(d == len(shape) - 1) for d in range(len(shape)))
    return not op.reverse and shape[op.axis] >= LEAST and vector_dim(self, shape, [op.x], [strides]) == op.axis


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
            x = _prefixes(self, x, width, neutral, combine)
            store_buffer(self, result, tuple(at), combine(before, x))
            last = c.b.add(Shuffle(x, (width - 1,) * width)).result if width > 1 else x
            return [combine(before, last)]

        for start, stop, width in vector_pieces(tile.shape[axis], lanes):
            self.lanes = width if width > 1 else 0
            (total,) = c.loop(start, stop, width, [c.splat(total, self.lanes)], functools.partial(step, width))
            total = _lane(self, total)
        self.lanes = saved

    def emit() -> list[Value]:
        stops = [1 if d == axis else n for d, n in enumerate(stops_of(self, op.result))]
        nest(self, outer, axis, 1, row, stops)
        return []

    versions(self, windows_of(self, [op.x]), emit)
    return result


def _prefixes(self: BlockLowering, x: Value, width: int, neutral: int | float | bool, combine: Combine) -> Value:
    """Of each lane, it and those before it: over twice as many in each step."""
    nothing = self.c.const(neutral, x.tile.dtype, width if width > 1 else 0)
    distance = 1
    while distance < width:
        both = self.c.b.add(Pack((nothing, x))).result
        earlier = self.c.b.add(Shuffle(both, tuple(width + i - distance if i >= distance else 0
                                                   for i in range(width)))).result
        x = combine(earlier, x)
        distance *= 2
    return x


def _lane(self: BlockLowering, x: Value) -> Value:
    return self.c.b.add(Extract(x, 0)).result if x.tile.shape else x


__all__ = ["runs_along", "scan_rows"]
