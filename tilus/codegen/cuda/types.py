"""C types of element types, of cells and of vectors in memory."""

from __future__ import annotations

from tilus.codegen.cells import Cells, elements_of, per_cell
from tilus.ir.core import Value
from tilus.ir.dtypes import DType

_C_TYPES = {
    "bool": "bool", "i8": "signed char", "u8": "unsigned char", "i16": "short", "u16": "unsigned short", "i32": "int",
    "u32": "unsigned", "i64": "long long", "u64": "unsigned long long", "f16": "unsigned short",
    "bf16": "unsigned short", "f32": "float", "tf32": "float", "f64": "double",
}
_VECTORS = {
    "float": "float", "double": "double", "unsigned": "uint", "int": "int", "long long": "longlong",
    "unsigned long long": "ulonglong", "unsigned short": "ushort", "short": "short", "unsigned char": "uchar",
    "signed char": "char",
}


def c_type(dtype: DType) -> str:
    """The C type that holds one element."""
    known = _C_TYPES.get(dtype.name)
    if known is not None:
        return known
    room = next(n for n in (8, 16, 32, 64) if dtype.bits <= n)
    return _C_TYPES[f"{'i' if dtype.kind == 'int' else 'u'}{room}"]


def unsigned_type(dtype: DType) -> str:
    """The unsigned C integer of an element's width."""
    return _C_TYPES[f"u{dtype.bits}"]


def cell_type(cells: Cells) -> str:
    """The C type of a cell: several elements are held in an ``unsigned``."""
    return "unsigned" if cells.per > 1 else c_type(cells.dtype)


def cell_type_of(value: Value) -> str:
    """The C type of a value's cells."""
    dtype = value.tile.dtype
    return "unsigned" if per_cell(dtype, elements_of(value)) > 1 else c_type(dtype)


def vector_type(ctype: str, count: int) -> str:
    """CUDA's built-in vector of ``count`` cells."""
    return f"{_VECTORS[ctype]}{count}" if count > 1 else ctype
