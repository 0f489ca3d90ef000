"""Lane-wise vector calls against results that follow by hand from lanes, masks, repeats and strides."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, given, result, scratch

F16, F32, S16, S32, U16, U32 = np.float16, np.float32, np.int16, np.int32, np.uint16, np.uint32
INF, NAN = np.inf, np.nan


def ramp(n: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n)


def runs(*parts: tuple[int, float]) -> np.ndarray:
    """Runs of equal numbers: (how many, which)."""
    return np.concatenate([np.full(n, value) for n, value in parts])


LANES = [
    Case("count", "Add(y, a, b, 70);",
         {"a": given(ramp(70)), "b": given(ramp(70, 100)),
          "y": result(np.concatenate([100 + 2 * ramp(70), [77] * 10]))}),
    Case("count 0", "Add(y, a, b, 0);", {"a": scratch(8), "b": scratch(8), "y": result([77] * 8)}),
    # The first 3 of 64 lanes in each of two repeats.
    Case("mask count", "Sub(y, a, b, 3, 2, BinaryRepeatParams(1, 1, 1, 8, 8, 8));",
         {"a": given(ramp(128)), "b": given([1] * 128),
          "y": result(np.concatenate([[-1, 0, 1], [77] * 61, [63, 64, 65], [77] * 61]))}),
    # Lanes 0, 5 and 127.
    Case("mask bits", """uint64_t lanes[2] = {33, uint64_t(1) << 63};
Mul(y, a, b, lanes, 1, BinaryRepeatParams(1, 1, 1, 8, 8, 8));""",
         {"a": given(ramp(128), F16), "b": given([2] * 128, F16),
          "y": result([0, 77, 77, 77, 77, 10] + [77] * 121 + [254], F16)}),
    # Blocks 0, 2, 4, … of a to blocks 0, 1, 2, … of y.
    Case("block stride", "Adds(y, a, 1.0f, 64, 1, UnaryRepeatParams(1, 2, 8, 16));",
         {"a": given(ramp(128)), "y": result([16 * (i // 8) + i % 8 + 1 for i in range(64)])}),
    # And the reverse: gaps in y stay, and the mask ends within the second block.
    Case("destination stride", "Adds(y, a, 1.0f, 10, 1, UnaryRepeatParams(3, 1, 8, 8));",
         {"a": given(ramp(10)), "y": result(np.concatenate([ramp(8, 1), [77] * 16, [9, 10], [77] * 6]))}),
    # Repeats of four blocks: the second one begins where the first one's half of the lanes ends.
    Case("repeat stride", "Muls(y, a, int32_t(3), 32, 2, UnaryRepeatParams(1, 1, 5, 4));",
         {"a": given(ramp(64), S32), "y": result(np.concatenate([3 * ramp(32), [77] * 8, 3 * ramp(32, 32)]), S32)}),
    # Every repeat reads the same block of b, and that in all eight places.
    Case("broadcast", "Mul(y, a, b, 64, 2, BinaryRepeatParams(1, 1, 0, 8, 8, 0));",
         {"a": given(runs((64, 1), (64, 10))), "b": given(ramp(8)),
          "y": result(np.concatenate([np.tile(ramp(8), 8), 10 * np.tile(ramp(8), 8)]))}),
    # A block for each repeat, as Brcb leaves them: row r minus b's block r.
    Case("row broadcast", "Sub(y, a, b, 64, 3, BinaryRepeatParams(1, 1, 0, 8, 8, 1));",
         {"a": given([100] * 192), "b": given(runs((8, 1), (8, 2), (8, 3))),
          "y": result(runs((64, 99), (64, 98), (64, 97)))}),
    # Sums of repeats: the destination stays, and is a source.
    Case("accumulate", "Add(y, a, y, 64, 3, BinaryRepeatParams(1, 1, 1, 0, 8, 0));",
         {"a": given(runs((64, 1), (64, 20), (64, 300))), "y": result([1321] * 64, before=1000)}),
    Case("in place", "Add(y, y, y, 100);", {"y": result(2 * ramp(100), before=ramp(100))}),
    # Elements 0 to 99, whatever the repeats say.
    Case("counter mode", """SetMaskCount();
