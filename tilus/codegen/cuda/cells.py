"""How thread-level values are held in C variables.

A value is a list of cells, each a C expression. A cell of f32, f64, and of 32- and 64-bit integers is one element;
narrower elements share 32-bit ``unsigned`` cells where their number allows, else they have a variable each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilus.ir.dtypes import DType
from tilus.ir.types import PointerType, TileType, Type

_C_TYPES = {
    "bool": "bool", "i8": "signed char", "u8": "unsigned char", "i16": "short", "u16": "unsigned short", "i32": "int",
    "u32": "unsigned", "i64": "long long", "u64": "unsigned long long", "f16": "unsigned short",
    "bf16": "unsigned short", "f32": "float", "tf32": "float", "f64": "double",
}


def c_type(dtype: DType) -> str:
    """The C type that holds one element."""
    known = _C_TYPES.get(dtype.name)
    if known is not None:
        return known
    room = next(n for n in (8, 16, 32, 64) if dtype.bits <= n)
    return _C_TYPES[f"{'i' if dtype.kind == 'int' else 'u'}{room}"]


def per_cell(dtype: DType, count: int) -> int:
    """Elements of one cell of a vector of ``count`` elements."""
    bits = dtype.bits
    if bits in (8, 16) and count and (count * bits) % 32 == 0:
        return 32 // bits
    return 1


@dataclass(slots=True)
class Cells:
    """A value's C expressions; ``per`` elements in each."""

    names: list[str]
    dtype: DType
    count: int  # 0 for a scalar
    per: int

    @property
    def ctype(self) -> str:
        return "unsigned" if self.per > 1 else c_type(self.dtype)

    def element(self, index: int) -> str:
        """An expression for one element, of the element's C type."""
        name = self.names[index // self.per]
        if self.per == 1:
            return name
        shift = index % self.per * self.dtype.bits
        moved = name if not shift else f"({name} >> {shift})"
        return f"({c_type(self.dtype)}){moved}"


def element_dtype(type_: Type) -> DType:
    if isinstance(type_, (TileType, PointerType)):
        return type_.dtype
    raise TypeError(f"{type_} has no cells")


def vector_type(ctype: str, count: int) -> str:
    """CUDA's built-in vector of ``count`` cells."""
    stem = {"float": "float", "double": "double", "unsigned": "uint", "int": "int", "long long": "longlong",
            "unsigned long long": "ulonglong", "unsigned short": "ushort", "short": "short", "unsigned char": "uchar",
            "signed char": "char"}[ctype]
    return f"{stem}{count}"
