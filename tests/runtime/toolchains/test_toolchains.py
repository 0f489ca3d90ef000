from __future__ import annotations

import concurrent.futures
import os
import sys

import pytest

from tests.targets.probes import PROBES, probe_ptx
from tilus.diagnostics import ToolchainError, UnsupportedError
from tilus.runtime.cubin import read_cubin
from tilus.runtime.toolchains import binutils, locate, nvcc, nvrtc, process, ptxas
from tilus.targets import TARGETS, Feature, get_target

CUDA_TARGETS = [name for name, target in TARGETS.items() if target.is_cuda]

PTX = """.version {version}
.target {target}
.address_size 64
.visible .entry store(.param .u64 p, .param .u32 n)
{{
.reg .b64 %rd<3>; .reg .b32 %r<3>;
ld.param.u64 %rd1, [p];
ld.param.u32 %r1, [n];
cvta.to.global.u64 %rd2, %rd1;
st.global.u32 [%rd2], %r1;
ret;
}}
"""

# Static shared memory of 1224 bytes, a local array indexed at run time, a launch bound, a parameter of one byte.
CUDA = """
extern "C" __global__ void __launch_bounds__(96) busy(const float* p, float* o, int n, char c) {
    __shared__ float s[300];
    __shared__ long long t[3];
    float array[40];
    for (int i = 0; i < 40; i++) array[(i * n) % 40] = p[i * n];
    s[threadIdx.x] = array[n & 31];
    t[n & 1] = n;
    __syncthreads();
    o[threadIdx.x] = s[n] + array[c & 7] + t[n & 1];
}
extern "C" __global__ void idle(int* p) { p[0] = 1; }
"""

# More live values than 16 registers hold.
SPILLING = """
extern "C" __global__ void spill(const float* p, float* o) {
    float x[64];
    #pragma unroll
    for (int i = 0; i < 64; i++) x[i] = p[i * 64 + threadIdx.x];
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < 64; i++) o[i * 64 + threadIdx.x] = x[i] * x[63 - i];
}
"""


def ptx_for(name: str) -> str:
    target = get_target(name)
    return PTX.format(version="{}.{}".format(*target.ptx_version), target=name)


@pytest.mark.parametrize("name", CUDA_TARGETS)
def test_ptxas_assembles_for_every_target(name: str):
    result = ptxas.assemble(ptx_for(name), get_target(name), line_info=True)
    cubin = read_cubin(result.cubin)
    assert cubin.arch == get_target(name).arch
    kernel = cubin.kernels["store"]
    assert [(p.offset, p.size) for p in kernel.parameters] == [(0, 8), (8, 4)]
    assert result.functions["store"].registers == kernel.registers > 0
    assert result.spill_stores == result.spill_loads == 0


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("name", CUDA_TARGETS)
def test_features_are_those_that_ptxas_accepts(name: str):
    target = get_target(name)
    assert set(PROBES) == set(Feature)

    def accepted(feature: Feature) -> bool:
        try:
            ptxas.assemble(probe_ptx(feature, name, "8.8"), target, opt_level=0)
        except ToolchainError:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = dict(zip(Feature, pool.map(accepted, Feature), strict=True))
    assert {f.name for f, ok in found.items() if ok} == {f.name for f in target.features}


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("name", CUDA_TARGETS)
def test_the_targets_ptx_version_reaches_its_features(name: str):
    target = get_target(name)
    version = "{}.{}".format(*target.ptx_version)
    for feature in sorted(target.features, key=lambda f: f.name):
        ptxas.assemble(probe_ptx(feature, name, version), target, opt_level=0)


@pytest.mark.parametrize("name", CUDA_TARGETS)
def test_the_elf_reader_agrees_with_ptxas_and_cuobjdump(name: str):
    result = nvrtc.compile_cuda(CUDA, get_target(name))
    kernels = read_cubin(result.cubin).kernels
    by_cuobjdump = binutils.cuobjdump_usage(result.cubin)
    assert set(kernels) == set(result.functions) == set(by_cuobjdump) == {"busy", "idle"}
    for kernel in kernels.values():
        logged = result.functions[kernel.name]
        assert (kernel.registers, kernel.stack, kernel.shared) == (logged.registers, logged.stack, logged.shared)
        assert kernel.barriers == logged.barriers
        assert kernel.registers == by_cuobjdump[kernel.name].registers
        assert kernel.stack == by_cuobjdump[kernel.name].stack
    busy = kernels["busy"]
    assert busy.shared == 1224
    assert busy.stack >= 160
    assert busy.max_threads == 96
    assert [(p.offset, p.size) for p in busy.parameters] == [(0, 8), (8, 8), (16, 4), (20, 1)]
    assert busy.parameter_bytes == 21
    assert kernels["idle"].max_threads == 0


def test_spills_are_reported():
    result = nvrtc.compile_cuda(SPILLING, get_target("sm_80"), max_registers=24)
    assert result.registers <= 24
    assert result.spill_stores > 0
    assert result.spill_loads > 0
    assert nvrtc.compile_cuda(SPILLING, get_target("sm_80")).spill_stores == 0


