"""Sorted rows against NumPy: all extents and types, equal elements, NaNs, producers and consumers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

import tilus as tl

Array = Any
ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_90a:ptx")


@tl.fuse
def ordered(x, axis: int = -1, descending: bool = False):
    return tl.sort(x, axis, descending=descending), tl.argsort(x, axis, descending=descending)


@tl.fuse
def first(x, k: int, axis: int = -1, largest: bool = True):
    return tl.topk(x, k, axis, largest=largest)


@tl.fuse
def median_of_products(a, b):
    x = tl.sort(tl.tanh(a @ b), axis=0)
    return x[x.shape[0] // 2] * 2, tl.sum(x * x, axis=1)


@tl.fuse
def weights_of_the_best(x, k: int):
    p = tl.exp(x - tl.max(x, axis=1, keepdims=True))
    values, indices = tl.topk(p / tl.sum(p, axis=1, keepdims=True), k)
    return values / tl.sum(values, axis=1, keepdims=True), indices + 1


def with_equals(*shape: int) -> Array:
    return np.round(np.random.default_rng(sum(shape)).standard_normal(shape, np.float32) * 8) / 4


def check(x: Array, found: tuple[Array, Array], axis: int = -1, descending: bool = False, k: int | None = None) -> None:
    """Of floats, with NaNs beyond all, or of other numbers."""
    values, indices = found
    key = np.where(x == x, x, np.inf) if x.dtype.kind == "f" else x.astype("i8") if x.dtype != np.uint64 else x
    if x.dtype.kind == "f":
        key = np.stack([np.isnan(x), key])
        places = np.lexsort((-key[1], -key[0]) if descending else (key[1], key[0]), axis=axis)
    else:
        places = np.argsort(~key if descending else key, axis=axis, kind="stable")
    places = np.take(places, range(places.shape[axis] if k is None else k), axis)
    assert indices.dtype == np.int64
    assert values.dtype == x.dtype
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(values, np.take_along_axis(x, places, axis))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(5, 40), (3, 0), (0, 3), (6, 1), (1, 7), (2, 3, 33), (129,), (70, 4)], ids=str)
def test_short_rows(engine: str, shape: tuple[int, ...]) -> None:
    x = with_equals(*shape)
    check(x, ordered.on(engine)(x))
    check(x, ordered.on(engine)(x, descending=True), descending=True)
    if len(shape) == 3:
        check(x, ordered.on(engine)(x, 1), 1)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("extent", [1024, 1025, 2048, 5000])
def test_long_rows(engine: str, extent: int) -> None:
    x = with_equals(2 if engine in ("interpret", "cpu") else 1, extent)
    check(x, ordered.on(engine)(x))


def test_very_long_rows() -> None:
    x = with_equals(2, 70_001)
    check(x, ordered(x, descending=True), descending=True)


@pytest.mark.parametrize("engine", ENGINES[:4])
def test_numbers_that_are_special(engine: str) -> None:
    x = np.array([[1, np.nan, -0.0, np.inf, 0.0, -np.inf, np.nan, -2, 1e-45, -1e-45]], "f").repeat(2, 0)
    found = ordered.on(engine)(x)
    check(x, found)
    assert (np.signbit(found[0]) == np.signbit(np.take_along_axis(x, found[1], 1)))[~np.isnan(found[0])].all()
    check(x, ordered.on(engine)(x, descending=True), descending=True)
    check(x, first.on(engine)(x, 4), descending=True, k=4)
    check(x, first.on(engine)(x, 3, largest=False), k=3)


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("engine", ENGINES[:3])
@pytest.mark.parametrize("dtype", ["f2", "d", "i1", "u1", "i4", "u4", "i8", "u8", "?"])
def test_types(engine: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    if dtype in ("f2", "d"):
        x = rng.standard_normal((3, 50)).astype(dtype)
    elif dtype == "?":
        x = rng.random((3, 50)) < 0.5
    else:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (3, 50), dtype, endpoint=True)
        x[:, 7], x[:, 9], x[1] = info.min, info.max, x[1] // 16
    check(x, ordered.on(engine)(x))
    check(x, first.on(engine)(x, 3), descending=True, k=3)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("k", [1, 4, 20])
def test_the_greatest(engine: str, k: int) -> None:
    x = with_equals(7, 90)
    check(x, first.on(engine)(x, k), descending=True, k=k)
    check(x.T, first.on(engine)(x.T, k, 0), 0, descending=True, k=k)
    check(x, first.on(engine)(x, k, largest=False), k=k)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_greatest_of_long_rows(engine: str) -> None:
    x = with_equals(2, 2500)
    for k in (0, 2, 9, 130) if engine == "cpu" else (9,):
        check(x, first.on(engine)(x, k), descending=True, k=k)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_producers_and_consumers(engine: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((33, 8), np.float32), rng.standard_normal((8, 20), np.float32)
    y = np.sort(np.tanh(a.astype("d") @ b), 0)
    middle, squares = median_of_products.on(engine)(a, b)
    np.testing.assert_allclose(middle, y[16] * 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(squares, (y * y).sum(1), rtol=1e-5, atol=1e-6)
    x = rng.standard_normal((9, 64), np.float32)
    values, indices = weights_of_the_best.on(engine)(x, 3)
    wanted = np.argsort(-x, 1)[:, :3]
    p = np.exp(np.take_along_axis(x, wanted, 1).astype("d"))
    np.testing.assert_array_equal(indices, wanted + 1)
    np.testing.assert_allclose(values, p / p.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES[:3])
def test_bf16(engine: str) -> None:
    x = with_equals(3, 60)
    values, indices = ordered.on(engine)(x.astype(bfloat16))
    places = np.argsort(x.astype(bfloat16).astype("f"), 1, kind="stable")
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(values, np.take_along_axis(x.astype(bfloat16), places, 1))


@tl.fuse
def sorted_rows(x, i):
    y = tl.sort(x.reshape(x.shape[0], -1), axis=1)
    return tl.scatter_add(y, i, 1.0), tl.topk(y, 3)[0]


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_rows_of_another_shape_that_several_kernels_read(engine: str) -> None:
    x, i = np.random.default_rng(0).standard_normal((3, 4, 5), np.float32), np.array([2, 0, 2])
    wanted = np.sort(x.reshape(3, -1), 1)
    added = wanted.copy()
    np.add.at(added, i, 1.0)
    found, best = sorted_rows.on(engine)(x, i)
    np.testing.assert_allclose(found, added, rtol=1e-6)
    np.testing.assert_array_equal(best, wanted[:, :-4:-1])
