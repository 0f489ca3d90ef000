"""Accesses to neighbours of a tile: addresses, bounds and elements that they have in common are there once."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl


@tl.jit
def neighbours(x: tl.f32["H", "W"], y: tl.f32["H", "W"], BM: int = 16, BN: int = 64, by: int = 1) -> None:
    """x(i − by, j) + x(i, j) + x(i + by, j) + x(i, j − 1) + x(i, j + 1), zeros beyond the image."""
    H, W = x.shape
    i, j = tl.grid(tl.cdiv(H, BM), tl.cdiv(W, BN))
    total = tl.zeros((BM, BN), tl.f32)
    for di, dj in ((-by, 0), (0, 0), (by, 0), (0, -1), (0, 1)):
        total += tl.load(x, (i * BM + di, j * BN + dj), (BM, BN))
    tl.store(y, (i * BM, j * BN), total)


def reference(x: Any, by: int) -> Any:
    wide = np.pad(x, by)
    rows, columns = (slice(by, by + n) for n in x.shape)
    parts = [np.roll(wide, (-di, -dj), (0, 1)) for di, dj in ((-by, 0), (0, 0), (by, 0), (0, -1), (0, 1))]
    return sum(parts)[rows, columns]


@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_75:cuda", "cpu"])
@pytest.mark.parametrize(("shape", "tile", "by"), [((33, 70), (16, 64), 1), ((5, 3), (8, 8), 2),
                                                   ((40, 129), (4, 128), 3)])
def test_values(shape: tuple[int, int], tile: tuple[int, int], by: int, engine: str) -> None:
    x = np.random.default_rng(0).integers(-50, 50, shape).astype(np.float32)
    y = np.zeros_like(x)
    neighbours.on(engine)(x, y, BM=tile[0], BN=tile[1], by=by)
    np.testing.assert_array_equal(y, reference(x, by))


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_what_neighbours_share_is_there_once(via: str) -> None:
    """Of rows two apart a thread has eight; those above and below are nine others, of which each is loaded once."""
    sass = neighbours.compile("sm_80", via, assume="contiguous").sass()
    assert len(re.findall(r"\bLDG\.", sass)) == 8 + 9 + 2 * 8


@tl.jit
def written(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    first = tl.load(y, 0, 128)
    tl.store(y, 0, tl.load(x, 0, 128))
    tl.store(x, 0, tl.load(y, 0, 128) + first)


def test_memory_that_is_written_is_loaded_again() -> None:
    x, y = (np.full(128, n, np.float32) for n in (1, 2))
    written.on("simulate:sm_80:ptx")(x, y)
    np.testing.assert_array_equal(x, 3)
