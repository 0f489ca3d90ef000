"""Elementwise operations by calls on whole tiles, whose operands may be spread along rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, bool_, f16, f32, i8, i16, i32, u8, u16, u32
from tilus.ir.ops import Binary, Bitcast, Compare, Fma, Select, Unary
from tilus.lowering.ascend import units
from tilus.lowering.ascend.integers import lower_extreme, lower_quotient, signed_order
from tilus.lowering.ascend.lazy import constant, is_spread, one_number
from tilus.lowering.ascend.tiles import MAX_STRIDE, Tile
from tilus.lowering.ascend.units import number_text
from tilus.lowering.facts import Fact

if TYPE_CHECKING:
    from tilus.lowering.ascend.vector import Vector

CALLS = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min"}
WITH_NUMBER = {"add": "Adds", "mul": "Muls", "max": "Maxs", "min": "Mins"}
COMMUTATIVE = frozenset({"add", "mul", "max", "min"})
PLAIN_UNARY = {"exp": "Exp", "log": "Ln", "sqrt": "Sqrt"}
LIBRARY = {"tanh": ("Tanh", 1), "erf": ("Erf", 3), "sin": ("Sin", 3), "cos": ("Cos", 3), "sigmoid": ("Sigmoid", 1)}
"""Functions of the library, and how many times the size of the operand (256 bytes at least) they take beside it."""
POWER = 4
"""How many times the size of an operand the library's power takes."""
ROUNDED = {"floor": "CAST_FLOOR", "ceil": "CAST_CEIL", "round": "CAST_RINT", "trunc": "CAST_TRUNC"}
OPPOSITE = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}
NUMBERS = (f32, f16, i32, i16)
"""Types that the unit adds, multiplies and compares."""


def computed_in(dtype: DType) -> DType:
    """The type in which arithmetic on elements is done; results are rounded to the elements' own."""
    if dtype in NUMBERS:
        return dtype
    return f32 if dtype.is_float else i16 if dtype in (i8, u8) else i32


def lower_binary(vector: Vector, op: Binary) -> None:
    dtype = vector.narrow(op.result)
    if dtype is bool_:
        _logic(vector, op)
        return
    if op.kind in ("and", "or", "xor"):
        _bits(vector, op)
        return
    if op.kind in ("shl", "shr"):
        _shift(vector, op)
        return
    if op.kind in ("floordiv", "mod"):
        _divide(vector, op)
        return
    if op.kind == "pow":
        _rounded(vector, op, _power(vector, op))
        return
    if op.kind not in CALLS:
        vector.refuse(op, f"{op.kind} of tiles is not lowered for {vector.target}")
    if dtype is u32 and op.kind in ("max", "min"):
        _rounded(vector, op, lower_extreme(vector, op))
        return
    inner = computed_in(dtype)
    if inner is dtype:
        arithmetic(vector, op.kind, vector.new(op.result), op.lhs, op.rhs)
        return
    result = vector.room(inner, vector.form(op.result))
    arithmetic(vector, op.kind, result, op.lhs, op.rhs)
    _rounded(vector, op, result)


def _power(vector: Vector, op: Binary) -> Tile:
    """By the library's call, in f32."""
    result = vector.room(f32, vector.form(op.result))
    size = result.form.size
    room = vector.core.local(u8, POWER * max(size * f32.itemsize, 256))
    vector.core.call(f"Power({{0}}, {{2}}, {{3}}, {{1}}, {size})", "V", (result.tensor, room),
                     (_as(vector, op.lhs, f32), _as(vector, op.rhs, f32)))
    return result


def _rounded(vector: Vector, op: Operation, result: Tile) -> None:
    """The result of an operation in the type that its value has."""
    to = vector.narrow(op.results[0])
    if result.dtype is to and op.results[0] not in vector.wanted:
        vector.tiles[op.results[0]] = result
        return
    finished = vector.as_type(result, to)
    wanted = vector.wanted.get(op.results[0])
    if wanted is not None:
        units.copy(vector.core, wanted, finished.tensor, finished.form.size)
        finished = Tile(wanted, to, finished.form)
    vector.tiles[op.results[0]] = finished


