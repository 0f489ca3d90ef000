"""Along which dimensions tiles are reduced, or what is computed of them element by element."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import Const, For, If, Reduce, While
from tilus.lowering.layout_rules import is_tile


class Reductions:
    """Tiles that elementwise operations and control flow connect are classes; each has the dimensions along which one
    of it is reduced."""

    def __init__(self, function: Function) -> None:
        self.parent: dict[Value, Value] = {}
        axes: list[tuple[Value, int]] = []
        for op in function.walk():
            if isinstance(op, Reduce) and is_tile(op.x):
                axes.append((op.x, op.axis))
            for group in _alike(op):
                self._join(v for v in group if is_tile(v) and not isinstance(v.defining, Const))
        self.axes: dict[Value, set[int]] = {}
        for value, axis in axes:
            self.axes.setdefault(self._root(value), set()).add(axis)

    def of(self, value: Value) -> Collection[int]:
        return self.axes.get(self._root(value), ()) if self.axes else ()

    def _root(self, value: Value) -> Value:
        while (above := self.parent.get(value)) is not None:
            value = above
        return value

    def _join(self, group: Iterable[Value]) -> None:
        first: dict[tuple[int, ...], Value] = {}
        for value in group:
            other = first.setdefault(value.tile.shape, value)
            one, two = self._root(other), self._root(value)
            if one is not two:
                self.parent[two] = one


def _alike(op: Operation) -> Iterable[Iterable[Value]]:
    """Groups of values of which those of one shape have one layout."""
    if isinstance(op, Elementwise):
        return ((*op.operands, *op.results),)
    if isinstance(op, For):
        return zip(op.results, op.init, op.carried, op.body.terminator.operands, strict=True)
    if isinstance(op, While):
        return zip(op.results, op.init, op.before.args, op.body.args, op.body.terminator.operands, strict=True)
    if isinstance(op, If):
        return zip(op.results, op.then.terminator.operands, op.orelse.terminator.operands, strict=True)
    return ()


__all__ = ["Reductions"]
