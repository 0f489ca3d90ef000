"""Fills, gathers, comparisons, selections, transpositions and sorting, against results by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, given, result

F16, F32, S16, S32, U8, U16, U32 = np.float16, np.float32, np.int16, np.int32, np.uint8, np.uint16, np.uint32
PIPE = "TPipe pipe;"
NAN = np.nan


def ramp(n: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n)


def packed(truth: object) -> np.ndarray:
    return np.packbits(np.asarray(truth, bool), bitorder="little")


FILLS = [
    Case("Duplicate", "Duplicate(y, int16_t(-5), 100);", {"y": result([-5] * 100 + [77] * 28, S16)}),
    Case("Duplicate bfloat16", "Duplicate(y.ReinterpretCast<bfloat16_t>(), bfloat16_t(1.5f), 20);",
         {"y": result([0x3FC0] * 20, U16)}),
    # Every other block, in the second repeat of which there are two lanes.
    Case("Duplicate strides", "Duplicate(y, 3.0f, 10, 2, 2, 5);",
         {"y": result([3] * 8 + [77] * 8 + [3] * 2 + [77] * 22 + [3] * 8 + [77] * 8 + [3] * 2 + [77] * 6)}),
    # Two rows of 16 elements out of three, close together.
    Case("Copy", "Copy(y, x, 16, 2, CopyRepeatParams(1, 1, 2, 4));",
         {"x": given(ramp(64), S32), "y": result([*ramp(16), *ramp(16, 32)], S32)}),
    Case("Copy bits", "uint64_t lanes[2] = {9, 0};\nCopy(y, x, lanes, 1, CopyRepeatParams(1, 1, 8, 8));",
         {"x": given(ramp(16), U16), "y": result([0, 77, 77, 3] + [77] * 12, U16)}),
    Case("DataCopy", "DataCopy(y, x, DataCopyParams(2, 1, 1, 0));",
         {"x": given(ramp(24)), "y": result([*ramp(8), *ramp(8, 16)])}),
    Case("Brcb float", "Brcb(y, x, 2, BrcbRepeatParams(1, 8));",
         {"x": given(ramp(16)), "y": result(np.repeat(ramp(16), 8))}),
    Case("Brcb half", "Brcb(y, x, 1, BrcbRepeatParams(2, 8));",
         {"x": given(ramp(8), F16),
          "y": result(np.concatenate([np.concatenate([np.full(16, i), np.full(16, 77)]) for i in range(8)]), F16)}),
    Case("Gather", "Gather(y, x, offsets, 8, 70);",
         {"x": given(ramp(80)), "offsets": given(4 * ramp(70)[::-1], U32), "y": result([*(71 - ramp(70)), 77, 77])}),
    Case("Gather masked", "Gather(y, x, offsets, 0, 2, 2, 9);",
         {"x": given(ramp(16), S16), "offsets": given([6, 0, *[999] * 126, 30, 4], U32),
          "y": result([3, 0] + [77] * 142 + [15, 2], S16)}),
    Case("Gatherb", "Gatherb(y, x, offsets, 1, GatherRepeatParams(1, 8));",
         {"x": given(ramp(64)), "offsets": given([32, 0, 224, 96, 32, 64, 64, 0], U32),
          "y": result(np.concatenate([ramp(8, 8 * block) for block in (1, 0, 7, 3, 1, 2, 2, 0)]))}),
    Case("CreateVecIndex", "CreateVecIndex(y, int32_t(5), 70);", {"y": result(ramp(70, 5), S32)}, PIPE),
    Case("ArithProgression", "ArithProgression(y, half(1), half(0.5f), 9);",
         {"y": result(1 + 0.5 * ramp(9), F16)}, PIPE),
]

A = np.array([1, 2, 3, 4, 5, 6, 7, NAN] * 8)
B = np.array([4, 2, 0, 4, 6, 6, 8, 1] * 8)
TRUTH = {"LT": [1, 0, 0, 0, 1, 0, 1, 0], "GT": [0, 0, 1, 0, 0, 0, 0, 0], "EQ": [0, 1, 0, 1, 0, 1, 0, 0],
         "LE": [1, 1, 0, 1, 1, 1, 1, 0], "GE": [0, 1, 1, 1, 0, 1, 0, 0], "NE": [1, 0, 1, 0, 1, 0, 1, 1]}
CHOICE = [1, 0, 0, 1, 1, 1, 0, 0, 1, 0]
TAIL = packed(CHOICE * 7)  # of 70 elements
MASKS = [
    *(Case(f"Compare {mode}", f"Compare(y, a, b, CMPMODE::{mode}, 64);",
           {"a": given(A), "b": given(B), "y": result(packed(truth * 8), U8)}) for mode, truth in TRUTH.items()),
    Case("Compare half", "Compare(y, a, b, CMPMODE::LT, 128);",
         {"a": given([*A, *A], F16), "b": given([*B, *B], F16), "y": result(packed(TRUTH["LT"] * 16), U8)}),
    Case("Compare int32", "Compare(y, a, b, CMPMODE::EQ, 64);",
         {"a": given(ramp(64), S32), "b": given([3] * 64, S32), "y": result([8] + [0] * 7, U8)}),
    # Two repeats that read the same numbers; the mask of one lane is ignored.
    Case("Compare repeats", "Compare(y, a, b, CMPMODE::GT, uint64_t(1), 2, BinaryRepeatParams(1, 1, 1, 8, 0, 8));",
         {"a": given(A), "b": given([*B, *[0] * 64]), "y": result([*packed(TRUTH["GT"] * 8), *[0x7F] * 8], U8)}),
    Case("Compares", "Compares(y, a, 4.0f, CMPMODE::GE, 64);",
         {"a": given(A), "y": result(packed([0, 0, 0, 1, 1, 1, 1, 0] * 8), U8)}),
    Case("Compares repeats", "Compares(y, a, 4.0f, CMPMODE::LT, uint64_t(64), 1, UnaryRepeatParams(1, 0, 8, 8));",
         {"a": given([1, 9, 2, 9, 9, 9, 9, 3]), "y": result([0x85] * 8, U8)}),
    Case("Select tensors", "Select(y, bits, a, b, SELMODE::VSEL_TENSOR_TENSOR_MODE, 70);",
         {"bits": given(TAIL, U8), "a": given(ramp(70)), "b": given(-ramp(70)),
          "y": result(np.where(CHOICE * 7, ramp(70), -ramp(70)))}, PIPE),
    Case("Select scalar", "Select(y, bits, a, half(-1), SELMODE::VSEL_TENSOR_SCALAR_MODE, 70);",
         {"bits": given(TAIL, U8), "a": given(ramp(70), F16),
          "y": result(np.where(CHOICE * 7, ramp(70), -1), F16)}, PIPE),
    # Both repeats take the first 64 bits.
    Case("Select one mask", "Select(y, bits, a, b, SELMODE::VSEL_CMPMASK_SPR, uint64_t(64), 2, "
         "BinaryRepeatParams(1, 1, 0, 8, 8, 0));",
         {"bits": given([0x0F] * 8, U8), "a": given(ramp(128)), "b": given([-1] * 8),
          "y": result(np.where(np.arange(128) % 8 < 4, ramp(128), -1))}, PIPE),
    Case("Compare and Select by the register", """Compare(a, b, CMPMODE::LT, uint64_t(64), BinaryRepeatParams());
