"""Derivatives against central differences in f64: every operation, compositions, calls in other functions, and once
more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

import tilus as tl

Array = Any
ENGINES = ("interpret", "cpu")


INTERPRETED = ("interpret",)


def agrees(function: Any, *arrays: Array, argnums: tuple[int, ...] | None = None, engines: tuple[str, ...] = ENGINES,
           tolerance: float = 1e-6, **constants: Any) -> None:
    """The derivative along random directions is what differences of the function say."""
    rng = np.random.default_rng(7)
    numbers = argnums if argnums is not None else tuple(range(len(arrays)))
    shape = np.shape(function.on("interpret")(*arrays, **constants))
    cotangent = rng.standard_normal(shape)
    directions = [rng.standard_normal(arrays[n].shape) for n in numbers]
    wanted = []
    for n, direction in zip(numbers, directions, strict=True):
        ends = []
        for h in (1e-5, -1e-5):
            moved = [a + h * direction if i == n else a for i, a in enumerate(arrays)]
            ends.append((function.on("interpret")(*moved, **constants) * cotangent).sum())
        wanted.append((ends[0] - ends[1]) / 2e-5)
    for engine in engines:
        found = tl.vjp(function, numbers).on(engine)(cotangent, *arrays, **constants)
        for n, gradient, direction, expected in zip(numbers, found, directions, wanted, strict=True):
            assert gradient.shape == arrays[n].shape
            assert gradient.dtype == arrays[n].dtype
            assert abs((gradient * direction).sum() - expected) <= tolerance * max(1.0, abs(expected)), (n, engine)


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


UNARY = (
    ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt"),
    ("rcp", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"),
    ("tanh", "asinh", "atanh", "erf", "erfc", "sigmoid", "abs", "floor", "round"),
)


@tl.fuse
def of_functions(x, weights, names: tuple):
    total = x * 0
    for n in tl.static_range(len(names)):
        total = total + weights[n] * getattr(tl, names[n])(x)
    return total


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("names", UNARY, ids=lambda names: names[0])
def test_functions_of_one_number(names: tuple[str, ...]) -> None:
    x = np.random.default_rng(1).uniform(0.2, 0.8, (3, 5))
    agrees(of_functions, x, normal(len(names)), names=names)
    agrees(of_functions, x + 1, normal(1), names=("acosh",))


@tl.fuse
def of_pairs(x, y):
    a = x + y * 3 - x * y + x / y
    b = tl.minimum(x, y) * 2 + tl.maximum(x * 2, y) + tl.atan2(x, y) + tl.copysign(x, y)
    c = tl.pow(x, y) + x**3 + tl.fmod(x * 7, y) + (x * 5) % y + tl.fma(x, y, x) + (x // y) * 2
    return a + b * c + tl.where(x > y, x * x, y) + tl.relu(x - y) + tl.clamp(x, 0.4, 0.6)


@tl.fuse
def of_activations(x):
    return tl.gelu(x) + tl.silu(x) * 2 + tl.gelu(x, "tanh") * tl.sigmoid(x) + tl.abs(-x) + 2.0**x


def test_functions_of_two_numbers() -> None:
    rng = np.random.default_rng(2)
    agrees(of_pairs, rng.uniform(0.2, 0.9, (4, 5)), rng.uniform(0.2, 0.9, (4, 5)))
    agrees(of_pairs, rng.uniform(0.2, 0.9, (1, 5)), rng.uniform(0.2, 0.9, (4, 1)), engines=INTERPRETED)
    agrees(of_activations, normal(20))


@tl.fuse
def of_reductions(x):
    rows = tl.sum(x, axis=1, keepdims=True) * tl.mean(x * x, axis=0)
    return rows + tl.max(x, axis=1, keepdims=True) * tl.min(x, axis=0) + tl.prod(x, axis=1, keepdims=True) + tl.max(x)


@tl.fuse
def product(x):
    return tl.prod(x, axis=1)


@tl.fuse
def running_products(x, reverse: bool = False):
    return tl.cumprod(x, 1, reverse=reverse)


@tl.fuse
def of_scans(x):
    return tl.cumsum(x, 1) * tl.cummax(x, 0) + tl.cumsum(x * x, 0, reverse=True) * tl.cummin(x, 1, reverse=True)


def test_reductions_and_scans() -> None:
    agrees(of_reductions, normal(4, 6))
    agrees(of_scans, normal(5, 7))
    x = normal(5, 4)
    x[1, 2] = x[2, 0] = x[2, 3] = x[3, 0] = 0  # one 0 in a row, two, and the first element
    agrees(product, x)
    agrees(running_products, x)
    agrees(running_products, x, reverse=True, engines=INTERPRETED)


def test_equals_share_the_derivative_of_an_extremum() -> None:
    @tl.fuse
    def greatest(x):
        return tl.sum(tl.max(x, axis=1)) + tl.sum(tl.maximum(x[:, 0], x[:, 1]))

    x = np.array([[3.0, 3, 1], [0, 2, 2]])
    np.testing.assert_allclose(tl.grad(greatest)(x), [[1, 1, 0], [0, 1.5, 0.5]])


@tl.fuse
def of_products(a, b, c):
    return (a @ b) @ c + tl.einsum("mk,nk->mn", a @ b, tl.tanh(c.T @ b.T) @ b)


@tl.fuse
def of_vectors(x, w):
    return tl.exp(x @ w) * (w @ w) + x.sum(1)


@tl.fuse
def of_batches(a, b):
    return tl.einsum("bhqd,bhkd->bhqk", a, b) * tl.einsum("bhqd,bhkd->bqk", a, b)[:, None]


@tl.fuse
def of_softmax(q, k, v):
    s = q @ k.transpose(0, 2, 1) * 0.3
    p = tl.exp(s - tl.max(s, axis=2, keepdims=True))
    return p / tl.sum(p, axis=2, keepdims=True) @ v


@tl.fuse
def of_layers(x, weight, bias):
    centred = x - tl.mean(x, axis=1, keepdims=True)
    return centred * tl.rsqrt(tl.mean(centred * centred, axis=1, keepdims=True) + 1e-3) * weight + bias


@tl.fuse
def convolution(x, w, stride: int = 1):
    x = tl.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return tl.einsum("nchwij,ocij->nohw", tl.windows(x, (3, 3), (2, 3), stride=stride), w)


def test_products() -> None:
    agrees(of_products, normal(4, 5), normal(5, 6), normal(6, 3))
    agrees(of_vectors, normal(4, 5), normal(5), engines=INTERPRETED)
    agrees(of_batches, normal(2, 3, 4, 5), normal(2, 3, 6, 5), engines=INTERPRETED)
    agrees(of_softmax, normal(2, 4, 5), normal(2, 6, 5), normal(2, 6, 3))
    agrees(of_layers, normal(4, 9), normal(9), normal(9), engines=INTERPRETED)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions(stride: int) -> None:
    agrees(convolution, normal(2, 3, 5, 6), normal(4, 3, 3, 3), stride=stride)


@tl.fuse
def of_moves(x):
    y = tl.concatenate([x[1:, ::-1], x[:1] * 2, tl.pad(x, ((1, 0), (0, 0)), 2.0)], 0)
    z = y.reshape(-1)[3:] * 2
    return y[:, 1] * y[2, 0] + tl.flip(y, 0)[:, 3] + z[: y.shape[0]] + y.T.reshape(-1, 2)[1, 0] * y.T[2, ::-1]


@tl.fuse
def of_steps(x):
    return x[1::3] * 2 + x[0] - tl.broadcast_to(x[None, 3], (x.shape[0] // 3, 1))


@tl.fuse
def of_windows(x, size: int, stride: int):
    w = tl.windows(x, size, 1, stride=stride)
    return tl.max(w, axis=2) + tl.sum(w * w, axis=2)


def test_moves() -> None:
    agrees(of_moves, normal(3, 4))
    agrees(of_steps, normal(12, 1))
    for size, stride in ((3, 1), (2, 2), (3, 2), (20, 1)):
        agrees(of_windows, normal(3, 24), engines=INTERPRETED, size=size, stride=stride)


@tl.fuse
def of_indices(x, u, i):
    y = tl.scatter_add(x[i] * 2, i % 3, tl.tanh(u))
    return tl.scatter(y, i[:2], u[:2] * u[2:4]) * tl.take(x, tl.broadcast_to(i[None] % 4, (x.shape[0], 5)), 1)[:, 1:]


@tl.fuse
def of_order(x):
    values, indices = tl.topk(x, 3)
    return tl.sort(x, 0)[:, :3] * tl.exp(values) + indices


def test_indices_and_order() -> None:
    i = np.array([1, 0, 3, 2, 1])
    agrees(of_indices, normal(5, 4), normal(5, 4), i, argnums=(0, 1))
    agrees(of_order, normal(5, 7))


@tl.fuse
def loss(w, x, y):
    h = tl.tanh(x @ w)
    return tl.mean((h - y) * (h - y))


@tl.fuse
def step(w, x, y, rate: float = 0.1):
    value, (dw, dx) = tl.value_and_grad(loss, (0, 1))(w, x, y)
    return w - rate * dw, dx * value


@tl.fuse
def curvature(w, x, y):
    return tl.sum(tl.grad(loss)(w, x, y) * tl.sin(w))


def gradients(w: Array, x: Array, y: Array) -> tuple[float, Array, Array, Array]:
    h = np.tanh(x @ w)
    inner = (h - y) * (1 - h * h) * 2 / h.size
    return ((h - y) ** 2).mean(), x.T @ inner, inner @ w.T, -2 * (h - y) / h.size


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", [*ENGINES, "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_90a:ptx"])
def test_what_it_gives(engine: str) -> None:
    w, x, y = (a.astype("f") for a in (normal(4, 3), normal(9, 4), normal(9, 3)))
    value, dw, dx, dy = gradients(*(a.astype("d") for a in (w, x, y)))
    close = {"rtol": 1e-4, "atol": 1e-6}
    new, scaled = step.on(engine)(w, x, y)
    np.testing.assert_allclose(new, w - 0.1 * dw, **close)
    np.testing.assert_allclose(scaled, dx * value, **close)
    np.testing.assert_allclose(tl.grad(loss, -1).on(engine)(w, x, y), dy, **close)
    if engine.startswith("simulate"):
        return
    one, (second, first) = tl.value_and_grad(loss, (1, 0)).on(engine)(w, x, y)
    np.testing.assert_allclose([one, *second.ravel(), *first.ravel()], [value, *dx.ravel(), *dw.ravel()], **close)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", [bfloat16, np.float16, np.float32])
def test_types_are_those_of_the_parameters(dtype: Any) -> None:
    w, x, y = (a.astype(dtype) for a in (normal(4, 3), normal(9, 4), normal(9, 3)))
    found = tl.grad(loss)(w, x, y)
    _, dw, _, _ = gradients(*(a.astype("d") for a in (w, x, y)))
    assert found.dtype == w.dtype
    tolerance = {np.float32: 1e-5, np.float16: 2e-3, bfloat16: 1e-2}[dtype]
    np.testing.assert_allclose(found.astype("d"), dw, rtol=tolerance, atol=tolerance / 10)


def test_once_more() -> None:
    w, x, y = normal(4, 3), normal(9, 4), normal(9, 3)
    d = normal(4, 3) * 1e-5
    ends = [(tl.grad(loss)(w + s * d, x, y) * np.sin(w + s * d)).sum() for s in (1, -1)]
    found = tl.grad(curvature)(w, x, y)
    np.testing.assert_allclose((found * d).sum(), (ends[0] - ends[1]) / 2, rtol=1e-5)
    third = tl.grad(tl.grad(tl.grad(cube)))(np.array([2.0, 3.0])[0:1].reshape(()))
    np.testing.assert_allclose(third, 6.0)


@tl.fuse
def cube(x):
    return x * x * x


def test_one_argument_twice_and_none_that_matters() -> None:
    @tl.fuse
    def both(x, y, unused):
        return tl.sum(x * y)

    @tl.fuse
    def twice(x):
        return tl.grad(both)(x, x, x)

    x = normal(5)
    np.testing.assert_allclose(twice(x), x)
    assert not tl.grad(both, 2)(x, x, x).any()


def test_extents_and_strides() -> None:
    f: Callable[..., Any] = tl.grad(loss)
    for rows, k, columns in ((9, 4, 3), (1, 1, 1), (70, 33, 5)):
        w, x, y = normal(k, columns), normal(k, rows).T, normal(rows, columns)
        np.testing.assert_allclose(f(w, x, y), gradients(w, x, y)[1], rtol=1e-9)
    assert f(normal(3, 4), np.zeros((5, 3)), np.zeros((5, 4))).any() == 0


def test_it_is_fused() -> None:
    @tl.fuse
    def total(x, y):
        return tl.sum(tl.exp(x) * tl.tanh(y))

    text = tl.grad(total, (0, 1)).explain(normal(9, 8), normal(9, 8))
    assert "kernels: total\n" in text
