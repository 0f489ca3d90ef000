"""Products whose rows and columns are not the last two dimensions of the output."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


A, B, C, D = array(70, 50), array(50, 90), array(70), array(70, 5, 90)
BATCH, OTHER = array(3, 70, 50), array(3, 50, 40)
ROW, COLUMN = array(1, 50), array(50, 1)
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "an axis between rows and columns": (lambda a, b: (a @ b)[:, None, :], (A, B)),
    "before": (lambda a, b: (a @ b)[None], (A, B)),
    "after": (lambda a, b: (a @ b)[:, :, None], (A, B)),
    "on all sides": (lambda a, b: (a @ b)[None, :, None, :, None] * 2, (A, B)),
    "transposed": (lambda a, b: (a @ b).T[:, None, :], (A, B)),
    "broadcast along it": (lambda a, b, d: (a @ b)[:, None, :] + d, (A, B, D)),
    "with a bias": (lambda a, b, c: (a @ b)[:, None, :] + c[:, None, None], (A, B, C)),
    "batches in the middle": (lambda a, b: (a @ b).transpose(1, 0, 2), (BATCH, OTHER)),
    "batches last": (lambda a, b: (a @ b).transpose(2, 1, 0) + 1, (BATCH, OTHER)),
    "an axis among batches": (lambda a, b: (a @ b)[:, :, None, :], (BATCH, OTHER)),
    "read twice": (lambda a, b: (a @ b)[:, None, :] * (a @ b)[:, None, :], (A, B)),
    "two in different places": (lambda a, b: (a @ b) + (b.T @ a.T).T, (A, B)),
    "one row": (lambda a, b: (a @ b)[:, None, :], (ROW, B)),
    "one column": (lambda a, b: (a @ b)[:, None], (A, COLUMN)),
    "one element": (lambda a, b: (a @ b)[None] + 1, (ROW, COLUMN)),
}


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_products(name: str, engine: str) -> None:
    function, arguments = FUNCTIONS[name]
    expected = function(*(a.astype(np.float64) for a in arguments))
    found = tl.fuse(function).on(engine)(*arguments)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


TWO_KERNELS = {"broadcast along it", "two in different places", "one row", "one column", "one element"}


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_fusion(name: str) -> None:
    """One kernel, unless the product is needed more than once, in another place, or has an extent of 1."""
    function, arguments = FUNCTIONS[name]
    text = tl.fuse(function).explain(*arguments)
    kernels = next(line for line in text.splitlines() if line.startswith("kernels: ")).split(",")
    assert len(kernels) == (2 if name in TWO_KERNELS else 1)
