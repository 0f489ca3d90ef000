"""Gathers whose indices are sums of what depends on the row of the tile and what depends on its column, as those of the
patches of a convolution: where an element lies is then a sum of two numbers, of which there are tables."""

from __future__ import annotations

from collections.abc import Collection

from tilus.ir.core import Block, Value
from tilus.ir.ops import Binary, Broadcast, Cast, Const, Gather, Iota, Select
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.records import record


@record(frozen=True, slots=True)
class Part:
    """A summand of an index: a tile (or scalar) that differs ``along`` one dimension of the gather, 0 or 1, or none."""

    value: Value
    along: int | None
    negative: bool


@record(frozen=True, slots=True)
class Separable:
    """A gather and the summands of each of its indices; ``rows`` says for which rows it is, if not for all: in the
    others the tile is 0."""

    gather: Gather
    parts: tuple[tuple[Part, ...], ...]
    rows: Part | None = None

    def of(self, along: int | None) -> list[list[Part]]:
        """Those along a dimension, for each index."""
        return [[p for p in parts if p.along == along] for parts in self.parts]

    def values(self, *along: int | None) -> list[Value]:
        """The tiles and scalars of those along some dimensions."""
        found = [p.value for parts in self.parts for p in parts if p.along in along]
        return [*found, self.rows.value] if self.rows is not None and 0 in along else found


def separable(self: BlockLowering, value: Value) -> Separable | None:
    """What a tile of rank 2 gathers, converted maybe, if its indices are such sums and at least one differs along the
    columns."""
    op, rows = value.defining, None
    while isinstance(op, (Cast, Select)):
        if isinstance(op, Select):
            rows = _rows_of(op) if rows is None else None
            if rows is None:
                return None
        op = op.x.defining
    if not isinstance(op, Gather) or op.mask is not None or op.other is not None or op.result.tile.rank != 2:
        return None
    memory = self.views[op.view]
    if memory.packed or memory.order is not None or container_bytes(memory.dtype) < 4 or not memory.dtype.is_arithmetic:
        return None
    found = [_parts(index, False) for index in op.indices]
    if any(parts is None or any(not p.value.tile.dtype.is_int for p in parts) for parts in found):
        return None
    kept = Separable(op, tuple(tuple(parts) for parts in found if parts is not None), rows)
    return kept if any(kept.of(1)) else None


def _rows_of(op: Select) -> Part | None:
    """The condition of a tile that is 0 in some rows, if it is for whole rows."""
    nothing = op.y.defining
    while isinstance(nothing, Broadcast):
        nothing = nothing.x.defining
    condition = op.condition.defining
    if not isinstance(nothing, Const) or nothing.value != 0 or not isinstance(condition, Broadcast):
        return None
    shape = condition.x.tile.shape
    return Part(condition.x, 0, False) if len(shape) == 2 and shape[1] == 1 else None


def _parts(index: Value, negative: bool) -> list[Part] | None:
    op = index.defining
    if isinstance(op, Binary) and op.kind in ("add", "sub") and not index.tile.is_scalar:
        left, right = _parts(op.lhs, negative), _parts(op.rhs, negative != (op.kind == "sub"))
        return None if left is None or right is None else left + right
    if isinstance(op, Iota):
        return [Part(index, op.axis, negative)]
    if isinstance(op, Const):
        return [Part(index, None, negative)]
    if not isinstance(op, Broadcast):
        return None
    long = [d for d, n in enumerate(op.x.tile.shape) if n > 1]
    return [Part(op.x, long[0] if long else None, negative)] if len(long) < 2 else None


def needed_by(values: Collection[Value], body: Block) -> set[Value]:
    """The values of a block's operations that some values are computed from, and they themselves."""
    needed = set(values)
    for op in reversed(body.ops):
        if any(r in needed for r in op.results):
            needed.update(op.operands)
    return needed


__all__ = ["Part", "Separable", "needed_by", "separable"]
