"""The places that faults are told at: ``.loc`` with inlined functions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx_with_lines
from tilus import simulator
from tilus.diagnostics import CheckError, Diagnostic, Span

SOURCE = """#line 3 "/helpers/load.cu"
__device__ __forceinline__ float fetch(const float* p, int i) {
  return p[i];
}
__device__ __forceinline__ float twice(const float* p, int i) {
  return 2 * fetch(p, i);
}
#line 40 "/user/kernel.cu"
extern "C" __global__ void k(float* x) {
  float v = twice(x, threadIdx.x + 64);
  x[threadIdx.x] = v;
}
"""


def fault(*skipped_files: str) -> Diagnostic:
    with pytest.raises(CheckError) as caught:
        simulator.launch(to_ptx_with_lines(SOURCE), "k", 1, 64, [np.zeros(64, "f4")], skipped_files=skipped_files)
    return next(d for d in caught.value.diagnostics if d.code == "E0703")


def places(diagnostic: Diagnostic) -> list[tuple[str, int, str]]:
    return [(label.span.file, label.span.line, label.message) for label in diagnostic.labels]


def test_a_fault_in_inlined_functions_tells_who_called_them() -> None:
    assert places(fault()) == [("/helpers/load.cu", 4, "bounds fault"), ("/helpers/load.cu", 7, "called here"),
                               ("/user/kernel.cu", 41, "called here")]


def test_a_file_that_is_skipped() -> None:
    assert places(fault("/helpers/load.cu")) == [("/user/kernel.cu", 41, "bounds fault")]
    assert fault("/helpers/load.cu", "/user/kernel.cu").span == Span("<ptx>", fault_line())


def fault_line() -> int:
    """The line of the load in the PTX."""
    lines = to_ptx_with_lines(SOURCE).splitlines()
    return next(n for n, text in enumerate(lines, 1) if text.strip().startswith("ld.global"))


def test_the_report_has_the_callers() -> None:
    report = simulator.launch(to_ptx_with_lines(SOURCE), "k", 1, 64, [np.zeros(64, "f4")], collect=True)
    found = next(f for f in report.to_dict()["faults"] if f["check"] == "bounds")
    assert found["source"] == ["/helpers/load.cu", 4]
    assert found["callers"] == [["/helpers/load.cu", 7], ["/user/kernel.cu", 41]]


def test_line_0_is_no_line() -> None:
    """LLVM writes it where an instruction has no one place."""
    ptx = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x)
{
  .reg .b64 %rd<3>; .reg .b32 %r<2>;
  .loc 1 7 5
  ld.param.b64 %rd1, [x];
  .loc 1 0 0
  ld.global.b32 %r1, [%rd1+4];
  ret;
}
.file 1 "a\\303\\251.py"
"""
    module = simulator.load(ptx)
    report = module.launch("k", 1, 1, [np.zeros(1, "f4")], collect=True)
    assert [(f.line, f.source) for f in report.faults] == [(10, None)]
    assert module.syntax.files == {1: "aé.py"}
