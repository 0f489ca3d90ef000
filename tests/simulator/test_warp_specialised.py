"""A warp-specialised matmul: tensor copies, mbarriers in a ring, wgmma; and what happens when its waits are broken."""

# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator

SOURCE = r"""
__device__ unsigned sa(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
struct alignas(64) Map { char b[128]; };
__device__ void wait(unsigned bar, int par){ asm volatile("{ .reg .pred p;\nL: mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n@p bra D; bra L; D: }"::"r"(bar),"r"(par):"memory"); }
__device__ unsigned long long desc(unsigned a) { return (unsigned long long)((a & 0x3ffff) >> 4) | 1ull << 16 | (1024ull >> 4) << 32 | 1ull << 62; }
extern "C" __global__ void __launch_bounds__(256) k(const __grid_constant__ Map A, const __grid_constant__ Map B, float* C, int N, int K){
 extern __shared__ __align__(1024) char sm[]; __shared__ unsigned long long full[3], empty[3];
 int t=threadIdx.x, wg=t/128;
 if(t==0){ for(int i=0;i<3;i++){ asm volatile("mbarrier.init.shared.b64 [%0], 1;"::"r"(sa(&full[i]))); asm volatile("mbarrier.init.shared.b64 [%0], 128;"::"r"(sa(&empty[i]))); } asm volatile("fence.mbarrier_init.release.cluster;"); }
 __syncthreads();
 int T=K/64; unsigned base=sa(sm);
 if(wg==0){ asm volatile("setmaxnreg.dec.sync.aligned.u32 40;"); if(t==0){ for(int i=0;i<T;i++){ int s=i%3, ph=(i/3)&1; wait(sa(&empty[s]), ph^1);
   asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 16384;"::"r"(sa(&full[s])):"memory");
   asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"::"r"(base+s*16384),"l"(&A),"r"(i*64),"r"((int)blockIdx.y*64),"r"(sa(&full[s])):"memory");
   asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"::"r"(base+s*16384+8192),"l"(&B),"r"(i*64),"r"((int)blockIdx.x*64),"r"(sa(&full[s])):"memory"); } } }
 else { asm volatile("setmaxnreg.inc.sync.aligned.u32 232;"); float d[32]; for(int i=0;i<32;i++) d[i]=0;
  for(int i=0;i<T;i++){ int s=i%3, ph=(i/3)&1; wait(sa(&full[s]), ph); asm volatile("wgmma.fence.sync.aligned;":::"memory");
   for(int kk=0;kk<4;kk++) asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, 1, 1, 1, 0, 0;":OUT:"l"(desc(base+s*16384+kk*32)),"l"(desc(base+s*16384+8192+kk*32)));
   asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;":::"memory");
   asm volatile("mbarrier.arrive.shared.b64 _, [%0];"::"r"(sa(&empty[s])):"memory"); }
  t-=128; for(int i=0;i<32;i++){ int r=t/32*16+t%32/4+(i/2%2)*8, c=i/4*8+t%4*2+i%2; C[(size_t)(blockIdx.y*64+r)*N+blockIdx.x*64+c]=d[i]; } } }
""".replace("OUT", ", ".join(f'"+f"(d[{i}])' for i in range(32)))
N, K = 128, 512


def launch(source: str, seed: int | None = None) -> tuple[np.ndarray, np.ndarray, simulator.Report]:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((N, K)).astype("f2"), random.standard_normal((N, K)).astype("f2")
    c = np.zeros((N, N), "f4")
    maps = [simulator.TensorMap(x, (64, 64), swizzle=128) for x in (a, b)]
    report = simulator.launch(to_ptx(source, "sm_90a"), "k", (N // 64, N // 64), 256, [*maps, c, N, K], shared_bytes=3 * 16384,
                              collect=True, seed=seed)
    return c, a.astype("f4") @ b.astype("f4").T, report


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_matmul(seed: int | None) -> None:
    c, wanted, report = launch(SOURCE, seed)
    assert not report.faults
    np.testing.assert_allclose(c, wanted, rtol=1e-3, atol=1e-3)
    assert report.matrix_operations == 2 * N * N * K


BROKEN = [
    ("producer_does_not_wait", "wait(sa(&empty[s]), ph^1);", "", {"async", "race"}),
    ("producer_waits_one_phase_late", "ph^1", "ph", {"deadlock"}),
    ("consumer_does_not_wait", "wait(sa(&full[s]), ph);", "", {"async", "uninitialised"}),
    ("consumer_frees_the_stage_early", "wait(sa(&full[s]), ph);",
     'wait(sa(&full[s]), ph); asm volatile("mbarrier.arrive.shared.b64 _, [%0];"::"r"(sa(&empty[(s + 1) % 3])):"memory");', {"async", "race", "barrier", "deadlock"}),
    ("too_few_bytes_expected", "16384;", "8192;", {"async", "barrier", "race"}),
    ("too_many_bytes_expected", "16384;", "16400;", {"deadlock"}),
    ("empty_barrier_of_one_warp_more", "[%0], 128;", "[%0], 160;", {"deadlock"}),
    ("no_wait_for_wgmma", "wgmma.wait_group.sync.aligned 0;", "", {"async"}),
]


@pytest.mark.parametrize(("name", "old", "new", "checks"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_pipelines_are_found(name: str, old: str, new: str, checks: set[str]) -> None:
    assert old in SOURCE
    _, _, report = launch(SOURCE.replace(old, new))
    assert {fault.check for fault in report.faults} & checks, report.faults


def test_wrong_swizzle_gives_wrong_results() -> None:
    c, wanted, _ = launch(SOURCE.replace("1ull << 62", "2ull << 62"))
    assert np.abs(c - wanted).max() > 1
