"""Scatters against NumPy: rows and elements, equal indices and those outside, producers, types and reuse of results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

import tilus as tl

Array = Any
ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_90a:ptx")


@tl.fuse
def add_rows(x, i, u):
    return tl.scatter_add(x, i, u)


@tl.fuse
def add_columns(x, i, u):
    return tl.scatter_add(tl.tanh(x), i * 2, tl.exp(u) + 1, axis=1) * 2


@tl.fuse
def add_elements(x, i, u, axis: int = 1):
    return tl.scatter_add(x, i, u, axis)


@tl.fuse
def histogram(i, n: int):
    return tl.scatter_add(tl.zeros(n, tl.i32), i, 1)


@tl.fuse
def put_rows(x, i, u):
    return tl.scatter(x, i, u)


@tl.fuse
def put_elements(x, i, u, axis: int = 1):
    return tl.scatter(x, i, u, axis)


@tl.fuse
def read_again(x, i, u):
    y = tl.scatter_add(x, i, u)
    z = tl.scatter_add(y, i + 1, y[: u.shape[0]])
    return y, z, tl.sum(z, axis=0), y.reshape(-1), y * z


@tl.fuse
def of_products(x, i, a, b):
    return tl.scatter_add(x, i, tl.relu(a @ b)), tl.sum(tl.scatter_add(tl.zeros(x.shape), i, tl.exp(a @ b)), axis=1)


@tl.fuse
def at_places(x, i, j, u, v):
    return x.at[i, j].add(u * 2), x.at[:, i].set(v), tl.exp(x).at[i].add(1) * 2, x.at[i % 3, :].add(v[0, 0])


@tl.fuse
def at_pairs(x, i, j, u):
    return x.at[i, j].add(u)


def added(x: Array, key: Any, u: Array) -> Array:
    found = np.array(x, np.int64 if x.dtype.kind in "iub" else np.float64)
    np.add.at(found, key, u)
    return found


def check(found: Array, wanted: Array, tolerance: float = 1e-6) -> None:
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def integers(low: int, high: int, *shape: int) -> Array:
    return np.random.default_rng(len(shape)).integers(low, high, shape)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(9, 33), (1, 5), (4, 1), (5, 0)])
def test_rows_and_columns(engine: str, shape: tuple[int, int]) -> None:
    x, i = normal(*shape), integers(0, shape[0], 20)
    u, k = normal(20, shape[1]), integers(0, max(1, shape[1]), 7)
    check(add_rows.on(engine)(x, i, u), added(x, i, u))
    found = np.tanh(x.astype("d"))
    inside = np.flatnonzero(k * 2 < shape[1])
    v = normal(shape[0], 7)
    np.add.at(found, (slice(None), k[inside] * 2), np.exp(v.astype("d"))[:, inside] + 1)
    check(add_columns.on(engine)(x, k, v), found * 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_places(engine: str) -> None:
    x, i, j = normal(9, 9), np.array([3, 1, 7]), np.array([2, 2, 0])
    u, v = normal(3), normal(9, 3)
    placed = x.copy()
    placed[:, i] = v
    found = at_places.on(engine)(x, i, j, u, v)
    wanted = (added(x, (i, j), u * 2), placed, added(np.exp(x), i, 1.0) * 2, added(x, i % 3, v[0, 0]))
    for mine, theirs in zip(found, wanted, strict=True):
        check(mine, theirs)
    several = integers(0, 9, 4, 2)
    check(at_pairs.on(engine)(x, several, several[:, :1], normal(4, 2)), added(x, (several, several[:, :1]),
                                                                                normal(4, 2)))


@pytest.mark.parametrize("engine", ENGINES)
def test_elements(engine: str) -> None:
    x, i, u = normal(6, 9, 5), integers(0, 9, 6, 13, 5), normal(6, 13, 5)
    rows, _, columns = np.indices(i.shape)
    check(add_elements.on(engine)(x, i, u), added(x, (rows, i, columns), u))
    check(add_elements.on(engine)(x, i[:4, :, :3].astype("i"), u[:4, :, :3]), added(
        x, (rows[:4, :, :3], i[:4, :, :3], columns[:4, :, :3]), u[:4, :, :3]))
    places = np.argsort(normal(6, 9, 5), axis=1)
    wanted = x.copy()
    np.put_along_axis(wanted, places[:, :4], u[:, :4], 1)
    check(put_elements.on(engine)(x, places[:, :4], u[:, :4]), wanted)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_index_outside_is_left_out(engine: str) -> None:
    x, u = normal(4, 3), normal(5, 3)
    i = np.array([3, -1, 4, 0, 1 << 33])
    check(add_rows.on(engine)(x, i, u), added(x, i[[0, 3]], u[[0, 3]]))
    wanted = x.copy()
    wanted[[3, 0]] = u[[0, 3]]
    check(put_rows.on(engine)(x, i, u), wanted)


@pytest.mark.parametrize("engine", ENGINES)
def test_of_equal_indices_one_is_put(engine: str) -> None:
    x, i, u = normal(8), integers(0, 4, 3000), normal(3000)
    found = put_rows.on(engine)(x, i, u)
    for place in range(4):
        assert found[place] in u[i == place]
    check(found[4:], x[4:])


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["f2", "d", "i1", "u1", "i2", "i4", "u4", "i8", "?"])
def test_types(engine: str, dtype: str) -> None:
    x, i = integers(0, 2 if dtype == "?" else 9, 7, 5).astype(dtype), integers(0, 7, 40)
    u = integers(0, 2 if dtype == "?" else 9, 40, 5).astype(dtype)
    unique = np.array([6, 2, 3])
    wanted = x.copy()
    wanted[unique] = u[:3]
    assert (put_rows.on(engine)(x, unique, u[:3]) == wanted).all()
    if dtype != "?":
        found = add_rows.on(engine)(x, i, u)
        assert found.dtype == x.dtype
        assert (found == added(x, i, u).astype(dtype)).all()


def test_a_sum_of_16_bit_floats_is_rounded_once() -> None:
    ones = np.full(5000, 1.0, np.float16)
    for engine in ENGINES:
        assert add_rows.on(engine)(np.zeros(2, np.float16), np.zeros(5000, "i"), ones)[0] == np.float16(5000)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_histogram(engine: str) -> None:
    i = integers(0, 12, 4000).astype("i")
    assert (histogram.on(engine)(i, 10) == np.bincount(i, minlength=12)[:10]).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["f", "f2"])
def test_a_result_that_is_read_again(engine: str, dtype: str) -> None:
    x, i, u = normal(9, 6).astype(dtype), integers(0, 8, 5), normal(5, 6).astype(dtype)
    y = added(x, i, u)
    z = added(y, i + 1, y[:5])
    tolerance = 1e-6 if dtype == "f" else 1e-3
    for found, wanted in zip(read_again.on(engine)(x, i, u), (y, z, z.sum(0), y.reshape(-1), y * z), strict=True):
        check(found.astype("d"), wanted, tolerance)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rows", [1, 17])
def test_updates_that_are_products(engine: str, rows: int) -> None:
    x, i, a, b = normal(6, 10), integers(0, 6, rows), normal(rows, 12), normal(12, 10)
    product = a.astype("d") @ b
    first, second = of_products.on(engine)(x, i, a, b)
    check(first, added(x, i, np.maximum(product, 0)), 1e-5)
    check(second, added(np.zeros_like(x), i, np.exp(product)).sum(1), 1e-5)


def test_transposed_arguments_and_results() -> None:
    x, i, u = normal(5, 9).T, integers(0, 9, 20), normal(5, 20).T
    out = np.empty((5, 9), "f").T
    for engine in ENGINES[:3]:
        add_rows.on(engine)(x, i, u, out=out)
        check(out, added(x, i, u))


def test_one_kernel_initialises_and_one_adds() -> None:
    text = add_rows.explain(normal(9, 5), integers(0, 9, 4), normal(4, 5))
    assert "kernels: add_rows_0, add_rows_1\n" in text


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16(engine: str) -> None:
    x, i, u = normal(5, 6).astype(bfloat16), integers(0, 5, 70), normal(70, 6).astype(bfloat16)
    found = add_rows.on(engine)(x, i, u)
    assert found.dtype == bfloat16
    check(found.astype("d"), added(x.astype("d"), i, u.astype("d")), 4e-3)
    wanted = x.copy()
    wanted[[3, 0]] = u[:2]
    assert (put_rows.on(engine)(x, np.array([3, 0]), u[:2]) == wanted).all()
