"""Reductions, and functions that the library computes, against results by hand and by higher precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, given, result, scratch

F16, F32, U16, U32 = np.float16, np.float32, np.uint16, np.uint32
PIPE = "TPipe pipe;"


def bits(value: float, dtype: object) -> int:
    unsigned = U16 if dtype is F16 else U32
    return int(np.array(value, dtype).view(unsigned))


def index(value: int, dtype: object) -> float:
    """An index as bits of the value's type."""
    return np.array(value, U16 if dtype is F16 else U32).view(dtype)


TIES = [3, 9, 1, 9, 1, 2] + [5] * 58
UNEVEN = [2048] + [1] * 127

REDUCTIONS = [
    Case("WholeReduceSum", "WholeReduceSum(y, x, 64, 3, 1, 1, 8);",
         {"x": given(np.arange(192)), "y": result([2016, 6112, 10208])}),
    # Lanes 0, 1, 2 alone, and results two apart.
    Case("WholeReduceSum masked", "WholeReduceSum(y, x, 3, 2, 2, 1, 8);",
         {"x": given(np.arange(128)), "y": result([3, 77, 195, 77])}),
    Case("WholeReduceSum bits", """uint64_t lanes[2] = {uint64_t(1) << 63 | 2, 0};
WholeReduceSum(y, x, lanes, 1, 1, 1, 8);""",
         {"x": given(np.arange(64)), "y": result([64])}),
    # Blocks 0, 2, 4, … of two repeats that are 2 blocks apart.
    Case("WholeReduceSum strides", "WholeReduceSum(y, x, 64, 2, 1, 2, 2);",
         {"x": given(np.repeat(np.arange(18), 8)), "y": result([8 * 56, 8 * 72])}),
    # (2048 + 1) is 2048 in half, the neighbours' other sums are exact: 2048 + 2 + 4 + 8 + 16 + 32 + 64.
    Case("WholeReduceSum half", "WholeReduceSum(y, x, 128, 1, 1, 1, 8);",
         {"x": given(UNEVEN, F16), "y": result([2174], F16)}),
    Case("WholeReduceMax", "WholeReduceMax(y, x, 64, 1, 1, 1, 8);",
         {"x": given(TIES), "y": result([9, index(1, F32)])}),
    Case("WholeReduceMin half", "WholeReduceMin(y, x, 64, 2, 1, 1, 4);",
         {"x": given([*TIES, *TIES], F16), "y": result([1, index(2, F16)] * 2, F16)}),
    Case("WholeReduceMax index first", "WholeReduceMax(y, x, 64, 1, 1, 1, 8, ReduceOrder::ORDER_INDEX_VALUE);",
         {"x": given(TIES), "y": result([index(1, F32), 9])}),
    Case("WholeReduceMax value", "WholeReduceMax(y, x, 64, 2, 1, 1, 8, ReduceOrder::ORDER_ONLY_VALUE);",
         {"x": given([*TIES, *np.arange(64)]), "y": result([9, 63])}),
    Case("WholeReduceMin index", "WholeReduceMin(y, x, 64, 2, 1, 1, 8, ReduceOrder::ORDER_ONLY_INDEX);",
         {"x": given([*TIES, *-np.arange(64)]), "y": result([index(2, F32), index(63, F32)])}),
    # The repeats come before the mask.
    Case("BlockReduceSum", "BlockReduceSum(y, x, 2, 64, 1, 1, 8);",
         {"x": given(np.arange(128)), "y": result([28 + 64 * i for i in range(16)])}),
    # Lanes 0 to 9: blocks 0 and 1 alone have a result.
    Case("BlockReduceMax masked", "BlockReduceMax(y, x, 1, 10, 1, 1, 8);",
         {"x": given(np.arange(64)), "y": result([7, 9] + [77] * 6)}),
    Case("BlockReduceMin half", "BlockReduceMin(y, x, 2, 128, 2, 1, 8);",
         {"x": given(np.arange(256), F16),
          "y": result([16 * i for i in range(8)] + [77] * 8 + [128 + 16 * i for i in range(8)], F16)}),
    Case("ReduceRepeat", "ReduceRepeat<ReduceType::SUM>(y, x, 64, 2, 1, 1, 8);",
         {"x": given(np.arange(128)), "y": result([2016, 6112])}),
    Case("ReduceDataBlock", "ReduceDataBlock<ReduceType::MAX>(y, x, 64, 1, 1, 1, 8);",
         {"x": given(np.arange(64)), "y": result([7 + 8 * i for i in range(8)])}),
    Case("ReduceSum repeats", "ReduceSum(y, x, tmp, 64, 3, 8);",
         {"x": given(np.arange(192)), "tmp": scratch(8), "y": result([18336, 77])}),
    Case("ReduceMax repeats", "ReduceMax(y, x, tmp, 64, 3, 8, true);",
         {"x": given([1] * 100 + [8] * 92), "tmp": scratch(24), "y": result([8, index(100, F32), 77])}),
    Case("ReduceSum count", "ReduceSum(y, x, tmp, 100);",
         {"x": given(np.arange(100)), "tmp": scratch(8), "y": result([4950])}, PIPE),
    Case("ReduceMin count", "ReduceMin(y, x, tmp, 300, true);",
         {"x": given(-np.arange(300), F16), "tmp": scratch(48, "float16"),
          "y": result([-299, index(299, F16)], F16)}, PIPE),
    Case("ReduceMax count", "ReduceMax(y, x, tmp, 70);",
         {"x": given(np.arange(70)), "tmp": scratch(8), "y": result([69, 77])}, PIPE),
]

