"""How the coordinates of a result lead to those of its operands.

An :class:`Axis` is a range of indices along one dimension: a tile's (offset and size) or a single index (size 0), in
which case the tile has no such dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from tilus.ir.core import Operation, Value
from tilus.ir.families import Movement
from tilus.ir.ops import Broadcast, Const, Reduce, Reshape, Transpose
from tilus.ir.ops.array import AffineAccess, Attend, Contract, Deposit, Greatest, Lookup, PartialReduce, Regroup
from tilus.ir.types import Extent, extents_of
from tilus.records import record


@record(eq=False, slots=True)
class Axis:
    """``offset`` is the first index (an i64 scalar; None for 0, and while only dependences are looked at), ``step`` how
    far apart indices are."""

    extent: Extent
    size: int
    offset: Value | None = None
    step: int = 1

    @property
    def is_point(self) -> bool:
        return self.size == 0


UNIT = Axis(1, 1)
"""All of a dimension of extent 1, as a dimension of a tile."""
ORIGIN = Axis(1, 0)
"""The only index of a dimension of extent 1."""
Axes = tuple[Axis, ...]
APART = 1 << 10
"""The place of the axes of windows: none has tiles along them."""
Raw = tuple[int | None, ...]
"""A place for each dimension, None where nothing says."""


SourceAxes = Callable[[AffineAccess, Axes], Axes]
"""The coordinates at which an access needs its operand. Asked twice for the same it gives the same ones."""


def operand_axes(op: Operation, axes: Axes, source: SourceAxes) -> list[tuple[Value, Axes]]:
    """The operands of an elementwise or moving operation, with the coordinates at which ``axes`` of its result needs
    them."""
    if isinstance(op, AffineAccess):
        return [(op.x, source(op, axes))]
    if isinstance(op, Broadcast):
        extents = extents_of(op.x.tile)
        if not extents:
            return [(op.x, ())]
        return [(op.x, tuple(
            (ORIGIN if axis.is_point else UNIT) if n == 1 and extent != 1 else axis
            for n, extent, axis in zip(extents, op.shape, axes, strict=True)))]
    if isinstance(op, Reshape):
        kept = iter([axis for axis, n in zip(axes, op.shape, strict=True) if n != 1])
        return [(op.x, tuple(ORIGIN if n == 1 else next(kept) for n in extents_of(op.x.tile)))]
    if isinstance(op, Lookup):
        return [(index, axes) for index in op.indices]
    if isinstance(op, Greatest):
        return [(op.x, (*axes[:-1], Axis(extents_of(op.x.tile)[-1], 1)))]
    if isinstance(op, Deposit):
        return [(value, axes) for value in (op.updates, *op.indices)]
    if isinstance(op, Transpose):
        places = dict(zip(op.permutation, axes, strict=True))
        return [(op.x, tuple(places[d] for d in range(len(axes))))]
    return [(value, axes if value.tile.shape else ()) for value in op.operands]


def source_axes(op: AffineAccess, axes: Axes, first: Callable[[Extent, list[tuple[Axis, int]]], Value | None]) -> Axes:
    """Coordinates of the operand of an access: ``first`` gives the first index along a dimension that starts there and
    goes along these axes, by these factors. Of the axes of a dimension at most one is a tile (of more than one
    element)."""
    found = []
    for n, start, terms in zip(extents_of(op.x.tile), op.starts, op.terms, strict=True):
        along = [(axes[axis], factor) for axis, factor in terms]
        tiles = [(axis.size, factor * axis.step) for axis, factor in along if axis.size > 1]
        assert len(tiles) <= 1
        size, step = tiles[0] if tiles else (0, 1)
        found.append(Axis(n, size, first(start, along), step))
    return tuple(found)


def tile_shape(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The shape of a tile at these coordinates."""
    return tuple(axis.size for axis in axes if not axis.is_point)


def strip(value: Value) -> Value:
    """Through broadcasts, reshapes, transpositions and accesses to what they move."""
    while isinstance(value.defining, Movement):
        value = value.defining.operands[0]
    return value


def below_regroups(value: Value) -> Value:
    """What is in the memory that a value is read from."""
    while isinstance(value.defining, Regroup):
        value = value.defining.x
    return value


class Places:
    """How far from the last dimension of the arrays in memory each dimension of a value is taken: a reduction leaves
    the dimensions before its axis where they were, and along windows is taken one index at a time."""

    def __init__(self, leaves: Container[Value]) -> None:
        self.leaves = leaves
        self.known: dict[Value, Raw] = {}

    def __call__(self, value: Value) -> tuple[int, ...]:
        found: list[int] = []
        behind = 0  # dimensions that may have tiles: no two of them are at one place
        for at in reversed(self._raw(value)):
            found.append(max(at or 0, behind))
            behind += at != APART
        return tuple(reversed(found))

    def _raw(self, value: Value) -> Raw:
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
        if isinstance(op, Lookup):
            return op.indices
        if isinstance(op, Deposit):
            return (op.updates, *op.indices)
        if op is None or value in self.leaves or isinstance(op, (Contract, Attend, PartialReduce, Regroup)):
            return ()
        return op.operands

    def _find(self, value: Value) -> Raw:
        rank = value.tile.rank
        op = value.defining
        natural = tuple(range(rank - 1, -1, -1))
        if isinstance(op, Const):
            return (None,) * rank
        if op is None or not self._below(value):
            return natural
        below = self._raw(self._below(value)[0])
        if isinstance(op, Reduce):
            return below[: op.axis] + below[op.axis + 1 :]
        if isinstance(op, Transpose):
            moved = zip(natural, op.permutation, (below[p] for p in op.permutation), strict=True)
            return tuple(at if at in (None, APART) else n + at - (rank - 1 - p) for n, p, at in moved)
        if isinstance(op, Reshape):
            kept = iter([p for p, n in zip(below, extents_of(op.x.tile), strict=True) if n != 1])
            return tuple(None if extent == 1 else next(kept) for extent in op.shape)
        if isinstance(op, Broadcast):
            source = extents_of(op.x.tile)
            known = tuple(at if n != 1 else None for n, at in zip(source, below, strict=True))
            return known or (None,) * rank
        if isinstance(op, AffineAccess):
            places: list[int | None] = [None] * rank
            for at, terms in zip(below, op.terms, strict=True):
                for order, (axis, _) in enumerate(terms):
                    places[axis] = APART if order else at
            return tuple(places)
        shapes = [self._raw(v) for v in self._below(value) if v.tile.rank == rank]
        return tuple(max((p for p in at if p is not None), default=None) for at in zip(*shapes, strict=True))


def accesses_below(values: Iterable[Value], is_known: Callable[[Value], bool]) -> int:
    """How many accesses there are between values and what is known: about as many elements are read for one."""
    waiting, seen, count = list(values), set[Value](), 0
    while waiting:
        value = waiting.pop()
        if value in seen or value.defining is None:
            continue
        seen.add(value)
        count += isinstance(value.defining, AffineAccess)
        waiting += [operand for operand in value.defining.operands if not is_known(operand)]
    return count