def test_max_registers_of_ptxas():
    ptx = nvrtc.cuda_to_ptx(SPILLING, get_target("sm_80"))
    assert ptxas.assemble(ptx, get_target("sm_80"), max_registers=24).spill_stores > 0
    assert ptxas.assemble(ptx, get_target("sm_80")).spill_stores == 0


def test_cuda_to_ptx_names_the_target():
    assert ".target sm_90a" in nvrtc.cuda_to_ptx(CUDA, get_target("sm_90a"))


def test_cuda_headers_are_found():
    source = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#include <mma.h>\n" + CUDA
    assert nvrtc.compile_cuda(source, get_target("sm_80")).functions["busy"].registers > 0


def test_both_nvrtcs_at_once_from_several_threads():
    names = ["sm_80", "sm_70"] * 4
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda name: nvrtc.compile_cuda(CUDA, get_target(name)), names))
    assert [read_cubin(r.cubin).arch for r in results] == [80, 70] * 4


def test_nvcc_agrees_on_what_the_kernel_takes():
    result = nvcc.compile_cuda(CUDA, get_target("sm_80"))
    assert read_cubin(result.cubin).kernels["busy"].shared == 1224
    with pytest.raises(UnsupportedError):
        nvcc.compile_cuda(CUDA, get_target("sm_70"))


def test_disassemble():
    cubin = ptxas.assemble(ptx_for("sm_80"), get_target("sm_80")).cubin
    assert "STG.E" in binutils.disassemble(cubin)
    assert "STG" not in binutils.disassemble(nvrtc.compile_cuda("__device__ int x;", get_target("sm_80")).cubin)


def test_disassembling_volta_is_refused_with_a_reason():
    cubin = ptxas.assemble(ptx_for("sm_70"), get_target("sm_70")).cubin
    with pytest.raises(UnsupportedError, match="sm_70"):
        binutils.disassemble(cubin)


def test_bad_ptx_gives_the_log():
    with pytest.raises(ToolchainError) as caught:
        ptxas.assemble(ptx_for("sm_80").replace("st.global.u32", "st.global.u33"), get_target("sm_80"))
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.code == "E0902"
    assert any("kernel.ptx, line 10" in note for note in diagnostic.notes), diagnostic.notes


def test_bad_cuda_gives_the_log():
    with pytest.raises(ToolchainError) as caught:
        nvrtc.compile_cuda("__global__ void k() { x = 1; }", get_target("sm_80"), name="mine.cu")
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.code == "E0902"
    assert any("mine.cu(1)" in note and "undefined" in note for note in diagnostic.notes)


def test_volta_is_compiled_without_remarks_about_its_age():
    assert "deprecated" not in nvrtc.compile_cuda(CUDA, get_target("sm_70")).log


def test_a_bad_option_gives_the_log():
    with pytest.raises(ToolchainError, match="--no-such-option"):
        nvrtc.compile_cuda(CUDA, get_target("sm_80"), options=("--no-such-option",))


def test_the_cpu_has_no_cubins():
    for compile_ in (ptxas.assemble, nvrtc.compile_cuda, nvcc.compile_cuda):
        with pytest.raises(UnsupportedError):
            compile_("", get_target("cpu"))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"x" * 100])
def test_what_is_not_a_cubin(data: bytes):
    with pytest.raises(ToolchainError) as caught:
        read_cubin(data)
    assert caught.value.diagnostics[0].code == "E0902"


def test_truncated_cubins():
    cubin = ptxas.assemble(ptx_for("sm_90a"), get_target("sm_90a")).cubin
    for size in range(0, len(cubin) - 8, 97):
        with pytest.raises(ToolchainError):
            read_cubin(cubin[:size])


def test_a_missing_wheel_names_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch):
    locate.find.cache_clear()
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    try:
        with pytest.raises(ToolchainError) as caught:
            ptxas.assemble(ptx_for("sm_70"), get_target("sm_70"))
        diagnostic = caught.value.diagnostics[0]
        assert diagnostic.code == "E0901"
        assert diagnostic.help == "pip install 'nvidia-cuda-nvcc-cu12>=12.9.86,<13'"
    finally:
        locate.find.cache_clear()


def test_versions_are_those_of_the_metadata():
    import importlib.metadata

    for tool in locate.TOOLS.values():
        assert locate.version(tool.package) == importlib.metadata.version(tool.package)
    assert locate.version("no-such-distribution") is None


def test_a_tool_that_cannot_be_started(tmp_path):
    broken = tmp_path / "ptxas"
    broken.write_text("not a program")
    with pytest.raises(ToolchainError) as caught:
        process.run_tool([str(broken)])
    assert caught.value.diagnostics[0].code == "E0902"


def test_memory_files_are_closed():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        ptxas.assemble(ptx_for("sm_80"), get_target("sm_80"))
    assert len(os.listdir("/proc/self/fd")) == before