ResetMask();
Select<float, SELMODE::VSEL_CMPMASK_SPR>(y, a, b, 1, BinaryRepeatParams());""",
         {"a": given(A), "b": given(B), "y": result([1, 2, 0, 4, 5, 6, 7, 1] * 8)}, PIPE),
    Case("SetCmpMask", """SetCmpMask(bits);
Select<half, SELMODE::VSEL_CMPMASK_SPR>(y, a, b, 1, BinaryRepeatParams());
GetCmpMask(copy);""",
         {"bits": given([0x55] * 16, U8), "a": given([1] * 128, F16), "b": given([2] * 128, F16),
          "y": result([1, 2] * 64, F16), "copy": result([0x55] * 16, U8)}, PIPE),
]


def pairs(scores: object, indices: object, dtype: object = F32) -> np.ndarray:
    """8 B each: the score in the low ones, the index in the high ones."""
    both = np.zeros((len(scores), 8), U8)
    both[:, :np.dtype(dtype).itemsize] = np.asarray(scores, dtype).view(U8).reshape(len(scores), -1)
    both[:, 4:] = np.asarray(indices, U32).view(U8).reshape(-1, 4)
    return both.reshape(-1).view(dtype)


def kept(count: int) -> str:
    return f"\nDuplicate(n, int32_t(kept == {count}), 8);"


SQUARE = ramp(256).reshape(16, 16)
PATTERNS = {1: ramp(64)[::2], 2: ramp(64)[1::2], 3: ramp(64)[::4], 4: ramp(64)[1::4], 5: ramp(64)[2::4],
            6: ramp(64)[3::4], 7: ramp(64)}
GATHER = """uint64_t kept = 0;
GatherMaskParams p;
p.repeatTimes = {};
p.src0RepeatStride = {};
p.src1RepeatStride = {};
"""
LISTS = """LocalTensor<{0}> to[16], from[16];
for (int i = 0; i < 16; ++i) {{ to[i] = y[{1} * i]; from[i] = x[{1} * i]; }}
"""
COLUMNS = np.array([[100 * column + row for row in range(16)] for column in range(8)])
MOVES = [
    *(Case(f"GatherMask {pattern}",
           GATHER.format(1, 8, 0) + f"GatherMask(y, x, {pattern}, false, 0, p, kept);" + kept(values.size),
           {"x": given(ramp(64)), "y": result([*values, *[77] * 8]), "n": result([1] * 8, S32)})
      for pattern, values in PATTERNS.items()),
    # 100 elements of each of two rows of 128.
    Case("GatherMask counter", GATHER.format(2, 16, 0) + "GatherMask(y, x, 2, true, 100, p, kept);" + kept(100),
         {"x": given(ramp(256)), "y": result([*ramp(100)[1::2], *ramp(100, 128)[1::2], 77]),
          "n": result([1] * 8, S32)}),
    # Elements 0, 31 and 63 of the first 64, 1 of the second.
    Case("GatherMask bits", GATHER.format(2, 8, 1) + "GatherMask(y, x, bits, false, 0, p, kept);" + kept(4),
         {"x": given(ramp(128)), "bits": given([1 << 31 | 1, 1 << 31, 0, 0, 0, 0, 0, 0, 2, 0], U32),
          "y": result([0, 31, 63, 65, 77]), "n": result([1] * 8, S32)}),
    Case("Transpose", "Transpose(y, x);", {"x": given(SQUARE, S16), "y": result(SQUARE.T, S16)}),
    Case("TransDataTo5HD 16 bits", LISTS.format("half", 16) + "TransDataTo5HD(to, from, TransDataTo5HDParams());",
         {"x": given(SQUARE, F16), "y": result(SQUARE.T, F16)}),
    # A column of 16 elements of 4 B takes two rows.
    Case("TransDataTo5HD 32 bits", LISTS.format("float", 8) + "TransDataTo5HD(to, from, TransDataTo5HDParams());",
         {"x": given(COLUMNS.T), "y": result(COLUMNS)}),
    # The upper halves of rows of 32 become the lower ones of columns.
    Case("TransDataTo5HD 8 bits",
         LISTS.format("uint8_t", 32) + "TransDataTo5HD(to, from, TransDataTo5HDParams(false, true, 1, 0, 0));",
         {"x": given(np.concatenate([255 - SQUARE, SQUARE], axis=1), U8),
          "y": result(np.concatenate([SQUARE.T, np.full((16, 16), 77)], axis=1), U8)}),
    # By addresses; two squares side by side, one below the other.
    Case("TransDataTo5HD repeats", """uint64_t to[16], from[16];
