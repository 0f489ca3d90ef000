"""Loops that stage loads of arrays which the kernel writes before or after them, but not meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

A = tl.f16["M", "K"]


@tl.jit
def product(a: A, b: tl.f16["K", "N"], c: tl.f32["M", "N"], where: str = "before", BM: int = 32, BN: int = 32,
            BK: int = 32) -> None:
    """(a + 1) b, where ``where`` says when 1 is added in memory; a + 1 is there at the end."""
    i = tl.grid(1)
    M, K = a.shape
    tl.block(warps=2)

    def add(k: Any) -> None:
        tl.store(a, (i, k), tl.load(a, (i, k), (BM, BK)) + 1.0)

    for k in tl.range(0, K if where == "before" else 0, BK):
        add(k)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=3):
        if where == "meanwhile":
            add(k)
        if where == "synchronised":
            tl.sync()
        acc = tl.dot(tl.load(a, (i, k), (BM, BK)), tl.load(b, (k, 0), (BK, BN)), acc)
    for k in tl.range(0, K if where in ("after", "synchronised") else 0, BK):
        add(k)
    tl.store(c, (i, 0), acc)


def run(where: str, engine: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, s).astype("f2") for s in ((m, k), (k, n)))
    c, before = np.zeros((m, n), "f4"), a.astype("f8")
    product.on(engine)(a, b, c, where=where)
    used = before if where in ("after", "synchronised") else before + 1
    np.testing.assert_array_equal(c, used @ b.astype("f8"))
    np.testing.assert_array_equal(a, before + 1)


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["before", "after", "meanwhile", "synchronised"])
@pytest.mark.parametrize("engine", ["simulate:sm_80:ptx", "simulate:sm_90a:cuda", "interpret", "cpu"])
def test_values(engine: str, where: str) -> None:
    """In the simulator no check of races fires."""
    run(where, engine, (32, 32, 160))
    run(where, engine, (29, 31, 100))


@pytest.mark.parametrize(("where", "staged"), [("before", True), ("after", True), ("meanwhile", False),
                                               ("synchronised", False)])
def test_which_are_staged(where: str, staged: bool) -> None:
    """Three stages of both operands, or of the one that is not written."""
    shared = product.compile(target="sm_80", where=where).resources()["shared"]
    assert (int(shared.replace(",", "").removesuffix(" B")) >= 2 * 3 * 32 * 32 * 2) == staged
