"""Products whose results are operands of others, transposed, without a way through shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.layouts import MatrixTransposition, SharedPlan, plan_conversion, spatial
from tilus.layouts.mma import MOVMATRIX_RESULT, MOVMATRIX_SOURCE


@pytest.mark.parametrize("outer", [spatial(1, 1), spatial(2, 1).local(1, 3), spatial(1, 1).local(2, 2).spatial(1, 2)],
                         ids=str)
def test_plans(outer: Any) -> None:
    """Of matrices of each warp; the definition is that every thread has its elements afterwards."""
    src, dst = outer * MOVMATRIX_SOURCE, outer * MOVMATRIX_RESULT
    plan = plan_conversion(src, dst, 16, transposes=True)
    assert isinstance(plan, MatrixTransposition)
    numbers = np.arange(src.size).reshape(src.shape)
    held, wanted = (numbers[tuple(np.moveaxis(x.table(), -1, 0))] for x in (src, dst))
    np.testing.assert_array_equal(plan.apply(held), wanted)


def test_what_is_no_transposition() -> None:
    src, dst = MOVMATRIX_SOURCE, MOVMATRIX_RESULT
    assert not isinstance(plan_conversion(src, dst, 32, transposes=True), MatrixTransposition)
    assert not isinstance(plan_conversion(src, dst, 16), MatrixTransposition)
    assert isinstance(plan_conversion(src, dst, 16, allow="shared", transposes=True), SharedPlan)


@tl.jit
def twice(x: tl.f16["M", "K"] | tl.bf16["M", "K"], y: tl.f32["N", "K"], N: int = 48, K: int = 32, M: int = 32) -> None:
    """(x xᵀ)ᵀ x, for the first N rows."""
    tl.grid(1)
    tl.block(warps=1)
    a = tl.load(x, (0, 0), (M, K))
    product = tl.dot(a, tl.load(x, (0, 0), (N, K)).T)
    tl.store(y, (0, 0), tl.dot(product.to(x.dtype).T, a))


@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_90a:cuda", "simulate:sm_75:ptx"])
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16], ids=str)
def test_values(dtype: tl.DType, engine: str) -> None:
    if dtype is tl.bf16 and "sm_75" in engine:
        pytest.skip("no tensor cores for bf16")
    x = np.random.default_rng(0).standard_normal((32, 32)).astype(dtype.numpy)
    y = np.zeros((48, 32), "f4")
    twice.on(engine)(x, y)
    wide = x.astype("f4")
    product = np.zeros((32, 48), "f4")
    product[:, :32] = (wide @ wide.T).astype(dtype.numpy)
    np.testing.assert_allclose(y, product.astype("f8").T @ wide, rtol=1e-2 if dtype is tl.bf16 else 2e-3, atol=2e-2)


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_emitted(via: str) -> None:
    assert "MOVM" in twice.compile(target="sm_80", via=via, x=tl.f16).sass()
