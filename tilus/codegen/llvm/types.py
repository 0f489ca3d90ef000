"""LLVM spellings of types and constants.

Values of storage types (sub-byte integers, floats below 16 bits, tf32) are held in the next wider byte-whole integer:
integers extended by their sign, floats as their bits.
"""

from __future__ import annotations

import math
import struct

from tilus.ir.dtypes import DType
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

    def element(self, dtype: DType) -> str:
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
        if dtype.name == "f32":
            return f"0x{struct.unpack('<Q', struct.pack('<d', round_to_f32(float(value))))[0]:016X}"
        if dtype.name == "f64":
            return f"0x{struct.unpack('<Q', struct.pack('<d', float(value)))[0]:016X}"
        bits = encode_float(float(value), dtype)
        if self.element(dtype) == "i16":
            return str(bits)
        return f"0x{'H' if dtype.name == 'f16' else 'R'}{bits:04X}"


def lanes(type_: TileType) -> int:
    """Lanes of a thread-level value: 0 for a scalar."""
    return type_.shape[0] if type_.shape else 0


def integer_bits(value: int | float | bool, dtype: DType) -> int:
    """The integer that holds ``value`` in the container of ``dtype``."""
    if dtype.is_float:
        return encode_float(float(value), dtype)
    number = int(value) & ((1 << dtype.bits) - 1)
    return number - (1 << dtype.bits) if dtype.kind == "int" and number >> (dtype.bits - 1) else number


def round_to_f32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def encode_float(value: float, dtype: DType) -> int:
    """The bits of ``value`` rounded to nearest even in a float type; beyond its range the infinity, or for types
    without one the greatest number (a NaN in types that have none becomes zero)."""
    if dtype.name == "tf32":
        return int(encode_float(value, _as_tf32(dtype))) << 13
    sign = (1 << (dtype.bits - 1)) if math.copysign(1.0, value) < 0 else 0
    top = (1 << dtype.exponent) - 1
    if math.isnan(value):
        if dtype.specials == "finite":
            return 0
        quiet = 1 << (dtype.mantissa - 1) if dtype.mantissa else 0
        return sign | top << dtype.mantissa | (quiet if dtype.specials == "ieee" else (1 << dtype.mantissa) - 1)
    greatest = {"ieee": (top << dtype.mantissa) - 1, "fn": (top << dtype.mantissa | (1 << dtype.mantissa) - 1) - 1,
                "finite": (1 << (dtype.bits - 1)) - 1}[dtype.specials]
    overflow = greatest + 1 if dtype.specials == "ieee" else greatest
    if math.isinf(value):
        return sign | overflow
    magnitude = abs(value)
    if magnitude == 0.0:
        return sign
    exponent = max(math.frexp(magnitude)[1] - 1, 1 - dtype.bias)
    units = magnitude / math.ldexp(1.0, exponent - dtype.mantissa) if exponent - dtype.mantissa > -1075 else 0.0
    code = round(units) + ((exponent + dtype.bias - 1) << dtype.mantissa)
    return sign | (code if code <= greatest else overflow)


def _as_tf32(dtype: DType) -> DType:
    return DType("tf32_bits", "float", 19, dtype.exponent, dtype.mantissa, dtype.specials)