SetVectorMask<float, MaskMode::COUNTER>(0, 100);
Adds<float, false>(y, a, 1.0f, uint64_t(64), 1, UnaryRepeatParams(1, 1, 8, 8));
SetMaskNorm();
ResetMask();""", {"a": given(ramp(128)), "y": result(np.concatenate([ramp(100, 1), [77] * 28]))}),
    # Lanes of the register, once for a level 2 call with a scalar.
    Case("mask register", """SetVectorMask<half>(uint64_t(2), uint64_t(1));
Maxs<half, false>(y, a, half(50), 128);
ResetMask();""", {"a": given(ramp(128), F16), "y": result([50] + [77] * 64 + [65] + [77] * 62, F16)}),
    # Level 2 leaves all lanes on.
    Case("mask after level 2", """SetVectorMask<float>(3);
Abs(y, a, 8);
PipeBarrier<PIPE_V>();
Adds<float, false>(y, a, 5.0f, uint64_t(64), 1, UnaryRepeatParams(1, 1, 8, 8));""",
         {"a": given(ramp(64)), "y": result(ramp(64, 5))}),
    Case("255 repeats", "Adds(y, y, int16_t(1), 128, 255, UnaryRepeatParams(1, 1, 8, 8));",
         {"y": result(ramp(32640) % 100 + 1, S16, before=ramp(32640) % 100)}),
]

A = np.array([-2.0, -0.5, 0.0, 0.25, 1.0, 2.0, 3.0, 4.0])
B = np.array([4.0, 0.5, 1.0, 0.5, -1.0, 2.0, 8.0, -8.0])


def elementwise(name: str, call: str, values: object, dtype: object = F32, a: object = A, b: object = B,
                before: object | None = None) -> Case:
    return Case(name, call, {"a": given(a, dtype), "b": given(b, dtype), "y": result(values, dtype, before)})


I, J = np.array([-7, -1, 0, 1, 5, 100, 32767, -32768]), np.array([2, -1, 3, -1, 5, 200, 1, -1])
BITS, OTHER = np.array([0x00FF, 0xFFFF, 0x1234, 0] * 4), np.array([0x0F0F, 0x8000, 0xFFFF, 1] * 4)

ARITHMETIC = [
    *(elementwise(f"{op} {dtype.__name__}", f"{op}(y, a, b, 8);", values, dtype)
      for dtype in (F32, F16) for op, values in {
          "Add": [2, 0, 1, 0.75, 0, 4, 11, -4], "Sub": [-6, -1, -1, -0.25, 2, 0, -5, 12],
          "Mul": [-8, -0.25, 0, 0.125, -1, 4, 24, -32], "Div": [-0.5, -1, 0, 0.5, -1, 1, 0.375, -0.5],
          "Max": [4, 0.5, 1, 0.5, 1, 2, 8, 4], "Min": [-2, -0.5, 0, 0.25, -1, 2, 3, -8],
          "AddRelu": [2, 0, 1, 0.75, 0, 4, 11, 0], "SubRelu": [0, 0, 0, 0, 2, 0, 0, 12]}.items()),
    # Integers wrap.
    *(elementwise(f"{op} int16", f"{op}(y, a, b, 8);", values, S16, I, J)
      for op, values in {"Add": [-5, -2, 3, 0, 10, 300, -32768, 32767], "Sub": [-9, 0, -3, 2, 0, -100, 32766, -32767],
                         "Mul": [-14, 1, 0, -1, 25, 20000, 32767, -32768],
                         "Max": [2, -1, 3, 1, 5, 200, 32767, -1], "Min": [-7, -1, 0, -1, 5, 100, 1, -32768]}.items()),
    elementwise("Mul int32", "Mul(y, a, b, 8);", [1 << 30, -(1 << 31), 0, 1, 6, 0, 0, 0], S32,
                [1 << 15, 1 << 16, 0, -1, 2, 0, 0, 0], [1 << 15, 1 << 15, 9, -1, 3, 0, 0, 0]),
    elementwise("MulAddDst", "MulAddDst(y, a, b, 8);", [2, 9.75, 10, 10.125, 9, 14, 34, -22], before=10),
    elementwise("FusedMulAdd", "FusedMulAdd(y, a, b, 8);", [-16, -4.5, 1, 3, 9, 22, 38, 32], before=10),
    elementwise("Axpy", "Axpy(y, a, 3.0f, 8);", [4, 8.5, 10, 10.75, 13, 16, 19, 22], before=10),
    Case("Axpy half to float", "Axpy(y, a, half(3), 66);",
         {"a": given(ramp(66), F16), "y": result(3 * ramp(66) + 0.5, before=0.5)}),
    # 0.1 as a half, whose sum with one is exact in float.
    elementwise("Adds half", "Adds(y, a, half(0.5f), 8);", A + 0.5, F16),
    elementwise("Muls", "Muls(y, a, -2.0f, 8);", -2 * A),
    elementwise("Maxs", "Maxs(y, a, 0.5f, 8);", [0.5, 0.5, 0.5, 0.5, 1, 2, 3, 4]),
    elementwise("Mins", "Mins(y, a, int16_t(1), 8);", [-7, -1, 0, 1, 1, 1, 1, -32768], S16, I, J),
    elementwise("LeakyRelu", "LeakyRelu(y, a, 0.5f, 8);", [-1, -0.25, 0, 0.25, 1, 2, 3, 4]),
    elementwise("Relu int32", "Relu(y, a, 8);", [0, 0, 0, 1, 5, 100, 32767, 0], S32, I, J),
    elementwise("Abs half", "Abs(y, a, 8);", np.abs(A), F16),
    elementwise("Sqrt", "Sqrt(y, a, 8);", [0, 1, 2, 3, 0.5, NAN, 0, INF], a=[0, 1, 4, 9, 0.25, -1, 1e-40, INF]),
    elementwise("Exp", "Exp(y, a, 8);", [1, 2.7182817, 0, INF, 0, 1, 0.36787945, NAN],
                a=[0, 1, -INF, 89, -88, 1e-40, -1, NAN]),
    elementwise("Ln", "Ln(y, a, 8);", [0, 0.6931472, -INF, -INF, NAN, INF, 2.3025851, -0.6931472],
                a=[1, 2, 0, 1e-40, -1, INF, 10, 0.5]),
    # 2⁻¹⁵ is denormal in half, and zero.
    elementwise("Div half denormal", "Div(y, a, b, 8);", [0, INF, 0.5, 1, 0, 1, 1, 1], F16,
                [2.0**-15, 1, 1, 1, 2.0**-14, 1, 1, 1], [1, 2.0**-15, 2, 1, 2, 1, 1, 1]),
    elementwise("Exp half", "Exp(y, a, 8);", [1, 2.71875, 0, INF, 0, 1, 0.3679, 7.39], F16,
                [0, 1, -INF, 12, -10, 0, -1, 2]),
    # Rounded after every operation: 2048 + 1 is 2048 in half.
    elementwise("Add half rounds", "Add(y, a, b, 8);", [2048, 2050, 2052, INF, 1, 1, 1, 1], F16,
                [2048, 2049, 2050, 65504, 1, 1, 1, 1], [1, 2, 1.5, 32, 0, 0, 0, 0]),
    elementwise("And", "And(y, a, b, 16);", BITS & OTHER, U16, BITS, OTHER),
    elementwise("Or", "Or(y, a, b, 16);", BITS | OTHER, U16, BITS, OTHER),
    elementwise("Not", "Not(y, a, 16);", 0xFFFF - BITS, U16, BITS, OTHER),
    # 32-bit data are twice as many 16-bit ones.
    Case("And of 32 bits", "And(y.ReinterpretCast<uint16_t>(), a.ReinterpretCast<uint16_t>(), "
         "b.ReinterpretCast<uint16_t>(), 6);",
         {"a": given([0xFFFF00FF, 7, 1 << 31], U32), "b": given([0x12345678, 5, 3 << 30], U32),
          "y": result([0x12340078, 5, 1 << 31, 77, 77], U32)}),
    elementwise("ShiftLeft", "ShiftLeft(y, a, uint32_t(4), 4);", [0x10, 0xFFFFFFF0, 0, 0x80000000], U32,
                [1, 0xFFFFFFFF, 0xF0000000, 0x08000000], [0] * 4),
    elementwise("ShiftRight signed", "ShiftRight(y, a, int16_t(2), 4);", [-2, -1, 1, 0], S16, [-7, -1, 7, 3], [0] * 4),
    elementwise("ShiftRight unsigned", "ShiftRight(y, a, uint32_t(31), 4);", [1, 0, 1, 0], U32,
                [1 << 31, 5, 0xFFFFFFFF, 0], [0] * 4),
    elementwise("Max of NaN", "Max(y, a, b, 8);", [NAN, NAN, 3, 1, 1, 1, 1, 1], F32, [NAN, 1, 3, 1, 1, 1, 1, 1],
                [1, NAN, 2, 1, 1, 1, 1, 1]),
]
ESTIMATES = [
    Case(f"{op} {dtype.__name__}", f"{op}(y, a, 256);",
         {"a": given(np.linspace(0.5, 40, 256), dtype), "y": result(np.zeros(256), dtype)})
    for op in ("Reciprocal", "Rsqrt") for dtype in (F16, F32)
]
# 100 repeats, of which each one reads 8 blocks at a stride.
TIMED = {1: 1, 3: 1, 8: 4, 16: 8}
STRIDES = [Case(f"stride {stride}", f"Adds(y, x, 1.0f, uint64_t(64), 100, UnaryRepeatParams(1, {stride}, 8, 1));",
                {"x": given([0] * 8 * 212), "y": result([1] * 6400)}) for stride in TIMED]
# Sources of which both begin in one group of banks, and 256 B apart from that.
BANKS = [Case(f"sources {apart} B apart", f"Add(y, x, x[{apart // 4}], 6400);",
              {"x": given([0] * (6400 + apart // 4)), "y": result([0] * 6400)}) for apart in (512, 256)]
KERNEL = Kernel([*LANES, *ARITHMETIC, *ESTIMATES, *STRIDES, *BANKS])


@pytest.mark.parametrize("name", [case.name for case in [*LANES, *ARITHMETIC]])
def test_result(name: str):
    KERNEL.check(name)


@pytest.mark.parametrize("case", ESTIMATES, ids=lambda case: case.name)
def test_estimates_miss_as_the_hardware_does(case: Case):
    after, _ = KERNEL.run(case.name)
    x = case.tensors["a"].before.astype(np.float64)
    exact = 1 / x if case.name.startswith("Reciprocal") else 1 / np.sqrt(x)
    error = np.abs(after["y"] / exact - 1).max()
    worst = 1e-3 if after["y"].dtype == F16 else 1e-4
    assert worst / 2 < error <= worst + np.finfo(after["y"].dtype).eps


def test_repeats_are_counted():
    report = KERNEL.check("row broadcast")
    assert report.counters["vector repeats"] == 3
    assert report.counters["vector calls"] == 1


def test_blocks_of_one_group_of_banks_wait_for_each_other():
    start = KERNEL.check("stride 1").busy["AIV"]["V"] - 100
    assert 0 < start < 20
    for stride, cycles in TIMED.items():
        assert KERNEL.check(f"stride {stride}").busy["AIV"]["V"] == start + 100 * cycles
    assert KERNEL.check("sources 512 B apart").busy["AIV"]["V"] == start + 200
    assert KERNEL.check("sources 256 B apart").busy["AIV"]["V"] == start + 100


def test_half_overflow_on_demand():
    name = "Add half rounds"
    assert KERNEL.findings(name) == ()
    (finding,) = KERNEL.findings(name, overflow=True)
    assert (finding.kind, finding.call) == ("overflow", "Add")
