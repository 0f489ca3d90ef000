"""How the coordinates of a result lead to those of its operands.

An :class:`Axis` is a range of indices along one dimension: a tile's (offset and size) or a single index (size 0), in
which case the tile has no such dimension.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.families import Movement
from tilus.ir.ops import Broadcast, Reduce, Reshape, Transpose
from tilus.ir.ops.array import Contract, PartialReduce
from tilus.ir.types import Extent, extents_of
from tilus.records import record


@record(eq=False, slots=True)
class Axis:
    """``offset`` is the first index (an i64 scalar; None for 0, and while only dependences are looked at)."""

    extent: Extent
    size: int
    offset: Value | None = None

    @property
    def is_point(self) -> bool:
        return self.size == 0


UNIT = Axis(1, 1)
"""All of a dimension of extent 1, as a dimension of a tile."""
ORIGIN = Axis(1, 0)
"""The only index of a dimension of extent 1."""
Axes = tuple[Axis, ...]


def operand_axes(op: Operation, axes: Axes) -> list[tuple[Value, Axes]]:
    """The operands of an elementwise or moving operation, with the coordinates at which ``axes`` of its result needs
    them."""
    if isinstance(op, Broadcast):
        source = extents_of(op.x.tile)
        if not source:
            return [(op.x, ())]
        return [(op.x, tuple(
            (ORIGIN if axis.is_point else UNIT) if n == 1 and extent != 1 else axis
            for n, extent, axis in zip(source, op.shape, axes, strict=True)))]
    if isinstance(op, Reshape):
        kept = iter([axis for axis, n in zip(axes, op.shape, strict=True) if n != 1])
        return [(op.x, tuple(ORIGIN if n == 1 else next(kept) for n in extents_of(op.x.tile)))]
    if isinstance(op, Transpose):
        places = dict(zip(op.permutation, axes, strict=True))
        return [(op.x, tuple(places[d] for d in range(len(axes))))]
    return [(value, axes if value.tile.shape else ()) for value in op.operands]


def tile_shape(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The shape of a tile at these coordinates."""
    return tuple(axis.size for axis in axes if not axis.is_point)


def strip(value: Value) -> Value:
    """Through broadcasts, reshapes and transpositions to what they move."""
    while isinstance(value.defining, Movement):
        value = value.defining.operands[0]
    return value


class Places:
    """How far from the last dimension of the arrays in memory each dimension of a value is taken: a reduction leaves
    the dimensions before its axis where they were."""

    def __init__(self, leaves: Container[Value]) -> None:
        self.leaves = leaves
        self.known: dict[Value, tuple[int, ...]] = {}

    def __call__(self, value: Value) -> tuple[int, ...]:
        waiting = [value]
        while waiting:
            current = waiting[-1]
            missing = [] if current in self.known else [v for v in self._below(current) if v not in self.known]
            if missing:
                waiting += missing
                continue
            if current not in self.known:
                self.known[current] = self._find(current)
            waiting.pop()
        return self.known[value]

    def _below(self, value: Value) -> Sequence[Value]:
        op = value.defining
        return () if op is None or value in self.leaves or isinstance(op, (Contract, PartialReduce)) else op.operands

    def _find(self, value: Value) -> tuple[int, ...]:
        rank = len(value.tile.shape)
        natural = tuple(range(rank - 1, -1, -1))
        op = value.defining
        if op is None or not self._below(value):
            return natural
        below = self(op.operands[0])
        if isinstance(op, Reduce):
            return below[: op.axis] + below[op.axis + 1 :]
        if isinstance(op, Transpose):
            return tuple(n + below[p] - (rank - 1 - p) for n, p in zip(natural, op.permutation, strict=True))
        if isinstance(op, Reshape):
            kept = iter([p for p, n in zip(below, extents_of(op.x.tile), strict=True) if n != 1])
            return tuple(n if extent == 1 else max(n, next(kept))
                         for n, extent in zip(natural, op.shape, strict=True))
        shapes = [self(v) for v in op.operands if len(v.tile.shape) == rank]
        return tuple(max(at) for at in zip(natural, *shapes, strict=True))
