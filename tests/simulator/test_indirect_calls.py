"""Calls through function pointers and virtual functions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import CheckError, UserError

TABLE = """typedef int (*F)(int, int);
__device__ int add(int a, int b) { return a + b; }
__device__ int mul(int a, int b) { return a * b; }
__device__ int sub(int a, int b) { return a - b; }
__device__ F table[3] = {add, mul, sub};
extern "C" __global__ void k(const int* x, int* o) { int t = threadIdx.x; o[t] = table[x[t] % 4](t, x[t]); }"""


def test_function_pointers_that_differ_between_lanes() -> None:
    x = np.random.default_rng(0).integers(0, 300, 64).astype("i4")
    x -= x % 4 == 3
    out, t = np.zeros(64, "i4"), np.arange(64)
    simulator.launch(to_ptx(TABLE), "k", 1, 64, [x, out])
    np.testing.assert_array_equal(out, np.choose(x % 4, [t + x, t * x, t - x]))


def test_pointer_to_no_function() -> None:
    ptx = to_ptx(TABLE.replace("F table[3] = {add, mul, sub}", "F table[4] = {add, mul, sub, 0}"))
    with pytest.raises(CheckError, match="no function of the call's prototype"):
        simulator.launch(ptx, "k", 1, 64, [np.full(64, 3, "i4"), np.zeros(64, "i4")])


def test_virtual_functions() -> None:
    source = """struct Shape { __device__ virtual float area(float x) const { return 0; } };
    struct Square : Shape { __device__ float area(float x) const override { return x * x; } };
    struct Twice : Square { __device__ float area(float x) const override { return 2 * Square::area(x); } };
    extern "C" __global__ void k(const float* x, float* o) { int t = threadIdx.x; Shape a; Square b; Twice c;
      const Shape* all[3] = {&a, &b, &c}; o[t] = all[t % 3]->area(x[t]); }"""
    x, out = np.arange(64, dtype="f4"), np.zeros(64, "f4")
    simulator.launch(to_ptx(source), "k", 1, 64, [x, out])
    np.testing.assert_array_equal(out, np.choose(np.arange(64) % 3, [0 * x, x * x, 2 * x * x]))


def test_call_targets() -> None:
    ptx = """.version 8.0\n.target sm_80\n.address_size 64
.func (.reg .b32 r) one(.reg .b32 a) { add.u32 r, a, 1; ret; }
.func (.reg .b32 r) two(.reg .b32 a) { mul.lo.u32 r, a, 2; ret; }
.visible .entry k(.param .u64 p)
{
  .reg .b32 %t, %v; .reg .b64 %f, %g, %p, %o; .reg .pred %q;
  ld.param.u64 %p, [p]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 4; add.u64 %p, %p, %o;
  setp.lt.u32 %q, %t, 7; mov.u64 %f, one; mov.u64 %g, two; @%q mov.u64 %f, %g;
  TARGETS
  call (%v), %f, (%t), targets;
  st.global.u32 [%p], %v; ret;
}
"""
    out, t = np.zeros(32, "u4"), np.arange(32)
    simulator.launch(ptx.replace("TARGETS", "targets: .calltargets one, two;"), "k", 1, 32, [out])
    np.testing.assert_array_equal(out, np.where(t < 7, 2 * t, t + 1))
    with pytest.raises(UserError, match=r"\.callprototype"):
        simulator.launch(ptx.replace("TARGETS", ""), "k", 1, 32, [out])
