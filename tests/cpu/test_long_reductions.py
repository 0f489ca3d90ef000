"""Reductions along rows by loops, against NumPy: kinds, types, rows and columns beyond tiles, several at once."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import run
from tilus.lowering.cpu import long_reductions

Array = Any


def reducing(kind: str, dtype: Any, BM: int = 4, BN: int = 128, keepdims: bool = False) -> Any:
    low, high = (-math.inf, math.inf) if dtype.is_float else (dtype.min_value, dtype.max_value)
    # What loads give beyond arrays changes nothing.
    start = {"sum": 0, "min": high, "max": low, "xor": 0}[kind]
    both = {"sum": lambda a, b: a + b, "min": tl.minimum, "max": tl.maximum,
            "xor": lambda a, b: a ^ b}[kind]
    reduce = {"sum": tl.sum, "min": tl.min, "max": tl.max, "xor": tl.xor_sum}[kind]

    @tl.jit
    def kernel(x: dtype["M", "N"], y: dtype["M"], first: tl.i32):
        i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
        total = tl.full((BM, 1) if keepdims else (BM,), start, dtype)
        for j in tl.range(first, x.shape[1], BN):
            part = tl.load(x, (i, j), (BM, BN), other=start)
            total = both(total, reduce(part, axis=1, keepdims=keepdims))
        tl.store(y, i, tl.reshape(total, (BM,)) if keepdims else total)

    return kernel.on("cpu")


SHAPES = [(1, 1), (3, 127), (4, 128), (5, 129), (9, 1000), (2, 5), (7, 515), (4, 0)]


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    rng = np.random.default_rng(0)
    if dtype.is_int:
        return rng.integers(-100 if dtype.min_value < 0 else 0, 100, shape).astype(dtype.numpy)
    return rng.standard_normal(shape).astype(dtype.numpy)


@pytest.mark.sweep
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("kind", "dtype"), [
    ("sum", tl.f32), ("sum", tl.f64), ("sum", tl.i32), ("sum", tl.u64), ("sum", tl.f16), ("max", tl.f32),
    ("min", tl.f64), ("max", tl.f16), ("min", tl.bf16), ("max", tl.u8), ("min", tl.i64), ("xor", tl.u32)], ids=str)
def test_kinds_and_types(kind: str, dtype: Any, keepdims: bool) -> None:
    kernel = reducing(kind, dtype, keepdims=keepdims)
    for shape in SHAPES:
        for first in (0, 3):
            x, y = numbers(shape, dtype), np.zeros(shape[0], dtype.numpy)
            kernel(x, y, first)
            part = x[:, first:]
            if kind == "sum" and dtype.is_float:
                wide = part.astype("d")
                unit = float(ml_dtypes.finfo(dtype.numpy).eps)
                bound = (part.shape[1] + 2) * unit * np.abs(wide).sum(1)
                assert np.all(np.abs(y.astype("d") - wide.sum(1)) <= bound)
            elif part.shape[1]:
                function = {"sum": np.add, "max": np.maximum, "min": np.minimum, "xor": np.bitwise_xor}[kind]
                assert np.array_equal(y, function.reduce(part, 1, dtype=dtype.numpy if kind == "sum" else None))


@tl.jit
def moments(x: tl.f32["M", "N"], w: tl.f32["N"], y: tl.f32["M"], z: tl.f32["M"], BM: int = 4, BN: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    total, square = tl.zeros((BM,), tl.f32), tl.zeros((BM,), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        part = tl.load(x, (i, j), (BM, BN)) * tl.load(w, j, (BN,))
        total += tl.sum(part, axis=1)
        square += tl.sum(part * part, axis=1)
    tl.store(y, i, total)
    tl.store(z, i, square)


@pytest.mark.parametrize("shape", [(5, 1000), (8, 256), (1, 77), (6, 2049)])
def test_several_at_once(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(shape).astype("f"), rng.standard_normal(shape[1]).astype("f")
    y, z = np.zeros((2, shape[0]), "f")
    for source in (x, np.repeat(x, 2, 1)[:, ::2], np.asfortranarray(x)):
        moments.on("cpu")(source, w, y, z)
        wide = x.astype("d") * w
        assert np.all(np.abs(y - wide.sum(1)) <= 2.0**-22 * np.abs(wide).sum(1) * np.sqrt(shape[1]))
        assert np.all(np.abs(z - (wide**2).sum(1)) <= 1e-5 * (wide**2).sum(1))


@tl.jit
def one_row(x: tl.f32["N"], y: tl.f32[1], BN: int = 512):
    tl.grid(1)
    total = 0.0
    for j in tl.range(0, x.shape[0], BN):
        total += tl.sum(tl.exp(tl.load(x, j, (BN,), other=-float("inf"))), axis=0)
    tl.store(y, 0, total)


def test_a_row_alone() -> None:
    for n in (1, 511, 512, 513, 5000):
        x, y = np.random.default_rng(2).standard_normal(n).astype("f"), np.zeros(1, "f")
        one_row.on("cpu")(x, y)
        assert abs(y[0] - np.exp(x.astype("d")).sum()) <= 1e-5 * y[0]


@tl.jit
def nan_rows(x: tl.f32["M", "N"], y: tl.f32["M"], BN: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], 2)) * 2
    top = tl.full((2,), -float("inf"), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        top = tl.maximum(top, tl.max(tl.load(x, (i, j), (2, BN), other=-float("inf")), axis=1))
    tl.store(y, i, top)


def test_what_is_no_number() -> None:
    x = np.random.default_rng(3).standard_normal((5, 700)).astype("f")
    x[0, 5], x[1, ::2], x[2], x[3, 699] = np.nan, np.nan, np.nan, np.nan
    y, expected = np.zeros(5, "f"), np.zeros(5, "f")
    nan_rows.on("cpu")(x, y)
    nan_rows.on("interpret")(x, expected)
    assert np.array_equal(y, expected, equal_nan=True)


@tl.jit
def running(x: tl.f32["M", "N"], y: tl.f32["M"], BN: int = 256):
    """What is added depends on what was: no reduction along all of a row."""
    i = tl.grid(tl.cdiv(x.shape[0], 2)) * 2
    total = tl.zeros((2,), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        total = total + tl.sum(tl.load(x, (i, j), (2, BN)) * (1 + total[:, None]), axis=1)
    tl.store(y, i, total)


def test_which_loops(monkeypatch: Any) -> None:
    seen: list[bool] = []
    plain = long_reductions.try_reductions

    def spy(self: Any, op: Any) -> bool:
        seen.append(plain(self, op))
        return seen[-1]

    monkeypatch.setattr("tilus.lowering.cpu.control.try_reductions", spy)
    x, y = np.random.default_rng(4).standard_normal((2, 600)).astype("f"), np.zeros(2, "f")

    @tl.jit
    def rows(x: tl.f32["M", "N"], y: tl.f32["M"], BN: int = 256):
        tl.grid(1)
        total = tl.zeros((2,), tl.f32)
        for j in tl.range(0, x.shape[1], BN):
            total += tl.sum(tl.load(x, (0, j), (2, BN)), axis=1)
        tl.store(y, 0, total)

    run(rows.function, x=x, y=y)
    assert seen == [True]
    assert np.allclose(y, x.astype("d").sum(1), atol=1e-4)
    seen.clear()
    run(running.function, x=x, y=y)
    assert seen == [False]
    expected = np.zeros(2)
    for j in range(0, 600, 256):
        expected = expected + x[:, j : j + 256].astype("d").sum(1) * (1 + expected)
    assert np.abs(y - expected).max() <= 1e-4 * np.abs(expected).max()


def masked(kind: str, left_of: bool, step: int) -> Any:
    """Rows of which elements up to an index count. The mask follows the loop's index, or (``step`` other than the
    tile's length) does not go on where it ended."""
    start = {"sum": 0.0, "max": math.nan, "prod": 1.0}[kind]
    both = {"sum": lambda a, b: a + b, "max": tl.maximum, "prod": lambda a, b: a * b}[kind]
    reduce = {"sum": tl.sum, "max": tl.max, "prod": tl.prod}[kind]

    @tl.jit
    def kernel(x: tl.f32["M", "N"], y: tl.f32["M"], n: tl.i64):
        i = tl.grid(tl.cdiv(x.shape[0], 3)) * 3
        total = tl.full((3,), start, tl.f32)
        for j in tl.range(0, x.shape[1], 128):
            at = tl.arange(128, dtype=tl.i64)
            inside = at < n - j // 128 * step if left_of else at + j // 128 * step < n
            part = tl.exp(tl.load(x, (i, j), (3, 128)) * 0.01)
            total = both(total, reduce(tl.where(inside[None, :], part, start), axis=1))
        tl.store(y, i, total)

    return kernel.on("cpu")


