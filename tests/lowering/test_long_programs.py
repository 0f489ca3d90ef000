"""Programs of thousands of operations in a row: no pass recurses over the length of a program, none multiplies it."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda")


@tl.jit
def multiply_adds(x: tl.f32["N"], y: tl.f32["N"], n: int, B: int = 64):
    tl.grid(1)
    v = tl.load(x, 0, B)
    for _ in tl.static_range(n):
        v = v * 0.5 + 1.0
    tl.store(y, 0, v)


@tl.jit
def loads(x: tl.f32["N"], y: tl.f32["N"], n: int, B: int = 64):
    tl.grid(1)
    v = tl.load(x, 0, B)
    for k in tl.static_range(n):
        v = v * 0.5 + tl.load(x, k % 7, B)
    tl.store(y, 0, v)


@tl.jit
def used_twice(x: tl.f32["N"], y: tl.f32["N"], n: int, B: int = 64):
    tl.grid(1)
    v = tl.load(x, 0, B)
    for _ in tl.static_range(n):
        v = v * v * 0.5 + v * 0.25
    tl.store(y, 0, v)


@tl.jit
def scalars(x: tl.f32["N"], y: tl.f32["N"], n: int):
    tl.grid(1)
    v = x[0]
    for _ in tl.static_range(n):
        v = v * 0.5 + 1.0
    y[0] = v


@tl.jit
def integers(x: tl.f32["N"], y: tl.f32["N"], n: int, B: int = 64):
    tl.grid(1)
    v = tl.arange(0, B).to(tl.i32)
    for k in tl.static_range(n):
        v = (v ^ k) + 3
    tl.store(y, 0, (v & 1023).to(tl.f32) + tl.load(x, 0, B) * 0)


@tl.jit
def moved(x: tl.f32["N"], y: tl.f32["N"], n: int, B: int = 64):
    tl.grid(1)
    v = tl.load(x, 0, B).reshape(8, 8)
    for _ in tl.static_range(n):
        v = v.T + 1.0
    tl.store(y, 0, v.reshape(B))


def expected(kernel: Any, x: np.ndarray, n: int) -> np.ndarray:
    def steps(v: np.ndarray, step: Any) -> np.ndarray:
        for k in range(n):
            v = step(v, k)
        return v

    first = x.astype(np.float64)[:64]
    if kernel is multiply_adds:
        return steps(first, lambda v, k: v * 0.5 + 1)
    if kernel is loads:
        return steps(first, lambda v, k: v * 0.5 + x[k % 7 :][:64])
    if kernel is used_twice:
        return steps(first, lambda v, k: v * v * 0.5 + v * 0.25)
    if kernel is scalars:
        return np.append(steps(first[:1], lambda v, k: v * 0.5 + 1), np.zeros(63))
    if kernel is moved:
        return (first.reshape(8, 8).T if n % 2 else first.reshape(8, 8)).reshape(64) + n
    v = np.arange(64)
    for k in range(n):
        v = (v ^ k) + 3
    return v & 1023


KERNELS = (multiply_adds, loads, used_twice, scalars, integers, moved)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__)
def test_longer_than_python_recurses(kernel: Any, engine: str) -> None:
    x, y = np.linspace(0, 1, 80, dtype=np.float32), np.zeros(64, np.float32)
    x = x if kernel is loads else x[:64]
    y = y if kernel is not loads else np.zeros(80, np.float32)
    kernel.on(engine)(x, y, n=300)
    np.testing.assert_allclose(y[:64], expected(kernel, x, 300), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx"])
@pytest.mark.parametrize("kernel", [k for k in KERNELS if k is not moved], ids=lambda k: k.__name__)
def test_ten_thousand_operations(kernel: Any, engine: str) -> None:
    x, y = np.linspace(0, 1, 80, dtype=np.float32), np.zeros(80, np.float32)
    x, y = (x, y) if kernel is loads else (x[:64], y[:64])
    n = 2500 if kernel is used_twice else 5000
    kernel.on(engine)(x, y, n=n)
    np.testing.assert_allclose(y[:64], expected(kernel, x, n), rtol=1e-5, atol=1e-6)
