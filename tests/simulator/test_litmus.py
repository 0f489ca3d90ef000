"""Litmus programs of the memory model: which orders make an exchange through global memory race-free."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator

HEAD = """
#define ASM(...) asm volatile(__VA_ARGS__)
__device__ void store(int* p, int v) { *p = v; }
#define ST(sem, p, v) ASM("st." sem ".global.u32 [%0], %1;" :: "l"(p), "r"(v) : "memory")
#define LD(sem, p) [&]{ int v; ASM("ld." sem ".global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory"); return v; }()
#define ADD(sem, p, x) [&]{ int v; ASM("atom." sem ".global.add.u32 %0, [%1], %2;" : "=r"(v) : "l"(p), "r"(x) : "memory"); return v; }()
#define FENCE(sem) ASM("fence." sem ";" ::: "memory")
#define UNTIL(x) while (!(x)) {}
#define T(n) else if (B == n && t == 0)
extern "C" __global__ void k(int* x, int* y, int* f, int* g, int* out) {
  int B = blockIdx.x, t = threadIdx.x; if (B < 0) {}
"""

# name, whether there is a race, blocks, body
PROGRAMS = [
    ("mp_release_acquire", False, 2, 'T(0) { *x = 1; ST("release.gpu", f, 1); } T(1) { UNTIL(LD("acquire.gpu", f)) *out = *x; }'),
    ("mp_relaxed", True, 2, 'T(0) { *x = 1; ST("relaxed.gpu", f, 1); } T(1) { UNTIL(LD("relaxed.gpu", f)) *out = *x; }'),
    ("mp_release_relaxed", True, 2, 'T(0) { *x = 1; ST("release.gpu", f, 1); } T(1) { UNTIL(LD("relaxed.gpu", f)) *out = *x; }'),
    ("mp_relaxed_acquire", True, 2, 'T(0) { *x = 1; ST("relaxed.gpu", f, 1); } T(1) { UNTIL(LD("acquire.gpu", f)) *out = *x; }'),
    ("mp_fences", False, 2, 'T(0) { *x = 1; FENCE("acq_rel.gpu"); ST("relaxed.gpu", f, 1); } T(1) { UNTIL(LD("relaxed.gpu", f)) '
     'FENCE("acq_rel.gpu"); *out = *x; }'),
    ("mp_fence_after_the_flag", True, 2, 'T(0) { *x = 1; ST("relaxed.gpu", f, 1); FENCE("acq_rel.gpu"); } T(1) { '
     'UNTIL(LD("relaxed.gpu", f)) FENCE("acq_rel.gpu"); *out = *x; }'),
    ("mp_volatile", True, 2, 'T(0) { *x = 1; *(volatile int*)f = 1; } T(1) { UNTIL(*(volatile int*)f) *out = *x; }'),
    ("mp_volatile_with_fences", False, 2, 'T(0) { *x = 1; __threadfence(); *(volatile int*)f = 1; } T(1) { UNTIL(*(volatile int*)f) '
     '__threadfence(); *out = *x; }'),
    ("scope_too_narrow", True, 2, 'T(0) { *x = 1; ST("release.cta", f, 1); } T(1) { UNTIL(LD("acquire.cta", f)) *out = *x; }'),
    ("release_scope_too_narrow", True, 2, 'T(0) { *x = 1; ST("release.cta", f, 1); } T(1) { UNTIL(LD("acquire.gpu", f)) *out = *x; }'),
    ("acquire_scope_too_narrow", True, 2, 'T(0) { *x = 1; ST("release.gpu", f, 1); } T(1) { UNTIL(LD("acquire.cta", f)) *out = *x; }'),
    ("fence_scope_too_narrow", True, 2, 'T(0) { *x = 1; __threadfence_block(); ST("relaxed.gpu", f, 1); } T(1) { '
     'UNTIL(LD("relaxed.gpu", f)) __threadfence_block(); *out = *x; }'),
    ("block_scope_within_a_block", False, 1, 'if (t == 0) { *x = 1; ST("release.cta", f, 1); } if (t == 40) { '
     'UNTIL(LD("acquire.cta", f)) *out = *x; }'),
    ("cumulativity", False, 3, 'T(0) { *x = 1; ST("release.gpu", f, 1); } T(1) { UNTIL(LD("acquire.gpu", f)) ST("release.gpu", g, 1); } '
     'T(2) { UNTIL(LD("acquire.gpu", g)) *out = *x; }'),
    ("cumulativity_needs_the_acquire", True, 3, 'T(0) { *x = 1; ST("release.gpu", f, 1); } T(1) { UNTIL(LD("relaxed.gpu", f)) '
     'ST("release.gpu", g, 1); } T(2) { UNTIL(LD("acquire.gpu", g)) *out = *x; }'),
    ("release_through_a_barrier", False, 2, 'if (B == 0) { x[t] = t; __syncthreads(); if (t == 0) ST("release.gpu", f, 1); } else { '
     'if (t == 0) UNTIL(LD("acquire.gpu", f)) __syncthreads(); out[t] = x[63 - t]; }'),
    ("release_without_the_barrier", True, 2, 'if (B == 0) { x[t] = t; if (t == 0) ST("release.gpu", f, 1); } else { '
     'if (t == 0) UNTIL(LD("acquire.gpu", f)) __syncthreads(); out[t] = x[63 - t]; }'),
    ("acquire_without_the_barrier", True, 2, 'if (B == 0) { x[t] = t; __syncthreads(); if (t == 0) ST("release.gpu", f, 1); } else { '
     'if (t == 0) { UNTIL(LD("acquire.gpu", f)) } else UNTIL(LD("relaxed.gpu", f)) out[t] = x[63 - t]; }'),
    ("release_sequence", False, 3, 'T(0) { *x = 1; ADD("release.gpu", f, 1); } T(1) { UNTIL(LD("relaxed.gpu", f)) ADD("relaxed.gpu", f, 1); } '
     'T(2) { UNTIL(LD("acquire.gpu", f) == 2) *out = *x; }'),
    ("store_ends_the_release_sequence", True, 3, 'T(0) { *x = 1; ADD("release.gpu", f, 1); } T(1) { UNTIL(LD("relaxed.gpu", f)) '
     'ST("relaxed.gpu", f, 2); } T(2) { UNTIL(LD("acquire.gpu", f) == 2) *out = *x; }'),
    ("semaphore", False, 4, 'if (t == 0) { UNTIL(ADD("acquire.gpu", f, 0) == B) *x += B; ADD("release.gpu", f, 1); }'),
    ("last_block_sums", False, 4, 'if (t == 0) { x[B] = B; __threadfence(); if (ADD("relaxed.gpu", f, 1) == 3) { __threadfence(); '
     '*out = x[0] + x[1] + x[2] + x[3]; } }'),
    ("last_block_sums_without_fence", True, 4, 'if (t == 0) { x[B] = B; if (ADD("relaxed.gpu", f, 1) == 3) { '
     '*out = x[0] + x[1] + x[2] + x[3]; } }'),
    ("dekker_plain", True, 2, 'T(0) { *x = 1; *out = *y; } T(1) { *y = 1; out[1] = *x; }'),
    ("dekker_relaxed", False, 2, 'T(0) { ST("relaxed.gpu", x, 1); out[0] = LD("relaxed.gpu", y); } T(1) { ST("relaxed.gpu", y, 1); '
     'out[1] = LD("relaxed.gpu", x); }'),
    ("syncwarp_orders_lanes", False, 1, 'if (t < 32) { x[t] = t; __syncwarp(); out[t] = x[31 - t]; }'),
    ("lanes_without_syncwarp", True, 1, 'if (t < 32) { x[t] = t; out[t] = x[31 - t]; }'),
]


@pytest.mark.parametrize(("name", "racy", "blocks", "body"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_litmus(name: str, racy: bool, blocks: int, body: str) -> None:
    ptx = to_ptx(HEAD + body + "\n}\n")
    arrays = [np.zeros(64, "i4") for _ in range(5)]
    report = simulator.launch(ptx, "k", blocks, 64, arrays, collect=True)
    found = {fault.check for fault in report.faults}
    assert found == ({"global-race"} if racy else set()), report.faults
