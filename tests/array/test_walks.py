"""What is computed for each element and what is reduced along its rows is one kernel, which reads elements once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from benchmarks.gpu_code.figures import launches
from tests.array.test_fuse import kernels_of

EPS = 1e-5


def layer_norm(x, w):
    mean = tl.mean(x, axis=1, keepdims=True)
    r = tl.rsqrt(tl.var(x, axis=1, keepdims=True) + EPS)
    return (x - mean) * r * w, mean, r


def residual_norm(x, w):
    h = x + w
    return h, h * tl.rsqrt(tl.mean(h * h, axis=1, keepdims=True) + EPS)


def weights_and_sums(x, w):
    top = tl.max(x, axis=1)
    e = tl.exp(x - top[:, None])
    total = tl.sum(e, axis=1)
    return top + tl.log(total), e / total[:, None]


def products_and_sums(x, w):
    return x * w, tl.sum(x * w, axis=1), tl.max(x, axis=1, keepdims=True)


def batch_norm(x, w):
    mean, variance = tl.mean(x, axis=0), tl.var(x, axis=0)
    return (x - mean) * tl.rsqrt(variance + EPS) * w, mean, variance


def of_columns_and_rows(x, w):
    return x * w, tl.sum(x, axis=0), tl.sum(x, axis=1)


def norms(x: Any, w: Any) -> tuple[Any, ...]:
    mean, r = x.mean(1, keepdims=True), 1 / np.sqrt(x.var(1, keepdims=True) + EPS)
    return (x - mean) * r * w, mean, r


def residuals(x: Any, w: Any) -> tuple[Any, ...]:
    h = x + w
    return h, h / np.sqrt((h * h).mean(1, keepdims=True) + EPS)


def softmaxes(x: Any, w: Any) -> tuple[Any, ...]:
    e = np.exp(x - x.max(1, keepdims=True))
    return x.max(1) + np.log(e.sum(1)), e / e.sum(1, keepdims=True)


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], int]] = {
    "layer norm": (layer_norm, norms, 1),
    "residual norm": (residual_norm, residuals, 1),
    "weights and sums": (weights_and_sums, softmaxes, 1),
    "products and sums": (products_and_sums, lambda x, w: (x * w, (x * w).sum(1), x.max(1, keepdims=True)), 1),
    "batch norm": (batch_norm, lambda x, w: ((x - x.mean(0)) / np.sqrt(x.var(0) + EPS) * w, x.mean(0), x.var(0)), 1),
    "of columns and rows": (of_columns_and_rows, lambda x, w: (x * w, x.sum(0), x.sum(1)), 2),
}
"""The function, its reference, and how many kernels it is (where launches are not joined)."""
ENGINES = ("cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_90a:cuda")


def check(name: str, x: Any, w: Any, engine: str, bound: float) -> None:
    ours, numpys, _ = FUNCTIONS[name]
    found = tl.fuse(ours).on(engine)(x, w)
    for got, best in zip(found, numpys(x.astype("d"), w.astype("d")), strict=True):
        assert got.shape == best.shape
        assert np.linalg.norm(got.astype("d") - best) <= bound * np.linalg.norm(best)


@pytest.mark.sweep
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("shape", "dtype"), [((5, 70), "f4"), ((1, 1), "f4"), ((33, 1), "f4"), ((3, 5000), "f4"),
                                              ((40, 129), "f2")], ids=str)
def test_values(name: str, shape: tuple[int, int], dtype: str, engine: str) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(0.5, 2, n).astype(dtype) for n in (shape, shape[1]))
    if shape[1] == 1:
        w = w + w.dtype.type(1)
    check(name, x, w, engine, 2e-5 if dtype == "f4" else 2e-2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_views(name: str, ) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.uniform(0.5, 2, (90, 66)).astype("f"), rng.uniform(0.5, 2, 120).astype("f")
    check(name, x.T[::-1, ::2], w[:90:2], "cpu", 2e-5)


@pytest.mark.parametrize("shape", [(0, 7), (0, 1)], ids=str)
def test_nothing(shape: tuple[int, int]) -> None:
    found = tl.fuse(products_and_sums)(np.zeros(shape, "f"), np.zeros(shape[1], "f"))
    assert [o.shape for o in found] == [shape, shape[:1], (*shape[:1], 1)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_number_of_kernels(name: str) -> None:
    ours, _, count = FUNCTIONS[name]
    lines = tl.fuse(ours).explain(np.ones((8, 64), "f"), np.ones(64, "f"))
    names = next(line for line in lines.splitlines() if line.startswith("kernels:"))
    writes = [line for line in lines.splitlines() if " writes " in line]
    assert len(names.split(",")) == 1
    assert sum(line.count("by other blocks") + 1 for line in writes) == count


@pytest.mark.parametrize("name", ["layer norm", "residual norm", "weights and sums", "products and sums"])
def test_elements_are_read_once(name: str) -> None:
    ours, _, _ = FUNCTIONS[name]
    x, w = np.ones((16, 512), "f"), np.ones(512, "f")
    with launches() as found:
        outputs = tl.fuse(ours).on("simulate:sm_80:ptx")(x, w)
    moved = 32 * sum(report.global_sectors for _, reports in found for report in reports)
    weights = 16 * w.nbytes  # a row's, for every row
    assert moved <= 1.05 * (x.nbytes + sum(o.nbytes for o in outputs)) + weights


def test_few_long_rows_are_for_all_processors() -> None:
    """A bound of the rows is known then, and none of their length."""
    for rows, count in ((2, 2), (4000, 1)):
        function = tl.fuse(products_and_sums)
        x, w = np.ones((rows, 4000), "f"), np.ones(4000, "f")
        assert len(kernels_of(function, [x, w])) == count
