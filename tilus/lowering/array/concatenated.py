"""Outputs that are concatenations: each part is written where it goes, by a kernel of its own or with those like it.

An array function has no operation for them: where an index is below the end of a part it selects the access to that
part, and else what is behind (``lang/array_moves.py: concatenate``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.ops import Broadcast, Compare, Const, Iota, Select
from tilus.ir.ops.array import AffineAccess
from tilus.ir.ops.array import Extent as ExtentOp
from tilus.ir.sizes import Size
from tilus.ir.types import Extent, extents_of
from tilus.records import record

LEAST_RUN = 8
"""Elements of a part that follow each other in memory."""


@record(frozen=True)
class Part:
    """An array that lies from ``starts`` on in a concatenation."""

    value: Value
    starts: tuple[Extent, ...]


def parts_of(value: Value, sizes: Sequence[Size]) -> list[Part]:
    """What a value is the concatenation of; nothing where it is none. ``sizes`` define run-time extents."""
    axis = _axis(value)
    if axis is None:
        return []
    known = {name: (kind, a, b) for name, kind, a, b in sizes}
    shape, found = extents_of(value.tile), list[Part]()
    current: Value | None = value
    begin: Extent = 0
    while current is not None:
        op = current.defining
        end = _bound(op) if isinstance(op, Select) else shape[axis]
        piece = op.x.defining if isinstance(op, Select) else op
        if end is None or _axis(current) not in (axis, None) or not isinstance(piece, AffineAccess):
            return []
        if not (_is_at(piece, axis, begin, known) and _is_sum(end, begin, extents_of(piece.x.tile)[axis], known)):
            return []
        if _is_short(extents_of(piece.x.tile)[axis:]):
            return []
        found.append(Part(piece.x, tuple(begin if d == axis else 0 for d in range(len(shape)))))
        current, begin = (op.y if isinstance(op, Select) else None), end
    return found


def _is_short(extents: Sequence[Extent]) -> bool:
    """Whether so few elements of a part follow each other in memory that it is better to select what is stored."""
    numbers = [n for n in extents if isinstance(n, int)]
    return len(numbers) == len(extents) and math.prod(numbers) < LEAST_RUN


def _axis(value: Value) -> int | None:
    """The dimension along which a selection divides."""
    op = value.defining
    condition = op.condition.defining if isinstance(op, Select) else None
    if not isinstance(condition, Compare) or condition.kind != "lt" or not isinstance(condition.lhs.defining, Iota):
        return None
    return condition.lhs.defining.axis


def _bound(op: Select) -> Extent | None:
    """What the index is compared with."""
    condition = op.condition.defining
    assert isinstance(condition, Compare)
    bound = condition.rhs.defining
    if isinstance(bound, Broadcast):
        bound = bound.x.defining
    if isinstance(bound, ExtentOp):
        return bound.symbol
    return int(bound.value) if isinstance(bound, Const) else None


def _is_at(access: AffineAccess, axis: int, start: Extent, known: dict[str, tuple[str, Extent, Extent]]) -> bool:
    """Whether an access moves an array to ``start`` along an axis, and not along others."""
    if access.fill is None or any(terms != ((d, 1),) for d, terms in enumerate(access.terms)):
        return False
    shape, inner = access.shape, extents_of(access.x.tile)
    if any(access.starts[d] != 0 or inner[d] != shape[d] for d in range(len(shape)) if d != axis):
        return False
    moved = access.starts[axis]
    if isinstance(moved, int):
        return isinstance(start, int) and moved == -start
    return known.get(moved) == ("sub", 0, start)


def _is_sum(end: Extent, start: Extent, length: Extent, known: dict[str, tuple[str, Extent, Extent]]) -> bool:
    if start == 0:
        return end == length
    if isinstance(end, int):
        return isinstance(start, int) and isinstance(length, int) and end == start + length
    return known.get(end) in (("add", start, length), ("add", length, start))


__all__ = ["Part", "parts_of"]
