"""Thread level of a CPU core: accesses by vectors of indices, calls into the runtime."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Effect, Operation, Value
from tilus.ir.dtypes import DType, i16, i64
from tilus.ir.families import Elementwise
from tilus.ir.ops.thread import pointer_type
from tilus.ir.terms import Space
from tilus.ir.types import PointerType, TileType, Type


class GatherLoad(Operation):
    """Lane i of the result is element ``indices[i]`` at ``pointer``, where lane i of ``mask`` holds, else lane i of
    ``other`` (zeros for None). All of them scalars for a single element. With ``dtype``, and no mask, it is what begins
    there of that type."""

    NAME = "gather_load"
    pointer: Value
    indices: Value
    mask: Value | None = None
    other: Value | None = None
    dtype: DType | None = None

    def infer(self) -> Sequence[Type]:
        return (TileType(self.dtype or pointer_type(self.pointer).dtype, self.indices.tile.shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", pointer_type(self.pointer).space, self.pointer),)


class ScatterStore(Operation):
    """Element ``indices[i]`` at ``pointer`` becomes lane i of ``value`` where ``mask`` holds; in order of the lanes."""

    NAME = "scatter_store"
    pointer: Value
    indices: Value
    value: Value
    mask: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", pointer_type(self.pointer).space, self.pointer),)


class IntToPtr(Operation):
    """The address given by an i64 as a pointer."""

    NAME = "int_to_ptr"
    x: Value
    dtype: DType
    space: Space = "global"

    def infer(self) -> Sequence[Type]:
        return (PointerType(self.dtype, self.space),)


class PtrToInt(Operation):
    """A pointer's address as an i64."""

    NAME = "ptr_to_int"
    pointer: Value

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class CallPointer(Operation):
    """Calls the function at address ``callee`` (a pointer) with pointers and scalars; gives values of ``returns``
    (at most one type). ``private``: it touches no memory that the code around it can see."""

    NAME = "call_pointer"
    callee: Value
    args: tuple[Value, ...]
    returns: tuple[Type, ...] = ()
    private: bool = False

    def infer(self) -> Sequence[Type]:
        return self.returns

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class CallFunction(Operation):
    """Calls a function of the module by name; gives values of ``returns`` (at most one type)."""

    NAME = "call_function"
    callee: str
    args: tuple[Value, ...]
    returns: tuple[Type, ...] = ()

    def infer(self) -> Sequence[Type]:
        return self.returns

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class FunctionAddress(Operation):
    """The address of a function of the module, as a pointer."""

    NAME = "function_address"
    callee: str

    def infer(self) -> Sequence[Type]:
        return (PointerType(i64),)


class ReturnIf(Operation):
    """Ends the function where a scalar bool holds."""

    NAME = "return_if"
    condition: Value

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class ConstantTable(Operation):
    """The address of a table of constants in the module, elements of ``dtype``."""

    NAME = "constant_table"
    values: tuple[int, ...]
    dtype: DType

    def infer(self) -> Sequence[Type]:
        return (PointerType(self.dtype),)


class TableLookup(Operation):
    """Lane i of the result is element ``index[i]`` modulo their number of the vectors of ``tables`` one after another:
    one or two of 32-bit elements, as many as ``index`` (u32) has lanes, which fill a register."""

    NAME = "table_lookup"
    index: Value
    tables: tuple[Value, ...]

    def infer(self) -> Sequence[Type]:
        return (self.tables[0].type,)


class ByteLookup(Operation):
    """Byte i of the result is that of ``table`` whose number is byte i of ``index``, 0 to 15, among the sixteen of the
    same 128 bits: vectors of u8 that fill a register."""

    NAME = "byte_lookup"
    index: Value
    table: Value

    def infer(self) -> Sequence[Type]:
        return (self.index.type,)


