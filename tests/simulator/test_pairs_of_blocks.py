"""Rings of stages across the blocks of a cluster: products of two blocks with tcgen05, multicast copies with wgmma, remote arrivals."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tests.simulator.test_tcgen05 import HEAD, instruction
from tests.simulator.test_warp_specialised import SOURCE as WGMMA
from tilus import simulator

PAIR = HEAD + """
struct alignas(64) Map { char b[128]; };
#define CLUSTER ASM("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory")
#define LOAD(dst, map, x, y, bar) ASM("cp.async.bulk.tensor.2d.cta_group::2.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" :: "r"(dst), "l"(&map), "r"(x), "r"(y), "r"(bar) : "memory")
// K-major rows of 128 bytes with the 128-byte swizzle.
__device__ u64 desc(u32 a) { return (u64)((a & 0x3ffff) >> 4) | 1ull << 16 | (1024ull >> 4) << 32 | 1ull << 46 | 2ull << 61; }
extern "C" __global__ void __cluster_dims__(2, 1, 1) k(const __grid_constant__ Map A, const __grid_constant__ Map B, float* C, u32 idesc, int steps) {
  extern __shared__ __align__(1024) char sm[]; __shared__ u64 full[2], empty[2], done; __shared__ u32 slot;
  int t = threadIdx.x, w = t / 32; u32 r; asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); u32 base = sa(sm); int pair = blockIdx.x / 2;
  if (!t) { for (int i = 0; i < 2; i++) { INIT(full + i, 1); INIT(empty + i, 1); } INIT(&done, 1); ASM("fence.mbarrier_init.release.cluster;" ::: "memory"); }
  if (!w) ASM("tcgen05.alloc.cta_group::2.sync.aligned.shared::cta.b32 [%0], 64;" :: "r"(sa(&slot)) : "memory");
  BEFORE; SYNC; ASM("barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;" ::: "memory"); AFTER; u32 tm = slot;
  if (w == 0 && t == 0) for (int i = 0; i < steps; i++) { int s = i % 2; u32 at = base + s * 20480; if (i >= 2) TRY(empty + s, (i / 2 - 1) & 1);
    if (r == 0) ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 40960;" :: "r"(sa(full + s)) : "memory");
    u32 bar = sa(full + s) & 0xFEFFFFFF; LOAD(at, A, i * 64, pair * 256 + r * 128, bar); LOAD(at + 16384, B, i * 64, r * 32, bar); }
  if (w == 1 && t == 32 && r == 0) { for (int i = 0; i < steps; i++) { int s = i % 2; u32 at = base + s * 20480; TRY(full + s, (i / 2) & 1); AFTER;
      for (int q = 0; q < 4; q++) ASM("{ .reg .pred p; setp.ne.u32 p, %4, 0; tcgen05.mma.cta_group::2.kind::f16 [%0], %1, %2, %3, p; }" :: "r"(tm), "l"(desc(at + 32 * q)), "l"(desc(at + 16384 + 32 * q)), "r"(idesc), "r"(i + q) : "memory");
      ASM("tcgen05.commit.cta_group::2.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 [%0], %1;" :: "r"(sa(empty + s)), "h"((short)3) : "memory"); }
    ASM("tcgen05.commit.cta_group::2.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 [%0], %1;" :: "r"(sa(&done)), "h"((short)3) : "memory"); }
  __syncwarp(); TRY(&done, 0); AFTER;
  for (int c = 0; c < 64; c++) { u32 v; LD1(v, tm + (w << 21) + c); WAITLD; ((u32*)C)[(pair * 256 + r * 128 + t) * 64 + c] = v; }
  BEFORE; CLUSTER; AFTER; if (!w) ASM("tcgen05.dealloc.cta_group::2.sync.aligned.b32 %0, 64;" :: "r"(tm)); }
"""


def pair(source: str, seed: int | None = None) -> tuple[np.ndarray, np.ndarray, simulator.Report]:
    random = np.random.default_rng(5)
    a, b = random.integers(-3, 4, (512, 320)).astype("f2"), random.integers(-3, 4, (64, 320)).astype("f2")
    c = np.zeros((512, 64), "f4")
    maps = [simulator.TensorMap(a, (128, 64), swizzle=128), simulator.TensorMap(b, (32, 64), swizzle=128)]
    report = simulator.launch(to_ptx(source, "sm_100a"), "k", 4, 128, [*maps, c, instruction("f16", "f16", "f32", 256, 64), 5], shared_bytes=2 * 20480 + 1024, collect=True, seed=seed)
    return c, a.astype("f4") @ b.astype("f4").T, report


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_products_of_two_blocks(seed: int | None) -> None:
    """The peer's copies signal the barrier of the even block, whose address is its own without the lowest bit of the rank."""
    c, wanted, report = pair(PAIR, seed)
    assert not report.faults, report.fault_lines()
    np.testing.assert_array_equal(c, wanted)


BROKEN: list[tuple[str, str, str, set[str]]] = [
    ("own_barrier_instead_of_the_leaders", "& 0xFEFFFFFF", "& 0xFFFFFFFF", {"deadlock", "async", "barrier"}),
    ("bytes_of_one_block_alone", "40960", "20480", {"barrier", "async", "deadlock", "uninitialised"}),
    ("stage_overwritten", "if (i >= 2) TRY(empty + s, (i / 2 - 1) & 1);", "", {"async", "race", "barrier"}),
    ("commit_to_the_leader_alone", '"r"(sa(&done)), "h"((short)3)', '"r"(sa(&done)), "h"((short)1)', {"deadlock"}),
    ("no_barrier_before_the_barriers_are_used", 'ASM("barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;" ::: "memory");', "", {"race"}),
]


