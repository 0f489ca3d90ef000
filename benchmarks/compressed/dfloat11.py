"""DFloat11: bytes, and how fast numbers of bf16 are decoded, alone and in a product."""

from __future__ import annotations

import numpy as np

import tilus as tl
from benchmarks.compressed.timing import Line, Lines, milliseconds, seconds

PAPER = "70 % of bf16's size; 1.9-38.8x of offloading to the CPU"


def lines() -> Lines:
    from kernels_zoo.compressed import dfloat11
    from kernels_zoo.compressed.dfloat11_format import encode
    from kernels_zoo.gemm.matmul import matmul

    rng = np.random.default_rng(0)
    w = (rng.standard_normal((2048, 4096)) * 0.03).astype(tl.bf16.numpy)
    e = encode(w)
    yield Line("bytes of 2048x4096, normal", f"{e.nbytes:,}", w.nbytes / e.nbytes, "bf16", None, PAPER, "bytes")
    y = np.empty(w.size, np.uint16)
    arguments, constants = dfloat11.arguments_of(e)
    (time,) = seconds(lambda: dfloat11.dfloat11_decode(*arguments, y, **constants))
    if not np.array_equal(y, w.view(np.uint16).reshape(-1)):
        raise AssertionError("the numbers are not those that were encoded")
    rate = w.nbytes / time / 1e9
    yield Line("decoding, GB/s of bf16, all threads", f"{rate:.2f} GB/s", rate, "1 GB/s",
               1.0, PAPER)
    tiled = encode(w, dfloat11.TILE)
    x, out = rng.standard_normal((1, 2048)).astype(tl.bf16.numpy), np.empty((1, 4096), tl.bf16.numpy)
    fused, dense = seconds(lambda: dfloat11.multiply(x, tiled, out, BM=1), lambda: matmul(x, w, out))
    yield Line("m=1, decoded as it is multiplied", milliseconds(fused), dense / fused, "our bf16", None, PAPER)