class ScaleBinary(Elementwise):
    """``x · 2^exponent`` for exponents that are whole numbers of the type of ``x``, rounded once."""

    NAME = "scale_binary"
    x: Value
    exponent: Value

    def infer(self) -> Sequence[Type]:
        return (self.x.type,)


class DotBytes(Operation):
    """Each lane of ``accumulator`` (i32) plus the four products of the bytes of its words (u32): those of ``unsigned``
    are numbers of u8, those of ``signed`` of i8. 4, 8 or 16 lanes.

    ``instruction`` is what the processor has for it: ``"vpdpbusd"`` or ``"usdot"``; ``"pmaddubsw"``, whose sums of two
    products saturate; or ``"sdot"``, of two signed factors. For these, bytes that are not ``small``, below 128, are
    taken in parts.
    """

    NAME = "dot_bytes"
    accumulator: Value
    unsigned: Value
    signed: Value
    instruction: str
    small: bool = False

    def infer(self) -> Sequence[Type]:
        return (self.accumulator.type,)


class PairSums(Operation):
    """For each two neighbouring bytes of words (u32) the sum of their products, as i16: those of ``unsigned`` are
    numbers of u8, those of ``signed`` of i8. Sums that i16 does not hold saturate. 4, 8 or 16 words."""

    NAME = "pair_sums"
    unsigned: Value
    signed: Value

    def infer(self) -> Sequence[Type]:
        return (TileType(i16, (2 * self.unsigned.tile.size,)),)


class DotPairs(Operation):
    """Each lane of ``accumulator`` plus the two products of the numbers in the words (u32) of ``a`` and ``b``: of bf16
    where it is f32, which count as 0 where they are subnormal, of i16 where it is i32. 4, 8 or 16 lanes."""

    NAME = "dot_pairs"
    accumulator: Value
    a: Value
    b: Value

    def infer(self) -> Sequence[Type]:
        return (self.accumulator.type,)


class _OfTiles(Operation):
    """Of the eight tile registers of a core, by their numbers."""

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class TileConfigure(_OfTiles):
    """Take the rows and columns of the tile registers from the 64 bytes at ``pointer``; they hold zeros then."""

    NAME = "tile_configure"
    pointer: Value


class TileRelease(_OfTiles):
    """The tile registers are not used any more."""

    NAME = "tile_release"


class TileZero(_OfTiles):
    """Zeros in a tile register."""

    NAME = "tile_zero"
    tile: int


class TileLoad(_OfTiles):
    """Rows from ``pointer`` on, ``stride`` bytes (i64) apart, into a tile register."""

    NAME = "tile_load"
    tile: int
    pointer: Value
    stride: Value


class TileStore(_OfTiles):
    """The rows of a tile register to ``pointer``, ``stride`` bytes (i64) apart."""

    NAME = "tile_store"
    tile: int
    pointer: Value
    stride: Value


class TileDot(_OfTiles):
    """``accumulator += a @ b`` of tile registers: words of ``a`` times words of rows of ``b``, by ``instruction``:
    ``"tdpbssd"``, ``"tdpbsud"``, ``"tdpbusd"``, ``"tdpbuud"`` (four bytes a word, signed or not) or ``"tdpbf16ps"``."""

    NAME = "tile_dot"
    accumulator: int
    a: int
    b: int
    instruction: str


class Prefetch(Operation):
    """Brings the line of the cache at ``pointer``, which need not be an address of anything, into the second level."""

    NAME = "prefetch"
    pointer: Value

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class AtomicFence(Operation):
    """A full memory fence of the core."""

    NAME = "atomic_fence"

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


__all__ = [
    "AtomicFence", "ByteLookup", "CallFunction", "CallPointer", "ConstantTable", "DotBytes", "DotPairs",
    "FunctionAddress", "GatherLoad", "IntToPtr", "PairSums", "Prefetch", "PtrToInt", "ReturnIf", "ScaleBinary",
    "ScatterStore", "TableLookup", "TileConfigure", "TileDot", "TileLoad", "TileRelease", "TileStore", "TileZero",
]
