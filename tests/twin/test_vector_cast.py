"""Cast in every pair of types and round mode, against results by hand and by exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, Tensor, given, result

F16, F32, BF16, S16, S32, S64 = np.float16, np.float32, ml_dtypes.bfloat16, np.int16, np.int32, np.int64
S8, U8 = np.int8, np.uint8
MODES = ("RINT", "FLOOR", "CEIL", "ROUND", "TRUNC")
NAN, INF = np.nan, np.inf

HALVES = [-2.5, -1.5, -1.25, -0.5, 0.5, 1.25, 1.5, 2.5]
ROUNDED = {
    "NONE": [-2, -2, -1, 0, 0, 1, 2, 2], "RINT": [-2, -2, -1, 0, 0, 1, 2, 2], "FLOOR": [-3, -2, -2, -1, 0, 1, 1, 2],
    "CEIL": [-2, -1, -1, 0, 1, 2, 2, 3], "ROUND": [-3, -2, -1, -1, 1, 1, 2, 3], "TRUNC": [-2, -1, -1, 0, 0, 1, 1, 2],
}


def cast(mode: str, values: object, source: object, expected: object, dtype: object, name: str = "") -> Case:
    x, y = given(values, source), result(expected, dtype)
    title = name or f"{np.dtype(source).name} to {np.dtype(dtype).name} {mode}"
    return Case(title, f"Cast(y, x, RoundMode::CAST_{mode}, {x.count});", {"x": x, "y": y})


def packed(values: list[int], after: bool) -> Tensor:
    """4-bit integers, the first of each two in the low bits."""
    raw = np.array([a & 15 | (b & 15) << 4 for a, b in zip(values[::2], values[1::2], strict=True)], U8)
    return Tensor(np.zeros_like(raw) if after else raw, len(values), "int4", raw if after else None)


NIBBLES = [7, -8, 1, -1, 3, 0, -4, 5]
CASES = [
    *(cast(mode, HALVES, source, ROUNDED[mode], to)
      for source, targets in ((F32, (S16, S32, S64, F32)), (F16, (S16, S32, S8)), (BF16, (S32,)))
      for to in targets for mode in ROUNDED),
    *(cast(mode, np.abs(HALVES), F16, np.abs(ROUNDED[mode][4:] + ROUNDED[mode][4:])[[3, 2, 1, 0, 0, 1, 2, 3]], U8)
      for mode in MODES),
    # What does not fit saturates; NaN is 0.
    cast("RINT", [1e10, -1e10, 32767.5, -32768.5, NAN, INF], F32, [32767, -32768, 32767, -32768, 0, 32767], S16,
         "to int16"),
    cast("RINT", [3e9, -3e9, 2147483520, NAN, -INF, 1], F32,
         [2147483647, -2147483648, 2147483520, 0, -2147483648, 1], S32, "to int32"),
    cast("TRUNC", [1e19, -1e19, 2.0**62], F32, [2**63 - 1, -2**63, 2**62], S64, "to int64"),
    cast("NONE", [127.5, 128, -129, 300], F16, [127, 127, -128, 127], S8, "to int8"),
    cast("NONE", [255, 256, -1, 3.5], F16, [255, 255, 0, 4], U8, "to uint8"),
    Case("float16 to int4", "Cast(y, x, RoundMode::CAST_NONE, 8);",
         {"x": given([9, -9, 1.5, -0.5, 2.5, 0, 7, -8], F16), "y": packed([7, -8, 2, 0, 2, 0, 7, -8], after=True)}),
    Case("int4 to float16", "Cast(y, x, RoundMode::CAST_NONE, 8);",
         {"x": packed(NIBBLES, after=False), "y": result(NIBBLES, F16)}),
    cast("NONE", [-128, 127, 0, -1], S8, [-128, 127, 0, -1], F16),
    cast("NONE", [255, 128, 0, 1], U8, [255, 128, 0, 1], F16),
    cast("NONE", [0.1, 65504, 2.0**-24, INF, NAN], F16,
         [0.0999755859375, 65504, 2.0**-24, INF, NAN], F32),
    cast("NONE", [1.0, -3.5, 3e38], BF16, [1.0, -3.5, np.float32(BF16(3e38))], F32),
    cast("NONE", [-32768, 32767], S16, [-32768, 32767], F32),
    # 2049 lies between 2048 and 2050, 4098 between 4096 and 4100.
    *(cast(mode, [2049, 2051, -2049, 4099], S16, values, F16)
      for mode, values in {"NONE": [2048, 2052, -2048, 4100], "FLOOR": [2048, 2050, -2050, 4096],
                           "CEIL": [2050, 2052, -2048, 4100], "ROUND": [2050, 2052, -2050, 4100],
                           "TRUNC": [2048, 2050, -2048, 4096]}.items()),
    # 2²⁴ + 1 lies between 2²⁴ and 2²⁴ + 2.
    *(cast(mode, [2**24 + 1, -(2**24) - 1, 2**25 + 2], S32, [a, -b, c], F32)
      for mode, a, b, c in (("RINT", 2**24, 2**24, 2**25), ("FLOOR", 2**24, 2**24 + 2, 2**25),
                            ("CEIL", 2**24 + 2, 2**24, 2**25 + 4), ("ROUND", 2**24 + 2, 2**24 + 2, 2**25 + 4),
                            ("TRUNC", 2**24, 2**24, 2**25))),
    # Far below the last place: a tie but for one.
    cast("RINT", [2**62 + 2**38, 2**62 + 2**38 + 1, -(2**62) - 2**38 - 1], S64,
         [2.0**62, 2.0**62 + 2.0**39, -(2.0**62) - 2.0**39], F32),
    cast("NONE", [1, -1, 2**40, -2**40], S64, [1, -1, 2**31 - 1, -2**31], S32),
    cast("NONE", [-5, 2**31 - 1], S32, [-5, 2**31 - 1], S64),
    cast("NONE", [40000, -40000, 7], S32, [32767, -32768, 7], S16),
    Case("int32 to float16", "SetDeqScale(half(0.5f));\nCast(y, x, RoundMode::CAST_NONE, 4);",
         {"x": given([7, -8, 1001, 200000], S32), "y": result([3.5, -4, 500.5, INF], F16)}),
    cast("ODD", [1 + 2.0**-12, 1 + 3 * 2.0**-11, 1, -1 - 2.0**-20, 1e6], F32,
         [1 + 2.0**-10, 1 + 2.0**-10, 1, -1 - 2.0**-10, 65504], F16),
    # Past the largest half: infinite where the mode goes that way.
    *(cast(mode, [65519, 65520, -65536, 1e6], F32, values, F16, f"overflow {mode}")
      for mode, values in {"NONE": [65504, INF, -INF, INF], "FLOOR": [65504, 65504, -INF, 65504],
                           "CEIL": [INF, INF, -65504, INF], "TRUNC": [65504, 65504, -65504, 65504]}.items()),
    # Level 0 in lanes of the larger type: 64 a repeat, of which halves fill four blocks.
    Case("level 0", "Cast(y, x, RoundMode::CAST_TRUNC, uint64_t(64), 2, UnaryRepeatParams(1, 1, 8, 4));",
         {"x": given(np.arange(128) + 0.5, F16), "y": result(np.arange(128), S32)}),
    Case("level 0 masked", """uint64_t lanes[2] = {5, 0};
