"""Planted faults: each is found at its line, in every order, and the right twin of each kernel has no finding."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twin.fault_cases import CUBE, GROUPS
from tests.twin.harness import Kernels
from tilus.twin import CompilerError, TwinError, build

ORDERS = ("random", "early", "late", "program")
CASES = [(kind, name) for kind, faults in GROUPS.items() for name in faults]


@pytest.fixture(scope="module")
def kernels() -> dict[str, Kernels]:
    programs = {}
    for kind, faults in GROUPS.items():
        bodies = {}
        for name, fault in faults.items():
            assert fault.old in fault.body, name
            bodies[f"{name}_right"] = fault.body
            bodies[f"{name}_wrong"] = fault.body.replace(fault.old, fault.new)
        programs[kind] = Kernels(bodies, kind=kind, static_memory=kind != "MIX_AIV_1_0")
    return programs


def run(kernels: dict[str, Kernels], kind: str, name: str, order: str) -> None:
    arrays = [np.ones(4096, np.uint8) for _ in range(3)]
    kernels[kind].run(name, arrays, np.zeros(4096, np.uint8), blocks=2 if kind == "MIX_AIC_1_2" else 1, order=order)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_fault_is_found_at_its_line(kind: str, name: str, kernels: dict[str, Kernels]):
    fault = GROUPS[kind][name]
    lines = kernels[kind].source.splitlines()
    first = next(number for number, line in enumerate(lines) if f"void {name}_wrong(" in line)
    for order in ORDERS:
        with pytest.raises(TwinError) as error:
            run(kernels, kind, f"{name}_wrong", order)
        of_kind = [finding for finding in error.value.findings if finding.kind == fault.kind]
        found = any(fault.at in finding.source and finding.line > first for finding in of_kind)
        assert found, f"{order}: {error.value}"


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_right_twin_has_no_finding(kind: str, name: str, kernels: dict[str, Kernels]):
    for order in ORDERS:
        run(kernels, kind, f"{name}_right", order)


@pytest.mark.parametrize(("line", "message"), [
    ("SetFlag<HardEvent::S_M>(0);", "S_M"),
    ("SetFlag<HardEvent::M_MTE3>(0);", "M_MTE3"),
    ("PipeBarrier<PIPE_S>();", "has no barrier"),
    ("CrossCoreSetFlag<4, PIPE_FIX>(0);", "modes 0, 1 and 2"),
    ("SetAtomicAdd<uint32_t>();", "SetAtomicAdd takes"),
    ("Mmad(LocalTensor<int32_t>(), LocalTensor<uint8_t>(), LocalTensor<uint8_t>(), MmadParams());", "Mmad multiplies"),
    ("Mmad(LocalTensor<half>(), LocalTensor<half>(), LocalTensor<half>(), MmadParams());", "Mmad multiplies"),
])
def test_what_does_not_exist_does_not_compile(line: str, message: str):
    source = ('#include "kernel_operator.h"\nusing namespace AscendC;\nextern "C" __global__ __aicore__ void k() {\n'
              f"    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);\n    {line}\n}}\n")
    with pytest.raises(CompilerError, match=r"kernel.cpp:5|in ‘constexpr’|required from here") as error:
        build(source, "k", ())
    assert message in str(error.value)


def test_kernel_without_a_type():
    source = '#include "kernel_operator.h"\nextern "C" __global__ void k() { AscendC::InitSocState(); }\n'
    with pytest.raises(TwinError, match="KERNEL_TASK_TYPE_DEFAULT"):
        build(source, "k", ()).run([], blocks=1)


def test_deep_stack():
    source = """#include "kernel_operator.h"
extern "C" __global__ __aicore__ void k(uint32_t n) {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
    volatile uint8_t large[40000];
    large[n] = 1;
    AscendC::PipeBarrier<PIPE_V>();
    if (large[n] == 2) AscendC::PipeBarrier<PIPE_V>();
}
"""
    with pytest.raises(TwinError, match="32 KB"):
        build(source, "k", ("uint32_t",)).run([3], blocks=1)


def test_lanes_beyond_k():
    """Rows of B beyond K keep what L1 had: strictly they count, which one of two accounts of the hardware says."""
    group = Kernels({"tail": """
    LocalTensor<half> l1a(TPosition::A1, 0, 512), l1b(TPosition::B1, 1024, 512);
    LocalTensor<half> l0a(TPosition::A2, 0, 512), l0b(TPosition::B2, 0, 512);
    LocalTensor<float> l0c(TPosition::CO1, 0, 256);
    DataCopy(l1a, gm<half>(a), Nd2NzParams(1, 16, 20, 0, 20, 16, 1, 0));
    DataCopy(l1b, gm<half>(b), Nd2NzParams(1, 20, 16, 0, 16, 32, 1, 0));
    step();
    LoadData(l0a, l1a, LoadData2DParams(0, 2, 1, 0, 0, false, 0));
    LoadData(l0b, l1b, LoadData2DParams(0, 2, 1, 0, 0, true, 0));
    step();
    MmadParams product;
    product.m = product.n = 16;
    product.k = 20;
    Mmad(l0c, l0a, l0b, product);
    step();
    FixpipeParamsV220 fix;
    fix.nSize = fix.mSize = fix.srcStride = fix.dstStride = 16;
    Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out), l0c, fix);
"""}, kind="AIC_ONLY")
    a, b = np.full((16, 20), 2, np.float16), np.full((20, 16), 3, np.float16)
    out = np.zeros((16, 16), np.float32)
    group.run("tail", [a, b], out, strict=False)
    np.testing.assert_array_equal(out, np.full((16, 16), 120))
    with pytest.raises(TwinError, match="which nothing has written"):
        group.run("tail", [a, b], out)
    assert np.isnan(out).all()


def test_results_beyond_half():
    """A sum of 32 products of 64 and 64 is 131072, which is no half."""
    body = CUBE.replace("Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out)",
                        "fix.quantPre = F322F16;\n        Fixpipe<half, float, CFG_ROW_MAJOR>(gm<half>(out)")
    group = Kernels({"large": body}, kind="AIC_ONLY")
    arrays, out = [np.full(1024, 64, np.float16)], np.zeros((16, 16), np.float16)
    group.run("large", arrays, out)
    assert np.isinf(out).all()
    with pytest.raises(TwinError, match="beyond the largest half") as error:
        group.run("large", arrays, out, overflow=True)
    assert error.value.findings[0].source.strip().startswith("Fixpipe<half")
