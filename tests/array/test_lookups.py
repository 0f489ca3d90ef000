"""Indexing by arrays of integers, positions of extrema, scans, and arrays from extents, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

Array = Any
ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.fuse
def embedding(w, i, b):
    return w[i] * 2 + b


@tl.fuse
def pairs(w, i, j):
    return w[i, j]


@tl.fuse
def columns(w, i):
    return tl.tanh(w)[1:, i]


@tl.fuse
def along(w, i):
    return tl.take(w, i, 1)


@tl.fuse
def extrema(x):
    return tl.argmax(x, 1), tl.argmin(x, 0), tl.argmax(x), tl.argmax(x, 1, propagate_nan=True)


@tl.fuse
def scans(x):
    return tl.cumsum(x, 1), tl.cumsum(tl.tanh(x), 0, reverse=True), tl.cummax(x * 2, 1) + 1, tl.cumprod(x, 1)


@tl.fuse
def scans_of_more_dimensions(x):
    y = tl.exp(x)
    return tl.cumsum(y, 0), tl.cumsum(y / tl.sum(y, axis=2, keepdims=True), 2)


@tl.fuse
def scan_beside_reductions(x):
    y = x - tl.sum(x, axis=1, keepdims=True)
    return tl.cumsum(y - tl.max(y, axis=0), 0)


@tl.fuse
def lower_rows(x):
    n = x.shape[1]
    i, j = tl.arange(n), tl.arange(n)
    return tl.where(i[:, None] >= j[None, :], tl.broadcast_to(x[0], (n, n)), tl.full((n, n), -1.0))


def check(found: Any, *wanted: Array) -> None:
    for value, expected in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
        assert np.shape(value) == np.shape(expected)
        assert np.linalg.norm(value - expected) <= 1e-6 * np.linalg.norm(expected)


def normal(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_indices(engine: str, dtype: Any) -> None:
    w, i = normal(30, 50), np.random.default_rng(1).integers(0, 30, (4, 5)).astype(dtype)
    check(embedding.on(engine)(w, i, w[0]), w[i] * 2 + w[0])
    check(pairs.on(engine)(w, i[0], i[1]), w[i[0], i[1]])
    check(columns.on(engine)(w, i), np.tanh(w.astype("d"))[1:, i])
    k = np.random.default_rng(2).integers(0, 50, (30, 7)).astype(dtype)
    check(along.on(engine)(w, k), np.take_along_axis(w, k, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_index_outside_gives_0(engine: str) -> None:
    w, i = normal(6, 9), np.array([5, 6, -1, 0, 1 << 30], np.int32)
    check(embedding.on(engine)(w, i, np.zeros(9, "f")), np.where((i >= 0) & (i < 6), 2, 0)[:, None] * w[i % 6])


@pytest.mark.parametrize("engine", ENGINES)
def test_extrema(engine: str) -> None:
    x = np.round(normal(7, 300) * 4) / 4  # with equals
    found = extrema.on(engine)(x)
    check(found, x.argmax(1), x.argmin(0), x.argmax(), x.argmax(1))
    x[2, 40], x[3] = np.nan, np.nan
    rows, _, _, first_nan = extrema.on(engine)(x)
    assert rows[2] == np.nanargmax(x[2])
    assert rows[3] == 0
    assert (first_nan[2], first_nan[3]) == (40, 0)


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(5, 70), (1, 300), (40, 1), (3, 0)])
def test_scans(engine: str, shape: tuple[int, int]) -> None:
    x = normal(*shape)
    d = x.astype("d")
    check(scans.on(engine)(x), d.cumsum(1), np.tanh(d)[::-1].cumsum(0)[::-1], np.maximum.accumulate(d * 2, 1) + 1,
          d.cumprod(1))


@pytest.mark.parametrize("engine", ENGINES)
def test_scans_of_more_dimensions(engine: str) -> None:
    x = normal(3, 4, 21)
    y = np.exp(x.astype("d"))
    check(scans_of_more_dimensions.on(engine)(x), y.cumsum(0), (y / y.sum(2, keepdims=True)).cumsum(2))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scan_of_what_another_dimension_is_reduced_for(engine: str) -> None:
    x = normal(9, 7)
    y = x.astype("d") - x.astype("d").sum(1, keepdims=True)
    check(scan_beside_reductions.on(engine)(x), (y - y.max(0)).cumsum(0))


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_of_extents(engine: str) -> None:
    x = normal(2, 19)
    check(lower_rows.on(engine)(x), np.where(np.tril(np.ones((19, 19), bool)), x[0], -1.0))
