"""Horizontal fusion: kernels that need nothing of each other share a launch, in which each has some of the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.lowering.array.join import MOST_BYTES, MOST_KERNELS, Work, launches_of

ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_90a:cuda")


@tl.fuse
def elementwise(x: tl.f32["M", "N"], y: tl.f32["P", "Q"], z: tl.f32["K"], factor: tl.f32) -> Any:
    return x * factor, tl.exp(y), z.to(tl.f16)


@tl.fuse
def reductions(x: tl.f32["M", "N"], y: tl.f32["P", "Q"]) -> Any:
    t = tl.exp(y.T - tl.max(y.T, axis=1, keepdims=True))
    return x / tl.sum(x * x, axis=1, keepdims=True), t / tl.sum(t, axis=1, keepdims=True)


@tl.fuse
def products(x: tl.f16["M", "K"], a: tl.f16["K", "N"], y: tl.f16["P", "Q"], b: tl.f16["Q", "R"]) -> Any:
    return x @ a, (y @ b) * 2


@tl.fuse
def scans(x: tl.f32["M", "N"], y: tl.f32["P", "Q"]) -> Any:
    return tl.cumsum(tl.cumsum(x, axis=1), axis=0), tl.cumsum(tl.cumsum(y, axis=1), axis=0)


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


def close(found: Any, best: Any, bound: float) -> None:
    assert found.shape == best.shape
    assert np.abs(found - best).max(initial=0) <= bound * np.abs(best).max(initial=0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shapes", [((5, 7), (33, 65), (1001,)), ((0, 3), (2, 1), (1,)), ((1, 1), (3, 0), (0,))],
                         ids=str)
def test_elementwise(engine: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y, z = (normal(i, *shape) for i, shape in enumerate(shapes))
    found = elementwise.on(engine)(x, y, z, 3.0)
    for out, best in zip(found, (x * 3, np.exp(y), z.astype(np.float16)), strict=True):
        close(out, best, 3e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_reductions(engine: str) -> None:
    x, y = normal(0, 37, 65), normal(1, 21, 300)
    one, other = reductions.on(engine)(x, y)
    weights = np.exp(y.T.astype("d"))
    close(one, x / (x.astype("d") ** 2).sum(1, keepdims=True), 1e-6)
    close(other, weights / weights.sum(1, keepdims=True), 1e-6)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_products(engine: str) -> None:
    x, a, y, b = (normal(i, *s).astype(np.float16) for i, s in enumerate(((70, 40), (40, 96), (33, 65), (65, 17))))
    one, other = products.on(engine)(x, a, y, b)
    close(one, x.astype("d") @ a.astype("d"), 1e-3)
    close(other, 2 * (y.astype("d") @ b.astype("d")), 1e-3)


@pytest.mark.sweep
@pytest.mark.parametrize("function", [elementwise, reductions, products], ids=lambda f: str(f.__name__))
@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_one_launch_without_spills(function: Any, via: str) -> None:
    compiled = function.compile(target="sm_80", via=via)
    assert str(compiled.tile).count("\nkernel @") == 1
    assert compiled.resources()["spilled"] == "0 B"


def test_what_is_needed_comes_before() -> None:
    """A chain beside a chain: as many launches as one of them has, and memory of the first is not written by the
    second meanwhile."""
    x, y = normal(0, 20, 30), normal(1, 50, 9)
    for engine in reversed(ENGINES):
        one, other = scans.on(engine)(x, y)
        close(one, x.astype("d").cumsum(1).cumsum(0), 1e-5)
        close(other, y.astype("d").cumsum(1).cumsum(0), 1e-5)
    text = scans.explain()
    assert "fusion: 2 kernels" in text
    assert text.count("by other blocks") == 2


def test_explain_says_which_share_a_launch() -> None:
    elementwise.on("simulate:sm_80:ptx")(normal(0, 2, 3), normal(1, 4, 5), normal(2, 6), 1.0)
    text = elementwise.explain()
    assert "fusion: 1 kernel\n  elementwise writes an output (" in text
    assert text.count("; by other blocks an output (") == 2


def work(kind: str, reads: str, writes: str, size: int = 8) -> Work:
    return Work((kind,), frozenset(reads), frozenset(writes), dict.fromkeys(reads + writes, size))


def test_order_of_launches() -> None:
    """A kernel does not go before what it reads, nor before those that read or write what it writes."""
    works = [work("a", "x", "t"), work("b", "t", "u"), work("a", "y", "v"), work("a", "u", "w"), work("b", "x", "y"),
             work("b", "z", "z")]
    assert launches_of(works, True) == [[0, 2], [1, 4, 5], [3]]
    assert launches_of(works, False) == [[i] for i in range(6)]


def test_room_of_a_launch() -> None:
    letters = [chr(ord("a") + i) for i in range(20)]
    assert [len(x) for x in launches_of([work("", "", c) for c in letters], True)] == [MOST_KERNELS, 4]
    large = [work("", "", c, MOST_BYTES // 2) for c in letters[:4]]
    assert launches_of(large, True) == [[0, 1], [2, 3]]
    shared = [work("", "x", c, MOST_BYTES // 4) for c in letters[:4]]
    assert launches_of(shared, True) == [[0, 1, 2], [3]]
