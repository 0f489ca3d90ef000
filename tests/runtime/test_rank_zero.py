"""Arrays of rank 0: workspaces, shared memory and views without dimensions, on every engine."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.jit
def workspaces(x: tl.f32["N"], y: tl.f32["P"], B: int = 64):
    tl.grid(1)
    total = tl.workspace((), tl.f32)
    count = tl.workspace((), tl.i32, zero=True)
    total[()] = tl.sum(tl.load(x, 0, B))
    tl.atomic_add(count, (), 3)
    tl.sync()
    y[0] = total[()] + count[()].to(tl.f32)


@tl.jit
def gathered(x: tl.f32["M", "N"], y: tl.f32["P"]):
    tl.grid(1)
    one = tl.workspace((), tl.f32)
    tl.scatter(one, (), x[1, 2])
    tl.sync()
    y[0] = tl.gather(one, ()) + tl.load(one, (), ())


@tl.jit
def shared(x: tl.f32["N"], y: tl.f32["P"]):
    tl.grid(1)
    s = tl.shared((), tl.f32)
    tl.store(s, (), x[2])
    tl.sync()
    y[0] = tl.load(s, (), ()) + s[()]
    tl.sync()
    tl.atomic_add(s, (), 3.0)
    tl.sync()
    y[1] = s[()]


@tl.jit
def view(x: tl.f32["M", "N"], y: tl.f32["P"]):
    tl.grid(1)
    row = x[1, 2:]
    part = row[1:2]
    y[0] = part[0] + x[1, 2]


VECTOR = np.arange(64, dtype=np.float32)
MATRIX = VECTOR.reshape(8, 8)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("kernel", "x", "expected"), [
    (workspaces, VECTOR, [2016 + 3]), (gathered, MATRIX, [20]), (shared, VECTOR, [4, 5]), (view, MATRIX, [11 + 10]),
], ids=lambda v: getattr(v, "__name__", None))
def test_values(kernel, x, expected, engine: str) -> None:
    y = np.zeros(len(expected), np.float32)
    kernel.on(engine)(x, y)
    assert y.tolist() == expected
