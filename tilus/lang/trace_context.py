"""Where operations go while a kernel is traced: into the current block of its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UNKNOWN_SPAN, Span, UserError
from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import i32, i64
from tilus.ir.ops import GridIndex
from tilus.ir.types import ViewType
from tilus.lang import regions
from tilus.lang.capture import CapturedFunction
from tilus.lang.heap import Heap
from tilus.lang.reads import Reads
from tilus.lang.values import Tile, constant

if TYPE_CHECKING:
    from tilus.targets import Target


class TraceContext:
    """Appends operations to the current block of a function being traced.

    ``tracer`` makes what traces a function of the user's at a depth of calls: the bodies of map, reduce and scan.
    """

    level = "tile"

    def __init__(self, tracer: Callable[[CapturedFunction, TraceContext, int], Any], target: Target | None = None,
                 reads: Reads | None = None) -> None:
        self.tracer = tracer
        self.span: Span = UNKNOWN_SPAN
        self.target = target
        self.block = Block()
        self.grid_extents: tuple[Tile, ...] | None = None
        self.grid_span: Span = UNKNOWN_SPAN
        self.workspaces: list[tuple[tuple[Tile, ...], Any, bool, Value]] = []
        self.attributes = Attributes()
        self._grid_counter: Value | None = None
        self.inlined = 0  # nesting of calls of functions defined in the kernel
        self.depth = 0  # nesting of run-time control flow
        self.asks_resident_blocks = False
        self.heap = Heap()
        self.reads = Reads() if reads is None else reads

    def emit(self, op: Operation) -> tuple[Value, ...]:
        self.block.ops.append(op)
        return op.results

    def concrete(self, value: Value) -> Any:
        return None

    def declare_grid(self, extents: tuple[Tile, ...]) -> tuple[Tile, ...]:
        if self.grid_extents is not None:
            raise UserError.at("E0106", "tl.grid appears twice", self.span,
                               help="declare all axes of the grid in one call; a kernel that is called in a kernel is "
                                    "inlined, and declares none")
        if self.depth:
            raise UserError.at("E0106", "tl.grid stands inside run-time control flow", self.span,
                               help="call tl.grid at the top level of the kernel")
        if not 1 <= len(extents) <= 3:
            raise UserError.at("E0107", f"a grid has one to three axes, not {len(extents)}", self.span)
        self.grid_extents, self.grid_span = extents, self.span
        return tuple(Tile(self.emit(GridIndex(axis, span=self.span))[0]) for axis in range(len(extents)))

    def declare_block(self, **attributes: Any) -> None:
        if self.depth:
            raise UserError.at("E0106", "tl.block stands inside run-time control flow", self.span,
                               help="call tl.block at the top level of the kernel")
        self.attributes = replace(self.attributes, **attributes)

    def declare_workspace(self, extents: tuple[Tile, ...], dtype: Any, zero: bool) -> Value:
        if self.depth:
            raise UserError.at("E0106", "tl.workspace stands inside run-time control flow", self.span)
        return self._add_workspace(extents, dtype, zero)

    def _add_workspace(self, extents: tuple[Tile, ...], dtype: Any, zero: bool) -> Value:
        value = Value(ViewType(dtype, (None,) * len(extents)), f"workspace{len(self.workspaces)}")
        self.workspaces.append((extents, dtype, zero, value))
        return value

    def grid_counter(self) -> Value | None:
        if self.target is None or not self.target.is_cuda:
            return None
        if self._grid_counter is None:
            self._grid_counter = self._add_workspace((constant(1, i64),), i32, True)
        return self._grid_counter

    def declare_alias(self, names: tuple[str, ...]) -> None:
        self.attributes.may_alias = tuple(dict.fromkeys((*self.attributes.may_alias, *names)))

    def map_elements(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        return regions.map_elements(self, function, xs)

    def combine_along(self, combine: Any, xs: list[Tile], axis: int, reverse: bool | None) -> list[Tile]:
        return regions.combine_along(self, combine, xs, axis, reverse)
