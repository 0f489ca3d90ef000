"""The functions of floats, and what is known of each.

An entry here is a kind of ``Unary`` or ``Binary`` operation and, of one operand, a builtin of the language. How the
function is computed is in lowering/math (``expand_NAME``) and, independently, in interp/elementwise.py.
"""

from __future__ import annotations

Bounds = tuple[float, float]


class Function:
    """A function of floats to the same type.

    Attributes:
        meaning: one line for the user; "" where the language declares the function itself.
        ulps: the documented bounds on the error of f32 and f64, in units in the last place of the result. Results of
            16-bit types are computed in f32 and rounded once more. None where the result is exact.
        approximated: whether GPUs have an approximate instruction for it.
        keeps_zero: whether 0 gives 0.
    """

    __slots__ = ("approximated", "keeps_zero", "meaning", "ulps")

    def __init__(self, meaning: str = "", ulps: Bounds | None = None, *, approximated: bool = False,
                 keeps_zero: bool = False) -> None:
        self.meaning = meaning
        self.ulps = ulps
        self.approximated = approximated
        self.keeps_zero = keeps_zero


UNARY = {
    "exp": Function("e to the power x.", (1.0, 1.0), approximated=True),
    "exp2": Function("2 to the power x.", (1.0, 1.0), approximated=True),
    "expm1": Function("exp(x) - 1, accurate near 0.", (2.0, 2.0), keeps_zero=True),
    "log": Function("Natural logarithm.", (1.0, 1.0), approximated=True),
    "log2": Function("Logarithm to base 2.", (1.0, 1.0), approximated=True),
    "log10": Function("Logarithm to base 10.", (1.0, 1.0)),
    "log1p": Function("log(1 + x), accurate near 0.", (1.0, 1.0), keeps_zero=True),
    "sqrt": Function("Square root, correctly rounded.", (0.5, 0.5), approximated=True, keeps_zero=True),
    "rsqrt": Function("1 / sqrt(x).", (1.5, 1.5), approximated=True),
    "rcp": Function("1 / x.", (0.5, 0.5), approximated=True),
    "sin": Function("Sine of radians.", (1.5, 2.5), approximated=True, keeps_zero=True),
    "cos": Function("Cosine of radians.", (1.5, 2.5), approximated=True),
    "tan": Function("Tangent of radians.", (3.0, 4.0), keeps_zero=True),
    "asin": Function("Arc sine, in radians.", (1.0, 1.0), keeps_zero=True),
    "acos": Function("Arc cosine, in radians.", (1.0, 1.0)),
    "atan": Function("Arc tangent, in radians.", (1.5, 1.0), keeps_zero=True),
    "sinh": Function("Hyperbolic sine.", (3.0, 3.0), keeps_zero=True),
    "cosh": Function("Hyperbolic cosine.", (3.0, 2.5)),
    "tanh": Function("Hyperbolic tangent.", (2.5, 2.5), approximated=True, keeps_zero=True),
    "asinh": Function("Inverse hyperbolic sine.", (2.0, 2.0), keeps_zero=True),
    "acosh": Function("Inverse hyperbolic cosine.", (2.0, 2.0)),
    "atanh": Function("Inverse hyperbolic tangent.", (2.0, 2.0), keeps_zero=True),
    "erf": Function("Error function.", (1.5, 1.5), keeps_zero=True),
    "erfc": Function("Complementary error function 1 - erf(x).", (4.0, 4.0)),
    "sigmoid": Function("1 / (1 + exp(-x)).", (2.5, 2.5), approximated=True),
    "floor": Function("Greatest integer not above x, as a float.", keeps_zero=True),
    "ceil": Function("Least integer not below x, as a float.", keeps_zero=True),
    "round": Function("Nearest integer, ties to even, as a float.", keeps_zero=True),
    "trunc": Function("Integer part, as a float.", keeps_zero=True),
}
PREDICATES = {
    "isnan": Function("Whether x is a NaN."),
    "isinf": Function("Whether x is an infinity."),
    "isfinite": Function("Whether x is neither a NaN nor an infinity."),
}
"""Functions of floats to bool."""

BINARY = {
    "pow": Function(ulps=(1.0, 1.0)),
    "atan2": Function(ulps=(1.5, 1.0)),
    "copysign": Function(),
    "fmod": Function(ulps=(0.0, 0.0)),
}

ROUNDED_ULPS = 0.55
"""The documented bound of results that are rounded to f16 or bf16 (0.5 of which is that rounding), in units in the last
place of those types, where GPUs have an expansion for it."""
