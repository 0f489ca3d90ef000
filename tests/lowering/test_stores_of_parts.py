"""Tiles stored to a part of a larger tile in shared memory: what the layout covers beyond them is not written."""

import numpy as np
import pytest

import tilus as tl
from tests.lowering.test_simt import compare


@tl.jit
def kernel(x: tl.i32["N"], y: tl.i32["M"], n: int = 33, vector: int = 1):
    tl.block(warps=2)
    tl.grid(1)
    s = tl.shared((256,), tl.i32)
    tl.store(s, 0, tl.full((256,), 7, tl.i32))
    tl.sync()
    tl.store(s, 4, tl.load(x, 0, n, layout=tl.layouts.spatial(64) * tl.layouts.local(vector)))
    tl.sync()
    tl.store(y, 0, tl.load(s, 0, 256))


@pytest.mark.parametrize("engine", ["simulate:sm_80:cuda", "simulate:sm_80:ptx", "cpu"])
@pytest.mark.parametrize(("n", "vector"), [(33, 1), (64, 1), (33, 2), (65, 2), (66, 2), (130, 4), (132, 4)])
def test_padding_is_not_stored(n, vector, engine):
    compare(kernel, lambda: (np.arange(1, 300, dtype=np.int32), np.zeros(256, np.int32)), engine, exact=True, n=n,
            vector=vector)
