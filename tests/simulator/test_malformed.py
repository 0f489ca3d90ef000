"""Malformed PTX ends in an error that names the line, or runs as it now reads; never in a traceback or a hang."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501, PT017

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import TilusError, UserError

SOURCE = """
__device__ __noinline__ float f(float x, int n) { for (int i = 0; i < n; ++i) x = x * 1.5f + i; return x; }
extern "C" __global__ void k(float* a, int n) { __shared__ float s[64]; int t = threadIdx.x; s[t] = a[t]; __syncthreads();
  float v = f(s[63 - t], n); if (t & 1) v += __shfl_xor_sync(0xaaaaaaaa, v, 2); a[t] = v; atomicAdd(a, 1.0f); }
"""


def attempt(text: str) -> None:
    """Run the text; whatever is wrong must be an error of tilus."""
    try:
        simulator.launch(text, "k", 1, 64, [np.ones(64, "f4"), 3], max_steps=20000, collect=True)
    except TilusError as error:
        assert error.diagnostics
        if error.diagnostics[0].code in ("E1001", "E1002"):
            assert "line" in str(error)


def variants() -> list[str]:
    lines = to_ptx(SOURCE).split("\n")
    result = []
    for i in range(len(lines)):
        if lines[i].strip() and not lines[i].startswith("//"):
            result.append("\n".join(lines[:i] + lines[i + 1:]))
            result.append("\n".join(lines[:i + 1] + lines[i:]))
    return result


def test_each_line_deleted_or_doubled() -> None:
    for text in variants():
        attempt(text)


def test_truncated() -> None:
    text = to_ptx(SOURCE)
    for end in range(0, len(text), 37):
        attempt(text[:end])


def test_random_bytes() -> None:
    text = to_ptx(SOURCE)
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = list(text)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(len(damaged))] = chr(random.integers(1, 127))
        attempt("".join(damaged))
    for _ in range(50):
        attempt("".join(chr(c) for c in random.integers(1, 256, 200)))


TEMPLATE = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p)
{
  .reg .pred %p<3>;
  .reg .b32 %r<5>;
  .reg .b64 %rd<4>;
  .reg .f32 %f<3>;
  LINE
  ret;
}
"""

# the line put into the kernel, and what the error must name
BAD = [
    ("add.s33 %r1, %r2, 1;", "add.s33"), ("frobnicate.b32 %r1, %r2;", "frobnicate"), ("add.s32 %r1, %r9, 1;", "%r9"),
    ("add.s32 %r1, %r2;", "operands"), ("mov.u32 %r1, %rd1;", "%rd1"), ("bra nowhere;", "nowhere"), ("ld.global.u32 %r1, %r2;", "address"),
    ("add.s32 %r1, %r2, 1", "unexpected"), ("add.s32 %r1, [%r2, 1;", "unexpected"), ("@%r1 add.s32 %r1, %r2, 1;", "predicate"),
    ("mma.sync.aligned.m16n8k99.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r1}, {%f1};", "m16n8k99"), (".reg .b32 %r<3>;", "twice"),
    ("call (%r1), missing, (%r2);", "missing"), ("L: bra L2; L: ret;", "twice"), ("setp.foo.s32 %p1, %r1, %r2;", "setp.foo.s32"),
    ("mov.u32 %r1, %nonsense;", "%nonsense"), ("ld.global.v4.u32 {%r1, %r2}, [%rd1];", "2 registers for 4"), ("cvt.s32.f32 %r1, %f1;", "rni"),
    ("shfl.sync.bfly.b32 %r1, %r2, 1;", "operands"), ("tex.2d.v4.f32.f32 {%f1}, [%rd1];", "tex"), ("$%&", "unexpected"), ("mov.u32 %r1, 08;", "08"),
    ("brx.idx %r1, T;", "branchtargets"), ("cp.async.ca.shared.global [%r1], [%rd1], 5;", "5 bytes"),
]


@pytest.mark.parametrize(("line", "named"), BAD, ids=[b[1] for b in BAD])
def test_error_names_line_and_token(line: str, named: str) -> None:
    text = TEMPLATE.replace("LINE", line)
    with pytest.raises(UserError) as caught:
        simulator.launch(text, "k", 1, 32, [np.zeros(4, "i4")])
    message = str(caught.value)
    assert named in message
    assert re.search(r"line 1[01]\b", message), message


def test_endless_loop_ends_at_the_step_limit() -> None:
    report = simulator.launch(TEMPLATE.replace("LINE", "L: add.s32 %r1, 1, 1; bra L;"), "k", 1, 32, [np.zeros(4, "i4")],
                              max_steps=1000, collect=True)
    assert [fault.check for fault in report.faults] == ["limit"]


def test_unreasonable_sizes() -> None:
    for line, text in ((".local .b8 big[1000000000];", "local memory"), (".shared .b8 big[1000000];", "shared memory"),
                       (".shared .b8 big[99999999999];", "2 GiB"), (".reg .b32 %z<99999999>;", "too many registers")):
        with pytest.raises(UserError, match=text):
            simulator.launch(TEMPLATE.replace("LINE", line), "k", 1, 32, [np.zeros(4, "i4")])


def test_branch_table() -> None:
    body = """.reg .b32 %t<3>; mov.u32 %t1, %tid.x; and.b32 %t2, %t1, 3; ld.param.u64 %rd1, [p]; mul.wide.u32 %rd2, %t1, 4;
  add.u64 %rd1, %rd1, %rd2; mov.u32 %r1, 0;
  ts: .branchtargets A, B, C, D;
  brx.idx %t2, ts;
  A: add.s32 %r1, %r1, 1; B: add.s32 %r1, %r1, 10; bra E; C: add.s32 %r1, %r1, 100; D: add.s32 %r1, %r1, 1000;
  E: st.global.u32 [%rd1], %r1;"""
    out = np.zeros(64, "i4")
    simulator.launch(TEMPLATE.replace("LINE", body), "k", 1, 64, [out])
    np.testing.assert_array_equal(out, np.array([11, 10, 1100, 1000])[np.arange(64) % 4])
