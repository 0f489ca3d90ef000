"""Elementary functions as arithmetic at thread level, on scalars and vectors alike, for the CPU and the GPU.

The algorithms are the classical ones (argument reduction, a polynomial, reconstruction): Cody and Waite (1980) for
the reductions, Payne and Hanek (1983) for large arguments of the circular functions, Shepherd and Laframboise (1981)
for erfc, with coefficients from ``tools/fit_math.py``. Subnormals are kept. Nothing is reassociated or contracted:
where a fused multiply-add matters it is written. docs/functions.md has the measured error bounds.
"""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.lowering.math import exponential, power, trigonometry
from tilus.lowering.math.builder import Arithmetic

NATIVE_UNARY = frozenset({
    "neg", "abs", "not", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite",
})
"""Unary operations that every target has."""

UNARY: dict[str, Callable[[Arithmetic, Value], Value]] = {
    "exp": exponential.expand_exp, "exp2": exponential.expand_exp2, "expm1": exponential.expand_expm1,
    "log": exponential.expand_log, "log2": exponential.expand_log2, "log10": exponential.expand_log10,
    "log1p": exponential.expand_log1p, "rsqrt": exponential.expand_rsqrt, "rcp": exponential.expand_rcp,
    "sin": trigonometry.expand_sin, "cos": trigonometry.expand_cos, "tan": trigonometry.expand_tan,
    "asin": trigonometry.expand_asin, "acos": trigonometry.expand_acos, "atan": trigonometry.expand_atan,
    "sinh": exponential.expand_sinh, "cosh": exponential.expand_cosh, "tanh": exponential.expand_tanh,
    "asinh": exponential.expand_asinh, "acosh": exponential.expand_acosh, "atanh": exponential.expand_atanh,
    "erf": exponential.expand_erf, "erfc": exponential.expand_erfc, "sigmoid": exponential.expand_sigmoid,
}
BINARY: dict[str, Callable[[Arithmetic, Value, Value], Value]] = {
    "pow": power.expand_pow, "fmod": power.expand_fmod, "mod": power.expand_mod,
    "floordiv": power.expand_floordiv, "atan2": trigonometry.expand_atan2,
}


def expand_unary(b: Builder, kind: str, x: Value, in_turn: bool = False) -> Value:
    """``kind`` of an f32 or f64 scalar or vector; ``in_turn``: of registers, not of the machine's vectors."""
    return UNARY[kind](Arithmetic(b, x, in_turn), x)


def expand_binary(b: Builder, kind: str, x: Value, y: Value, in_turn: bool = False) -> Value:
    """``kind`` of two f32 or f64 scalars or vectors, as ``expand_unary``."""
    return BINARY[kind](Arithmetic(b, x, in_turn), x, y)
