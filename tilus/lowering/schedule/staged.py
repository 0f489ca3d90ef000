"""A loop and its loads that go through rings: what the planning of its schedule and its carrying out both ask."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from tilus.ir.core import Function, Operation, Value
from tilus.ir.families import DerivedView
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Compare,
    Const,
    Dim,
    Dot,
    For,
    Gather,
    Iota,
    Load,
    Reshape,
    Subview,
    TileBytes,
)
from tilus.lowering.facts import Facts

Staged = Load | Gather


class Extents:
    """Which extents of a function's arrays are known to be equal: those that are declared with one name."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.dims: dict[Value, tuple[Any, ...]] = {
            v: p.dims for v, p in zip(function.body.args, function.parameters, strict=True) if p.kind == "array"
        }

    @functools.cached_property
    def facts(self) -> Facts:
        """For the few loops that do not begin at a constant."""
        return Facts(self.function)

    def is_negative(self, value: Value) -> bool:
        """Whether a number may be less than 0."""
        maker = value.defining
        return int(maker.value) < 0 if isinstance(maker, Const) else self.facts.of(value).low < 0

    def same_extent(self, value: Value, view: Value, axis: int) -> bool:
        """Whether ``value`` is at most the extent of ``view`` along ``axis``."""
        maker = value.defining
        if isinstance(maker, Binary) and maker.kind == "min":
            return self.same_extent(maker.lhs, view, axis) or self.same_extent(maker.rhs, view, axis)
        inner = _rounded_down(maker)
        if inner is not None:
            return self.same_extent(inner, view, axis)
        if isinstance(maker, Const) and view.view.shape[axis] is not None:
            return int(maker.value) <= int(view.view.shape[axis] or 0)
        return self.is_extent(value, view, axis)

    def is_extent(self, value: Value, view: Value, axis: int) -> bool:
        """Whether ``value`` is known to be the extent of ``view`` along ``axis``."""
        maker = value.defining
        if isinstance(maker, Const):
            return int(maker.value) == view.view.shape[axis]
        if not isinstance(maker, Dim):
            return False
        if maker.view is view and maker.axis == axis:
            return True
        mine = self.dim_name(view, axis)
        return mine is not None and mine == self.dim_name(maker.view, maker.axis)

    def dim_name(self, view: Value, axis: int) -> Any:
        """The declared name of a view's dimension, followed through views that keep it whole."""
        while view not in self.dims:
            op = view.defining
            if not isinstance(op, Subview):
                return None
            kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
            axis = kept[axis]
            start, extent = op.starts[axis].defining, op.extents[axis].defining
            whole = isinstance(start, Const) and start.value == 0 and isinstance(extent, Dim)
            if not whole:
                return None
            assert isinstance(extent, Dim)
            if (
                extent.view in self.dims
                and self.dims[extent.view][extent.axis] == self.dims.get(op.view, {axis: None})[axis]
            ):
                view = op.view
                continue
            if extent.view is not op.view:
                return None
            view = op.view
        dims = self.dims[view]
        return dims[axis] if dims else None


