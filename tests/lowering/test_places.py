"""argmax and argmin on GPUs: the first of equals, numbers before NaNs, and as few instructions as that takes."""

from typing import Any

import numpy as np
import pytest

import tilus as tl


def places(kind: str, dtype: tl.DType, shape: tuple[int, int], axis: int, warps: int = 4) -> Any:
    function, size = getattr(tl, kind), shape

    @tl.jit
    def find(x: dtype["M", "N"], y: tl.i64["R"]):
        tl.block(warps=warps)
        tl.grid(1)
        tl.store(y, 0, function(tl.load(x, (0, 0), size), axis=axis))

    return find


def numbers(dtype: tl.DType, shape: tuple[int, int], axis: int, seed: int) -> Any:
    """Few different ones, the least and the greatest among them; NaNs, and a row of nothing else."""
    rng = np.random.default_rng(seed)
    if not dtype.is_float:
        return rng.choice(np.array([dtype.min_value, 0, 1, dtype.max_value], dtype.numpy), shape)
    x = rng.choice(np.array([-np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan][seed % 3 :: 1 + seed % 2], dtype.numpy), shape)
    x[(0, slice(None)) if axis == 1 else (slice(None), 0)] = np.nan
    return x


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("engine", "warps"), [("simulate:sm_80:ptx", 4), ("simulate:sm_75:cuda", 3),
                                               ("simulate:sm_90a:cuda", 1)])
@pytest.mark.parametrize("dtype", [tl.f32, tl.f16, tl.i32, tl.u8, tl.i64])
def test_places(dtype: tl.DType, engine: str, warps: int) -> None:
    for seed, (shape, axis) in enumerate([((4, 256), 1), ((7, 59), 0), ((1, 1000), 1), ((256, 4), 1), ((16, 128), 0)]):
        for kind in ("argmax", "argmin"):
            x = numbers(dtype, shape, axis, seed)
            expected, found = (np.full(shape[1 - axis], -1) for _ in range(2))
            kernel = places(kind, dtype, shape, axis, warps)
            kernel.on("interpret")(x, expected)
            kernel.on(engine)(x, found)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_lanes_exchange_places_once(via: str) -> None:
    ptx = places("argmax", tl.f32, (1, 32), 1, warps=1).compile("sm_80", via).ptx
    assert ptx.count("shfl.sync") == 5
    assert ptx.count("redux.sync.min") == 1
