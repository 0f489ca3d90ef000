"""Derivatives of elementwise operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tilus.ir.ops import Binary, Cast, Fma, Select, Unary
from tilus.ir.ops.array import RoundTo
from tilus.lang.builtins.elementwise import copysign, where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.derivatives import Given, Step, derivative_of
from tilus.lang.values import Tile, arithmetic, constant

_F = FUNCTIONS

UNARY: dict[str, Callable[[Tile, Tile, Tile], Any]] = {
    "neg": lambda g, x, y: -g,
    "abs": lambda g, x, y: where(x > 0, g, where(x < 0, -g, 0.0)),
    "exp": lambda g, x, y: g * y,
    "exp2": lambda g, x, y: g * y * math.log(2),
    "expm1": lambda g, x, y: g * (y + 1.0),
    "log": lambda g, x, y: g / x,
    "log2": lambda g, x, y: g / (x * math.log(2)),
    "log10": lambda g, x, y: g / (x * math.log(10)),
    "log1p": lambda g, x, y: g / (x + 1.0),
    "sqrt": lambda g, x, y: g * 0.5 / y,
    "rsqrt": lambda g, x, y: g * -0.5 * y / x,
    "rcp": lambda g, x, y: -g * y * y,
    "sin": lambda g, x, y: g * _F["cos"](x),
    "cos": lambda g, x, y: -g * _F["sin"](x),
    "tan": lambda g, x, y: g * (y * y + 1.0),
    "asin": lambda g, x, y: g * _F["rsqrt"](1.0 - x * x),
    "acos": lambda g, x, y: -g * _F["rsqrt"](1.0 - x * x),
    "atan": lambda g, x, y: g / (x * x + 1.0),
    "sinh": lambda g, x, y: g * _F["cosh"](x),
    "cosh": lambda g, x, y: g * _F["sinh"](x),
    "tanh": lambda g, x, y: g * (1.0 - y * y),
    "asinh": lambda g, x, y: g * _F["rsqrt"](x * x + 1.0),
    "acosh": lambda g, x, y: g * _F["rsqrt"](x * x - 1.0),
    "atanh": lambda g, x, y: g / (1.0 - x * x),
    "erf": lambda g, x, y: g * (2 / math.sqrt(math.pi)) * _F["exp"](-(x * x)),
    "erfc": lambda g, x, y: g * (-2 / math.sqrt(math.pi)) * _F["exp"](-(x * x)),
    "sigmoid": lambda g, x, y: g * y * (1.0 - y),
}
"""By the derivative of the result, the operand and the result. Functions that step are not here: theirs is 0."""


@derivative_of(Unary)
def of_unary(op: Unary, step: Step) -> Given:
    rule = UNARY.get(op.kind)
    if rule is not None:
        yield op.x, rule(step.g, Tile(op.x), step.y)


Pair = tuple[Any, Any]
BINARY: dict[str, Callable[[Tile, Tile, Tile, Tile], Pair]] = {
    "add": lambda g, a, b, y: (g, g),
    "sub": lambda g, a, b, y: (g, -g),
    "mul": lambda g, a, b, y: (g * b, g * a),
    "div": lambda g, a, b, y: (g / b, -g * y / b),
    "mod": lambda g, a, b, y: (g, -g * _F["floor"](a / b)),
    "fmod": lambda g, a, b, y: (g, -g * _F["trunc"](a / b)),
    "atan2": lambda g, a, b, y: (g * b / (a * a + b * b), -g * a / (a * a + b * b)),
    "copysign": lambda g, a, b, y: (where(a < 0, -g, g) * copysign(constant(1.0, b.dtype), b), None),
}
"""What both operands get."""


@derivative_of(Binary)
def of_binary(op: Binary, step: Step) -> Given:
    a, b = Tile(op.lhs), Tile(op.rhs)
    if op.kind in ("min", "max"):
        parts = _chosen(op, step, a, b)
    elif op.kind == "pow":
        parts = _power(op, step, a, b)
    elif op.kind in BINARY:
        parts = BINARY[op.kind](step.g, a, b, step.y)
    else:  # a quotient rounded down, which steps
        return
    yield from ((v, part) for v, part in zip((op.lhs, op.rhs), parts, strict=True)
                if part is not None and step.wanted(v))


def _chosen(op: Binary, step: Step, a: Tile, b: Tile) -> Pair:
    """Of minima and maxima: that which is chosen gets all, two equal ones half each; one that is compared with a bound
    gets it within."""
    def of(x: Tile, other: Tile, both: bool) -> Tile:
        within = x < other if op.kind == "min" else x > other
        rest = where(x == other, step.g * 0.5, 0.0) if both else constant(0.0, step.g.dtype)
        return where(within | _F["isnan"](other), step.g, rest)

    both = step.wanted(op.lhs) and step.wanted(op.rhs)
    return of(a, b, both), of(b, a, both)


def _power(op: Binary, step: Step, a: Tile, b: Tile) -> Pair:
    base = exponent = None
    if step.wanted(op.lhs):
        base = where(b == 0, 0.0, step.g * b * arithmetic("pow", a, b - 1.0))
    if step.wanted(op.rhs):
        exponent = where(a > 0, step.g * step.y * _F["log"](where(a > 0, a, 1.0)), 0.0)
    return base, exponent


@derivative_of(Fma)
def of_fma(op: Fma, step: Step) -> Given:
    yield from ((op.a, step.g * Tile(op.b)), (op.b, step.g * Tile(op.a)), (op.c, step.g))


@derivative_of(Select)
def of_select(op: Select, step: Step) -> Given:
    condition = Tile(op.condition)
    yield from ((op.x, where(condition, step.g, 0.0)), (op.y, where(condition, 0.0, step.g)))


@derivative_of(Cast, RoundTo)
def of_cast(op: Cast | RoundTo, step: Step) -> Given:
    """Rounding counts as none."""
    yield op.x, step.g


__all__ = ["BINARY", "UNARY"]
