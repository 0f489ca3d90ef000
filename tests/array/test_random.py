"""Random fused functions: every division into kernels gives what float64 NumPy gives."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import tilus as tl

Step = tuple[str, int, int]
ELEMENTWISE = ("add", "sub", "mul", "maximum", "tanh", "where")
REDUCTIONS = ("sum", "mean", "max")


@tl.fuse
def run_program(x, row, column, weight, program: tuple, outputs: tuple):
    values = [x, row, column]
    for kind, i, j in program:
        a, b = values[i], values[j]
        if kind == "add":
            c = a + b
        elif kind == "sub":
            c = a - b
        elif kind == "mul":
            c = a * b
        elif kind == "maximum":
            c = tl.maximum(a, b)
        elif kind == "tanh":
            c = tl.tanh(a)
        elif kind == "where":
            c = tl.where(a > b, a, 0.5 * b)
        elif kind == "product":
            c = (a + x) @ weight
        elif kind == "sum":
            c = tl.sum(a, axis=j % 2, keepdims=True) / 8
        elif kind == "mean":
            c = tl.mean(a, axis=j % 2, keepdims=True)
        else:
            c = tl.max(a, axis=j % 2, keepdims=True)
        values.append(c)
    return tuple([values[k] for k in outputs])


def reference(x: Any, row: Any, column: Any, weight: Any, program: tuple[Step, ...]) -> list[Any]:
    values = [x, row, column]
    functions: dict[str, Any] = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum,
        "tanh": lambda a, b: np.tanh(a), "where": lambda a, b: np.where(a > b, a, 0.5 * b),
    }
    for kind, i, j in program:
        a, b = values[i], values[j]
        if kind in functions:
            values.append(functions[kind](a, b))
        elif kind == "product":
            values.append((a + x) @ weight)
        elif kind == "sum":
            values.append(a.sum(j % 2, keepdims=True) / 8)
        else:
            values.append(getattr(a, kind)(j % 2, keepdims=True))
    return values


def make(seed: int) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    rng = random.Random(seed)
    steps: list[Step] = []
    for position in range(rng.randint(2, 9)):
        known = position + 3
        kind = rng.choice((*ELEMENTWISE, *REDUCTIONS, *REDUCTIONS, "product"))
        recent = rng.randrange(max(0, known - 3), known)
        steps.append((kind, recent, rng.randrange(known)))
    last = len(steps) + 2
    return tuple(steps), tuple({last, rng.randrange(3, last + 1)})


@pytest.mark.sweep(keep=13)
@pytest.mark.parametrize("seed", range(60))
def test_random_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = (int(v) for v in rng.integers(2, 40, 2))
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((m, n), (1, n), (m, 1))]
    arrays.append(rng.standard_normal((n, n)).astype(np.float32) / np.float32(n))
    program, outputs = make(seed)
    expected = reference(*(a.astype(np.float64) for a in arrays), program)
    found = run_program.on("cpu" if seed % 3 else "interpret")(*arrays, program=program, outputs=outputs)
    for got, index in zip(found, outputs, strict=True):
        wanted = expected[index]
        assert got.shape == wanted.shape
        scale = max(1.0, max(float(np.abs(v).max()) for v in expected))
        np.testing.assert_allclose(got, wanted, atol=2e-5 * scale)
