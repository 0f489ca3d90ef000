"""Derivatives of operations that move elements: what comes from an element goes back to it."""

from __future__ import annotations

import functools
import itertools
import math

from tilus.ir.dtypes import i64
from tilus.ir.ops import Broadcast, Iota, Reshape, Transpose
from tilus.ir.ops.array import AffineAccess, Lookup, Regroup, ScatterArray
from tilus.ir.types import Extent, extents_of
from tilus.lang.array_moves import access
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_scatter import put
from tilus.lang.array_sizes import combined
from tilus.lang.builtins import reduction
from tilus.lang.builtins.creation import zeros
from tilus.lang.context import current
from tilus.lang.derivatives import Given, Step, derivative_of
from tilus.lang.values import Tile, as_tile, emit

MOST_SHIFTS = 16
"""Elements of a window that are added up one by one; of more by a scatter."""


@derivative_of(Broadcast)
def of_broadcast(op: Broadcast, step: Step) -> Given:
    source, g = extents_of(op.x.tile), step.g
    for axis in reversed(range(len(op.shape))):
        if not source:
            g = reduction.sum(g, axis)
        elif source[axis] == 1 and op.shape[axis] != 1:
            g = reduction.sum(g, axis, keepdims=True)
    yield op.x, g


@derivative_of(Reshape, Regroup)
def of_reshape(op: Reshape | Regroup, step: Step) -> Given:
    yield op.x, step.g.reshape(*extents_of(op.x.tile))


@derivative_of(Transpose)
def of_transpose(op: Transpose, step: Step) -> Given:
    yield op.x, step.g.transpose([op.permutation.index(d) for d in range(len(op.permutation))])


@derivative_of(Lookup)
def of_lookup(op: Lookup, step: Step) -> Given:
    yield op.x, put("add", zeros(op.x.tile.shape, step.g.dtype), [Tile(i) for i in op.indices], step.g)


@derivative_of(ScatterArray)
def of_scatter(op: ScatterArray, step: Step) -> Given:
    """Where updates are put, each counts as the one that was."""
    indices = [Tile(i) for i in op.indices]
    yield op.x, step.g if op.kind == "add" else put("set", step.g, indices, 0.0)
    yield op.updates, emit(Lookup(step.g.value, op.indices, span=current().span))


@derivative_of(AffineAccess)
def of_access(op: AffineAccess, step: Step) -> Given:
    shape = extents_of(op.x.tile)
    inner = [axis for terms in op.terms for axis, _ in terms[1:]]
    sizes = [op.shape[axis] for axis in inner]
    single = all(not terms or abs(terms[0][1]) == 1 for terms in op.terms)
    known = [n for n in sizes if isinstance(n, int)]
    if single and len(known) == len(sizes) and math.prod(known) <= MOST_SHIFTS:
        places = itertools.product(*(range(n) for n in known))
        parts = [_returned(op, step.g, shape, dict(zip(inner, place, strict=True))) for place in places]
        yield op.x, functools.reduce(lambda a, b: a + b, parts) if parts else zeros(shape, step.g.dtype)
        return
    yield op.x, put("add", zeros(shape, step.g.dtype), [_indices(op, d) for d in range(len(shape))], step.g)


def _returned(op: AffineAccess, g: Tile, shape: tuple[Extent, ...], place: dict[int, int]) -> Tile:
    """What the elements at one place of the windows give to the array, whose dimensions are gone through by steps of 1
    either way."""
    kept = [terms[0] if terms else None for terms in op.terms]
    starts: list[Extent] = []
    for start, terms, first in zip(op.starts, op.terms, kept, strict=True):
        offset = sum(place[axis] * factor for axis, factor in terms[1:])
        begin = combined("add", start, offset) if offset else start
        starts.append(begin if first is not None and first[1] < 0 else combined("sub", 0, begin))
    if place:
        g = _at(g, place)
    rest = [axis for axis in range(len(op.shape)) if axis not in place]
    used = [rest.index(first[0]) for first in kept if first is not None]
    g = g.reshape(*(n for axis, n in enumerate(g.shape) if axis in used))  # the others are of extent 1
    order = [sorted(used).index(axis) for axis in used]
    g = g.transpose(order) if order else g
    extents = iter(g.shape)
    g = g.reshape(*(1 if first is None else next(extents) for first in kept))
    return access(g, shape, starts, [((d, 1 if first is None else first[1]),) for d, first in enumerate(kept)], 0.0)


def _at(g: Tile, place: dict[int, int]) -> Tile:
    """The part at constant indices along some axes, which are gone."""
    starts = [place.get(axis, 0) for axis in range(len(g.shape))]
    rest = iter(range(len(g.shape) - len(place)))
    terms = [() if axis in place else ((next(rest), 1),) for axis in range(len(g.shape))]
    return access(g, [n for axis, n in enumerate(g.shape) if axis not in place], starts, terms)


def _indices(op: AffineAccess, dim: int) -> Tile:
    """The index along a dimension of what is read, for each element of the result."""
    found = as_tile(extent_scalar(op.starts[dim]))
    for axis, factor in op.terms[dim]:
        found = emit(Iota(op.shape, axis, i64, span=current().span)) * factor + found
    return found if found.shape else emit(Broadcast(found.value, op.shape, span=current().span))


__all__: list[str] = []
