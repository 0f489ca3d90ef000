"""Reductions on GPUs: few threads along them, partial results in vectors, masks once for all neighbours under one."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

ROUTES = ("ptx", "cuda")


def reduced(kind: str, dtype: tl.DType, shape: tuple[int, int], axis: int, warps: int = 4) -> Any:
    function, size = getattr(tl, kind), shape

    @tl.jit
    def reduce(x: dtype["M", "N"], y: dtype["R"], columns: tl.i32):
        tl.block(warps=warps)
        tl.grid(1)
        tile = tl.load(x, (0, 0), size)
        tl.store(y, 0, function(tl.where((tl.arange(size[1]) < columns)[None, :], tile, 0), axis=axis).to(dtype))

    return reduce


CASES = [
    ("sum", tl.f32, (4, 256), 1, 4), ("max", tl.f16, (2, 1024), 1, 4), ("sum", tl.f64, (64, 32), 0, 4),
    ("min", tl.i32, (3, 130), 1, 3), ("sum", tl.bf16, (16, 200), 0, 8), ("max", tl.i8, (64, 64), 0, 4),
    ("sum", tl.f32, (8, 128), 0, 8),
]


@pytest.mark.parametrize(("engine"), ["simulate:sm_80:ptx", "simulate:sm_75:cuda"])
@pytest.mark.parametrize(("kind", "dtype", "shape", "axis", "warps"), CASES)
def test_sums_and_extrema(kind: str, dtype: tl.DType, shape: tuple[int, int], axis: int, warps: int,
                          engine: str) -> None:
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(dtype.numpy)
    expected, found = (np.zeros(shape[1 - axis], dtype.numpy) for _ in range(2))
    kernel = reduced(kind, dtype, shape, axis, warps)
    for columns in (shape[1] - 3, 8, 0):
        kernel.on("interpret")(x, expected, columns)
        kernel.on(engine)(x, found, columns)
        np.testing.assert_array_equal(found, expected)


@tl.jit
def row_sums(x: tl.f32["M", "N"], y: tl.f32["M"], BM: int = 4, BN: int = 1024) -> None:
    tl.store(y, tl.grid(1), tl.sum(tl.load(x, (0, 0), (BM, BN)), axis=1))


def accesses(ptx: str, name: str) -> list[str]:
    return [line.strip() for line in ptx.splitlines() if f"{name}.shared" in line]


@pytest.mark.parametrize("via", ROUTES)
def test_a_row_for_each_warp_needs_no_shared_memory(via: str) -> None:
    ptx = row_sums.compile("sm_80", via).ptx
    assert not accesses(ptx, "ld")
    assert "bar.sync" not in ptx
    assert ptx.count("shfl.sync") == 5


@pytest.mark.parametrize("via", ROUTES)
def test_partial_results_are_loaded_in_vectors(via: str) -> None:
    """Two warps a row: both of its sums by one access. Columns: four neighbours by one."""
    ptx = row_sums.compile("sm_80", via, BM=2).ptx
    assert len(accesses(ptx, "ld")) == 1
    assert "v2" in accesses(ptx, "ld")[0]
    ptx = reduced("sum", tl.f32, (64, 64), 0).compile("sm_80", via).ptx
    assert len(accesses(ptx, "ld")) == 4
    assert all("v4" in line for line in accesses(ptx, "ld") + accesses(ptx, "st"))


@tl.jit
def masked_sums(x: tl.f32["M", "N"], y: tl.f32["M"], BM: int = 4, BN: int = 128) -> None:
    there = (tl.arange(BN) < x.shape[1])[None, :]
    tl.store(y, tl.grid(1), tl.sum(tl.where(there, tl.exp(tl.load(x, (0, 0), (BM, BN))), 0.0), axis=1))


def test_a_mask_of_neighbours_is_asked_once_for_all_of_them() -> None:
    """N is a multiple of 16: a thread's four elements are there or not."""
    ptx = masked_sums.compile("sm_80", "ptx").ptx
    first = ptx.index("shfl.sync")
    assert sum("selp.f32" in line and "0f00000000" in line for line in ptx[:first].splitlines()) == 1
