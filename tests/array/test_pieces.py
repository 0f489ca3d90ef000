"""Values between kernels that are needed at different times are in one piece of memory."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_90a:ptx")


def weighed(x: Any) -> Any:
    e = tl.exp(x - tl.max(x, axis=-1, keepdims=True))
    return e / tl.sum(e, axis=-1, keepdims=True)


@tl.fuse
def chain(x, w1, w2, w3, w4):
    return weighed(weighed(weighed(weighed(x @ w1) @ w2) @ w3) @ w4)


@tl.fuse
def branches(x, w1, w2):
    """The first value is needed to the end."""
    a = weighed(x @ w1)
    b = weighed(a @ w2)
    return weighed(b @ w1) @ w2 + a


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normal(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def pieces(function: Any, *arguments: Any) -> tuple[int, int, str]:
    found = re.search(r"memory between kernels: (\d+) values? in (\d+) pieces?, (.*) bytes at most",
                      str(function.explain(*arguments)))
    assert found
    return int(found[1]), int(found[2]), found[3]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("widths", [(64, 96, 96, 50, 96), (5, 70, 3, 33, 1), (16, 16, 16, 16, 16)])
def test_chain(engine: str, widths: tuple[int, ...]) -> None:
    x, w = normal(37, widths[0]), [normal(*s) for s in itertools.pairwise(widths)]
    wanted = x.astype(np.float64)
    for y in w:
        wanted = softmax(wanted @ y)
    got = chain.on(engine)(x, *w)
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_needed_to_the_end(engine: str) -> None:
    x, w1, w2 = normal(21, 40), normal(40, 40), normal(40, 40)
    a = softmax(x.astype(np.float64) @ w1)
    wanted = softmax(softmax(a @ w2) @ w1) @ w2 + a
    got = branches.on(engine)(x, w1, w2)
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_pieces_are_shared_and_said() -> None:
    values, count, size = pieces(chain, normal(37, 64), normal(64, 96), normal(96, 96), normal(96, 50), normal(50, 96))
    assert (values, count) == (3, 2)
    assert "max(" in size
    # What the first weights are made of is over when the last ones are computed; the weights themselves are not.
    assert pieces(branches, normal(21, 40), normal(40, 40), normal(40, 40))[:2] == (3, 2)


@tl.fuse
def fixed(x: tl.f32[8, 32], w: tl.f32[32, 32], v: tl.f32[32, 16]):
    return weighed(weighed(weighed(weighed(x @ w) @ w) @ v) @ v.T)


def test_sizes_that_are_known() -> None:
    """Pieces of 8 × 32 and of 8 × 16 elements, of which one has values of both shapes or not."""
    values, count, size = pieces(fixed, normal(8, 32), normal(32, 32), normal(32, 16))
    assert (values, count) == (3, 2)
    assert int(size) <= 2 * 4 * 8 * 32


@pytest.mark.parametrize("route", ["ptx", "cuda"])
def test_the_least_shared_memory(route: str) -> None:
    """Scores over a dimension of 64, of f32 arrays that are transposed, on a chip with 64 KB."""
    x, w, v = normal(64, 5).T, normal(17, 64).T, normal(17, 17)
    wanted = x.astype(np.float64)
    for y in (w, v, v, v):
        wanted = softmax(wanted @ y)
    got = chain.on(f"simulate:sm_75:{route}")(x, w, v, v, v)
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)
