"""Comparisons of indices of 64 bits, of which vectors have none: what is the same for all elements goes to one side.

``tile + x < other + y`` is ``tile - other < y - x``, where the difference of the tiles fits in 32 bits, and the scalar
unit computes the other one; beyond the first one's range it is as good as at its end.
"""

from __future__ import annotations

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Broadcast, Cast, Compare, Const, Reshape
from tilus.ir.rewriter import erase_dead, replace_values
from tilus.lowering.facts import Fact, Facts, kernel_facts


def narrow_comparisons(function: Function, launch: Function | None) -> Facts:
    """Rewrite the comparisons of a function whose operands may not fit in 32 bits, in place; the facts after that."""
    facts = _facts(function, launch)
    mapping: dict[Value, Value] = {}
    _block(function.body, facts, mapping)
    if not mapping:
        return facts
    replace_values(function.body, mapping)
    erase_dead(function)
    return _facts(function, launch)


def _facts(function: Function, launch: Function | None) -> Facts:
    return next(iter(kernel_facts(Module([function], launch))))[1]


def _block(block: Block, facts: Facts, mapping: dict[Value, Value]) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _block(region, facts, mapping)
        if isinstance(op, Compare) and op.lhs.tile.dtype is i64 and op.lhs.tile.shape and not (
                facts.of(op.lhs).fits(32) and facts.of(op.rhs).fits(32)):
            _narrow(op, ops, facts, mapping)
        ops.append(op)
    block.ops = ops


def _narrow(op: Compare, ops: list[Operation], facts: Facts, mapping: dict[Value, Value]) -> None:
    made = _taken_apart(op, ops, facts, wholly=False)
    if not made.fits:
        made = _taken_apart(op, ops, facts, wholly=True)
    if not made.fits:
        return
    tile, number = made.tile(), made.number()
    low, high = made.range
    limits = [made.emit(Const(n, i64, span=op.span)) for n in (low - 1, high + 1)]
    number = made.emit(Binary("max", number, limits[0], span=op.span))
    number = made.emit(Binary("min", number, limits[1], span=op.span))
    spread = made.emit(Broadcast(number, op.lhs.tile.shape, span=op.span))
    mapping[op.result] = made.emit(Compare(op.kind, tile, spread, span=op.span))


def _taken_apart(op: Compare, ops: list[Operation], facts: Facts, *, wholly: bool) -> _Sum:
    made = _Sum(ops, facts, op, wholly=wholly)
    made.add(op.lhs, 1)
    made.add(op.rhs, -1)
    return made


class _Sum:
    """A sum of tiles, of elements that fit in 32 bits, and of scalars. Tiles that fit are taken apart where all are
    (``wholly``), and are terms as they are elsewhere."""

    def __init__(self, ops: list[Operation], facts: Facts, op: Compare, *, wholly: bool) -> None:
        self.ops, self.facts, self.op, self.wholly = ops, facts, op, wholly
        self.shape = op.lhs.tile.shape
        self.tiles: list[tuple[Value, int]] = []
        self.scalars: list[tuple[Value, int]] = []
        self.fits = True
        self.low = self.high = 0

    @property
    def range(self) -> tuple[int, int]:
        return self.low, self.high

    def emit(self, op: Operation) -> Value:
        self.ops.append(op)
        return op.results[0]

    def add(self, value: Value, sign: int) -> None:
        """Take apart what is a sum; what is the same for all elements goes to the scalars."""
        uniform = uniform_scalar(value)
        if uniform is not None:
            self.scalars.append((uniform, sign))
            return
        op = value.defining
        apart = self.wholly or not self.facts.of(value).fits(32)
        if isinstance(op, Binary) and op.kind in ("add", "sub") and apart:
            self.add(op.lhs, sign)
            self.add(op.rhs, sign if op.kind == "add" else -sign)
        elif isinstance(op, (Broadcast, Reshape)) and apart:
            self._moved(op, sign)
        else:
            self._tile(value, sign, self.facts.of(value))

    def _moved(self, op: Broadcast | Reshape, sign: int) -> None:
        """The terms of a tile of another shape."""
        inner = _Sum(self.ops, self.facts, self.op, wholly=self.wholly)
        inner.add(op.x, sign)
        self.scalars += inner.scalars
        self.fits &= inner.fits
        self.low, self.high = self.low + inner.low, self.high + inner.high
        for value, of in inner.tiles:
            shape = op.results[0].tile.shape
            copy = type(op)(value, shape, span=op.span)
            self.tiles.append((self.emit(copy), of))

    def _tile(self, value: Value, sign: int, fact: Fact) -> None:
        low, high = (fact.low, fact.high) if sign > 0 else (-fact.high, -fact.low)
        self.low, self.high = self.low + low, self.high + high
        self.fits &= fact.fits(32) and self.low - 1 > -(1 << 31) and self.high + 1 < 1 << 31
        self.tiles.append((value, sign))

    def tile(self) -> Value:
        if not self.tiles:
            return self.emit(Const(0, i64, self.shape, span=self.op.span))
        self.tiles.sort(key=lambda term: -term[1])
        first, sign = self.tiles[0]
        total = first
        if sign < 0:
            zero = self.emit(Const(0, i64, first.tile.shape, span=self.op.span))
            total = self.emit(Binary("sub", zero, first, span=self.op.span))
        for value, of in self.tiles[1:]:
            total = self.emit(Binary("add" if of > 0 else "sub", total, value, span=self.op.span))
        return total

    def number(self) -> Value:
        """The scalars, of the other side."""
        total = self.emit(Const(0, i64, span=self.op.span))
        for value, sign in self.scalars:
            wide = value if value.tile.dtype is i64 else self.emit(Cast(value, i64, span=self.op.span))
            total = self.emit(Binary("sub" if sign > 0 else "add", total, wide, span=self.op.span))
        return total


def uniform_scalar(value: Value) -> Value | None:
    """The scalar that all elements are."""
    while True:
        if value.tile.is_scalar:
            return value
        op = value.defining
        if isinstance(op, Const):
            return None
        if isinstance(op, Cast) and not op.x.tile.dtype.is_float:
            inner = uniform_scalar(op.x)
            return inner if inner is not None and op.dtype is i64 else None
        if not isinstance(op, (Broadcast, Reshape)):
            return None
        value = op.x


__all__ = ["narrow_comparisons", "uniform_scalar"]