def arithmetic(vector: Vector, kind: str, to: Tile, x: Value, y: Value) -> None:
    """``to = x kind y`` in the type of ``to``."""
    dtype, core, size = to.dtype, vector.core, to.form.size
    if kind in COMMUTATIVE and is_spread(vector, x) and not is_spread(vector, y):
        x, y = y, x
    number = constant(y)
    if number is not None and dtype is i32 and number > dtype.max_value:
        number -= 1 << 32  # of a type without a sign
    if number is not None and kind == "sub":
        kind, number = "add", -number
    if number is not None and kind == "div" and dtype.is_float and number and math.frexp(number)[0] == 0.5:
        kind, number = "mul", 1.0 / number
    if number is not None and kind in WITH_NUMBER:
        units.with_number(core, WITH_NUMBER[kind], to.tensor, _as(vector, x, dtype), number_text(number, dtype), size)
        return
    scalar = one_number(vector, y) if kind in WITH_NUMBER else None
    if scalar is not None:
        units.with_number(core, WITH_NUMBER[kind], to.tensor, _as(vector, x, dtype), vector.number(scalar, dtype), size,
                          (scalar,))
        return
    first = _as(vector, x, dtype)
    spread = vector.spread(y, dtype)
    if spread is None:
        units.binary(core, CALLS[kind], to.tensor, first, _as(vector, y, dtype), size)
        return
    how, source = spread
    units.spread_binary(core, CALLS[kind], to.tensor, first, source.tensor, to.form, dtype, how)


def _as(vector: Vector, value: Value, dtype: DType) -> Value:
    return vector.as_type(vector.tile(value), dtype).tensor


# -- integers and booleans


def words(vector: Vector, tile: Tile) -> tuple[Value, int]:
    """The tile's bits as words of 16 bits, and how many."""
    size = tile.form.compared // 16 if tile.dtype is bool_ else tile.form.size * tile.dtype.itemsize // 2
    return vector.core.part(tile.tensor, dtype=u16), size


def bitwise(vector: Vector, name: str, to: Tile, *tiles: Tile) -> None:
    """And, Or or Not of all bits."""
    tensors, size = [words(vector, t)[0] for t in tiles], words(vector, to)[1]
    form = f"{name}({', '.join(f'{{{n}}}' for n in range(len(tiles) + 1))}, {size})"
    vector.core.call(form, "V", words(vector, to)[0], tensors)


def exclusive_or(vector: Vector, to: Tile, x: Tile, y: Tile) -> None:
    """``(x | y) & ~(x & y)``."""
    both, either = vector.room(to.dtype, to.form), vector.room(to.dtype, to.form)
    bitwise(vector, "And", both, x, y)
    bitwise(vector, "Not", both, both)
    bitwise(vector, "Or", either, x, y)
    bitwise(vector, "And", to, either, both)


def _logic(vector: Vector, op: Binary) -> None:
    to, x, y = vector.new(op.result), vector.tile(op.lhs), vector.tile(op.rhs)
    if op.kind == "xor":
        exclusive_or(vector, to, x, y)
    else:
        bitwise(vector, "And" if op.kind in ("and", "min") else "Or", to, x, y)


def _bits(vector: Vector, op: Binary) -> None:
    to, x, y = vector.new(op.result), vector.tile(op.lhs), vector.tile(op.rhs)
    if op.kind == "xor":
        exclusive_or(vector, to, x, y)
    else:
        bitwise(vector, op.kind.capitalize(), to, x, y)


def _shift(vector: Vector, op: Binary) -> None:
    amount = constant(op.rhs)
    dtype = vector.narrow(op.result)
    if amount is None or not 0 <= amount < dtype.bits:
        vector.refuse(op, f"{vector.target}'s vectors shift by a constant", "multiply by a power of two")
    x = vector.tile(op.lhs)
    if dtype.bits == 8:
        x = vector.as_type(x, i16)
    result = vector.room(x.dtype, x.form) if dtype.bits == 8 else vector.new(op.result)
    name = "ShiftLeft" if op.kind == "shl" else "ShiftRight"
    units.with_number(vector.core, name, result.tensor, x.tensor, number_text(amount, x.dtype), x.form.size)
    if dtype.bits == 8:
        _rounded(vector, op, result)


