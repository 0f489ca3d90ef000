"""Where operations go while a kernel's body runs: into a block (tracing) or straight to NumPy (the python engine)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from tilus.diagnostics import UNKNOWN_SPAN, Span, UserError
from tilus.diagnostics.frames import caller_span
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import i32, i64

if TYPE_CHECKING:
    from tilus.lang.reads import Reads
    from tilus.lang.values import Tile
    from tilus.targets import Target

_state = threading.local()


class Context(Protocol):
    """Receives the operations of the kernel that is being run.

    ``span`` is the construct being executed, ``level`` that of the operations, ``target`` what they are for (None: the
    engines that run every operation by its meaning); ``grid`` declares the launch grid and gives this block's indices.
    """

    span: Span
    level: str
    target: Target | None
    asks_resident_blocks: bool

    def emit(self, op: Operation) -> tuple[Value, ...]: ...

    def concrete(self, value: Value) -> Any:
        """The value itself where it is known while the body runs, else None."""

    def declare_grid(self, extents: tuple[Tile, ...]) -> tuple[Tile, ...]: ...

    def declare_block(self, **attributes: Any) -> None: ...

    def declare_workspace(self, extents: tuple[Tile, ...], dtype: Any, zero: bool) -> Value: ...

    def declare_alias(self, names: tuple[str, ...]) -> None: ...

    def grid_counter(self) -> Value | None:
        """Where the blocks count themselves at tl.grid_sync, on targets where that takes global memory."""

    def map_elements(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        """``function`` on each element; the results, and whether it gave one value rather than a tuple."""

    def combine_along(self, combine: Any, xs: list[Tile], axis: int, reverse: bool | None) -> list[Tile]:
        """A reduction by ``combine``, or a scan where ``reverse`` is not None."""


class TraceContext:
    """Appends operations to the current block of a function being traced."""

    level = "tile"

    def __init__(self, target: Target | None = None, reads: Reads | None = None) -> None:
        from tilus.lang.heap import Heap
        from tilus.lang.reads import Reads

        self.span: Span = UNKNOWN_SPAN
        self.target = target
        self.block = Block()
        self.grid_extents: tuple[Tile, ...] | None = None
        self.grid_span: Span = UNKNOWN_SPAN
        self.workspaces: list[tuple[tuple[Tile, ...], Any, bool, Value]] = []
        self.attributes: dict[str, Any] = {}
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
        from tilus.ir.ops.sync import GridIndex
        from tilus.lang.values import Tile

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
        self.attributes.update(attributes)

    def declare_workspace(self, extents: tuple[Tile, ...], dtype: Any, zero: bool) -> Value:
        if self.depth:
            raise UserError.at("E0106", "tl.workspace stands inside run-time control flow", self.span)
        return self._add_workspace(extents, dtype, zero)

    def _add_workspace(self, extents: tuple[Tile, ...], dtype: Any, zero: bool) -> Value:
        from tilus.ir.types import ViewType

        value = Value(ViewType(dtype, (None,) * len(extents)), f"workspace{len(self.workspaces)}")
        self.workspaces.append((extents, dtype, zero, value))
        return value

    def grid_counter(self) -> Value | None:
        from tilus.lang.values import constant

        if self.target is None or not self.target.is_cuda:
            return None
        if self._grid_counter is None:
            self._grid_counter = self._add_workspace((constant(1, i64),), i32, True)
        return self._grid_counter

    def declare_alias(self, names: tuple[str, ...]) -> None:
        self.attributes["may_alias"] = tuple(dict.fromkeys((*self.attributes.get("may_alias", ()), *names)))

    def map_elements(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        from tilus.lang import regions

        return regions.map_elements(self, function, xs)

    def combine_along(self, combine: Any, xs: list[Tile], axis: int, reverse: bool | None) -> list[Tile]:
        from tilus.lang import regions

        return regions.combine_along(self, combine, xs, axis, reverse)


def current() -> Context:
    """The context of the kernel being run on this thread. Raises UserError outside of one."""
    context: Context | None = getattr(_state, "context", None)
    if context is None:
        raise UserError.at("E0107", "this function of tilus works only inside a kernel", caller_span(),
                           help="decorate the function that calls it with @tl.jit and call that")
    return context


def active() -> bool:
    return getattr(_state, "context", None) is not None


class use_context:
    """Makes ``context`` the current one for a ``with`` block."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __enter__(self) -> Context:
        self.outer = getattr(_state, "context", None)
        _state.context = self.context
        return self.context

    def __exit__(self, *exception: object) -> None:
        _state.context = self.outer
