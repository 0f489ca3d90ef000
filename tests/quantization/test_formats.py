"""Formats with scales of narrow types: OCP microscaling, NVFP4 and QLoRA, by their definitions."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.lowering import exact_codes
from tests.quantization import reference
from tests.quantization.reference import f32

MX = {tl.mxfp4: 2, tl.mxfp6e3m2: 4, tl.mxfp6e2m3: 2, tl.mxfp8e5m2: 15, tl.mxfp8e4m3: 8}
"""The exponents of the greatest numbers of the element types (OCP Microscaling Formats 1.0, table 1)."""


def weights(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal(shape) * 0.02 * rng.lognormal(size=shape[-1], sigma=3)).astype(f32)
    w[:, 0], w[:32, 1] = 0, 1e-39
    w[:, 2] *= f32(2.0**127 / np.abs(w[:, 2]).max(initial=1))
    w[:, 3] = 2.0 ** rng.integers(-3, 3, shape[0])
    return w


@pytest.mark.parametrize("format", MX, ids=lambda format: str(format.dtype))
def test_microscaling(format: tl.QuantFormat) -> None:
    w = weights((96, 20))
    q = tl.quantize(w, format)
    assert q.group == 32
    assert q.scales.dtype == ml_dtypes.float8_e8m0fnu
    for g, j in np.ndindex(3, 20):
        block = w[32 * g : 32 * g + 32, j].astype(np.float64)
        amax = np.abs(block).max()
        exponent = max(-127, math.frexp(amax)[1] - 1 - MX[format]) if amax else -127
        assert float(q.scales[g, j]) == 2.0**exponent
        greatest = reference.greatest(format.dtype)
        scaled = np.clip(block / 2.0**exponent, -greatest, greatest)
        np.testing.assert_array_equal(reference.codes(q.values)[32 * g : 32 * g + 32, j],
                                      exact_codes.nearest(scaled, format.dtype))


def test_mxint8() -> None:
    """The specification's elements have six fraction bits: the scale here is 2^-6 of its scale."""
    w = weights((64, 20), 1)
    q = tl.quantize(w, tl.mxint8)
    for g, j in np.ndindex(2, 20):
        block = w[32 * g : 32 * g + 32, j].astype(np.float64)
        amax = np.abs(block).max()
        exponent = max(-127, math.frexp(amax)[1] - 1 - 6) if amax else -127
        assert float(q.scales[g, j]) == 2.0**exponent
        want = np.clip(np.rint(block / 2.0**exponent), -128, 127)
        np.testing.assert_array_equal(tl.unpack(q.values)[32 * g : 32 * g + 32, j], want)


def test_nvfp4() -> None:
    rng = np.random.default_rng(2)
    w = (rng.standard_normal((64, 48)) * 0.02 * rng.lognormal(size=48)).astype(f32)
    w[:16, 0], w[:16, 1] = 0, 1e-12
    q = tl.quantize(w, tl.nvfp4)
    assert q.scales.dtype == tl.f8e4m3fn
    assert q.scales.shape == (4, 48)
    tensor_scale = np.abs(w).max() / f32(6) / f32(448)
    assert q.scales.scales.tolist() == [tensor_scale]
    blocks = w.reshape(4, 16, 48)
    scales = (np.abs(blocks).max(axis=1) / f32(6) / tensor_scale).astype(ml_dtypes.float8_e4m3fn)
    kept = tl.unpack(q.scales.values)
    np.testing.assert_array_equal(kept, scales.astype(f32))
    step = scales.astype(f32) * tensor_scale
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(step[:, None] > 0, blocks / step[:, None], 0).astype(np.float64)
    codes = exact_codes.nearest(np.clip(scaled, -6, 6), tl.f4e2m1)
    have = reference.codes(q.values).reshape(4, 16, 48)
    np.testing.assert_array_equal(have & 7, codes & 7)
    number = exact_codes.numbers(tl.f4e2m1)[have].astype(f32)
    np.testing.assert_array_equal(tl.dequantize(q), (number * step[:, None]).reshape(w.shape))