def _divide(vector: Vector, op: Binary) -> None:
    _rounded(vector, op, lower_quotient(vector, op))


# -- comparisons


def lower_compare(vector: Vector, op: Compare) -> None:
    dtype = op.lhs.tile.dtype
    if dtype is bool_:
        _equal_truth(vector, op)
    elif dtype.is_float or dtype.bits <= 16:
        _compare_floats(vector, op, f16 if dtype is f16 or dtype in (i8, u8) else f32)
    else:
        _compare_integers(vector, op)


def _equal_truth(vector: Vector, op: Compare) -> None:
    to = vector.new(op.result)
    exclusive_or(vector, to, vector.tile(op.lhs), vector.tile(op.rhs))
    if op.kind == "eq":
        bitwise(vector, "Not", to, to)


def _compare_floats(vector: Vector, op: Compare, dtype: DType) -> None:
    x, y = op.lhs, op.rhs
    kind: str = op.kind
    if is_spread(vector, x) and not is_spread(vector, y):
        x, y, kind = y, x, OPPOSITE[kind]
    to, first = vector.new(op.result), vector.compared(vector.as_type(vector.tile(x), dtype))
    size = to.form.compared
    number, scalar = constant(y), one_number(vector, y)
    if number is not None or scalar is not None:
        text = number_text(number, dtype) if number is not None else vector.number(scalar, dtype)  # type: ignore[arg-type]
        vector.core.call(f"Compares({{0}}, {{1}}, {text}, CMPMODE::{kind.upper()}, {size})", "V", to.tensor, (first,),
                         () if number is not None else (scalar,))  # type: ignore[arg-type]
        return
    vector.core.call(f"Compare({{0}}, {{1}}, {{2}}, CMPMODE::{kind.upper()}, {size})", "V", to.tensor,
                     (first, vector.compared(vector.as_type(vector.tile(y), dtype))))


def _compare_integers(vector: Vector, op: Compare) -> None:
    """The unit compares integers for equality alone: x ≤ y where min(x, y) = x, x ≥ y where max(x, y) = x. A difference
    that cannot wrap is compared with 0, as a float, which has its sign."""
    without_sign = u32 in (op.lhs.tile.dtype, op.rhs.tile.dtype)
    difference = None if without_sign else _difference(vector, op)
    if difference is not None:
        _compare_with_zero(vector, op, difference)
        return
    to = vector.new(op.result)
    negated = op.kind in ("ne", "lt", "gt")
    x, core, size = vector.tile(op.lhs), vector.core, to.form.compared
    if without_sign:
        x, other = signed_order(vector, op.lhs), signed_order(vector, op.rhs)
        if op.kind not in ("eq", "ne"):
            name, least = "Min" if op.kind in ("le", "gt") else "Max", vector.room(i32, to.form)
            units.binary(core, name, least.tensor, x.tensor, other.tensor, to.form.size)
            other = least
    elif op.kind in ("eq", "ne"):
        other = vector.as_type(vector.tile(op.rhs), i32)
    else:
        other = vector.room(i32, to.form)
        kind = "min" if op.kind in ("le", "gt") else "max"
        arithmetic(vector, kind, other, op.lhs, op.rhs)
    core.call(f"Compare({{0}}, {{1}}, {{2}}, CMPMODE::EQ, {size})", "V", to.tensor,
              (vector.compared(vector.as_type(x, i32)), vector.compared(other)))
    if negated:
        bitwise(vector, "Not", to, to)


def _compare_with_zero(vector: Vector, op: Compare, difference: Tile) -> None:
    core, form = vector.core, difference.form
    sign = Tile(core.part(difference.tensor, dtype=f32), f32, form)
    units.copy_cast(core, sign.tensor, difference.tensor, "CAST_NONE", form.size)
    to = vector.new(op.result)
    core.call(f"Compares({{0}}, {{1}}, 0.0f, CMPMODE::{op.kind.upper()}, {form.compared})", "V", to.tensor,
              (vector.compared(sign),))


