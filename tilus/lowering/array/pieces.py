"""Memory of what lies between kernels: values that no two of the same kernels need share a piece of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilus.ir.core import Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.types import extents_of
from tilus.records import record

Workspace = tuple[Value, Parameter, DType]
"""A value, the parameter of kernels that is its memory, and the type of elements there."""
Uses = tuple[int, int]
"""The first and the last kernel that has to do with a value."""


@record
class Piece:
    """Memory for values one after another; ``last`` is the last kernel that needs what is there."""

    dtype: DType
    users: list[Workspace]
    last: int

    @property
    def is_of_one_shape(self) -> bool:
        return len({extents_of(value.tile) for value, *_ in self.users}) == 1


def pieces_of(workspaces: Sequence[Workspace], uses: Mapping[str, Uses]) -> list[Piece]:
    """For workspaces of one type of elements, the piece that is free and of the same shape, or any that is free, which
    is then as large as the larger one; ``uses`` by names of parameters."""
    pieces: list[Piece] = []
    for workspace in sorted(workspaces, key=lambda w: uses[w[1].name]):
        value, parameter, dtype = workspace
        first, last = uses[parameter.name]
        free = [p for p in pieces if p.dtype is dtype and p.last < first]
        if not free:
            pieces.append(Piece(dtype, [workspace], last))
            continue
        shape = extents_of(value.tile)
        piece = next((p for p in free if any(extents_of(v.tile) == shape for v, *_ in p.users)), free[0])
        piece.users.append(workspace)
        piece.last = last
    return pieces


__all__ = ["Piece", "Uses", "Workspace", "pieces_of"]
