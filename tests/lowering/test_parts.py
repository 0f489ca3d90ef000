"""Tiles put together of parts: in registers where every thread has its share of each, else through shared memory."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl

ENGINES = ("cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_75:ptx")


@tl.jit
def pairs(x: dtype["M", "N"], y: dtype["M", "N"], dtype: tl.DType = tl.f16, M: int = 16, N: int = 64) -> None:
    """Neighbours change places."""
    tl.grid(1)
    a, b = tl.split(tl.load(x, (0, 0), (M, N)).reshape(M, N // 2, 2), 2, axis=2)
    tl.store(y, (0, 0), tl.concatenate([b, a], axis=2).reshape(M, N))


@tl.jit
def halves(x: dtype["M", "N"], y: dtype["M", "N"], dtype: tl.DType = tl.f16, M: int = 16, N: int = 64,
           axis: int = 0) -> None:
    """Parts in the opposite order."""
    tl.grid(1)
    parts = tl.split(tl.load(x, (0, 0), (M, N)), 4, axis=axis)
    tl.store(y, (0, 0), tl.concatenate(parts[::-1], axis=axis))


@tl.jit
def twice(x: dtype["M", "N"], y: dtype["M", "W"], dtype: tl.DType = tl.f16, M: int = 16, N: int = 64) -> None:
    """One tile is several parts."""
    tl.grid(1)
    tile = tl.load(x, (0, 0), (M, N))
    tl.store(y, (0, 0), tl.concatenate([tile, tile], axis=1))


@tl.jit
def inserted(x: dtype["M", "N"], y: dtype["M", "N"], dtype: tl.DType = tl.f16, M: int = 16, N: int = 64,
             rows: int = 8, start: int = 8) -> None:
    tl.grid(1)
    tile = tl.load(x, (0, 0), (M, N))
    tl.store(y, (0, 0), tl.insert(tile, tl.load(x, (0, 0), (rows, N)), (start, 0)))


def tile(dtype: tl.DType) -> np.ndarray:
    return (np.arange(16 * 64) % 251).reshape(16, 64).astype({tl.f16: "f2", tl.f32: "f4", tl.u8: "u1"}[dtype])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [tl.f16, tl.f32, tl.u8], ids=str)
def test_pairs(dtype: tl.DType, engine: str) -> None:
    x = tile(dtype)
    y = np.zeros_like(x)
    pairs.on(engine)(x, y, dtype)
    np.testing.assert_array_equal(y, x.reshape(16, 32, 2)[:, :, ::-1].reshape(16, 64))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
def test_halves(axis: int, engine: str) -> None:
    x = tile(tl.f16)
    y = np.zeros_like(x)
    halves.on(engine)(x, y, axis=axis)
    np.testing.assert_array_equal(y, np.concatenate(np.split(x, 4, axis)[::-1], axis))


@pytest.mark.parametrize("engine", ENGINES)
def test_one_tile_twice(engine: str) -> None:
    x = tile(tl.f16)
    y = np.zeros((16, 128), x.dtype)
    twice.on(engine)(x, y)
    np.testing.assert_array_equal(y, np.concatenate([x, x], 1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("rows", "start"), [(8, 8), (8, 0), (3, 5), (16, 0)])
def test_inserts(rows: int, start: int, engine: str) -> None:
    x = tile(tl.f16)
    y = np.zeros_like(x)
    inserted.on(engine)(x, y, rows=rows, start=start)
    wanted = x.copy()
    wanted[start : start + rows] = x[:rows]
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("route", ["ptx", "cuda"])
def test_pairs_stay_in_registers(route: str) -> None:
    ptx = pairs.compile(target="sm_80", via=route).ptx
    assert ".shared." not in ptx
    assert "bar.sync" not in ptx
