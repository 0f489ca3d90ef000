"""Fused functions of several kernels, whose grids differ: each kernel has facts of its own."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")
GUARD = 4096


@tl.fuse
def columns_onto_rows(x, y):
    return tl.sum(x, 0)[None, :] + y


@tl.fuse
def both_sums(x):
    return tl.sum(x, 0)[None, :] * tl.sum(x, 1)[:, None]


@tl.fuse
def normalised(x):
    return x / tl.sqrt(tl.sum(x * x))


@tl.fuse
def below_the_largest(x):
    return x - tl.max(x)


def constant_extents(rows: int, columns: int) -> Any:
    @tl.fuse
    def shifted(x: tl.f32[rows, columns], y: tl.f32["P", columns]):
        return y + tl.sum(tl.sum(x, 0), 0)

    return shifted


def normal(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def guarded(function: Any, engine: str, *arguments: Any, shape: tuple[int, ...]) -> Any:
    """The result, computed into the middle of a larger buffer, the rest of which must not change."""
    size = int(np.prod(shape))
    buffer = np.full(size + 2 * GUARD, 7, np.float32)
    out = buffer[GUARD:GUARD + size].reshape(shape)
    function.on(engine)(*arguments, out=out)
    assert (buffer[:GUARD] == 7).all()
    assert (buffer[GUARD + size:] == 7).all()
    return out


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("rows", "others"), [(3, 5), (1000, 37), (5, 4000)])
def test_reduced_columns(rows: int, others: int, engine: str) -> None:
    x, y = normal(rows, 1), normal(others, 1)
    found = guarded(columns_onto_rows, engine, x, y, shape=(others, 1))
    np.testing.assert_allclose(found, x.astype("f8").sum(0)[None] + y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(1000, 1), (1, 4), (4, 1), (3, 17)])
def test_both_sums(shape: tuple[int, int], engine: str) -> None:
    x = normal(*shape)
    wide = x.astype("f8")
    found = guarded(both_sums, engine, x, shape=shape)
    np.testing.assert_allclose(found, wide.sum(0)[None] * wide.sum(1)[:, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(1000,), (513,), (7, 33)])
def test_reduced_to_a_number(shape: tuple[int, ...], engine: str) -> None:
    x = normal(*shape)
    wide = x.astype("f8")
    found = guarded(normalised, engine, x, shape=shape)
    np.testing.assert_allclose(found, wide / np.sqrt((wide ** 2).sum()), rtol=1e-5)
    np.testing.assert_array_equal(guarded(below_the_largest, engine, x, shape=shape), x - x.max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("others", "columns"), [(5, 100), (37, 700), (9, 513)])
def test_constant_extents(others: int, columns: int, engine: str) -> None:
    x, y = normal(4, columns), normal(others, columns)
    found = guarded(constant_extents(4, columns), engine, x, y, shape=y.shape)
    np.testing.assert_allclose(found, y + x.astype("f8").sum(), rtol=1e-4, atol=1e-4)


@tl.fuse
def shifted_product(x, y):
    return (x + 1) @ (y - 2)


@tl.fuse
def exponentials(x, y):
    return tl.exp(x) @ (1 / (y * y))


@tl.fuse
def of_one_column(x, y):
    smallest = tl.min(x, axis=0, keepdims=True).T
    return smallest @ smallest.T + 0 * tl.sum(y)


@tl.fuse
def spread(x, y):
    return (x * 0 + tl.sum(x, axis=1, keepdims=True)) @ y


PRODUCTS = {
    "shifted": (shifted_product, lambda x, y: (x + 1) @ (y - 2)),
    "exponentials": (exponentials, lambda x, y: np.exp(x) @ (1 / (y * y))),
    "of one column": (of_one_column, lambda x, y: x.min(0)[:, None] @ x.min(0)[None]),
    "spread": (spread, lambda x, y: (x * 0 + x.sum(1, keepdims=True)) @ y),
}


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", [1, 7, 32, 33, 100])
@pytest.mark.parametrize("name", PRODUCTS)
def test_operands_that_are_computed(name: str, depth: int, engine: str) -> None:
    """What lies beyond the last tile along k counts as nothing, whatever is computed from it."""
    function, reference = PRODUCTS[name]
    x, y = normal(20, depth), normal(depth, 24) + np.float32(3)
    found = function.on(engine)(x, y)
    np.testing.assert_allclose(found, reference(x.astype("f8"), y.astype("f8")), rtol=1e-4, atol=1e-4)
