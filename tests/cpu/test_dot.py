"""Dot of every pair of types, alone and in loops over K, against NumPy in double precision."""

from __future__ import annotations

import inspect
import linecache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus.ir.dtypes as dt
from tests.cpu.lang import tl
from tests.cpu.support import run


def matmul(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 128, BN: int = 128, BK: int = 32):
    M, K = a.shape
    _, N = b.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=3):
        x = tl.load(a, (i * BM, k), (BM, BK))
        y = tl.load(b, (k, j * BN), (BK, BN))
        acc = tl.dot(x, y, acc)
    tl.store(c, (i * BM, j * BN), acc)


SHAPES = [(1, 1, 1), (128, 128, 32), (100, 90, 70), (300, 17, 129), (5, 200, 31), (7, 9, 0), (64, 48, 1000)]
BLOCKS = [(128, 128, 32), (16, 24, 8), (13, 7, 5), (64, 1, 16), (1, 32, 64)]


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_matmul(shape: Any, blocks: Any) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype("f"), rng.standard_normal((k, n)).astype("f")
    expected = a.astype("d") @ b
    for order_a, order_b in ("CC", "FC", "CF", "FF"):
        c = np.full((m, n), 7, "f")
        run(matmul, a=np.asarray(a, order=order_a), b=np.asarray(b, order=order_b), c=c, BM=blocks[0], BN=blocks[1],
            BK=blocks[2])
        assert np.linalg.norm(c - expected) <= 1e-6 * np.linalg.norm(expected)


def products(a: "A['M', 'K']", b: "B['K', 'N']", c: "C['M', 'N']", BM: int = 32, BN: int = 40, BK: int = 48):
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    x = tl.load(a, (i * BM, 0), (BM, BK))
    y = tl.load(b, (0, j * BN), (BK, BN))
    acc = tl.load(c, (i * BM, j * BN), (BM, BN))
    tl.store(c, (i * BM, j * BN), tl.dot(x, y, acc))


def typed(a: dt.DType, b: dt.DType, c: dt.DType) -> Any:
    text = inspect.getsource(products)
    for name, dtype, dims in (("A", a, "'M', 'K'"), ("B", b, "'K', 'N'"), ("C", c, "'M', 'N'")):
        text = text.replace(f'"{name}[{dims}]"', f"tl.{dtype}[{dims}]")
    file = f"<dot {a} {b} {c}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    scope: dict[str, Any] = {"tl": tl}
    exec(compile(text, file, "exec"), scope)
    return scope["products"]


def pairs() -> list[tuple[dt.DType, dt.DType, dt.DType]]:
    from tilus.ir.ops.reduction import DOT_TYPES

    return [(a, b, c) for (a, b), cs in DOT_TYPES.items() for c in cs]


@pytest.mark.parametrize("types", pairs(), ids=str)
def test_types(types: Any) -> None:
    ta, tb, tc = types
    rng = np.random.default_rng(1)

    def random(shape: Any, dtype: dt.DType) -> Any:
        if dtype.is_int:
            return rng.integers(dtype.min_value, dtype.max_value, shape, dtype=dtype.numpy, endpoint=True)
        return rng.standard_normal(shape).astype(dtype.numpy)

    m, n, k = 37, 55, 45
    a, b = random((m, k), ta), random((k, n), tb)
    c = np.zeros((m, n), tc.numpy)
    c[:] = rng.integers(-3, 4, c.shape)
    wide = np.int64 if ta.is_int else np.float64
    expected = a.astype(wide) @ b.astype(wide) + c.astype(wide)
    run(typed(ta, tb, tc), a=a, b=b, c=c)
    if tc.is_int:
        np.testing.assert_array_equal(c, expected)
    else:
        bound = {dt.f64: 1e-14, dt.f32: 1e-5, dt.f16: 2e-3}[tc]
        np.testing.assert_allclose(c.astype(np.float64), expected, rtol=bound, atol=bound * 10)


def half_matmul(a: "A['M', 'K']", b: "B['K', 'N']", c: "C['M', 'N']", BM: int = 32, BN: int = 48, BK: int = 16):
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(tl.cdiv(a.shape[1], BK)):
        x = tl.load(a, (i * BM, k * BK), (BM, BK))
        y = tl.load(b, (k * BK, j * BN), (BK, BN))
        acc = tl.dot(x, (y.to(tl.f32) * 0.5).to(tl.bf16), acc)
    tl.store(c, (i * BM, j * BN), acc.to(tl.bf16))


def test_conversions_between_load_and_dot() -> None:
    text = inspect.getsource(half_matmul)
    for name, dims in (("A", "'M', 'K'"), ("B", "'K', 'N'"), ("C", "'M', 'N'")):
        text = text.replace(f'"{name}[{dims}]"', f"tl.bf16[{dims}]")
    linecache.cache["<half>"] = (len(text), None, text.splitlines(True), "<half>")
    scope: dict[str, Any] = {"tl": tl}
    exec(compile(text, "<half>", "exec"), scope)
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((70, 100), (100, 90)))
    c = np.zeros((70, 90), ml_dtypes.bfloat16)
    run(scope["half_matmul"], a=a, b=b, c=c)
    expected = a.astype("d") @ (b.astype("d") * 0.5)
    np.testing.assert_allclose(c.astype("d"), expected, rtol=1e-2, atol=1e-2)