class StagedLoop:
    """A loop with the loads of its body that are staged."""

    def __init__(self, loop: For, loads: list[Staged], extents: Extents) -> None:
        self.loop, self.loads, self.extents = loop, loads, extents
        self.addresses = only_addresses(loop, loads)

    def holds_in_whole_tiles(self, op: Compare) -> bool:
        """Whether the comparison is ``index + i < stop`` for i below the step: the mask of the last, partial tile."""
        step = self.loop.step.defining
        if op.kind not in ("lt", "gt") or not isinstance(step, Const) or int(step.value) <= 0:
            return False
        position, limit = (op.lhs, op.rhs) if op.kind == "lt" else (op.rhs, op.lhs)
        limit = _unbroadcast(limit)
        same = limit is self.loop.stop or self._same_number(limit, self.loop.stop)
        return same and self._reach(_unbroadcast(position)) <= int(step.value)

    def _same_number(self, x: Value, y: Value) -> bool:
        a, b = x.defining, y.defining
        if isinstance(a, Dim) and isinstance(b, Dim):
            first, second = self.extents.dim_name(a.view, a.axis), self.extents.dim_name(b.view, b.axis)
            return first is not None and first == second
        return isinstance(a, Const) and isinstance(b, Const) and a.value == b.value

    def _reach(self, value: Value) -> float:
        """How far a position is from the index at most, plus one; infinite where it is not index + iota."""
        if value is self.loop.index:
            return 1
        maker = value.defining
        if not isinstance(maker, Binary) or maker.kind != "add":
            return float("inf")
        for x, y in ((maker.lhs, maker.rhs), (maker.rhs, maker.lhs)):
            iota = _unbroadcast(y).defining
            if isinstance(iota, Iota) and _unbroadcast(x) is self.loop.index:
                return iota.shape[iota.axis]
        return float("inf")

    def bounded(self, load: Load | Gather) -> tuple[int, ...]:
        """Dimensions along which a whole tile is in bounds: those that the index walks up to their extent."""
        if isinstance(load, Gather):
            return ()
        if any(any(window is op for op in self.loop.body.ops) for window in windows(load.view)):
            return ()
        found = []
        for d, unit, view, axis in self._walked(load):
            if self.within_a_step(load, d, unit) and self.extents.same_extent(self.loop.stop, view, axis) \
                    and not self.extents.is_negative(self.loop.start):
                found.append(d)
        return tuple(found)

    def ends_with_array(self, load: Load | Gather) -> bool:
        """Whether what lies past the loop's end lies past the end of the load's array."""
        if isinstance(load, Gather):
            return False
        return any(self.extents.is_extent(self.loop.stop, view, axis) for _, _, view, axis in self._walked(load))

    def _walked(self, load: Load) -> Iterator[tuple[int, int, Value, int]]:
        """Dimensions of a load that the index walks along: each with how many elements one index is, and with the view
        and the axis that it is an index of."""
        for d, offset in enumerate(load.offsets):
            tiles = load.view.defining
            if isinstance(tiles, TileBytes) and d == load.view.view.rank - 1:
                if self.is_row(offset, tiles.row_bytes):
                    yield d, tiles.row_bytes, tiles.view, d - 1
            elif offset is self.loop.index:
                yield d, 1, load.view, d

    def within_a_step(self, load: Load, d: int, unit: int = 1) -> bool:
        """Whether a load's tile is no longer along a dimension than the loop's step, in elements of which ``unit`` are
        those of one index."""
        step = self.loop.step.defining
        return isinstance(step, Const) and load.result.tile.shape[d] <= int(step.value) * unit

    def is_row(self, offset: Value, row_bytes: int) -> bool:
        """Whether an offset in bytes is where the row of the loop's index begins."""
        maker = offset.defining
        if not isinstance(maker, Binary) or maker.kind != "mul" or maker.lhs is not self.loop.index:
            return False
        return isinstance(maker.rhs.defining, Const) and int(maker.rhs.defining.value) == row_bytes

    def dots(self) -> list[Dot]:
        return [op for op in self.loop.body.ops if isinstance(op, Dot)]


def only_addresses(loop: For, staged: list[Staged]) -> set[Operation]:
    """The operations of the loop's body that nothing but the addresses of staged gathers and the masks of staged loads
    needs: they are done where the copies start."""
    gathers = {op for op in staged if isinstance(op, Gather) or op.mask is not None}
    needed: set[Value] = set()
    only: set[Operation] = set()
    for op in reversed(loop.body.ops):
        pure = not op.regions and all(e.kind == "read" for e in op.effects())
        if op not in gathers and pure and op.results and not needed.intersection(op.results):
            only.add(op)
        elif op not in gathers:
            needed.update(v for inner in op.walk() for v in inner.operands)
    return only if gathers else set()


def windows(view: Value) -> list[Subview]:
    """The windows between an array and a view of it in which dimensions are dropped."""
    found = []
    op = view.defining
    while isinstance(op, DerivedView):
        if isinstance(op, Subview) and op.dropped:
            found.append(op)
        op = op.view.defining
    return found


def _unbroadcast(value: Value) -> Value:
    """The value that broadcasts and reshapes spread."""
    while isinstance(value.defining, (Broadcast, Reshape)):
        value = value.defining.x
    return value


def _rounded_down(op: Operation | None) -> Value | None:
    """What ``x // c * c`` rounds down, and ``max(x, 0)`` of what may be negative: values that are at most ``x`` where
    that is an extent."""
    if not isinstance(op, Binary) or not isinstance(op.rhs.defining, Const):
        return None
    constant = int(op.rhs.defining.value)
    if op.kind == "max" and constant == 0:
        return op.lhs
    quotient = op.lhs.defining
    if op.kind != "mul" or constant <= 0 or not isinstance(quotient, Binary) or quotient.kind != "floordiv":
        return None
    divisor = quotient.rhs.defining
    return quotient.lhs if isinstance(divisor, Const) and int(divisor.value) == constant else None


__all__ = ["Extents", "Staged", "StagedLoop", "only_addresses", "windows"]
