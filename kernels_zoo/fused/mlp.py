"""y = gelu(x @ w + b): a matmul with its epilogue, fused into one kernel."""

from __future__ import annotations

import math
from typing import Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = [(0, 5, 3), (3, 5, 0), (1, 1, 1), (127, 65, 33), (128, 64, 64), (129, 131, 67), (257, 250, 300)]


@tl.fuse
def mlp(x: tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"],
        w: tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f32["K", "N"],
        b: tl.f16["N"] | tl.bf16["N"] | tl.f32["N"]) -> Any:
    return tl.gelu(x @ w + b)


def reference(x: Array, w: Array, b: Array) -> Array:
    import numpy as np

    h = x @ w + b
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(h / 2 * (1 + erf(h / math.sqrt(2))))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    x, w, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype), normal(rng, (n,), dtype)
    y = empty((m, n), dtype)
    return Case((x, w, b), (y,), (reference(wide(x), wide(w), wide(b)),), depth=k)


def main() -> None:
    report(mlp, SHAPES, case)


if __name__ == "__main__":
    main()
