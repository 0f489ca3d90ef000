"""Planted faults of vector calls: each is found at its line, and its right twin has no findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, Tensor, given, result, scratch
from tilus.twin import TwinError, build
from tilus.twin.compiler import CompilerError

F16, F32, S16, S32, U8, U16, U32 = np.float16, np.float32, np.int16, np.int32, np.uint8, np.uint16, np.uint32
STATIC, OTHER = "InitSocState();", "TPipe pipe;"


class Fault(NamedTuple):
    """``{}`` in the code is ``wrong`` or ``right``; the line with ``// !`` has the finding."""

    name: str
    kind: str
    text: str
    code: str
    wrong: str
    right: str
    tensors: Mapping[str, Tensor]
    prologue: str = STATIC
    right_prologue: str | None = None


def x(n: int = 128, dtype: object = F32) -> Tensor:
    return given(np.arange(n), dtype)


def y(n: int = 128, dtype: object = F32) -> Tensor:
    return result([0] * n, dtype)


UNARY = "UnaryRepeatParams(1, 1, 8, 8)"
PAIRS = np.zeros(64, F32)

FAULTS = [
    Fault("never written", "uninitialised", "nothing has written",
          "Duplicate(z, 1.0f, 64);\nPipeBarrier<PIPE_V>();\nAdd(y, x, z, {});  // !", "65", "64",
          {"x": x(), "z": scratch(72), "y": y()}),
    Fault("lane of scratch memory", "uninitialised", "nothing has written",
          "Duplicate(z, 1.0f, 5);\nPipeBarrier<PIPE_V>();\nAdd(y, x, z, {}, 1, BinaryRepeatParams());  // !",
          "uint64_t(6)", "uint64_t(5)", {"x": x(), "z": scratch(64), "y": y()}),
    Fault("old destination", "uninitialised", "nothing has written",
          "{}PipeBarrier<PIPE_V>();\nAxpy(z, x, 2.0f, 8);  // !", "", "Duplicate(z, 0.0f, 8); ",
          {"x": x(), "z": scratch(8), "y": y()}),
    Fault("beyond the tensor", "out of bounds", "a tensor of 512 bytes", "Muls(y, x, 2.0f, {});  // !", "129", "128",
          {"x": x(), "y": y(256)}),
    Fault("strides beyond the tensor", "out of bounds", "a tensor of 512 bytes",
          "Muls(y, x, 2.0f, uint64_t(64), 2, UnaryRepeatParams(1, {}, 8, 1));  // !", "3", "2", {"x": x(), "y": y()}),
    Fault("256 repeats", "repeat", "field of 8 bits wraps",
          "Muls(y, x, 2.0f, uint64_t(8), {}, UnaryRepeatParams(1, 1, 1, 0));  // !", "256", "255",
          {"x": x(), "y": y(2048)}),
    Fault("no repeat", "repeat", "0 repeats", "Exp(y, x, uint64_t(8), {}, " + UNARY + ");  // !", "0", "1",
          {"x": x(), "y": y()}),
    Fault("stride that wraps", "parameter", "src's repeat stride is 256",
          "Ln(y, x, uint64_t(8), 2, UnaryRepeatParams(1, 1, 8, {}));  // !", "256", "255", {"x": x(2056), "y": y()}),
    Fault("destination in one block", "parameter", "dst's block stride is 0",
          "Abs(y, x, uint64_t(64), 1, UnaryRepeatParams({}, 1, 8, 8));  // !", "0", "1", {"x": x(), "y": y()}),
    Fault("65 lanes of float", "mask", "1 to 64", "Relu(y, x, uint64_t({}), 1, " + UNARY + ");  // !", "65", "64",
          {"x": x(), "y": y()}),
    Fault("no lane", "mask", "0 lanes", "Relu(y, x, uint64_t({}), 1, " + UNARY + ");  // !", "0", "1",
          {"x": x(), "y": y()}),
    Fault("bits beyond 64 lanes", "mask", "a repeat of 64 lanes",
          "uint64_t lanes[2] = {{1, {}}};\nSqrt(y, x, lanes, 1, " + UNARY + ");  // !", "1", "0", {"x": x(), "y": y()}),
    Fault("no bit", "mask", "no lane is active",
          "uint64_t lanes[2] = {{0, {}}};\nAbs(y, x, lanes, 1, " + UNARY + ");  // !", "0", "1",
          {"x": x(128, F16), "y": y(128, F16)}),
    Fault("negative count", "count", "a count of -8", "Adds(y, x, 1.0f, {});  // !", "-8", "8", {"x": x(), "y": y()}),
    Fault("partly in place", "overlap", "within a repeat", "Adds(x[8], x[{}], 1.0f, 64);  // !", "0", "8",
          {"x": x(), "y": y()}),
    Fault("what an earlier repeat writes", "overlap", "an earlier repeat",
          "Adds(x[64], x[{}], 1.0f, 128);  // !", "0", "64", {"x": x(256), "y": y()}),
    Fault("sum by a unary call", "overlap", "an earlier repeat",
          "Muls(x, x, 2.0f, uint64_t(64), 2, UnaryRepeatParams(1, 1, {0}, {0}));  // !", "0", "8",
          {"x": x(), "y": y()}),
    Fault("accumulation into one repeat", "overlap", "where an earlier one does",
          "MulAddDst(z, x, x, uint64_t(64), 2, BinaryRepeatParams(1, 1, 1, {}, 8, 8));  // !", "0", "8",
          {"x": x(), "z": given([0] * 128), "y": y()}),
    Fault("first source as sum", "overlap", "an earlier repeat",
          "Add(z, {}, uint64_t(64), 2, BinaryRepeatParams(1, 1, 1, 0, {}));  // !", ("z, x", "0, 8"), ("x, z", "8, 0"),
          {"x": x(), "z": given([0] * 64), "y": y()}),
    Fault("repeats in one place", "overlap", "where an earlier one does",
          "Duplicate(y, 1.0f, {}, 2, 1, 1);  // !", "uint64_t(9)", "uint64_t(8)", {"x": x(), "y": y()}),
    Fault("rows moved within UB", "overlap", "shares bytes with the source",
          "DataCopy(x[{}], x, DataCopyParams(2, 2, 4, 4));  // !", "8", "16", {"x": x(), "y": y()}),
    Fault("offset of 16 B", "alignment", "a multiple of 32", "Adds(y, x[{}], 1.0f, 8);  // !", "4", "8",
          {"x": x(), "y": y()}),
    Fault("barrier between calls", "missing PipeBarrier<PIPE_V>", "PipeBarrier<PIPE_V>()",
          "Adds(z, x, 1.0f, 64);\n{}\nAdds(y, z, 1.0f, 64);  // !", "", "PipeBarrier<PIPE_V>();",
          {"x": x(), "z": scratch(64), "y": y()}),
    Fault("barrier before overwriting", "missing PipeBarrier<PIPE_V>", "PipeBarrier<PIPE_V>()",
          "Adds(y, x, 1.0f, 64);\n{}\nDuplicate(x, 0.0f, 8);  // !", "", "PipeBarrier<PIPE_V>();",
          {"x": x(), "y": y()}),
    Fault("compared count", "count", "multiples of 256 B", "Compare(y, x, x, CMPMODE::LT, {});  // !", "63", "64",
          {"x": x(), "y": y(64, U8)}),
    Fault("order of integers", "parameter", "CMPMODE::EQ alone", "Compare(y, x, x, CMPMODE::{}, 64);  // !", "LT", "EQ",
          {"x": x(64, S32), "y": y(64, U8)}),
    Fault("Select of static memory", "static memory", "TPipe",
          "Select(y, bits, x, x, SELMODE::VSEL_TENSOR_TENSOR_MODE, 64);{}  // !", "", "",
          {"x": x(), "bits": given([1] * 8, U8), "y": y()}, STATIC, OTHER),
    Fault("Select of a scalar", "parameter", "VSEL_TENSOR_SCALAR_MODE",
          "Select(y, bits, x, 0.0f, SELMODE::{}, 64);  // !", "VSEL_TENSOR_TENSOR_MODE", "VSEL_TENSOR_SCALAR_MODE",
          {"x": x(), "bits": given([1] * 8, U8), "y": y()}, OTHER),
    Fault("the library's memory", "reserved memory", "the library's own",
          """LocalTensor<float> high(TPosition::VECCALC, {}, 8);
Duplicate(high, 1.0f, 8);
PipeBarrier<PIPE_V>();
Select(y, bits, x, x, SELMODE::VSEL_TENSOR_TENSOR_MODE, 64);  // !""", "188416", "188384",
          {"x": x(), "bits": given([1] * 8, U8), "y": y()}, OTHER),
    Fault("register that nothing set", "uninitialised", "nothing has set",
          "{}Select<float, SELMODE::VSEL_CMPMASK_SPR>(y, x, x, 1, BinaryRepeatParams());  // !", "ResetMask(); ",
          "Compare(x, x, CMPMODE::LT, uint64_t(64), BinaryRepeatParams()); ", {"x": x(), "y": y()}, OTHER),
    Fault("mask without its mode", "mask", "SetMaskCount()",
          "{}\nSetVectorMask<float, MaskMode::COUNTER>(0, 10);  // !\nSetMaskNorm();\nResetMask();", "",
          "SetMaskCount();", {"x": x(), "y": y()}),
    Fault("ReduceSum of static memory", "static memory", "WholeReduce", "ReduceSum(y, x, tmp, 64);{}  // !", "", "",
          {"x": x(), "tmp": scratch(8), "y": y()}, STATIC, OTHER),
    Fault("scratch of a reduction", "scratch memory", "need 64", "ReduceMax(y, x, tmp[{}], 64, 5, 8);  // !", "8", "0",
          {"x": x(320), "tmp": scratch(16), "y": y()}),
    Fault("scratch in the source", "overlap", "sharedTmpBuffer and src", "ReduceSum(y, x, {}, 64, 2, 8);  // !",
          "x[64]", "x[128]", {"x": x(136), "y": y()}),
    Fault("results in one place", "parameter", "dstRepStride is 0", "WholeReduceSum(y, x, 64, 2, {}, 1, 8);  // !", "0",
          "1", {"x": x(), "y": y()}),
    Fault("index of strided repeats", "parameter", "srcRepStride is 8",
          "ReduceMin(y, x, tmp, 32, 2, {}, true);  // !", "4", "8", {"x": x(), "tmp": scratch(24), "y": y()}),
    Fault("reduction into its source", "overlap", "within a repeat", "BlockReduceMax({}, x, 1, 64, 1, 1, 8);  // !",
          "x", "x[64]", {"x": x(), "y": y()}),
    Fault("index vector of static memory", "static memory", "SetValue", "CreateVecIndex(y, 0.0f, 64);{}  // !", "", "",
          {"x": x(), "y": y()}, STATIC, OTHER),
    Fault("round to odd", "parameter", "CAST_ODD", "Cast(y, x, RoundMode::CAST_{}, 64);  // !", "ODD", "RINT",
          {"x": x(), "y": y(128, S32)}),
    Fault("mode of an exact conversion", "parameter", "CAST_NONE", "Cast(y, x, RoundMode::CAST_{}, 64);  // !", "RINT",
          "NONE", {"x": x(128, F16), "y": y()}),
    Fault("scale that nothing set", "parameter", "SetDeqScale",
          "{}\nCast(y, x, RoundMode::CAST_NONE, 64);  // !", "", "SetDeqScale(half(1));",
          {"x": x(128, S32), "y": y(128, F16)}),
    Fault("narrowed in place", "overlap", "within a repeat",
          "Cast(x.ReinterpretCast<half>()[{}], x, RoundMode::CAST_RINT, 64);  // !", "0", "128",
          {"x": x(), "y": y()}),
    Fault("offset beyond", "out of bounds", "beyond", "Gather(y, x, offsets, {}, 8);  // !", "488", "480",
          {"x": x(), "offsets": given(4 * np.arange(8), U32), "y": y()}),
    Fault("offset between elements", "alignment", "no multiple", "Gather(y, x, offsets, {}, 8);  // !", "2", "4",
          {"x": x(), "offsets": given(4 * np.arange(8), U32), "y": y()}),
    Fault("gathered scratch memory", "uninitialised", "nothing has written",
          "Duplicate(z, 1.0f, {});\nPipeBarrier<PIPE_V>();\nGather(y, z, offsets, 0, 8);  // !", "7", "8",
          {"z": scratch(8), "offsets": given(4 * np.arange(8), U32), "y": y()}),
    Fault("pattern", "parameter", "src1Pattern is 8", """GatherMaskParams p(1, 1, 8, 0);
uint64_t kept = 0;
GatherMask(y, x, {}, false, 0, p, kept);  // !""", "8", "7", {"x": x(), "y": y()}),
    Fault("more kept than there is room", "out of bounds", "9 elements are kept", """GatherMaskParams p(1, 1, 8, 0);
uint64_t kept = 0;
GatherMask(z, x, bits[{}], false, 0, p, kept);  // !""", "0", "8",
          {"x": x(), "bits": given([0x1FF, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0, 0, 0, 0, 0, 0, 0], U32), "z": scratch(8),
           "y": y()}),
    Fault("lists that do not follow", "parameter", "3, 7 and 15", """uint16_t lengths[4] = {{2, 2, 0, 0}};
MrgSort(y, MrgSortSrcList<float>(p, p[4], p, p), MrgSort4Info(lengths, false, {}, 1));  // !""", "5", "3",
          {"p": given(PAIRS), "y": y()}),
    Fault("empty list", "parameter", "elementLengths[1] is 0", """uint16_t lengths[4] = {{2, {}, 0, 0}};
MrgSort(y, MrgSortSrcList<float>(p, p[4], p, p), MrgSort4Info(lengths, false, 3, 1));  // !""", "0", "2",
          {"p": given(PAIRS), "y": y()}),
    Fault("strides of one repeat", "parameter", "dstRepStride is 1", """LocalTensor<half> to[16], from[16];
for (int i = 0; i < 16; ++i) {{ to[i] = y[16 * i]; from[i] = x[16 * i]; }}
TransDataTo5HD(to, from, TransDataTo5HDParams(false, false, 1, {0}, {0}));  // !""", "1", "0",
          {"x": x(256, F16), "y": y(256, F16)}),
    Fault("scratch of a function", "scratch memory", "need at least 768", "Erf(y, x, tmp[{}], 8);  // !", "32", "0",
          {"x": x(), "tmp": scratch(768, "uint8"), "y": y()}),
    Fault("function without memory", "static memory", "give it a buffer", "Tanh(y, x, {}8);  // !", "", "tmp, ",
          {"x": x(), "tmp": scratch(256, "uint8"), "y": y()}),
    Fault("scratch is lost", "uninitialised", "nothing has written", """Duplicate(z, 1.0f, 64);
PipeBarrier<PIPE_V>();
Sin(y, x, {}.ReinterpretCast<uint8_t>(), 8);
PipeBarrier<PIPE_V>();
Adds(y, z, 1.0f, 64);  // !""", "z", "tmp", {"x": x(), "z": scratch(192), "tmp": scratch(192), "y": y()}),
    Fault("shift by more than there is", "parameter", "scalarValue is 17", "ShiftLeft(y, x, int16_t({}), 8);  // !",
          "17", "16", {"x": x(128, S16), "y": y(128, S16)}),
    Fault("broadcast over itself", "overlap", "within a repeat", "Brcb(x[{}], x, 1, BrcbRepeatParams(1, 8));  // !",
          "0", "64", {"x": x(), "y": y()}),
    Fault("sorted over the scores", "overlap", "dst and src0", "Sort32({}, x, i, 1);  // !", "x", "y",
          {"x": x(), "i": given(np.arange(32), U32), "y": y()}),
]


