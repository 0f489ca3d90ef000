"""Products with NF4 weights whose scales are quantised, forward and backward, against our product of f32."""

from __future__ import annotations

import numpy as np

import tilus as tl
from benchmarks.compressed.timing import Line, Lines, milliseconds, seconds

K = N = 4096
PAPER = "65 B model on one 48 GB GPU"


def lines() -> Lines:
    from kernels_zoo.gemm.matmul import matmul
    from kernels_zoo.quantized import nf4

    rng = np.random.default_rng(0)
    w = (rng.standard_normal((K, N)) * 0.05).astype(np.float32)
    q = tl.quantize(w, tl.qlora)
    weights = nf4.Weights(q)
    yield Line(f"bytes of {K}x{N}", f"{q.nbytes:,}", w.nbytes / 2 / q.nbytes, "f16", None, "4.127 bits a parameter",
               "bytes")
    for m, bar in ((1, 4.0), (16, None), (256, 0.8)):
        x, y = rng.standard_normal((m, K)).astype(np.float32), np.empty((m, N), np.float32)
        dx, z = np.empty((m, K), np.float32), np.empty((m, N), np.float32)
        tile = {"BM": 256, "BN": 256} if m == 256 else {}
        ours, back, dense = seconds(
            lambda x=x, y=y, tile=tile: nf4.forward(x, weights, y, **tile),
            lambda y=y, dx=dx, tile=tile: nf4.backward(y, weights, dx, **tile),
            lambda x=x, z=z: matmul(x, w, z))
        yield Line(f"m={m}, {K}x{N}", milliseconds(ours), dense / ours, "our f32", bar, PAPER)
        yield Line(f"m={m}, gradient to the input", milliseconds(back), dense / back, "our f32", None, PAPER)
