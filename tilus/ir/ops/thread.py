"""Thread level: pointers, vectors of registers, local memory. Shared by the SIMT and the CPU lowering.

A value of type ``TileType(dtype, (n,))`` is a vector of n elements of one thread; arithmetic and control flow are the
operations of ``arith`` and ``control``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Effect, Operation, Value
from tilus.ir.dtypes import DType
from tilus.ir.terms import AtomicKind, Order, Scope
from tilus.ir.types import PointerType, TileType, Type


def pointer_type(value: Value) -> PointerType:
    if not isinstance(value.type, PointerType):
        raise TypeError(f"expected a pointer, got {value.type}")
    return value.type


class PtrAdd(Operation):
    """``pointer + offset`` in elements (``offset`` an i32 or i64 scalar) plus the constant ``constant``."""

    NAME = "ptr_add"
    pointer: Value
    offset: Value | None = None
    constant: int = 0

    def infer(self) -> Sequence[Type]:
        return (self.pointer.type,)


class PtrCast(Operation):
    """The same address of elements of another type."""

    NAME = "ptr_cast"
    pointer: Value
    dtype: DType

    def infer(self) -> Sequence[Type]:
        return (PointerType(self.dtype, pointer_type(self.pointer).space),)


class PtrLoad(Operation):
    """``count`` consecutive elements (a scalar for 0) at ``pointer``, aligned to ``alignment`` bytes (0: the natural
    alignment of an element). Where ``predicate`` (a scalar bool) is false nothing is read and the value is
    ``other``, a value of the result's type, or zeros. ``read_only``: nobody writes it during the kernel."""

    NAME = "ptr_load"
    pointer: Value
    count: int = 0
    alignment: int = 0
    predicate: Value | None = None
    other: Value | None = None
    read_only: bool = False
    volatile: bool = False

    def infer(self) -> Sequence[Type]:
        return (TileType(pointer_type(self.pointer).dtype, (self.count,) if self.count else ()),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", pointer_type(self.pointer).space, self.pointer),)


class PtrStore(Operation):
    """Stores a scalar or a vector at ``pointer``, where ``predicate`` (a scalar bool) holds."""

    NAME = "ptr_store"
    pointer: Value
    value: Value
    alignment: int = 0
    predicate: Value | None = None
    non_temporal: bool = False

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", pointer_type(self.pointer).space, self.pointer),)


class PtrAtomic(Operation):
    """Atomic read-modify-write of one element; gives the old value (0 where ``predicate`` is false). ``kind``,
    ``order`` and ``scope`` are those of the tile-level operation. Of one that ``discards`` the old value nothing uses
    the result; its value may be a vector, of neighbouring elements."""

    NAME = "ptr_atomic"
    kind: AtomicKind
    pointer: Value
    value: Value
    compare: Value | None = None
    predicate: Value | None = None
    order: Order = "relaxed"
    scope: Scope = "device"
    discards: bool = False

    def infer(self) -> Sequence[Type]:
        return (self.value.type,)

    def effects(self) -> Sequence[Effect]:
        return (Effect("atomic", pointer_type(self.pointer).space, self.pointer),)


class AtomicLoad(Operation):
    """A load of one element that others may write at the same time; ``order`` is relaxed or acquire."""

    NAME = "atomic_load"
    pointer: Value
    order: Order = "acquire"
    scope: Scope = "device"

    def infer(self) -> Sequence[Type]:
        return (TileType(pointer_type(self.pointer).dtype),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("atomic", pointer_type(self.pointer).space, self.pointer),)


class MaskedLoad(Operation):
    """Lane i of the result is element i at ``pointer`` where lane i of ``mask`` (a bool vector) holds, else lane i of
    ``other`` (zeros for None); lanes that are off are not read."""

    NAME = "masked_load"
    pointer: Value
    mask: Value
    other: Value | None = None

    def infer(self) -> Sequence[Type]:
        return (TileType(pointer_type(self.pointer).dtype, self.mask.tile.shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", pointer_type(self.pointer).space, self.pointer),)


class MaskedStore(Operation):
    """Stores the lanes of ``value`` for which ``mask`` holds."""

    NAME = "masked_store"
    pointer: Value
    value: Value
    mask: Value

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", pointer_type(self.pointer).space, self.pointer),)


class Alloca(Operation):
    """Local memory of ``count`` elements, aligned to ``alignment`` bytes, for the duration of the function."""

    NAME = "alloca"
    dtype: DType
    count: int
    alignment: int = 0

    def infer(self) -> Sequence[Type]:
        return (PointerType(self.dtype, "local"),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("alloc", "local"),)


class Extract(Operation):
    """Element ``index`` of a vector."""

    NAME = "extract"
    vector: Value
    index: int

    def infer(self) -> Sequence[Type]:
        return (TileType(self.vector.tile.dtype),)


class Pack(Operation):
    """A vector of scalars and vectors of one type, in order."""

    NAME = "pack"
    parts: tuple[Value, ...]

    def infer(self) -> Sequence[Type]:
        count = sum(max(1, p.tile.size) for p in self.parts)
        return (TileType(self.parts[0].tile.dtype, (count,)),)


class Shuffle(Operation):
    """Lanes of one vector picked by compile-time ``indices``."""

    NAME = "shuffle"
    vector: Value
    indices: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        return (TileType(self.vector.tile.dtype, (len(self.indices),)),)


__all__ = [
    "Alloca", "Extract", "MaskedLoad", "MaskedStore", "Pack", "PtrAdd", "PtrCast", "PtrLoad", "PtrStore", "Shuffle",
]