def fill(code: str, values: str | tuple[str, ...]) -> str:
    return code.format(*(values if isinstance(values, tuple) else (values,)))


def cases(fault: Fault) -> tuple[Case, Case]:
    right = fault.prologue if fault.right_prologue is None else fault.right_prologue
    return (Case(f"{fault.name}: wrong", fill(fault.code, fault.wrong), fault.tensors, fault.prologue),
            Case(f"{fault.name}: right", fill(fault.code, fault.right), fault.tensors, right))


KERNEL = Kernel([case for fault in FAULTS for case in cases(fault)])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found_at_its_line(fault: Fault):
    findings = KERNEL.findings(f"{fault.name}: wrong")
    assert {finding.kind for finding in findings} == {fault.kind}, findings
    assert fault.text in findings[0].text
    assert all(finding.source.endswith("// !") for finding in findings)
    assert KERNEL.findings(f"{fault.name}: right") == ()


REFUSED = {
    "Add(b, b, b, 8);": "Add takes int16_t, half, int32_t and float",
    "Div(i, i, i, 8);": "Div takes half and float",
    "Exp(i, i, 8);": "Exp takes half and float",
    "And(i, i, i, 8);": "And takes int16_t and uint16_t",
    "Duplicate(u, uint8_t(1), 8);": "Duplicate takes elements of 16 and 32 bits",
    "Cast(h, b, RoundMode::CAST_NONE, 8);": "Cast does not convert these types",
    "Cast(i, u, RoundMode::CAST_NONE, 8);": "Cast does not convert these types",
    "Compare(f, f, f, CMPMODE::LT, 64);": "Compare writes bits to a tensor of uint8_t or int8_t",
    "WholeReduceSum(i, i, 8, 1, 1, 1, 8);": "WholeReduceSum takes half and float",
    "Axpy(h, f, 1.0f, 8);": "Axpy takes half and float",
    "Tanh(i, i, u, 8);": "Tanh takes half and float",
    "Transpose(f, f);": "Transpose takes elements of 16 bits",
    "Adds(h, h, 1.0f, 8);": "deduced conflicting types",
}


