"""Gathers of neighbours, which are one of words where memory has those whole, against NumPy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.guard_pages import last_bytes

TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
OTHERS = [np.float32, np.float64, np.int64]
"""Of which a word holds one at most."""
ROUTES = ["interpret", "cpu"]


@tl.jit
def neighbours(x: tl.u8["N"] | tl.i8["N"] | tl.u16["N"] | tl.i16["N"] | tl.f16["N"] | tl.bf16["N"] | tl.f8e4m3fn["N"]
               | tl.f32["N"] | tl.f64["N"] | tl.i64["N"], at: tl.i32["M"] | tl.i64["M"] | tl.u32["M"] | tl.i16["M"],
               y: tl.f32["K", "M"], first: int = 0, K: int = 3, B: int = 40):
    i = tl.grid(tl.cdiv(at.shape[0], B))
    index = tl.load(at, i * B, B)
    for k in tl.static_range(K):
        tl.store(y[k, :], i * B, tl.gather(x, (index + (first + k),)).to(tl.f32))


def expected(x: Any, at: Any, first: int, count: int) -> Any:
    places = at[None, :].astype(int) + first + np.arange(count)[:, None]
    inside = (places >= 0) & (places < len(x))
    return np.where(inside, x.astype("f")[np.clip(places, 0, len(x) - 1)], 0)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", TYPES + OTHERS)
def test_along_memory(dtype: Any, index: Any, engine: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, 500).astype(dtype)
    for low, high in ((0, 490), (-9, 510), (480, 505), (-(2**31), 2**31 - 9)):
        at = rng.integers(low, high, 130).astype(index)
        y = np.full((3, 130), np.nan, "f")
        neighbours.on(engine)(x, at, y)
        np.testing.assert_array_equal(y, expected(x, at, 0, 3))


@pytest.mark.sweep
@pytest.mark.parametrize("count", [2, 3, 4, 6])
@pytest.mark.parametrize("first", [-2, 0, 5])
def test_more_than_a_word(first: int, count: int) -> None:
    x = np.random.default_rng(0).integers(0, 255, 90).astype(np.uint8)
    at = np.arange(-12, 102, dtype=np.int32)
    y = np.full((count, len(at)), np.nan, "f")
    neighbours.on("cpu")(x, at, y, first=first, K=count)
    np.testing.assert_array_equal(y, expected(x, at, first, count))


@pytest.mark.parametrize("index", [np.int16, np.uint32])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_indices_that_wrap(dtype: Any, index: Any) -> None:
    """One after the greatest is the least."""
    x = np.arange(90).astype(dtype)
    at = np.array([0, 1, 86, 89, 90, 100, np.iinfo(index).max, np.iinfo(index).max - 1] * 9, index)
    for count in (1, 2):
        y = np.full((count, len(at)), np.nan, "f")
        neighbours.on("cpu")(x, at, y, K=count)
        places = np.stack([(at + index(k)).astype(index).astype(int) for k in range(count)])
        inside = (places >= 0) & (places < 90)
        np.testing.assert_array_equal(y, np.where(inside, x.astype("f")[np.clip(places, 0, 89)], 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 50])
def test_nothing_is_read_beyond_the_end(size: int, dtype: Any) -> None:
    with last_bytes() as array:
        x = array(size * np.dtype(dtype).itemsize).view(dtype)
        x[:] = np.arange(size)
        at = np.random.default_rng(0).integers(-3, size + 1, 77).astype(np.int32)
        y = np.full((3, 77), np.nan, "f")
        neighbours.on("cpu")(x, at, y)
        np.testing.assert_array_equal(y, expected(x, at, 0, 3) if size else 0)


@tl.jit
def pixels(x: tl.u8["I", "H", "W", "C"], rows: tl.i32["M"], columns: tl.i32["M"], y: tl.i32["M", "M"],
           image: tl.i32, top: tl.i32, height: tl.i32, limit: tl.i32, BM: int = 16):
    i, j = tl.grid(tl.cdiv(y.shape[0], BM), tl.cdiv(y.shape[1], BM))
    view = x[image, top : top + height, :, :]
    r, c = tl.load(rows, i * BM, BM)[:, None], tl.load(columns, j * BM, BM)[None, :]
    seen = (r < limit) & (c != 5)
    red, green, blue = (tl.gather(view, (r, c, k), mask=seen).to(tl.i32) for k in range(3))
    tl.store(y, (i * BM, j * BM), red + green * 256 + blue * 65536)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_of_a_view(channels: int, engine: str) -> None:
    """Indices that broadcast, masked, of a part of an array whose rows are apart; some channels may not be there."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (3, 12, 20, channels), dtype=np.uint8)[:, :, 2:17]
    rows, columns = rng.integers(-2, 9, 50).astype("i4"), rng.integers(-2, 17, 50).astype("i4")
    y = np.full((50, 50), -1, np.int32)
    pixels.on(engine)(x, rows, columns, y, 2, 3, 6, 5)
    view = np.zeros((6, 15, 3), int)
    view[..., : min(channels, 3)] = x[2, 3:9, :, :3]
    inside = ((rows >= 0) & (rows < 5))[:, None] & ((columns >= 0) & (columns < 15) & (columns != 5))[None, :]
    found = (view * (1, 256, 65536)).sum(-1)[np.clip(rows, 0, 5)][:, np.clip(columns, 0, 14)]
    np.testing.assert_array_equal(y, np.where(inside, found, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_that_run_backwards(dtype: Any) -> None:
    """Elements lie before the first one."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 100, 900).astype(dtype)[::-3]
    at, y = rng.integers(-2, 302, 130).astype("i4"), np.full((3, 130), np.nan, "f")
    neighbours.on("cpu")(x, at, y)
    np.testing.assert_array_equal(y, expected(x, at, 0, 3))
    image = rng.integers(0, 256, (3, 12, 15, 3), dtype=np.uint8)
    rows, columns = rng.integers(0, 6, 50).astype("i4"), rng.integers(0, 15, 50).astype("i4")
    found = np.zeros((2, 50, 50), np.int32)
    for z, array in zip(found, (image[::-1, ::-1], image[::-1, ::-1].copy()), strict=True):
        pixels.on("cpu")(array, rows, columns, z, 2, 3, 6, 5)
    assert found[1].any()
    np.testing.assert_array_equal(*found)


@tl.jit
def changed(x: tl.u8["N"], at: tl.i32["M"], y: tl.i32["M"], B: int = 64):
    tl.grid(1)
    index = tl.load(at, 0, B)
    before = tl.gather(x, (index,)).to(tl.i32) + tl.gather(x, (index + 1,)).to(tl.i32)
    tl.scatter(x, (index,), tl.full((B,), 7, tl.u8), mask=index >= 0)
    tl.store(y, 0, before * 256 + tl.gather(x, (index + 1,)).to(tl.i32))


@pytest.mark.parametrize("engine", ROUTES)
def test_memory_that_changes(engine: str) -> None:
    rng = np.random.default_rng(2)
    x, at, y = rng.integers(0, 100, 64).astype(np.uint8), rng.integers(0, 63, 64).astype("i4"), np.zeros(64, "i4")
    after = x.copy()
    after[at] = 7
    expected = (x[at].astype(int) + x[at + 1]) * 256 + after[at + 1]
    changed.on(engine)(x, at, y)
    np.testing.assert_array_equal(y, expected)


@tl.jit
def converted(x: ft["N"], y: it["N"], ft: tl.DType = tl.f32, it: tl.DType = tl.i32):
    i = tl.grid(tl.cdiv(x.shape[0], 64))
    tl.store(y, i * 64, tl.load(x, i * 64, 64).to(it))


EDGES = (0, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31 - 128, 2**31, 2**32)


@pytest.mark.parametrize("it", [tl.i8, tl.u8, tl.i16, tl.u16, tl.i32, tl.u32, tl.i64], ids=str)
@pytest.mark.parametrize("ft", [tl.f32, tl.f64], ids=str)
def test_floats_become_integers(ft: tl.DType, it: tl.DType) -> None:
    """Vectors of them: toward zero, saturating, NaN to 0."""
    rng = np.random.default_rng(0)
    near = np.array([s * n + d for n in EDGES for d in (-1, -0.5, 0, 0.5, 1) for s in (-1, 1)])
    x = np.concatenate([rng.standard_normal(500) * 10.0 ** rng.integers(-3, 12, 500), near, [np.nan, np.inf, -np.inf]])
    x = x.astype(ft.numpy)
    y = np.zeros(len(x), it.numpy)
    converted.on("cpu")(x, y, ft=ft, it=it)
    exact = [0 if np.isnan(v) else max(it.min_value, min(it.max_value, int(np.clip(v, -1e30, 1e30)))) for v in x]
    assert y.tolist() == exact
