"""Blocks that do little are taken together where rows are short: results are those of the blocks one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.reduction.row_sum import row_sum
from tests.cpu import short_blocks as kernels
from tests.cpu.support import trace
from tilus.lowering.cpu.wide_blocks import take_together
from tilus.lowering.cpu.wide_plan import Plan, Refused

ROOT = Path(__file__).parents[2]
ONE_BY_ONE = 20
"""Rows of a launch with too few blocks for groups."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = tl.get_num_threads()
    tl.set_num_threads(2)
    yield
    tl.set_num_threads(before)


def second(function: Any, **arguments: Any) -> Any:
    """The second version of a kernel, None where it is refused."""
    return take_together(trace(function, arguments)[0].kernels[0])


def pieces(rows: int) -> list[slice]:
    return [slice(at, at + ONE_BY_ONE) for at in range(0, rows, ONE_BY_ONE)]


def data(rows: int, columns: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(columns).standard_normal((rows, columns)).astype(dtype)


@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("dtype", ["f2", "f4", tl.bf16])
def test_rows_are_those_of_single_blocks(columns: int, dtype: Any) -> None:
    """Sums of rows of up to a register are in the same order, so that nothing differs."""
    rows = 517
    dtype = tl.bf16.numpy if dtype is tl.bf16 else np.dtype(dtype)
    x, w, b = data(rows, columns, dtype), data(1, columns, dtype)[0], data(2, columns, dtype)[1]
    x[3, columns // 2], x[5], x[6] = np.nan, np.nan, -np.inf
    for kernel, given in ((softmax, ()), (layer_norm, (w, b))):
        whole, parts = np.zeros_like(x), np.zeros_like(x)
        kernel(x, *given, whole)
        for part in pieces(rows):
            kernel(x[part], *given, parts[part])
        tolerance = 0 if columns <= 17 else 1e-2 if dtype.itemsize == 2 else 1e-5
        np.testing.assert_allclose(whole.astype("f8"), parts.astype("f8"), tolerance, tolerance)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [255, 256, 257, 1000])
@pytest.mark.parametrize("columns", [1, 16, 64, 65, 1100])
def test_sums_of_rows(rows: int, columns: int, threads: int) -> None:
    tl.set_num_threads(threads)
    x, y = np.abs(data(rows, columns)), np.zeros(rows, "f")
    row_sum(x, y)
    np.testing.assert_allclose(y, x.astype("f8").sum(1), rtol=1e-5)


@pytest.mark.parametrize("name", kernels.TOGETHER)
def test_taken_together(name: str) -> None:
    for case in kernels.cases(name):
        assert second(kernels.FUNCTIONS[name], **case) is not None


@pytest.mark.parametrize(("name", "reason"), kernels.REFUSED.items())
def test_refused(name: str, reason: str) -> None:
    case = kernels.cases(name)[0]
    assert second(kernels.FUNCTIONS[name], **case) is None
    with pytest.raises(Refused, match=reason):
        Plan(trace(kernels.FUNCTIONS[name], case)[0].kernels[0])


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("name", [name for name in kernels.FUNCTIONS if name not in kernels.RACING])
def test_results(name: str) -> None:
    assert not kernels.wrong(name)


def test_longer_tiles() -> None:
    """32 rows, or as many of them as whole blocks are."""
    x, y = data(100, 16), np.zeros((100, 16), "f")
    for rows, blocks in ((1, 32), (4, 8), (5, 6), (16, 2)):
        found = second(kernels.FUNCTIONS["masks"], x=x, y=y, BM=rows)
        assert found is not None
        assert found.blocks == blocks
    assert second(kernels.FUNCTIONS["masks"], x=x, y=y, BM=17) is None


def test_conditions() -> None:
    """The launch finds out whether rows are short and loops have one iteration."""
    x = data(100, 16)
    found = second(kernels.FUNCTIONS["normalise"], x=x, y=np.zeros_like(x))
    assert found is not None
    assert len(found.once) == 2
    assert {d for _, d in found.short} == {1}


def test_explain() -> None:
    x, y = np.ones((1024, 16), "f"), np.zeros((1024, 16), "f")
    assert "kernel softmax: 32 groups of 32 blocks (32)" in softmax.explain(x, y, engine="cpu")
    x, y = np.ones((1024, 100), "f"), np.zeros((1024, 100), "f")
    assert "kernel softmax: 1024 blocks (1024)" in softmax.explain(x, y, engine="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("level", ["sse2", "avx2"])
def test_levels(level: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.cpu.short_blocks"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "TILUS_CPU": level, "TILUS_CACHE_DIR": str(tmp_path)}, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
