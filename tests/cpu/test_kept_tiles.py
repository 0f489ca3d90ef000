"""Packed tiles that are kept between blocks: attention in its plainest form, against NumPy in double precision."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.cpu.support import trace
from tilus.lowering.cpu.kept_tiles import kept_dots

Array = Any


@tl.jit
def weighted(q: tl.f32["H", "M", "D"] | tl.bf16["H", "M", "D"], k: tl.f32["H", "N", "D"] | tl.bf16["H", "N", "D"],
             v: tl.f32["H", "N", "D"] | tl.bf16["H", "N", "D"], o: tl.f32["H", "M", "D"], causal: tl.i32, BM: int = 32,
             BN: int = 16, D: int = 32):
    """(q kᵀ)² v, of the keys before each query's tile's end where ``causal``."""
    i, h = tl.grid(tl.cdiv(q.shape[1], BM), q.shape[0])
    x = tl.load(q[h], (i * BM, 0), (BM, D))
    acc = tl.zeros((BM, D), tl.f32)
    end = tl.where(causal > 0, tl.minimum((i + 1) * BM, k.shape[1]), k.shape[1])
    for j in tl.range(0, end, BN):
        s = tl.dot(x, tl.load(k[h], (j, 0), (BN, D)).T, tl.zeros((BM, BN), tl.f32))
        acc = tl.dot((s * s).to(q.dtype), tl.load(v[h], (j, 0), (BN, D)), acc * 0.5)
    tl.store(o[h], (i * BM, 0), acc)


def expected(q: Array, k: Array, v: Array, causal: bool, BM: int = 32, BN: int = 16) -> Array:
    q, k, v = (x.astype("d") for x in (q, k, v))
    out = np.zeros((*q.shape[:2], v.shape[2]))
    for start in range(0, q.shape[1], BM):
        end = min(start + BM, k.shape[1]) if causal else k.shape[1]
        rows = slice(start, start + BM)
        for j in range(0, end, BN):
            s = q[:, rows] @ k[:, j : j + BN].swapaxes(1, 2)
            out[:, rows] = out[:, rows] * 0.5 + s**2 @ v[:, j : j + BN]
    return out


def operands(h: int, m: int, n: int, dtype: Any = np.float32, seed: int = 0, d: int = 32) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((h, length, d)) * d**-0.25).astype(dtype) for length in (m, n, n)]


def close(o: Array, wanted: Array, dtype: Any) -> None:
    assert np.abs(o - wanted).max() <= (1e-5 if dtype is np.float32 else 2e-2) * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("causal", [False, True])
def test_heads_and_lengths(dtype: Any, causal: bool, threads: int) -> None:
    for h, m, n in [(1, 1, 1), (3, 33, 17), (2, 100, 77), (4, 128, 128), (2, 200, 1), (1, 31, 300), (5, 64, 0)]:
        q, k, v = operands(h, m, n, dtype)
        o = np.zeros((h, m, 32), "f")
        weighted.on("cpu")(q, k, v, o, int(causal))
        close(o, expected(q, k, v, causal), dtype)


def test_more_tiles_than_are_kept(threads: int) -> None:
    q, k, v = operands(2, 70, 16 * 300 + 5)
    o = np.zeros((2, 70, 32), "f")
    weighted.on("cpu")(q, k, v, o, 0)
    close(o, expected(q, k, v, False), np.float32)


def test_arrays_that_change_between_launches(threads: int) -> None:
    q, k, v = operands(2, 90, 130)
    o = np.zeros((2, 90, 32), "f")
    for n in range(4):
        weighted.on("cpu")(q, k, v, o, 0)
        close(o, expected(q, k, v, False), np.float32)
        (k if n % 2 else v)[:] = np.random.default_rng(n + 7).standard_normal(k.shape) * 0.4


def test_views_of_one_array(threads: int) -> None:
    """The same tiles with other ends, and with other strides."""
    q, k, v = operands(2, 90, 200)
    o = np.zeros((2, 90, 32), "f")
    for rows in (200, 131, 130, 16, 5):
        weighted.on("cpu")(q, k[:, :rows], v[:, :rows], o, 0)
        close(o, expected(q, k[:, :rows], v[:, :rows], False), np.float32)
    k, v = k[:, ::2], np.asfortranarray(v)[:, ::2]
    weighted.on("cpu")(q, k, v, o, 0)
    close(o, expected(q, k, v, False), np.float32)


@tl.jit
def bounded(q: tl.f32["M", "D"], k: tl.f32["N", "D"], lengths: tl.i32["H"], o: tl.f32["H", "M", "D"], BM: int = 32,
            BN: int = 16, D: int = 32):
    """Views of one array, with an end that is the block's own."""
    i, h = tl.grid(tl.cdiv(q.shape[0], BM), o.shape[0])
    x = tl.load(q, (i * BM, 0), (BM, D))
    acc = tl.zeros((BM, D), tl.f32)
    part = k[: lengths[h], :]
    for j in tl.range(0, lengths[h], BN):
        s = tl.dot(x, tl.load(part, (j, 0), (BN, D)).T, tl.zeros((BM, BN), tl.f32))
        acc = tl.dot(s * s, tl.load(part, (j, 0), (BN, D)), acc * 0.5)
    tl.store(o[h], (i * BM, 0), acc)


