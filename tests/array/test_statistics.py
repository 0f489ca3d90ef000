"""Reductions along several dimensions, what is made of them, and stacked, rolled and repeated arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_90a:cuda")


@tl.fuse
def statistics(x: tl.f32["M", "N", "K"]) -> Any:
    return (tl.sum(x, (0, 2), keepdims=True), tl.mean(x, (0, 1)), tl.max(x, (1, 2)), tl.min(x, [0, -1]),
            tl.prod(x, (1,)), tl.any(x > 1, (0, 1)), tl.var(x, (0, 2)), tl.std(x, -1, keepdims=True),
            tl.softmax(x, (1, 2)), tl.log_softmax(x), tl.logsumexp(x, (0, 1)), tl.logsumexp(x))


@tl.fuse
def moves(x: tl.f32["M", "N", "K"], y: tl.f32["M", "N", "K"]) -> Any:
    return (tl.stack([x, y], 1), tl.stack([x, y], -1), tl.roll(x, (3, -2), (0, 2)), tl.repeat(x, 3, 1),
            tl.repeat(y, 0, 0))


@tl.fuse
def of_numbers(x: tl.f32[4, 5, 6]) -> Any:
    return tl.roll(x, -13, 2), tl.repeat(x, 2, -1), tl.var(x, correction=1), tl.sum(x, ())


@tl.jit
def of_tiles(x: tl.f16["M", "N"], y: tl.f16["M", "N"], z: tl.f32["M"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], 8))
    tile = tl.load(x, (i * 8, 0), (8, B))
    tl.store(y, (i * 8, 0), tl.softmax(tile, axis=1))
    tl.store(z, i * 8, tl.std(tile.to(tl.f32), axis=1) + tl.sum(tl.stack([tile, tile]).to(tl.f32), (0, 2)))


def log_of_sums(x: Any, axis: Any) -> Any:
    most = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - most).sum(axis=axis, keepdims=True)) + most


def check(found: Any, best: Any) -> None:
    for i, (out, expected) in enumerate(zip(found, best, strict=True)):
        assert out.shape == expected.shape, i
        assert np.abs(out.astype("d") - expected).max(initial=0) <= 2e-6 * np.abs(expected).max(initial=0), i


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 2, 2), (2, 40, 33)], ids=str)
def test_statistics(engine: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype("f") + 1
    wide = x.astype("d")
    check(statistics.on(engine)(x), (
        wide.sum((0, 2), keepdims=True), wide.mean((0, 1)), wide.max((1, 2)), wide.min((0, 2)), wide.prod(1),
        (x > 1).any((0, 1)), wide.var((0, 2)), wide.std(-1, keepdims=True), np.exp(wide - log_of_sums(wide, (1, 2))),
        wide - log_of_sums(wide, 2), log_of_sums(wide, (0, 1))[0, 0], log_of_sums(wide, None)[0, 0, 0]))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 1), (0, 4, 2), (5, 33, 2)], ids=str)
def test_moves(engine: str, shape: tuple[int, ...]) -> None:
    x, y = (np.random.default_rng(i).standard_normal(shape).astype("f") for i in range(2))
    check(moves.on(engine)(x, y), (np.stack([x, y], 1), np.stack([x, y], -1), np.roll(x, (3, -2), (0, 2)),
                                   np.repeat(x, 3, 1), np.repeat(y, 0, 0)))


@pytest.mark.parametrize("engine", ENGINES)
def test_extents_that_are_numbers(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 5, 6)).astype("f")
    check(of_numbers.on(engine)(x), (np.roll(x, -13, 2), np.repeat(x, 2, -1), x.astype("d").var(ddof=1), x))


@pytest.mark.parametrize("engine", ENGINES)
def test_tiles(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float16)
    y, z = np.zeros_like(x), np.zeros(16, "f")
    of_tiles.on(engine)(x, y, z)
    wide = x.astype("d")
    assert np.abs(y - np.exp(wide - log_of_sums(wide, 1))).max() <= 2**-11 * y.max()
    np.testing.assert_allclose(z, wide.std(1) + 2 * wide.sum(1), atol=2e-6, rtol=0)


def test_rows_of_nothing_but_minus_infinity() -> None:
    function = tl.fuse(lambda x: (tl.logsumexp(x, 1), tl.softmax(x, 1)))
    sums, weights = function(np.full((2, 3), -np.inf, "f"))
    assert (sums == -np.inf).all()
    assert np.isnan(weights).all()


@pytest.mark.parametrize(("body", "message"), [
    (lambda x: tl.sum(x, (0, 0)), "are not all different"),
    (lambda x: tl.argmax(x, (0, 1)), "argmax is along one axis, or all"),
    (lambda x: tl.stack([x, tl.sum(x, 0)]), "are stacked"),
    (lambda x: tl.stack([]), "tl.stack of no tiles"),
    (lambda x: tl.roll(x, (1, 2), 0), "not a number for each of 1 axes"),
    (lambda x: tl.repeat(x, -1, 0), "the count is -1"),
    (lambda x: tl.var(x, correction="1"), "correction is '1', not a number"),
    (lambda x: tl.softmax(x, 2), "axis 2 is not one of"),
], ids=lambda x: x if isinstance(x, str) else "")
def test_messages(body: Any, message: str) -> None:
    with pytest.raises(tl.UserError, match=message):
        tl.fuse(body)(np.ones((2, 3), "f"))
