"""Views, bounds, masks, gathers, atomics and shared memory against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cpu.lang import tl
from tests.cpu.support import run, trace
from tilus.ir.ops import PtrStore
from tilus.lowering.cpu import lower_module


def rng() -> Any:
    return np.random.default_rng(0)


def window(x: tl.f32["M", "N"], y: tl.f32["M", "N"], i0: tl.i32, j0: tl.i32, R: int = 5, C: int = 7):
    tl.grid(1)
    tl.store(y, (i0, j0), tl.load(x, (i0, j0), (R, C), other=3.5) + 1.0)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (9, 40), (0, 3)], ids=str)
@pytest.mark.parametrize("start", [(0, 0), (-2, -3), (3, 30), (100, 0), (-100, 0), (4, 5)], ids=str)
@pytest.mark.parametrize("size", [(5, 7), (1, 64), (16, 1)], ids=str)
def test_out_of_bounds_is_neither_read_nor_written(shape: Any, start: Any, size: Any) -> None:
    x = rng().standard_normal(shape).astype("f")
    y = np.zeros(shape, "f")
    run(window, x=x, y=y, i0=start[0], j0=start[1], R=size[0], C=size[1])
    expected = np.zeros(shape, "f")
    for i in range(max(0, start[0]), min(shape[0], start[0] + size[0])):
        for j in range(max(0, start[1]), min(shape[1], start[1] + size[1])):
            expected[i, j] = x[i, j] + np.float32(1)
    np.testing.assert_array_equal(y, expected)


def padded(x: tl.f32["M", "N"], y: tl.f32["R", "C"], i0: tl.i32, j0: tl.i32, R: int = 6, C: int = 20):
    tl.grid(1)
    tl.store(y, (0, 0), tl.load(x, (i0, j0), (R, C), other=-1.0))


@pytest.mark.parametrize("start", [(0, 0), (-2, -3), (3, 9), (50, 50)], ids=str)
def test_other_fills_what_is_out_of_bounds(start: Any) -> None:
    x = rng().standard_normal((7, 13)).astype("f")
    y = np.zeros((6, 20), "f")
    run(padded, x=x, y=y, i0=start[0], j0=start[1])
    for i in range(6):
        for j in range(20):
            a, b = i + start[0], j + start[1]
            assert y[i, j] == (x[a, b] if 0 <= a < 7 and 0 <= b < 13 else -1.0)


@pytest.mark.parametrize("view", [
    lambda a: a, lambda a: a.T.copy().T, lambda a: a[:, ::2], lambda a: a[::-1], lambda a: a[:, ::-1],
    lambda a: a[2:, 3:],
], ids=["contiguous", "transposed", "stepped", "reversed", "mirrored", "offset"])
def test_strided_arrays(view: Any) -> None:
    x, y = view(rng().standard_normal((20, 46)).astype("f")), view(np.zeros((20, 46), "f"))
    run(window, x=x, y=y, i0=0, j0=0, R=32, C=64)
    np.testing.assert_array_equal(y, x + np.float32(1))


def test_zero_strides() -> None:
    x = np.broadcast_to(np.arange(5, dtype="f")[:, None], (5, 9))
    y = np.zeros((5, 9), "f")
    run(window, x=x, y=y, i0=0, j0=0, R=8, C=16)
    np.testing.assert_array_equal(y, x + 1)
    z = np.broadcast_to(np.arange(9, dtype="f"), (5, 9))
    run(window, x=z, y=y, i0=0, j0=0, R=8, C=16)
    np.testing.assert_array_equal(y, z + 1)


def subviews(x: tl.f32["A", "B", "C"], y: tl.f32["R", "N"], lo: tl.i32, hi: tl.i32, h: tl.i32, R: int = 8, N: int = 16):
    tl.grid(1)
    part = x[lo:hi, h, :]
    tl.store(y, (0, 0), tl.load(part, (-1, 2), (R, N), other=9.0))
    tl.store(y.T, (0, 2), tl.load(part.T, (0, 0), (N, 1)) * 2.0)


@pytest.mark.parametrize(("lo", "hi", "h"), [(1, 4, 2), (-2, 3, 0), (0, 99, 3), (2, 2, 1), (0, 3, 7), (0, 3, -1)])
def test_views_have_their_own_bounds(lo: int, hi: int, h: int) -> None:
    x = rng().standard_normal((5, 4, 11)).astype("f")
    y = np.zeros((8, 16), "f")
    run(subviews, x=x, y=y, lo=lo, hi=hi, h=h)

    def get(i: int, j: int) -> float:
        inside = 0 <= i < hi - lo and 0 <= lo + i < 5 and 0 <= h < 4 and 0 <= j < 11
        return float(x[lo + i, h, j]) if inside else float("nan")

    expected = np.array([[get(i - 1, j + 2) for j in range(16)] for i in range(8)], "f")
    expected = np.where(np.isnan(expected), 9.0, expected)
    expected[2] = [0.0 if np.isnan(get(0, j)) else 2 * get(0, j) for j in range(16)]
    np.testing.assert_array_equal(y, expected)


def masked(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32, B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    index = i * B + tl.arange(B)
    v = tl.load(x, i * B, B, mask=index % 3 == 0, other=-1.0)
    tl.store(y, i * B, v, mask=index < n)


def test_masks() -> None:
    x, y = rng().standard_normal(150).astype("f"), np.zeros(150, "f")
    run(masked, x=x, y=y, n=140)
    j = np.arange(150)
    np.testing.assert_array_equal(y, np.where(j < 140, np.where(j % 3 == 0, x, np.float32(-1)), np.float32(0)))


def in_place(x: tl.f32["N"], B: int = 64):
    tl.grid(1)
    v = tl.load(x, 0, B)
    w = tl.load(x, 1, B)
    tl.store(x, 0, v * 2.0 + w)
    tl.store(x, B, v)
    u = tl.load(x, 0, B)
    tl.store(x, 0, u + 1.0)


def test_memory_is_in_program_order() -> None:
    x = rng().standard_normal(128).astype("f")
    v, w = x[:64].copy(), x[1:65].copy()
    run(in_place, x=x)
    np.testing.assert_allclose(x[:64], v * 2 + w + 1, rtol=1e-6)
    np.testing.assert_array_equal(x[64:], v)


def across_barriers(x: tl.f32["N"], y: tl.f32["N"], B: int = 64):
    """What is read before a barrier is what was there then, in place or beside."""
    tl.grid(1)
    s = tl.shared((2 * B,), tl.f32)
    tl.store(s, 0, tl.load(x, 0, 2 * B))
    tl.sync()
    v, w = tl.load(s, 0, B), tl.load(s, 1, B)
    tl.sync()
    tl.store(s, 0, v + w)
    tl.sync()
    u = tl.load(s, 0, B)
    tl.sync()
    tl.store(s, B, u * 2.0)
    tl.sync()
    tl.store(y, 0, v)
    tl.store(y, B, tl.load(s, B, B))


def test_barriers_keep_what_was_read() -> None:
    x = rng().standard_normal(128).astype("f")
    y = np.zeros_like(x)
    run(across_barriers, x=x, y=y)
    np.testing.assert_array_equal(y[:64], x[:64])
    np.testing.assert_array_equal(y[64:], (x[:64] + x[1:65]) * 2)


def added_up(x: tl.f32["N"], y: tl.f32[64], barriers: bool = True):
    tl.grid(1)
    s = tl.shared((64,), tl.f32)
    tl.store(s, 0, tl.zeros((64,), tl.f32))
    for i in range(0, x.shape[0], 64):
        total = tl.load(s, 0, 64) + tl.load(x, i, 64)
        if barriers:
            tl.sync()
        tl.store(s, 0, total)
    tl.store(y, 0, tl.load(s, 0, 64))


def test_barriers_alone_store_nothing() -> None:
    """Shared memory is the block's own: what is computed of it waits in registers."""
    x, y = np.zeros(200, "f"), np.zeros(64, "f")
    stores = []
    for barriers in (False, True):
        module, _ = trace(added_up, {"x": x, "y": y, "barriers": barriers})
        stores.append(sum(isinstance(op, PtrStore) for f in lower_module(module).functions for op in f.walk()))
    assert stores[0] == stores[1]


