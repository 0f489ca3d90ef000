"""How much of a dimension is real: tiles that are one and the same beyond a run-time index are computed up to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeGuard

from tilus.ir.codebooks import reads_as_zero
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Fma,
    Iota,
    Load,
    Reshape,
    Select,
    Transpose,
    Unary,
)
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.movements import keeps_dimensions, source_dims
from tilus.lowering.cpu.values import Buffer, Lazy, Number, Window


def mask_of(op: Operation | None, neutral: bool | int | float) -> tuple[Select, Compare] | None:
    """The selection that an operation is and the comparison behind its condition, where that lets elements whose
    numbers are below a limit count, and the others are ``neutral``."""
    if not isinstance(op, Select) or not _is_constant(op.y, neutral):
        return None
    inside = op.condition
    while isinstance(inside.defining, (Broadcast, Reshape)):
        inside = inside.defining.x
    compare = inside.defining
    if not isinstance(compare, Compare) or compare.kind != "lt" or sum(n > 1 for n in inside.tile.shape) > 1:
        return None
    return op, compare


def limited(self: BlockLowering, x: Value, axis: int, neutral: bool | int | float) -> tuple[Value, Number] | None:
    """What a tile is before a run-time index along ``axis``, and that index, where from there on it is ``neutral``."""
    rep = self.reps[x]
    found = mask_of(rep.op, neutral) if isinstance(rep, Lazy) else None
    if found is None:
        return None
    select, compare = found
    move = select.condition.defining
    while isinstance(move, (Broadcast, Reshape)):
        source = move.x.tile.shape
        if isinstance(move, Reshape):
            if not keeps_dimensions(move) or move.shape[axis] == 1:
                return None
            axis = [d for d, n in enumerate(source) if n != 1][len([n for n in move.shape[:axis] if n != 1])]
        elif not source or source[axis] == 1:
            return None
        move = move.x.defining
    offset, limit = _first(self, compare.lhs, axis), _splat(self, compare.rhs)
    return None if offset is None or limit is None else (select.x, self.c.sub(limit, offset))


def _is_constant(value: Value, wanted: bool | int | float) -> bool:
    while isinstance(value.defining, Broadcast):
        value = value.defining.x
    if not isinstance(value.defining, Const):
        return False
    found = value.defining.value
    return found == wanted or (_is_nan(found) and _is_nan(wanted))


def _is_nan(x: bool | int | float) -> TypeGuard[float]:
    return isinstance(x, float) and math.isnan(x)


def _splat(self: BlockLowering, value: Value) -> Number | None:
    """The number that all elements of an integer tile are, where it is one of the program's."""
    while isinstance(value.defining, (Broadcast, Reshape, Transpose)) and not value.tile.is_scalar:
        value = value.defining.x
    if isinstance(value.defining, Const):
        return int(value.defining.value)
    return self.c.number(self.c.cast(self.scalars[value], i64)) if value.tile.is_scalar else None


def _first(self: BlockLowering, index: Value, axis: int = 0) -> Number | None:
    """The first of numbers that are consecutive along ``axis`` and the same along other dimensions."""
    op = index.defining
    if isinstance(op, Iota):
        return 0 if op.axis == axis else None
    if isinstance(op, (Broadcast, Reshape, Transpose)):
        source = source_axis(op, axis)
        return None if source is None else _first(self, op.x, source)
    if isinstance(op, Binary) and op.kind == "add":
        for one, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            first = _first(self, one, axis)
            more = None if first is None else _splat(self, other)
            if first is not None and more is not None:
                return self.c.add(first, more)
    return None


def source_axis(op: Broadcast | Reshape | Transpose, axis: int) -> int | None:
    """The dimension of the operand that ``axis`` of the result is; None where the elements along it are one."""
    source = op.x.tile.shape
    if isinstance(op, Transpose):
        return op.permutation[axis]
    if isinstance(op, Broadcast):
        return axis if source and source[axis] == op.shape[axis] else None
    if op.shape[axis] == 1:
        return None
    return [d for d, n in enumerate(source) if n != 1][len([n for n in op.shape[:axis] if n != 1])]


