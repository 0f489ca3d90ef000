"""Order in shared memory and at barriers: locks, flags and tickets as the memory model has them, and both sides of races."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx, to_ptx_with_lines
from tilus import simulator

HEAD = """
#define ASM(...) asm volatile(__VA_ARGS__)
__device__ __forceinline__ unsigned sa(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
#define ST(sem, p, v) ASM("st." sem ".shared.u32 [%0], %1;" :: "r"(sa(p)), "r"(v) : "memory")
#define LD(sem, p) [&]{ int v; ASM("ld." sem ".shared.u32 %0, [%1];" : "=r"(v) : "r"(sa(p)) : "memory"); return v; }()
#define ADD(sem, p, x) [&]{ int v; ASM("atom." sem ".shared.add.u32 %0, [%1], %2;" : "=r"(v) : "r"(sa(p)), "r"(x) : "memory"); return v; }()
#define CAS(sem, p) [&]{ int v; ASM("atom." sem ".shared.cas.b32 %0, [%1], 0, 1;" : "=r"(v) : "r"(sa(p)) : "memory"); return v; }()
#define FENCE(sem) ASM("fence." sem ";" ::: "memory")
#define UNTIL(x) while (!(x)) {}
#define W(n) if (t == 32 * n)
extern "C" __global__ void k(int* out, int* flag) {
  __shared__ int x[64], f, g; int t = threadIdx.x; if (t < 64) x[t] = 0; if (t == 0) f = g = 0; __syncthreads();
"""
DONE = "\n__syncthreads(); out[blockIdx.x * blockDim.x + t] = x[t % 64] + f + g; }"

# name, whether there is a race, threads, body
PROGRAMS = [
    ("release_acquire", False, 64, 'W(0) { x[5] = 1; ST("release.cta", &f, 1); } W(1) { UNTIL(LD("acquire.cta", &f)) x[5] += 1; }'),
    ("relaxed", True, 64, 'W(0) { x[5] = 1; ST("relaxed.cta", &f, 1); } W(1) { UNTIL(LD("relaxed.cta", &f)) x[5] += 1; }'),
    ("release_relaxed", True, 64, 'W(0) { x[5] = 1; ST("release.cta", &f, 1); } W(1) { UNTIL(LD("relaxed.cta", &f)) x[5] += 1; }'),
    ("fences", False, 64, 'W(0) { x[5] = 1; __threadfence_block(); ST("relaxed.cta", &f, 1); } W(1) { UNTIL(LD("relaxed.cta", &f)) __threadfence_block(); x[5] += 1; }'),
    ("volatile_alone", True, 64, 'W(0) { x[5] = 1; *(volatile int*)&f = 1; } W(1) { UNTIL(*(volatile int*)&f) x[5] += 1; }'),
    ("volatile_with_fences", False, 64, 'W(0) { x[5] = 1; __threadfence_block(); *(volatile int*)&f = 1; } W(1) { UNTIL(*(volatile int*)&f) __threadfence_block(); x[5] += 1; }'),
    ("volatile_observed", False, 128, 'if (t == 40) *(volatile int*)&f = 1; if (*(volatile int*)&f > 5) x[0] = 3;'),
    ("spin_lock", False, 128, 'if (t % 32 == 0) { UNTIL(CAS("acquire.cta", &f) == 0) x[0] += 1; ST("release.cta", &f, 0); }'),
    ("spin_lock_without_release", True, 128, 'if (t % 32 == 0) { UNTIL(CAS("acquire.cta", &f) == 0) x[0] += 1; ST("relaxed.cta", &f, 0); }'),
    ("lock_by_builtins", False, 128, "if (t % 32 == 0) { while (atomicCAS(&f, 0, 1)) {} __threadfence_block(); x[0] += 1; __threadfence_block(); atomicExch(&f, 0); }"),
    ("ticket", False, 128, "if (t % 32 == 0) { x[t / 32] = t; __threadfence_block(); if (atomicAdd(&f, 1) == 3) { __threadfence_block(); x[60] = x[0] + x[1] + x[2] + x[3]; } }"),
    ("ticket_without_fence", True, 128, "if (t % 32 == 0) { x[t / 32] = t; if (atomicAdd(&f, 1) == 3) x[60] = x[0] + x[1] + x[2] + x[3]; }"),
    ("cumulativity", False, 96, 'W(0) { x[5] = 1; ST("release.cta", &f, 1); } W(1) { UNTIL(LD("acquire.cta", &f)) ST("release.cta", &g, 1); } W(2) { UNTIL(LD("acquire.cta", &g)) x[5] += 1; }'),
    ("cumulativity_needs_the_acquire", True, 96, 'W(0) { x[5] = 1; ST("release.cta", &f, 1); } W(1) { UNTIL(LD("relaxed.cta", &f)) ST("release.cta", &g, 1); } W(2) { UNTIL(LD("acquire.cta", &g)) x[5] += 1; }'),
    ("through_a_barrier", False, 96, 'W(0) { x[5] = 1; ST("release.cta", &f, 1); } if (t >= 32) { if (t == 32) UNTIL(LD("acquire.cta", &f)) ASM("bar.sync 1, 64;" ::: "memory"); if (t == 70) x[5] += 1; }'),
    ("release_sequence", False, 96, 'W(0) { x[5] = 1; ADD("release.cta", &f, 1); } W(1) { UNTIL(LD("relaxed.cta", &f)) ADD("relaxed.cta", &f, 1); } W(2) { UNTIL(LD("acquire.cta", &f) == 2) x[5] += 1; }'),
    ("a_flag_in_global_memory", False, 64, 'W(0) { x[5] = 1; __threadfence(); atomicExch(flag, 1); } W(1) { while (!atomicAdd(flag, 0)) {} __threadfence(); x[5] += 1; }'),
    ("a_flag_in_shared_memory_for_global_data", False, 64, 'W(0) { flag[1] = 1; ST("release.cta", &f, 1); } W(1) { UNTIL(LD("acquire.cta", &f)) flag[1] += 1; }'),
    ("plain_load_of_a_counter", True, 128, "if (t % 32 == 0) atomicAdd(&f, 1); if (t == 99) x[3] = f;"),
    ("strong_store_over_a_plain_read", True, 64, 'W(0) { x[7] = f; } W(1) { ST("relaxed.cta", &f, 3); }'),
    ("relaxed_stores_of_different_values", False, 64, 'ST("relaxed.cta", &f, t);'),
    ("one_value_by_all", False, 64, "f = 7;"), ("one_value_in_turn", False, 96, "if (t >= 64) f = 7; else if (t >= 32) f = 7; else f = 7;"),
    ("two_values", True, 96, "if (t >= 64) f = 7; else if (t >= 32) f = 7; else f = 8;"),
]


@pytest.mark.parametrize(("name", "racy", "threads", "body"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_order_in_shared_memory(name: str, racy: bool, threads: int, body: str) -> None:
    arch = "sm_70" if "volatile" in name else "sm_80"
    ptx = to_ptx(HEAD + body + DONE, "sm_80" if arch == "sm_70" else arch)
    report = simulator.launch(ptx, "k", 1, threads, [np.zeros(threads, "i4"), np.zeros(4, "i4")], collect=True)
    assert {fault.check for fault in report.faults} == ({"race"} if racy else set()), report.fault_lines()


@pytest.mark.parametrize("blocks", [4, 16, 17, 64])
def test_one_value_has_one_verdict_whatever_the_grid(blocks: int) -> None:
    ptx = to_ptx("""extern "C" __global__ void k(const float* x, int* flag, int n, int value) { for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
        i += gridDim.x * blockDim.x) if (x[i] < 0) *flag = value + (value > 1 ? i / 4352 : 0); }""")
    for n in (blocks * 256, blocks * 256 * 3):
        for value, racy in ((1, False), (2, n > 4352)):
            flag = np.zeros(1, "i4")
            report = simulator.launch(ptx, "k", blocks, 256, [-np.ones(n, "f4"), flag, n, value], collect=True)
            assert flag[0] >= value
            assert {fault.check for fault in report.faults} == ({"global-race"} if racy else set()), report.fault_lines()


def test_a_race_tells_both_sides() -> None:
    source = """extern "C" __global__ void k(float* out) { __shared__ float pad[4], tile[64]; int t = threadIdx.x; if (t < 4) pad[t] = 1;
tile[t] = t;
out[t] = tile[63 - t] + pad[t % 4]; }"""
    report = simulator.launch(to_ptx_with_lines(source), "k", 1, 64, [np.zeros(64, "f4")], collect=True)
    fault = next(f for f in report.faults if "tile" in f.message)
    assert fault.source is not None
    assert fault.other is not None
    assert fault.other.op is not None
    assert (fault.source.line, fault.other.op.source[0].line) == (3, 2)
    assert fault.thread == (0, 0, 0)
    assert fault.other.thread == 63
    assert re.search(r"thread 63 of the block writes at line \d+ \(.*:2\) .*byte 252 of tile", fault.message)


def test_a_race_in_global_memory_tells_both_sides() -> None:
    source = """extern "C" __global__ void k(float* x, float* y) { int i = blockIdx.x * 32 + threadIdx.x; float v = x[i] + x[(i + 32) % 128]; __syncthreads();
if (i == 70)
x[3] = v; else y[i] = v; }"""
    report = simulator.launch(to_ptx_with_lines(source), "k", 4, 32, [np.zeros(128, "f4"), np.zeros(128, "f4")], collect=True)
    (fault,) = report.faults
    assert re.search(r"a thread writes what thread 3 of block \((0|3), 0, 0\) reads at line \d+ \(.*:1\) .*byte 12 of argument k_param_0", fault.message)
    assert (fault.block, fault.thread) == ((2, 0, 0), (6, 0, 0))


def test_a_reader_that_was_followed_by_another_is_named() -> None:
    """Reads of warps 0 and 1, the second of which is ordered before the store."""
    source = """extern "C" __global__ void k(int* out) { __shared__ int s; int t = threadIdx.x; if (t == 0) s = 1; __syncthreads();
if (t == 5) out[0] = s;
if (t >= 32) { if (t == 40) out[1] = s; asm volatile("bar.sync 1, 64;" ::: "memory"); if (t == 70) s = 2; } }"""
    report = simulator.launch(to_ptx_with_lines(source), "k", 1, 96, [np.zeros(96, "i4")], collect=True)
    (fault,) = report.faults
    assert "thread 5 of the block reads" in fault.message


def test_no_race_beside_a_store_out_of_bounds() -> None:
    ptx = to_ptx("""extern "C" __global__ void k(float* x, int n) { __shared__ float s[64]; int t = threadIdx.x; x[t * n] = t; s[t * n] = t; }""")
    report = simulator.launch(ptx, "k", 2, 64, [np.zeros(64, "f4"), 100], collect=True)
    assert {fault.check for fault in report.faults} == {"bounds"}


BARRIERS = """extern "C" __global__ void k(int* out) { __shared__ int s[256]; int t = threadIdx.x, w = t / 32; s[t] = t;
#define BAR(id, n) asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(n) : "memory")
#define ARRIVE(id, n) asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(n) : "memory")
"""
# name, what is wrong, body
SETS = [
    ("two_sets", {"race"}, "if (w < 2) BAR(1, 64); else { for (int i = 0; i < 9; i++) __nanosleep(1); BAR(1, 64); }"),
    ("two_sets_at_one_place", {"barrier"}, "BAR(1, 64);"),
    ("two_sets_of_their_own", set(), "BAR(1 + w / 2, 64);"),
    ("two_sets_one_after_the_other", set(), "if (w < 2) BAR(1, 64); __syncthreads(); if (w >= 2) BAR(1, 64);"),
    ("two_sets_ordered_by_another_barrier", set(), "if (w < 2) BAR(1, 64); if (w) BAR(2, 96); if (w >= 2) BAR(1, 64);"),
    ("sets_that_overlap", {"race"}, "if (w < 2) BAR(1, 64); if (w == 1 || w == 2) BAR(1, 64);"),
    ("producer_and_consumer", set(), "for (int i = 0; i < 3; i++) if (w < 2) { BAR(2, 128); ARRIVE(1, 128); } else { ARRIVE(2, 128); BAR(1, 128); }"),
    ("a_producer_that_never_waits", {"race"}, "for (int i = 0; i < 3; i++) if (w == 0) ARRIVE(1, 64); else if (w == 1) BAR(1, 64);"),
]


@pytest.mark.parametrize(("name", "wanted", "body"), SETS, ids=[s[0] for s in SETS])
def test_one_barrier_for_two_sets_of_warps(name: str, wanted: set[str], body: str) -> None:
    ptx = to_ptx(BARRIERS + body + " out[t] = s[t]; }")
    report = simulator.launch(ptx, "k", 2, 128, [np.zeros(128, "i4")], checks=["race", "sync"], collect=True)
    assert {fault.check for fault in report.faults} == wanted, report.fault_lines()


CLUSTER = """extern "C" __global__ void __cluster_dims__(2, 1, 1) k(const float* x, float* y) { __shared__ float s[64]; int t = threadIdx.x, B = blockIdx.x;
#define ASM(...) asm volatile(__VA_ARGS__)
#define SYNC ASM("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory")
#define RELAXED ASM("barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;" ::: "memory")
  unsigned p; asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(p) : "r"((unsigned)__cvta_generic_to_shared(s + t)), "r"(1 - B)); float v = 0;
#define FAR(ins) ASM("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(p) : "memory")
  s[t] = x[64 * B + t]; SYNC;
"""
EXITS = [
    ("read_and_no_barrier", True, "if (B) return; FAR(0);"), ("read_and_a_barrier", False, "FAR(0); SYNC;"),
    ("both_read_and_end", True, "FAR(0);"), ("read_and_a_relaxed_barrier", False, "FAR(0); RELAXED;"),
    ("write_and_no_barrier", True, 'if (!B) ASM("st.shared::cluster.f32 [%0], %1;" :: "r"(p), "f"(1.f) : "memory");'),
    ("read_before_a_later_barrier", False, "if (!B) FAR(0); __syncthreads(); SYNC;"),
]


@pytest.mark.parametrize(("name", "early", "body"), EXITS, ids=[e[0] for e in EXITS])
def test_a_block_that_ends_before_its_memory_is_used(name: str, early: bool, body: str) -> None:
    x, y = np.arange(128, dtype="f4"), np.zeros(128, "f4")
    report = simulator.launch(to_ptx(CLUSTER + body + " y[64 * B + t] = v; }", "sm_90"), "k", 2, 64, [x, y], collect=True)
    assert {fault.check for fault in report.faults} == ({"race"} if early else set()), report.fault_lines()
    assert not early or "nothing keeps that block from ending" in report.faults[0].message


@pytest.mark.parametrize(("fence", "arrive", "racy"), [(True, ".relaxed", False), (False, ".relaxed", True), (False, ".release", False)])
def test_initialisation_of_mbarriers_behind_a_relaxed_arrival(fence: bool, arrive: str, racy: bool) -> None:
    ptx = to_ptx(f"""extern "C" __global__ void __cluster_dims__(2, 1, 1) k(int* out) {{ __shared__ unsigned long long bar; unsigned b = __cvta_generic_to_shared(&bar);
        if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 64; {'fence.mbarrier_init.release.cluster;' if fence else ''}" :: "r"(b) : "memory");
        asm volatile("barrier.cluster.arrive{arrive}.aligned; barrier.cluster.wait.aligned; mbarrier.arrive.shared.b64 _, [%0];" :: "r"(b) : "memory");
        asm volatile("{{ .reg .pred p; W: mbarrier.try_wait.parity.shared.b64 p, [%0], 0; @!p bra W; }}" :: "r"(b) : "memory"); out[threadIdx.x] = 1; }}""", "sm_90")
    report = simulator.launch(ptx, "k", 2, 64, [np.zeros(64, "i4")], collect=True)
    assert {fault.check for fault in report.faults} == ({"race"} if racy else set()), report.fault_lines()
