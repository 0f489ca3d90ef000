"""Type promotion: Python literals are weak, tilus types meet as documented in docs/language.md."""

from __future__ import annotations

from tilus.ir.dtypes import DType, bool_, f32, i64, integer


def promote(a: DType, b: DType) -> DType | None:
    """The type two operands are converted to, or None where there is none.

    Float wins over integer, integer over bool; of two floats the one that holds both (f16 and bf16 meet in f32); of a
    signed and an unsigned integer the signed type that holds both (none for u64).
    """
    if a is b:
        return a
    if not (a.is_arithmetic or a.is_bool) or not (b.is_arithmetic or b.is_bool):
        return None
    if a.is_bool:
        return b
    if b.is_bool:
        return a
    if a.is_float and b.is_float:
        if a.bits == b.bits:
            return f32
        return a if a.bits > b.bits else b
    if a.is_float or b.is_float:
        return a if a.is_float else b
    if a.kind == b.kind:
        return a if a.bits > b.bits else b
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    return integer(unsigned.bits * 2) if unsigned.bits < 64 else None


def literal_type(value: bool | int | float, partner: DType | None) -> DType:
    """The type a Python literal takes next to an operand of type ``partner`` (None: on its own)."""
    if isinstance(value, bool):
        return partner if partner is not None and partner.is_bool else (partner or bool_)
    if isinstance(value, int):
        if partner is None or partner.is_bool:
            return i64
        return partner
    if partner is not None and partner.is_float:
        return partner
    return f32


def literal_fits(value: bool | int | float, dtype: DType) -> bool:
    """Whether an integer literal is in the range of an integer type (floats always fit)."""
    if dtype.is_int:
        return dtype.min_value <= int(value) <= dtype.max_value
    return True


def true_division_type(dtype: DType) -> DType:
    """The type in which ``/`` of operands of ``dtype`` is done: floats stay, integers go to f32."""
    return dtype if dtype.is_float else f32


