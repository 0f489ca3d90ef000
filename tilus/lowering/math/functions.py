"""Elementary functions as arithmetic at thread level, on scalars and vectors alike, for the CPU and the GPU.

The algorithms are the classical ones (argument reduction, a polynomial, reconstruction): Cody and Waite (1980) for
the reductions, Payne and Hanek (1983) for large arguments of the circular functions, Shepherd and Laframboise (1981)
for erfc, with coefficients from ``tools/fit_math.py``. Subnormals are kept. Nothing is reassociated or contracted:
where a fused multiply-add matters it is written. docs/functions.md has the measured error bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tilus.ir import functions
from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.lowering.math import exponential, power, trigonometry
from tilus.lowering.math.builder import Arithmetic

NATIVE_UNARY = frozenset({
    "neg", "abs", "not", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite",
})
"""Unary operations that every target has."""


def _expansions(kinds: Iterable[str]) -> dict[str, Callable[..., Value]]:
    """The functions ``expand_KIND`` of this package."""
    modules = (exponential, trigonometry, power)
    return {kind: getattr(module, f"expand_{kind}") for kind in kinds for module in modules
            if hasattr(module, f"expand_{kind}")}


UNARY = _expansions(functions.UNARY)
BINARY = _expansions((*functions.BINARY, "mod", "floordiv"))


def expand_unary(b: Builder, kind: str, x: Value, in_turn: bool = False, scales: bool = False,
                 flushes: bool = False) -> Value:
    """``kind`` of an f32 or f64 scalar or vector; ``in_turn``: of registers, not of the machine's vectors; ``scales``:
    for a machine that multiplies by powers of two; ``flushes``: subnormal results may be 0."""
    return UNARY[kind](Arithmetic(b, x, in_turn, scales, flushes), x)


def expand_binary(b: Builder, kind: str, x: Value, y: Value, in_turn: bool = False,
                  scales: bool = False) -> Value:
    """``kind`` of two f32 or f64 scalars or vectors, as ``expand_unary``."""
    return BINARY[kind](Arithmetic(b, x, in_turn, scales), x, y)
