"""Which elements of a tile anybody ever needs: those beyond the arrays that its results are stored to take no time.

A tile's demand has an end for each dimension: elements from there on are not needed. It is found backwards, from stores
to where their arrays end, through operations on elements, reductions (along the other dimensions), dots (rows and
columns) and loops, to a fixpoint. Ends are expressions over the extents of the kernel's arrays and scalars that are
known everywhere in it, so that they can be computed wherever a tile is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    CollapseView,
    Const,
    ConvertLayout,
    CutView,
    Dim,
    Dot,
    For,
    GridIndex,
    GridSize,
    If,
    Load,
    PermuteView,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Subview,
    Transpose,
    Yield,
)
from tilus.ir.types import TileType
from tilus.lowering.cpu.movements import keeps_dimensions, source_dims
from tilus.lowering.cpu.values import Number

if TYPE_CHECKING:
    from tilus.lowering.cpu.block import BlockLowering

End = Any
"""NOTHING where no element is needed, ALL where every one may be, else an expression: a tuple whose first member says
what it is, with expressions and values of the program after it."""
NOTHING, ALL = "nothing", "all"
_SCALAR = (Binary, Cast, Select)


def _joined(a: End, b: End) -> End:
    if a == b or b == NOTHING:
        return a
    return b if a == NOTHING else ALL


class Demand:
    """The demands of a kernel's tiles."""

    def __init__(self, kernel: Function) -> None:
        self.arguments = set(kernel.body.args)
        self.extents = _named_extents(kernel)
        self.ends: dict[Value, list[End]] = {}
        self.changed = True
        while self.changed:
            self.changed = False
            self._walk(kernel.body)

    def of(self, value: Value) -> Sequence[End]:
        return self.ends.get(value) or [NOTHING] * value.tile.rank

    def alike(self, value: Value, other: Value) -> None:
        """What is needed of a tile that the lowering makes is what is needed of another one."""
        if other in self.ends:
            self.ends[value] = self.ends[other]

    # Backwards.

    def _walk(self, block: Block) -> None:
        for op in reversed(block.ops):
            if not isinstance(op, Yield):
                self._of_operands(op)

    def _need(self, value: Value, ends: Sequence[End]) -> None:
        if not isinstance(value.type, TileType) or value.tile.is_scalar:
            return
        old = self.of(value)
        new = [_joined(a, b) for a, b in zip(old, ends, strict=True)]
        if new != list(old):
            self.ends[value] = new
            self.changed = True

    def _need_all(self, values: Sequence[Value]) -> None:
        for value in values:
            if isinstance(value.type, TileType):
                self._need(value, [ALL] * value.tile.rank)

    def _of_operands(self, op: Operation) -> None:
        if isinstance(op, (For, If)):
            self._of_regions(op)
        elif op.regions:
            for region in op.regions:
                self._need_all(region.terminator.operands)
                self._walk(region)
            self._need_all(op.operands)
        elif isinstance(op, Store):
            ends = _cut(op, [self._end(op.view, axis, offset) for axis, offset in enumerate(op.offsets)])
            for value in (op.value, op.mask):
                if value is not None and not value.tile.is_scalar:
                    self._need(value, ends)
        elif isinstance(op, Dot):
            ends = list(self.of(op.result))
            self._need(op.accumulator, ends)
            self._need(op.a, [*ends[:-1], ALL])
            self._need(op.b, [*ends[:-2], ALL, ends[-1]])
        elif isinstance(op, (Reduce, Scan)) and op.result.tile.rank:
            ends = list(self.of(op.result))
            if isinstance(op, Reduce):
                ends.insert(op.axis, ALL)
            ends[op.axis] = ALL
            self._need(op.x, ends)
        else:
            self._of_elements(op)

    def _of_elements(self, op: Operation) -> None:
        """Operands of operations whose elements come from single elements; all of the others' operands are needed."""
        if not (isinstance(op, (Elementwise, Broadcast, Transpose, ConvertLayout, Load)) or
                (isinstance(op, Reshape) and keeps_dimensions(op))):
            self._need_all(op.operands)
            return
        for result in op.results:
            if result.tile.is_scalar:
                self._need_all(op.operands)
                continue
            for operand in op.operands:
                if isinstance(operand.type, TileType) and not operand.tile.is_scalar:
                    self._need(operand, _source_ends(op, operand, self.of(result)))

    def _of_regions(self, op: For | If) -> None:
        for i, result in enumerate(op.results):
            if result.tile.is_scalar:
                continue
            ends = self.of(result)
            if isinstance(op, For):
                carried = op.carried[i]
                ends = [_joined(a, b) for a, b in zip(ends, self.of(carried), strict=True)]
                self._need(op.init[i], ends)
            for region in op.regions:
                self._need(region.terminator.operands[i], ends)
        for region in op.regions:
            self._walk(region)

    # Where arrays end.

    def _end(self, view: Value, axis: int, offset: Value) -> End:
        bound, start = self._bound(view, axis), self._scalar(offset)
        return ALL if bound is None or start is None else ("sub", bound, start)

    def _bound(self, view: Value, axis: int) -> End | None:
        """From which index on a view has nothing, at most."""
        if view in self.arguments:
            return self.extents.get((view, axis), ("extent", view, axis))
        op = view.defining
        if isinstance(op, PermuteView):
            return self._bound(op.view, op.permutation[axis])
        if isinstance(op, CutView):
            return self._bound(op.view, axis)
        if isinstance(op, Subview):
            d = [d for d in range(op.view.view.rank) if d not in op.dropped][axis]
            bound, start = self._bound(op.view, d), self._scalar(op.starts[d])
            return None if bound is None or start is None else ("sub", bound, start)
        if isinstance(op, CollapseView) and op.view in self.arguments:
            first = sum(op.groups[:axis])
            bound = self._bound(op.view, first)
            for d in range(first + 1, first + op.groups[axis]):
                bound = "mul", bound, self._bound(op.view, d)
            return bound
        return None

    def _scalar(self, value: Value) -> End | None:
        """An expression for a scalar that can be computed anywhere in the kernel."""
        if value in self.arguments:
            return "value", value
        op = value.defining
        if isinstance(op, Const):
            return "const", op.value, op.dtype
        if isinstance(op, (GridIndex, GridSize)):
            return "grid", type(op), op.axis
        if isinstance(op, Dim):
            return self._bound(op.view, op.axis) if op.view in self.arguments else None
        if isinstance(op, _SCALAR):
            operands = tuple(self._scalar(o) for o in op.operands)
            return None if None in operands else ("op", type(op), tuple(op.attributes.items()), operands)
        return None


