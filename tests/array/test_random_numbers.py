"""Random arrays: the same numbers on all engines, those of tiles, with their distribution; dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.interp.elementwise import philox

Array = Any
ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_90a:ptx")


@tl.fuse
def noisy(x, seed: tl.i64, offset: tl.i64):
    return x + tl.random.uniform(x.shape, seed, offset), tl.random.normal((x.shape[1], x.shape[0]), seed).T * x


@tl.fuse
def seeds_in_memory(x, seeds):
    return tl.random.uniform(x.shape, seeds[0]) + x, tl.random.uniform(x.shape, seeds[1])


@tl.fuse
def dropped(x, seed: tl.i64, p: float = 0.25):
    return tl.sum(tl.random.dropout(tl.exp(x), p, seed), axis=1), tl.random.dropout(x, p, seed)


@tl.fuse
def all_words(x, seed: tl.i64):
    a, b, c, d = tl.random.philox(seed, x)
    return a ^ b, c, tl.sum(d >> 8, axis=0)


def words(seed: int, index: Array) -> list[Array]:
    return philox(np.asarray(seed, np.int64).astype(np.uint64), index.astype(np.uint64))


def uniform(shape: tuple[int, ...], seed: int, offset: int = 0) -> Array:
    index = np.arange(np.prod(shape)).reshape(shape) + offset
    return (words(seed, index)[0] >> np.uint32(8)).astype(np.float64) / 2**24


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(5, 70), (1, 3), (40, 1), (3, 0)], ids=str)
def test_numbers_are_those_of_the_counter(engine: str, shape: tuple[int, int]) -> None:
    x = np.zeros(shape, "f")
    found, _ = noisy.on(engine)(x, -3, 1 << 40)
    assert (found == uniform(shape, -3, 1 << 40)).all()
    one, other = seeds_in_memory.on(engine)(x, np.array([5, 1 << 50]))
    assert (one == uniform(shape, 5)).all()
    assert (other == uniform(shape, 1 << 50)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_normal_numbers(engine: str) -> None:
    x = np.ones((20, 30), "f")
    a, b, _, _ = (w >> np.uint32(8) for w in words(9, np.arange(600).reshape(30, 20)))
    wanted = np.sqrt(-2 * np.log((a + 1) / 2**24)) * np.cos(2 * np.pi * b / 2**24)
    np.testing.assert_allclose(noisy.on(engine)(x, 9, 0)[1], wanted.T, atol=1e-5)


def test_distributions() -> None:
    x = np.zeros((300, 200), "f")
    found, _ = noisy(x, 1, 0)
    assert abs(found.mean() - 0.5) < 0.01
    assert abs(found.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.02
    _, found = noisy(x + 1, 1, 0)
    assert abs(found.mean()) < 0.02
    assert abs(found.var() - 1) < 0.03


@pytest.mark.parametrize("engine", ENGINES)
def test_dropout(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((7, 90), np.float32)
    kept = uniform(x.shape, 4) >= 0.25
    sums, found = dropped.on(engine)(x, 4)
    np.testing.assert_allclose(found, np.where(kept, x / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(sums, np.where(kept, np.exp(x.astype("d")) / 0.75, 0).sum(1), rtol=1e-5)
    half = dropped.on(engine)(x.astype("e"), 4, p=0.0)[1]
    assert (half == x.astype("e")).all()
    assert (dropped.on(engine)(x, 4, p=1.0)[1] == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_all_words(engine: str) -> None:
    x = np.arange(60).reshape(4, 15) * 77
    a, b, c, d = words(12, x)
    for found, wanted in zip(all_words.on(engine)(x, 12), (a ^ b, c, (d >> np.uint32(8)).sum(0)), strict=True):
        assert (found == wanted).all()
