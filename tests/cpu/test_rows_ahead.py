"""Rows whose numbers a loop reads from memory are asked for ahead, and no memory that is not there is read for it."""

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import trace
from tests.guard_pages import last_bytes
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu import lower_module
from tilus.lowering.cpu.values import Machine


def bag(table: tl.f32["V", "D"], index: tl.i32["R", "L"], y: tl.f32["R", "D"], B: int = 64) -> None:
    b, j = tl.grid(index.shape[0], tl.cdiv(table.shape[1], B))
    total = tl.zeros((B,), tl.f32)
    for k in tl.range(index.shape[1]):
        total += tl.load(table[index[b, k]], j * B, B)
    tl.store(y[b], j * B, total)


def pages(table: tl.f32["P", 4, "D"], index: tl.i32["R", "L"], y: tl.f32["R", "D"], B: int = 64) -> None:
    """The pages of a row are where a table of one more level says."""
    b, j = tl.grid(index.shape[0], tl.cdiv(table.shape[2], B))
    total = tl.zeros((4, B), tl.f32)
    for k in tl.range(0, index.shape[1], 2):
        total += tl.load(table[index[0, index[b, k]]], (0, j * B), (4, B))
    tl.store(y[b], j * B, tl.sum(total, axis=0))


def followed(table: tl.f32["V", "D"], index: tl.i32["R", "L"], y: tl.f32["R", "D"], B: int = 64) -> None:
    """Each row says where the next one is."""
    b, j = tl.grid(index.shape[0], tl.cdiv(table.shape[1], B))
    total, at = tl.zeros((B,), tl.f32), index[b, 0]
    for _ in tl.range(index.shape[1]):
        total += tl.load(table[at], j * B, B)
        at = index[b, at % index.shape[1]]
    tl.store(y[b], j * B, total)


def in_order(table: tl.f32["V", "D"], index: tl.i32["R", "L"], y: tl.f32["R", "D"], B: int = 64) -> None:
    b, j = tl.grid(index.shape[0], tl.cdiv(table.shape[1], B))
    total = tl.zeros((B,), tl.f32)
    for k in tl.range(index.shape[1]):
        total += tl.load(table[k], j * B, B) * index[b, k].to(tl.f32)
    tl.store(y[b], j * B, total)


@pytest.mark.parametrize(("function", "table", "asks"), [
    (bag, (9, 70), True), (pages, (9, 4, 70), True), (followed, (9, 70), False), (in_order, (9, 70), False)])
def test_which_loops_ask(function: Any, table: tuple[int, ...], asks: bool) -> None:
    arrays = {"table": np.zeros(table, "f"), "index": np.zeros((3, 9), "i4"), "y": np.zeros((3, 70), "f")}
    program = lower_module(trace(function, arrays)[0], Machine())
    found = [op for f in program.functions for op in f.walk() if isinstance(op, Prefetch)]
    assert bool(found) == asks


@pytest.mark.parametrize("length", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("width", [1, 64, 100])
def test_sums_of_rows(length: int, width: int, threads: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((30, width)).astype("f")
    y = np.empty((5, width), "f")
    with last_bytes() as memory:
        index = memory(5 * length * 4).view(np.int32).reshape(5, length)
        index[...] = rng.integers(0, 30, index.shape)
        tl.jit(bag)(table, index, y)
        np.testing.assert_allclose(y, table.astype("d")[index].sum(1), rtol=1e-4, atol=1e-5)
        del index


def test_pages_by_two_tables() -> None:
    rng = np.random.default_rng(0)
    table, index = rng.standard_normal((20, 4, 70)).astype("f"), rng.integers(0, 20, (6, 20)).astype("i4")
    y = np.empty((6, 70), "f")
    tl.jit(pages)(table, index, y)
    np.testing.assert_allclose(y, table.astype("d")[index[0][index[:, ::2]]].sum((1, 2)), rtol=1e-4, atol=1e-5)