def _difference(vector: Vector, op: Compare) -> Tile | None:
    """``x - y`` of values that are both spread along rows, where it cannot wrap. What is far beyond the other's values
    compares like what is just beyond them."""
    form = vector.form(op.result)
    if units.blocks(form.pitch, i32) > MAX_STRIDE:
        return None
    x, y = op.lhs, op.rhs
    a, b = vector.facts.of(x), vector.facts.of(y)
    clamped = not Fact(a.low - b.high, a.high - b.low).fits(32)
    if clamped and not (Fact(a.low - 1, a.high + 1).fits(32) and a.high - a.low < (1 << 31) - 2):
        return None
    left, right = vector.spread(x, i32), vector.spread(y, i32)
    if left is None or right is None:
        return None
    other, count = right[1].tensor, right[1].form.size
    if clamped:
        near = vector.room(i32, right[1].form)
        units.with_number(vector.core, "Maxs", near.tensor, other, number_text(a.low - 1, i32), count)
        units.with_number(vector.core, "Mins", near.tensor, near.tensor, number_text(a.high + 1, i32), count)
        other = near.tensor
    difference = vector.room(i32, form)
    units.spread_both(vector.core, "Sub", difference.tensor, (left[1].tensor, left[0]), (other, right[0]), form, i32)
    return difference


def lower_select(vector: Vector, op: Select) -> None:
    dtype = vector.narrow(op.result)
    condition = vector.tile(op.condition)
    if dtype is bool_:
        _select_truth(vector, op, condition)
        return
    if dtype.itemsize == 1:
        wide = vector.room(f16, vector.form(op.result))
        vector.select(wide, condition, *(vector.as_type(vector.tile(v), f16) for v in (op.x, op.y)))
        _rounded(vector, op, wide)
        return
    number = constant(op.y)
    other: Tile | str
    if number is not None and dtype in (f16, f32):
        other = number_text(number, dtype)
    else:
        other = vector.tile(op.y)
    x = vector.tile(op.x)
    vector.select(vector.new(op.result), condition, x, other)


def _select_truth(vector: Vector, op: Select, condition: Tile) -> None:
    """``(c & x) | (~c & y)``."""
    to, form = vector.new(op.result), condition.form
    first, rest = vector.room(bool_, form), vector.room(bool_, form)
    x, y = vector.tile(op.x), vector.tile(op.y)
    bitwise(vector, "And", first, condition, x)
    bitwise(vector, "Not", rest, condition)
    bitwise(vector, "And", rest, rest, y)
    bitwise(vector, "Or", to, first, rest)


# -- functions


def lower_unary(vector: Vector, op: Unary) -> None:
    dtype = op.x.tile.dtype
    if op.kind == "not":
        bitwise(vector, "Not", vector.new(op.result), vector.tile(op.x))
    elif op.kind in ("isnan", "isinf", "isfinite"):
        _classify(vector, op)
    elif op.kind in ("neg", "abs"):
        _sign(vector, op)
    elif op.kind in FUNCTIONS:
        inner = dtype if dtype is f16 and op.kind in ("sqrt", "exp", "log") else f32
        x = vector.as_type(vector.tile(op.x), inner)
        direct = inner is dtype and op.result not in vector.wanted
        result = vector.new(op.result) if direct else vector.room(inner, x.form)
        FUNCTIONS[op.kind](vector, result, x)
        if not direct:
            _rounded(vector, op, result)
    else:
        vector.refuse(op, f"{op.kind} is not lowered for {vector.target}")


def _sign(vector: Vector, op: Unary) -> None:
    inner = computed_in(vector.narrow(op.result))
    x, core = vector.as_type(vector.tile(op.x), inner), vector.core
    result, size = vector.room(inner, x.form), x.form.size
    if op.kind == "abs" and op.x.tile.dtype.is_int and not op.x.tile.dtype.is_signed:
        vector.tiles[op.result] = vector.tile(op.x)
        return
    if op.kind == "abs" and inner.is_float:
        units.unary(core, "Abs", result.tensor, x.tensor, size)
    else:
        units.with_number(core, "Muls", result.tensor, x.tensor, number_text(-1, inner), size)
        if op.kind == "abs":
            units.binary(core, "Max", result.tensor, result.tensor, x.tensor, size)
    _rounded(vector, op, result)


