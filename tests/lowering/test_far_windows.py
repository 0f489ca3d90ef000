"""Windows, and windows of those, that lie far outside of their array: nothing is in bounds, and nothing is touched."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl

LEAST, MOST = -(2**31), 2**31 - 1
PLACES = [(LEAST + 48, LEAST), (LEAST, LEAST), (LEAST + 16, LEAST + 16), (LEAST, MOST), (MOST, LEAST + 1), (MOST, MOST),
          (-5, -5), (60, -3), (-20, 20)]


@tl.jit
def windows(x: tl.f32["N"], y: tl.f32["K"], z: tl.f32["N"], i: tl.i32, j: tl.i32):
    tl.grid(1)
    tl.store(y, 0, tl.load(x[i : i + 32][j : j + 32], 0, 64))
    tl.store(z[i : i + 32][j : j + 32], 0, tl.full(64, 1.0, tl.f32))


@tl.jit
def rows(x: tl.f32["M", "N"], y: tl.f32["K"], z: tl.f32["M", "N"], i: tl.i32, j: tl.i32):
    """The second window is of the turned first one."""
    tl.grid(1)
    tl.store(y, 0, tl.load(x[i : i + 32, :].T[1, j : j + 32], 0, 64))
    tl.store(z[i : i + 32, :].T[0, j : j + 32], 0, tl.full(64, 1.0, tl.f32))


@tl.jit
def loads(x: tl.f32["N"], y: tl.f32["K"], z: tl.f32["N"], i: tl.i32, j: tl.i32):
    tl.grid(1)
    tl.store(y, 0, tl.load(x[i : i + 32], j, 64))
    tl.store(z, i, tl.full(64, 1.0, tl.f32))


@pytest.mark.parametrize("engine", ["python", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
@pytest.mark.parametrize("kernel", [windows, rows, loads], ids=lambda k: k.__name__)
def test_nothing_beyond_is_touched(kernel, engine: str) -> None:
    shape = (64, 2) if kernel is rows else (64,)
    x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    for place in PLACES:
        found, expected = ((np.full(64, 7, np.float32), np.zeros(shape, np.float32)) for _ in range(2))
        kernel.on(engine)(x, *found, *place)
        kernel.on("interpret")(x, *expected, *place)
        for got, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=str(place))