def before_loops(x: tl.f32["N"], y: tl.f32["N"], shared: bool = False):
    """What is read before a loop is what was there then, though the loop writes through views of its own."""
    tl.grid(1)
    s = tl.shared((64,), tl.f32) if shared else x
    if shared:
        tl.store(s, 0, tl.load(x, 0, 64))
        tl.sync()
    v = tl.load(s, 0, 64)
    if shared:
        tl.sync()
    for i in range(x.shape[0] // 8):
        part = s[i * 8 : i * 8 + 8]
        tl.store(part, 0, tl.zeros((8,), tl.f32))
        if shared:
            tl.sync()
    tl.store(y, 0, v)


@pytest.mark.parametrize("shared", [False, True])
def test_views_that_loops_make(shared: bool) -> None:
    x, y = rng().standard_normal(64).astype("f"), np.zeros(64, "f")
    expected = x.copy()
    run(before_loops, x=x, y=y, shared=shared)
    np.testing.assert_array_equal(y, expected)


def indexed(x: tl.f32["M", "N"], r: tl.i32["K"], c: tl.i64["K"], y: tl.f32["K"], z: tl.f32["K"], K_: int = 64):
    tl.grid(1)
    i, j = tl.load(r, 0, K_, other=-1), tl.load(c, 0, K_)
    v = tl.gather(x, (i, j), other=5.0)
    tl.store(y, 0, v)
    tl.scatter(z, (tl.where(i % 2 == 0, tl.arange(K_), -1),), v)


def test_gather_and_scatter() -> None:
    x = rng().standard_normal((10, 12)).astype("f")
    r, c = rng().integers(-3, 13, 50).astype("i4"), rng().integers(-3, 15, 50)
    y, z = np.zeros(50, "f"), np.zeros(50, "f")
    run(indexed, x=x, r=r, c=c, y=y, z=z)
    inside = (r >= 0) & (r < 10) & (c >= 0) & (c < 12)
    expected = np.where(inside, x[r.clip(0, 9), c.clip(0, 11)], np.float32(5))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(z, np.where(r % 2 == 0, expected, 0))


def histogram(x: tl.i32["N"], h: tl.i32["B"], s: tl.f32[4], top: tl.f32[1], L: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], L))
    j = i * L + tl.arange(L)
    v = tl.load(x, i * L, L)
    tl.atomic_add(h, v, 1, mask=j < x.shape[0])
    tl.atomic_add(s, 0, 0.5)
    tl.atomic_max(top, 0, i.to(tl.f32))
    tl.atomic_cas(s, 1, 0.0, 7.0)
    tl.atomic_exchange(s, 2, 3.0)