def _classify(vector: Vector, op: Unary) -> None:
    x = vector.as_type(vector.tile(op.x), f32)
    to, core, size = vector.new(op.result), vector.core, x.form.compared
    if op.kind == "isnan":
        core.call(f"Compare({{0}}, {{1}}, {{1}}, CMPMODE::NE, {size})", "V", to.tensor, (vector.compared(x),))
        return
    magnitude = vector.room(f32, x.form)
    units.unary(core, "Abs", magnitude.tensor, x.tensor, x.form.size)
    kind = "EQ" if op.kind == "isinf" else "LT"
    core.call(f"Compares({{0}}, {{1}}, {number_text(math.inf, f32)}, CMPMODE::{kind}, {size})", "V", to.tensor,
              (vector.compared(magnitude),))


def _plain(name: str) -> Callable[[Vector, Tile, Tile], None]:
    return lambda vector, to, x: units.unary(vector.core, name, to.tensor, x.tensor, to.form.size)


def _scaled_first(name: str, factor: float) -> Callable[[Vector, Tile, Tile], None]:
    def lower(vector: Vector, to: Tile, x: Tile) -> None:
        units.with_number(vector.core, "Muls", to.tensor, x.tensor, number_text(factor, to.dtype), to.form.size)
        units.unary(vector.core, name, to.tensor, to.tensor, to.form.size)

    return lower


def _scaled_after(name: str, factor: float) -> Callable[[Vector, Tile, Tile], None]:
    def lower(vector: Vector, to: Tile, x: Tile) -> None:
        units.unary(vector.core, name, to.tensor, x.tensor, to.form.size)
        units.with_number(vector.core, "Muls", to.tensor, to.tensor, number_text(factor, to.dtype), to.form.size)

    return lower


def _library(name: str, times: int) -> Callable[[Vector, Tile, Tile], None]:
    def lower(vector: Vector, to: Tile, x: Tile) -> None:
        size = to.form.size
        room = vector.core.local(u8, times * max(size * to.dtype.itemsize, 256))
        vector.core.call(f"{name}({{0}}, {{2}}, {{1}}, {size})", "V", (to.tensor, room), (x.tensor,))

    return lower


def _to_integer(rounding: str) -> Callable[[Vector, Tile, Tile], None]:
    return lambda vector, to, x: units.copy_cast(vector.core, to.tensor, x.tensor, rounding, to.form.size)


def _reciprocal(vector: Vector, to: Tile, x: Tile) -> None:
    """A division: the reciprocals of the unit are off by 1e−4."""
    ones = vector.room(to.dtype, to.form)
    vector.fill(ones, 1.0)
    units.binary(vector.core, "Div", to.tensor, ones.tensor, x.tensor, to.form.size)


def _reciprocal_root(vector: Vector, to: Tile, x: Tile) -> None:
    root = vector.room(to.dtype, to.form)
    units.unary(vector.core, "Sqrt", root.tensor, x.tensor, to.form.size)
    _reciprocal(vector, to, root)


FUNCTIONS: dict[str, Callable[[Vector, Tile, Tile], None]] = {
    **{kind: _plain(name) for kind, name in PLAIN_UNARY.items()},
    **{kind: _library(*call) for kind, call in LIBRARY.items()},
    **{kind: _to_integer(rounding) for kind, rounding in ROUNDED.items()},
    "exp2": _scaled_first("Exp", math.log(2)), "log2": _scaled_after("Ln", 1 / math.log(2)),
    "log10": _scaled_after("Ln", 1 / math.log(10)), "rcp": _reciprocal, "rsqrt": _reciprocal_root,
}


def lower_fma(vector: Vector, op: Fma) -> None:
    """By a product and a sum."""
    inner = computed_in(vector.narrow(op.result))
    result = vector.room(inner, vector.form(op.result))
    arithmetic(vector, "mul", result, op.a, op.b)
    units.binary(vector.core, "Add", result.tensor, result.tensor, _as(vector, op.c, inner), result.form.size)
    _rounded(vector, op, result)


def lower_bitcast(vector: Vector, op: Bitcast) -> None:
    x, dtype = vector.tile(op.x), vector.narrow(op.result)
    vector.tiles[op.result] = Tile(vector.core.part(x.tensor, dtype=dtype), dtype, x.form)


