"""Sums that need a maximum or a mean of the same elements, in one pass over rows that no tile holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from benchmarks.gpu_code.figures import launches

ENGINES = ("cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_90a:cuda")


def powers(x: Any, axis: int = 1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e, e.sum(axis, keepdims=True)


def softmax(x):
    e = tl.exp(x - tl.max(x, axis=1, keepdims=True))
    return e / tl.sum(e, axis=1, keepdims=True)


def logsumexp(x):
    top = tl.max(x, axis=1)
    return tl.log(tl.sum(tl.exp(x - top[:, None]), axis=1)) + top


def of_columns(x):
    e = tl.exp2(x - tl.max(x, axis=0))
    return tl.sum(e, axis=0), tl.sum(x, axis=0)


def deviations(x):
    return tl.mean(x, axis=1), tl.std(x, axis=1, correction=1)


def batch_norm(x):
    return (x - tl.mean(x, axis=0)) * tl.rsqrt(tl.var(x, axis=0) + 1e-5)


def about_less_than_the_mean(x):
    return tl.sum((x - tl.sum(x, axis=1, keepdims=True) * 1e-5) * (x - tl.sum(x, axis=1, keepdims=True) * 1e-5), axis=1)


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "softmax": (softmax, lambda x: powers(x)[0] / powers(x)[1]),
    "logsumexp": (logsumexp, lambda x: np.log(np.exp(x).sum(1))),
    "of columns": (of_columns, lambda x: (np.exp2(x - x.max(0)).sum(0), x.sum(0))),
    "deviations": (deviations, lambda x: (x.mean(1), x.std(1, ddof=1))),
    "batch norm": (batch_norm, lambda x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)),
    "about less": (about_less_than_the_mean, lambda x: ((x - x.sum(1, keepdims=True) * 1e-5) ** 2).sum(1)),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(2, 5000), (300, 70), (3, 20001), (70, 9)], ids=str)
def test_values(name: str, engine: str, shape: tuple[int, int]) -> None:
    ours, numpys = FUNCTIONS[name]
    x = np.random.default_rng(0).uniform(1, 9, shape).astype("f")
    found, best = tl.fuse(ours).on(engine)(x), numpys(x.astype("d"))
    for got, wanted in zip(*((y if isinstance(y, tuple) else (y,)) for y in (found, best)), strict=True):
        assert np.linalg.norm(got - wanted) <= 5e-6 * np.linalg.norm(wanted)


@pytest.mark.parametrize("engine", ["cpu", "interpret", "simulate:sm_80:ptx"])
def test_what_is_no_number(engine: str) -> None:
    """As in three passes: rows that begin with −∞, are all −∞, have an ∞ or a NaN."""
    x = np.random.default_rng(0).uniform(-2, 2, (5, 4000)).astype("f")
    x[0, :3000], x[1], x[2, 3500], x[3, 100] = -np.inf, -np.inf, np.inf, np.nan
    found = tl.fuse(softmax).on(engine)(x)
    e, total = powers(x[[0, 4]].astype("d"))
    np.testing.assert_allclose(found[[0, 4]], e / total, rtol=1e-5)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[2:4]).any(axis=1).all()


def test_variances_of_numbers_far_from_0() -> None:
    x = (np.random.default_rng(0).standard_normal((4, 30000)) + 3000).astype("f")
    np.testing.assert_allclose(tl.fuse(deviations)(x)[1], x.astype("d").std(1, ddof=1), rtol=2e-5)


@pytest.mark.parametrize(("name", "times"), [("softmax", 2), ("logsumexp", 1), ("deviations", 1), ("batch norm", 2)])
def test_how_often_elements_are_read(name: str, times: int) -> None:
    ours, _ = FUNCTIONS[name]
    x = np.ones((2, 8192) if name != "batch norm" else (512, 64), "f")
    with launches() as found:
        output = tl.fuse(ours).on("simulate:sm_80:ptx")(x)
    written = sum(y.nbytes for y in (output if isinstance(output, tuple) else (output,)))
    moved = 32 * sum(report.global_sectors for _, reports in found for report in reports)
    assert moved <= 1.05 * (times * x.nbytes + written)
