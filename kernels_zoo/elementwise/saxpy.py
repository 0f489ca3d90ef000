"""y = a x + y, with a run-time scalar a."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, normal, report, wide

SHAPES = [(0,), (1,), (1023,), (1024,), (1025,), (99991,)]


@tl.jit
def saxpy(a: tl.f32, x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 1024) -> None:
    (N,) = x.shape
    start = tl.grid(tl.cdiv(N, BLOCK)) * BLOCK
    tl.store(y, start, a * tl.load(x, start, BLOCK) + tl.load(y, start, BLOCK))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    import numpy as np

    rng = np.random.default_rng(seed)
    x, y = normal(rng, shape, dtype), normal(rng, shape, dtype)
    return Case((2.5, x, y), (y,), (2.5 * wide(x) + wide(y),))


def main() -> None:
    report(saxpy, SHAPES, case)


if __name__ == "__main__":
    main()
