"""2:4 sparse products: bytes, instructions on tensor cores, and time on the CPU against our dense product."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import tilus as tl
from benchmarks.compressed.timing import Line, Lines, milliseconds, seconds

M = K = 2048
PAPER = "3.19x over a dense ViT on A100"


def lines() -> Lines:
    from kernels_zoo.gemm.matmul import matmul
    from kernels_zoo.sparse import two_four

    rng = np.random.default_rng(0)
    a = two_four.prune(rng.standard_normal((M, K)).astype(np.float16))
    stored, metadata = two_four.compress(a)
    size = stored.nbytes + metadata.nbytes
    yield Line(f"bytes of {M}x{K}, f16", f"{size:,}", a.nbytes / size, "f16", None, PAPER, "bytes")
    for dtype, target in ((tl.f16, "sm_80"), (tl.i8, "sm_80"), (tl.f8e4m3fn, "sm_89")):
        ours, dense = instructions(dtype, target)
        yield Line(f"tensor cores, {dtype}, {target} (PTX)", str(ours), dense / ours, "dense", 2.0, PAPER,
                   "instructions")
    for n in (8, 256):
        b, y, z = rng.standard_normal((K, n)).astype(np.float16), np.empty((M, n), np.float16), np.empty(
            (M, n), np.float16)
        time, dense = seconds(lambda b=b, y=y: two_four.sparse_matmul(stored, metadata, b, y),
                              lambda b=b, z=z: matmul(a, b, z))
        yield Line(f"{M}x{K}, n={n}, f16", milliseconds(time), dense / time, "our dense f16", 1.0, PAPER)


def instructions(dtype: Any, target: str) -> tuple[int, int]:
    """Of the emitted loop for a warp: mma.sp, and mma of the same kernel that is given all of A."""
    from kernels_zoo.sparse import two_four

    @tl.jit
    def dense(a: dtype["M", "K"], b: dtype["K", "N"], y: tl.f32["M", "N"]):
        i, j = tl.grid(tl.cdiv(a.shape[0], 64), tl.cdiv(b.shape[1], 64))
        acc = tl.zeros((64, 64), tl.i32 if dtype.is_int else tl.f32)
        for k in tl.range(0, a.shape[1], 64, stages=3, prefetch=False):
            acc = tl.dot(tl.load(a, (i * 64, k), (64, 64)), tl.load(b, (k, j * 64), (64, 64)), acc)
        tl.store(y, (i * 64, j * 64), acc.to(tl.f32))

    words = tl.u16 if dtype.bits == 16 else tl.u32
    ours = two_four.sparse_matmul.compile(target, atype=dtype, a=dtype, metadata=words, y=tl.f32, row_scales=None,
                                          column_scales=None).ptx
    return len(re.findall(r"mma\.sp\.", ours)), len(re.findall(r"\bmma\.sync", dense.compile(target).ptx))
