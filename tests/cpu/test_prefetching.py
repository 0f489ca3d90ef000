"""Which loads ask for memory ahead: those of long computations that go on there, those of pieces of rows that are
kept, and none else."""

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import run, trace
from tilus.ir.ops import PtrAdd
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu import lower_module
from tilus.lowering.cpu.values import Machine


def rows(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 1, BN: int = 256):
    """exp(x) divided by its row's sum."""
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    total = tl.zeros((BM, 1), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        total += tl.sum(tl.exp(tl.load(x, (i, j), (BM, BN), other=-float("inf"))), axis=1, keepdims=True)
    for j in tl.range(0, x.shape[1], BN):
        tl.store(y, (i, j), tl.exp(tl.load(x, (i, j), (BM, BN))) / total)


def flat(x: tl.f32["N"], y: tl.f32["N"], B: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.store(y, i, tl.exp(tl.load(x, i, B)))


def columns(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 16, BN: int = 64):
    """What is read next lies below, not behind."""
    j = tl.grid(tl.cdiv(x.shape[1], BN)) * BN
    for i in tl.range(0, x.shape[0], BM):
        tl.store(y, (i, j), tl.exp(tl.load(x, (i, j), (BM, BN))))


def chosen(x: tl.f32["M", "N"], y: tl.f32["M", "N"], B: int = 256):
    """A number that is loaded in a loop says where to read."""
    tl.grid(1)
    for i in tl.range(0, x.shape[0]):
        j = tl.where(x[i, 0] < 1e30, 0, 1).to(tl.i64)
        for k in tl.range(j, x.shape[1], B):
            tl.store(y, (i, k), tl.exp(tl.load(x, (i, k), (1, B))))


def cheap(x: tl.f32["N"], y: tl.f32["N"], B: int = 256):
    """The processor's own prefetching keeps up with that."""
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.store(y, i, tl.load(x, i, B) + 1.0)


def kept(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 16, BN: int = 64):
    """Pieces of rows that are read into shared memory before they are needed; the next ones lie below."""
    j = tl.grid(tl.cdiv(x.shape[1], BN)) * BN
    tile = tl.shared((BM, BN), tl.f32)
    for i in tl.range(0, x.shape[0], BM):
        tl.sync()
        tl.store(tile, (0, 0), tl.load(x, (i, j), (BM, BN)))
        tl.sync()
        tl.store(y, (i, j), tl.load(tile, (0, 0), (BM, BN)) + 1.0)


def expected(kernel: Any, x: Any) -> Any:
    e = np.exp(x.astype("d"))
    return x + 1 if kernel in (cheap, kept) else e / e.sum(axis=1, keepdims=True) if kernel is rows else e


@pytest.mark.parametrize(("kernel", "asks"), [(rows, True), (flat, True), (chosen, True), (columns, False),
                                              (cheap, False), (kept, True)])
def test_who_asks_ahead(kernel: Any, asks: bool) -> None:
    shape = (700,) if kernel in (flat, cheap) else (5, 700)
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    y = np.zeros_like(x)
    module, _ = trace(kernel, {"x": x, "y": y})
    lowered = lower_module(module, Machine())
    assert any(isinstance(op, Prefetch) for f in lowered.functions for op in f.walk()) == asks
    run(kernel, x=x, y=y)
    np.testing.assert_allclose(y, expected(kernel, x), rtol=1e-5)


def product(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 96, BN: int = 64, BK: int = 16):
    i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


def prefetches(machine: Machine, **arguments: Any) -> list[Prefetch]:
    module, _ = trace(product, arguments)
    return [op for f in lower_module(module, machine).functions for op in f.walk() if isinstance(op, Prefetch)]


@pytest.mark.parametrize("rows", [96, 16])
def test_what_follows_is_asked_for_by_micro_kernels(rows: int) -> None:
    """B is longer than one chunk of K; its first rows are read again by a second block of rows."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(shape).astype("f") for shape in [(200, 700), (700, 150), (200, 150)])
    arguments = {"a": a, "b": b, "c": c, "BM": rows}
    assert len(prefetches(Machine(asks_for_panels=True), **arguments)) > len(prefetches(Machine(), **arguments))
    run(product, **arguments)
    np.testing.assert_allclose(c, a.astype("d") @ b, rtol=1e-4, atol=1e-4)


def test_rows_are_asked_for_up_to_the_line_in_which_they_end() -> None:
    """Arrays may begin anywhere in a line: 64 columns of f32 lie in five of them."""
    a, b, c = (np.zeros(shape, "f") for shape in [(200, 700), (700, 150), (200, 150)])
    places = [op.pointer.defining for op in prefetches(Machine(), a=a, b=b, c=c)]
    assert {16, 32, 48, 63} <= {place.constant for place in places if isinstance(place, PtrAdd)}