def test_atomics() -> None:
    x = rng().integers(-2, 12, 1000).astype("i4")
    h, s, top = np.zeros(10, "i4"), np.zeros(4, "f"), np.zeros(1, "f")
    run(histogram, x=x, h=h, s=s, top=top)
    np.testing.assert_array_equal(h, np.bincount(x[(x >= 0) & (x < 10)], minlength=10))
    np.testing.assert_array_equal(s, [8.0, 7.0, 3.0, 0.0])
    assert top[0] == 15


def half_sum(x: tl.f16["N"], s: tl.f16[1], t: tl.bf16[1], L: int = 32):
    i = tl.grid(tl.cdiv(x.shape[0], L))
    tl.atomic_add(s, 0, tl.sum(tl.load(x, i * L, L)))
    tl.atomic_add(t, 0, tl.scalar(2.0, tl.bf16))


def test_atomic_adds_of_16_bit_floats() -> None:
    import ml_dtypes

    x = np.ones(320, np.float16)
    s, t = np.zeros(1, np.float16), np.zeros(1, ml_dtypes.bfloat16)
    run(half_sum, x=x, s=s, t=t)
    assert s[0] == 320
    assert t[0] == 20


def through_shared(x: tl.f32["M", "N"], y: tl.f32["N", "M"], R: int = 16, C: int = 24):
    i, j = tl.grid(tl.cdiv(x.shape[0], R), tl.cdiv(x.shape[1], C))
    s = tl.shared((2, R, C), tl.f32)
    tl.copy_async(s[1], x, (i * R, j * C))
    tl.commit()
    tl.wait(0)
    tl.sync()
    tl.store(y, (j * C, i * R), tl.load(s[1].T, (0, 0), (C, R)))


