"""Programs as people write them: device functions with stack arrays, virtual calls, switches, scans, queues, locks, SIMD words."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.simulator.cuda import to_ptx
from tilus import simulator

RNG = np.random.default_rng(7)
T = np.arange(64)


def run(source: str, grid: Any, block: Any, args: list[Any], arch: str = "sm_80") -> simulator.Report:
    return simulator.launch(to_ptx(source, arch), "k", grid, block, args)


def test_array_on_the_stack_through_a_function() -> None:
    out = np.zeros(64, "u4")
    run("""__device__ __noinline__ int fold(int* a, int n) { int s = 0; for (int i = 0; i < n; i++) s = s * 3 + a[i]; return s; }
        extern "C" __global__ void k(int* x, int n) { int a[16]; for (int i = 0; i < 16; i++) a[i] = i * threadIdx.x;
        for (int i = 0; i < n; i++) { int j = (i * 7 + threadIdx.x) % 16; a[j] ^= i; } x[threadIdx.x] = fold(a, 16); }""", 1, 64, [out, 20])
    for t in range(64):
        a = [i * t for i in range(16)]
        for i in range(20):
            a[(i * 7 + t) % 16] ^= i
        wanted = 0
        for value in a:
            wanted = (wanted * 3 + value) & 0xFFFFFFFF
        assert out[t] == wanted


def test_virtual_functions() -> None:
    out = np.zeros(64, "i4")
    run("""struct B { __device__ virtual int f(int) = 0; }; struct C : B { int q; __device__ C(int q) : q(q) {} __device__ int f(int x) override { return x + q; } };
        struct D : B { __device__ int f(int x) override { return x * 3; } };
        extern "C" __global__ void k(int* x) { C c(5); D d; B* p = (threadIdx.x & 1) ? (B*)&c : (B*)&d; x[threadIdx.x] = p->f(threadIdx.x); }""", 1, 64, [out])
    np.testing.assert_array_equal(out, np.where(T & 1, T + 5, T * 3))


def test_switch_over_templates() -> None:
    x = (T % 11).astype("i4")
    run("""template<int N> __device__ int g(int x) { int r = 0; for (int i = 0; i < N; i++) r += x >> i; return r; }
        extern "C" __global__ void k(int* x) { int t = threadIdx.x, r; switch (x[t]) { case 0: r = g<3>(t); break; case 1: r = g<5>(t); break; case 2: r = t * t; break;
        case 3: r = -t; break; case 4: r = t ^ 77; break; case 5: r = t % 7; break; case 6: r = t << 3; break; case 9: r = 1; break; default: r = -1; } x[t] = r; }""", 1, 64, [x])
    ways = {0: lambda t: sum(t >> i for i in range(3)), 1: lambda t: sum(t >> i for i in range(5)), 2: lambda t: t * t, 3: lambda t: -t, 4: lambda t: t ^ 77,
            5: lambda t: t % 7, 6: lambda t: t << 3, 9: lambda t: 1}
    assert x.tolist() == [ways.get(t % 11, lambda t: -1)(t) for t in range(64)]


def test_functions_of_doubles() -> None:
    x = RNG.standard_normal(64) * 5
    y = np.zeros(64)
    run("""extern "C" __global__ void k(double* x, double* y) { int t = threadIdx.x; double v = x[t]; y[t] = sin(v) + cos(v) * exp(-v * v) + log(fabs(v) + 1)
        + pow(fabs(v), 1.3) + tgamma(1 + fabs(v) / 10) + erf(v) + cbrt(v) + atan2(v, 2.0) + fmod(v, 0.7) + ldexp(v, 3) + rint(v) + trunc(v); }""", 1, 64, [x, y])
    wanted = [math.sin(v) + math.cos(v) * math.exp(-v * v) + math.log(abs(v) + 1) + abs(v) ** 1.3 + math.gamma(1 + abs(v) / 10) + math.erf(v)
              + float(np.cbrt(v)) + math.atan2(v, 2) + math.fmod(v, 0.7) + v * 8 + float(np.rint(v)) + math.trunc(v) for v in x]
    np.testing.assert_allclose(y, wanted, rtol=1e-12)


def test_64_bit_integers() -> None:
    x = RNG.integers(-(1 << 62), 1 << 62, 64)
    x[5], x[6] = -1, 7
    y = np.zeros(64, "u8")
    run("""extern "C" __global__ void k(long long* x, unsigned long long* y) { int t = threadIdx.x; long long a = x[t], b = x[(t + 1) % 64];
        y[t] = (unsigned long long)(a / b) * 31u + (a % b) + __umul64hi(a, b) + __mul64hi(a, b) + __clzll(a) + __popcll(b) + __brevll(a) + (a >> (b & 63)); }""", 1, 64, [x, y])
    mask = (1 << 64) - 1
    for t in range(64):
        a, b = int(x[t]), int(x[(t + 1) % 64])
        q = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        wanted = q * 31 + a - q * b + ((a & mask) * (b & mask) >> 64) + (a * b >> 64) + 64 - (a & mask).bit_length() + (b & mask).bit_count()
        assert int(y[t]) == (wanted + int(f"{a & mask:064b}"[::-1], 2) + (a >> (b & 63))) & mask


def test_scan_that_looks_back_at_earlier_blocks() -> None:
    x = RNG.integers(0, 100, 1000).astype("i4")
    y = np.zeros(1000, "i4")
    run("""extern "C" __global__ void k(int* x, int* y, volatile int* sum, volatile int* flag, int* ticket, int n) { __shared__ int s[64]; __shared__ int base, number; int t = threadIdx.x;
        if (!t) number = atomicAdd(ticket, 1); __syncthreads(); int b = number, i = b * 64 + t; s[t] = i < n ? x[i] : 0; __syncthreads();
        for (int d = 1; d < 64; d *= 2) { int v = t >= d ? s[t - d] : 0; __syncthreads(); s[t] += v; __syncthreads(); }
        if (!t) { int p = 0; if (b) { while (flag[b - 1] == 0) {} __threadfence(); p = sum[b - 1]; } sum[b] = p + s[63]; __threadfence(); flag[b] = 1; base = p; }
        __syncthreads(); if (i < n) y[i] = s[t] + base; }""", 16, 64, [x, y, np.zeros(16, "i4"), np.zeros(16, "i4"), np.zeros(1, "i4"), 1000])
    np.testing.assert_array_equal(y, np.cumsum(x))


def test_module_data_that_points_to_module_data() -> None:
    out = np.zeros(64, "i4")
    run("""__device__ int a[4] = {1, 2, 3, 4}; __device__ int* pa = a + 2; struct S { int x; int* p; float f; const char* s; };
        __device__ S table[2] = {{5, a, 1.5f, "hi"}, {6, a + 1, 2.5f, "yo"}}; __constant__ double d = 3.25; __device__ unsigned char bytes[5] = {1, 2, 3, 4, 5};
        extern "C" __global__ void k(int* x) { int t = threadIdx.x; S& s = table[t & 1]; x[t] = s.x + *s.p + (int)s.f + s.s[0] + *pa + (int)d + bytes[t % 5]; }""", 1, 64, [out])
    np.testing.assert_array_equal(out, np.where(T & 1, 6 + 2 + 2 + ord("y"), 5 + 1 + 1 + ord("h")) + 3 + 3 + T % 5 + 1)


def test_matrices_by_value() -> None:
    x = RNG.integers(0, 3, (32, 4, 4)).astype("f4")
    y = np.zeros_like(x)
    run("""struct M { float m[4][4]; }; __device__ __noinline__ M mul(const M& a, const M& b) { M c; for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) { float s = 0;
        for (int k = 0; k < 4; k++) s += a.m[i][k] * b.m[k][j]; c.m[i][j] = s; } return c; }
        extern "C" __global__ void k(const float* x, float* y, int n) { M a, b; for (int i = 0; i < 16; i++) { a.m[i / 4][i % 4] = x[threadIdx.x * 16 + i]; b.m[i / 4][i % 4] = i % 5; }
        for (int r = 0; r < n; r++) a = mul(a, b); for (int i = 0; i < 16; i++) y[threadIdx.x * 16 + i] = a.m[i / 4][i % 4]; }""", 1, 32, [x, y, 3])
    b = (np.arange(16) % 5).reshape(4, 4).astype("f4")
    np.testing.assert_array_equal(y, x @ b @ b @ b)


def test_ways_out_of_a_loop() -> None:
    x = RNG.integers(0, 40, 64).astype("i4")
    start = x.tolist()
    run("""extern "C" __global__ void k(int* x, int n) { int t = threadIdx.x; for (int i = 0; i < n; i++) { if (x[t] > 50) { x[t] = -x[t]; return; }
        if ((x[t] & 1) == 0) { x[t] += t; continue; } x[t] = x[t] * 2 + 1; if (i == 3 && t % 5 == 0) break; } x[t] += 1000; }""", 1, 64, [x, 8])

    def wanted(v: int, t: int) -> int:
        for i in range(8):
            if v > 50:
                return -v
            if v & 1 == 0:
                v += t
                continue
            v = v * 2 + 1
            if i == 3 and t % 5 == 0:
                break
        return v + 1000

    assert x.tolist() == [wanted(v, t) for t, v in enumerate(start)]


def test_lock_that_lanes_of_a_warp_contend_for() -> None:
    x = np.zeros(1, "i4")
    run("""__device__ int lock; extern "C" __global__ void k(int* x) { bool done = false; while (!done) { if (atomicCAS(&lock, 0, 1) == 0) { __threadfence();
        *(volatile int*)x = *(volatile int*)x + 1; __threadfence(); atomicExch(&lock, 0); done = true; } } }""", 3, 64, [x])
    assert x[0] == 192


def test_persistent_blocks_that_take_from_a_queue() -> None:
    x = np.zeros((20, 32), "i4")
    run("""extern "C" __global__ void k(int* q, int* x, int n) { __shared__ int i; while (true) { if (!threadIdx.x) i = atomicAdd(q, 1); __syncthreads(); int j = i; __syncthreads();
        if (j >= n) return; x[j * 32 + threadIdx.x] += j; } }""", 3, 32, [np.zeros(1, "i4"), x, 20])
    np.testing.assert_array_equal(x, np.repeat(np.arange(20)[:, None], 32, 1))


def test_clock_goes_on() -> None:
    x = np.zeros(32, "i8")
    run("""extern "C" __global__ void k(long long* x) { long long a = clock64(); unsigned b = clock(); __nanosleep(20); x[threadIdx.x] = (clock64() - a > 0) + (clock() - b > 0); }""", 1, 32, [x])
    assert (x == 2).all()
