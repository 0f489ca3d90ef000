"""C literals."""

from __future__ import annotations

import math

from tilus.codegen.cuda.types import c_type
from tilus.ir.dtypes import DType
from tilus.ir.literals import encode_float, integer_bits, rounded


def literal(value: int | float | bool, dtype: DType) -> str:
    """An element."""
    if dtype.is_bool:
        return "true" if value else "false"
    if dtype.is_int:
        return _integer(int(value), dtype)
    if dtype.is_codebook:
        return f"({c_type(dtype)}){integer_bits(value, dtype)}"
    if dtype.bits < 32 and dtype.name != "tf32":
        return f"({c_type(dtype)})0x{encode_float(value, dtype):0{dtype.bits // 4}x}"
    value = rounded(value, dtype)
    double = dtype.bits == 64
    if math.isnan(value):
        return "__longlong_as_double(0x7ff8000000000000LL)" if double else "__int_as_float(0x7fc00000)"
    if math.isinf(value):
        infinity = "__longlong_as_double(0x7ff0000000000000LL)" if double else "__int_as_float(0x7f800000)"
        return f"{'' if value > 0 else '-'}{infinity}"
    return _decimal(value) if double else f"{_decimal(value)}f"


def _decimal(value: float) -> str:
    text = repr(value)
    return text if any(c in text for c in ".en") else text + ".0"


def _integer(value: int, dtype: DType) -> str:
    if dtype.bits == 64:
        if value == dtype.min_value and dtype.kind == "int":
            return "(-9223372036854775807LL - 1)"
        return f"{value}{'LL' if dtype.kind == 'int' else 'ULL'}"
    if dtype.bits == 32:
        if value == -(1 << 31):
            return "(-2147483647 - 1)"
        return f"{value}{'' if dtype.kind == 'int' else 'u'}"
    return f"({c_type(dtype)}){value}"


def packed_literal(value: int | float | bool, dtype: DType, per: int) -> str:
    """A cell of ``per`` equal elements."""
    bits = integer_bits(value, dtype) & ((1 << dtype.bits) - 1)
    return f"0x{sum(bits << (i * dtype.bits) for i in range(per)):08x}u"


def small_literal(text: str) -> int | None:
    """The number of a literal that is no negative integer."""
    digits = text.removesuffix("LL").removesuffix("U").removesuffix("u")
    return int(digits) if digits.isdigit() else None
