"""Products whose sums over k are computed in parts by one kernel and added by another, on every engine."""

from __future__ import annotations

import pytest

import tilus as tl
from kernels_zoo.gemm.matmul_split_k_sums import SHAPES, case, error

ENGINES = ("interpret", "cpu", "ascend910b:random", "ascend910b:late", "ascend910b:early", "simulate:sm_80:ptx",
           "simulate:sm_80:cuda")


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16, tl.f32], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_products(engine: str, dtype: tl.DType) -> None:
    slow = engine.startswith(("interpret", "simulate"))
    for n, shape in enumerate(SHAPES):
        if slow and shape[2] > 1000:
            continue
        assert error(shape, dtype, 1 + n % 5, engine) <= case(shape, dtype).tolerance, (shape, engine)
