"""Cooperative CUDA C++ kernels: shared memory, warp collectives, barriers, atomics, calls, clusters, asynchronous copies."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import CheckError, UserError

RNG = np.random.default_rng(0)


def run(source: str, grid: Any, block: Any, args: list[Any], arch: str = "sm_80", **options: Any) -> simulator.Report:
    return simulator.launch(to_ptx(source, arch), "k", grid, block, args, **options)


def test_reduction_in_shared_memory() -> None:
    x = RNG.integers(-1000, 1000, 1000, dtype="i4")
    out = np.zeros(1, "i4")
    run("""extern "C" __global__ void k(const int* x, int* out, int n) {
        __shared__ int s[256]; int t = threadIdx.x, i = blockIdx.x * 256 + t;
        s[t] = i < n ? x[i] : 0; __syncthreads();
        for (int o = 128; o; o >>= 1) { if (t < o) s[t] += s[t + o]; __syncthreads(); }
        if (!t) atomicAdd(out, s[0]); }""", 4, 256, [x, out, x.size])
    assert out[0] == x.sum()


def test_shuffles_of_every_mode() -> None:
    x = RNG.integers(0, 1 << 30, 64, dtype="i4")
    out = np.zeros((6, 64), "i4")
    run("""extern "C" __global__ void k(const int* x, int* out) { int t = threadIdx.x, v = x[t]; unsigned m = ~0u;
        out[t] = __shfl_up_sync(m, v, 3); out[64 + t] = __shfl_down_sync(m, v, 5, 16);
        out[128 + t] = __shfl_xor_sync(m, v, 9); out[192 + t] = __shfl_sync(m, v, t * 7 % 32);
        out[256 + t] = __shfl_sync(m, v, t, 8); out[320 + t] = __shfl_up_sync(m, v, 2, 4); }""", 1, 64, [x, out])
    lane = np.arange(64) % 32
    base = np.arange(64) - lane
    up = np.where(lane >= 3, lane - 3, lane)
    down = np.where(lane % 16 + 5 < 16, lane + 5, lane)
    t = np.arange(64)
    wanted = [x[base + up], x[base + down], x[base + (lane ^ 9)], x[base + t * 7 % 32],
              x[base + lane // 8 * 8 + t % 8], x[base + np.where(lane % 4 >= 2, lane - 2, lane)]]
    np.testing.assert_array_equal(out, wanted)


def test_votes_matches_and_reductions() -> None:
    x = RNG.integers(0, 5, 64, dtype="i4")
    out = np.zeros((7, 64), "u4")
    run("""extern "C" __global__ void k(const int* x, unsigned* out) { int t = threadIdx.x, v = x[t]; unsigned m = ~0u; int p;
        out[t] = __ballot_sync(m, v > 2); out[64 + t] = __any_sync(m, v == 4) + 2 * __all_sync(m, v < 4);
        out[128 + t] = __match_any_sync(m, v); out[192 + t] = __match_all_sync(m, v / 5, &p) + p;
        out[256 + t] = __reduce_add_sync(m, v); out[320 + t] = __reduce_max_sync(m, (unsigned)v);
        out[384 + t] = __reduce_xor_sync(m, (unsigned)v); }""", 1, 64, [x, out])
    for w in range(2):
        v = x[32 * w:32 * w + 32]
        o = out[:, 32 * w:32 * w + 32]
        bits = 1 << np.arange(32)
        assert (o[0] == bits[v > 2].sum()).all()
        assert (o[1] == (4 in v) + 2 * (v < 4).all()).all()
        assert (o[2] == [bits[v == a].sum() for a in v]).all()
        assert (o[3] == ((1 << 32) - 1 + 1) % (1 << 32)).all()
        assert (o[4] == v.sum()).all()
        assert (o[5] == v.max()).all()
        assert (o[6] == np.bitwise_xor.reduce(v)).all()


def test_collectives_of_a_diverged_warp() -> None:
    out = np.zeros(32, "u4")
    run("""extern "C" __global__ void k(unsigned* out) { int t = threadIdx.x;
        if (t % 3 == 0) out[t] = __ballot_sync(__activemask(), 1); else { unsigned m = 0x92492492u | 0x24924924u;
        out[t] = __reduce_add_sync(m, t); } }""", 1, 32, [out])
    t = np.arange(32)
    wanted = np.where(t % 3 == 0, (1 << t[t % 3 == 0]).sum(), t[t % 3 != 0].sum())
    np.testing.assert_array_equal(out, wanted)


def test_transpose_through_padded_tile() -> None:
    x = RNG.standard_normal((70, 45)).astype("f4")
    y = np.zeros((45, 70), "f4")
    report = run("""extern "C" __global__ void k(const float* x, float* y, int m, int n) { __shared__ float s[32][33];
        int c = blockIdx.x * 32 + threadIdx.x, r = blockIdx.y * 32 + threadIdx.y;
        for (int j = 0; j < 32; j += 8) if (r + j < m && c < n) s[threadIdx.y + j][threadIdx.x] = x[(r + j) * n + c];
        __syncthreads(); c = blockIdx.y * 32 + threadIdx.x; r = blockIdx.x * 32 + threadIdx.y;
        for (int j = 0; j < 32; j += 8) if (r + j < n && c < m) y[(r + j) * m + c] = s[threadIdx.x][threadIdx.y + j]; }""",
                 (2, 3), (32, 8), [x, y, 70, 45])
    np.testing.assert_array_equal(y, x.T)
    assert report.bank_conflicts == 0


def test_histogram_with_atomics_in_both_spaces() -> None:
    x = RNG.integers(0, 16, 2000, dtype="i4")
    out = np.zeros(16, "u4")
    run("""extern "C" __global__ void k(const int* x, unsigned* out, int n) { __shared__ unsigned h[16];
        if (threadIdx.x < 16) h[threadIdx.x] = 0; __syncthreads();
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&h[x[i]], 1u);
        __syncthreads(); if (threadIdx.x < 16) atomicAdd(&out[threadIdx.x], h[threadIdx.x]); }""", 3, 128,
        [x, out, x.size])
    np.testing.assert_array_equal(out, np.bincount(x, minlength=16))


@pytest.mark.parametrize(("call", "start", "wanted"), [
    ("atomicMax(o, v)", -5, lambda v, s: max(s, v.max())), ("atomicMin(o, v)", 5, lambda v, s: min(s, v.min())),
    ("atomicAnd(o, v)", -1, lambda v, s: np.bitwise_and.reduce(v) & s),
    ("atomicOr(o, v)", 0, lambda v, s: np.bitwise_or.reduce(v)), ("atomicXor(o, v)", 9, lambda v, s: np.bitwise_xor.reduce(v) ^ 9),
    ("atomicSub(o, v)", 3, lambda v, s: s - v.sum()),
    ("atomicInc((unsigned*)o, 100u)", 7, lambda v, s: (7 + 96) % 101), ("atomicDec((unsigned*)o, 50u)", 3, lambda v, s: (3 - 96) % 51),
])
def test_atomics(call: str, start: int, wanted: Any) -> None:
    v = RNG.integers(-100, 100, 96, dtype="i4")
    out = np.array([start], "i4")
    run(f'extern "C" __global__ void k(const int* x, int* o) {{ int v = x[threadIdx.x]; {call}; }}', 1, 96, [v, out])
    assert out[0] == wanted(v, start)


def test_atomics_return_each_old_value_once() -> None:
    out = np.full(300, -1, "i4")
    counter = np.zeros(1, "i4")
    run('extern "C" __global__ void k(int* c, int* o) { o[blockIdx.x * 100 + threadIdx.x] = atomicAdd(c, 2); }', 3, 100,
        [counter, out])
    assert sorted(out) == list(range(0, 600, 2))
    assert counter[0] == 600


def test_float_atomics() -> None:
    x = RNG.standard_normal(200)
    f, d = np.zeros(1, "f4"), np.zeros(1, "f8")
    h = np.zeros(2, "f2")
    run("""#include <cuda_fp16.h>
        extern "C" __global__ void k(const double* x, float* f, double* d, __half2* h) { double v = x[threadIdx.x];
        atomicAdd(f, (float)v); atomicAdd(d, v); atomicAdd(h, __halves2half2(__float2half(1.0f), __float2half(0.5f))); }""",
        1, 200, [x, f, d, h])
    np.testing.assert_allclose([f[0], d[0]], x.sum(), rtol=1e-4)
    np.testing.assert_array_equal(h, [200, 100])


def test_compare_and_swap_loop() -> None:
    x = RNG.random(150).astype("f4")
    out = np.zeros(1, "f4")
    run("""extern "C" __global__ void k(const float* x, float* o) { unsigned* p = (unsigned*)o; unsigned old = *(volatile unsigned*)p,
        seen; do { seen = old; old = atomicCAS(p, seen, __float_as_uint(fmaxf(__uint_as_float(seen), x[threadIdx.x])));
        } while (old != seen); }""", 1, 150, [x, out])
    assert out[0] == x.max()


def test_lock_taken_by_every_thread() -> None:
    lock, total = np.zeros(1, "i4"), np.zeros(1, "i4")
    run("""extern "C" __global__ void k(int* lock, int* total) { bool done = false; while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) { __threadfence(); *(volatile int*)total = *(volatile int*)total + 1;
        __threadfence(); atomicExch(lock, 0); done = true; } } }""", 2, 48, [lock, total])
    assert total[0] == 96


def test_blocks_that_wait_for_each_other() -> None:
    data, flags = np.zeros(40, "i4"), np.zeros(41, "i4")
    flags[0] = 1
    run("""extern "C" __global__ void k(int* data, int* flags) { int b = blockIdx.x; if (threadIdx.x == 0) {
        while (atomicAdd(&flags[b], 0) == 0) {} __threadfence(); data[b] = b ? data[b - 1] + b : 7; __threadfence();
        atomicExch(&flags[b + 1], 1); } }""", 40, 256, [data, flags])
    np.testing.assert_array_equal(data, 7 + np.cumsum(np.arange(40)))


def test_waiting_for_a_later_block_that_is_not_resident_is_reported() -> None:
    flag = np.zeros(1, "i4")
    source = """extern "C" __global__ void k(int* flag) { if (blockIdx.x + 1 == gridDim.x) atomicExch(flag, 1);
        else while (atomicAdd(flag, 0) == 0) {} }"""
    run(source, 8, 32, [flag])
    flag[0] = 0
    with pytest.raises(CheckError, match="not resident"):
        run(source, 8, 32, [flag], resident_blocks=4)


def test_long_loops_of_volatile_reads_are_no_deadlock() -> None:
    x = np.arange(2000, dtype="i4")
    out = np.zeros(64, "i4")
    source = """extern "C" __global__ void k(const volatile int* x, int* o) { int s = 0; if (threadIdx.x % 2 DIVERGED) for (int i = 0; i < 1500;
        ++i) s += x[i + threadIdx.x]; o[threadIdx.x] = s; }"""
    for diverged in (">= 0", "== 1"):
        run(source.replace("DIVERGED", diverged), 1, 64, [x, out])
        t = np.arange(64)
        wanted = 1500 * 1499 // 2 + 1500 * t
        np.testing.assert_array_equal(out, wanted if diverged == ">= 0" else np.where(t % 2 == 1, wanted, 0))


def test_divergent_loops_and_early_exit() -> None:
    x = RNG.integers(0, 60, 300, dtype="i4")
    out = np.zeros(300, "i4")
    run("""extern "C" __global__ void k(const int* x, int* o, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i >= n) return; int s = 0; for (int j = 0; j < x[i]; ++j) { if (j % 7 == 3) continue; if (j > 40) break;
        s += j * (j & 1 ? 3 : 1); } o[i] = s; }""", 3, 128, [x, out, 300])
    wanted = [sum(j * (3 if j & 1 else 1) for j in range(min(n, 41)) if j % 7 != 3) for n in x]
    np.testing.assert_array_equal(out, wanted)


def test_switch() -> None:
    x = RNG.integers(-2, 12, 128, dtype="i4")
    out = np.zeros(128, "i4")
    cases = " ".join(f"case {i}: r = (r * {i + 3}) ^ (r >> {i}); break;" for i in range(10))
    source = f"""extern "C" __global__ void k(const int* x, int* o) {{ int r = x[threadIdx.x] + 100; switch (x[threadIdx.x]) {{
        {cases} default: r = -1; }} o[threadIdx.x] = r; }}"""
    run(source, 1, 128, [x, out])
    wanted = [((v + 100) * (v + 3)) ^ (v + 100 >> v) if 0 <= v < 10 else -1 for v in x]
    np.testing.assert_array_equal(out, wanted)


def test_function_calls_and_local_arrays() -> None:
    x = RNG.integers(0, 100, 64, dtype="i4")
    out = np.zeros(64, "i4")
    run("""struct P { int a; float b; long long c; };
        __device__ __noinline__ int mix(P p, int i) { return p.a * 3 + (int)p.b + (int)p.c + i; }
        __device__ __noinline__ void fill(int* v, int n, int s) { for (int i = 0; i < n; ++i) v[i] = s + i * i; }
        extern "C" __global__ void k(const int* x, int* o) { int t = threadIdx.x; int v[16]; fill(v, 16, x[t]);
        P p{v[x[t] % 16], 2.5f, -t}; o[t] = mix(p, v[t % 16]); }""", 1, 64, [x, out])
    t = np.arange(64)
    np.testing.assert_array_equal(out, 3 * (x + (x % 16) ** 2) + 2 - t + x + (t % 16) ** 2)


def test_constants_globals_and_struct_parameters() -> None:
    out = np.zeros(8, "f4")
    import struct

    run("""__constant__ float table[8] = {1, 2, 4, 8, 16, 32, 64, 128}; __device__ int counter = 5;
        struct S { float scale; int pad; double bias; };
        extern "C" __global__ void k(float* o, const __grid_constant__ S s) { int t = threadIdx.x;
        o[t] = table[t ^ 1] * s.scale + (float)s.bias + counter; }""", 1, 8, [out, struct.pack("<fid", 0.5, 0, 3.0)])
    np.testing.assert_array_equal(out, 2.0 ** (np.arange(8) ^ 1) * 0.5 + 8)


def test_dynamic_shared_memory_and_generic_pointers() -> None:
    x = RNG.standard_normal(128).astype("f4")
    out = np.zeros(128, "f4")
    run("""__device__ __noinline__ float get(const float* p, int i) { return p[i]; }
        extern "C" __global__ void k(const float* x, float* o) { extern __shared__ float s[]; int t = threadIdx.x;
        s[t] = x[t]; __syncthreads(); const float* p = t & 1 ? x : s; o[t] = get(p, 127 - t); }""", 1, 128, [x, out],
        shared_bytes=512)
    np.testing.assert_array_equal(out, x[::-1])


def test_printf() -> None:
    report = run("""extern "C" __global__ void k(int n) { if (threadIdx.x < 2) printf("t%d %s %5.2f %llx %c%%\\n", threadIdx.x, "ab",
        n * 0.5, 1ull << 40, 'z'); }""", 1, 32, [3])
    assert report.printed == ["t0 ab  1.50 10000000000 z%\n", "t1 ab  1.50 10000000000 z%\n"]


def test_named_barriers_between_producer_and_consumer_warps() -> None:
    out = np.zeros(32, "i4")
    run("""extern "C" __global__ void k(int* o) { __shared__ int s[32]; int t = threadIdx.x % 32;
        if (threadIdx.x < 32) { for (int i = 0; i < 4; ++i) { asm volatile("bar.sync 2, 64;" ::: "memory"); s[t] = t * 10 + i;
        asm volatile("bar.arrive 1, 64;" ::: "memory"); } }
        else { int sum = 0; for (int i = 0; i < 4; ++i) { asm volatile("bar.arrive 2, 64;" ::: "memory");
        asm volatile("bar.sync 1, 64;" ::: "memory"); sum += s[31 - t]; } o[t] = sum; } }""", 1, 64, [out])
    np.testing.assert_array_equal(out, [4 * 10 * (31 - t) + 6 for t in range(32)])


def test_barrier_reductions() -> None:
    x = RNG.integers(0, 4, 96, dtype="i4")
    out = np.zeros((3, 96), "i4")
    run("""extern "C" __global__ void k(const int* x, int* o) { int t = threadIdx.x; o[t] = __syncthreads_count(x[t] > 1);
        o[96 + t] = __syncthreads_and(x[t] < 4); o[192 + t] = __syncthreads_or(x[t] == 7); }""", 1, 96, [x, out])
    assert (out[0] == (x > 1).sum()).all()
    assert (out[1] == 1).all()
    assert (out[2] == 0).all()


def test_early_exit_before_a_barrier() -> None:
    out = np.zeros(64, "i4")
    run("""extern "C" __global__ void k(int* o) { __shared__ int s[64]; int t = threadIdx.x; if (t >= 40) return; s[t] = t;
        __syncthreads(); o[t] = s[39 - t]; }""", 1, 64, [out])
    np.testing.assert_array_equal(out[:40], np.arange(40)[::-1])


PIPE = """
__device__ unsigned sa(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
"""


def test_cp_async_pipeline_with_zero_fill() -> None:
    x = RNG.standard_normal(1000).astype("f4")
    out = np.zeros(1024, "f4")
    run(PIPE + """extern "C" __global__ void k(const float* x, float* o, int n) { __shared__ __align__(16) float s[3][256];
        int t = threadIdx.x; auto load = [&](int i) { int left = n - (i * 256 + t * 4); int b = left >= 4 ? 16 : left > 0 ? left * 4 : 0;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(sa(&s[i % 3][t * 4])), "l"(x + (b ? i * 256 + t * 4 : 0)),
        "r"(b)); asm volatile("cp.async.commit_group;"); };
        load(0); load(1); for (int i = 0; i < 4; ++i) { if (i + 2 < 4) load(i + 2); else asm volatile("cp.async.commit_group;");
        asm volatile("cp.async.wait_group 2;" ::: "memory"); __syncthreads();
        for (int j = 0; j < 4; ++j) o[i * 256 + j * 64 + t] = s[i % 3][255 - (j * 64 + t)]; __syncthreads(); } }""",
        1, 64, [x, out, 1000])
    padded = np.concatenate([x, np.zeros(24, "f4")]).reshape(4, 256)
    np.testing.assert_array_equal(out.reshape(4, 256), padded[:, ::-1])


def test_mbarrier_with_arrivals_of_all_threads() -> None:
    out = np.zeros(128, "i4")
    run(PIPE + """extern "C" __global__ void k(int* o) { __shared__ int s[128]; __shared__ unsigned long long bar; int t = threadIdx.x;
        if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], 128;" :: "r"(sa(&bar))); __syncthreads(); int sum = 0;
        for (int i = 0; i < 3; ++i) { s[t] = t + i; unsigned long long st; asm volatile("mbarrier.arrive.shared.b64 %0, [%1];"
        : "=l"(st) : "r"(sa(&bar)) : "memory"); int done = 0; while (!done) asm volatile("{ .reg .pred p; "
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(sa(&bar)), "r"(i & 1) : "memory");
        sum += s[(t + 1) % 128]; __syncthreads(); } o[t] = sum; }""", 1, 128, [out], arch="sm_80")
    np.testing.assert_array_equal(out, [3 * ((t + 1) % 128) + 3 for t in range(128)])


def test_cluster_and_distributed_shared_memory() -> None:
    out = np.zeros(8 * 32, "i4")
    run(PIPE + """extern "C" __global__ void __cluster_dims__(4, 1, 1) k(int* o) { __shared__ int s[32]; int t = threadIdx.x;
        unsigned rank; asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank)); s[t] = blockIdx.x * 100 + t;
        asm volatile("barrier.cluster.arrive.aligned;\\nbarrier.cluster.wait.aligned;" ::: "memory");
        unsigned remote; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(sa(&s[t])), "r"((rank + 1) % 4));
        int v; asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(remote)); o[blockIdx.x * 32 + t] = v;
        asm volatile("barrier.cluster.arrive.aligned;\\nbarrier.cluster.wait.aligned;" ::: "memory"); }""", 8, 32, [out], arch="sm_90")
    b, t = np.divmod(np.arange(256), 32)
    np.testing.assert_array_equal(out, (b // 4 * 4 + (b + 1) % 4) * 100 + t)


def test_bulk_copy_and_its_mbarrier() -> None:
    x = RNG.integers(0, 1000, 256, dtype="i4")
    out = np.zeros(256, "i4")
    source = PIPE + """extern "C" __global__ void k(const int* x, int* o) { __shared__ __align__(128) int s[256];
        __shared__ unsigned long long bar; int t = threadIdx.x;
        if (t == 0) { asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(sa(&bar)));
        asm volatile("fence.mbarrier_init.release.cluster;"); } __syncthreads();
        if (t == 0) { asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 1024;" :: "r"(sa(&bar)) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 1024, [%2];"
        :: "r"(sa(s)), "l"(x), "r"(sa(&bar)) : "memory"); }
        asm volatile("{ .reg .pred p;\\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\\n@!p bra L; }" :: "r"(sa(&bar)) : "memory");
        for (int i = t; i < 256; i += 64) s[i] = s[i] * 2; asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads();
        if (t == 0) { asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;" :: "l"(o), "r"(sa(s)) : "memory");
        asm volatile("cp.async.bulk.commit_group;\\ncp.async.bulk.wait_group 0;" ::: "memory"); } }"""
    run(source, 1, 64, [x, out], arch="sm_90")
    np.testing.assert_array_equal(out, 2 * x)
    out[:] = 0
    run(source, 1, 64, [x, out], arch="sm_90", seed=3)
    np.testing.assert_array_equal(out, 2 * x)


def test_tensor_map_tiles_with_swizzle_and_bounds() -> None:
    x = np.arange(40 * 96, dtype="u2").reshape(40, 96)
    out = np.zeros((40, 96), "u2")
    raw = np.zeros((16, 64), "u2")
    source = PIPE + """struct alignas(64) Map { char b[128]; };
        extern "C" __global__ void k(const __grid_constant__ Map in, const __grid_constant__ Map to, unsigned short* raw) {
        __shared__ __align__(1024) unsigned short s[16 * 64]; __shared__ unsigned long long bar; int t = threadIdx.x;
        if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(sa(&bar))); __syncthreads();
        int cx = 64 * (int)blockIdx.x, cy = 16 * (int)blockIdx.y;
        if (t == 0) { asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 2048;" :: "r"(sa(&bar)) : "memory");
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
        :: "r"(sa(s)), "l"(&in), "r"(cx), "r"(cy), "r"(sa(&bar)) : "memory"); }
        asm volatile("{ .reg .pred p;\\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\\n@!p bra L; }" :: "r"(sa(&bar)) : "memory");
        if (blockIdx.x == 0 && blockIdx.y == 0) for (int i = t; i < 1024; i += 32) raw[i] = s[i];
        if (t == 0) { asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];"
        :: "l"(&to), "r"(cx), "r"(cy), "r"(sa(s)) : "memory");
        asm volatile("cp.async.bulk.commit_group;\\ncp.async.bulk.wait_group 0;" ::: "memory"); } }"""
    make = simulator.TensorMap
    run(source, (2, 3), 32, [make(x, (16, 64), swizzle=128), make(out, (16, 64), swizzle=128), raw], arch="sm_90")
    np.testing.assert_array_equal(out, x)
    chunks = raw.reshape(16, 8, 8)
    for row in range(16):
        for chunk in range(8):
            np.testing.assert_array_equal(chunks[row, chunk ^ row % 8], x[row, 8 * chunk:8 * chunk + 8])


def test_strided_views_and_overlapping_arguments() -> None:
    whole = np.arange(100, dtype="f4")
    view = whole[10:20]
    run("""extern "C" __global__ void k(float* a, float* b) { a[threadIdx.x] += 1; b[threadIdx.x * 2] = -1; }""", 1, 10,
        [view, simulator.Pointer(whole, 4 * 40)])
    wanted = np.arange(100, dtype="f4")
    wanted[10:20] += 1
    wanted[40:60:2] = -1
    np.testing.assert_array_equal(whole, wanted)


def test_bad_launches() -> None:
    source = 'extern "C" __global__ void __launch_bounds__(64) k(int* a, int n, float f) { a[n] = (int)f; }'
    a = np.zeros(4, "i4")
    ptx = to_ptx(source)
    for options, text in (((1, 64, [a, 1]), "2 arguments for 3"), ((1, 65, [a, 1, 1.0]), "at most 64"),
                          ((1, 2048, [a, 1, 1.0]), "at most 1024"), ((0, 1, [a, 1, 1.0]), "bad extents"),
                          ((1, 1, [a, 1 << 40, 1.0]), "does not fit"), ((1, 1, [a, a, 1.0]), "takes no array"),
                          ((1, 1, [a, 1, "x"]), "cannot take str")):
        with pytest.raises(UserError, match=text):
            simulator.launch(ptx, "k", *options)
    with pytest.raises(UserError, match="no entry"):
        simulator.launch(ptx, "other", 1, 1, [])
    simulator.launch(ptx, "k", 1, 1, {"0": a, "1": 2, "2": 9.5})
    assert a[2] == 9


def test_copies_that_arrive_at_an_mbarrier() -> None:
    x = RNG.integers(0, 1000, 64, dtype="i4")
    out = np.zeros(64, "i4")
    run(PIPE + """extern "C" __global__ void k(const int* x, int* o) { __shared__ int s[64]; __shared__ unsigned long long bar;
        int t = threadIdx.x; if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], 64;" :: "r"(sa(&bar))); __syncthreads();
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(sa(s + t)), "l"(x + t) : "memory");
        asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" :: "r"(sa(&bar)) : "memory");
        asm volatile("{ .reg .pred p;\\nL: mbarrier.test_wait.parity.shared.b64 p, [%0], 0;\\n@!p bra L; }" :: "r"(sa(&bar)) : "memory");
        o[t] = s[63 - t]; __syncthreads(); if (t == 0) asm volatile("mbarrier.inval.shared.b64 [%0];" :: "r"(sa(&bar))); }""", 1, 64,
        [x, out])
    np.testing.assert_array_equal(out, x[::-1])


def test_wait_all_and_copy_sizes() -> None:
    x = RNG.integers(0, 1000, 128, dtype="i4")
    out = np.zeros(128, "i4")
    run(PIPE + """extern "C" __global__ void k(const int* x, int* o) { __shared__ __align__(16) int s[128]; int t = threadIdx.x;
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" :: "r"(sa(s + 2 * t)), "l"(x + 2 * t) : "memory");
        asm volatile("cp.async.wait_all;" ::: "memory"); __syncthreads(); o[t] = s[t] + 1; o[64 + t] = s[64 + t] + 1; }""", 1, 64, [x, out])
    np.testing.assert_array_equal(out, x + 1)


def test_bulk_reductions_and_transactions() -> None:
    f, u = np.ones(64, "f4"), np.full(64, 100, "u4")
    run(PIPE + """extern "C" __global__ void k(float* f, unsigned* u) { __shared__ __align__(128) float s[64]; __shared__ __align__(128) unsigned v[64];
        __shared__ unsigned long long bar; int t = threadIdx.x; s[t] = t; v[t] = 3 * t; asm volatile("fence.proxy.async;" ::: "memory");
        if (t == 0) asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(sa(&bar))); __syncthreads(); if (t == 0) {
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], 256;" :: "l"(f), "r"(sa(s)) : "memory");
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.max.u32 [%0], [%1], 256;" :: "l"(u), "r"(sa(v)) : "memory");
        asm volatile("cp.async.bulk.commit_group;\\ncp.async.bulk.wait_group.read 0;" ::: "memory");
        asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], 64;" :: "r"(sa(&bar)) : "memory");
        asm volatile("mbarrier.arrive.shared.b64 _, [%0];" :: "r"(sa(&bar)) : "memory");
        asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 64;" :: "r"(sa(&bar)) : "memory");
        asm volatile("{ .reg .pred p;\\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\\n@!p bra L; }" :: "r"(sa(&bar)) : "memory"); } }""",
        1, 64, [f, u], arch="sm_90")
    np.testing.assert_array_equal(f, 1 + np.arange(64))
    np.testing.assert_array_equal(u, np.maximum(100, 3 * np.arange(64)))


def test_copy_between_blocks_and_multicast() -> None:
    x = RNG.integers(0, 1000, 64, dtype="i4")
    out = np.zeros((2, 128), "i4")
    run(PIPE + """extern "C" __global__ void __cluster_dims__(2, 1, 1) k(const int* x, int* o) { __shared__ __align__(128) int s[64], r[64];
        __shared__ unsigned long long bar, two; int t = threadIdx.x; unsigned rank = blockIdx.x;
        if (t == 0) { asm volatile("mbarrier.init.shared.b64 [%0], 1;\\nmbarrier.init.shared.b64 [%1], 1;" :: "r"(sa(&bar)), "r"(sa(&two)));
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 256;\\nmbarrier.arrive.expect_tx.shared.b64 _, [%1], 256;" :: "r"(sa(&bar)), "r"(sa(&two))); }
        asm volatile("fence.mbarrier_init.release.cluster;\\nbarrier.cluster.arrive.aligned;\\nbarrier.cluster.wait.aligned;" ::: "memory");
        if (t == 0 && rank == 0) asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], 256, [%2], %3;"
        :: "r"(sa(s)), "l"(x), "r"(sa(&bar)), "h"((short)3) : "memory");
        asm volatile("{ .reg .pred p;\\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\\n@!p bra L; }" :: "r"(sa(&bar)) : "memory");
        o[rank * 128 + t] = s[t]; s[t] += rank + 1; asm volatile("fence.proxy.async;" ::: "memory"); __syncthreads();
        if (t == 0) { unsigned there, mb; asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(sa(r)), "r"(rank ^ 1));
        asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mb) : "r"(sa(&two)), "r"(rank ^ 1));
        asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], 256, [%2];" :: "r"(there), "r"(sa(s)), "r"(mb) : "memory"); }
        asm volatile("{ .reg .pred p;\\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\\n@!p bra L; }" :: "r"(sa(&two)) : "memory");
        o[rank * 128 + 64 + t] = r[t]; asm volatile("barrier.cluster.arrive.aligned;\\nbarrier.cluster.wait.aligned;" ::: "memory"); }""",
        2, 64, [x, out], arch="sm_90")
    np.testing.assert_array_equal(out, [np.concatenate([x, x + 2]), np.concatenate([x, x + 1])])


def test_assertion_failure_names_its_place() -> None:
    with pytest.raises(CheckError, match=r"x > 3` failed at file\.cu:7"):
        run("""extern "C" __device__ void __assertfail(const char*, const char*, unsigned, const char*, size_t);
            extern "C" __global__ void k(int x) { if (x <= 3) __assertfail("x > 3", "file.cu", 7, "k", 1); }""", 1, 32, [2])


def test_hints_for_the_scheduler() -> None:
    out = np.zeros(128, "i4")
    run("""extern "C" __global__ void __launch_bounds__(128) k(int* o) { asm volatile("setmaxnreg.inc.sync.aligned.u32 64;");
        asm volatile("griddepcontrol.wait;" ::: "memory"); o[threadIdx.x] = threadIdx.x; asm volatile("griddepcontrol.launch_dependents;"); }""",
        1, 128, [out], arch="sm_90a")
    np.testing.assert_array_equal(out, np.arange(128))


def test_report_says_when_the_global_race_check_is_off() -> None:
    source = 'extern "C" __global__ void k(int* o) { o[0] = 1; }'
    small = simulator.Checks(global_limit=1024)
    report = run(source, 2, 1, [np.zeros(4096, "i4")], checks=small, collect=True)
    assert not report.faults
    assert "global_race was off" in report.notes[0]
    assert "note: global_race was off" in report.text()
    assert run(source, 1, 1, [np.zeros(4096, "i4")]).notes == []
    with pytest.raises(CheckError):
        run('extern "C" __global__ void k(int* o) { o[0] += 1; }', 2, 1, [np.zeros(4096, "i4")], checks=simulator.Checks(global_limit=1 << 20))


def test_struct_that_holds_a_pointer() -> None:
    source = """struct P { float scale; int start; float* out; const int* in; };
        extern "C" __global__ void k(P p, int n) { int t = threadIdx.x; if (t < n) p.out[t] = p.scale * p.in[t + p.start]; }"""
    numbers, out = np.arange(64, dtype="i4"), np.zeros(40, "f4")
    head = np.array((1.5, 3, 0, 0), np.dtype([("scale", "f4"), ("start", "i4"), ("out", "u8"), ("in", "u8")]))
    given = simulator.Struct(head[()], {8: out, 16: simulator.Pointer(numbers, 4)})
    run(source, 1, 64, [given, 40])
    np.testing.assert_array_equal(out, 1.5 * (np.arange(40) + 4))
    with pytest.raises(UserError, match="no pointer can be at byte 20"):
        run(source, 1, 64, [simulator.Struct(head[()], {20: out}), 40])


def test_variables_of_the_module_are_set_and_changed() -> None:
    source = """__constant__ float weight[4]; __device__ int counter; __device__ float table[2][3];
        extern "C" __global__ void k(float* x) { int t = threadIdx.x; x[t] = weight[t % 4] + table[t % 2][t % 3]; atomicAdd(&counter, 1); }"""
    x, counter = np.zeros(32, "f4"), np.array([100], "i4")
    weight, table = np.array([1, 2, 3, 4], "f4"), np.arange(6, dtype="f4").reshape(2, 3)
    run(source, 1, 32, [x], variables={"weight": weight, "counter": counter, "table": table})
    t = np.arange(32)
    np.testing.assert_array_equal(x, weight[t % 4] + table[t % 2, t % 3])
    assert counter[0] == 132


def test_relaxed_store_to_fresh_shared_memory() -> None:
    """It reads nothing, though it takes part in races as an atomic does."""
    out = np.zeros(64, "i4")
    run("""extern "C" __global__ void k(int* o) { __shared__ int s[64]; int t = threadIdx.x; unsigned p = (unsigned)__cvta_generic_to_shared(s + t);
        asm volatile("st.relaxed.cta.shared.u32 [%0], %1;" :: "r"(p), "r"(t) : "memory"); __syncthreads(); o[t] = s[63 - t]; }""", 1, 64, [out])
    np.testing.assert_array_equal(out, 63 - np.arange(64))


def test_workspace_of_a_cooperative_launch() -> None:
    """The grid's barrier as cooperative groups has it: the first block counts the others in, a flipped top bit lets all go on."""
    source = """extern "C" __global__ void k(int* x, int n) { unsigned high, low; asm("mov.u32 %0, %%envreg1;" : "=r"(high)); asm("mov.u32 %0, %%envreg2;" : "=r"(low));
        unsigned* word = (unsigned*)((unsigned long long)high << 32 | low) + 1; int i = blockIdx.x * blockDim.x + threadIdx.x; x[i] = i;
        for (int round = 0; round < 2; round++) { __syncthreads(); if (threadIdx.x == 0) { unsigned add = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1;
          __threadfence(); unsigned old = atomicAdd(word, add); while ((((old ^ *(volatile unsigned*)word) & 0x80000000u) == 0)) {} __threadfence(); } __syncthreads();
          int v = x[(i + 100) % n]; if (round == 1) { x[n + i] = v; } } }"""
    x = np.zeros(512, "i4")
    run(source, 4, 64, [x, 256])
    np.testing.assert_array_equal(x[256:], (np.arange(256) + 100) % 256)
