"""Concatenations that are outputs: each part is computed once and written where it goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_90a:cuda")


@tl.fuse
def columns(x: tl.f32["M", "N"], y: tl.f32["M", "P"]) -> Any:
    return tl.concatenate([x * 2, tl.exp(y), x[:, 0:3] + 1], axis=1)


@tl.fuse
def products(x: tl.f16["B", "M", "N"], y: tl.f16["B", "M", "N"], w: tl.f16["N", "N"]) -> Any:
    return tl.concatenate([x @ w, y @ w, x + y], axis=0)


@tl.fuse
def rotary(x: tl.f32["B", "S", 64], c: tl.f32["S", 32], s: tl.f32["S", 32]) -> Any:
    a, b = tl.split(x, 2, 2)
    return tl.concatenate([a * c - b * s, b * c + a * s], axis=2)


@tl.fuse
def several(x: tl.f32["M", "N"], y: tl.f32["P", "N"]) -> Any:
    rows = tl.concatenate([tl.softmax(x), tl.sum(y, 0, keepdims=True) + y], axis=0)
    return rows, tl.concatenate([x, y], 0).to(tl.f16), tl.concatenate([x, x[:, :2]], 1).T, tl.stack([x, x * 2], -1)


@tl.fuse
def used_again(x: tl.f32["M", "N"], y: tl.f32["P", "N"]) -> Any:
    rows = tl.concatenate([x, y])
    return rows, rows @ rows.T


@tl.fuse
def steps(x: tl.f32["T", "B"], a: tl.f32["B"]) -> Any:
    state, found = x[0] * 0, []
    for t in tl.static_range(24):
        state = state * tl.sigmoid(a) + x[t]
        found.append(state)
    return tl.stack(found)


@tl.fuse
def like_one(x: tl.f32[4, 6], y: tl.f32[4, 9]) -> Any:
    """Not a concatenation: the second array begins behind the first one's end."""
    wide = tl.pad(x, ((0, 0), (0, 3)))
    return tl.where(tl.arange(9)[None, :] < 4, wide, y)


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


def check(function: Any, arguments: tuple[Any, ...], best: Any, engine: str, bound: float = 1e-6) -> None:
    found = function.on(engine)(*arguments)
    for out, expected in zip(found if isinstance(found, tuple) else (found,), best, strict=True):
        assert out.shape == expected.shape
        error = np.abs(out.astype("d") - expected).max(initial=0)
        assert error <= bound * np.abs(expected).max(initial=0)


def written(function: Any) -> int:
    """How many values all kernels write."""
    return sum(line.count("an output") for line in function.explain().splitlines() if " writes " in line)


@pytest.mark.sweep(keep=17)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sizes", [(3, 4, 5), (33, 65, 2), (1, 1, 7), (5, 0, 3), (0, 2, 2)], ids=str)
def test_columns(engine: str, sizes: tuple[int, int, int]) -> None:
    rows, n, p = sizes
    x, y = normal(0, rows, n), normal(1, rows, p)
    check(columns, (x, y), [np.concatenate([x * 2, np.exp(y), x[:, :3] + 1], 1)], engine)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_other_parts(engine: str) -> None:
    x, y, w = (normal(i, *shape).astype("e") for i, shape in enumerate(((2, 9, 16), (2, 9, 16), (16, 16))))
    parts = x.astype("d") @ w.astype("d"), y.astype("d") @ w.astype("d"), x.astype("d") + y
    check(products, (x, y, w), [np.concatenate(parts)], engine, 1e-3)
    x, c, s = normal(0, 3, 7, 64), normal(1, 7, 32), normal(2, 7, 32)
    a, b = x[..., :32], x[..., 32:]
    check(rotary, (x, c, s), [np.concatenate([a * c - b * s, b * c + a * s], 2)], engine)
    x, a = normal(3, 24, 40), normal(4, 40)
    state, found = 0, []
    for row in x.astype("d"):
        state = state / (1 + np.exp(-a.astype("d"))) + row
        found.append(state)
    check(steps, (x, a), [np.stack(found)], engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_beside_other_outputs(engine: str) -> None:
    x, y = normal(0, 5, 17), normal(1, 3, 17)
    weights = np.exp(x.astype("d"))
    rows = np.concatenate([weights / weights.sum(1, keepdims=True), y.astype("d").sum(0, keepdims=True) + y])
    both = np.concatenate([x, y])
    wide = np.concatenate([x, x[:, :2]], 1)
    check(several, (x, y), [rows, both.astype("e"), wide.T, np.stack([x, x * 2], -1)], engine)
    check(used_again, (x, y), [both, both.astype("d") @ both.T.astype("d")], engine)
    x, y = normal(2, 4, 6), normal(3, 4, 9)
    check(like_one, (x, y), [np.concatenate([x[:, :4], y[:, 4:]], 1)], engine)


def test_what_is_written_in_parts() -> None:
    """Not where parts are single elements between others, nor what something else uses."""
    x, y = normal(0, 5, 17), normal(1, 3, 17)
    columns(normal(0, 5, 17), normal(1, 5, 3))
    assert written(columns) == 3
    rotary(normal(0, 3, 7, 64), normal(1, 7, 32), normal(2, 7, 32))
    assert written(rotary) == 2
    steps(normal(3, 24, 40), normal(4, 40))
    assert written(steps) == 24
    used_again(x, y)
    assert written(used_again) == 2
    like_one(normal(2, 4, 6), normal(3, 4, 9))
    assert written(like_one) == 1


def test_long_chains_do_not_spill() -> None:
    assert steps.compile(target="sm_80").resources()["spilled"] == "0 B"
