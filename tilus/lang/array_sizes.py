"""Arithmetic on extents of whole arrays: of numbers it is done at once, of run-time extents it gives new symbols.

The definitions of those are kept by the function (``Attributes.sizes``); equal ones are one symbol.
"""

from __future__ import annotations

from typing import Any

from tilus.ir.ops import Binary, Cast, Const
from tilus.ir.ops.array import Extent as ExtentOp
from tilus.ir.sizes import KINDS
from tilus.ir.types import Extent, extents_of
from tilus.lang.context import current
from tilus.lang.values import Tile, fail, static_shape


def combined(kind: str, a: Extent, b: Extent) -> Extent:
    """One of :data:`~tilus.ir.sizes.KINDS` of two extents."""
    if isinstance(a, int) and isinstance(b, int):
        return KINDS[kind](a, b)
    if b == {"add": 0, "sub": 0, "mul": 1, "floordiv": 1}.get(kind):
        return a
    if a == {"add": 0, "mul": 1}.get(kind):
        return b
    if kind == "sub":
        if a == b:
            return 0
        if isinstance(b, int):
            return combined("add", a, -b)
    if isinstance(a, int) and kind in ("add", "mul", "min", "max"):
        a, b = b, a
    sizes = _sizes()
    if kind in ("add", "mul") and isinstance(b, int):
        inner = next((key for key, name in sizes.items() if name == a), None)
        if inner is not None and inner[0] == kind and isinstance(inner[2], int):  # (n + 2) - 2
            return combined(kind, inner[1], KINDS[kind](inner[2], b))
    return sizes.setdefault((kind, a, b), f"n{len(sizes)}_")


def _sizes() -> dict[tuple[str, Extent, Extent], str]:
    context: Any = current()
    found: dict[tuple[str, Extent, Extent], str] = context.sizes
    return found


def ceiling(a: Extent, b: int) -> Extent:
    """``a / b`` rounded up."""
    return combined("floordiv", combined("add", a, b - 1), b)


def product(extents: Any) -> Extent:
    total: Extent = 1
    for n in extents:
        total = combined("mul", total, n)
    return total


def extent_of(x: Any, what: str) -> Extent:
    """A number, or a scalar that is made of extents of arrays. Raises UserError (E0115) for any other."""
    if isinstance(x, int) and not isinstance(x, bool):
        return x
    if isinstance(x, Tile) and not x.shape:
        op = x.value.defining
        if isinstance(op, Const) and op.dtype.is_int:
            return int(op.value)
        if isinstance(op, ExtentOp):
            return op.symbol
        if isinstance(op, Cast):
            return extent_of(Tile(op.x), what)
        if isinstance(op, Binary) and op.kind in KINDS and x.dtype.is_int:
            return combined(op.kind, extent_of(Tile(op.lhs), what), extent_of(Tile(op.rhs), what))
    raise fail("E0115", f"{what} is not known before the arrays' elements are",
               help="extents in a fused function are integers and what is made of x.shape with + - * //, tl.minimum "
                    "and tl.maximum")


def is_symbol(n: Any) -> bool:
    """Whether it is the name of a run-time extent."""
    if not isinstance(n, str):
        return False
    context: Any = current()
    return n in _sizes().values() or any(n in extents_of(x.tile) for x in context.block.args)


def new_shape(shape: Any) -> tuple[int, ...]:
    """The shape of something new: of a tile numbers, of an array also symbols and scalars that are made of extents."""
    return _shape_of_array(shape) if current().level == "array" else static_shape(shape)


def _shape_of_array(shape: Any) -> Any:
    items = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    extents = tuple(n if is_symbol(n) else extent_of(n, "an extent of an array") for n in items)
    for n in extents:
        if isinstance(n, int) and n < 0:
            raise fail("E0204", f"the shape holds {n}, which is not an extent of 0 or more")
    return extents


__all__ = ["ceiling", "combined", "extent_of", "is_symbol", "new_shape", "product"]
