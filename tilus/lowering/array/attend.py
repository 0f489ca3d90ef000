"""Attention in one kernel: the online softmax over tiles of keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f32, f64
from tilus.ir.ops import Broadcast, Cast, Compare, Dot, Reduce, Reshape, Select, Unary
from tilus.ir.ops.array import Attend
from tilus.ir.types import extents_of
from tilus.lowering.array.access import Axes, Axis, tile_shape
from tilus.lowering.array.types import held, wide
from tilus.lowering.array.visible import last_visible

if TYPE_CHECKING:
    from tilus.lowering.array.evaluate import Evaluator

LOG2_E = math.log2(math.e)


def attend(e: Evaluator, op: Attend, axes: Axes) -> Value:
    """The tile at ``axes``: of each row are kept the greatest score, the sum of the weights relative to it, and the sum
    of the values by those weights. Before the first score of a row is seen the greatest is −∞."""
    *batch, row, column = axes
    online = _Online(e, op, axes)
    extent = extents_of(op.scores.tile)[-1]
    kind, rows = online.dtype, tile_shape((row,))
    start = [e.b.const(-math.inf, kind, rows), e.b.const(0.0, kind, rows), e.b.const(0.0, kind, tile_shape(axes))]
    end = last_visible(e, op.scores, row)
    _, total, found = e.loop(extent, e.tiling.BK, start, online.step, e.tiling, end)
    if op.guarded:
        total = online.replaced(total, 0.0, 1.0)
    return e.b.binary("div", found, online.along_rows(total, found.tile.shape))


class _Online:
    def __init__(self, e: Evaluator, op: Attend, axes: Axes) -> None:
        self.e, self.op = e, op
        self.batch, self.row, self.column = axes[:-2], axes[-2], axes[-1]
        self.dtype = f64 if wide(op.scores.tile.dtype) is f64 else f32
        kind = held(op.values, e.stored)
        self.operand: DType = kind if kind.bits <= 16 and op.rounding is kind else wide(op.values.tile.dtype)

    def step(self, j: Axis, carried: list[Value]) -> list[Value]:
        """A tile of keys and values more."""
        e, (top, total, found) = self.e, carried
        e.online.add(j)
        at = (*self.batch, self.row, j)
        scores = e.bounded(e.cast(e.wide(self.op.scores, at), self.dtype), at, j, -math.inf)
        higher = e.b.binary("max", top, e.b.add(Reduce("max", scores, 1)).result)
        shift = self.replaced(higher, -math.inf, 0.0)  # weights of −∞ are 0, also where that is all there is so far
        weights = self.power(e.b.binary("sub", scores, self.along_rows(shift, scores.tile.shape)))
        shrink = self.power(e.b.binary("sub", top, shift))
        total = e.b.binary("add", e.b.binary("mul", total, shrink), e.b.add(Reduce("sum", weights, 1)).result)
        found = e.b.binary("mul", found, self.along_rows(shrink, found.tile.shape))
        return [higher, total, e.b.add(Dot(self.rounded(weights), self.values(j), found, "ieee")).result]

    def replaced(self, numbers: Value, number: float, by: float) -> Value:
        b, shape = self.e.b, numbers.tile.shape
        equal = b.add(Compare("eq", numbers, b.const(number, self.dtype, shape))).result
        return b.add(Select(equal, b.const(by, self.dtype, shape), numbers)).result

    def power(self, x: Value) -> Value:
        """exp, by a power of 2."""
        scaled = self.e.b.binary("mul", x, self.e.b.const(LOG2_E, self.dtype, x.tile.shape))
        return self.e.b.add(Unary("exp2", scaled, approximate=self.dtype is f32)).result

    def along_rows(self, numbers: Value, shape: tuple[int, ...]) -> Value:
        column = self.e.b.add(Reshape(numbers, (shape[0], 1))).result
        return self.e.b.add(Broadcast(column, shape)).result

    def rounded(self, weights: Value) -> Value:
        if self.op.rounding is not None and self.operand is not self.op.rounding:
            weights = self.e.b.add(Cast(weights, self.op.rounding)).result
        return self.e.cast(weights, self.operand)

    def values(self, j: Axis) -> Value:
        """The tile of values, which is 0 beyond the last: their weights are, but 0 · NaN is not."""
        at = (*self.batch, j, self.column)
        tile = self.e.cast(self.e.tile(self.op.values, at), self.operand)
        return tile if self.e.fades(self.op.values, at, j) else self.e.bounded(tile, at, j, 0.0)


__all__ = ["attend"]
