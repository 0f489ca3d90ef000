"""Where operations go while a kernel's body runs: into a block (``trace_context.py``) or straight to NumPy (the python
engine)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from tilus.diagnostics import Span, UserError
from tilus.diagnostics.frames import caller_span
from tilus.ir.core import Operation, Value

if TYPE_CHECKING:
    from tilus.lang.values import Tile
    from tilus.targets import Target



class _State(threading.local):
    context: Context | None = None


STATE = _State()
"""Its ``context`` is the current one of the thread."""


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


def current() -> Context:
    """The context of the kernel being run on this thread. Raises UserError outside of one."""
    context: Context | None = STATE.context
    if context is None:
        raise UserError.at("E0107", "this function of tilus works only inside a kernel", caller_span(),
                           help="decorate the function that calls it with @tl.jit and call that")
    return context


def active() -> bool:
    return STATE.context is not None


class use_context:
    """Makes ``context`` the current one for a ``with`` block."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __enter__(self) -> Context:
        self.outer = STATE.context
        STATE.context = self.context
        return self.context

    def __exit__(self, *exception: object) -> None:
        STATE.context = self.outer
