"""Types of IR values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from tilus.ir.dtypes import DType
from tilus.ir.terms import Space
from tilus.records import record

if TYPE_CHECKING:
    from tilus.layouts import RegisterLayout, SharedLayout


@record(frozen=True, slots=True)
class TileType:
    """A tile of elements held in registers; a block-uniform scalar where ``shape`` is ``()``.

    At thread level the same type with shape ``(n,)`` is a vector of n registers of one thread. At array level it is a
    whole array, and an extent may be a symbol: the name (a str) of a run-time extent; see :func:`array_type`.
    ``layout`` is None until layout inference has run; it may cover more than ``shape`` (a padded cover).
    """

    dtype: DType
    shape: tuple[int, ...] = ()
    layout: RegisterLayout | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_scalar(self) -> bool:
        return not self.shape

    def with_dtype(self, dtype: DType) -> TileType:
        return TileType(dtype, self.shape, self.layout)

    def without_layout(self) -> TileType:
        return TileType(self.dtype, self.shape) if self.layout is not None else self

    def __str__(self) -> str:
        if not self.shape:
            return self.dtype.name
        dims = "x".join(f"'{d}'" if isinstance(d, str) else str(d) for d in self.shape)
        name = self.dtype.name
        return f"{name}[{dims}]" if self.layout is None else f"{name}[{dims}, {self.layout}]"


@record(frozen=True, slots=True)
class ViewType:
    """A bounded, strided window of memory: an array argument, a workspace, shared memory, or a view of one.

    ``shape`` has None where an extent is a run-time value; shared memory has none of those.
    ``space`` is ``"global"`` or ``"shared"``. ``layout`` is the shared layout once chosen.
    """

    dtype: DType
    shape: tuple[int | None, ...]
    space: Space = "global"
    layout: SharedLayout | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        dims = "x".join("?" if d is None else str(d) for d in self.shape)
        tail = "" if self.layout is None else f", {self.layout}"
        return f"{self.space}<{self.dtype.name}[{dims}]{tail}>"


@record(frozen=True, slots=True)
class PointerType:
    """A thread-level address of elements of ``dtype`` in ``space`` (``"global"``, ``"shared"`` or ``"local"``)."""

    dtype: DType
    space: Space = "global"

    def __str__(self) -> str:
        return f"ptr<{self.dtype.name}, {self.space}>"


@record(frozen=True, slots=True)
class LocalType:
    """A tensor of ``size`` elements in one of the memories of a core that has several (``"ub"``, ``"l1"``, ``"l0a"``,
    ``"l0b"``, ``"l0c"``)."""

    dtype: DType
    size: int
    memory: str = "ub"

    @property
    def bytes(self) -> int:
        return -(-self.size * self.dtype.packed_bits // 8)

    def __str__(self) -> str:
        return f"local<{self.dtype.name}[{self.size}], {self.memory}>"


Type = TileType | ViewType | PointerType | LocalType


def scalar(dtype: DType) -> TileType:
    return TileType(dtype)


Extent = int | str
"""An extent of an array: a number, or the name of a run-time extent (which is not 1)."""


def array_type(dtype: DType, extents: tuple[Extent, ...]) -> TileType:
    """The type of an array at array level. Only there do types hold symbols, so ``TileType.shape`` is declared as it is
    at the other levels, where nearly all code works."""
    return TileType(dtype, cast("tuple[int, ...]", extents))


def extents_of(type_: TileType) -> tuple[Extent, ...]:
    """The extents of an array-level type, symbols included."""
    return cast("tuple[Extent, ...]", type_.shape)