def test_types_are_refused_by_the_compiler():
    declared = "".join(f"LocalTensor<{type}> {name};\n" for name, type in (
        ("b", "bfloat16_t"), ("i", "int32_t"), ("u", "uint8_t"), ("h", "half"), ("f", "float")))
    calls = "\n".join(REFUSED)
    with pytest.raises(CompilerError) as error:
        build(f'#include "kernel_operator.h"\nusing namespace AscendC;\nvoid k() {{\n{declared}{calls}\n}}\n', "k", ())
    for line, (call, message) in enumerate(REFUSED.items(), 9):
        assert message in error.value.output, call
        assert f"kernel.cpp:{line}:" in error.value.output, call


def test_cube_cores_have_no_vector_unit():
    source = """#include "kernel_operator.h"
using namespace AscendC;
extern "C" __global__ __aicore__ void k() {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);
    InitSocState();
    if (GUARD) {
        LocalTensor<float> x(TPosition::VECCALC, 0, 64);
        Duplicate(x, 0.0f, 64);  // !
    }
    PipeBarrier<PIPE_ALL>();
}
"""
    build(source.replace("GUARD", "ASCEND_IS_AIV"), "k", ()).run([], blocks=1)
    with pytest.raises(TwinError) as error:
        build(source.replace("GUARD", "true"), "k", ()).run([], blocks=1)
    assert [(finding.kind, finding.source.strip()) for finding in error.value.findings] == [
        ("wrong core", "Duplicate(x, 0.0f, 64);  // !")]
