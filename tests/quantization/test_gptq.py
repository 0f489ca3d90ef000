"""GPTQ against a plain run of the algorithm in f64, row by row; and its errors against those of rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

BITS = [2, 3, 4, 8]


def layer(k: int, n: int, samples: int, seed: int = 0) -> tuple[Any, Any]:
    """Weights, and inputs that hang together."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((max(1, k // 4), k)) / max(1, k // 4) ** 0.5
    x = rng.standard_normal((samples, len(mix))) @ mix + 0.3 * rng.standard_normal((samples, k))
    return (rng.standard_normal((k, n)) * 0.05).astype(np.float32), x.astype(np.float32)


def reference(w: Any, x: Any, bits: int, group: int, symmetric: bool, act_order: bool, damp: float) -> Any:
    """The numbers that the algorithm gives, f64, of unsigned integers; row i of w is a column of the paper's W."""
    k, n = w.shape
    group = k if group == -1 else group
    wide, samples = w.astype(np.float64), x.astype(np.float64)
    h = 2 / len(samples) * samples.T @ samples
    dead = np.diagonal(h) == 0
    h[dead, dead], wide[dead] = 1, 0
    order = np.argsort(-np.diagonal(h), kind="stable") if act_order else np.arange(k)
    wide, h = wide[order].copy(), h[order][:, order]
    h += damp * np.mean(np.diagonal(h)) * np.eye(k)
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    top, numbers = 2**bits - 1, np.zeros_like(wide)
    for i in range(k):
        if i % group == 0:
            part = wide[i : i + group].astype(np.float32)
            if symmetric:
                scale = (2 * np.abs(part).max(0) / np.float32(top)).astype(np.float16).astype(np.float32)
                zero = np.full(n, 2.0 ** (bits - 1))
            else:
                low, high = np.minimum(part.min(0), 0), np.maximum(part.max(0), 0)
                scale = ((high - low) / np.float32(top)).astype(np.float16).astype(np.float32)
                zero = np.clip(np.rint(-low / np.where(scale == 0, np.float32(np.inf), scale)), 0, top)
            safe = np.where(scale == 0, np.inf, scale.astype(np.float64))
        numbers[i] = (np.clip(np.rint(wide[i] / safe) + zero, 0, top) - zero) * scale
        wide[i + 1 :] -= np.outer(upper[i, i + 1 :], (wide[i] - numbers[i]) / upper[i, i])
    return numbers[np.argsort(order)]


FORMS: list[dict[str, Any]] = [
    {}, {"symmetric": False}, {"group": 32}, {"group": 64, "block": 48}, {"group": -1}, {"act_order": True},
    {"act_order": True, "symmetric": False, "group": 64}, {"block": 1}, {"group": 96, "block": 500, "damp": 0.1},
    {"group": 16, "block": 128},
]


@pytest.mark.sweep
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_equals_the_algorithm(form: dict[str, Any], bits: int) -> None:
    w, x = layer(192, 70, 100)
    x[:, 5] = 0  # an input that is dead
    options = {"group": 64 if "block" in form else 96, "symmetric": True, "act_order": False, "damp": 0.01, **form}
    q = tl.gptq(w, x, tl.integer(bits, False), **options)
    options.pop("block", None)
    expected = reference(w, x, bits, **options)
    np.testing.assert_allclose(tl.dequantize(q), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 5), (7, 1), (37, 129), (130, 64)])
def test_extents(k: int, n: int) -> None:
    w, x = layer(k, n, 40)
    for act_order in (False, True):
        q = tl.gptq(w, x, tl.u3, act_order=act_order)
        expected = reference(w, x, 3, -1, True, act_order, 0.01)
        np.testing.assert_allclose(tl.dequantize(q), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [tl.i4, tl.nf4, tl.f4e2m1, tl.ternary, tl.mxfp4, tl.nvfp4, tl.qlora], ids=str)
def test_other_types_beat_rounding(dtype: Any) -> None:
    w, x = layer(256, 96, 64)
    group = 64 if isinstance(dtype, tl.DType) else None
    found, rounded = tl.gptq(w, x, dtype, group=group), tl.quantize(w, dtype, group=group)
    assert output_error(found, w, x) < 0.7 * output_error(rounded, w, x)
    assert (found.dtype, found.group, found.scale_dtype) == (rounded.dtype, rounded.group, rounded.scale_dtype)


def output_error(q: tl.Quantized, w: Any, x: Any) -> float:
    return float(np.linalg.norm(x @ (tl.dequantize(q) - w)) / np.linalg.norm(x @ w))


@pytest.mark.parametrize("act_order", [False, True])
def test_static_groups_keep_the_scales_of_rounding(act_order: bool) -> None:
    w, x = layer(128, 40, 64)
    found = tl.gptq(w, x, tl.u4, group=32, symmetric=False, static_groups=True, act_order=act_order)
    rounded = tl.quantize(w, tl.u4, group=32, symmetric=False)
    np.testing.assert_array_equal(found.scales, rounded.scales)
    np.testing.assert_array_equal(tl.unpack(found.zeros), tl.unpack(rounded.zeros))
    assert found.order is None
    assert output_error(found, w, x) < 0.7 * output_error(rounded, w, x)


