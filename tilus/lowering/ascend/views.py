"""Views of global memory: where they begin, and which indices are in bounds."""

from __future__ import annotations

from collections.abc import Callable

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Value
from tilus.ir.families import DerivedView
from tilus.ir.ops import CollapseView, Dim, PermuteView, Subview
from tilus.ir.ops.memory import split_dims
from tilus.lowering.ascend.core import Core, Scalar
from tilus.lowering.facts import Facts
from tilus.records import record


@record(frozen=True, slots=True)
class GlobalView:
    """A view: ``pointer`` is the parameter's, from where it begins ``offset`` elements on. Along each dimension
    indices from ``lows`` up to, and without, ``highs`` are in bounds."""

    pointer: Value
    offset: Scalar
    lows: tuple[Scalar, ...]
    highs: tuple[Scalar, ...]
    strides: tuple[Scalar, ...]


def tile_name(tile: Value, view: Value) -> str:
    """What a tile of a view is called: as the user does, or as that of the array."""
    while isinstance(view.defining, DerivedView):
        view = view.defining.view
    return tile.name or (f"{view.name}Tile" if view.name else "")


class Views:
    """The views of a kernel. ``arrays`` are those of its parameters, ``scalar`` gives the scalars of the tile
    program."""

    def __init__(self, core: Core, facts: Facts, arrays: dict[Value, GlobalView],
                 scalar: Callable[[Value], Value]) -> None:
        self.core, self.facts, self.arrays = core, facts, arrays
        self.scalar = scalar

    def of(self, value: Value) -> GlobalView:
        """The view of a value; its arithmetic is written where it is first asked for in the block at hand."""
        found = self.arrays.get(value)
        if found is not None:
            return found
        op = value.defining
        if isinstance(op, Subview):
            return self._subview(op)
        if isinstance(op, PermuteView):
            view = self.of(op.view)
            lows, highs, strides = ([part[p] for p in op.permutation] for part in (view.lows, view.highs, view.strides))
            return GlobalView(view.pointer, view.offset, tuple(lows), tuple(highs), tuple(strides))
        if isinstance(op, CollapseView):
            return self._collapse(op)
        if not isinstance(op, DerivedView):
            raise UnsupportedError.at("E0507", "an array that a branch or a loop chooses is not lowered",
                                      self.core.span, help="load from each array under `if`, or choose an index")
        raise UnsupportedError.at("E0507", f"{op.NAME} is not lowered for this target", op.span)

    def _collapse(self, op: CollapseView) -> GlobalView:
        view, core = self.of(op.view), self.core
        highs: list[Scalar] = []
        for part in split_dims(view.highs, op.groups):
            high: Scalar = 1
            for extent in part:
                high = core.mul(high, extent)
            highs.append(high)
        strides = tuple(part[-1] for part in split_dims(view.strides, op.groups))
        return GlobalView(view.pointer, view.offset, (0,) * len(highs), tuple(highs), strides)

    def _subview(self, op: Subview) -> GlobalView:
        view, core, facts = self.of(op.view), self.core, self.facts
        offset = view.offset
        lows: list[Scalar] = []
        highs: list[Scalar] = []
        strides: list[Scalar] = []
        absent: list[Value] = []
        for d, (start, extent) in enumerate(zip(op.starts, op.extents, strict=True)):
            first = facts.of(start)
            begin = self.number(start)
            offset = core.add(offset, core.mul(begin, view.strides[d]))
            whole = facts.extent(op.view, d)
            if d in op.dropped:
                if not (first.low >= 0 and first.high < whole.low):
                    absent.append(core.compare("lt", begin, view.highs[d]))
                    if first.low < 0:
                        absent.append(core.compare("ge", begin, view.lows[d]))
                continue
            if begin == 0 and self._is_extent(extent, op.view, d):
                high = view.highs[d]
            elif first.high + facts.of(extent).high <= whole.low:
                high = self.number(extent)
            else:
                high = core.min(self.number(extent), core.sub(view.highs[d], begin))
            low = view.lows[d]
            if first.low < 0 or not isinstance(low, int) or low != 0:
                low = core.max(core.sub(low, begin), 0)
            lows.append(low)
            highs.append(high)
            strides.append(view.strides[d])
        for condition in absent:  # an index outside of a dropped dimension: nothing is in bounds
            if highs:
                highs[0] = core.choose(condition, highs[0], 0)
        return GlobalView(view.pointer, offset, tuple(lows), tuple(highs), tuple(strides))

    def number(self, value: Value) -> Scalar:
        fact = self.facts.of(value)
        return fact.low if fact.is_constant else self.scalar(value)

    def _is_extent(self, extent: Value, view: Value, d: int) -> bool:
        maker = extent.defining
        if isinstance(maker, Dim) and maker.view is view and maker.axis == d:
            return True
        mine, whole = self.facts.of(extent), self.facts.extent(view, d)
        return mine.is_constant and mine == whole
