"""On a GPU: every kernel of the zoo by both routes, what launches need of the driver, and searches that measure."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import relative_error
from tests.zoo.test_zoo import KERNELS, dtypes_of, variants
from tilus.tuning.arguments import on_gpu
from tilus.tuning.gpu import Gpu

pytestmark = pytest.mark.device
LARGEST = 3_000_000
"""Product of the extents of the largest shapes."""
ENGINES = ["cuda:ptx", "cuda:cuda"]
CASES = [(name, dtype, keywords) for name in KERNELS for dtype in dtypes_of(name) for keywords in variants(name)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "dtype", "keywords"), CASES, ids=str)
def test_zoo(name: str, dtype: tl.DType, keywords: dict[str, Any], engine: str) -> None:
    module = importlib.import_module(f"kernels_zoo.{name}")
    kernel = getattr(module, KERNELS[name])
    for shape in module.SHAPES:
        if np.prod(shape, dtype=float) > LARGEST:
            continue
        case = module.case(shape, dtype, **keywords)
        arguments = [on_gpu(value) for value in case.arguments]
        kernel.on(engine)(*arguments, **case.constants)
        for output, reference in zip(case.outputs, case.references, strict=True):
            place = next(i for i, given in enumerate(case.arguments) if given is output)
            assert relative_error(arguments[place].get(), reference) <= case.tolerance, shape


@tl.jit
def long_grid(x: tl.i32["M", 1], y: tl.i32["M", 1]) -> None:
    _, i = tl.grid(1, x.shape[0])
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 1)) + 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_grids_that_are_longer_than_a_launch(engine: str) -> None:
    count = 70_000
    x, y = on_gpu(np.arange(count, dtype=np.int32)[:, None]), on_gpu(np.zeros((count, 1), np.int32))
    long_grid.on(engine)(x, y)
    assert (y.get()[:, 0] == np.arange(count) + 1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_much_shared_memory(engine: str) -> None:
    from kernels_zoo.gemm import matmul

    case = matmul.case((130, 150, 170))
    a, b, c = map(on_gpu, case.arguments)
    matmul.matmul.on(engine)(a, b, c, BM=128, BN=128, BK=64, stages=2)
    assert relative_error(c.get(), case.references[0]) <= case.tolerance


@tl.fuse
def normalised(x: tl.f32["M", "N"]):
    return x / tl.sum(x * x, axis=1, keepdims=True)


def test_fused_functions() -> None:
    x = np.random.default_rng(0).standard_normal((50, 70), np.float32)
    assert np.allclose(normalised(on_gpu(x)).get(), x / (x * x).sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-6)


@tl.autotune(BLOCK=[64, 256, 1024], key="N")
@tl.jit
def added(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 64) -> None:
    """y += x"""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK) + tl.load(y, i, BLOCK))


def test_searches_leave_arrays_as_they_were() -> None:
    x, y = on_gpu(np.arange(3000, dtype=np.float32)), on_gpu(np.full(3000, 7, np.float32))
    result = added.tune(x, y, budget=30, fresh=True)
    assert not result.failed
    assert all(m.median and 0 < m.median < 0.1 for m in result.measured)
    assert (y.get() == 7).all()


def test_what_a_call_costs_the_host_is_not_measured() -> None:
    """An addition of 3000 numbers takes microseconds, its call a hundred times that."""
    x, y = on_gpu(np.zeros(3000, np.float32)), on_gpu(np.zeros(3000, np.float32))
    device = Gpu()
    device.first(lambda: added.kernel(x, y))
    assert 0 < device.sample(lambda: added.kernel(x, y), 8, None) < 5e-5
