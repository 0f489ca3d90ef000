"""tl.grid_sync on GPUs: a barrier of all blocks, seen by the simulator's memory model as one."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl

ENGINES = ("interpret", "cpu", "simulate:sm_70:cuda", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.jit
def rotate(x: tl.i32["N"], y: tl.i32["N"], rounds: tl.i32, B: int = 64):
    """Each block adds its neighbour's part to its own, again and again: every round reads what others wrote."""
    i = tl.grid(x.shape[0] // B)
    tl.block(cooperative=True)
    n = x.shape[0] // B
    for r in tl.range(rounds):
        there = tl.load(x, (i + 1) % n * B, B)
        tl.store(y, i * B, tl.load(x, i * B, B) + there)
        tl.grid_sync()
        tl.store(x, i * B, tl.load(y, i * B, B) + r.to(tl.i32))
        tl.grid_sync()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_rounds(engine: str, blocks: int) -> None:
    x = np.arange(64 * blocks, dtype=np.int32) % 11
    y, expected = np.zeros_like(x), x.copy()
    for r in range(4):
        expected = expected + np.roll(expected, -64) + r
    rotate.on(engine)(x, y, 4)
    np.testing.assert_array_equal(x, expected)


@tl.jit
def transpose_sums(x: tl.f32["M", "N"], sums: tl.f32["P", "Q"], total: tl.f32["One"]):
    """A grid of two axes; block (0, 0) sums what the others found."""
    i, j = tl.grid(3, 4)
    tl.block(cooperative=True, warps=2)
    sums[i, j] = tl.sum(tl.load(x, (i * 16, j * 16), (16, 16)))
    tl.grid_sync()
    if (i == 0) & (j == 0):
        total[0] = tl.sum(tl.load(sums, (0, 0), (3, 4)))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_axes(engine: str) -> None:
    x = np.arange(48 * 64, dtype=np.float32).reshape(48, 64) % 17
    sums, total = np.zeros((3, 4), np.float32), np.zeros(1, np.float32)
    transpose_sums.on(engine)(x, sums, total)
    assert total[0] == x.sum()


def test_blocks_that_are_not_resident_together() -> None:
    x = np.zeros(64 * 40000, np.int32)
    with pytest.raises(tl.UserError, match="at once") as caught:
        rotate.on("simulate:sm_80")(x, x.copy(), 1)
    assert "E0606" in str(caught.value)
