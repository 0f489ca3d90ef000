"""Computing a tile into a buffer."""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.lowering.cpu.block import WRITERS, BlockLowering
from tilus.lowering.cpu.demand import stops_of
from tilus.lowering.cpu.evaluate import evaluate
from tilus.lowering.cpu.nest import nest, store_buffer, vector_dim, vector_lanes, versions, windows_of
from tilus.lowering.cpu.transpose import try_transposed
from tilus.lowering.cpu.values import Buffer, Coords


def write_buffer(self: BlockLowering, value: Value, target: Buffer) -> None:
    """Compute a tile into a buffer."""
    stops = stops_of(self, value)
    if try_transposed(self, value, target, stops):
        return
    shape = target.shape
    vector = vector_dim(self, shape, [value], [target.strides])
    lanes = vector_lanes(self, [value], shape[vector])

    def body(coords: Coords) -> None:
        store_buffer(self, target, coords, evaluate(self, value, coords))

    def emit() -> list[Value]:
        nest(self, shape, vector, lanes, body, stops)
        return []

    versions(self, windows_of(self, [value]), emit)


WRITERS[Buffer] = write_buffer

__all__ = ["write_buffer"]
