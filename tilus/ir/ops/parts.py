"""Blocks that are done in parts: each stores some of the rows of its block's tiles (``lowering/divide_blocks.py``).

A block needs so many rows (or columns, or whatever a dimension is). Its parts have about the same number of them, and
begin at multiples of a step. No part has fewer than ``least`` rows, unless the block has: then some parts are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.families import DerivedView
from tilus.ir.types import TileType, Type


class PartEdge(Operation):
    """A row of a block's tiles, as i64: of the ``needed`` ones (i64), of which no tile has more than ``extent``."""

    if TYPE_CHECKING:
        needed: Value
        extent: int
        step: int
        least: int

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class PartStart(PartEdge):
    """The row at which the part begins."""

    NAME = "part_start"
    needed: Value
    extent: int
    step: int
    least: int


class PartStop(PartEdge):
    """The row before which the part ends. Nothing that follows in the kernel is done of a part without rows."""

    NAME = "part_stop"
    needed: Value
    extent: int
    step: int
    least: int


class CutView(DerivedView):
    """A view of which no elements from ``count`` after ``start`` on along ``axis`` are in bounds (i64 scalars)."""

    NAME = "cut_view"
    view: Value
    axis: int
    start: Value
    count: Value

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        if not 0 <= self.axis < view.rank:
            self.fail("E0204", f"{view} has no dimension {self.axis}")
        return (view,)


__all__ = ["CutView", "PartEdge", "PartStart", "PartStop"]
