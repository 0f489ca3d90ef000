"""Scans: runs in threads, lanes by shuffles, warps by shared memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import tilus as tl
from benchmarks.gpu_code import innermost_loops, instructions, opcode
from tilus.lowering.scan_layouts import scan_layout

SHAPES = [(16, 32), (64, 64), (17, 59), (300, 3), (5, 2), (1, 1000), (8, 256)]


@tl.jit
def running_sums(x: tl.f32["M", "N"], y: tl.f32["M", "N"], z: tl.f32["M", "N"], M: int, N: int, axis: int,
                 warps: int = 4) -> None:
    tl.block(warps=warps)
    i = tl.grid(1)
    tile = tl.load(x, (i * M, 0), (M, N))
    tl.store(y, (i * M, 0), tl.cumsum(tile, axis=axis))
    tl.store(z, (i * M, 0), tl.cumsum(tile, axis=axis, reverse=True))


def older(x: tl.Tile, y: tl.Tile) -> tl.Tile:
    """Not commutative: the last number that is not 0."""
    return tl.where(y != 0, y, x)


@tl.jit
def last_numbers(x: tl.i32["M", "N"], y: tl.i32["M", "N"], M: int, N: int, axis: int, warps: int = 4) -> None:
    tl.block(warps=warps)
    i = tl.grid(1)
    tl.store(y, (i * M, 0), tl.scan(tl.load(x, (i * M, 0), (M, N)), axis, older))


@pytest.mark.parametrize("warps", [1, 3, 4])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_thread_has_one_run(shape: tuple[int, int], axis: int, warps: int) -> None:
    layout = scan_layout(shape, axis, 32 * warps)
    assert layout.covers(shape)
    assert layout.num_threads == 32 * warps
    places = sorted({index[axis] for index in layout.local_indices})
    assert places == list(range(len(places)))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape: tuple[int, int], axis: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, z = np.empty_like(x), np.empty_like(x)
    running_sums.on("simulate:sm_80")(x, y, z, M=shape[0], N=shape[1], axis=axis)
    np.testing.assert_allclose(y, np.cumsum(x, axis, np.float64), atol=1e-4)
    np.testing.assert_allclose(z, np.flip(np.cumsum(np.flip(x, axis), axis, np.float64), axis), atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_order(shape: tuple[int, int], axis: int) -> None:
    rng = np.random.default_rng(1)
    x = (rng.integers(1, 100, shape) * (rng.random(shape) < 0.1)).astype(np.int32)
    y = np.empty_like(x)
    last_numbers.on("simulate:sm_80")(x, y, M=shape[0], N=shape[1], axis=axis)
    expected = x.copy()
    for n in range(1, shape[axis]):
        here, before = (expected[n], expected[n - 1]) if axis == 0 else (expected[:, n], expected[:, n - 1])
        here[here == 0] = before[here == 0]
    np.testing.assert_array_equal(y, expected)


def test_signs_of_zeros() -> None:
    """What comes before the first element changes nothing."""
    x = np.full((64, 4), -0.0, np.float32)
    y, z = np.empty_like(x), np.empty_like(x)
    running_sums.on("simulate:sm_80")(x, y, z, M=64, N=4, axis=0)
    assert np.signbit(y).all()
    assert np.signbit(z).all()


def found(via: str, M: int, N: int, axis: int) -> tuple[Counter[str], list[Any]]:
    """Instructions by opcode, and the loops."""
    sass = running_sums.compile("sm_80", via, M=M, N=N, axis=axis).sass()
    return Counter(opcode(t) for _, t in instructions(sass)), innermost_loops(sass)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("axis", "shuffles"), [(0, 2), (1, 16)])
def test_lanes_are_enough(via: str, axis: int, shuffles: int) -> None:
    """Columns of 64 are divided between two lanes; of rows, a thread has 8 elements of each of four."""
    opcodes, loops = found(via, 64, 64, axis)
    assert not loops
    assert opcodes["SHFL"] == 2 * shuffles


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_long_rows_meet_by_warps(via: str) -> None:
    """Of 1024 elements, each thread has 8: 5 steps of shuffles and one more, then the totals of the warps before."""
    opcodes, loops = found(via, 1, 1024, 1)
    assert len(loops) == 2
    assert opcodes["SHFL"] == 12
