"""Computing a tile into a buffer."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.lowering.cpu.block import WRITERS, BlockLowering
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.limits import Uniform
from tilus.lowering.cpu.nest import (
    ends_along,
    few_lanes,
    nest,
    store_buffer,
    vector_dim,
    vector_lanes,
    versions,
    windows_of,
)
from tilus.lowering.cpu.prefetching import ask_ahead
from tilus.lowering.cpu.transpose import try_transposed
from tilus.lowering.cpu.values import Buffer, Coord, Coords, Number


def write_buffer(self: BlockLowering, value: Value, target: Buffer) -> dict[int, Number]:
    """Compute a tile into a buffer; gives from where on its elements are one and the same along a dimension."""
    stops = stops_of(self, value)
    if try_transposed(self, value, target, stops):
        return {}
    shape = target.shape
    vector = vector_dim(self, shape, [value], [target.strides])
    lanes = vector_lanes(self, [value], shape[vector])
    few = few_lanes(self, lanes)
    end = Uniform(self).start(value, vector) if shape and shape[vector] % lanes == 0 and shape[vector] > few else None

    def body(coords: Coords) -> None:
        ask_ahead(self, value, coords)
        store_buffer(self, target, coords, evaluate(self, value, coords))

    def emit() -> list[Value]:
        if end is None:
            nest(self, shape, vector, lanes, body, stops)
            return []
        c = self.c
        real = c.max(c.min(end, stops[vector]), 0)
        first = c.mul(c.arith("floordiv", c.add(real, few - 1), few), few) if isinstance(real, Value) else \
            -(-real // few) * few
        reached = c.min(first, stops[vector])
        nest(self, shape, vector, lanes, body, [reached if d == vector else n for d, n in enumerate(stops)],
             ends_along(self, [value], vector))
        _fill(self, value, target, vector, few, first, stops)
        return []

    versions(self, windows_of(self, [value]), emit)
    return {} if end is None else {vector: end}


def _fill(self: BlockLowering, value: Value, target: Buffer, vector: int, lanes: int, first: Number,
          stops: Sequence[Number]) -> None:
    """The rest of each row from ``first`` on, where it is one element: that is computed once."""
    c = self.c
    stop = stops[vector]
    if isinstance(first, int) and isinstance(stop, int) and first >= stop:
        return

    def row(coords: Coords) -> None:
        at, saved = list(coords), self.lanes
        self.lanes, at[vector] = 0, Coord(c.value(first))
        element = evaluate(self, value, tuple(at))
        self.lanes = lanes

        def store(index: Value, _: list[Value]) -> None:
            at[vector] = Coord(index, 0, lanes > 1)
            store_buffer(self, target, tuple(at), element)

        c.loop(first, stop, lanes, [], store)
        self.lanes = saved

    outer = tuple(1 if d == vector else n for d, n in enumerate(target.shape))
    rows = [1 if d == vector else n for d, n in enumerate(stops)]
    c.branch(c.compare("lt", first, stop), lambda: nest(self, outer, vector, 1, row, rows))


WRITERS[Buffer] = write_buffer

__all__ = ["write_buffer"]
