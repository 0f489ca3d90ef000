"""What is done to tiles that have one layout, because elementwise operations and control flow connect them: along which
dimensions they are reduced, and which are contiguous in the memory that they come from and go to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import Access, Elementwise
from tilus.ir.ops import Const, For, If, Reduce, Transpose, While
from tilus.lowering.layout_rules import is_tile

Dims = dict[Value, set[int]]


class TileClasses:
    """The classes of a kernel. ``fast`` says which tile an access moves in vectors, and along which dimension; None for
    none."""

    def __init__(self, function: Function, fast: Callable[[Access], tuple[Value, int] | None]) -> None:
        self.parent: dict[Value, Value] = {}
        self.axes: Dims = {}
        self.dims: Dims = {}
        ops = list(function.walk())
        for op in ops:
            for group in _alike(op):
                self._join(v for v in group if is_tile(v) and not isinstance(v.defining, Const))
        for op in ops:
            if isinstance(op, Reduce) and is_tile(op.x):
                self._note(self.axes, op.x, op.axis)
            elif isinstance(op, Transpose) and is_tile(op.x) and op.permutation[-1] != op.x.tile.rank - 1:
                self._note(self.dims, op.x, op.permutation[-1])
                self._note(self.dims, op.result, op.permutation.index(op.x.tile.rank - 1))
            elif isinstance(op, Access) and (found := fast(op)) is not None:
                self._note(self.dims, *found)

    def reduced(self, value: Value) -> Collection[int]:
        """The dimensions along which one of the class is reduced."""
        return self.axes.get(self._root(value), ())

    def contiguous(self, value: Value) -> Collection[int]:
        """The dimensions along which one of the class is moved in vectors, or would be if it were not transposed."""
        return self.dims.get(self._root(value), ())

    def _note(self, dims: Dims, value: Value, dim: int) -> None:
        dims.setdefault(self._root(value), set()).add(dim)

    def _root(self, value: Value) -> Value:
        while (above := self.parent.get(value)) is not None:
            value = above
        return value

    def _join(self, group: Iterable[Value]) -> None:
        first: dict[tuple[int, ...], Value] = {}
        for value in group:
            one, two = self._root(first.setdefault(value.tile.shape, value)), self._root(value)
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


__all__ = ["TileClasses"]
