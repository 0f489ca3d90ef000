"""Warm calls of fused functions, which make their outputs: the same results and errors as the first calls."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import tilus as tl

SCALE = 3.0


@tl.fuse
def scaled(x, y, factor: float = 2.0):
    return x * factor + y, tl.sum(x)


@tl.fuse
def by_global(x):
    return x * SCALE


@tl.fuse
def doubled(x):
    return x + x


def is_quick(fused: Any) -> bool:
    return type(fused.called).__name__ == "builtin_function_or_method"


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_results_are_new_arrays() -> None:
    scaled.forget()
    seen = []
    for seed in range(6):
        x, y = numbers(40, 30, seed=seed), numbers(40, 30, seed=seed + 9)
        first, total = scaled(x, y)
        np.testing.assert_allclose(first, x * 2 + y, rtol=1e-6)
        np.testing.assert_allclose(total, x.sum(dtype=np.float64), rtol=1e-4, atol=1e-4)
        assert (type(first), total.shape) == (np.ndarray, ())
        seen.append((first, total))
    assert is_quick(scaled)
    assert len({f.ctypes.data for f, _ in seen}) == 6


def test_other_calls_of_one_that_is_quick() -> None:
    scaled.forget()
    x = numbers(40, 30)
    for _ in range(3):
        scaled(x, x)
    assert is_quick(scaled)
    np.testing.assert_allclose(scaled(x, x, 3.0)[0], x * 4, rtol=1e-6)
    np.testing.assert_allclose(scaled(y=x, x=x)[0], x * 3, rtol=1e-6)
    np.testing.assert_allclose(scaled(x[:7, ::2], x[:7, ::2])[0], x[:7, ::2] * 3, rtol=1e-6)
    out = np.empty_like(x), np.empty((), np.float32)
    assert scaled(x, x, out=out)[0] is out[0]
    wide = x.astype(np.float64)
    assert scaled(wide, wide)[0].dtype == np.float64
    with tl.engine("interpret"):
        np.testing.assert_allclose(scaled(x, x)[0], x * 3, rtol=1e-6)
    for _ in range(3):
        with pytest.raises(tl.UserError, match="E0602"):
            scaled(x, numbers(40, 29))
    np.testing.assert_allclose(scaled(x, x)[0], x * 3, rtol=1e-6)


def test_globals_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers(100)
    for _ in range(4):
        np.testing.assert_allclose(by_global(x), x * 3, rtol=1e-6)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 5.0)
    for _ in range(4):
        np.testing.assert_allclose(by_global(x), x * 5, rtol=1e-6)


def test_no_references_are_kept_or_lost() -> None:
    x = numbers(100)
    for _ in range(4):
        doubled(x)
    before = sys.getrefcount(x)
    results = [doubled(x) for _ in range(100)]
    assert is_quick(doubled)
    assert sys.getrefcount(x) == before
    assert {sys.getrefcount(r) for r in results} == {sys.getrefcount(np.empty(1)) + 2}
    pairs = [scaled(x, x) for _ in range(10)]
    assert len({sys.getrefcount(a) for pair in pairs for a in pair}) == 1


@pytest.mark.parametrize("shape", [(0,), (1,), (5, 0), (3, 1, 7)])
def test_extents(shape: tuple[int, ...]) -> None:
    x = numbers(*shape)
    for _ in range(5):
        found = doubled(x)
        assert found.shape == shape
        np.testing.assert_array_equal(found, x + x)


def test_gradients_with_values() -> None:
    @tl.fuse
    def loss(x, y):
        return tl.sum(x * x * y)

    one, both = tl.value_and_grad(loss), tl.value_and_grad(loss, (0, 1))
    x, y = numbers(50), numbers(50, seed=1)
    for _ in range(5):
        value, gradient = one(x, y)
        again, (first, second) = both(x, y)
        np.testing.assert_allclose([value, again], [(x * x * y).sum()] * 2, rtol=1e-4)
        np.testing.assert_allclose(gradient, 2 * x * y, rtol=1e-5)
        np.testing.assert_allclose(first, 2 * x * y, rtol=1e-5)
        np.testing.assert_allclose(second, x * x, rtol=1e-5)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    scaled.forget()
    for _ in range(5):
        x, y = torch.randn(40, 30), torch.randn(40, 30)
        first, total = scaled(x, y)
        torch.testing.assert_close(first, 2 * x + y)
        torch.testing.assert_close(total, x.sum(), rtol=1e-4, atol=1e-4)
    assert is_quick(scaled)
    with pytest.raises(tl.UserError, match="requires a gradient"):
        scaled(torch.randn(40, 30, requires_grad=True), y)
    assert (scaled(x[:, :0], y[:, :0])[1] == 0).all()
    found = scaled(x.numpy(), y.numpy())[0]
    assert isinstance(found, np.ndarray)
