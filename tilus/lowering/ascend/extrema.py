"""Extrema that no call gives. Where they are: the least index among those of the elements that equal the extremum.
Those of u32: of numbers with a sign, which are in the same order when the highest bit is turned."""

from __future__ import annotations

import math

from tilus.ir.core import Module, Operation, Value
from tilus.ir.dtypes import i32, i64, u32
from tilus.ir.ops import Binary, Bitcast, Broadcast, Cast, Compare, Const, Iota, Reduce, Reshape, Select
from tilus.ir.terms import ReduceKind
from tilus.lowering.ascend.replacement import replace_operations


def locate_extrema(module: Module) -> None:
    """Replace the reductions ``argmax`` and ``argmin``, and ``max`` and ``min`` of u32, in place."""
    replace_operations(module, _replaced)


def _replaced(op: Operation, ops: list[Operation]) -> Value | None:
    if not isinstance(op, Reduce):
        return None
    if op.kind.startswith("arg"):
        return _Expansion(op, ops).index()
    return _Expansion(op, ops).reduced(op.kind, op.x) if op.kind in ("max", "min") and op.x.tile.dtype is u32 else None


class _Expansion:
    """Appends what one reduction becomes."""

    def __init__(self, op: Reduce, ops: list[Operation]) -> None:
        self.op, self.ops = op, ops
        self.shape = op.x.tile.shape

    def emit(self, op: Operation) -> Value:
        op.span = self.op.span
        self.ops.append(op)
        return op.results[0]

    def index(self) -> Value:
        op, count = self.op, self.shape[self.op.axis]
        is_extreme = self.emit(Compare("eq", op.x, self.extremum()))
        indices = self.emit(Iota(self.shape, op.axis, i32))
        beyond = self.emit(Const(count, i32, self.shape))
        least = self.emit(Reduce("min", self.emit(Select(is_extreme, indices, beyond)), op.axis))
        if op.x.tile.dtype.is_float:  # of NaNs alone the index is 0
            shape = least.tile.shape
            none = self.emit(Compare("eq", least, self.emit(Const(count, i32, shape))))
            least = self.emit(Select(none, self.emit(Const(0, i32, shape)), least))
        return self.emit(Cast(least, i64))

    def extremum(self) -> Value:
        """The extremum of all that is no NaN, at each element."""
        op, x = self.op, self.op.x
        kind: ReduceKind = "max" if op.kind == "argmax" else "min"
        if x.tile.dtype.is_float:
            is_number = self.emit(Compare("eq", x, x))
            neutral = self.emit(Const(-math.inf if kind == "max" else math.inf, x.tile.dtype, self.shape))
            x = self.emit(Select(is_number, x, neutral))
        found = self.reduced(kind, x)
        kept = tuple(1 if d == op.axis else n for d, n in enumerate(self.shape))
        return self.emit(Broadcast(self.emit(Reshape(found, kept)), self.shape))

    def reduced(self, kind: ReduceKind, x: Value) -> Value:
        if x.tile.dtype is not u32:
            return self.emit(Reduce(kind, x, self.op.axis))
        signed = self.emit(Bitcast(self.turned(x), i32))
        return self.turned(self.emit(Bitcast(self.emit(Reduce(kind, signed, self.op.axis)), u32)))

    def turned(self, x: Value) -> Value:
        """With the other highest bit."""
        return self.emit(Binary("xor", x, self.emit(Const(1 << 31, u32, x.tile.shape))))


__all__ = ["locate_extrema"]
