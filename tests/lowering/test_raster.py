"""Blocks in groups along the grid's first axis: every block runs once, and a wave reads fewer tiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.batched_matmul import batched_matmul
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.gemm.matmul_split_k import matmul_split_k
from tilus.diagnostics import UserError
from tilus.lowering.schedule.raster import launched_grid
from tilus.targets.grid import MAX_OTHER_EXTENT

ROUTES = ("simulate:sm_80:cuda", "simulate:sm_80:ptx")


def blocks_of(grid: tuple[int, ...], raster: int) -> list[tuple[int, int, int]]:
    """The blocks of the kernel's grid in the order in which a GPU starts them."""
    (width, y_extent, z_extent), groups = launched_grid(grid, raster)
    found = []
    for z, y, x in itertools.product(range(z_extent), range(y_extent), range(width)):
        block = (z % groups * width + x, y, z // groups)
        if block[0] < grid[0]:
            found.append(block)
    return found


@given(st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 3)), st.integers(0, 12))
def test_every_block_is_launched_once(grid: tuple[int, int, int], raster: int) -> None:
    found = blocks_of(grid, raster)
    assert sorted(found) == sorted(itertools.product(*map(range, grid)))
    launched, _ = launched_grid(grid, raster)
    assert np.prod(launched) - np.prod(grid) < launched[1] * max(launched[0], launched[2])


def test_many_columns_make_wider_groups() -> None:
    (width, _, z), groups = launched_grid((2**31 - 1, 1, 5), 8)
    assert z == 5 * groups <= MAX_OTHER_EXTENT
    assert width * groups >= 2**31 - 1


def test_a_wave_reads_fewer_tiles() -> None:
    def tiles(raster: int) -> int:
        wave = blocks_of((32, 32), raster)[:108]
        return len({x for x, _, _ in wave}) + len({y for _, y, _ in wave})

    assert tiles(0) == 36
    assert tiles(matmul.compile("sm_80").metadata["raster"]) <= 22


def test_kernels_that_gain_are_launched_in_groups() -> None:
    assert matmul.compile("sm_80").metadata["raster"] == 10
    # Tiles of the second operand are twice those of the first: wider groups read them less often.
    assert matmul.compile("sm_80", BM=64, BN=128).metadata["raster"] == 15
    assert flash_attention_forward.compile("sm_80").metadata["raster"] == 0
    assert matmul.compile("sm_75").metadata["raster"] == 0, "copies pass through registers"
    assert matmul_split_k.compile("sm_80").metadata["raster"] == 0, "its blocks wait for one another"


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("raster", [None, 0, 1, 2, 3, 100])
def test_products_in_groups(engine: str, raster: int | None) -> None:
    @tl.jit
    def product(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], size: tl.i32[2],
                raster: int | None = None) -> None:
        M, K = a.shape
        _, N = b.shape
        tl.block(warps=1, raster=raster)
        i, j = tl.grid(tl.cdiv(M, 16), tl.cdiv(N, 16))
        acc = tl.zeros((16, 16), tl.f32)
        for k in tl.range(0, K, 16):
            acc = tl.dot(tl.load(a, (i * 16, k), (16, 16)), tl.load(b, (k, j * 16), (16, 16)), acc)
        tl.store(c, (i * 16, j * 16), acc)
        tl.store(size, (0,), tl.grid_size(0).to(tl.i32))
        tl.store(size, (1,), tl.grid_size(1).to(tl.i32))

    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (7 * 16 - 3, 20)).astype(np.float32), rng.integers(-4, 5, (20, 40)).astype(np.float32)
    c, size = np.full((len(a), 40), np.nan, np.float32), np.zeros(2, np.int32)
    product.on(engine)(a, b, c, size, raster=raster)
    np.testing.assert_array_equal(c, a @ b)
    assert size.tolist() == [7, 3]


@pytest.mark.parametrize("engine", ROUTES)
def test_batches_of_products_in_groups(engine: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((3, 1500, 16), (3, 16, 70)))
    c = np.full((3, 1500, 70), np.nan, np.float16)
    assert batched_matmul.compile("sm_80").metadata["raster"] == 10
    batched_matmul.on(engine)(a, b, c)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))


def test_groups_take_two_axes_and_no_order() -> None:
    @tl.jit
    def one_axis(x: tl.f32["N"]) -> None:
        tl.block(raster=4)
        i = tl.grid(tl.cdiv(x.shape[0], 64))
        tl.store(x, (i * 64,), tl.zeros((64,), tl.f32))

    @tl.jit
    def ordered(x: tl.i32["N"]) -> None:
        tl.block(raster=4)
        i, _ = tl.grid(x.shape[0], 2)
        tl.acquire(x, (0,), i.to(tl.i32))

    with pytest.raises(UserError, match="two or three axes"):
        one_axis.compile("sm_80")
    with pytest.raises(UserError, match="order of the grid"):
        ordered.compile("sm_80")
