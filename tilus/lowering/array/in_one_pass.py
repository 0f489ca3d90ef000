"""Reductions of which one needs another one's result, in one pass over elements that no tile holds at once.

* The sum of exp(x − m), m the maximum of x: what has been summed is scaled as m grows (Milakov and Gimelshein, "Online
  normalizer calculation for softmax", arXiv 1805.02867).
* The sum of (x − c)², c computed from the sum of x: squares are summed about the mean of each tile, and tiles joined as
  Chan, Golub and LeVeque do ("Updating formulae and a pairwise algorithm for computing sample variances", 1979). About
  another c than the mean, it is n (mean − c)² more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Binary, Broadcast, Compare, Reduce, Reshape, Select, Unary
from tilus.ir.types import extents_of
from tilus.lowering.array.access import Axes, Axis, operand_axes, tile_shape
from tilus.lowering.array.types import wide
from tilus.records import record

if TYPE_CHECKING:
    from tilus.lowering.array.evaluate import Evaluator

Partial: TypeAlias = Callable[["Evaluator", Reduce, Axes, Axis], Value]


@record(eq=False)
class Follower:
    """A sum that needs another reduction of the same elements. ``base``: what elements are compared with."""

    op: Reduce
    first: Reduce
    base: Broadcast


def followers(e: Evaluator, first: Reduce, axes: Axes) -> list[Follower]:
    """The sums of the kernel that can be computed along with ``first``, at the same coordinates."""
    found = []
    for op in e.reduces:
        base = _base_of(op, first)
        if base is not None and e.known(op.result, axes) is None and op.result not in e.stored:
            found.append(Follower(op, first, base))
    return found


def _base_of(op: Reduce, first: Reduce) -> Broadcast | None:
    if op.kind != "sum" or op.axis != first.axis or wide(op.x.tile.dtype) is not wide(first.x.tile.dtype):
        return None
    made = op.x.defining
    if first.kind == "max":
        difference = made.x.defining if isinstance(made, Unary) and made.kind in ("exp", "exp2") else None
        base = _subtracted(difference, first.x)
        return base if base is not None and _unmoved(base.x) is first.result else None
    if first.kind == "sum" and isinstance(made, Binary) and made.kind == "mul" and made.lhs is made.rhs:
        base = _subtracted(made.lhs.defining, first.x)
        return base if base is not None and _depends(base.x, first.result) else None
    return None


def _subtracted(op: Operation | None, x: Value) -> Broadcast | None:
    """What is subtracted from ``x``: one number for all along the dimension that is reduced."""
    if not isinstance(op, Binary) or op.kind != "sub" or op.lhs is not x or not x.tile.dtype.is_float:
        return None
    return op.rhs.defining if isinstance(op.rhs.defining, Broadcast) else None


def _unmoved(value: Value) -> Value:
    while isinstance(value.defining, Reshape):
        value = value.defining.x
    return value


def _depends(value: Value, on: Value) -> bool:
    """By elementwise operations and reshapes alone, so that it is one number for each of the reduction's."""
    waiting, seen, found = [value], set[Value](), False
    while waiting:
        current = waiting.pop()
        op = current.defining
        if current in seen or op is None:
            continue
        seen.add(current)
        if current is on:
            found = True
        elif isinstance(op, (Reduce, Select, Compare)) or op.regions:
            return False
        else:
            waiting += op.operands
    return found


