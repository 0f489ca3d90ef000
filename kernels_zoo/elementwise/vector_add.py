"""z = x + y."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide

SHAPES = [(0,), (1,), (1023,), (1024,), (1025,), (99991,)]


@tl.jit
def vector_add(x: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"], y: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"],
               z: tl.f32["N"] | tl.f16["N"] | tl.bf16["N"], BLOCK: int = 1024) -> None:
    (N,) = x.shape
    start = tl.grid(tl.cdiv(N, BLOCK)) * BLOCK
    tl.store(z, start, tl.load(x, start, BLOCK) + tl.load(y, start, BLOCK))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    import numpy as np

    rng = np.random.default_rng(seed)
    x, y, z = normal(rng, shape, dtype), normal(rng, shape, dtype), empty(shape, dtype)
    return Case((x, y, z), (z,), (wide(x) + wide(y),))


def main() -> None:
    report(vector_add, SHAPES, case)


if __name__ == "__main__":
    main()
