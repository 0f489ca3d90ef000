"""Indices of accesses that have to be within their arrays at a call."""

from __future__ import annotations

from collections.abc import Mapping

from tilus.diagnostics import Span
from tilus.ir.core import Function
from tilus.ir.ops.array import AffineAccess
from tilus.ir.types import Extent, extents_of
from tilus.records import record


@record(frozen=True)
class BoundedAccess:
    """An access without a value for what is outside: per dimension of its operand the extent, the start, and extents
    and factors along the axes."""

    dims: tuple[tuple[Extent, Extent, tuple[tuple[Extent, int], ...]], ...]
    span: Span

    def outside(self, values: Mapping[str, int]) -> tuple[Extent, int] | None:
        """A dimension's extent and an index that is not in it, with these values of symbols; None if there is none."""
        def value(n: Extent) -> int:
            return values[n] if isinstance(n, str) else n

        if any(value(n) <= 0 for _, _, along in self.dims for n, _ in along):
            return None
        for extent, start, along in self.dims:
            ends = [(value(n) - 1) * factor for n, factor in along]
            for index in (value(start) + sum(min(0, end) for end in ends), value(start) + sum(max(0, e) for e in ends)):
                if not 0 <= index < value(extent):
                    return extent, index
        return None


def bounded_accesses(function: Function) -> list[BoundedAccess]:
    """The accesses of an array-level function whose indices a call has to check."""
    found = []
    for op in function.walk():
        if isinstance(op, AffineAccess) and op.fill is None:
            dims = zip(extents_of(op.x.tile), op.starts, op.terms, strict=True)
            found.append(BoundedAccess(tuple(
                (n, start, tuple((op.shape[axis], factor) for axis, factor in terms)) for n, start, terms in dims),
                op.span))
    return found


__all__ = ["BoundedAccess", "bounded_accesses"]