class OnePass:
    """The followers of a reduction within its loop: what is carried for each from tile to tile. ``partial`` reduces a
    tile."""

    def __init__(self, e: Evaluator, first: Reduce, axes: Axes, partial: Partial) -> None:
        self.e, self.first, self.axes, self.partial = e, first, axes, partial
        self.found = followers(e, first, axes)

    def start(self) -> list[Value]:
        shape = tile_shape(self.axes)
        return [self.e.b.const(0.0, wide(f.op.x.tile.dtype), shape) for f in self.found]

    def step(self, axis: Axis, before: Value, part: Value, after: Value, carried: list[Value]) -> list[Value]:
        """``before``, ``part``, ``after``: the first reduction before a tile, of it, and after it."""
        if not self.found:
            return []
        step = self._grown if self.first.kind == "max" else self._joined
        return step(axis, before, part, after, carried)

    def end(self, total: Value, carried: list[Value]) -> list[Value]:
        """What they come to, the first one's being ``total``, which is known."""
        end = self._of_nothing if self.first.kind == "max" else self._about_base
        return [end(f, total, value) for f, value in zip(self.found, carried, strict=True)]

    # -- sums of powers

    def _grown(self, axis: Axis, before: Value, part: Value, top: Value, carried: list[Value]) -> list[Value]:
        e = self.e
        lowest = self._is_lowest(top)
        finite = e.b.add(Select(lowest, self._number(0.0, top), top)).result
        none = e.b.add(Compare("ne", before, before)).result  # nothing but NaNs, which a maximum passes over
        before = e.b.add(Select(none, finite, before)).result
        e.memo[-1][self.first.result, self.axes] = finite
        found = []
        for f, sum_ in zip(self.found, carried, strict=True):
            power = f.op.x.defining
            assert isinstance(power, Unary)
            scale = e.b.add(Unary(power.kind, e.b.binary("sub", before, finite))).result
            found.append(e.b.binary("add", e.b.binary("mul", sum_, scale), self.partial(self.e, f.op, self.axes, axis)))
        return found

    def _of_nothing(self, f: Follower, top: Value, value: Value) -> Value:
        """Where all are −∞, differences are not numbers."""
        return self.e.b.add(Select(self._is_lowest(top), self._number(math.nan, value), value)).result

    def _is_lowest(self, top: Value) -> Value:
        return self.e.b.add(Compare("eq", top, self._number(-math.inf, top))).result

    # -- sums of squares

    def _joined(self, axis: Axis, before: Value, part: Value, after: Value, carried: list[Value]) -> list[Value]:
        e, b = self.e, self.e.b
        dtype = part.tile.dtype
        offset = e.offset(axis)
        count = b.binary("min", b.const(axis.size), b.binary("sub", e.extent(axis.extent), offset))
        past = b.binary("max", offset, b.const(1))
        weight = b.binary("div", b.binary("mul", e.cast(offset, dtype), e.cast(count, dtype)),
                          e.cast(b.binary("add", offset, count), dtype))
        mean = b.binary("div", part, self._spread(e.cast(count, dtype)))
        apart = b.binary("sub", mean, b.binary("div", before, self._spread(e.cast(past, dtype))))
        between = b.binary("mul", b.binary("mul", apart, apart), self._spread(weight))
        found = []
        for f, sum_ in zip(self.found, carried, strict=True):
            at = self._at(axis)
            e.memo[-1][f.base.result, at] = e.spread(self._with_unit(mean), tile_shape(at))
            found.append(b.binary("add", sum_, b.binary("add", self.partial(self.e, f.op, self.axes, axis), between)))
        return found

    def _about_base(self, f: Follower, total: Value, value: Value) -> Value:
        e, b = self.e, self.e.b
        extent = extents_of(f.op.x.tile)[f.op.axis]
        ((source, at),) = operand_axes(f.base, self._at(Axis(extent, 2)), e.source)
        base = b.add(Reshape(e.tile(source, at), tile_shape(self.axes))).result
        count = self._spread(e.cast(e.extent(extent), total.tile.dtype))
        apart = b.binary("sub", b.binary("div", total, count), base)
        return b.binary("add", value, b.binary("mul", b.binary("mul", apart, apart), count))

    # -- tiles

    def _at(self, axis: Axis) -> Axes:
        return (*self.axes[: self.first.axis], axis, *self.axes[self.first.axis :])

    def _with_unit(self, value: Value) -> Value:
        """With a dimension of extent 1 for the one that is reduced."""
        before = len(tile_shape(self.axes[: self.first.axis]))
        shape = value.tile.shape
        return self.e.b.add(Reshape(value, (*shape[:before], 1, *shape[before:]))).result

    def _spread(self, scalar: Value) -> Value:
        return self.e.spread(scalar, tile_shape(self.axes))

    def _number(self, number: float, like: Value) -> Value:
        return self.e.b.const(number, like.tile.dtype, like.tile.shape)


__all__ = ["OnePass"]