def _cut(op: Store, ends: list[End]) -> list[End]:
    """The ends of what is stored, given those of its array: a part of a block needs no more than its rows."""
    cut = op.view.defining
    if isinstance(cut, CutView) and op.offsets[cut.axis] is cut.start:
        ends[cut.axis] = ("value", cut.count)
    return ends


def _named_extents(kernel: Function) -> dict[tuple[Value, int], End]:
    """The extents of arrays whose dimensions have names: those of one name are the same."""
    first: dict[str, End] = {}
    found: dict[tuple[Value, int], End] = {}
    for view, parameter in zip(kernel.body.args, kernel.parameters, strict=True):
        for axis, name in enumerate(parameter.dims or ()):
            if isinstance(name, str):
                found[view, axis] = first.setdefault(name, ("extent", view, axis))
    return found


def _source_ends(op: Operation, operand: Value, ends: Sequence[End]) -> list[End]:
    """The ends along an operand's dimensions. Whether the only elements along dimensions of a reshape's result are
    needed says that about those of its operand, in whatever order."""
    dims = source_dims(op, operand, tuple(range(len(ends))))
    ones = iter([e for e, n in zip(ends, op.shape, strict=True) if n == 1 and e != ALL]
                if isinstance(op, Reshape) else ())
    return [next(ones, ALL) if d is None else ends[d] for d in dims]


def stops_of(self: BlockLowering, value: Value) -> list[Number]:
    """Where the elements that are needed end, along each dimension of a tile."""
    stops: list[Number] = list(value.tile.shape)
    for d, end in enumerate(self.demand.ends.get(value, ())):
        if end not in (NOTHING, ALL):
            stops[d] = self.c.max(self.c.min(_number(self, end), stops[d]), 0)
    return stops


def _number(self: BlockLowering, end: End) -> Number:
    found: Number = self.c.once(("end", end), lambda: _computed(self, end))
    return found


def _computed(self: BlockLowering, end: End) -> Number:
    c, kind = self.c, end[0]
    if kind == "sub":
        return c.sub(_number(self, end[1]), _number(self, end[2]))
    if kind == "mul":
        return c.mul(_number(self, end[1]), _number(self, end[2]))
    if kind == "extent":
        extent: Number = self.views[end[1]].extents[end[2]]
        return extent
    return c.number(_scalar_value(self, end))


def _scalar_value(self: BlockLowering, end: End) -> Value:
    c, kind = self.c, end[0]
    if kind == "value":
        return self.scalars[end[1]]
    if kind == "const":
        return c.const(end[1], end[2])
    if kind == "extent":
        return c.value(_number(self, end))
    if kind == "grid":
        return self.grid_number(end[1], end[2])
    names = [name for name, _ in end[1].OPERAND_FIELDS]
    operands = {name: _scalar_value(self, operand) for name, operand in zip(names, end[3], strict=True)}
    return c.computed(end[1](**dict(end[2]), **operands))


__all__ = ["Demand", "stops_of"]