@pytest.mark.parametrize("form", [{}, {"act_order": True}, {"symmetric": False, "static_groups": True}], ids=str)
def test_axis_1_is_the_same_turned(form: dict[str, Any]) -> None:
    w, x = layer(64, 24, 50)
    q, turned = tl.gptq(w, x, group=32, **form), tl.gptq(w.T, x, group=32, axis=1, **form)
    np.testing.assert_array_equal(tl.dequantize(turned), tl.dequantize(q).T)
    assert turned.axis == 1
    assert turned.scales.shape == (24, 2)


def test_moments_and_tensors() -> None:
    torch = pytest.importorskip("torch")
    w, x = layer(64, 24, 50)
    plain = tl.dequantize(tl.gptq(w, x, group=32))
    moments = 2 / 50 * x.astype(np.float64).T @ x.astype(np.float64)
    np.testing.assert_array_equal(tl.dequantize(tl.gptq(w, moments=moments, group=32)), plain)
    q = tl.gptq(torch.from_numpy(w), torch.from_numpy(x), group=32, act_order=True)
    assert all(isinstance(a, torch.Tensor) for a in (q.values.base, q.scales, q.order))
    np.testing.assert_array_equal(tl.dequantize(q), tl.dequantize(tl.gptq(w, x, group=32, act_order=True)))


def test_samples_of_any_rank_and_type() -> None:
    w, x = layer(32, 8, 60)
    halves = x.astype(np.float16)
    once = tl.dequantize(tl.gptq(w, halves))
    np.testing.assert_array_equal(tl.dequantize(tl.gptq(w, halves.reshape(3, 20, 32))), once)


def test_in_f32() -> None:
    """Where a quotient lies beside a half, the code may be another one, and so may those that follow."""
    w, x = layer(192, 70, 100)
    wide, narrow = (tl.gptq(w, x, tl.u4, group=64, precision=p) for p in (tl.f64, tl.f32))
    assert np.mean(tl.dequantize(wide) == tl.dequantize(narrow)) > 0.97
    assert abs(output_error(narrow, w, x) / output_error(wide, w, x) - 1) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_1024(bits: int) -> None:
    """A layer of usual size: the same codes as the plain run, and a smaller error than rounding has."""
    w, x = layer(1024, 1024, 128)
    q = tl.gptq(w, x, tl.integer(bits, False), group=128)
    np.testing.assert_allclose(tl.dequantize(q), reference(w, x, bits, 128, True, False, 0.01), rtol=1e-6, atol=1e-9)
    assert output_error(q, w, x) < 0.6 * output_error(tl.quantize(w, tl.integer(bits, False), group=128), w, x)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"samples": None}, ValueError, "samples of a layer's inputs, or their second moments"),
    ({"moments": np.eye(8)}, ValueError, "one of both"),
    ({"samples": np.ones((3, 7), np.float32)}, ValueError, r"samples of shape \(3, 7\) for weights of 8 rows"),
    ({"samples": np.ones((0, 8), np.float32)}, ValueError, "no calibration samples"),
    ({"samples": np.full((3, 8), np.nan, np.float32)}, ValueError, "not finite"),
    ({"samples": np.ones((3, 8), np.int32)}, TypeError, "samples are floats"),
    ({"samples": None, "moments": np.eye(7)}, ValueError, r"second moments of shape \(7, 7\)"),
    ({"samples": None, "moments": -np.eye(8)}, ValueError, "is negative"),
    ({"damp": 0.0}, ValueError, "not positive definite: take more samples, or a greater damp"),
    ({"group": 3}, ValueError, "groups of 3 do not divide"),
    ({"block": 0}, ValueError, "a block has 1 row or more"),
    ({"precision": tl.f16}, ValueError, "in f64 or f32, not in f16"),
    ({"axis": 2}, ValueError, "axis 0 or 1"),
    ({"w": np.ones((2, 8, 4), np.float32)}, ValueError, "two-dimensional"),
    ({"w": np.ones((8, 4), np.int32)}, TypeError, "f16, bf16, f32 or f64"),
], ids=lambda v: str(v)[:40])
def test_mistakes(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    given = {"w": np.ones((8, 4), np.float32), "samples": np.ones((3, 8), np.float32), **arguments}
    with pytest.raises(error, match=words):
        tl.gptq(**given)


def test_an_order_that_is_none() -> None:
    from dataclasses import replace

    q = tl.gptq(*layer(8, 4, 20), act_order=True)
    with pytest.raises(ValueError, match="has each of their indices once"):
        tl.dequantize(replace(q, order=np.zeros(8, np.int32)))
