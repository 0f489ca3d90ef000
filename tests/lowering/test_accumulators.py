"""Dots that add to something other than zeros: broadcast rows and columns, loads, results of other dots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ["interpret", "cpu", *(f"simulate:{t}:{v}" for t in ("sm_70", "sm_75", "sm_80", "sm_90a")
                                 for v in ("cuda", "ptx"))]
M, K, N = 16, 16, 8


def kernel(form: str) -> Any:
    @tl.jit
    def product(a: tl.f16["M", "K"], b: tl.f16["K", "N"], bias: tl.f32["M"], c: tl.f32["M", "N"], warps: int = 1):
        tl.block(warps=warps)
        tl.grid(1)
        x, y = tl.load(a, (0, 0), (M, K)), tl.load(b, (0, 0), (K, N))
        values = tl.load(bias, 0, M)
        square = tl.dot(x, x.T)
        if form == "column":
            result = tl.dot(x, y, tl.broadcast_to(values[:, None], (M, N)))
        elif form == "row":
            result = tl.dot(x, y, tl.broadcast_to(values[None, 0:N], (M, N)))
        elif form == "maximum of rows":
            result = tl.dot(x, y, tl.broadcast_to(tl.max(square, 1)[:, None], (M, N)))
        elif form == "maximum of columns":
            result = tl.dot(x, y, tl.broadcast_to(tl.max(square, 0)[:, None], (M, N)))
        elif form == "scalar":
            result = tl.dot(x, y, tl.full((M, N), bias[3], tl.f32))
        elif form == "used twice":
            column = tl.broadcast_to(values[:, None], (M, N))
            result = tl.dot(x, y, column) * column
        elif form == "of a loop":
            result = tl.broadcast_to(values[:, None], (M, N))
            for _ in tl.range(2):
                result = tl.dot(x, y, result)
        else:
            result = tl.dot(square.to(tl.f16), y, tl.broadcast_to(values[:, None], (M, N)))
        tl.store(c, (0, 0), result)

    return product


def expected(form: str, a: Any, b: Any, bias: Any) -> Any:
    product, square = a @ b, a @ a.T
    return {
        "column": lambda: product + bias[:, None],
        "row": lambda: product + bias[None, :N],
        "maximum of rows": lambda: product + square.max(1)[:, None],
        "maximum of columns": lambda: product + square.max(0)[:, None],
        "scalar": lambda: product + bias[3],
        "used twice": lambda: (product + bias[:, None]) * bias[:, None],
        "of a loop": lambda: 2 * product + bias[:, None],
        "chained": lambda: square @ b + bias[:, None],
    }[form]()


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", ["column", "row", "maximum of rows", "maximum of columns", "scalar", "used twice",
                                  "of a loop", "chained"])
def test_accumulators(form: str, engine: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-1, 2, (M, K)).astype("f2"), rng.integers(-2, 3, (K, N)).astype("f2")
    bias, c = np.arange(M, dtype="f4"), np.full((M, N), np.nan, "f4")
    kernel(form).on(engine)(a, b, bias, c)
    np.testing.assert_array_equal(c, expected(form, *(v.astype("f8") for v in (a, b, bias))))