def test_qlora() -> None:
    """Blocks of 64 in row-major order; their greatest magnitudes less the mean of these, in blocks of 256."""
    w = (np.random.default_rng(3).standard_normal((300, 72)) * 0.02).astype(f32)  # the last blocks are short
    q = tl.quantize(w, tl.qlora, axis=None)
    flat = w.reshape(-1)
    blocks = [flat[i : i + 64] for i in range(0, flat.size, 64)]
    amax = np.array([np.abs(b).max() for b in blocks])
    offset = f32(amax.astype(np.float64).mean())
    assert q.scales.offset == offset
    table = sorted([0.0, 1.0, *(s * (a + 0.9 / n / 2) * 10.0 ** (i - 6) for s in (1, -1) for i in range(7)
                                for n in [2**i] for a in (0.1 + 0.9 * k / n for k in range(n)))])
    assert len(table) == 256
    code8 = np.array(q.scales.dtype.values)
    np.testing.assert_allclose(code8, table, rtol=1e-6)
    moved = amax - offset
    second = np.array([np.abs(moved[i : i + 256]).max() for i in range(0, len(moved), 256)])
    np.testing.assert_array_equal(q.scales.scales, second)
    have = reference.codes(q.scales.values)
    quotients = moved / np.repeat(second, 256)[: len(moved)]
    np.testing.assert_array_equal(have, [np.abs(code8 - x).argmin() for x in quotients.astype(np.float64)])
    scales = code8[have].astype(f32) * np.repeat(second, 256)[: len(moved)] + offset
    nf4 = np.array(tl.nf4.values)
    codes = np.concatenate([[np.abs(nf4 - x).argmin() for x in (b / a).astype(np.float64)]
                            for b, a in zip(blocks, amax, strict=True)])
    np.testing.assert_array_equal(reference.codes(q.values).reshape(-1), codes)
    want = nf4[codes].astype(f32) * np.repeat(scales, 64)[: len(codes)]
    np.testing.assert_array_equal(tl.dequantize(q).reshape(-1), want)
    assert q.values.nbytes + q.scales.nbytes < 0.52 * flat.size


def test_scales_that_are_integers() -> None:
    """Six bits and an f16 for each row of scales, say: any format serves for scales."""
    w = (np.random.default_rng(4).standard_normal((256, 16)) * 0.02).astype(f32)
    inner = tl.QuantFormat(tl.u6, group=8, symmetric=False)
    q = tl.quantize(w, tl.i4, group=32, scale_dtype=inner)
    assert q.scales.dtype == tl.u6
    step = reference.spread(tl.dequantize(q.scales), w.shape, 0)
    np.testing.assert_array_equal(tl.dequantize(q), tl.unpack(q.values) * step)
    assert np.abs(tl.dequantize(q) - w).max() < 0.6 * step.max()


def test_parts_of_formats_change() -> None:
    w = np.random.default_rng(5).standard_normal((64, 8)).astype(f32)
    assert tl.quantize(w, tl.mxfp4, group=16).scales.shape == (4, 8)
    assert tl.quantize(w, tl.mxfp4, scale_dtype=tl.f16).scales.dtype == np.float16
    assert tl.QuantFormat(tl.f4e2m1, 32, scale_dtype=tl.f8e8m0fnu) == tl.mxfp4


def test_scales_that_numpy_lacks_are_packed() -> None:
    w = np.random.default_rng(6).standard_normal((64, 8)).astype(f32)
    scale = tl.float(5, 3, "finite", signed=False)
    q = tl.quantize(w, tl.i4, group=16, scale_dtype=scale)
    assert isinstance(q.scales, tl.PackedArray)
    want = exact_codes.nearest((np.abs(w.reshape(4, 16, 8)).max(axis=1) / f32(7)).astype(np.float64), scale)
    np.testing.assert_array_equal(reference.codes(q.scales), want)
    np.testing.assert_array_equal(tl.dequantize(q.values, q.scales), tl.dequantize(q))
