"""Tiles that come along one dimension of memory and go along another: through shared memory in whole words, without
conflicts, with accesses to global memory as wide as along one dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ROUTES = ("ptx", "cuda")


@tl.jit
def turn(x: dtype["M", "N"], y: dtype["N", "M"], dtype: tl.DType = tl.f16, BM: int = 64, BN: int = 64) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    tl.store(y, (j * BN, i * BM), tl.load(x, (i * BM, j * BN), (BM, BN)).T)


@tl.jit
def copy(x: dtype["M", "N"], y: dtype["M", "N"], dtype: tl.DType = tl.f16, BM: int = 64, BN: int = 64) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    tl.store(y, (i * BM, j * BN), tl.load(x, (i * BM, j * BN), (BM, BN)))


def numbers(dtype: tl.DType, shape: tuple[int, int]) -> Any:
    return np.random.default_rng(0).integers(-100, 100, shape).astype(dtype.numpy)


def report_of(kernel: Any, engine: str, arguments: tuple[Any, ...], **constants: Any) -> Any:
    call = kernel.prepared(engine, arguments, constants)
    runner = call.compile()
    runner.run(call.call.arguments)
    return runner.reports[0]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("dtype", [tl.f16, tl.f32], ids=str)
@pytest.mark.parametrize("strided", [False, True])
def test_whole_words_without_conflicts(strided: bool, dtype: tl.DType, route: str) -> None:
    x, y = numbers(dtype, (64, 64)), np.zeros((64, 64), dtype.numpy)
    given = (copy, (x.T, y)) if strided else (turn, (x, y))
    report = report_of(given[0], f"simulate:sm_80:{route}", given[1], dtype=dtype)
    np.testing.assert_array_equal(y, x.T)
    assert report.shared_wavefronts == 2 * x.nbytes // 128
    assert report.global_sectors == 2 * x.nbytes // 32


@pytest.mark.parametrize("engine", ["simulate:sm_75:cuda", "simulate:sm_90a:ptx"])
@pytest.mark.parametrize(("shape", "tile"), [((63, 70), (64, 64)), ((40, 24), (32, 16)), ((9, 200), (8, 128))])
@pytest.mark.parametrize("dtype", [tl.i8, tl.bf16, tl.f64], ids=str)
def test_values(dtype: tl.DType, shape: tuple[int, int], tile: tuple[int, int], engine: str) -> None:
    x = numbers(dtype, shape)
    for kernel, given in ((turn, x), (copy, np.ascontiguousarray(x.T).T)):
        y = np.zeros(shape[::-1] if kernel is turn else shape, dtype.numpy)
        kernel.on(engine)(given, y, dtype=dtype, BM=tile[0], BN=tile[1])
        np.testing.assert_array_equal(y, x.T if kernel is turn else x)
