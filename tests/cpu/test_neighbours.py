"""Products with few rows that a block computes for those beside it, against NumPy in double precision."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import trace
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu import lower_module
from tilus.lowering.cpu.neighbours import shared_axis
from tilus.lowering.cpu.values import Machine

Array = Any


@tl.jit
def product(a: tl.f32["M", "K"] | tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f64["M", "K"],
            b: tl.f32["K", "N"] | tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f64["K", "N"],
            c: tl.f32["M", "N"] | tl.f64["M", "N"], BM: int = 32, BN: int = 32, BK: int = 16, columns: bool = False):
    if columns:  # of the grid's first axis
        j, i = tl.grid(tl.cdiv(c.shape[1], BN), tl.cdiv(c.shape[0], BM))
    else:
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    acc = tl.load(c, (i * BM, j * BN), (BM, BN))
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


def operands(m: int, n: int, k: int, dtype: Any, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    wide = np.float64 if dtype is np.float64 else np.float32
    return (rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype),
            rng.standard_normal((m, n)).astype(wide))


def check(c: Array, before: Array, a: Array, b: Array) -> None:
    a, b = a.astype("d"), b.astype("d")
    unit = 2.0**-53 if c.dtype == np.float64 else 2.0**-24
    bound = (np.abs(a) @ np.abs(b) + np.abs(before)) * (3 + a.shape[1]) * unit
    assert np.all(np.abs(c - (before.astype("d") + a @ b)) <= bound)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("columns", [False, True])
def test_rows_and_columns(dtype: Any, columns: bool, threads: int) -> None:
    for m, n, k in [(1, 1, 1), (1, 5, 40), (2, 31, 16), (1, 32, 33), (3, 64, 100), (4, 300, 21), (5, 1000, 7),
                    (7, 257, 64), (8, 2049, 19), (9, 500, 30), (33, 290, 20), (1, 4096, 3), (6, 96, 0)]:
        a, b, c = operands(m, n, k, dtype)
        before = c.copy()
        product.on("cpu")(a, b, c, columns=columns)
        check(c, before, a, b)


def test_operands_that_are_views(threads: int) -> None:
    a, b, c = operands(3, 700, 50, np.float32)
    for x, y, z in [(np.asfortranarray(a), b, c), (a, np.asfortranarray(b), c), (a[:, 1:], b[:-1, 3:], c[:, :-3]),
                    (a[:, ::2], b[::2], c), (a[1:2], b[:, ::-1][:, ::-1], c[1:2]), (a, b, np.asfortranarray(c))]:
        before = z.copy(order="K")
        product.on("cpu")(x, y, z)
        check(z, before, x, y)


def test_the_same_bits_whoever_computes_them(threads: int) -> None:
    a, b, c = operands(4, 3000, 130, np.float32)
    for start in (0, 640, 2976):
        whole, part = c.copy(), c[:, start : start + 64].copy()
        product.on("cpu")(a, b, whole)
        product.on("cpu")(a, np.ascontiguousarray(b[:, start : start + 64]), part)
        assert np.array_equal(whole[:, start : start + 64], part)


@tl.jit
def several(a: tl.f32["M", "K"], b: tl.f32["K", "N"], w: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 16,
            BN: int = 32, BK: int = 16):
    j = tl.grid(tl.cdiv(c.shape[1], BN)) * BN
    one, two = tl.zeros((BM, BN), tl.f32), tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        x = tl.load(a, (0, k), (BM, BK))
        one = tl.dot(x, tl.load(b, (k, j), (BK, BN)), one)
        two = tl.dot(x, tl.load(w, (k, j), (BK, BN)), two)
    total = one * 0.5
    for k in tl.range(0, a.shape[1], BK):
        total = tl.dot(tl.load(a, (0, k), (BM, BK)), tl.load(w, (k, j), (BK, BN)), total)
    tl.store(c, (0, j), total + two)


def test_several_products(threads: int) -> None:
    a, b, c = operands(2, 1500, 70, np.float32)
    w = operands(2, 1500, 70, np.float32, 1)[1]
    several.on("cpu")(a, b, w, c)
    expected = a.astype("d") @ (0.5 * b.astype("d") + 2 * w.astype("d"))
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()


@tl.jit
def batched(a: tl.f32["Z", "M", "K"], b: tl.f32["Z", "K", "N"], c: tl.f32["Z", "M", "N"], BM: int = 16, BN: int = 32,
            BK: int = 16):
    i, j, z = tl.grid(tl.cdiv(c.shape[1], BM), tl.cdiv(c.shape[2], BN), c.shape[0])
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[2], BK):
        acc = tl.dot(tl.load(a[z], (i * BM, k), (BM, BK)), tl.load(b[z], (k, j * BN), (BK, BN)), acc)
    tl.store(c[z], (i * BM, j * BN), acc)


@pytest.mark.parametrize("shape", [(1, 3, 500, 40), (4, 1, 200, 30), (5, 8, 33, 17)])
def test_batches(shape: tuple[int, int, int, int], threads: int) -> None:
    z, m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((z, m, k)).astype("f"), rng.standard_normal((z, k, n)).astype("f")
    c = np.zeros((z, m, n), "f")
    batched.on("cpu")(a, b, c)
    expected = a.astype("d") @ b.astype("d")
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()


@tl.jit
def triangle(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BN: int = 32, BK: int = 16):
    j = tl.grid(tl.cdiv(c.shape[1], BN)) * BN
    acc = tl.zeros((8, BN), tl.f32)
    for k in tl.range(0, tl.minimum(j + BN, a.shape[1]), BK):
        acc = tl.dot(tl.load(a, (0, k), (8, BK)), tl.load(b, (k, j), (BK, BN)), acc)
    tl.store(c, (0, j), acc)


@tl.jit
def overlapping(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "P"], BN: int = 32, BK: int = 16):
    j = tl.grid(tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((8, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (0, k), (8, BK)), tl.load(b, (k, j * 16), (BK, BN)), acc)
    tl.store(c, (0, j * BN), acc)


@tl.jit
def walking(a: tl.f32["P", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BN: int = 32, BK: int = 16):
    j = tl.grid(tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((1, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (j, k), (1, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (0, j * BN), acc)


def axis_of(kernel: Any, **arguments: Array) -> int | None:
    module, _ = trace(kernel.function, arguments)
    return shared_axis(module.kernels[0])


def test_what_blocks_do_not_share(threads: int) -> None:
    """Depths that follow the block, columns that overlap, other rows of A."""
    a, b, c = operands(4, 700, 300, np.float32)
    assert axis_of(several, a=a, b=b, w=b, c=c) == 0
    assert axis_of(batched, a=a[None], b=b[None], c=c[None]) == 1
    assert axis_of(triangle, a=a, b=b, c=c) is None
    triangle.on("cpu")(a, b, c)
    full = a.astype("d")[:, :, None] * b.astype("d")[None]
    ends = np.minimum((np.arange(700) // 32 + 1) * 32, 300)
    expected = np.stack([full[:, :e, n].sum(1) for n, e in enumerate(ends)], 1)
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()

    c = np.zeros((4, 20 * 32), "f")
    assert axis_of(overlapping, a=a, b=b, c=c) is None
    overlapping.on("cpu")(a, b, c)
    plain = a.astype("d") @ b.astype("d")
    expected = np.concatenate([plain[:, 16 * n : 16 * n + 32] for n in range(20)], 1)
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()

    a, c = np.random.default_rng(2).standard_normal((22, 300)).astype("f"), np.zeros((1, 700), "f")
    assert axis_of(walking, a=a, b=b, c=c) is None
    walking.on("cpu")(a, b, c)
    expected = np.concatenate([a[n : n + 1].astype("d") @ b[:, 32 * n : 32 * n + 32] for n in range(22)], 1)
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()


@tl.jit
def where_wanted(a: tl.f32["M", "K"], b: tl.f32["K", "N"], wanted: tl.i32["B"], c: tl.f32["M", "N"], BN: int = 32,
                 BK: int = 16):
    j = tl.grid(tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((8, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (0, k), (8, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    if wanted[j] > 0:
        tl.store(c, (0, j * BN), acc)


def test_blocks_that_want_nothing(threads: int) -> None:
    a, b, c = operands(1, 640, 50, np.float32)
    wanted = np.random.default_rng(3).integers(0, 2, 20, dtype=np.int32)
    before = c.copy()
    where_wanted.on("cpu")(a, b, wanted, c)
    expected = np.where(np.repeat(wanted, 32) > 0, a.astype("d") @ b.astype("d"), before)
    assert np.abs(c - expected).max() <= 1e-5 * np.abs(expected).max()


def low(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 16, BN: int = 128, BK: int = 16):
    i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


def test_blocks_that_launches_may_divide_share_products(threads: int) -> None:
    """By columns, where tiles have few rows: a launch that does not divide them has blocks beside each other."""
    for n in (40, 700, 5000):  # divided, or not
        a, b, c = operands(3, n, 200, np.float32)
        before = c.copy()
        product.on("cpu")(a, b, c, BM=16, BN=128)
        check(c, before, a, b)
    module, _ = trace(low, {"a": a, "b": b, "c": c})
    assert module.kernels[0].attributes.parts > 1
    assert shared_axis(module.kernels[0]) == 1


@pytest.mark.parametrize("streams", [0, 8])
def test_rows_are_asked_for_or_more_of_them_read_side_by_side(streams: int) -> None:
    a, b, c = operands(3, 700, 200, np.float32)
    module, _ = trace(low, {"a": a, "b": b, "c": c})
    before, after = (sum(isinstance(op, Prefetch) for f in lower_module(module, machine).functions for op in f.walk())
                     for machine in (Machine(), Machine(streams=streams)))
    assert (after < before) == (streams > 0)
