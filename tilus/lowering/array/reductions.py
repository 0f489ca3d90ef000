"""Reductions within one kernel: loops over tiles, of several reductions at once where they are of the same elements,
and windows index by index."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tilus.ir.core import Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import Broadcast, Const, Reduce
from tilus.ir.types import Extent, extents_of
from tilus.lowering.array.access import ORIGIN, Axes, Axis, tile_shape
from tilus.lowering.array.in_one_pass import OnePass
from tilus.lowering.array.types import identity, wide

if TYPE_CHECKING:
    from tilus.lowering.array.evaluate import Evaluator

COMBINE = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "any": "or", "all": "and", "xor": "xor"}
MOST_REPEATED = 32
"""How often, at most, what a window has elements of is written one after the other, in place of loops."""


def reduce(e: Evaluator, op: Reduce, axes: Axes) -> Value:
    """The reduction at ``axes``; others of the same elements are known then as well."""
    extent = extents_of(op.x.tile)[op.axis]
    if extent == 1:
        return partial(e, op, axes, ORIGIN)
    size = e.size_at(e.places(op.x)[op.axis])
    whole = e.resident.get((extent, size))
    if whole is not None:
        return partial(e, op, axes, whole)
    if size == 0 and isinstance(extent, int) and extent * e.repeated <= MOST_REPEATED:
        return _index_by_index(e, op, axes, extent)
    at = (*axes[: op.axis], Axis(extent, size), *axes[op.axis :])
    e.prepare(op.x, at, at[op.axis])
    known = e.known(op.result, axes)  # where it followed one of those
    if known is not None:
        return known
    group = [op, *_alike(e, op, axes)]
    passes = [OnePass(e, r, axes, partial) if size > 1 else None for r in group]
    start = [e.b.const(identity(r.kind, d := wide(r.x.tile.dtype)), d, tile_shape(axes)) for r in group]
    start += [value for one in passes if one is not None for value in one.start()]

    def body(axis: Axis, carried: list[Value]) -> list[Value]:
        totals, left, following = [], iter(carried[len(group):]), list[Value]()
        for r, one, before in zip(group, passes, carried, strict=False):
            part = partial(e, r, axes, axis)
            totals.append(e.b.binary(COMBINE[r.kind], before, part))
            if one is not None:
                following += one.step(axis, before, part, totals[-1], [next(left) for _ in one.found])
        return totals + following

    found = e.loop(extent, size, start, body)
    e.memo[-1].update({(r.result, axes): total for r, total in zip(group, found, strict=False)})
    left = iter(found[len(group):])
    for one, total in zip(passes, found, strict=False):
        if one is not None:
            ends = one.end(total, [next(left) for _ in one.found])
            e.memo[-1].update({(f.op.result, axes): end for f, end in zip(one.found, ends, strict=True)})
    return found[0]


def partial(e: Evaluator, op: Reduce, axes: Axes, axis: Axis) -> Value:
    """The reduction over one tile, in which what lies beyond the array counts as nothing."""
    at = (*axes[: op.axis], axis, *axes[op.axis :])
    tile = e.wide(op.x, at)
    if axis.is_point:
        return tile
    tile = e.neutral_beyond(op, tile, at, axis)
    return e.b.add(Reduce(op.kind, tile, len(tile_shape(axes[: op.axis])))).result


def _index_by_index(e: Evaluator, op: Reduce, axes: Axes, extent: int) -> Value:
    """Over a short dimension that no tile goes along, without a loop: all of it is one expression of each element."""
    e.repeated *= extent
    parts = [partial(e, op, axes, _point(e, extent, i)) for i in range(extent)]
    e.repeated //= extent
    return functools.reduce(lambda x, y: e.b.binary(COMBINE[op.kind], x, y), parts)


def _point(e: Evaluator, extent: Extent, index: int) -> Axis:
    """One index of a dimension: the same one for all that ask, so that they share what is there."""
    key = extent, index
    found = next((known[key] for known in reversed(e.points) if key in known), None)
    if found is None:
        found = e.points[-1][key] = Axis(extent, 0, e.b.const(index))
    return found


def _alike(e: Evaluator, op: Reduce, axes: Axes) -> list[Reduce]:
    """Other reductions of the kernel along the same dimension, of elementwise functions of the same values."""
    base = _base(op.x)
    return [r for r in e.reduces if r is not op and r.axis == op.axis and _base(r.x) is base
            and e.known(r.result, axes) is None and r.result not in e.stored]


def _base(value: Value) -> Value:
    """What a value is computed from alone, element by element."""
    while isinstance(op := value.defining, Elementwise):
        sources = {v for v in op.operands if not _is_constant(v.defining)}
        if len(sources) != 1 or (source := sources.pop()).tile.shape != value.tile.shape:
            break
        value = source
    return value


def _is_constant(op: Operation | None) -> bool:
    while isinstance(op, Broadcast):
        op = op.x.defining
    return isinstance(op, Const)


__all__ = ["COMBINE", "partial", "reduce"]
