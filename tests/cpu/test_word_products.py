"""Products of bytes and of bf16, whose operands are packed as words: by tile registers, by vectors, with few rows."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product as combinations
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul
from tests.cpu.levels import apart
from tilus.runtime.cpu.processor import host

SHAPES = [(128, 128, 64), (100, 70, 33), (260, 140, 700), (9, 40, 2000), (17, 16, 64), (33, 5, 100), (5, 300, 65)]
TILES = [(128, 128, 64), (24, 40, 32), (48, 36, 64)]
TURNED = ("", "a", "b", "ab")
"""Which operands are transposed in memory."""
LEVELS = ("sse2", "avx2", "avx512", "avx512vnni", "avx512bf16", "")


@tl.jit
def byte_product(a: tl.i8["M", "K"] | tl.u8["M", "K"], b: tl.i8["K", "N"] | tl.u8["K", "N"], c: tl.i32["M", "N"],
                 BM: int = 128, BN: int = 128, BK: int = 64) -> None:
    i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    total = tl.zeros((BM, BN), tl.i32)
    for k in tl.range(0, a.shape[1], BK):
        total = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), total)
    tl.store(c, (i * BM, j * BN), total)


def ordered(x: Any, turned: bool) -> Any:
    return np.asarray(x, order="F" if turned else "C")


def check_bytes(shape: tuple[int, int, int], tile: tuple[int, int, int], types: tuple[Any, Any], turned: str) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.integers(np.iinfo(t).min, np.iinfo(t).max, s, endpoint=True).astype(t)
            for t, s in zip(types, ((m, k), (k, n)), strict=True))
    c = np.full((m, n), 7, np.int32)
    byte_product(ordered(a, "a" in turned), ordered(b, "b" in turned), c, BM=tile[0], BN=tile[1], BK=tile[2])
    np.testing.assert_array_equal(c, a.astype(np.int64) @ b.astype(np.int64))


def check_pairs(shape: tuple[int, int, int], tile: tuple[int, int, int], turned: str) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s, np.float32).astype(ml_dtypes.bfloat16) for s in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, ml_dtypes.bfloat16)
    matmul(ordered(a, "a" in turned), ordered(b, "b" in turned), c, BM=tile[0], BN=tile[1], BK=tile[2])
    want = a.astype("d") @ b.astype("d")
    assert np.linalg.norm(c.astype("d") - want) <= 4e-3 * np.linalg.norm(want)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("types", list(combinations((np.int8, np.uint8), repeat=2)))
@pytest.mark.parametrize("turned", TURNED)
@pytest.mark.parametrize("tile", TILES)
def test_bytes(tile: tuple[int, int, int], turned: str, types: tuple[Any, Any]) -> None:
    for shape in SHAPES:
        check_bytes(shape, tile, types, turned)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("turned", TURNED)
@pytest.mark.parametrize("tile", [*TILES, (20, 33, 17)])
def test_pairs(tile: tuple[int, int, int], turned: str) -> None:
    for shape in SHAPES:
        check_pairs(shape, tile, turned)


def test_rows_with_gaps() -> None:
    """Tile registers take rows of A where they lie, if these are whole words apart."""
    rng = np.random.default_rng(0)
    for gap in (0, 1, 2, 64):
        wide = rng.standard_normal((100, 256 + gap), np.float32).astype(ml_dtypes.bfloat16)
        a, b = wide[:, :256], rng.standard_normal((256, 60), np.float32).astype(ml_dtypes.bfloat16)
        c = np.zeros((100, 60), ml_dtypes.bfloat16)
        matmul(a, b, c)
        want = a.astype("d") @ b.astype("d")
        assert np.linalg.norm(c.astype("d") - want) <= 4e-3 * np.linalg.norm(want)


def test_numbers_that_are_none_stay_in_their_rows() -> None:
    a, b = np.ones((40, 33), ml_dtypes.bfloat16), np.ones((33, 20), ml_dtypes.bfloat16)
    a[3, 5], b[32, 7] = np.nan, np.inf
    c = np.zeros((40, 20), ml_dtypes.bfloat16)
    matmul(a, b, c)
    wrong = np.isnan(c.astype("f"))
    assert wrong[3].all()
    assert not np.delete(wrong, 3, axis=0).any()
    assert np.isinf(c.astype("f")[:, 7]).sum() == 39


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("level", apart(LEVELS))
def test_levels(level: str) -> None:
    """Every level of instructions that this processor has, each in a process of its own."""
    code = ("from tests.cpu.test_word_products import *\n"
            "for types in combinations((np.int8, np.uint8), repeat=2):\n"
            "    check_bytes((70, 50, 130), (32, 32, 64), types, 'b')\n"
            "    check_bytes((3, 50, 130), (32, 32, 64), types, '')\n"
            "check_pairs((70, 50, 130), (32, 32, 64), '')\n"
            "check_pairs((3, 50, 131), (32, 32, 64), 'a')\n")
    if host().architecture != "x86_64":
        pytest.skip("levels are those of x86-64")
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TILUS_CPU": level}, check=True,
                   cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("shape", [(640, 900, 200), (130, 1100, 70), (1000, 100, 300)])
@pytest.mark.parametrize("BM", [16, 64])
def test_what_is_packed_serves_other_blocks(shape: tuple[int, int, int], BM: int) -> None:
    """Blocks in groups of columns of the grid, with what is kept of both operands, at the grid's ends too."""
    m, n, k = shape
    rng = np.random.default_rng(0)
    for batch in range(2):  # other arrays in the same memory
        a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
        c = np.full((m, n), np.nan, np.float32)
        matmul(a, b, c, BM=BM, BN=32)
        np.testing.assert_allclose(c, a.astype("d") @ b, rtol=1e-4, atol=1e-4, err_msg=str(batch))