def test_ends_of_blocks(threads: int) -> None:
    q, k, _ = operands(1, 70, 64)
    lengths, o = np.array([64, 40, 41, 64, 3], np.int32), np.zeros((5, 70, 32), "f")
    bounded.on("cpu")(q[0], k[0], lengths, o)
    for n, length in enumerate(lengths):
        close(o[n : n + 1], expected(q, k[:, :length], k[:, :length], False), np.float32)


def kept(kernel: Any, *arguments: Array, **more: Any) -> int:
    names = list(kernel.function.__annotations__)
    module, _ = trace(kernel.function, {**dict(zip(names, arguments, strict=False)), **more})
    return len(kept_dots(module.kernels[0]))


@tl.jit
def plain(q: tl.f32["H", "M", "D"], k: tl.f32["H", "N", "D"], o: tl.f32["H", "M", "D"], own: bool = False, BM: int = 32,
          BN: int = 16, D: int = 32):
    """``own``: each block's tiles of keys begin elsewhere."""
    i, h = tl.grid(tl.cdiv(q.shape[1], BM), q.shape[0])
    first = i if own else 0
    x = tl.load(q[h], (i * BM, 0), (BM, D))
    acc = tl.zeros((BM, D), tl.f32)
    for j in tl.range(0, k.shape[1], BN):
        s = tl.dot(x, tl.load(k[h], (j + first, 0), (BN, D)).T, tl.zeros((BM, BN), tl.f32))
        acc = tl.dot(s, tl.load(k[h], (j + first, 0), (BN, D)), acc * 0.5)
    tl.store(o[h], (i * BM, 0), acc)


def test_which_are_kept(threads: int) -> None:
    """Not tiles that are each block's own."""
    q, k, _ = operands(2, 70, 50)
    o = np.zeros((2, 70, 32), "f")
    assert kept(plain, q, k, o) == 2
    assert kept(plain, q, k, o, own=True) == 0
    plain.on("cpu")(q, k, o, own=True)
    wanted = np.zeros((2, 70, 32))
    for i, start in enumerate(range(0, 70, 32)):
        padded = np.concatenate([k[:, i:], np.zeros((2, 16 + i, 32), "f")], 1).astype("d")
        for j in range(0, 50, 16):
            s = q[:, start : start + 32].astype("d") @ padded[:, j : j + 16].swapaxes(1, 2)
            wanted[:, start : start + 32] = wanted[:, start : start + 32] * 0.5 + s @ padded[:, j : j + 16]
    close(o, wanted, np.float32)
