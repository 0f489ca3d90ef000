"""Products of operands in MXFP8, MXFP6, MXFP4 and NVFP4, quantised before or in the product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, relative_error, run, wide
from kernels_zoo.quantized import block_scaled as zoo
from tests.zoo.turns import by_turns

ENGINES = ["cpu", "interpret", "simulate:sm_120a:ptx", "simulate:sm_120a:cuda", "simulate:sm_80:ptx",
           "simulate:sm_90a:cuda"]
MIXED = [(tl.mxfp8e4m3, tl.mxfp4), (tl.mxfp6e2m3, tl.mxfp8e5m2)]


def name(format: Any) -> str:
    return f"{format.dtype}-{format.group}"


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("format", "engine"), by_turns(zoo.FORMATS, ENGINES, 3))
def test_products(format: tl.QuantFormat, engine: str) -> None:
    for shape in zoo.SHAPES if engine in ("cpu", "interpret") else zoo.SHAPES[1:3]:
        for kernel, make in ((zoo.block_scaled_matmul, zoo.case), (zoo.block_scaled_linear, zoo.linear_case)):
            case = make(shape, format=format)
            assert run(kernel, case, engine, BM=32, BN=32) <= case.tolerance, (shape, kernel)


@pytest.mark.parametrize(("formats", "engine"), by_turns(MIXED, ENGINES, 2))
def test_mixed(formats: Any, engine: str) -> None:
    case = zoo.case((33, 40, 160), format=formats[0], wformat=formats[1])
    assert run(zoo.block_scaled_matmul, case, engine, BM=32, BN=32) <= case.tolerance


@pytest.mark.parametrize("format", zoo.FORMATS, ids=name)
def test_codes_are_those_of_quantize(format: tl.QuantFormat) -> None:
    """To the bit, with rows of zeros, large and small numbers."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((9, 160)) * 10.0 ** rng.integers(-6, 6, (9, 1))).astype(np.float32)
    x[3] = 0
    expected, scales, alpha = zoo.codes_and_scales(tl.quantize(x, format, axis=1))
    factor = np.full((1, 1), alpha, np.float32) if format is tl.nvfp4 else None
    with tl.engine("cpu"):
        if factor is not None:
            np.testing.assert_array_equal(zoo.nvfp4_factor(x), factor)
        scale = tl.f8e4m3fn if format is tl.nvfp4 else tl.f8e8m0fnu
        codes, found = zoo.quantised(x, format.dtype, scale, factor)
    rows = np.arange(9) != 3  # the scale of zeros is anything
    np.testing.assert_array_equal(numbers(found)[rows], numbers(scales)[rows])
    np.testing.assert_array_equal(numbers(codes), numbers(expected))


def numbers(x: Any) -> Any:
    return tl.unpack(x) if isinstance(x, tl.PackedArray) else wide(x)


@pytest.mark.parametrize("m", [3, 70])
@pytest.mark.parametrize("format", [tl.mxfp4, tl.nvfp4, tl.mxfp8e4m3], ids=name)
def test_multiply(format: tl.QuantFormat, m: int) -> None:
    """Few rows in one launch, many in two; the error is that of the formats."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, 128)).astype(np.float32), rng.standard_normal((24, 128)).astype(np.float32)
    bias, y = rng.standard_normal(24).astype(np.float32), empty((m, 24), tl.f32)
    with tl.engine("cpu"):
        zoo.multiply(x, zoo.Weights(w, format), y, bias)
    left, right = (wide(tl.dequantize(tl.quantize(a, format, axis=1))) for a in (x, w))
    assert relative_error(y, left @ right.T + bias) < 1e-6
    assert relative_error(y, wide(x) @ wide(w).T + bias) < (0.06 if format is tl.mxfp8e4m3 else 0.25)


@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_120a", pytest.param("sm_80", marks=pytest.mark.slow),
                                    pytest.param("sm_90a", marks=pytest.mark.slow)])
def test_no_spills(target: str, via: str) -> None:
    for format in zoo.FORMATS if target == "sm_120a" and via == "ptx" else zoo.FORMATS[:2]:
        scale = tl.f8e4m3fn if format is tl.nvfp4 else tl.f8e8m0fnu
        types: dict[str, Any] = {"xtype": format.dtype, "wtype": format.dtype, "w_scales": scale}
        factor = {"x_factor": tl.f32} if format is tl.nvfp4 else {}
        for kernel, more in ((zoo.block_scaled_matmul, {"x_scales": scale}), (zoo.block_scaled_linear, {})):
            found = kernel.compile(target, via=via, **types, **factor, **more)
            assert found.metadata["spill_stores"] == 0, (format, kernel)
            assert ("block_scale" in found.ptx) == (target == "sm_120a")


def test_mistakes() -> None:
    case = zoo.case((3, 4, 64))
    x, scales, w, w_scales, y = case.arguments
    few = [part[:, :1].copy() for part in (scales, w_scales)]
    with pytest.raises(tl.UserError, match="there is one scale for each block of a row"):
        zoo.block_scaled_matmul.on("cpu")(x, few[0], w, few[1], y, **case.constants)