def batched(a: tl.f32["B", "M", "K"], b: tl.f32["B", "K", "N"], c: tl.f32["B", "M", "N"], G: int = 3, M_: int = 9,
            N_: int = 20, K_: int = 16):
    i = tl.grid(tl.cdiv(a.shape[0], G))
    x = tl.load(a, (i * G, 0, 0), (G, M_, K_))
    y = tl.load(b, (i * G, 0, 0), (G, K_, N_))
    tl.store(c, (i * G, 0, 0), tl.dot(x, y))


def test_batches() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((5, 9, 16)).astype("f"), rng.standard_normal((5, 16, 20)).astype("f")
    c = np.zeros((5, 9, 20), "f")
    run(batched, a=a, b=b, c=c)
    np.testing.assert_allclose(c, a.astype("d") @ b, rtol=1e-5, atol=1e-5)


def attention(q: tl.f32["H", "L", "D"], k: tl.f32["H", "S", "D"], v: tl.f32["H", "S", "D"], o: tl.f32["H", "L", "D"],
              scale: tl.f32, D_: int = 64, BM: int = 32, BN: int = 48, causal: bool = False):
    L, S = q.shape[1], k.shape[1]
    i, h = tl.grid(tl.cdiv(L, BM), q.shape[0])
    Q = tl.load(q[h], (i * BM, 0), (BM, D_)) * scale
    m = tl.full((BM, 1), -1e30, tl.f32)
    l = tl.zeros((BM, 1), tl.f32)
    acc = tl.zeros((BM, D_), tl.f32)
    for j in tl.range(0, S, BN, stages=2):
        s = tl.dot(Q, tl.load(k[h], (j, 0), (BN, D_)).T)
        column = j + tl.arange(BN).reshape(1, BN)
        valid = column < S
        if causal:
            valid = valid & (column <= i * BM + tl.arange(BM).reshape(BM, 1))
        s = tl.where(valid, s, -1e30)
        top = tl.maximum(m, tl.max(s, 1, keepdims=True))
        p = tl.exp(s - top)
        shrink = tl.exp(m - top)
        l = l * shrink + tl.sum(p, 1, keepdims=True)
        acc = tl.dot(p, tl.load(v[h], (j, 0), (BN, D_)), acc * shrink)
        m = top
    tl.store(o[h], (i * BM, 0), acc / l)


@pytest.mark.parametrize(("length", "dim", "causal"),
                         [(100, 64, False), (100, 64, True), (33, 59, True), (1, 8, False)])
def test_attention(length: int, dim: int, causal: bool) -> None:
    rng = np.random.default_rng(4)
    q, k, v = (rng.standard_normal((2, length, dim)).astype("f") for _ in range(3))
    o = np.zeros_like(q)
    run(attention, q=q, k=k, v=v, o=o, scale=0.125, D_=dim, causal=causal)
    s = np.einsum("hid,hjd->hij", q.astype("d"), k) * 0.125
    if causal:
        s = np.where(np.tri(length, dtype=bool), s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    expected = p / p.sum(-1, keepdims=True) @ v
    assert np.linalg.norm(o - expected) <= 1e-6 * np.linalg.norm(expected)


def accumulator_read_later(a: tl.f64["M", "K"], c: tl.f64["M", "M"], d: tl.f64["M", "M"]):
    tl.grid(1)
    x = tl.load(a, (0, 0), (16, 16))
    acc = tl.dot(x, x)
    doubled = acc * 2.0
    product = tl.dot(x, x.T, acc)
    tl.store(c, (0, 0), doubled)
    tl.store(d, (0, 0), product)


def test_an_accumulator_that_a_later_store_still_needs() -> None:
    a = np.random.default_rng(4).standard_normal((16, 16))
    c, d = np.zeros((16, 16)), np.zeros((16, 16))
    run(accumulator_read_later, a=a, c=c, d=d)
    np.testing.assert_allclose(c, 2 * (a @ a), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(d, a @ a.T + a @ a, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("depth", [1030, 1024])
def test_tiles_whose_panels_do_not_fit_in_the_first_level_of_the_cache(depth: int) -> None:
    """They are multiplied chunk by chunk of K, with A beyond its array in the last one."""
    rng = np.random.default_rng(5)
    a, b, c = (rng.standard_normal(shape).astype("f") for shape in [(20, 1000), (1000, 70), (20, 70)])
    expected = c + a.astype("d") @ b
    run(typed(dt.f32, dt.f32, dt.f32), a=a, b=b, c=c, BM=16, BN=72, BK=depth)
    assert np.linalg.norm(c - expected) <= 1e-6 * np.linalg.norm(expected)
