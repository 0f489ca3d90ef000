"""Softmax of every row, written over the whole array: two reductions and their elementwise neighbours in one kernel."""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.normalization.softmax import reference

SHAPES = [(0, 3), (1, 1), (7, 1023), (8, 1024), (9, 1025), (3, 5003)]


@tl.fuse
def softmax(x: tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"]) -> Any:
    z = tl.exp(x - tl.max(x, axis=1, keepdims=True))
    return z / tl.sum(z, axis=1, keepdims=True)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    import numpy as np

    x = normal(np.random.default_rng(seed), shape, dtype)
    return Case((x,), (empty(shape, dtype),), (reference(wide(x)),))


def main() -> None:
    report(softmax, SHAPES, case)


if __name__ == "__main__":
    main()
