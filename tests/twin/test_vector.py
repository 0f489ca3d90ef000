"""Lane-wise vector calls against results that follow by hand from lanes, masks, repeats and strides."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, given, result

F16, F32, S16, S32, U16, U32 = np.float16, np.float32, np.int16, np.int32, np.uint16, np.uint32


def ramp(n: int, dtype: object = F32, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n).astype(dtype)


def rows(*parts: tuple[int, float]) -> np.ndarray:
    """Runs of equal numbers: (how many, which)."""
    return np.concatenate([np.full(n, value) for n, value in parts])


CASES = [
    Case("count", "Add(y, a, b, 70);",
         {"a": given(ramp(70)), "b": given(ramp(70, start=100)),
          "y": result(np.concatenate([100 + 2 * ramp(70), [77] * 10]))}),
    # The first 3 of 64 lanes in each of two repeats.
    Case("mask count", "Sub(y, a, b, 3, 2, BinaryRepeatParams(1, 1, 1, 8, 8, 8));",
         {"a": given(ramp(128)), "b": given([1] * 128),
          "y": result(np.concatenate([[-1, 0, 1], [77] * 61, [63, 64, 65], [77] * 61]))}),
    # Lanes 0, 5 and 127.
    Case("mask bits", """uint64_t lanes[2] = {33, uint64_t(1) << 63};
Mul(y, a, b, lanes, 1, BinaryRepeatParams(1, 1, 1, 8, 8, 8));""",
         {"a": given(ramp(128, F16), F16), "b": given([2] * 128, F16),
          "y": result([0, 77, 77, 77, 77, 10] + [77] * 121 + [254], F16)}),
    # Blocks 0, 2, 4, … of a to blocks 0, 1, 2, … of y.
    Case("block stride", "Adds(y, a, 1.0f, 64, 1, UnaryRepeatParams(1, 2, 8, 16));",
         {"a": given(ramp(128)), "y": result([16 * (i // 8) + i % 8 + 1 for i in range(64)])}),
    # Every repeat reads the same block of b, and of that the block in all eight places.
    Case("broadcast", "Mul(y, a, b, 64, 2, BinaryRepeatParams(1, 1, 0, 8, 8, 0));",
         {"a": given([1] * 64 + [10] * 64), "b": given(ramp(8)),
          "y": result(np.concatenate([np.tile(ramp(8), 8), 10 * np.tile(ramp(8), 8)]))}),
    # Row sums of repeats: the destination stays, and is a source.
    Case("accumulate", "Add(y, a, y, 64, 3, BinaryRepeatParams(1, 1, 1, 0, 8, 0));",
         {"a": given(np.concatenate([[1] * 64, [20] * 64, [300] * 64])), "y": result([1321] * 64, before=1000)}),
]
KERNEL = Kernel(CASES)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_result(name: str):
    KERNEL.check(name)
