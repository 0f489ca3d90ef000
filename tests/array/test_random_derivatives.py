"""Random fused functions with scatters, sorts, scans and lookups among the others: values are NumPy's, and derivatives
what differences of those say."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl

Array = Any
Program = tuple[tuple[str, int, int], ...]


@tl.fuse
def run(x, i, w, program: tuple):
    values = [x]
    for kind, a, b in program:
        p, q = values[a], values[b]
        if kind == "add":
            c = p + q
        elif kind == "mul":
            c = p * q * 0.5
        elif kind == "tanh":
            c = tl.tanh(p)
        elif kind == "sum":
            c = p - tl.sum(p, axis=b % 2, keepdims=True) / 8
        elif kind == "max":
            c = p - tl.max(p, axis=b % 2, keepdims=True)
        elif kind == "product":
            c = p @ w
        elif kind == "scatter_add":
            c = tl.scatter_add(p, i, q[: i.shape[0]])
        elif kind == "scatter":
            c = tl.scatter(p, tl.arange(3), q[2:5])
        elif kind == "sort":
            c = tl.sort(p, b % 2)
        elif kind == "topk":
            c = p + tl.topk(q, 2, b % 2)[0][0, 0]
        elif kind == "take":
            c = tl.take(p, tl.broadcast_to(i[0] % 7, p.shape), 1) + p
        elif kind == "cumsum":
            c = tl.cumsum(p, b % 2) / 4
        else:
            c = p.T.reshape(-1).reshape(p.shape[0], p.shape[1])
        values.append(c)
    return values[-1]


def added(p: Array, i: Array, u: Array) -> Array:
    found = p.copy()
    np.add.at(found, i, u)
    return found


REFERENCES: dict[str, Callable[..., Array]] = {
    "add": lambda p, q, b, i, w: p + q,
    "mul": lambda p, q, b, i, w: p * q * 0.5,
    "tanh": lambda p, q, b, i, w: np.tanh(p),
    "sum": lambda p, q, b, i, w: p - p.sum(b % 2, keepdims=True) / 8,
    "max": lambda p, q, b, i, w: p - p.max(b % 2, keepdims=True),
    "product": lambda p, q, b, i, w: p @ w,
    "scatter_add": lambda p, q, b, i, w: added(p, i, q[: len(i)]),
    "scatter": lambda p, q, b, i, w: np.concatenate([q[2:5], p[3:]]),
    "sort": lambda p, q, b, i, w: np.sort(p, b % 2),
    "topk": lambda p, q, b, i, w: p + -np.sort(-q, b % 2)[0, 0],
    "take": lambda p, q, b, i, w: p[:, i[0] % 7][:, None] + p,
    "cumsum": lambda p, q, b, i, w: p.cumsum(b % 2) / 4,
    "reshape": lambda p, q, b, i, w: p.T.reshape(p.shape),
}


def reference(x: Array, i: Array, w: Array, program: Program) -> Array:
    values = [x]
    for kind, a, b in program:
        values.append(REFERENCES[kind](values[a], values[b], b, i, w))
    return values[-1]


@pytest.mark.sweep(keep=9)
@pytest.mark.parametrize("seed", range(24))
def test_random_program(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    steps = rng.randint(3, 7)
    program = tuple((rng.choice(list(REFERENCES)), rng.randrange(max(0, k - 2), k + 1), rng.randrange(k + 1))
                    for k in range(steps))
    x, w = numbers.standard_normal((9, 7)), numbers.standard_normal((7, 7))
    i = numbers.integers(0, 9, rng.choice([3, 8]))
    engine = "cpu" if seed % 4 == 0 else "interpret"
    wanted = reference(x, i, w, program)
    np.testing.assert_allclose(run.on(engine)(x, i, w, program), wanted, rtol=1e-9, atol=1e-9 * abs(wanted).max())
    cotangent, direction = numbers.standard_normal(x.shape), numbers.standard_normal(x.shape)
    ends = [(reference(x + h * direction, i, w, program) * cotangent).sum() for h in (1e-6, -1e-6)]
    gradient = tl.vjp(run).on("interpret")(cotangent, x, i, w, program)
    assert abs((ends[0] - ends[1]) / 2e-6 - (gradient * direction).sum()) <= 1e-5 * max(1, abs(gradient).sum())
