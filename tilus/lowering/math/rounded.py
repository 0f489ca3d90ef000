"""Functions of f32 whose results are going to be rounded to 16 bits, by the approximate instructions of GPUs.

Their errors, about 2^-17 of the result and below, hardly show after that rounding. What the instructions are off by is
what the PTX ISA says. Numbers below 2^-126 count as 0 on the way to f16; for bf16, which has such, they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f16
from tilus.ir.ops.simt import ApproxUnary
from tilus.lowering.math import tables
from tilus.lowering.math.builder import Arithmetic


class Rounded(Arithmetic):
    """Arithmetic whose results are rounded to ``precision``."""

    def __init__(self, m: Arithmetic, precision: DType) -> None:
        super().__init__(m.b, m.const(0.0), m.in_turn)
        self.flush = precision is f16

    def instruction(self, kind: str, x: Value) -> Value:
        return self.b.add(ApproxUnary(kind, x, self.flush)).result

    def exp(self, x: Value) -> Value:
        return self.instruction("ex2", self.mul(x, math.log2(math.e)))


def expand_rounded(m: Arithmetic, kind: str, x: Value, precision: DType) -> Value:
    """``kind``, one of ``ROUNDED``, of an f32 scalar or vector, to be rounded to f16 or bf16."""
    return ROUNDED[kind](Rounded(m, precision), x)


def _instruction(kind: str) -> Callable[[Rounded, Value], Value]:
    return lambda m, x: m.instruction(kind, x)


def _log(scale: float) -> Callable[[Rounded, Value], Value]:
    """The logarithm to base 2 times a constant; near 1, where that has few digits, a polynomial."""
    def expand(m: Rounded, x: Value) -> Value:
        f = m.sub(x, 1.0)
        near = m.mul(f, m.polynomial(f, [c * scale / math.log(2) for c in tables.LOG1P_HALF]))
        far = m.b.add(ApproxUnary("lg2", x, False)).result
        far = far if scale == 1.0 else m.mul(far, scale)
        return m.where(m.test("lt", m.abs(f), 0.125), near, far)

    return expand


def _sigmoid(m: Rounded, x: Value) -> Value:
    """1 / (1 + exp(-x)); where results may be subnormal, of |x|, and for negative x times exp(x)."""
    if m.flush:
        return m.instruction("rcp", m.add(m.exp(m.neg(x)), 1.0))
    e = m.exp(m.neg(m.abs(x)))
    positive = m.instruction("rcp", m.add(e, 1.0))
    return m.where(m.test("lt", x, 0.0), m.mul(e, positive), positive)


def _tanh(m: Rounded, x: Value) -> Value:
    """(1 - t) / (1 + t) with t = exp(-2|x|), near 0 x - x³/3."""
    a = m.abs(x)
    t = m.exp(m.mul(a, -2.0))
    far = m.mul(m.sub(1.0, t), m.instruction("rcp", m.add(t, 1.0)))
    near = m.fma(m.mul(m.mul(a, a), -1 / 3), a, a)
    return m.copysign(m.where(m.test("lt", a, 0.0625), near, far), x)


def _erfc_positive(m: Rounded, a: Value) -> Value:
    """exp(-a²) t P(t) with t = 1 / (1 + a/2)."""
    t = m.instruction("rcp", m.fma(a, 0.5, 1.0))
    power = m.instruction("ex2", m.mul(m.mul(a, a), -math.log2(math.e)))
    return m.mul(m.mul(t, m.polynomial(t, tables.ERFC_HALF)), power)


def _erfc(m: Rounded, x: Value) -> Value:
    tail = _erfc_positive(m, m.abs(x))
    return m.where(m.test("lt", x, 0.0), m.sub(2.0, tail), tail)


def _erf(m: Rounded, x: Value) -> Value:
    a = m.abs(x)
    z = m.mul(a, a)
    near = m.mul(a, m.fma(z, m.polynomial(z, tables.ERF_HALF), 2 / math.sqrt(math.pi)))
    far = m.sub(1.0, _erfc_positive(m, a))
    return m.copysign(m.where(m.test("lt", a, 0.5), near, far), x)


ROUNDED: dict[str, Callable[[Rounded, Value], Value]] = {
    "exp": Rounded.exp, "exp2": _instruction("ex2"), "log": _log(math.log(2)), "log2": _log(1.0),
    "log10": _log(math.log10(2)), "rcp": _instruction("rcp"), "rsqrt": _instruction("rsqrt"),
    "sqrt": _instruction("sqrt"), "sigmoid": _sigmoid, "tanh": _tanh, "erf": _erf, "erfc": _erfc,
}
"""By function."""

__all__ = ["ROUNDED", "expand_rounded"]
