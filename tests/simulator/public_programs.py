"""CUDA C++ programs in the style of public code: CUB, libcu++, cooperative groups, clusters; each with what it computes.

They are compiled by nvcc, with the headers of the wheel nvidia-cuda-cccl.
"""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tilus.runtime.toolchains.locate import find

RNG = np.random.default_rng(11)
Made = tuple[list[Any], list[tuple[Any, Any]]]


@dataclass
class Program:
    """``make`` gives the arguments, and pairs of an array and its contents after the launch."""

    name: str
    source: str
    make: Callable[[], Made]
    grid: Any = 1
    block: Any = 128
    arch: str = "sm_80"
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0
    quick: bool = False


def available() -> bool:
    """Whether nvcc, a host compiler and the headers are there."""
    headers = find("headers-13")
    return bool(find("nvcc-13") and shutil.which("g++") and headers and (Path(headers) / "cccl").is_dir())


@functools.lru_cache(maxsize=8)
def compiled(least: str, quick: bool, arch: str) -> str:
    """PTX of all programs that need ``least``, by nvcc for ``arch``: one text, whose headers are read once."""
    heads: dict[str, None] = {}
    bodies = []
    for program in PROGRAMS:
        if (program.arch, program.quick) != (least, quick):
            continue
        lines = program.source.split("\n")
        heads.update(dict.fromkeys(line for line in lines if line.startswith("#include")))
        body = "\n".join(line for line in lines if not line.startswith("#include"))
        bodies.append(re.sub(r"(__global__ void (?:__cluster_dims__\([^)]*\) )?)k\(", rf"\1{program.name}(", body))
    text = [*heads, "namespace cg = cooperative_groups;" if any("groups" in h for h in heads) else "", *bodies, ""]
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "programs.cu", Path(folder) / "programs.ptx"
        source.write_text("\n".join(text), encoding="utf-8")
        command = [str(find("nvcc-13")), "-ptx", f"-arch={arch}", "-std=c++17", f"-I{find('headers-13')}/cccl", "-lineinfo",
                   "-o", str(result), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        return result.read_text(encoding="utf-8")


def ints(*shape: int, top: int = 1000) -> np.ndarray:
    return RNG.integers(0, top, shape).astype("i4")


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype("f4")


def simple(inputs: list[Any], out: np.ndarray, wanted: Any) -> Made:
    return [*inputs, out], [(out, wanted)]


K = 'extern "C" __global__ void '
PROGRAMS: list[Program] = []


def add(name: str, source: str, make: Callable[[], Made], **options: Any) -> None:
    known = {key: options.pop(key) for key in ("grid", "block", "arch", "tolerance", "quick") if key in options}
    PROGRAMS.append(Program(name, source, make, options=options, **known))


# -- CUB

def cub(name: str, include: str, body: str, make: Callable[[], Made], **options: Any) -> None:
    add("cub_" + name, "".join(f"#include <cub/{part}.cuh>\n" for part in include.split()) + K + body, make, **options)


def one(function: Callable[[np.ndarray], Any], make: Callable[[], np.ndarray], shape: tuple[int, ...] | None = None, dtype: str | None = None) -> Callable[[], Made]:
    """A program of one input and one output."""
    def made() -> Made:
        x = make()
        wanted = np.asarray(function(x))
        return simple([x], np.zeros(shape or wanted.shape, dtype or wanted.dtype), wanted)

    return made


for algorithm in ("BLOCK_REDUCE_WARP_REDUCTIONS", "BLOCK_REDUCE_RAKING", "BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY"):
    cub(f"block_reduce_{algorithm.lower()[13:]}", "block/block_reduce", f"k(const int* x, int* y) {{ using R = cub::BlockReduce<int, 128, cub::{algorithm}>; __shared__ typename R::TempStorage temp; int s = R(temp).Sum(x[blockIdx.x * 128 + threadIdx.x]); "
        "__syncthreads(); int m = R(temp).Reduce(x[blockIdx.x * 128 + threadIdx.x], [](int a, int b) { return a > b ? a : b; }); if (threadIdx.x == 0) { y[2 * blockIdx.x] = s; y[2 * blockIdx.x + 1] = m; } }",
        one(lambda x: np.stack([x.reshape(6, -1).sum(1), x.reshape(6, -1).max(1)], 1).astype("i4"), lambda: ints(768)), grid=6, quick=algorithm.endswith("REDUCTIONS"))
cub("block_reduce_in_part", "block/block_reduce", "k(const float* x, float* y, int n) { using R = cub::BlockReduce<float, 96>; __shared__ typename R::TempStorage temp; float s = R(temp).Sum(threadIdx.x < n ? x[threadIdx.x] : 0.f, n); if (threadIdx.x == 0) y[0] = s; }",
    lambda: ((lambda x, y: ([x, y, 77], [(y, x[:77].sum())]))(floats(96), np.zeros(1, "f4"))), block=96, tolerance=1e-4)
for algorithm in ("RAKING", "RAKING_MEMOIZE", "WARP_SCANS"):
    cub(f"block_scan_{algorithm.lower()}", "block/block_scan", f"k(const int* x, int* y) {{ using S = cub::BlockScan<int, 128, cub::BLOCK_SCAN_{algorithm}>; __shared__ typename S::TempStorage temp; int v[4]; for (int i = 0; i < 4; i++) v[i] = x[threadIdx.x * 4 + i]; "
        "int total; S(temp).ExclusiveSum(v, v, total); for (int i = 0; i < 4; i++) y[threadIdx.x * 4 + i] = v[i] + total; }", one(lambda x: (np.cumsum(x) - x + x.sum()).astype("i4"), lambda: ints(512)), quick=algorithm == "WARP_SCANS")
cub("block_scan_with_prefix", "block/block_scan", "k(const int* x, int* y, int n) { using S = cub::BlockScan<int, 128>; __shared__ typename S::TempStorage temp; struct P { int sum; __device__ int operator()(int total) { int old = sum; sum += total; return old; } } prefix{100}; "
    "for (int i = threadIdx.x; i < n; i += 128) { int v = x[i]; S(temp).InclusiveSum(v, v, prefix); __syncthreads(); y[i] = v; } }", lambda: ((lambda x, y: ([x, y, 640], [(y, 100 + np.cumsum(x))]))(ints(640), np.zeros(640, "i4"))))
for way in ("STRIPED_TO_BLOCKED", "WARP_TRANSPOSE", "VECTORIZE", "TRANSPOSE", "DIRECT"):
    cub(f"block_load_{way.lower()}" if way != "STRIPED_TO_BLOCKED" else "block_exchange", "block/block_load block/block_store block/block_exchange",
        (f"k(int* x, int* y) {{ using L = cub::BlockLoad<int, 128, 4, cub::BLOCK_LOAD_{way}>; using S = cub::BlockStore<int, 128, 4, cub::BLOCK_STORE_{way}>; __shared__ union {{ typename L::TempStorage l; typename S::TempStorage s; }} temp; int v[4]; L(temp.l).Load(x + blockIdx.x * 512, v); __syncthreads(); "
         "for (int i = 0; i < 4; i++) v[i] = v[i] * 4 + i; S(temp.s).Store(y + blockIdx.x * 512, v); }") if way != "STRIPED_TO_BLOCKED" else
        "k(int* x, int* y) { using E = cub::BlockExchange<int, 128, 4>; __shared__ typename E::TempStorage temp; int v[4]; for (int i = 0; i < 4; i++) v[i] = x[blockIdx.x * 512 + i * 128 + threadIdx.x]; E(temp).StripedToBlocked(v, v); for (int i = 0; i < 4; i++) y[blockIdx.x * 512 + threadIdx.x * 4 + i] = v[i] * 4 + i; }",
        one(lambda x: x * 4 + (np.arange(x.size) % 4).astype("i4"), lambda: ints(1024)), grid=2)
for descending in (False, True):
    cub(f"block_radix_sort_{'down' if descending else 'up'}", "block/block_radix_sort", f"k(const unsigned* x, unsigned* y) {{ using S = cub::BlockRadixSort<unsigned, 128, 4>; __shared__ typename S::TempStorage temp; unsigned v[4]; for (int i = 0; i < 4; i++) v[i] = x[threadIdx.x * 4 + i]; S(temp).Sort{'Descending' if descending else ''}(v); for (int i = 0; i < 4; i++) y[threadIdx.x * 4 + i] = v[i]; }}",
        one((lambda x: np.sort(x)[::-1].copy()) if descending else np.sort, lambda: RNG.integers(0, 1 << 32, 512, dtype="u4")), quick=not descending)
cub("block_radix_sort_of_pairs", "block/block_radix_sort", "k(const float* x, int* y) { using S = cub::BlockRadixSort<float, 64, 3, int>; __shared__ typename S::TempStorage temp; float v[3]; int w[3]; for (int i = 0; i < 3; i++) { w[i] = threadIdx.x * 3 + i; v[i] = x[w[i]]; } S(temp).SortBlockedToStriped(v, w); for (int i = 0; i < 3; i++) y[threadIdx.x + 64 * i] = w[i]; }",
    one(lambda x: np.argsort(x, kind="stable").astype("i4"), lambda: floats(192)), block=64)
cub("block_merge_sort", "block/block_merge_sort", "k(const int* x, int* y) { using S = cub::BlockMergeSort<int, 128, 5>; __shared__ typename S::TempStorage temp; int v[5]; for (int i = 0; i < 5; i++) v[i] = x[threadIdx.x * 5 + i]; S(temp).Sort(v, [](int a, int b) { return a > b; }); for (int i = 0; i < 5; i++) y[threadIdx.x * 5 + i] = v[i]; }",
    one(lambda x: np.sort(x)[::-1].copy(), lambda: ints(640)))
for way in ("SORT", "ATOMIC"):
    cub(f"block_histogram_{way.lower()}", "block/block_histogram", f"k(const unsigned char* x, int* y) {{ using H = cub::BlockHistogram<unsigned char, 128, 4, 32, cub::BLOCK_HISTO_{way}>; __shared__ typename H::TempStorage temp; __shared__ int bins[32]; unsigned char v[4]; for (int i = 0; i < 4; i++) v[i] = x[threadIdx.x * 4 + i]; H(temp).Histogram(v, bins); __syncthreads(); if (threadIdx.x < 32) y[threadIdx.x] = bins[threadIdx.x]; }}",
        one(lambda x: np.bincount(x, minlength=32).astype("i4"), lambda: RNG.integers(0, 32, 512).astype("u1")))
cub("block_adjacent_difference", "block/block_adjacent_difference", "k(const int* x, int* y) { using A = cub::BlockAdjacentDifference<int, 128>; __shared__ typename A::TempStorage temp; int v[2], w[2]; for (int i = 0; i < 2; i++) v[i] = x[threadIdx.x * 2 + i]; A(temp).SubtractLeft(v, w, [](int a, int b) { return a - b; }); for (int i = 0; i < 2; i++) y[threadIdx.x * 2 + i] = w[i]; }",
    one(lambda x: np.diff(x, prepend=0).astype("i4"), lambda: ints(256)))
cub("block_discontinuity", "block/block_discontinuity", "k(const int* x, int* y) { using D = cub::BlockDiscontinuity<int, 128>; __shared__ typename D::TempStorage temp; int v[2], f[2]; for (int i = 0; i < 2; i++) v[i] = x[threadIdx.x * 2 + i]; D(temp).FlagHeads(f, v, cuda::std::not_equal_to<int>()); for (int i = 0; i < 2; i++) y[threadIdx.x * 2 + i] = f[i]; }",
    one(lambda x: np.concatenate([[1], x[1:] != x[:-1]]).astype("i4"), lambda: ints(256, top=3)))
cub("block_run_length_decode", "block/block_run_length_decode", "k(const int* x, int* y) { using D = cub::BlockRunLengthDecode<int, 64, 1, 4>; __shared__ typename D::TempStorage temp; int v[1] = {(int)threadIdx.x}; unsigned n[1] = {(unsigned)x[threadIdx.x]}; unsigned total; D d(temp, v, n, total); for (unsigned at = 0; at < total; at += 256) { int w[4]; d.RunLengthDecode(w, at); for (int i = 0; i < 4; i++) if (at + threadIdx.x * 4 + i < total) y[at + threadIdx.x * 4 + i] = w[i]; } }",
    one(lambda x: np.repeat(np.arange(64), x).astype("i4"), lambda: ints(64, top=9) + 1), block=64)
cub("warp_reduce_and_scan", "warp/warp_reduce warp/warp_scan", "k(const int* x, int* y) { using R = cub::WarpReduce<int>; using S = cub::WarpScan<int>; __shared__ typename R::TempStorage r[4]; __shared__ typename S::TempStorage s[4]; int w = threadIdx.x / 32, v = x[threadIdx.x], sum = R(r[w]).Sum(v), scan; S(s[w]).InclusiveSum(v, scan); y[threadIdx.x] = scan + __shfl_sync(~0u, sum, 0); }",
    one(lambda x: (np.cumsum(x.reshape(4, 32), 1) + x.reshape(4, 32).sum(1, keepdims=True)).reshape(-1).astype("i4"), lambda: ints(128)), quick=True)
cub("warp_merge_sort_of_16", "warp/warp_merge_sort", "k(const int* x, int* y) { using S = cub::WarpMergeSort<int, 4, 16>; __shared__ typename S::TempStorage temp[8]; int v[4]; for (int i = 0; i < 4; i++) v[i] = x[threadIdx.x * 4 + i]; S(temp[threadIdx.x / 16]).Sort(v, [](int a, int b) { return a < b; }); for (int i = 0; i < 4; i++) y[threadIdx.x * 4 + i] = v[i]; }",
    one(lambda x: np.sort(x.reshape(8, 64), 1).reshape(-1), lambda: ints(512)))
cub("decoupled_look_back", "agent/single_pass_scan_operators block/block_scan", """k(const int* x, int* y, char* storage, int tiles, int* ticket) { using T = cub::ScanTileState<int>; T state; size_t bytes; T::AllocationSize(tiles, bytes); state.Init(tiles, storage, bytes); using S = cub::BlockScan<int, 128>; using P = cub::TilePrefixCallbackOp<int, cuda::std::plus<int>, T>;
  __shared__ union { typename S::TempStorage scan; struct { typename P::TempStorage prefix; typename S::TempStorage scan; } both; } temp; int tile = blockIdx.x; int v = x[tile * 128 + threadIdx.x];
  if (tile == 0) { int total; S(temp.scan).InclusiveSum(v, v, total); if (threadIdx.x == 0) state.SetInclusive(0, total); } else { P prefix(state, temp.both.prefix, cuda::std::plus<int>(), tile); S(temp.both.scan).InclusiveSum(v, v, prefix); } y[tile * 128 + threadIdx.x] = v; }""",
    lambda: ((lambda x, y: ([x, y, look_back_storage(20), 20, np.zeros(1, "i4")], [(y, np.cumsum(x))]))(ints(2560), np.zeros(2560, "i4"))), grid=20, quick=True)


def look_back_storage(tiles: int) -> np.ndarray:
    """What the initialising kernel leaves: 32 words of padding that are out of bounds (0), the rest invalid (99)."""
    words = np.zeros((tiles + 32, 2), "u4")
    words[32:, 0] = 99
    return words


# -- libcu++

def lib(name: str, include: str, source: str, make: Callable[[], Made], **options: Any) -> None:
    add(name, "".join(f"#include <cuda/{part}>\n" for part in include.split()) + source, make, **options)


lib("barrier_arrive_and_wait", "barrier", K + "k(const int* x, int* y) { using B = cuda::barrier<cuda::thread_scope_block>; __shared__ B b; __shared__ int s[128]; if (threadIdx.x == 0) init(&b, blockDim.x); __syncthreads(); int v = x[threadIdx.x]; for (int i = 0; i < 5; i++) { s[threadIdx.x] = v; b.arrive_and_wait(); v = s[(threadIdx.x + 1) % 128] + 1; b.arrive_and_wait(); } y[threadIdx.x] = v; }",
    one(lambda x: np.roll(x, -5) + 5, lambda: ints(128)), quick=True)
for arch in ("sm_80", "sm_90a"):
    lib(f"barrier_of_producers_and_consumers_{arch}", "barrier", K + """k(const float* x, float* y, int n) { using B = cuda::barrier<cuda::thread_scope_block>; __shared__ B full[2], empty[2]; __shared__ float s[2][64]; if (threadIdx.x == 0) for (int i = 0; i < 2; i++) { init(full + i, 128); init(empty + i, 128); } __syncthreads(); int t = threadIdx.x % 64;
      if (threadIdx.x < 64) for (int i = 0; i < n; i++) { empty[i % 2].arrive_and_wait(); s[i % 2][t] = x[i * 64 + t]; (void)full[i % 2].arrive(); }
      else { (void)empty[0].arrive(); (void)empty[1].arrive(); float sum = 0; for (int i = 0; i < n; i++) { full[i % 2].arrive_and_wait(); sum += s[i % 2][63 - t]; (void)empty[i % 2].arrive(); } y[t] = sum; } }""",
        lambda: ((lambda x, y: ([x, y, 9], [(y, x.sum(0)[::-1])]))(floats(9, 64), np.zeros(64, "f4"))), arch=arch, tolerance=1e-5)
for arch in ("sm_80", "sm_90a"):
    lib(f"memcpy_async_on_a_barrier_{arch}", "barrier", K + """k(const float4* x, float4* y) { using B = cuda::barrier<cuda::thread_scope_block>; __shared__ B b; __shared__ alignas(16) float4 s[256]; if (threadIdx.x == 0) init(&b, blockDim.x); __syncthreads(); int i = blockIdx.x * 256 + threadIdx.x;
      cuda::memcpy_async(s + threadIdx.x, x + i, cuda::aligned_size_t<16>(16), b); cuda::memcpy_async(s + threadIdx.x + 128, x + i + 128, cuda::aligned_size_t<16>(16), b); b.arrive_and_wait(); y[i] = s[255 - threadIdx.x]; y[i + 128] = s[127 - threadIdx.x]; }""",
        one(lambda x: x.reshape(5, 256, 4)[:, ::-1].reshape(-1, 4).copy(), lambda: floats(1280, 4)), grid=5, arch=arch, quick=arch == "sm_80")
lib("memcpy_async_of_a_group", "barrier", "#include <cooperative_groups.h>\n" + K + """k(const int* x, int* y, int n) { auto g = cg::this_thread_block(); using B = cuda::barrier<cuda::thread_scope_block>; __shared__ B b; __shared__ alignas(16) int s[2][256]; if (g.thread_rank() == 0) init(&b, g.size()); g.sync();
  int sum = 0; for (int i = 0; i < n; i++) { cuda::memcpy_async(g, s[i % 2], x + i * 256, cuda::aligned_size_t<16>(1024), b); b.arrive_and_wait(); sum += s[i % 2][threadIdx.x] * s[i % 2][255 - threadIdx.x]; } y[threadIdx.x] = sum; }""",
    lambda: ((lambda x, y: ([x, y, 5], [(y, (x * x[:, ::-1]).sum(0)[:128])]))(ints(5, 256), np.zeros(128, "i4"))))
for stages, scope in ((1, "block"), (3, "block"), (2, "thread")):
    make = lambda: ((lambda x, y: ([x, y, 7], [(y, x.sum(0))]))(ints(7, 128), np.zeros(128, "i4")))  # noqa: E731
    state = f"__shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, {stages}> state; auto pipe = cuda::make_pipeline(cooperative_groups::this_thread_block(), &state);" if scope == "block" else "auto pipe = cuda::make_pipeline();"
    lib(f"pipeline_of_{stages}_stages_{scope}", "pipeline", "#include <cooperative_groups.h>\n" + K + f"""k(const int* x, int* y, int n) {{ __shared__ int s[{stages}][128]; {state} int t = threadIdx.x, sum = 0;
      for (int i = 0, f = 0; i < n; i++) {{ for (; f < n && f < i + {stages}; f++) {{ pipe.producer_acquire(); cuda::memcpy_async(&s[f % {stages}][t], x + f * 128 + t, sizeof(int), pipe); pipe.producer_commit(); }}
        pipe.consumer_wait(); sum += s[i % {stages}][t]; pipe.consumer_release(); }} y[t] = sum; }}""", make, quick=stages == 3)
lib("pipeline_of_roles", "pipeline", "#include <cooperative_groups.h>\n" + K + """k(const int* x, int* y, int n) { auto g = cg::this_thread_block(); __shared__ int s[2][64]; __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state; auto role = threadIdx.x < 64 ? cuda::pipeline_role::producer : cuda::pipeline_role::consumer;
  auto pipe = cuda::make_pipeline(g, &state, role); int t = threadIdx.x % 64; if (role == cuda::pipeline_role::producer) for (int i = 0; i < n; i++) { pipe.producer_acquire(); cuda::memcpy_async(&s[i % 2][t], x + i * 64 + t, sizeof(int), pipe); pipe.producer_commit(); }
  else { int sum = 0; for (int i = 0; i < n; i++) { pipe.consumer_wait(); sum += s[i % 2][63 - t]; pipe.consumer_release(); } y[t] = sum; } }""", lambda: ((lambda x, y: ([x, y, 6], [(y, x.sum(0)[::-1])]))(ints(6, 64), np.zeros(64, "i4"))))
for scope in ("block", "device", "system"):
    lib(f"atomic_of_{scope}", "atomic", K + f"""k(int* y) {{ {'__shared__' if scope == 'block' else '__device__ static'} cuda::atomic<int, cuda::thread_scope_{scope}> a, turn; if (threadIdx.x == 0) {{ a.store(0); turn.store(0); }} __syncthreads(); a.fetch_add(threadIdx.x); int w = threadIdx.x / 32;
      if (threadIdx.x % 32 == 0) {{ while (turn.load(cuda::memory_order_acquire) != w) {{}} y[1] = y[1] * 3 + w; turn.store(w + 1, cuda::memory_order_release); }} __syncthreads(); if (threadIdx.x == 0) y[0] = a.load(); }}""",
        lambda: ((lambda y: ([y], [(y, [8128, ((0 * 3 + 1) * 3 + 2) * 3 + 3])]))(np.zeros(2, "i4"))), quick=scope == "block")
lib("atomic_wait_and_notify", "atomic", K + "k(const int* x, int* y) { __shared__ cuda::atomic<int, cuda::thread_scope_block> flag; __shared__ int s[64]; if (threadIdx.x == 0) flag.store(0); __syncthreads(); if (threadIdx.x < 64) { s[threadIdx.x] = x[threadIdx.x]; flag.fetch_add(1, cuda::memory_order_release); flag.notify_all(); } else { int v; while ((v = flag.load(cuda::memory_order_acquire)) < 64) flag.wait(v, cuda::memory_order_acquire); y[threadIdx.x - 64] = s[127 - threadIdx.x]; } }",
    one(lambda x: x[::-1].copy(), lambda: ints(64)))
lib("atomic_ref_spin_lock", "atomic", K + "k(int* lock, int* y) { cuda::atomic_ref<int, cuda::thread_scope_device> l(*lock); if (threadIdx.x % 32 == 0) { int zero = 0; while (!l.compare_exchange_weak(zero, 1, cuda::memory_order_acquire)) zero = 0; y[0] = y[0] * 5 % 1009 + 1; y[1] += 1; l.store(0, cuda::memory_order_release); } }",
    lambda: ((lambda y: ([np.zeros(1, "i4"), y], [(y[1:], [24])]))(np.zeros(2, "i4"))), grid=6)
lib("atomic_of_floats_and_64_bits", "atomic", K + "k(double* d, unsigned long long* u, float* f) { cuda::atomic_ref<double, cuda::thread_scope_device> a(*d); a.fetch_add(0.5); cuda::atomic_ref<unsigned long long, cuda::thread_scope_device> b(*u); b.fetch_max((blockIdx.x * 128ull + threadIdx.x) << 33); cuda::atomic_ref<float, cuda::thread_scope_device> c(*f); c.fetch_min(-(float)threadIdx.x); }",
    lambda: ((lambda d, u, f: ([d, u, f], [(d, 256), (u, 511 << 33), (f, -127)]))(np.zeros(1), np.zeros(1, "u8"), np.zeros(1, "f4"))), grid=4)
lib("semaphore", "semaphore", K + "k(int* y) { __shared__ cuda::counting_semaphore<cuda::thread_scope_block, 2> s; __shared__ int inside, most; if (threadIdx.x == 0) { new (&s) cuda::counting_semaphore<cuda::thread_scope_block, 2>(2); inside = most = 0; } __syncthreads(); if (threadIdx.x % 32 == 0) { s.acquire(); int now = atomicAdd(&inside, 1) + 1; atomicMax(&most, now); atomicSub(&inside, 1); s.release(); } __syncthreads(); if (threadIdx.x == 0) { y[0] = inside; y[1] = most <= 2; } }",
    lambda: ((lambda y: ([y], [(y, [0, 1])]))(np.zeros(2, "i4"))))
lib("latch", "latch", K + "k(const int* x, int* y) { using L = cuda::latch<cuda::thread_scope_block>; __shared__ alignas(8) char raw[sizeof(L)]; L& l = *reinterpret_cast<L*>(raw); __shared__ int s[128]; if (threadIdx.x == 0) new (&l) L(128); __syncthreads(); s[threadIdx.x] = x[threadIdx.x]; l.arrive_and_wait(); y[threadIdx.x] = s[127 - threadIdx.x]; }", one(lambda x: x[::-1].copy(), lambda: ints(128)))
lib("message_between_blocks", "atomic", K + "k(const int* x, int* data, int* flag, int* y) { cuda::atomic_ref<int, cuda::thread_scope_device> f(*flag); if (blockIdx.x == 0) { data[threadIdx.x] = x[threadIdx.x] * 3; __syncthreads(); if (threadIdx.x == 0) f.store(1, cuda::memory_order_release); } else { if (threadIdx.x == 0) while (f.load(cuda::memory_order_acquire) == 0) {} __syncthreads(); y[threadIdx.x] = data[127 - threadIdx.x]; } }",
    lambda: ((lambda x, y: ([x, np.zeros(128, "i4"), np.zeros(1, "i4"), y], [(y, x[::-1] * 3)]))(ints(128), np.zeros(128, "i4"))), grid=2)
lib("thread_fence_and_counter", "atomic", K + "k(const float* x, float* part, unsigned* count, float* y) { __shared__ float s[128]; __shared__ bool last; int t = threadIdx.x; s[t] = x[blockIdx.x * 128 + t]; __syncthreads(); for (int o = 64; o; o /= 2) { if (t < o) s[t] += s[t + o]; __syncthreads(); } if (t == 0) { part[blockIdx.x] = s[0]; __threadfence(); last = atomicInc(count, gridDim.x) == gridDim.x - 1; } __syncthreads(); if (last) { __threadfence(); float v = t < gridDim.x ? part[t] : 0; for (int o = 16; o; o /= 2) v += __shfl_down_sync(~0u, v, o); if (t == 0) y[0] = v; } }",
    lambda: ((lambda x, y: ([x, np.zeros(9, "f4"), np.zeros(1, "u4"), y], [(y, x.sum())]))(floats(9 * 128), np.zeros(1, "f4"))), grid=9, tolerance=1e-4)


# -- cooperative groups

def cg(name: str, body: str, make: Callable[[], Made], more: str = "", **options: Any) -> None:
    add("cg_" + name, f"#include <cooperative_groups.h>\n{more}" + K + body, make, **options)


REDUCE, SCAN, COPY = "#include <cooperative_groups/reduce.h>\n", "#include <cooperative_groups/scan.h>\n", "#include <cooperative_groups/memcpy_async.h>\n"
for size in (4, 16, 32):
    cg(f"reduce_of_tiles_of_{size}", f"k(const int* x, int* y) {{ auto tile = cg::tiled_partition<{size}>(cg::this_thread_block()); int v = x[threadIdx.x]; y[threadIdx.x] = cg::reduce(tile, v, cg::plus<int>()) + cg::reduce(tile, v, cg::greater<int>()); }}",
       one(functools.partial(lambda size, x: np.repeat(x.reshape(-1, size).sum(1) + x.reshape(-1, size).max(1), size).astype("i4"), size), lambda: ints(128)), REDUCE, quick=size == 16)
cg("scan_of_a_tile", "k(const int* x, int* y) { auto tile = cg::tiled_partition<32>(cg::this_thread_block()); y[threadIdx.x] = cg::inclusive_scan(tile, x[threadIdx.x]) * 2 + cg::exclusive_scan(tile, x[threadIdx.x]); }", one(lambda x: (3 * np.cumsum(x.reshape(4, 32), 1) - x.reshape(4, 32)).reshape(-1).astype("i4"), lambda: ints(128)), SCAN)
cg("coalesced_threads", "k(const int* x, int* y, int* counter) { int i = blockIdx.x * 128 + threadIdx.x; if (x[i] % 3 == 0) { auto g = cg::coalesced_threads(); int base; if (g.thread_rank() == 0) base = atomicAdd(counter, g.size()); y[g.shfl(base, 0) + g.thread_rank()] = x[i]; } }",
   lambda: ((lambda x, y, c: ([x, y, c], [(c, (x % 3 == 0).sum())]))(ints(512), np.zeros(512, "i4"), np.zeros(1, "i4"))), grid=4)
cg("labeled_partition", "k(const int* x, int* y) { auto g = cg::coalesced_threads(); auto p = cg::labeled_partition(g, x[threadIdx.x] % 3); y[threadIdx.x] = p.size() * 100 + cg::reduce(p, x[threadIdx.x], cg::plus<int>()); }",
   lambda: ((lambda x, y: ([x, y], [(y, np.concatenate([[(w % 3 == v % 3).sum() * 100 + w[w % 3 == v % 3].sum() for v in w] for w in x.reshape(4, 32)]))]))(ints(128, top=50), np.zeros(128, "i4"))), REDUCE)
cg("binary_partition", "k(const int* x, int* y) { auto tile = cg::tiled_partition<32>(cg::this_thread_block()); auto p = cg::binary_partition(tile, x[threadIdx.x] & 1); y[threadIdx.x] = p.size() * 64 + p.thread_rank(); }",
   lambda: ((lambda x, y: ([x, y], [(y, np.concatenate([[(w % 2 == v % 2).sum() * 64 + (w[:i] % 2 == v % 2).sum() for i, v in enumerate(w)] for w in x.reshape(4, 32)]))]))(ints(128), np.zeros(128, "i4"))))
cg("memcpy_async", "k(const int* x, int* y) { auto g = cg::this_thread_block(); __shared__ alignas(16) int s[512]; cg::memcpy_async(g, s, x + blockIdx.x * 512, sizeof(s)); cg::wait(g); for (int i = threadIdx.x; i < 512; i += 128) y[blockIdx.x * 512 + i] = s[511 - i]; }",
   one(lambda x: x.reshape(3, 512)[:, ::-1].reshape(-1).copy(), lambda: ints(1536)), COPY, grid=3, quick=True)
cg("memcpy_async_in_two_stages", "k(const int* x, int* y, int n) { auto g = cg::this_thread_block(); __shared__ alignas(16) int s[2][128]; cg::memcpy_async(g, s[0], x, sizeof(s[0])); int sum = 0; for (int i = 0; i < n; i++) { if (i + 1 < n) { cg::memcpy_async(g, s[(i + 1) % 2], x + (i + 1) * 128, sizeof(s[0])); cg::wait_prior<1>(g); } else cg::wait(g); sum += s[i % 2][127 - threadIdx.x]; g.sync(); } y[threadIdx.x] = sum; }",
   lambda: ((lambda x, y: ([x, y, 6], [(y, x.sum(0)[::-1])]))(ints(6, 128), np.zeros(128, "i4"))), COPY)
cg("grid_sync", "k(int* x, int* y, int n) { auto g = cg::this_grid(); int i = g.thread_rank(); for (int r = 0; r < n; r++) { y[i] = x[(i + 1) % g.size()] + 1; g.sync(); x[i] = y[(i + 1) % g.size()]; g.sync(); } }",
   lambda: ((lambda x: (lambda wanted: ([x, np.zeros(512, "i4"), 3], [(x, wanted)]))(np.roll(x, -6) + 3))(ints(512))), grid=4)
cg("multi_warp_tile", "k(const int* x, int* y) { __shared__ cg::block_tile_memory<128> memory; auto block = cg::this_thread_block(memory); auto tile = cg::tiled_partition<64>(block); y[threadIdx.x] = cg::reduce(tile, x[threadIdx.x], cg::plus<int>()); tile.sync(); }",
   one(lambda x: np.repeat(x.reshape(2, 64).sum(1), 64).astype("i4"), lambda: ints(128)), REDUCE)
cg("invoke_one", "k(int* y) { auto w = cg::coalesced_threads(); int r = cg::invoke_one_broadcast(w, [&] { return atomicAdd(y, 7); }); __syncthreads(); y[1 + threadIdx.x] = r % 7; }", lambda: ((lambda y: ([y], [(y, [28, *[0] * 128])]))(np.zeros(129, "i4"))), arch="sm_90a")

# -- clusters

CL = {"arch": "sm_90a", "quick": False}
cg("cluster_histogram", "k(const int* x, int* y, int n) { auto c = cg::this_cluster(); __shared__ int bins[32]; int t = threadIdx.x, r = c.block_rank(); if (t < 32) bins[t] = 0; c.sync(); for (int i = r * 128 + t; i < n; i += 128 * c.num_blocks()) { int v = x[i]; atomicAdd(c.map_shared_rank(bins, v / 32) + v % 32, 1); } c.sync(); if (t < 32) y[r * 32 + t] = bins[t]; }",
   lambda: ((lambda x, y: ([x, y, 2000], [(y, np.bincount(x, minlength=128))]))(ints(2000, top=128), np.zeros(128, "i4"))), grid=4, cluster=(4, 1, 1), arch="sm_90a", quick=True)
cg("cluster_exchange", "__cluster_dims__(2, 1, 1) k(const int* x, int* y) { auto c = cg::this_cluster(); __shared__ int s[128]; int t = threadIdx.x, r = c.block_rank(), B = blockIdx.x; s[t] = x[B * 128 + t]; c.sync(); int v = c.map_shared_rank(s, r ^ 1)[127 - t]; c.sync(); y[B * 128 + t] = v; }",
   one(lambda x: x.reshape(3, 2, 128)[:, ::-1, ::-1].reshape(-1).copy(), lambda: ints(768)), grid=6, arch="sm_90a")
cg("cluster_split_arrive_and_wait", "__cluster_dims__(2, 1, 1) k(const int* x, int* y) { auto c = cg::this_cluster(); __shared__ int s[128]; int t = threadIdx.x, r = c.block_rank(); s[t] = x[blockIdx.x * 128 + t]; auto token = c.barrier_arrive(); int local = s[t] * 2; c.barrier_wait(cuda::std::move(token)); local += c.map_shared_rank(s, r ^ 1)[t]; c.sync(); y[blockIdx.x * 128 + t] = local; }".replace("cuda::std::move(token)", "static_cast<decltype(token)&&>(token)"),
   one(lambda x: (2 * x.reshape(-1, 2, 128) + x.reshape(-1, 2, 128)[:, ::-1]).reshape(-1), lambda: ints(512)), grid=4, arch="sm_90a")
cg("cluster_reduction_tree", "__cluster_dims__(4, 1, 1) k(const float* x, float* y) { auto c = cg::this_cluster(); __shared__ float part; auto b = cg::this_thread_block(); auto w = cg::tiled_partition<32>(b); __shared__ float s[4]; float v = cg::reduce(w, x[blockIdx.x * 128 + threadIdx.x], cg::plus<float>()); if (w.thread_rank() == 0) s[w.meta_group_rank()] = v; b.sync(); if (threadIdx.x == 0) part = s[0] + s[1] + s[2] + s[3]; c.sync(); if (c.block_rank() == 0 && threadIdx.x == 0) { float sum = 0; for (int i = 0; i < 4; i++) sum += *c.map_shared_rank(&part, i); y[blockIdx.x / 4] = sum; } c.sync(); }",
   one(lambda x: x.reshape(2, -1).sum(1), lambda: floats(1024)), REDUCE, grid=8, arch="sm_90a", tolerance=1e-4)
