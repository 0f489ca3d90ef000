"""LLVM spellings of types and constants.

Values of storage types (sub-byte integers, floats below 16 bits, tf32) are held in the next wider byte-whole integer:
integers extended by their sign, floats as their bits.
"""

from __future__ import annotations

import struct

from tilus.ir.dtypes import DType
from tilus.ir.literals import encode_float, integer_bits, rounded
from tilus.ir.types import PointerType, TileType, Type

_FLOATS = {"f16": "half", "f32": "float", "f64": "double", "bf16": "bfloat"}


def container_bits(dtype: DType) -> int:
    """Width of the integer that holds a value of a type without an LLVM type of its own."""
    return next(n for n in (8, 16, 32, 64) if n >= dtype.bits)


class TypeSpeller:
    """Spells types. ``bfloat`` is how bf16 is held: ``"bfloat"``, or ``"i16"`` where the target has no such type;
    ``spaces`` the address-space qualifier of pointers by memory space."""

    def __init__(self, bfloat: str = "bfloat", spaces: dict[str, str] | None = None) -> None:
        self.floats = {**_FLOATS, "bf16": bfloat}
        self.spaces = spaces or {}
        self._elements: dict[DType, str] = {}

    def element(self, dtype: DType) -> str:
        found = self._elements.get(dtype)
        if found is None:
            found = self._elements[dtype] = self._spell(dtype)
        return found

    def _spell(self, dtype: DType) -> str:
        if dtype.is_bool:
            return "i1"
        if dtype.is_float and dtype.is_arithmetic:
            return self.floats[dtype.name]
        return f"i{container_bits(dtype)}"

    def memory_element(self, dtype: DType) -> str:
        """The type of an element in memory; bool takes a byte."""
        return "i8" if dtype.is_bool else self.element(dtype)

    def vector(self, dtype: DType, count: int) -> str:
        """``count`` elements; a scalar for 0."""
        return f"<{count} x {self.element(dtype)}>" if count else self.element(dtype)

    def pointer(self, space: str) -> str:
        qualifier = self.spaces.get(space, "")
        return f"ptr {qualifier}" if qualifier else "ptr"

    def type(self, type_: Type) -> str:
        if isinstance(type_, PointerType):
            return self.pointer(type_.space)
        if isinstance(type_, TileType):
            return self.vector(type_.dtype, lanes(type_))
        raise TypeError(f"{type_} has no LLVM type")

    def constant(self, value: int | float | bool, dtype: DType, count: int = 0) -> str:
        """The text of a constant operand, splat over ``count`` lanes."""
        text = self._scalar(value, dtype)
        return f"splat ({self.element(dtype)} {text})" if count else text

    def _scalar(self, value: int | float | bool, dtype: DType) -> str:
        if dtype.is_bool:
            return "true" if value else "false"
        if not dtype.is_float or not dtype.is_arithmetic:
            return str(integer_bits(value, dtype))
        if dtype.bits > 16:
            return f"0x{struct.unpack('<Q', struct.pack('<d', rounded(value, dtype)))[0]:016X}"
        bits = encode_float(value, dtype)
        if self.element(dtype) == "i16":
            return str(bits)
        return f"0x{'H' if dtype.name == 'f16' else 'R'}{bits:04X}"


def lanes(type_: TileType) -> int:
    """Lanes of a thread-level value: 0 for a scalar."""
    return type_.shape[0] if type_.shape else 0