class Uniform:
    """From which index on all elements of tiles are one and the same along a dimension. ``beyond`` are the dimensions
    along which only what is beyond the arrays' ends is asked about."""

    def __init__(self, lowering: BlockLowering, beyond: frozenset[int] = frozenset()) -> None:
        self.lowering = lowering
        self.beyond = beyond
        self.found: dict[tuple[Value, int, frozenset[int]], Number | None] = {}

    def start(self, value: Value, axis: int) -> Number | None:
        """The index for an axis of a tile; None where it is not known."""
        return self._start(value, axis, self.beyond, 0)

    def constant(self, value: Value, axis: int) -> int | float | bool | None:
        """What the elements are from the start on, where that is a constant: 0 or what loads give beyond arrays."""
        rep = self.lowering.reps.get(value)
        op = value.defining if rep is None else rep.op if isinstance(rep, Lazy) else None
        if isinstance(op, Const):
            return op.value
        if isinstance(op, Load):
            return 0 if op.other is None else self.constant(op.other, axis)
        if isinstance(op, Cast) and op.dtype.is_float and op.x.tile.dtype.is_float:
            found = self.constant(op.x, axis)
            return found if found is None or found in (0, math.inf, -math.inf) else None
        if isinstance(op, Select):
            holds = self._holds(op.condition, axis)
            return None if holds is None else self.constant(op.x if holds else op.y, axis)
        if isinstance(op, (Broadcast, Reshape, Transpose)):
            source = source_axis(op, axis) if op.x.tile.shape else 0
            return None if source is None else self.constant(op.x, source)
        return None

    def _start(self, value: Value, axis: int, beyond: frozenset[int], depth: int) -> Number | None:
        if value.tile.is_scalar or value.tile.shape[axis] == 1:
            return 0
        key = value, axis, beyond
        if key not in self.found:
            self.found[key] = None if depth > _DEEPEST else self._compute(value, axis, beyond, depth + 1)
        return self.found[key]

    def _compute(self, value: Value, axis: int, beyond: frozenset[int], depth: int) -> Number | None:
        rep = self.lowering.reps[value]
        if isinstance(rep, Buffer):
            return rep.ends.get(axis)
        if isinstance(rep.op, Reshape) and not keeps_dimensions(rep.op):
            return None
        op = rep.op
        if isinstance(op, Const):
            return 0
        if isinstance(op, Iota):
            return None if op.axis == axis else 0
        if isinstance(op, (Broadcast, Reshape, Transpose)):
            source = source_axis(op, axis)
            if source is None:
                return 0
            kept = {source_axis(op, d) for d in beyond}
            return self._start(op.x, source, frozenset(d for d in kept if d is not None), depth)
        if isinstance(op, Load):
            return self._load(op, rep.window, axis, beyond, depth)
        if isinstance(op, Compare):
            change = self.change(op, axis)
            if change is not None:
                return change[0]
        if isinstance(op, Select):
            return self._select(op, axis, beyond, depth)
        if isinstance(op, (Unary, Binary, Compare, Cast, Bitcast, Fma)):
            return self._latest([self._start(o, axis, beyond, depth) for o in op.operands])
        return None

    def _latest(self, starts: list[Number | None]) -> Number | None:
        latest: Number = 0
        for start in starts:
            if start is None:
                return None
            latest = start if latest == 0 else latest if start == 0 else self.lowering.c.max(latest, start)
        return latest

    def _load(self, op: Load, window: Window | None, axis: int, beyond: frozenset[int], depth: int) -> Number | None:
        assert window is not None
        if window.full is None or window in self.lowering.full_windows or window.memory.packed:
            return None
        high = 0 if any(window.highs[d] is not None for d in beyond) else window.highs[axis]
        masked = 0 if op.mask is None else self._start(op.mask, axis, beyond, depth)
        return self._latest([high, masked])

    def _select(self, op: Select, axis: int, beyond: frozenset[int], depth: int) -> Number | None:
        start = self._start(op.condition, axis, beyond, depth)
        holds = None if start is None else self._holds(op.condition, axis)
        taken = [op.x, op.y] if holds is None else [op.x if holds else op.y]
        return self._latest([start, *(self._start(v, axis, beyond, depth) for v in taken)])

    def _holds(self, condition: Value, axis: int) -> bool | None:
        """What a condition is from where it is uniform on, as far as that is known."""
        op = condition.defining
        while isinstance(op, (Broadcast, Reshape, Transpose)):
            source = source_axis(op, axis)
            if source is None:
                return None
            axis, op = source, op.x.defining
        change = self.change(op, axis) if isinstance(op, Compare) else None
        return None if change is None else change[1]

    def change(self, op: Compare, axis: int) -> tuple[Number, bool] | None:
        """From where on consecutive numbers compare with one number as all later ones do, and how."""
        self_ = self.lowering
        dtype = op.lhs.tile.dtype
        if not dtype.is_int or op.kind not in _KIND_OF_TURNED:
            return None
        for numbers, other, kind in ((op.lhs, op.rhs, op.kind), (op.rhs, op.lhs, _KIND_OF_TURNED[op.kind])):
            if not rises(self_, numbers):
                continue
            first = _first(self_, numbers, axis)
            limit = None if first is None else _splat(self_, other)
            if first is not None and limit is not None:
                change = self_.c.add(self_.c.sub(limit, first), 0 if kind in ("lt", "ge") else 1)
                return change, kind in ("gt", "ge", "ne")
        return None


_DEEPEST = 100
_KIND_OF_TURNED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


def rises(self: BlockLowering, numbers: Value) -> bool:
    """Whether consecutive numbers do not wrap around, of a type that i64 holds."""
    dtype = numbers.tile.dtype
    if dtype is i64:
        return True
    fact = self.facts.of(numbers)
    return dtype.bits < 64 and dtype.min_value < fact.low and fact.high < dtype.max_value


def ends_of(self: BlockLowering, value: Value, dims: tuple[int | None, ...]) -> Iterator[tuple[Number, int]]:
    """From where on a lazy tile is zero because an array ends, along which of the consumer's dimensions."""
    rep = self.reps[value]
    op = rep.op if isinstance(rep, Lazy) else None
    if not reads_as_zero(value.tile.dtype):
        return
    if isinstance(op, (Cast, Transpose)):
        yield from ends_of(self, op.x, source_dims(op, op.x, dims))
    elif isinstance(op, Binary) and op.kind == "mul":
        for operand in (op.lhs, op.rhs):
            yield from ends_of(self, operand, dims)
    elif isinstance(op, Load) and op.other is None and isinstance(rep, Lazy) and rep.window is not None:
        for high, dim in zip(rep.window.highs, dims, strict=True):
            if high is not None and dim is not None:
                yield high, dim


__all__ = ["Uniform", "ends_of", "limited", "mask_of", "rises", "source_axis"]