Cast(y, x, RoundMode::CAST_RINT, lanes, 2, UnaryRepeatParams(1, 1, 4, 8));""",
         {"x": given(np.arange(128)), "y": result([0, 77, 2] + [77] * 61 + [64, 77, 66] + [77] * 61, F16)}),
]

SAMPLES = [0.1, -0.1, 1 / 3, 1e-5, -1e-5, 6e-8, 2.0**-25, 3 * 2.0**-26, 1000.7, -0.99996, 2.0**-14 - 2.0**-26, 5.96e-8]
SWEEP = [Case(f"sweep {np.dtype(dtype).name} {mode}", f"Cast(y, x, RoundMode::CAST_{mode}, {len(SAMPLES)});",
              {"x": given(SAMPLES), "y": result([0] * len(SAMPLES), dtype)})
         for dtype in (F16, BF16) for mode in MODES]
KERNEL = Kernel([*CASES, *SWEEP])


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_result(name: str):
    KERNEL.check(name)


def rounded(x: float, digits: int, least: int, mode: str) -> float:
    """The number of `digits` binary digits, with exponents from `least` on, that `x` becomes."""
    exponent = max(math.frexp(x)[1] - 1, least)
    unit = Fraction(2) ** (exponent - digits + 1)
    scaled = Fraction(x) / unit
    whole = {"RINT": round, "FLOOR": math.floor, "CEIL": math.ceil, "TRUNC": math.trunc,
             "ROUND": lambda q: int(math.copysign(math.floor(abs(q) + Fraction(1, 2)), q))}[mode](scaled)
    return float(whole * unit)


@pytest.mark.parametrize("case", SWEEP, ids=lambda case: case.name)
def test_round_modes_by_exact_arithmetic(case: Case):
    after, _ = KERNEL.run(case.name)
    _, dtype, mode = case.name.split()
    digits, least = {"float16": (11, -14), "bfloat16": (8, -126)}[dtype]
    expected = [rounded(float(np.float32(x)), digits, least, mode) for x in SAMPLES]
    np.testing.assert_array_equal(after["y"].astype(np.float64), expected)
