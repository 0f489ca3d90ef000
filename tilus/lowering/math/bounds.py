"""Documented error bounds of the elementary functions, in units in the last place of the result.

Held by tests/lowering/test_math.py, which measures against mpmath; docs/functions.md is made from this table.
Results of 16-bit types are computed in f32 and rounded once more.
"""

from __future__ import annotations

ULP_BOUNDS: dict[str, dict[str, float]] = {
    "exp": {"f32": 1.0, "f64": 1.0},
    "exp2": {"f32": 1.0, "f64": 1.0},
    "expm1": {"f32": 2.0, "f64": 2.0},
    "log": {"f32": 1.0, "f64": 1.0},
    "log2": {"f32": 1.0, "f64": 1.0},
    "log10": {"f32": 1.0, "f64": 1.0},
    "log1p": {"f32": 1.0, "f64": 1.0},
    "sqrt": {"f32": 0.5, "f64": 0.5},
    "rsqrt": {"f32": 1.5, "f64": 1.5},
    "rcp": {"f32": 0.5, "f64": 0.5},
    "sin": {"f32": 1.5, "f64": 2.5},
    "cos": {"f32": 1.5, "f64": 2.5},
    "tan": {"f32": 3.0, "f64": 4.0},
    "asin": {"f32": 1.0, "f64": 1.0},
    "acos": {"f32": 1.0, "f64": 1.0},
    "atan": {"f32": 1.5, "f64": 1.0},
    "sinh": {"f32": 3.0, "f64": 3.0},
    "cosh": {"f32": 3.0, "f64": 2.5},
    "tanh": {"f32": 2.5, "f64": 2.5},
    "asinh": {"f32": 2.0, "f64": 2.0},
    "acosh": {"f32": 2.0, "f64": 2.0},
    "atanh": {"f32": 2.0, "f64": 2.0},
    "erf": {"f32": 1.5, "f64": 1.5},
    "erfc": {"f32": 4.0, "f64": 4.0},
    "sigmoid": {"f32": 2.5, "f64": 2.5},
    "pow": {"f32": 1.0, "f64": 1.0},
    "atan2": {"f32": 1.5, "f64": 1.0},
    "fmod": {"f32": 0.0, "f64": 0.0},
}
