"""Where operations that rearrange elements take them from, by dimensions."""

from __future__ import annotations

from tilus.ir.core import Operation, Value
from tilus.ir.ops import Broadcast, Reshape, Transpose


def keeps_dimensions(op: Reshape) -> bool:
    """Whether a reshape only adds and drops dimensions of extent 1."""
    return [n for n in op.x.tile.shape if n != 1] == [n for n in op.shape if n != 1]


def source_dims(op: Operation, operand: Value, dims: tuple[int | None, ...]) -> tuple[int | None, ...]:
    if isinstance(op, Broadcast):
        return tuple(None if a == 1 and b != 1 else d for a, b, d in zip(operand.tile.shape, op.shape, dims,
                                                                        strict=True))
    if isinstance(op, Transpose):
        result: list[int | None] = [None] * len(dims)
        for d, p in enumerate(op.permutation):
            result[p] = dims[d]
        return tuple(result)
    if isinstance(op, Reshape):
        kept = iter(d for d, n in zip(dims, op.shape, strict=True) if n != 1)
        return tuple(None if n == 1 else next(kept) for n in operand.tile.shape)
    return dims


__all__ = ["keeps_dimensions", "source_dims"]