X = np.concatenate([np.linspace(-6, 6, 60), [0, 2.5, -2.5, 1.5, 0.5, -0.5]])
POSITIVE = np.abs(X) + 0.25
FUNCTIONS = {
    "Tanh": (math.tanh, 1, 4), "Erf": (math.erf, 3, 8), "Sin": (math.sin, 3, 8), "Cos": (math.cos, 3, 8),
    "Sigmoid": (lambda x: 1 / (1 + math.exp(-x)), 1, 1), "Floor": (math.floor, 0, 2), "Ceil": (math.ceil, 1, 2),
    "Trunc": (math.trunc, 1, 2), "Round": (round, 0, 1), "Log2": (lambda x: math.log2(abs(x) + 0.25), 0, 2),
    "Gelu": (lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), 3, 6),
}


def function(name: str, dtype: object) -> Case:
    values = (POSITIVE if name == "Log2" else X).astype(dtype)
    factor = FUNCTIONS[name][2 if dtype is F16 else 1]
    # Nothing to spare: the least that they work with, or all that Gelu needs.
    size = 3 * X.size * 4 if name == "Gelu" else max(32, 256 * factor)
    return Case(f"{name} {np.dtype(dtype).name}", f"{name}(y, x, tmp, {X.size});",
                {"x": given(values, dtype), "tmp": scratch(size, "uint8"), "y": result(np.zeros(X.size), dtype)})


MATHS = [function(name, dtype) for name in FUNCTIONS for dtype in (F32, F16)]
POWERS = [
    Case("Power", "Power(y, a, b, tmp, 4);",
         {"a": given([2, 9, 10, 5]), "b": given([3, 0.5, -1, 0]), "tmp": scratch(1024, "uint8"),
          "y": result([8, 3, 0.1, 1])}, PIPE),
    Case("Power of a scalar", "Power(y, 2.0f, b, tmp, 4);",
         {"b": given([3, 0.5, -1, 0]), "tmp": scratch(1280, "uint8"), "y": result([8, np.sqrt(2), 0.5, 1])}, PIPE),
    Case("Power by a scalar", "Power(y, a, half(2), tmp, 4);",
         {"a": given([3, 0.5, -1, 0], F16), "tmp": scratch(3584, "uint8"), "y": result([9, 0.25, 1, 0], F16)}, PIPE),
]
LARGE = [
    Case("WholeReduceSum large", "WholeReduceSum(y, x, 128, 1, 1, 1, 8);",
         {"x": given([600] * 128, F16), "y": result([np.inf], F16)}),
    Case("ReduceSum large", "ReduceSum(y, x, tmp, 128, 2, 8);",
         {"x": given([300] * 256, F16), "tmp": scratch(16, "float16"), "y": result([np.inf], F16)}),
]
KERNEL = Kernel([*LARGE, *REDUCTIONS, *MATHS, *POWERS])


@pytest.mark.parametrize("name", [case.name for case in [*REDUCTIONS, *POWERS]])
def test_result(name: str):
    KERNEL.check(name)


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_sums_of_half_overflow(case: Case):
    KERNEL.check(case.name)
    assert [finding.kind for finding in KERNEL.findings(case.name, overflow=True)] == ["overflow"]


@pytest.mark.parametrize("case", MATHS, ids=lambda case: case.name)
def test_functions_are_within_their_error(case: Case):
    after, _ = KERNEL.run(case.name)
    name, dtype = case.name.split()
    x = case.tensors["x"].before.astype(np.float64)
    exact = np.log2(x) if name == "Log2" else np.array([FUNCTIONS[name][0](float(v)) for v in x])
    error = np.abs(after["y"].astype(np.float64) - exact).max()
    assert error <= (2.4e-7 if dtype == "float32" else 5e-4) * max(1.0, np.abs(exact).max())
