"""Rounding to nearest: every kind of narrow type against the definitions, element by element."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.lowering.exact_codes import CODEBOOKS, FLOATS
from tests.quantization import reference
from tests.quantization.reference import f32

INTEGERS = [tl.integer(n, signed=signed) for n in range(1, 9) for signed in (True, False)]
SOME_FLOATS = [tl.f8e5m2, tl.f8e4m3fn, tl.f6e3m2, tl.f6e2m3, tl.f4e2m1, tl.f8e8m0fnu,
               tl.float(8, 0, "finite", signed=False), *FLOATS[::29]]


def weights(dtype: tl.DType, shape: tuple[int, ...] = (32, 12), group: int = 8, seed: int = 0) -> np.ndarray:
    """Numbers as weights have them; a group of zeros, one of subnormals, one of a single number, a negative zero, and
    groups in which quotients are ties and numbers of the type."""
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal(shape) * 0.02 * rng.lognormal(size=shape[1])).astype(f32)
    w[:group, 0] = 0
    w[:group, 1] *= f32(1e-38)
    w[1:group, 2] = -0.0
    exact = np.unique(reference.numbers(dtype))
    exact = exact[np.abs(exact) < 2.0**128]
    ties = np.r_[exact, (exact[1:] + exact[:-1]) / 2]
    reach = reference.reach(dtype)
    for column in range(3, 9):
        w[:group, column] = rng.choice(ties, group)
        w[0, column] = reach
        w[:group, column] *= f32(2.0 ** -int(np.log2(reach) + 3))
    return np.abs(w) if dtype.is_float and not dtype.signed else w


def expected_scales(w: np.ndarray, group: int, dtype: tl.DType, scale: Any, symmetric: bool = True) -> np.ndarray:
    """Of axis 0 of a matrix: the difference of the extremes by the number that it becomes, rounded to ``scale``."""
    found = np.zeros((w.shape[0] // group, w.shape[1]), f32)
    least = f32(ml_dtypes.finfo(scale).smallest_subnormal)
    for place in np.ndindex(*found.shape):
        part = w[place[0] * group : (place[0] + 1) * group, place[1]]
        span = np.abs(part).max() if symmetric else max(part.max(), f32(0)) - min(part.min(), f32(0))
        found[place] = (span / f32(reference.reach(dtype, symmetric))).astype(scale)
        if span > 0 and found[place] == 0:
            found[place] = least
    return found


@pytest.mark.sweep(keep=16)
@pytest.mark.parametrize("dtype", [*INTEGERS, *SOME_FLOATS, *CODEBOOKS], ids=str)
def test_symmetric(dtype: tl.DType) -> None:
    w, group = weights(dtype), 8
    q = tl.quantize(w, dtype, group=group, scale_dtype=tl.f32)
    assert (q.shape, q.dtype, q.group, q.axis) == (w.shape, dtype, group, 0)
    scales = expected_scales(w, group, dtype, f32)
    np.testing.assert_array_equal(q.scales, scales)
    zero = reference.fixed_zero(dtype)
    assert (q.zeros or 0) == zero
    step = reference.spread(scales, w.shape, 0)
    want = np.zeros(w.shape, int)
    for place in np.ndindex(*w.shape):
        quotient = w[place] / step[place] if step[place] else f32(0)
        want[place] = reference.nearest(float(quotient), zero, dtype)
    np.testing.assert_array_equal(reference.codes(q.values), want)
    number = (reference.numbers(dtype)[want].astype(f32) - f32(zero)) * step
    np.testing.assert_array_equal(tl.dequantize(q), number)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_float(dtype: tl.DType) -> None:
    test_symmetric(dtype)


@pytest.mark.parametrize("zero_dtype", [None, tl.f16, tl.bf16, tl.f32], ids=str)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_zero_points(dtype: tl.DType, zero_dtype: tl.DType | None) -> None:
    w, group = weights(dtype), 16
    w[:, 10] = np.abs(w[:, 10]) + f32(0.5)  # 0 is in the range all the same
    w[:, 11] = -np.abs(w[:, 11]) - f32(0.5)
    q = tl.quantize(w, dtype, group=group, symmetric=False, scale_dtype=tl.bf16, zero_dtype=zero_dtype)
    scales = expected_scales(w, group, dtype, ml_dtypes.bfloat16, symmetric=False)
    np.testing.assert_array_equal(q.scales.astype(f32), scales)
    low, high = reference.integers(dtype)
    zeros, step = reference.floats(q.zeros), reference.spread(scales, w.shape, 0)
    for i, j in np.ndindex(*zeros.shape):
        least = min(w[i * group : (i + 1) * group, j].min(), f32(0))
        ideal = f32(low) - (least / scales[i, j] if scales[i, j] else f32(0))
        want = min(max(round(float(ideal)), low), high) if zero_dtype is None else ideal.astype(zero_dtype.numpy)
        assert zeros[i, j] == f32(want)
    spread = reference.spread(zeros, w.shape, 0)
    for place in np.ndindex(*w.shape):
        quotient = w[place] / step[place] if step[place] else f32(0)
        if zero_dtype is None:
            code = round(float(quotient)) + int(spread[place])
        else:
            code = round(float(quotient + spread[place]))
        assert tl.unpack(q.values)[place] == min(max(code, low), high)
    np.testing.assert_array_equal(tl.dequantize(q), (tl.unpack(q.values) - spread) * step)
    again = tl.dequantize(q.values, q.scales, q.zeros)
    np.testing.assert_array_equal(again, tl.dequantize(q))


@pytest.mark.parametrize("dtype", [*INTEGERS, tl.f8e4m3fn, tl.f6e3m2, tl.f4e2m1, tl.nf4, tl.ternary], ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
def test_half_a_step(dtype: tl.DType, symmetric: bool) -> None:
    """Numbers come back within half of the widest gap between the numbers around them."""
    if not symmetric and not dtype.is_int:
        return
    w = (np.random.default_rng(1).standard_normal((64, 40)) * 0.02).astype(f32)
    q = tl.quantize(w, dtype, group=32, scale_dtype=tl.f32, symmetric=symmetric)
    known = np.unique(reference.numbers(dtype)[: len(dtype.values) or None])
    gap = np.diff(known[np.isfinite(known)]).max() if len(known) > 1 else 1
    bound = reference.spread(q.scales, w.shape, 0) * f32(gap) * f32(0.5 + 1e-5)
    assert (np.abs(tl.dequantize(q) - w) <= bound).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axes(axis: int) -> None:
    """The same as of the matrix that has the axis first."""
    w = (np.random.default_rng(2).standard_normal((6, 12, 18)) * 0.1).astype(f32)
    q = tl.quantize(w, tl.i4, axis=axis, group=3)
    rows = np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)
    other = tl.quantize(rows, tl.i4, group=3)
    moved = np.moveaxis(tl.dequantize(q), axis, 0)
    np.testing.assert_array_equal(moved.reshape(rows.shape), tl.dequantize(other))
    assert q.scales.shape == tuple(n // 3 if d == axis % 3 else n for d, n in enumerate(w.shape))


def test_row_major_order() -> None:
    """Without an axis groups run on through rows, and the last one is what is left."""
    w = (np.random.default_rng(3).standard_normal((7, 11)) * 0.1).astype(f32)
    q = tl.quantize(w, tl.i8, axis=None, group=16)
    assert q.scales.shape == (5,)
    for g in range(5):
        part = w.reshape(-1)[16 * g : 16 * g + 16]
        assert q.scales[g] == (np.abs(part).max() / f32(127)).astype(np.float16)
        np.testing.assert_array_equal(tl.dequantize(q).reshape(-1)[16 * g : 16 * g + 16],
                                      np.rint(part / f32(q.scales[g])) * f32(q.scales[g]))
    whole = tl.quantize(w, tl.i8, axis=None)
    assert whole.scales.tolist() == [(np.abs(w).max() / f32(127)).astype(np.float16)]
    np.testing.assert_array_equal(tl.dequantize(whole.values, whole.scales, axis=None), tl.dequantize(whole))


@pytest.mark.parametrize("shape", [(5,), (1, 1), (3, 70001), (70001, 3), (2, 3, 33000), (40000,)])
def test_parts(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """In how large parts an array is done makes no difference."""
    from tilus.quantization import groups

    w = np.random.default_rng(4).standard_normal(shape).astype(f32)
    for axis in (0, len(shape) - 1, None):
        for symmetric in (True, False):
            monkeypatch.setattr(groups, "PART", 1 << 15)
            q = tl.quantize(w, tl.u3, axis=axis, symmetric=symmetric)
            monkeypatch.setattr(groups, "PART", 1 << 30)
            whole = tl.quantize(w, tl.u3, axis=axis, symmetric=symmetric)
            np.testing.assert_array_equal(q.values.base, whole.values.base)
            np.testing.assert_array_equal(q.scales, whole.scales)
            np.testing.assert_array_equal(tl.dequantize(q), tl.dequantize(whole))


@pytest.mark.parametrize("source", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_sources(source: Any) -> None:
    w = np.random.default_rng(5).standard_normal((32, 5)).astype(source)
    for array in (w, w[::2, ::-1], w.T):
        for dtype in (tl.i5, tl.u5, tl.f6e2m3, tl.nf4):
            q, other = tl.quantize(array, dtype), tl.quantize(array.astype(f32), dtype)
            np.testing.assert_array_equal(q.values.base, other.values.base)
            np.testing.assert_array_equal(q.scales, other.scales)


@pytest.mark.parametrize("dtype", [tl.integer(12), tl.integer(16, signed=False), tl.i16], ids=str)
def test_wider_integers(dtype: tl.DType) -> None:
    w = np.random.default_rng(6).standard_normal((64, 3)).astype(f32)
    for symmetric in (True, False):
        q = tl.quantize(w, dtype, scale_dtype=tl.f32, symmetric=symmetric)
        assert (np.abs(tl.dequantize(q) - w) <= q.scales * f32(0.51)).all()


def test_mean_magnitude() -> None:
    w = (np.random.default_rng(7).standard_normal((40, 30)) * 0.02).astype(f32)
    q = tl.quantize(w, tl.ternary, axis=None, scale="mean", scale_dtype=tl.f32)
    mean = f32(np.abs(w.astype(np.float64)).mean())
    assert q.scales.tolist() == [mean]
    np.testing.assert_array_equal(tl.dequantize(q), np.clip(np.rint(w / mean), -1, 1) * mean)
    sign = tl.quantize(w, tl.u1, axis=None, scale="mean", scale_dtype=tl.f32)
    np.testing.assert_array_equal(tl.dequantize(sign), np.where(w > 0, mean, -mean))
    assert tl.quantize(w * 0, tl.ternary, axis=None, scale="mean", scale_dtype=tl.f32).scales[0] == f32(1e-5)


def test_zero_points_from_elsewhere() -> None:
    """One for all groups, or integers of another type, as checkpoints have them."""
    w = np.random.default_rng(9).standard_normal((64, 6)).astype(f32)
    q = tl.quantize(w, tl.u4, group=16)
    for zero in (8, 8.0, np.int64(8), np.array(8), np.full(q.scales.shape, 8, np.int32)):
        np.testing.assert_array_equal(tl.dequantize(q.values, q.scales, zero), tl.dequantize(q))
    other = tl.quantize(w, tl.u4, group=16, symmetric=False)
    zeros = tl.unpack(other.zeros).astype(np.int16)
    np.testing.assert_array_equal(tl.dequantize(other.values, other.scales, zeros), tl.dequantize(other))


def test_special_numbers() -> None:
    """NaNs and infinities stay where the type has them, and are no part of the range."""
    w = np.array([[1, np.nan, 2, -4, np.inf, -np.inf, 0.5, -0.0]], f32)
    q = tl.quantize(w, tl.f8e5m2, axis=1, scale_dtype=tl.f32)
    assert q.scales[0, 0] == f32(4) / f32(57344)
    np.testing.assert_array_equal(tl.dequantize(q), w)
    assert np.signbit(tl.dequantize(q)[0, -1])
    w[np.isinf(w)] = 3
    np.testing.assert_array_equal(np.isnan(tl.dequantize(tl.quantize(w, tl.f8e4m3fn, axis=1))), np.isnan(w))
    q = tl.quantize(np.array([0, np.nan, np.inf, 0]), tl.f8e5m2)  # nothing to scale by
    assert q.scales.tolist() == [0]


def test_scales_that_underflow() -> None:
    """Where a scale would be 0, the least number of its type takes its place."""
    w = np.full((4, 2), 1e-7, f32)
    w[:, 1] = 0
    q = tl.quantize(w, tl.i4, scale_dtype=tl.f16)
    assert q.scales.tolist() == [[np.float16(6e-8), 0]]
    assert (np.abs(tl.dequantize(q) - w) <= 3e-8).all()


def test_results_of_other_types() -> None:
    w = np.random.default_rng(8).standard_normal((8, 4)).astype(f32)
    q = tl.quantize(w, tl.i4)
    for target in (np.float16, ml_dtypes.bfloat16, np.float64):
        found = tl.dequantize(q, dtype=target)
        assert found.dtype == target
        np.testing.assert_array_equal(found, tl.dequantize(q).astype(target))
    assert repr(q) == "<quantised i4[8, 4], groups of 8 along axis 0, scales of f16, 24 bytes>"


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    w = torch.randn(64, 8, dtype=torch.bfloat16)
    for dtype in (tl.u4, tl.mxfp4, tl.nvfp4, tl.qlora):
        axis = None if dtype is tl.qlora else 0
        q, other = tl.quantize(w, dtype, axis=axis), tl.quantize(w.float().numpy(), dtype, axis=axis)
        assert isinstance(q.values.base, torch.Tensor)
        np.testing.assert_array_equal(q.values.base.numpy(), other.values.base)
        np.testing.assert_array_equal(tl.dequantize(q), tl.dequantize(other))
    assert tl.quantize(w, tl.i4).scales.dtype == torch.float16
    assert tl.quantize(w, tl.mxfp4).scales.dtype == torch.float8_e8m0fnu
    assert tl.quantize(w, tl.mxfp4).scale_dtype == tl.f8e8m0fnu
    assert tl.quantize(w, tl.u4, symmetric=False, zero_dtype=tl.bf16).zeros.dtype == torch.bfloat16
