"""Products with weights of 4 bits on the twin: vector cores convert and scale them, the matrix core multiplies."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import run
from kernels_zoo.quantized.matmul import case, quantized_matmul


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(1, 256, 512), (33, 144, 256), (128, 128, 128)], ids=str)
def test_products(shape: tuple[int, int, int], symmetric: bool) -> None:
    made = case(shape, tl.f16, wtype=tl.u4, symmetric=symmetric)
    assert run(quantized_matmul, made, "ascend910b:late") <= made.tolerance


@tl.jit
def widened(x: wtype["M", "N"], y: tl.f32["M", "N"], wtype: tl.DType = tl.i4, BM: int = 8, BN: int = 128) -> None:
    i, j = tl.grid(tl.cdiv(y.shape[0], BM), tl.cdiv(y.shape[1], BN))
    tl.store(y, (i * BM, j * BN), tl.load(x, (i * BM, j * BN), (BM, BN)).to(tl.f32))


@pytest.mark.parametrize("wtype", [tl.i4, tl.u4], ids=str)
def test_all_numbers(wtype: tl.DType) -> None:
    low = -8 if wtype is tl.i4 else 0
    numbers = np.resize(np.arange(low, low + 16), (13, 160)).astype(np.int32)
    y = np.empty(numbers.shape, np.float32)
    widened.on("ascend910b")(tl.pack(numbers, wtype), y, wtype=wtype)
    np.testing.assert_array_equal(y, numbers)
