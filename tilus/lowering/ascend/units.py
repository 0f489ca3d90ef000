"""The vector unit's calls: their texts, for operands as a whole or strided by rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, bf16, f16, f32, i8, i16, i32, u8, u16, u32
from tilus.lowering.ascend.core import Core, Scalar
from tilus.lowering.ascend.tiles import BLOCK, MAX_REPEATS, MAX_STRIDE, REPEAT, Form

TYPES: dict[DType, str] = {
    f32: "float", f16: "half", bf16: "bfloat16_t", i32: "int32_t", u32: "uint32_t", i16: "int16_t", u16: "uint16_t",
    i8: "int8_t", u8: "uint8_t",
}
"""The names of element types in the target's C++."""
Spread = Literal["row", "column", "one"]
"""How the second operand goes with the rows of the first: one row with each, one number (a block of copies of it) with
each row, or one number with all."""


def lanes(dtype: DType) -> int:
    """Elements of a repeat."""
    return REPEAT // dtype.itemsize


def blocks(count: int, dtype: DType) -> int:
    """Blocks that so many elements fill."""
    return count * dtype.itemsize // BLOCK


def pieces(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Beginnings and sizes of pieces of at most ``most``."""
    for begin in range(0, count, most):
        yield begin, min(most, count - begin)


def unary(core: Core, name: str, to: Value, x: Value, count: int) -> None:
    core.call(f"{name}({{0}}, {{1}}, {count})", "V", to, (x,))


def binary(core: Core, name: str, to: Value, x: Value, y: Value, count: int) -> None:
    core.call(f"{name}({{0}}, {{1}}, {{2}}, {count})", "V", to, (x, y))


def with_number(core: Core, name: str, to: Value, x: Value, number: str, count: int,
                scalars: tuple[Value, ...] = ()) -> None:
    """``number`` is the text of a constant, or ``{s0}``."""
    core.call(f"{name}({{0}}, {{1}}, {number}, {count})", "V", to, (x,), scalars)


def spread_binary(core: Core, name: str, to: Value, x: Value, y: Value, form: Form, dtype: DType,
                  how: Spread) -> None:
    """``to = name(x, y)`` where ``y`` goes with the rows of ``x`` as ``how`` says."""
    wide, pitch = lanes(dtype), blocks(form.pitch, dtype)
    per_row = -(-form.pitch // wide)
    if how != "row" and (form.rows < per_row or pitch > MAX_STRIDE):
        _by_rows(core, name, to, x, y, form, dtype, 1 if how == "column" else 0)
        return
    if pitch > MAX_STRIDE:
        core.each(form.rows, lambda row: binary(
            core, name, core.part(to, size=form.pitch, offset=core.mul(row, form.pitch)),
            core.part(x, size=form.pitch, offset=core.mul(row, form.pitch)), core.part(y, size=form.pitch), form.pitch))
        return
    group = core.group()
    other_block, other_repeat = (1, 0) if how == "row" else (0, 1 if how == "column" else 0)
    for first, rows in pieces(form.rows, MAX_REPEATS):
        for column, count in pieces(form.pitch, wide):
            start = first * form.pitch + column
            size = (rows - 1) * form.pitch + count
            begin = column if how == "row" else first * BLOCK // dtype.itemsize if how == "column" else 0
            core.call(f"{name}({{0}}, {{1}}, {{2}}, {count}, {rows}, "
                      f"{{{{1, 1, {other_block}, {pitch}, {pitch}, {other_repeat}}}}})", "V",
                      core.part(to, start, size), (core.part(x, start, size), core.part(y, begin)), group=group)


def spread_both(core: Core, name: str, to: Value, x: tuple[Value, Spread], y: tuple[Value, Spread], form: Form,
                dtype: DType) -> None:
    """``to = name(x, y)`` where both operands go with the rows of the result as is said beside them."""
    wide, pitch = lanes(dtype), blocks(form.pitch, dtype)
    group = core.group()
    for first, rows in pieces(form.rows, MAX_REPEATS):
        for column, count in pieces(form.pitch, wide):
            start = first * form.pitch + column
            steps = [(1, 0) if how == "row" else (0, 1 if how == "column" else 0) for _, how in (x, y)]
            parts = [core.part(tensor, column if how == "row" else first * BLOCK // dtype.itemsize if how == "column"
                               else 0) for tensor, how in (x, y)]
            core.call(f"{name}({{0}}, {{1}}, {{2}}, {count}, {rows}, {{{{1, {steps[0][0]}, {steps[1][0]}, {pitch}, "
                      f"{steps[0][1]}, {steps[1][1]}}}}})", "V", core.part(to, start, (rows - 1) * form.pitch + count),
                      parts, group=group)


def _by_rows(core: Core, name: str, to: Value, x: Value, y: Value, form: Form, dtype: DType, step: int) -> None:
    """A call for each row, or two, with a block of ``y`` for it."""
    wide, per_block = lanes(dtype), BLOCK // dtype.itemsize
    whole, rest = form.pitch // wide, form.pitch % wide

    def do(row: Scalar) -> None:
        begin = core.mul(row, form.pitch)
        block = core.part(y, size=per_block, offset=core.mul(row, step * per_block))
        parts = [(first * wide, wide, count) for first, count in pieces(whole, MAX_REPEATS)]
        parts += [(whole * wide, rest, 1)] if rest else []
        for start, count, repeats in parts:
            place, size = core.add(begin, start), count * repeats
            core.call(f"{name}({{0}}, {{1}}, {{2}}, {count}, {repeats}, {{{{1, 1, 0, 8, 8, 0}}}})", "V",
                      core.part(to, size=size, offset=place), (core.part(x, size=size, offset=place), block))

    core.each(form.rows, do)


def fill(core: Core, to: Value, number: str, count: int, dtype: DType, scalars: tuple[Value, ...] = ()) -> None:
    """``number``, of the element type, everywhere; bytes go two at a time and are the same."""
    core.call(f"Duplicate({{0}}, {number}, {count})", "V", to, (), scalars)


def copy(core: Core, to: Value, x: Value, count: int) -> None:
    core.call(f"DataCopy({{0}}, {{1}}, {count})", "V", to, (x,))


def copy_cast(core: Core, to: Value, x: Value, rounding: str, count: int) -> None:
    core.call(f"Cast({{0}}, {{1}}, RoundMode::{rounding}, {count})", "V", to, (x,))


def number_text(value: float | bool, dtype: DType) -> str:
    """A constant of an element type in C++."""
    value = float(value) if dtype.is_float else int(value)
    if not dtype.is_float:
        least = dtype is i32 and value == dtype.min_value
        return f"static_cast<{TYPES[dtype]}>({'-2147483647 - 1' if least else value}{'u' if dtype is u32 else ''})"
    if value != value or value in (float("inf"), float("-inf")):
        text = "__builtin_nanf(\"\")" if value != value else f"{'-' if value < 0 else ''}__builtin_inff()"
    else:
        text = f"{value!r}f"
    return text if dtype is f32 else f"static_cast<{TYPES[dtype]}>({text})"
