"""Flash-LLM's sparse products against our dense product of f16, and against SciPy's CSR where it is installed."""

from __future__ import annotations

import contextlib

import numpy as np

from benchmarks.compressed.timing import Line, Lines, milliseconds, seconds

M = K = 4096


def lines() -> Lines:
    from kernels_zoo.compressed import flash_llm
    from kernels_zoo.gemm.matmul import matmul

    csr = None
    with contextlib.suppress(ImportError):
        from scipy.sparse import csr_matrix as csr
    rng = np.random.default_rng(0)
    for sparsity, paper in ((0.7, "1.4x cuBLAS"), (0.8, "1.7x cuBLAS; 2.9x Sputnik"), (0.9, "2.1x cuBLAS")):
        a = flash_llm.sparse_weights(rng, (M, K), sparsity)
        sparse = flash_llm.encode(a)
        yield Line(f"bytes at {100 * sparsity:.0f} %", f"{sparse.nbytes:,}", a.nbytes / sparse.nbytes, "f16", None,
                   paper, "bytes")
        for n in (8, 32):
            b = rng.standard_normal((K, n)).astype(np.float16)
            y, z = np.empty((M, n), np.float16), np.empty((M, n), np.float16)
            calls = [lambda b=b, y=y, s=sparse: flash_llm.multiply(s, b, y), lambda b=b, z=z, a=a: matmul(a, b, z)]
            if csr is not None:
                rows, wide = csr(a.astype(np.float32)), b.astype(np.float32)
                calls.append(lambda rows=rows, wide=wide: rows @ wide)
            ours, dense, *others = seconds(*calls)
            name = f"{M}x{K}, {100 * sparsity:.0f} % zeros, n={n}"
            asked = 1.5 if (sparsity, n) == (0.8, 8) else None
            yield Line(name, milliseconds(ours), dense / ours, "our dense f16", asked, paper)
            for other in others:
                yield Line(name, milliseconds(ours), other / ours, "SciPy's CSR, f32", 1.0 if asked else None, paper)
