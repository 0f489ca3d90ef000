"""Atomic sums of neighbouring elements whose old values nobody asks for: vectors, where the target has them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl

FLOAT = tl.f32["M", "N"] | tl.f16["M", "N"] | tl.bf16["M", "N"]


@tl.jit
def add(x: FLOAT, y: FLOAT, columns: tl.i32 | None = None, BM: int = 16, BN: int = 64) -> None:
    """Three times x, of the first columns."""
    i, j, _ = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN), 3)
    tl.block(warps=4)
    row, column = i * BM + tl.arange(BM)[:, None], j * BN + tl.arange(BN)[None, :]
    mask = None if columns is None else tl.broadcast_to(column < columns, (BM, BN))
    tl.atomic_add(y, (row, column), tl.load(x, (i * BM, j * BN), (BM, BN)), mask=mask)


@tl.jit
def add_and_ask(x: FLOAT, y: FLOAT, old: FLOAT, BM: int = 16, BN: int = 64) -> None:
    tl.grid(1)
    row, column = tl.arange(BM)[:, None], tl.arange(BN)[None, :]
    tl.store(old, (0, 0), tl.atomic_add(y, (row, column), tl.load(x, (0, 0), (BM, BN))))


def opcodes(kernel: Any, dtype: tl.DType, target: str, route: str, assume: str = "divisible") -> set[str]:
    arrays = {name: dtype for name in kernel.signature.names if name in ("x", "y", "old")}
    compiled = kernel.compile(target=target, via=route, assume=assume, **arrays)
    return set(re.findall(r"(?:red|atom)\.\w+\.\w+\.global\.([\w.]*)", compiled.ptx))


@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize(("dtype", "vector"), [(tl.f32, "add.v4.f32"), (tl.f16, "add.noftz.v4.f16x2"),
                                               (tl.bf16, "add.noftz.v4.bf16x2")])
def test_vectors(dtype: tl.DType, vector: str, route: str) -> None:
    assert opcodes(add, dtype, "sm_90", route) == {vector}
    assert opcodes(add_and_ask, dtype, "sm_90", route).isdisjoint({vector})


@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_75", "sm_80"])
def test_pairs(target: str, route: str) -> None:
    assert opcodes(add, tl.f16, target, route) == {"add.noftz.f16x2"}
    assert opcodes(add, tl.f16, target, route, "contiguous") == {"add.noftz.f16"}


def test_where_there_are_none() -> None:
    """On targets that lack them, and of arrays that may begin or end anywhere."""
    assert opcodes(add, tl.f32, "sm_80", "ptx") == {"add.f32"}
    assert opcodes(add, tl.f32, "sm_90", "ptx", "contiguous") == {"add.f32"}


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["simulate:sm_90a:ptx", "simulate:sm_90a:cuda", "simulate:sm_80:ptx", "interpret",
                                    "cpu"])
@pytest.mark.parametrize("shape", [(1, 1), (16, 64), (33, 72), (20, 61)])
@pytest.mark.parametrize("dtype", [tl.f32, tl.f16, tl.bf16])
def test_values(dtype: tl.DType, shape: tuple[int, int], engine: str) -> None:
    x = np.random.default_rng(0).integers(-8, 8, shape).astype(dtype.numpy)
    for columns in (None, 40, 57):
        y = np.zeros_like(x)
        add.on(engine)(x, y, columns)
        expected = 3 * x.astype("f8")
        expected[:, columns if columns is not None else shape[1] :] = 0
        np.testing.assert_array_equal(y.astype("f8"), expected)


@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("dtype", [tl.f16, tl.f32])
def test_sums_of_neighbours_share_sectors(dtype: tl.DType, route: str) -> None:
    """An atomic of a warp adds to whole sectors, whatever a load could move at once."""
    x, y = (np.zeros((16, 64), dtype.numpy) for _ in range(2))
    call = add.prepared(f"simulate:sm_80:{route}", (x, y), {})
    runner = call.compile()
    runner.run(call.call.arguments)
    sites = [site for site in runner.reports[0].sites if site.space == "global"]
    assert sum(site.units for site in sites) == sum(site.ideal for site in sites)
