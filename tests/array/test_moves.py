"""Parts of arrays, arrays with more around them, windows and several arrays as one, alone and between what else a fused
function does, against NumPy."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import tilus as tl

Array = Any
ROUTES = ("simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.fuse
def run_program(x, y, program: tuple):
    values = [x, y]
    for kind, i, j, what in program:
        a, b = values[i], values[j]
        if kind == "slice":
            c = a[slice(*what[0]), slice(*what[1])]
        elif kind == "pad":
            c = tl.pad(a, what[0], what[1])
        elif kind == "flip":
            c = tl.flip(a, what)
        elif kind == "windows":
            c = tl.windows(a, what[0], what[1], stride=what[2], dilation=what[3])
            c = tl.max(c, axis=-1) if what[4] else tl.sum(c, axis=-1)
        elif kind == "concatenate":
            c = tl.concatenate([a, b[slice(*what[1]), slice(*what[2])]], what[0])
        elif kind == "reshape":
            c = a.reshape(*what)
        elif kind == "rows":
            c = a[tl.argmax(a, axis=0)] if what else a[tl.arange(a.shape[0]) // 2]
        elif kind == "scan":
            c = tl.cumsum(a, axis=what // 2, reverse=what % 2 == 1)
        elif kind == "tanh":
            c = tl.tanh(a) + 0.5
        elif kind == "centred":
            c = a - tl.mean(a, axis=what, keepdims=True)
        else:
            c = a @ a.T
        values.append(c)
    return values[-1], values[-2]


def reference(x: Array, y: Array, program: tuple[Any, ...]) -> list[Array]:
    values = [x.astype("d"), y.astype("d")]
    for kind, i, j, what in program:
        values.append(step(kind, values[i], values[j], what))
    return [values[-1], values[-2]]


def step(kind: str, a: Array, b: Array, what: Any) -> Array:
    if kind == "slice":
        return a[slice(*what[0]), slice(*what[1])]
    if kind == "pad":
        return np.pad(a, what[0], constant_values=what[1])
    if kind == "flip":
        return np.flip(a, what)
    if kind == "windows":
        size, axis, stride, dilation, largest = what
        found = np.lib.stride_tricks.sliding_window_view(a, dilation * (size - 1) + 1, axis)
        found = found[(slice(None),) * axis + (slice(None, None, stride),)][..., ::dilation]
        return found.max(-1) if largest else found.sum(-1)
    if kind == "concatenate":
        return np.concatenate([a, b[slice(*what[1]), slice(*what[2])]], what[0])
    if kind == "reshape":
        return a.reshape(*what)
    if kind == "rows":
        return a[a.argmax(0) if what else np.arange(len(a)) // 2]
    if kind == "scan":
        axis, back = what // 2, what % 2
        return np.flip(np.flip(a, axis).cumsum(axis), axis) if back else a.cumsum(axis)
    if kind == "tanh":
        return np.tanh(a) + 0.5
    return a - a.mean(what, keepdims=True) if kind == "centred" else a @ a.T


def make(seed: int) -> tuple[Array, Array, tuple[Any, ...]]:
    rng, draws = random.Random(seed), np.random.default_rng(seed)
    shape = (rng.choice((1, 3, 7, 20)), rng.choice((2, 5, 19, 40)))
    x, y = draws.standard_normal(shape, np.float32), draws.standard_normal((shape[0], 6), np.float32)
    values: list[Array] = [x, y]
    steps: list[Any] = []
    while len(steps) < rng.randint(1, 5):
        made = choose(rng, values)
        if made is None:
            continue
        result = step(made[0], values[made[1]], values[made[2]], made[3])
        if result.size and result.ndim == 2 and max(result.shape) <= 64:
            steps.append(made)
            values.append(result)
    return x, y, tuple(steps)


def choose(rng: random.Random, values: list[Array]) -> Any:
    kind = rng.choice(("slice", "slice", "pad", "flip", "windows", "windows", "concatenate", "tanh",
                       "reshape", "centred", "gram", "rows", "scan"))
    i = rng.randrange(max(0, len(values) - 3), len(values))
    a, axis = values[i], rng.randrange(2)
    if kind == "slice":
        return kind, i, i, tuple(part(rng, n) for n in a.shape)
    if kind == "pad":
        return kind, i, i, (tuple((rng.randrange(3), rng.randrange(3)) for _ in range(2)), rng.choice((0.0, -1.5)))
    if kind == "windows":
        size, dilation = rng.randint(1, 4), rng.randint(1, 2)
        if a.shape[axis] < dilation * (size - 1) + 1:
            return None
        return kind, i, i, (size, axis, rng.randint(1, 3), dilation, rng.random() < 0.5)
    if kind == "reshape":
        rows = rng.choice([n for n in range(1, a.size + 1) if a.size % n == 0])
        return kind, i, i, rng.choice(((rows, -1), (-1, rows)))
    if kind in ("rows", "scan"):
        return kind, i, i, rng.randrange(2 if kind == "rows" else 4)
    if kind == "concatenate":
        other = [j for j, b in enumerate(values) if b.shape[1 - axis] == a.shape[1 - axis]]
        j = rng.choice(other)
        cut = part(rng, values[j].shape[axis])
        whole = (None, None, None)
        return kind, i, j, (axis, whole, cut) if axis else (axis, cut, whole)
    return kind, i, i, rng.choice((0, 1, (0, 1))) if kind == "flip" else axis


def part(rng: random.Random, n: int) -> tuple[int | None, ...]:
    """The slice of some of ``n`` elements, at least one."""
    while True:
        found = (*(rng.choice((None, rng.randint(-n - 1, n + 1))) for _ in range(2)), rng.choice((None, 1, 2, -1, -3)))
        if len(range(n)[slice(*found)]):
            return found


def check(seed: int, engine: str) -> None:
    x, y, program = make(seed)
    for found, wanted in zip(run_program.on(engine)(x, y, program), reference(x, y, program), strict=True):
        assert found.shape == wanted.shape, program
        assert np.linalg.norm(found - wanted) <= 1e-5 * max(1.0, float(np.linalg.norm(wanted))), program


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("seed", range(24))
def test_random_programs(seed: int) -> None:
    for engine in ("interpret", "cpu"):
        check(seed, engine)


@pytest.mark.parametrize("seed", range(100, 106))
def test_random_programs_on_both_routes(seed: int) -> None:
    for engine in ROUTES:
        check(seed, engine)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_many_random_programs(seed: int) -> None:
    check(seed, "interpret")
    check(seed, "cpu")
    if seed % 10 == 0:
        for engine in ROUTES:
            check(seed, engine)


@tl.fuse
def outer(a, b):
    return a[:, None] * b[None, :]


@tl.fuse
def extrema_of_sums(x):
    sums = tl.sum(x, axis=1, keepdims=True)
    most = tl.max(sums, axis=3, keepdims=True)
    return tl.max(most), tl.abs(tl.min(tl.min(most, axis=3, keepdims=True), axis=2, keepdims=True)) - 1


def test_dimensions_that_come_and_go_have_tiles_of_their_own() -> None:
    """Two dimensions that each were the last one of an array, and one of extent 1 that is reduced again."""
    a, b = (np.random.default_rng(n).standard_normal(n, np.float32) for n in (3000, 2500))
    np.testing.assert_array_equal(outer.on("cpu")(a, b), np.outer(a, b))
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 6), np.float32)
    most = x.sum(1, keepdims=True).max(3, keepdims=True)
    for engine in ("interpret", "cpu"):
        largest, least = extrema_of_sums.on(engine)(x)
        np.testing.assert_allclose(largest, most.max(), rtol=1e-6)
        np.testing.assert_allclose(least, abs(most.min(2, keepdims=True)) - 1, rtol=1e-5)


@tl.fuse
def product_and_windows(a, b, x):
    return a @ b + tl.windows(x, 3, 0)


@tl.fuse
def named(shaped0, workspace0):
    return tl.exp(shaped0).reshape(-1) + workspace0, tl.sum(tl.exp(shaped0), axis=0)


@tl.fuse
def softmax_of_windows(x):
    e = tl.exp(tl.windows(x, 3, 1) - tl.max(tl.windows(x, 3, 1), axis=2, keepdims=True))
    return e / tl.sum(e, axis=2, keepdims=True)


@tl.fuse
def with_false_around(x):
    return tl.pad(x, 1)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ["interpret", "cpu", *ROUTES])
def test_beside_other_operations(engine: str) -> None:
    """Windows in the epilogue of a product, whose rows and columns are along one dimension of them; names of arguments
    that the launch might have given; windows that are reduced and met again; bools."""
    draws = np.random.default_rng(0)
    a, b, x, y = (draws.standard_normal(shape, np.float32) for shape in ((20, 7), (7, 3), (22,), (5, 6)))
    windows = np.lib.stride_tricks.sliding_window_view
    np.testing.assert_allclose(product_and_windows.on(engine)(a, b, x), a @ b + windows(x, 3), rtol=1e-4, atol=1e-5)
    flat, sums = named.on(engine)(y, np.ones(30, np.float32))
    np.testing.assert_allclose(flat, np.exp(y).reshape(-1) + 1, rtol=1e-6)
    np.testing.assert_allclose(sums, np.exp(y).sum(0), rtol=1e-6)
    e = np.exp(windows(y, 3, 1))
    np.testing.assert_allclose(softmax_of_windows.on(engine)(y), e / e.sum(2, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(with_false_around.on(engine)(y > 0), np.pad(y > 0, 1))


@tl.fuse
def grouped_sums(x):
    y = tl.exp(x)
    return y, tl.sum(y.reshape(4, x.shape[0] // 4, x.shape[1]), axis=1)


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_an_output_with_gaps_is_read_under_another_shape(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((20, 6), np.float32)
    wide, sums = np.full((20, 9), np.nan, np.float32), np.empty((4, 6), np.float32)
    grouped_sums.on(engine)(x, out=(wide[:, :6], sums))
    np.testing.assert_allclose(wide[:, :6], np.exp(x), rtol=1e-6)
    np.testing.assert_allclose(sums, np.exp(x).reshape(4, 5, 6).sum(1), rtol=1e-6)
