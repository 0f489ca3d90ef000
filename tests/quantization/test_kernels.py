"""What is quantised on the host is what kernels read."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

FORMATS = {"i4": tl.QuantFormat(tl.i4, 16), "u3": tl.QuantFormat(tl.u3, 16, symmetric=False),
           "bf16 zero points": tl.QuantFormat(tl.u4, 16, symmetric=False, zero_dtype=tl.bf16),
           "mxfp4": tl.mxfp4, "nvfp4": tl.nvfp4, "nf4": tl.QuantFormat(tl.nf4, 32, scale_dtype=tl.bf16)}


def dequantize(values: Any, scales: Any, zeros: Any, group: int, engine: str) -> np.ndarray:
    """Of codes (K, N) by a kernel, a group at a time."""
    scale_type = tl.from_numpy(scales.dtype) if isinstance(scales, np.ndarray) else scales.dtype
    zero_type = zeros.dtype if isinstance(zeros, tl.PackedArray) else tl.bf16

    @tl.jit
    def kernel(w: values.dtype["K", "N"], s: scale_type["G", "N"], z: zero_type["G", "N"], y: tl.f32["K", "N"],
               group: int):
        i, j = tl.grid(s.shape[0], tl.cdiv(w.shape[1], 16))
        x = tl.load(w, (i * group, j * 16), (group, 16)).to(tl.f32) - tl.load(z, (i, j * 16), (1, 16)).to(tl.f32)
        tl.store(y, (i * group, j * 16), x * tl.load(s, (i, j * 16), (1, 16)).to(tl.f32))

    y = np.full(values.shape, np.nan, np.float32)
    kernel.on(engine)(values, scales, zeros, y, group)
    return y


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
@pytest.mark.parametrize("name", FORMATS)
def test_dequantised_by_a_kernel(name: str, engine: str) -> None:
    w = (np.random.default_rng(0).standard_normal((64, 40)) * 0.02).astype(np.float32)
    q = tl.quantize(w, FORMATS[name])
    scales = q.scales.values if name == "nvfp4" else q.scales
    zeros = tl.pack(np.zeros(scales.shape), tl.u4) if q.zeros is None else q.zeros
    y = dequantize(q.values, scales, zeros, q.group, engine)
    if name == "nvfp4":
        y *= q.scales.scales[0]
        np.testing.assert_allclose(y, tl.dequantize(q), rtol=1e-6)
    else:
        np.testing.assert_array_equal(y, tl.dequantize(q))
