"""Tiles that reach far beyond their arrays: what is one and the same from an index on is computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cpu.lang import tl
from tests.cpu.support import run


def reduced(x: tl.f32["M", "N"], sums: tl.f32["R", "M"], at: tl.i64["Q", "M"], flags: tl.bool_["Q", "M"],
            BN: int = 256):
    i = tl.grid(x.shape[0])
    n = x.shape[1]
    columns = tl.arange(0, BN)
    v = tl.load(x, (i, 0), (1, BN))[0, :]
    low = tl.load(x, (i, 0), (1, BN), other=-float("inf"))[0, :]
    ones = tl.where(columns < n, v, 1.0)
    late = tl.where(columns >= n, 2.0, v)
    results = (tl.sum(v), tl.max(low), tl.sum(tl.exp(v)), tl.sum(tl.exp(low)), tl.prod(ones), tl.sum(late),
               tl.min(late), tl.sum(tl.where(n > columns, v, float("inf"))), tl.max(tl.where(columns == n, 5.0, low)))
    for r in tl.static_range(9):
        sums[r, i] = results[r]
    at[0, i] = tl.argmax(v)
    at[1, i] = tl.argmin(tl.where(columns <= n, -v, -100.0))
    flags[0, i] = tl.all(columns < n)
    flags[1, i] = tl.any(v > 3.0)


@pytest.mark.parametrize("n", [1, 3, 16, 17, 100, 255, 256])
def test_reductions_of_rows_shorter_than_tiles(n: int) -> None:
    x = np.random.default_rng(n).uniform(0.5, 1.5, (5, n)).astype("f")
    x[1] = -x[1]
    x[2, -1] = 4
    wide = np.zeros((5, 256), "f")
    wide[:, :n] = x
    low, late = np.full((5, 256), -np.inf, "f"), np.full((5, 256), 2, "f")
    low[:, :n] = late[:, :n] = x
    marked = low.copy()
    marked[:, n : n + 1] = 5
    sums, at, flags = np.zeros((9, 5), "f"), np.zeros((2, 5), "i8"), np.zeros((2, 5), "?")
    run(reduced, x=x, sums=sums, at=at, flags=flags, BN=256)
    expected: list[Any] = [wide.sum(1), low.max(1), np.exp(wide).sum(1), np.exp(low).sum(1), x.prod(1), late.sum(1),
                           late.min(1), np.full(5, np.inf) if n < 256 else x.sum(1), marked.max(1)]
    for r, e in enumerate(expected):
        np.testing.assert_allclose(sums[r], e, rtol=1e-5, atol=1e-5, err_msg=str(r))
    negative = np.where(np.arange(256) <= n, -wide, -100)
    np.testing.assert_array_equal(at, [wide.argmax(1), negative.argmin(1)])
    np.testing.assert_array_equal(flags, [np.full(5, n == 256), (wide > 3).any(1)])


def integers(x: tl.i32["M", "N"], out: tl.i32["R", "M"], first: tl.i32, BM: int = 4, BN: int = 128):
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    v = tl.load(x, (i, 0), (BM, BN), other=7)
    columns = tl.arange(0, BN, dtype=tl.i32)[None, :] + first
    tl.store(out[0], i, tl.sum(v, 1))
    tl.store(out[1], i, tl.max(v, 1))
    tl.store(out[2], i, tl.sum(tl.where(columns < x.shape[1], v, 3), 1))
    tl.store(out[3], i, tl.min(v * 2 - 1, 1))


@pytest.mark.parametrize("n", [1, 16, 40, 128])
@pytest.mark.parametrize("first", [-5, 0, 20, (1 << 31) - 64])
def test_sums_of_integers(n: int, first: int) -> None:
    x = np.random.default_rng(n).integers(-9, 9, (6, n)).astype("i4")
    out = np.zeros((4, 6), "i4")
    run(integers, x=x, out=out, first=first)
    wide = np.full((6, 128), 7, "i4")
    wide[:, :n] = x
    columns = (np.arange(128) + first).astype("i4")  # it wraps around
    expected = [wide.sum(1), wide.max(1), np.where(columns < n, wide, 3).sum(1), (2 * wide - 1).min(1)]
    np.testing.assert_array_equal(out, expected)


def repeated(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 8, BN: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    total = tl.zeros((BM, 1), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        total += tl.sum(tl.load(x, (i, j), (BM, BN)), 1, keepdims=True)
    wide = tl.broadcast_to(total, (BM, BN))
    for _ in tl.range(2):
        for j in tl.range(0, x.shape[1], BN):
            tl.store(y, (i, j), tl.load(x, (i, j), (BM, BN)) + wide)
        total += 1.0
        tl.store(y, (i, x.shape[1] - 1), total)


def test_a_repeated_row_is_as_it_was_when_it_is_changed_later() -> None:
    x = np.random.default_rng(0).standard_normal((21, 100)).astype("f")
    y = np.zeros_like(x)
    run(repeated, x=x, y=y)
    expected = x + x.sum(1, keepdims=True)
    expected[:, -1] = x.sum(1) + 2
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


def right_half(x: tl.f32["M", "N"], y: tl.f32["M", "K"]):
    i = tl.grid(x.shape[0])
    v = tl.load(x, (i, 0), (1, 256), other=3.0)
    tl.store(y, (i, 0), v[:, 128:] + tl.load(x, (i, 128), (1, 128), other=3.0))


def test_a_part_of_a_tile_ends_earlier() -> None:
    x = np.random.default_rng(0).standard_normal((3, 200)).astype("f")
    y = np.zeros((3, 100), "f")
    run(right_half, x=x, y=y)
    np.testing.assert_array_equal(y, np.pad(2 * x[:, 128:], [(0, 0), (0, 28)], constant_values=6))


def turned(x: tl.f32["M", "N"], y: tl.f32["N", "M"], BM: int = 32, BN: int = 48):
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    tl.store(y, (j * BN, i * BM), tl.load(x, (i * BM, j * BN), (BM, BN)).T * 2.0)


@pytest.mark.parametrize("shape", [(1, 1), (100, 3), (3, 100), (32, 48), (50, 70), (47, 16), (129, 33)], ids=str)
@pytest.mark.parametrize("blocks", [(32, 48), (20, 17), (8, 64)], ids=str)
def test_transposed_tiles(shape: tuple[int, int], blocks: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    y = np.zeros((shape[1] + 1, shape[0] + 1), "f")[:-1, :-1]
    run(turned, x=x, y=y, BM=blocks[0], BN=blocks[1])
    np.testing.assert_array_equal(y, 2 * x.T)
    assert not y.base[-1].any()
    assert not y.base[:, -1].any()


def kept(x: tl.f32["M", "N"], y: tl.f32["M", "K"], sums: tl.f32["R", "M"], BM: int = 2, BN: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    e = tl.exp(tl.load(x, (i, 0), (BM, BN)) - 1.0)  # used several times: it is in a buffer
    total = tl.sum(e, axis=1, keepdims=True)
    tl.store(y, (i, 0), e / total)
    tl.store(sums[0], i, tl.max(e * e, axis=1))
    tl.store(sums[1], i, tl.sum(tl.where(tl.arange(BN)[None, :] < x.shape[1], e, 0.5), axis=1))
    for k in tl.range(2):
        e = e + tl.load(x, (i, 0), (BM, BN), other=2.0) * (k + 1)
    tl.store(sums[2], i, tl.sum(e, axis=1))


@pytest.mark.parametrize("n", [1, 16, 30, 200, 256])
@pytest.mark.parametrize("wide", [100, 256, 300])
def test_tiles_that_are_kept(n: int, wide: int) -> None:
    x = np.random.default_rng(n).uniform(-1, 1, (5, n)).astype("f")
    y, sums = np.full((5, wide), 7, "f"), np.zeros((3, 5), "f")
    run(kept, x=x, y=y, sums=sums)
    e = np.exp(np.pad(x, [(0, 0), (0, 256 - n)]).astype("d") - 1)
    expected = np.full((5, wide), 7.0)
    expected[:, :256] = (e / e.sum(1, keepdims=True))[:, :wide]
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(sums[0], (e * e).max(1), rtol=1e-5)
    np.testing.assert_allclose(sums[1], e[:, :n].sum(1) + 0.5 * (256 - n), rtol=1e-5)
    later = e + 3 * np.pad(x, [(0, 0), (0, 256 - n)], constant_values=2)
    np.testing.assert_allclose(sums[2], later.sum(1), rtol=1e-5)
