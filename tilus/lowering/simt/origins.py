"""Where an element of a thread's vector comes from."""

from __future__ import annotations

from collections.abc import Hashable

from tilus.ir.core import Value
from tilus.ir.ops import Binary, Broadcast, Compare, Const, Extract, Pack, Shuffle


def origin(vector: Value, index: int) -> Hashable:
    """What an element of a vector is computed from: equal for elements that certainly are the same. A scalar's element
    has number 0."""
    maker = vector.defining
    if isinstance(maker, Shuffle):
        return origin(maker.vector, maker.indices[index])
    if isinstance(maker, Broadcast):
        return origin(maker.x, 0)
    if isinstance(maker, Extract):
        return origin(maker.vector, maker.index)
    if isinstance(maker, Pack):
        for part in maker.parts:
            if index < part.tile.size:
                return origin(part, index)
            index -= part.tile.size
    if isinstance(maker, Const):
        return maker.value, maker.dtype
    if isinstance(maker, (Binary, Compare)):
        return type(maker), maker.kind, origin(maker.lhs, index), origin(maker.rhs, index)
    return vector, index


__all__ = ["origin"]
