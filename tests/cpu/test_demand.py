"""What no store ever uses of a tile is not computed, and what is used is right whatever lies in the rest of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.matmul import matmul
from tilus.ir.core import Module
from tilus.ir.ops import Dot, For, Reduce
from tilus.lowering.cpu.demand import ALL, NOTHING, Demand
from tilus.lowering.pipelines import CPU, run_passes


@tl.jit
def fill_memory(x: tl.i32["N"], y: tl.i32["N"]) -> None:
    tl.grid(1)
    a = tl.cumsum(tl.load(x, 0, (1 << 16,)), axis=0)
    tl.store(y, 0, tl.cumsum(tl.cumsum(a * a, axis=0) * a + a, axis=0))


@pytest.fixture(autouse=True)
def garbage() -> None:
    """What kernels leave behind in the memory of tiles is not zeros."""
    x = np.random.default_rng(0).integers(-(2**31), 2**31, 1 << 16).astype(np.int32)
    fill_memory(x, np.zeros_like(x))


def simplified(kernel: Any, **constants: Any) -> Module:
    module: Module = kernel.compile("cpu", assume="contiguous", **constants).traced()
    run_passes(module, CPU.tile)
    return module


def test_rows_beyond_the_queries_are_not_needed() -> None:
    module = simplified(flash_attention_forward)
    kernel = module.kernels[0]
    demand = Demand(kernel)
    loop = next(op for op in kernel.walk() if isinstance(op, For))
    for value in (*loop.results, *(op.result for op in loop.walk() if isinstance(op, (Dot, Reduce)))):
        assert demand.of(value)[0] not in (ALL, NOTHING), value.name


def test_all_of_what_a_sum_takes_is_needed() -> None:
    @tl.jit
    def total(x: tl.f32["M", "N"], y: tl.f32["M"]) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], 8))
        tl.store(y, i * 8, tl.sum(tl.load(x, (i * 8, 0), (8, 64)) + 1.0, axis=1))

    kernel = simplified(total).kernels[0]
    reduce = next(op for op in kernel.walk() if isinstance(op, Reduce))
    rows, columns = Demand(kernel).of(reduce.x)
    assert rows not in (ALL, NOTHING)
    assert columns == ALL


SHAPES = [(1, 200, 70), (13, 33, 64), (64, 64, 64), (130, 3, 100), (129, 129, 5), (300, 1, 40)]


@pytest.mark.parametrize("shape", SHAPES)
def test_products(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    c = np.full((m, n), np.nan, np.float32)
    matmul(a, b, c)
    np.testing.assert_allclose(c, a.astype("d") @ b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("a_type", [tl.i8, tl.u8])
@pytest.mark.parametrize("shape", [(13, 31, 80), (3, 5, 70), (40, 2, 33)])
def test_byte_products_that_are_stored_beyond_a(a_type: tl.DType, shape: tuple[int, int, int]) -> None:
    """Rows that are stored although A ends before are zeros."""
    @tl.jit
    def product(a: tl.i8["M", "K"] | tl.u8["M", "K"], b: tl.i8["K", "N"], c: tl.i32["R", "N"]) -> None:
        tl.grid(1)
        total = tl.zeros((48, 32), tl.i32)
        for k in tl.range(0, a.shape[1], 16):
            total += tl.dot(tl.load(a, (0, k), (48, 16)), tl.load(b, (k, 0), (16, 32)))
        tl.store(c, (0, 0), total)

    m, n, k = shape
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 100, (m, k)).astype(a_type.numpy), rng.integers(-100, 100, (k, n)).astype(np.int8)
    c = np.full((48, n), 7, np.int32)
    product(a, b, c)
    np.testing.assert_array_equal(c[:m], a.astype(np.int64) @ b)
    assert not c[m:].any()


@pytest.mark.sweep
@pytest.mark.parametrize("shape", [(1, 1, 300, 4, 2, 64), (2, 5, 70, 2, 1, 40), (1, 129, 130, 2, 2, 32)])
@pytest.mark.parametrize("causal", [False, True])
def test_few_queries(shape: tuple[int, ...], causal: bool) -> None:
    from kernels_zoo.attention.flash_attention import case

    made = case(shape, tl.f32, causal=causal)
    flash_attention_forward(*made.arguments, **made.constants)
    for got, want in zip(made.outputs, made.references, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_tile_that_goes_to_arrays_of_different_lengths() -> None:
    @tl.jit
    def both(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["L"]) -> None:
        i = tl.grid(tl.cdiv(z.shape[0], 64))
        v = tl.cumsum(tl.exp(tl.load(x, i * 64, (64,))), axis=0)
        tl.store(y, i * 64, v)
        tl.store(z, i * 64, v)

    x = np.random.default_rng(0).standard_normal(20).astype(np.float32)
    y, z = np.zeros(20, np.float32), np.zeros(50, np.float32)
    both(x, y, z)
    want = np.cumsum(np.exp(np.append(x, np.zeros(30)).astype("d")))
    np.testing.assert_allclose(z, want, rtol=1e-5)
    np.testing.assert_allclose(y, want[:20], rtol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("shape", [(300, 1100), (128, 64), (9, 5000), (131, 7)])
@pytest.mark.parametrize("BM", [128, 13])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_few_columns(columns: int, shape: tuple[int, int], turned: str, BM: int) -> None:
    """A is read where it is, in pieces of K; both may lie along either dimension."""
    m, k = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m), np.float32).T if "a" in turned else rng.standard_normal((m, k), np.float32)
    b = rng.standard_normal((columns, k), np.float32).T if "b" in turned else \
        rng.standard_normal((k, columns), np.float32)
    c = np.full((m, columns), np.nan, np.float32)
    matmul(a, b, c, BM=BM)
    want = a.astype("d") @ b
    np.testing.assert_allclose(c, want, rtol=1e-4, atol=1e-4 * np.sqrt(k))


@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16])
def test_few_columns_of_narrow_floats(dtype: tl.DType) -> None:
    from kernels_zoo.gemm.matmul import case

    made = case((200, 3, 300), dtype)
    matmul(*made.arguments, **made.constants)
    for got, want in zip(made.outputs, made.references, strict=True):
        error = np.linalg.norm(got.astype("d") - want) / np.linalg.norm(want)
        assert error < made.tolerance


def test_a_kept_tile_of_an_array_whose_extent_is_known() -> None:
    """What lies beyond the array in the last vector is kept as well."""
    @tl.jit
    def gather(x: tl.f32["R", 32], index: tl.i32[29], y: tl.f32["P", 32]) -> None:
        tl.grid(1)
        rows = tl.load(index, 0, 32, other=-1)
        total = tl.full((32, 32), 1, tl.f32)
        for k in tl.range(0, 32, 32):
            total += tl.gather(x, (rows[:, None], (k + tl.arange(0, 32))[None, :]))
        tl.store(y, (0, 0), total)

    rng = np.random.default_rng(0)
    x, index = rng.standard_normal((20, 32), np.float32), rng.integers(0, 20, 29).astype(np.int32)
    for _ in range(2):
        y = np.zeros((32, 32), np.float32)
        gather(x, index, y)
        np.testing.assert_array_equal(y[:29], 1 + x[index])
        np.testing.assert_array_equal(y[29:], 1)
