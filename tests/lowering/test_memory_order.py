"""Tiles whose memory runs along another dimension than the last: copies, rings and vectors follow memory."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul_split_k import matmul_split_k
from tilus.runtime.nvidia import engines
from tilus.simulator import Report

ROUTES = ("simulate:sm_80:ptx", "simulate:sm_80:cuda")


@tl.jit
def product(a: atype["M", "K"], b: atype["K", "N"], c: ctype["M", "N"], atype: tl.DType, ctype: tl.DType,
            BM: int = 64, BN: int = 64, BK: int = 32, stages: int = 3) -> None:
    M, K = a.shape
    _, N = b.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), ctype)
    for k in tl.range(0, K, BK, stages=stages):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


def operand(rng: np.random.Generator, shape: tuple[int, int], layout: str, dtype: Any) -> Any:
    if layout == "T":
        return operand(rng, shape[::-1], "N", dtype).T
    return rng.integers(-8, 8, shape).astype(dtype)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """Those of the simulator's launches."""
    found: list[Report] = []
    run = engines._Simulated.run

    def noted(self: Any, arguments: Any) -> None:
        run(self, arguments)
        found.extend(self.reports)

    monkeypatch.setattr(engines._Simulated, "run", noted)
    return found


def multiplied(layout: str, dtype: Any, engine: str, shape: tuple[int, int, int], **tile: int) -> None:
    """Compare with NumPy; the sums of small integers are exact."""
    m, n, k = shape
    rng, out = np.random.default_rng(0), np.int32 if np.dtype(dtype) == np.int8 else np.float32
    a, b = operand(rng, (m, k), layout[0], dtype), operand(rng, (k, n), layout[1], dtype)
    c = np.zeros((m, n), out)
    types = {"atype": tl.from_numpy(np.dtype(dtype)), "ctype": tl.from_numpy(np.dtype(out))}
    product.on(engine)(a, b, c, **types, **tile)
    np.testing.assert_array_equal(c, a.astype(out) @ b.astype(out))


def copied(report: Report) -> set[int]:
    """The bytes that asynchronous copies of a launch move."""
    executed = (report.source[line - 1] for line in report.lines)
    sizes = (re.search(r"cp\.async\.c[ag]\..*\], (\w+)", text) for text in executed)
    return {int(found[1], 0) for found in sizes if found}


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize("layout", ["NT", "TN", "TT"])
def test_transposed_views(layout: str, engine: str, reports: list[Report]) -> None:
    """Each tile is read once, in whole sectors, by asynchronous copies of 16 bytes into a ring without conflicts."""
    multiplied(layout, np.float16, engine, (64, 64, 128))
    (report,) = reports
    assert report.global_sectors == 2 * 64 * 128 * 2 // 32 + 64 * 64 * 4 // 32
    assert report.bank_conflicts == 0
    assert copied(report) == {16}


@pytest.mark.parametrize(("layout", "dtype", "engine"), [
    ("NT", ml_dtypes.bfloat16, "simulate:sm_90a:ptx"), ("TN", np.float32, "simulate:sm_80:cuda"),
    ("NT", np.float32, "simulate:sm_86:ptx"), ("TT", np.int8, "simulate:sm_80:ptx"),
    ("TN", np.float16, "simulate:sm_75:cuda"), ("NT", np.float16, "simulate:sm_75:ptx"),
])
def test_types_and_targets(layout: str, dtype: Any, engine: str) -> None:
    multiplied(layout, dtype, engine, (64, 64, 64), stages=2)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize(("layout", "shape"), [("TT", (65, 63, 33)), ("NT", (40, 80, 49)), ("TN", (80, 40, 16))])
def test_odd_extents(layout: str, shape: tuple[int, int, int], engine: str) -> None:
    multiplied(layout, np.float16, engine, shape)


@pytest.mark.parametrize("engine", ROUTES)
@pytest.mark.parametrize(("shape", "sizes"), [
    ((64, 64, 40), {16}), ((64, 72, 44), {8, 16}), ((64, 70, 42), {4}), ((40, 65, 64), {16}), ((64, 65, 33), set()),
])
def test_pitches(shape: tuple[int, int, int], sizes: set[int], engine: str, reports: list[Report]) -> None:
    """Rows are copied as wide as their pitch allows."""
    multiplied("NN", np.float16, engine, shape)
    assert copied(reports[0]) == sizes


@pytest.mark.parametrize("engine", ROUTES)
def test_rows_of_a_wider_array(engine: str, reports: list[Report]) -> None:
    """The pitch is a multiple of 16, the extents are not: the last vector of a row is copied as far as it is there."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 8, (64, 64)).astype(np.float16)[:, :n] for n in (51, 61))
    c = np.zeros((64, 61), np.float32)
    product.on(engine)(a, b[:51], c, atype=tl.f16, ctype=tl.f32)
    np.testing.assert_array_equal(c, a.astype("f4") @ b[:51].astype("f4"))
    assert copied(reports[0]) == {16}


@pytest.mark.parametrize("route", ["ptx", "cuda"])
def test_workspaces(route: str) -> None:
    """They are contiguous, and their extents are multiples of what those of the arrays are: vectors of 128 bits."""
    ptx = matmul_split_k.compile(target="sm_80", via=route).ptx
    assert set(re.findall(r"(?:ld|st)\.global\.(\w+\.\w+|b32|f32)", ptx)) <= {"v4.b32", "v4.f32", "v4.u32"}