@pytest.mark.parametrize("shape", [(16, 24), (17, 100), (3, 5)], ids=str)
def test_shared_memory_and_transposition(shape: Any) -> None:
    x = rng().standard_normal(shape).astype("f")
    y = np.zeros(shape[::-1], "f")
    run(through_shared, x=x, y=y)
    np.testing.assert_array_equal(y, x.T)


def large(x: tl.i8["N"], y: tl.i8[2], at: tl.i64):
    tl.grid(1)
    y[0] = x[at]
    y[1] = x[at + 1]


def test_indices_beyond_32_bits() -> None:
    step = 1 << 30
    backing = np.arange(8, dtype=np.int8)
    x = np.lib.stride_tricks.as_strided(backing, (5 * step,), (0,))
    y = np.zeros(2, np.int8)
    run(large, x=x, y=y, at=4 * step + 5)
    np.testing.assert_array_equal(y, [0, 0])


def scratch(x: tl.f32["N"], y: tl.f32["N"], B: int = 64):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    w = tl.workspace((x.shape[0],), tl.f32, zero=True)
    tl.store(y, i * B, tl.load(w, i * B, B) + tl.load(x, i * B, B))
    tl.store(w, i * B, tl.load(x, i * B, B))
    tl.store(y, i * B, tl.load(w, i * B, B) + tl.load(y, i * B, B))


def test_workspaces_start_at_zero() -> None:
    x, y = rng().standard_normal(200).astype("f"), np.zeros(200, "f")
    run(scratch, x=x, y=y)
    np.testing.assert_array_equal(y, x + x)


def semaphore(x: tl.f32["N"], turn: tl.i32[1], order: tl.i32["G"], total: tl.f32[1], B: int = 16):
    i = tl.grid(tl.cdiv(x.shape[0], B))
    part = tl.sum(tl.load(x, i * B, B))
    tl.wait_until(turn, 0, "eq", i.to(tl.i32))
    total[0] = total[0] * 0.5 + part
    order[i] = turn[0]
    tl.atomic_add(turn, 0, 1, order="release")


@pytest.mark.skipif(not hasattr(tl, "wait_until"), reason="the language has no wait_until yet")
def test_blocks_wait_for_lower_ones() -> None:
    x = rng().standard_normal(16 * 40).astype("f")
    turn, order, total = np.zeros(1, "i4"), np.zeros(40, "i4"), np.zeros(1, "f")
    run(semaphore, x=x, turn=turn, order=order, total=total)
    expected = np.float32(0)
    for part in x.reshape(40, 16):
        expected = expected * np.float32(0.5) + part.sum()
    np.testing.assert_array_equal(order, np.arange(40))
    np.testing.assert_allclose(total[0], expected, rtol=1e-4)


def copy_rows(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 4, BN: int = 1000):
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    tl.store(y, (i * BM, j * BN), tl.load(x, (i * BM, j * BN), (BM, BN)) * 2.0)


@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("columns", [4096, 4099])
def test_large_arrays_that_are_only_written(offset: int, columns: int) -> None:
    rows = (18 << 20) // (4 * columns)
    x = rng().random((rows, columns), dtype="f")
    backing = np.zeros(rows * columns + 16, "f")
    y = backing[offset : offset + rows * columns].reshape(rows, columns)
    run(copy_rows, x=x, y=y)
    np.testing.assert_array_equal(y, x * 2)
    assert not backing[:offset].any()
    assert not backing[offset + rows * columns :].any()