@pytest.mark.sweep
@pytest.mark.parametrize("step", [128, 100])
@pytest.mark.parametrize("left_of", [True, False])
@pytest.mark.parametrize("kind", ["sum", "max", "prod"])
def test_masks(kind: str, left_of: bool, step: int) -> None:
    kernel = masked(kind, left_of, step)
    for columns, n in ((700, 700), (700, 513), (640, 640), (640, 1000), (300, 3), (300, 0), (5, 5)):
        x, y = numbers((7, columns), tl.f32), np.zeros(7, "f")
        kernel(x, y, n)
        at = np.arange(-(-columns // 128) * 128)
        inside = at % 128 + at // 128 * step < n
        wide = np.exp(0.01 * np.pad(x.astype("d"), ((0, 0), (0, len(at) - columns))))[:, inside]
        wanted = {"sum": wide.sum(1), "prod": wide.prod(1), "max": wide.max(1) if inside.any() else np.nan}[kind]
        np.testing.assert_allclose(y, wanted, rtol=1e-5)


@tl.jit
def chosen_rows(x: tl.f32["M", "N"], bits: tl.u8[64], y: tl.f32["M"], b: tl.i32):
    i = tl.grid(x.shape[0])
    weights, chosen, total = tl.load(bits, 0, 64).to(tl.f32), tl.full((64,), b, tl.i32) < 1, 0.0
    for j in tl.range(0, x.shape[1], 64):
        total += tl.sum(tl.where(chosen, tl.load(x[i, :], j, 64), 2.0) * weights)
    tl.store(y, i, tl.reshape(total, (1,)))


def test_tiles_that_iterations_share() -> None:
    rng = np.random.default_rng(0)
    x, bits, y = rng.standard_normal((5, 640)).astype("f"), rng.integers(0, 9, 64).astype("u1"), np.zeros(5, "f")
    chosen_rows.on("cpu")(x, bits, y, 0)
    np.testing.assert_allclose(y, x.astype("d") @ np.tile(bits, 10), rtol=1e-4)
    chosen_rows.on("cpu")(x, bits, y, 1)
    np.testing.assert_allclose(y, np.full(5, 20.0 * bits.sum()), rtol=1e-6)