for (int i = 0; i < 16; ++i) { to[i] = y.GetPhyAddr(16 * i); from[i] = x.GetPhyAddr(32 * i); }
TransDataTo5HD<half>(to, from, TransDataTo5HDParams(false, false, 2, 16, 1));""",
         {"x": given(np.concatenate([SQUARE, SQUARE + 256], axis=1), F16),
          "y": result(np.concatenate([SQUARE.T, SQUARE.T + 256]), F16)}),
    # Equal scores stay in order.
    Case("Sort32", "Sort32(y, x, i, 1);",
         {"x": given([5, 7, 7, *[1] * 28, 9]), "i": given(ramp(32, 10), U32),
          "y": result(pairs([9, 7, 7, 5, *[1] * 28], [41, 11, 12, 10, *range(13, 41)]))}),
    Case("Sort32 half", "Sort32(y, x, i, 2);",
         {"x": given([*ramp(32), *-ramp(32)], F16), "i": given(ramp(64), U32),
          "y": result(pairs([*ramp(32)[::-1], *-ramp(32)], [*ramp(32)[::-1], *ramp(32, 32)], F16), F16, before=0)}),
    Case("MrgSort", """uint16_t lengths[4] = {3, 2, 0, 0}, taken[4];
MrgSort(y, MrgSortSrcList<float>(a, b, a, b), MrgSort4Info(lengths, false, 3, 1));
GetMrgSortResult(taken[0], taken[1], taken[2], taken[3]);
Duplicate(n, int32_t(taken[0] * 10 + taken[1]), 8);""",
         {"a": given(pairs([9, 5, 1], [0, 1, 2])), "b": given(pairs([7, 5], [3, 4])),
          "y": result(pairs([9, 7, 5, 5, 1], [0, 3, 1, 4, 2])), "n": result([32] * 8, S32)}),
    # It ends when the second list does.
    Case("MrgSort suspended", """uint16_t lengths[4] = {3, 1, 1, 0}, taken[4];
MrgSort(y, MrgSortSrcList<float>(a, b, c, a), MrgSort4Info(lengths, true, 7, 1));
GetMrgSortResult(taken[0], taken[1], taken[2], taken[3]);
Duplicate(n, int32_t(taken[0] * 100 + taken[1] * 10 + taken[2]), 8);""",
         {"a": given(pairs([9, 5, 1], [0, 1, 2])), "b": given(pairs([7], [3])), "c": given(pairs([2], [4])),
          "y": result([*pairs([9, 7], [0, 3]), *[77] * 6]), "n": result([110] * 8, S32)}),
    Case("MrgSort repeats", """uint16_t lengths[4] = {1, 1, 1, 1};
uint32_t taken[4];
MrgSort(y, MrgSortSrcList<float>(x, x[2], x[4], x[6]), lengths, taken, 15, 2);""",
         {"x": given(pairs([3, 1, 4, 2, 9, 8, 7, 6], range(8))),
          "y": result(pairs([4, 3, 2, 1, 9, 8, 7, 6], [2, 0, 3, 1, 4, 5, 6, 7]))}),
]
KERNEL = Kernel([*FILLS, *MASKS, *MOVES])


@pytest.mark.parametrize("name", [case.name for case in [*FILLS, *MASKS, *MOVES]])
def test_result(name: str):
    KERNEL.check(name)