@pytest.mark.parametrize(("name", "old", "new", "checks"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_rings_of_two_blocks(name: str, old: str, new: str, checks: set[str]) -> None:
    assert old in PAIR
    _, _, report = pair(PAIR.replace(old, new))
    assert {fault.check for fault in report.errors} & checks, report.fault_lines()


MULTICAST = HEAD + """
struct alignas(64) Map { char b[128]; };
#define CLUSTER(how) ASM("barrier.cluster.arrive" how ".aligned; barrier.cluster.wait.aligned;" ::: "memory")
extern "C" __global__ void __cluster_dims__(4, 1, 1) k(const __grid_constant__ Map A, int* out) {
  __shared__ __align__(128) int tile[256]; __shared__ u64 full; int t = threadIdx.x; u32 r; asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  if (!t) { INIT(&full, 1); ASM("fence.mbarrier_init.release.cluster;" ::: "memory"); } SYNC; CLUSTER(".relaxed");
  if (!t && r % 2 == LEAD) ASM("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 2048;" :: "r"(sa(&full)) : "memory");
  if (!t && r < 2) ASM("cp.async.bulk.tensor.2d.cta_group::2.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;"
    :: "r"(sa(tile)), "l"(&A), "r"(0), "r"(r * 8), "r"(sa(&full) & 0xFEFFFFFF | LEAD << 24), "h"((short)(5 << r)) : "memory");
  if (r % 2 == LEAD) TRY(&full, 0); CLUSTER(""); out[blockIdx.x * 256 + t] = tile[t]; }
"""


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("lead", [0, 1])
def test_multicast_copies_signal_one_block_of_each_pair(lead: int, seed: int | None) -> None:
    """Blocks 0 and 1 load for 2 and 3 as well; the even or the odd blocks are told of both copies to their pair."""
    x, out = np.arange(512, dtype="i4").reshape(16, 32), np.zeros((2, 4, 256), "i4")
    ptx = to_ptx(MULTICAST.replace("LEAD", str(lead)), "sm_100a")
    report = simulator.launch(ptx, "k", 8, 256, [simulator.TensorMap(x, (8, 32)), out], seed=seed)
    assert not report.faults
    np.testing.assert_array_equal(out, np.broadcast_to(x.reshape(2, 256)[[0, 1, 0, 1]], out.shape))


def test_multicast_copies_to_a_cluster() -> None:
    """Two blocks of a column share B: each loads half of it for both; consumers free a stage in both blocks."""
    source = WGMMA.replace('extern "C" __global__ void __launch_bounds__(256) k', 'extern "C" __global__ void __launch_bounds__(256) __cluster_dims__(1, 2, 1) k')
    source = source.replace('mbarrier.init.shared.b64 [%0], 128;', 'mbarrier.init.shared.b64 [%0], 256;')
    source = source.replace("__syncthreads();", 'asm volatile("barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;" ::: "memory"); unsigned rank; asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));', 1)
    half = ('asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;"::"r"(base+s*16384+8192+rank*4096),"l"(&B),"r"(i*64),"r"((int)blockIdx.x*64+(int)rank*32),"r"(sa(&full[s])),"h"((short)3):"memory"); } } }')
    source, changed = re.subn(r'asm volatile\("cp\.async\.bulk\.tensor\.2d[^"]*"::"r"\(base\+s\*16384\+8192\).*?\} \} \}', lambda m: half, source, flags=re.S)
    assert changed == 1
    arrive = 'asm volatile("mbarrier.arrive.shared.b64 _, [%0];"::"r"(sa(&empty[s])):"memory");'
    assert arrive in source
    source = source.replace(arrive, 'for (int p = 0; p < 2; p++) asm volatile("{ .reg .b32 far; mapa.shared::cluster.u32 far, %0, %1; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [far]; }"::"r"(sa(&empty[s])),"r"(p):"memory");')
    tail = 'asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory"); }'
    source = source.rstrip()[:-1] + tail
    random = np.random.default_rng(0)
    a, b = random.standard_normal((256, 512)).astype("f2"), random.standard_normal((128, 512)).astype("f2")
    for seed in (None, 3):
        c = np.zeros((256, 128), "f4")
        maps: list[Any] = [simulator.TensorMap(a, (64, 64), swizzle=128), simulator.TensorMap(b, (32, 64), swizzle=128)]
        report = simulator.launch(to_ptx(source, "sm_90a"), "k", (2, 4), 256, [*maps, c, 128, 512], shared_bytes=3 * 16384, collect=True, seed=seed)
        assert not report.faults, report.fault_lines()
        np.testing.assert_allclose(c, a.astype("f4") @ b.astype("f4").T, rtol=1e-3, atol=1e-3)
    report = simulator.launch(to_ptx(source.replace(tail, "}"), "sm_90a"), "k", (2, 4), 256, [*maps, c, 128, 512], shared_bytes=3 * 16384, collect=True)
    assert any("nothing keeps that block from ending" in fault.message or "has ended" in fault.message for fault in report.faults), report.fault_lines()
