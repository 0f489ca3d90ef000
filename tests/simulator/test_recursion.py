"""Recursive device functions, ``alloca``, and the 128-bit division that counts on the carry of a subtraction."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import CheckError

T = np.arange(64)
QUICKSORT = """__device__ __noinline__ void sort(int* a, int l, int r) { if (l >= r) return; int p = a[(l + r) / 2], i = l, j = r;
  while (i <= j) { while (a[i] < p) i++; while (a[j] > p) j--; if (i <= j) { int t = a[i]; a[i] = a[j]; a[j] = t; i++; j--; } }
  sort(a, l, j); sort(a, i, r); }
extern "C" __global__ void k(int* x, int n) { int own[24]; for (int i = 0; i < n; i++) own[i] = x[threadIdx.x * n + i];
  sort(own, 0, n - 1); for (int i = 0; i < n; i++) x[threadIdx.x * n + i] = own[i]; }"""


def run(source: str, **options: int) -> np.ndarray:
    out = np.zeros(64, "i4")
    simulator.launch(to_ptx(source), "k", 1, 64, [out], **options)
    return out


def test_two_calls_of_itself() -> None:
    out = run("""__device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
        extern "C" __global__ void k(int* o) { o[threadIdx.x] = fib(threadIdx.x % 12); }""")
    fib = [0, 1]
    while len(fib) < 12:
        fib.append(fib[-1] + fib[-2])
    np.testing.assert_array_equal(out, np.array(fib)[T % 12])


def test_functions_that_call_each_other_with_a_barrier_after() -> None:
    out = run("""__device__ __noinline__ int odd(int n); __device__ __noinline__ int even(int n) { return n == 0 ? 1 : odd(n - 1); }
        __device__ __noinline__ int odd(int n) { return n == 0 ? 0 : even(n - 1) * 1; }
        extern "C" __global__ void k(int* o) { __shared__ int s[64]; int t = threadIdx.x; s[t] = even(t); __syncthreads(); o[t] = s[63 - t]; }""")
    np.testing.assert_array_equal(out, T % 2)


def test_frames_hold_arrays_that_callees_write() -> None:
    out = run("""__device__ __noinline__ int walk(int n, int* mine) { int a[3] = {n, n * 2, 0}; if (n == 0) { mine[2] += 7; return 1; }
        int r = walk(n - 1, a); mine[2] += a[2] + a[0]; return r + a[1]; }
        extern "C" __global__ void k(int* o) { int top[3] = {0, 0, 0}; int r = walk(threadIdx.x % 9, top); o[threadIdx.x] = r * 1000 + top[2]; }""")

    def walk(n: int, mine: list[int]) -> int:
        a = [n, n * 2, 0]
        if n == 0:
            mine[2] += 7
            return 1
        r = walk(n - 1, a)
        mine[2] += a[2] + a[0]
        return r + a[1]

    for t in T:
        top = [0, 0, 0]
        r = walk(int(t) % 9, top)
        assert out[t] == r * 1000 + top[2]


def test_quicksort_of_an_array_on_the_stack() -> None:
    x = np.random.default_rng(0).integers(0, 1000, (32, 20)).astype("i4")
    wanted = np.sort(x, axis=1)
    simulator.launch(to_ptx(QUICKSORT), "k", 1, 32, [x, 20])
    np.testing.assert_array_equal(x, wanted)


def test_recursion_through_a_pointer() -> None:
    out = run("""typedef int (*F)(int); __device__ int down(int n); __device__ int twice(int n);
        __device__ F table[2] = {down, twice}; __device__ __noinline__ int down(int n) { return n <= 0 ? 0 : 1 + table[n & 1](n - 1); }
        __device__ __noinline__ int twice(int n) { return n <= 0 ? 5 : 2 + table[n & 1](n - 2); }
        extern "C" __global__ void k(int* o) { o[threadIdx.x] = down(threadIdx.x % 20); }""")

    def down(n: int) -> int:
        return 0 if n <= 0 else 1 + (twice if n & 1 else down)(n - 1)

    def twice(n: int) -> int:
        return 5 if n <= 0 else 2 + (twice if n & 1 else down)(n - 2)

    np.testing.assert_array_equal(out, [down(int(t) % 20) for t in T])


def test_endless_recursion_names_the_stack() -> None:
    source = """__device__ __noinline__ int f(int n, int* p) { int a[4] = {n, 1, 2, 3}; return n == -1 ? p[0] : f(n + 1, a) + a[1]; }
        extern "C" __global__ void k(int* o) { o[threadIdx.x] = f(threadIdx.x, o); }"""
    with pytest.raises(CheckError, match="need more than the 16384 bytes of a thread's stack: raise stack_bytes"):
        run(source)
    deep = """__device__ __noinline__ int f(int n) { int a[4] = {n, 1, 2, 3}; volatile int* p = a; return n == 0 ? 0 : f(n - 1) + p[1]; }
        extern "C" __global__ void k(int* o) { o[threadIdx.x] = f(threadIdx.x < 2 ? 600 : 3); }"""
    with pytest.raises(CheckError, match="raise stack_bytes"):
        run(deep)
    np.testing.assert_array_equal(run(deep, stack_bytes=1 << 16), np.where(T < 2, 600, 3))


def test_local_memory_of_a_frame_starts_unwritten() -> None:
    with pytest.raises(CheckError, match="local memory is read before it is written"):
        run("""__device__ __noinline__ int f(int n, int m) { volatile int a[4]; if (n > m) a[n & 3] = n; return n == 0 ? a[1] : f(n - 1, m) + a[n & 3]; }
        extern "C" __global__ void k(int* o) { o[threadIdx.x] = f(3, 0); }""")


def test_alloca() -> None:
    ptx = """.version 7.3
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p) {
  .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p;
  ld.param.u64 %d1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %d1, %r1, 4, %d1;
  stacksave.u64 %d6; and.b32 %r2, %r1, 7; add.u32 %r2, %r2, 1; mul.wide.u32 %d2, %r2, 4;
  alloca.u64 %d3, %d2, 16; and.b64 %d7, %d3, 15; mov.u32 %r3, 0;
  F: mul.wide.u32 %d4, %r3, 4; add.u64 %d4, %d4, %d3; mul.lo.u32 %r4, %r3, %r1; st.local.u32 [%d4], %r4; add.u32 %r3, %r3, 1;
  setp.lt.u32 %p, %r3, %r2; @%p bra F;
  mov.u32 %r5, 0; mov.u32 %r3, 0;
  G: mul.wide.u32 %d4, %r3, 4; add.u64 %d4, %d4, %d3; ld.local.u32 %r4, [%d4]; add.u32 %r5, %r5, %r4; add.u32 %r3, %r3, 1;
  setp.lt.u32 %p, %r3, %r2; @%p bra G;
  stackrestore.u64 %d6; alloca.u64 %d5, 8; sub.u64 %d5, %d5, %d3; cvt.u32.u64 %r6, %d5; cvt.u32.u64 %r7, %d7;
  add.u32 %r5, %r5, %r6; add.u32 %r5, %r5, %r7; st.global.u32 [%d1], %r5; ret; }"""
    out = np.zeros(64, "i4")
    simulator.launch(ptx, "k", 1, 64, [out])
    n = T % 8 + 1
    np.testing.assert_array_equal(out, T * n * (n - 1) // 2)
    with pytest.raises(CheckError, match="alloca needs more than"):
        simulator.launch(ptx.replace("alloca.u64 %d5, 8", "alloca.u64 %d5, 99999"), "k", 1, 64, [out])


def test_flag_of_a_subtraction_is_its_carry() -> None:
    """Set where nothing was borrowed, as ``addc`` after ``sub.cc`` finds it in the 128-bit division of CUDA C++."""
    ptx = """.version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p) {
  .reg .b32 %r<9>; .reg .b64 %d<3>;
  ld.param.u64 %d1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %d1, %r1, 4, %d1;
  sub.cc.u32 %r2, %r1, 20; addc.u32 %r3, 0, 0; sub.cc.u32 %r2, %r1, 20; subc.u32 %r4, 5, 0; add.cc.u32 %r2, %r1, 0xfffffff0; subc.u32 %r5, 5, 0;
  mad.lo.u32 %r3, %r3, 100, %r4; mad.lo.u32 %r3, %r3, 10, %r5; st.global.u32 [%d1], %r3; ret; }"""
    out = np.zeros(64, "i4")
    simulator.launch(ptx, "k", 1, 64, [out])
    np.testing.assert_array_equal(out, ((T >= 20) * 100 + 5 - (T < 20)) * 10 + 5 - (T < 16))
