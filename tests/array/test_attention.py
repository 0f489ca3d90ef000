"""Attention in fused functions: one kernel, in which no scores are in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

Array = Any
ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_90a:ptx")
TYPES = {"f32": ("f", 2e-6), "f16": ("e", 2e-3), "f64": ("d", 1e-13)}
SIMULATED = {ENGINES[2]: {"f16": 0, "f32": 1}, ENGINES[3]: {"f16": 2, "f32": 0, "f64": 1}, ENGINES[4]: {"f16": 1}}
"""The shape, by its number, that types are simulated with."""
SHAPES = [(1, 2, 70, 91, 64, 64), (2, 1, 33, 33, 40, 17), (1, 1, 1, 130, 128, 64), (1, 1, 3, 1, 5, 1),
          (1, 2, 0, 4, 8, 8)]


@tl.fuse
def attention(q, k, v, scale: float = 0.125, causal: bool = False):
    s = (q @ k.transpose(0, 1, 3, 2)) * scale
    if causal:
        i, j = tl.arange(q.shape[2])[:, None], tl.arange(k.shape[2])[None, :]
        s = tl.where(j <= i + (k.shape[2] - q.shape[2]), s, float("-inf"))
    p = tl.exp(s - tl.max(s, axis=3)[..., None])
    return (p / tl.sum(p, axis=3)[..., None]) @ v


@tl.fuse
def rounded(q, k, v, scale: float = 0.125, causal: bool = False):
    s = (q @ k.transpose(0, 1, 3, 2)) * scale
    if causal:
        i, j = tl.arange(q.shape[2])[:, None], tl.arange(k.shape[2])[None, :]
        s = tl.where(i + (k.shape[2] - q.shape[2]) < j, float("-inf"), s)
    p = tl.exp(s - tl.max(s, axis=3)[..., None])
    return (p / tl.sum(p, axis=3)[..., None]).to(v.dtype) @ v


@tl.fuse
def biased(q, k, v, bias, gate):
    """Scores with a bias and a soft cap, queries that are computed, and a gate on what comes out."""
    s = tl.tanh((q * 2) @ k.T / 3) * 3 + bias
    p = tl.exp(s - tl.max(s, axis=1)[:, None])
    return (p / tl.sum(p, axis=1)[:, None]) @ (v + 1) * tl.sigmoid(gate) + q


@tl.fuse
def with_weights(q, k, v):
    s = q @ k.T
    p = tl.exp(s - tl.max(s, axis=1)[:, None])
    w = p / tl.sum(p, axis=1)[:, None]
    return w @ v, w


def softmax(s: Array) -> Array:
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def numbers(shapes: tuple[tuple[int, ...], ...], dtype: str = "f") -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def reference(q: Array, k: Array, v: Array, scale: float, causal: bool) -> Array:
    q, k, v = (x.astype("d") for x in (q, k, v))
    s = q @ k.transpose(0, 1, 3, 2) * scale
    if causal:
        s = np.where(np.arange(k.shape[2]) <= np.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2], s, -np.inf)
    return softmax(s) @ v


def assert_near(found: Array, wanted: Array, bound: float) -> None:
    assert found.shape == wanted.shape
    assert np.linalg.norm(found.astype("d") - wanted) <= bound * np.linalg.norm(wanted)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", TYPES)
def test_attention(kind: str, shape: tuple[int, ...], engine: str) -> None:
    dtype, bound = TYPES[kind]
    if engine.startswith("sim") and SHAPES.index(shape) != SIMULATED[engine].get(kind):
        pytest.skip("types and shapes by turns")
    b, h, m, n, d, e = shape
    q, k, v = numbers(((b, h, m, d), (b, h, n, d), (b, h, n, e)), dtype)
    function = rounded if kind == "f16" else attention
    for causal in (False, True)[: 1 + (m <= n)]:
        assert_near(function.on(engine)(q, k, v, causal=causal), reference(q, k, v, 0.125, causal), bound)


@pytest.mark.parametrize("engine", ENGINES[:4])
def test_what_is_around_attention(engine: str) -> None:
    q, k, v, bias, gate = numbers(((37, 24), (50, 24), (50, 24), (37, 50), (24,)))
    wanted = softmax(np.tanh((q * 2.0) @ k.T / 3) * 3 + bias) @ (v + 1.0) / (1 + np.exp(-gate)) + q
    assert_near(biased.on(engine)(q, k, v, bias, gate), wanted, 2e-6)


def test_one_kernel_unless_the_weights_are_wanted() -> None:
    q, k, v = numbers(((1, 1, 40, 16), (1, 1, 50, 16), (1, 1, 50, 16)))
    assert "kernels: attention\n" in attention.explain(q, k, v)
    found = with_weights(q[0, 0], k[0, 0], v[0, 0])
    weights = softmax(q[0, 0].astype("d") @ k[0, 0].T)
    assert_near(found[1], weights, 2e-6)
    assert_near(found[0], weights @ v[0, 0], 2e-6)


def test_turned_operands() -> None:
    q, k, v = numbers(((2, 40, 3, 16), (2, 50, 3, 16), (2, 50, 3, 16)))
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    assert_near(attention(q, k, v), reference(q, k, v, 0.125, False), 2e-6)


def test_rows_that_see_nothing() -> None:
    q, k, v = numbers(((1, 1, 5, 8), (1, 1, 3, 8), (1, 1, 3, 8)))
    found = attention(q, k, v, causal=True)
    assert np.isnan(found[0, 0, :2]).all()
    assert_near(found[:, :, 2:], reference(q[:, :, 2:], k, v, 0.125, True), 2e-6)


@tl.fuse
def guarded(q, k, v):
    i, j = tl.arange(q.shape[0])[:, None], tl.arange(k.shape[0])[None, :]
    s = tl.where(j <= i + (k.shape[0] - q.shape[0]), q @ k.T, float("-inf"))
    most = tl.max(s, axis=1)[:, None]
    p = tl.exp(s - tl.where(most == float("-inf"), 0.0, most))
    total = tl.sum(p, axis=1)[:, None]
    return (p / tl.where(total == 0.0, 1.0, total)) @ v


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ENGINES[:4])
def test_rows_that_see_nothing_give_0_where_that_is_said(engine: str) -> None:
    q, k, v = numbers(((5, 8), (3, 8), (3, 8)))
    assert "kernels: guarded\n" in guarded.explain(q, k, v)
    found = guarded.on(engine)(q, k, v)
    assert not found[:2].any()
    assert_near(found[2:], reference(q[None, None, 2:], k[None, None], v[None, None], 1.0, True)[0, 0], 2e-6)


def test_scores_of_any_size() -> None:
    q, k, v = numbers(((1, 1, 5, 8), (1, 1, 70, 8), (1, 1, 70, 8)))
    q, k = q * 1e3, k * 1e3
    assert_near(attention(q, k, v), reference(q, k, v, 0.125, False), 2e-3)
