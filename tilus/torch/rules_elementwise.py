"""Elementwise operators: functions of one number, arithmetic, comparisons, choices, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from tilus.ir.dtypes import DType, bool_, f32, u8
from tilus.lang import values
from tilus.lang.array_operations import round_to
from tilus.lang.builtins import elementwise as tl
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.values import Tile, compare, constant
from tilus.torch.dtypes import dtype_of
from tilus.torch.node import PROMOTION, Call, convert, operand
from tilus.torch.registry import COPY, Refused, rule

INTS_TO_FLOATS, DEFAULT = PROMOTION.INT_TO_FLOAT, PROMOTION.DEFAULT


def _function(name: str) -> Callable[..., Tile]:
    def function(call: Call, x: Any) -> Tile:
        (tile,) = call.operands(INTS_TO_FLOATS, x)
        return FUNCTIONS[name](tile)

    return function


for _name in ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1",
              "log", "log10", "log1p", "log2", "rsqrt", "sigmoid", "sin", "sinh", "sqrt", "tan", "tanh"):
    rule(_name)(_function(_name))
rule("reciprocal")(_function("rcp"))
rule("special_erfc")(_function("erfc"))


def _rounding(name: str) -> Callable[..., Tile]:
    def function(call: Call, x: Any) -> Tile:
        (tile,) = call.operands(DEFAULT, x)
        return FUNCTIONS[name](tile) if tile.dtype.is_float else tile

    return function


for _name in ("floor", "ceil", "round", "trunc"):
    rule(_name)(_rounding(_name))


def _predicate(name: str) -> Callable[..., Tile]:
    def function(call: Call, x: Tile) -> Tile:
        return FUNCTIONS[name](x.to(f32) if x.dtype.is_bool else x)

    return function


for _name in ("isnan", "isinf", "isfinite"):
    rule(_name)(_predicate(_name))


@rule("abs")
def absolute(call: Call, x: Tile) -> Tile:
    return x if x.dtype.kind == "uint" or x.dtype.is_bool else tl.abs(x)


@rule("neg")
def negative(call: Call, x: Tile) -> Tile:
    return -x


@rule("sign", "sgn")
def sign(call: Call, x: Tile) -> Tile:
    if x.dtype.is_bool:
        return x
    below = operand(0, x.dtype) if x.dtype.kind == "uint" else tl.where(x < 0, operand(-1, x.dtype), 0)
    return tl.where(x > 0, 1, below)


@rule("logical_not")
def logical_not(call: Call, x: Tile) -> Tile:
    return compare("eq", x, operand(0, x.dtype))


@rule("bitwise_not")
def bitwise_not(call: Call, x: Tile) -> Tile:
    return ~x


# -- two operands


@rule("add.Tensor", "add.Scalar")
def add(call: Call, x: Any, y: Any, alpha: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    b = _scaled(b, alpha)
    return values.arithmetic("or" if a.dtype.is_bool else "add", a, b)


@rule("sub.Tensor", "sub.Scalar")
def subtract(call: Call, x: Any, y: Any, alpha: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    return values.arithmetic("sub", a, _scaled(b, alpha))


def _scaled(x: Tile, alpha: Any) -> Tile:
    if type(alpha) in (int, float) and alpha == 1:
        return x
    factor = operand(alpha, x.dtype)
    return x & factor if x.dtype.is_bool else x * factor


@rule("mul.Tensor", "mul.Scalar")
def multiply(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    return values.arithmetic("and" if a.dtype.is_bool else "mul", a, b)


@rule("div.Tensor", "div.Scalar")
def divide(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(INTS_TO_FLOATS, x, y)
    return values.divide(a, b)


@rule("div.Tensor_mode", "div.Scalar_mode")
def divide_rounded(call: Call, x: Any, y: Any, mode: str | None) -> Tile:
    if mode is None:
        return divide(call, x, y)
    a, b = call.operands(DEFAULT, x, y)
    if a.dtype.is_float:
        return FUNCTIONS["trunc"](a / b) if mode == "trunc" else _floor_divided(a, b)
    _check_divisor(call, y)
    quotient: Tile = a // b
    inexact = (quotient * b != a) & ((a < 0) != (b < 0))
    return quotient if mode == "floor" else quotient + inexact.to(a.dtype)


def _floor_divided(a: Tile, b: Tile) -> Tile:
    """Of floats, as Python and ATen do it: the quotient is what the exact remainder leaves."""
    rest = tl.fmod(a, b)
    quotient = (a - rest) / b
    quotient = tl.where((rest != 0) & ((b < 0) != (rest < 0)), quotient - 1.0, quotient)
    floor = FUNCTIONS["floor"](quotient)
    floor = tl.where(quotient - floor > 0.5, floor + 1.0, floor)
    floor = tl.where(quotient != 0, floor, tl.copysign(constant(0.0, a.dtype), a / b))
    return tl.where(b == 0, a / b, floor)


def _check_divisor(call: Call, y: Any) -> None:
    """On the CPU ATen raises an error where an integer is divided by 0, which kernels do not."""
    known = isinstance(y, (bool, int))
    if (known and not y) or (not known and call.result.device.type == "cpu"):
        raise Refused("a division of integers by a tensor, which raises an error for 0")


@rule("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    if not a.dtype.is_float:
        _check_divisor(call, y)
        return values.arithmetic("mod", a, b)
    rest = tl.fmod(a, b)
    return tl.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)


@rule("fmod.Tensor", "fmod.Scalar")
def fmod(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    if a.dtype.is_float:
        return tl.fmod(a, b)
    _check_divisor(call, y)
    rest = a % b
    return tl.where((rest != 0) & ((a < 0) != (b < 0)), rest - b, rest)


@rule("pow.Tensor_Scalar", "pow.Scalar", "pow.Tensor_Tensor")
def power(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    exponent = y if isinstance(y, (int, float)) and not isinstance(y, bool) else None
    if not a.dtype.is_float:
        if not isinstance(exponent, int) or not 0 <= exponent <= 64:
            raise Refused("a power of integers whose exponent is not a small constant")
        return values.power(a, exponent)
    if exponent in (0, 1, 2, 3, 4):
        return values.power(a, int(exponent))
    roots = {0.5: "sqrt", -0.5: "rsqrt", -1: "rcp"}
    return FUNCTIONS[roots[exponent]](a) if exponent in roots else tl.pow(a, b)


@rule("atan2")
def atan2(call: Call, y: Any, x: Any) -> Tile:
    a, b = call.operands(INTS_TO_FLOATS, y, x)
    return tl.atan2(a, b)


@rule("copysign.Tensor", "copysign.Scalar")
def copysign(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(INTS_TO_FLOATS, x, y)
    return tl.copysign(a, b)


@rule("hypot")
def hypot(call: Call, x: Any, y: Any) -> Tile:
    """By the greater of the two, so that no square overflows."""
    a, b = (tl.abs(tile) for tile in call.operands(DEFAULT, x, y))
    most, least = tl.maximum(a, b), tl.minimum(a, b)
    ratio = tl.where(most == 0, operand(0, most.dtype), least / most)
    size = most * FUNCTIONS["sqrt"](ratio * ratio + 1.0)
    size = tl.where(FUNCTIONS["isnan"](a) | FUNCTIONS["isnan"](b), a + b, size)
    return tl.where(FUNCTIONS["isinf"](most), operand(math.inf, most.dtype), size)


@rule("ldexp.Tensor")
def ldexp(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(INTS_TO_FLOATS, x, y)
    scaled: Tile = a * FUNCTIONS["exp2"](b)
    return scaled


def at_most(x: Tile, y: Tile) -> Tile:
    """The lesser of two; NaN where one is."""
    if x.dtype.is_bool:
        return x & y
    if not x.dtype.is_float:
        return tl.minimum(x, y)
    return tl.where((x < y) | (x != x), x, y)


def at_least(x: Tile, y: Tile) -> Tile:
    """The greater of two; NaN where one is."""
    if x.dtype.is_bool:
        return x | y
    if not x.dtype.is_float:
        return tl.maximum(x, y)
    return tl.where((x > y) | (x != x), x, y)


@rule("maximum")
def maximum(call: Call, x: Any, y: Any) -> Tile:
    return at_least(*call.operands(DEFAULT, x, y))


@rule("minimum")
def minimum(call: Call, x: Any, y: Any) -> Tile:
    return at_most(*call.operands(DEFAULT, x, y))


@rule("fmax")
def fmax(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    return tl.maximum(a, b) if not a.dtype.is_bool else a | b


@rule("fmin")
def fmin(call: Call, x: Any, y: Any) -> Tile:
    a, b = call.operands(DEFAULT, x, y)
    return tl.minimum(a, b) if not a.dtype.is_bool else a & b


@rule("clamp.default", "clamp.Tensor")
def clamp(call: Call, x: Any, low: Any, high: Any) -> Tile:
    tile, least, most = call.operands(DEFAULT, x, low, high)
    if least is not None:
        tile = _limited(tile, least, low, at_least)
    return tile if most is None else _limited(tile, most, high, at_most)


def _limited(x: Tile, bound: Tile, given: Any, limit: Callable[[Tile, Tile], Tile]) -> Tile:
    """A bound that is a number keeps NaNs of the tile by one comparison."""
    if not x.dtype.is_float or not isinstance(given, (int, float)) or math.isnan(given):
        return limit(x, bound)
    outside = x < bound if limit is at_least else x > bound
    return tl.where(outside, bound, x)


def _bits(kind: str) -> Callable[..., Tile]:
    def function(call: Call, x: Any, y: Any) -> Tile:
        return values.arithmetic(kind, *call.operands(DEFAULT, x, y))

    return function


def _logic(kind: str) -> Callable[..., Tile]:
    def function(call: Call, x: Tile, y: Tile) -> Tile:
        return values.arithmetic(kind, convert(x, bool_), convert(y, bool_))

    return function


for _name in ("and", "or", "xor"):
    rule(f"bitwise_{_name}.Tensor", f"bitwise_{_name}.Scalar")(_bits(_name))
    rule(f"logical_{_name}")(_logic(_name))


def _comparison(kind: str) -> Callable[..., Tile]:
    def function(call: Call, x: Any, y: Any) -> Tile:
        common = torch.result_type(*call.metas)
        if isinstance(y, float):  # rounded to the common type, even where values have more digits
            y = torch.tensor(y, dtype=common).item()
        a, b = operand(x, dtype_of(common)), operand(y, dtype_of(common))
        if a.dtype.is_bool:
            a, b = a.to(u8), b.to(u8)
        return compare(kind, a, b)

    return function


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    rule(f"{_name}.Tensor", f"{_name}.Scalar")(_comparison(_name))


@rule("where.self", "where.ScalarSelf", "where.ScalarOther")
def where(call: Call, condition: Tile, x: Any, y: Any) -> Tile:
    return tl.where(convert(condition, bool_), operand(x, call.dtype), operand(y, call.dtype))


# -- the same elements


@rule("alias", "detach", "clone", "lift_fresh_copy", "lift", kind=COPY)
def same(call: Call, x: Tile, *_: Any) -> Tile:
    return x


@rule("_to_copy", "convert_element_type", kind=COPY)
def to_copy(call: Call, x: Tile, *_: Any) -> Tile:
    if call.result.device != call.metas[0].device:
        raise Refused("a copy to another device")
    return rounded(x, call.dtype)


def rounded(x: Tile, dtype: DType) -> Tile:
    """What a cast of the user's means: floats lose what the narrower type cannot hold, whether or not they are stored
    in it."""
    if x.dtype.is_float and dtype.is_float and dtype is not x.dtype:
        found: Tile = round_to(x)(dtype)
        return found
    return convert(x, dtype)
