"""Comparisons of index tiles: one difference and constants, for every kind, width and layout."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tilus as tl
from benchmarks.gpu_code import instructions
from tilus.layouts import spatial
from tilus.runtime.toolchains.binutils import disassemble

ROUTES = ("simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.jit
def masks(out: tl.i32["C", "M", "N"], shift: tl.i64, limit: tl.i64, start: tl.i32, BM: int = 16, BN: int = 32) -> None:
    """Where rows and columns of a tile are in bounds and bands, one bit a question."""
    tl.block(warps=2)
    i, j = tl.grid(2, 2)
    rows, columns = (i * BM + tl.arange(BM))[:, None], (j * BN + tl.arange(BN))[None, :]
    found = [columns < limit, columns <= rows + shift, rows - columns >= shift, columns > rows, rows == columns + shift,
             rows + columns != shift, (columns - rows) * 1 < shift, start + columns.to(tl.i32) >= start + 3]
    bits = tl.zeros((BM, BN), tl.i32)
    for n, mask in enumerate(found):
        bits = bits + (tl.broadcast_to(mask, (BM, BN)).to(tl.i32) << n)
    tl.store(out[0, :, :], (i * BM, j * BN), bits)
    tl.store(out[1, :, :], (i * BM, j * BN), tl.where((columns < limit) & (columns <= rows + shift), 1, 0).to(tl.i32))


def wanted(shift: int, limit: int, start: int) -> np.ndarray:
    r, c = np.indices((32, 64))
    raised = np.array(start + c).astype(np.int32) >= np.int32(np.array(start + 3).astype(np.int32))
    found = [c < limit, c <= r + shift, r - c >= shift, c > r, r == c + shift, r + c != shift, c - r < shift, raised]
    seen = (c < limit) & (c <= r + shift)
    return np.stack([sum(m * (1 << n) for n, m in enumerate(found)), seen]).astype(np.int32)


@pytest.mark.parametrize("numbers", [(0, 64, 0), (-7, 13, 5), (20, 63, -3), (1 << 40, 1 << 40, 2), (-(1 << 40), -1, 0),
                                     (3, 0, (1 << 31) - 9)])
@pytest.mark.parametrize("engine", ["interpret", *ROUTES])
def test_comparisons(engine: str, numbers: tuple[int, int, int]) -> None:
    """Shifts beyond 32 bits, and sums of i32 that wrap around, among them."""
    out = np.zeros((2, 32, 64), np.int32)
    masks.on(engine)(out, *numbers)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, wanted(*numbers))


LAYOUT = spatial(8, 4).local(4, 16)
ASKED = re.compile(r"ISETP\.[LG][TE]\.AND P\d, PT, (R\d+)(?:\.reuse)?, (-?0x\w+|RZ), PT")


@tl.jit
def causal(x: tl.f32["M", "N"], out: tl.f32["M", "N"], BM: int = 32, BN: int = 64) -> None:
    tl.block(warps=1)
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    rows, columns = i * BM + tl.arange(BM), j * BN + tl.arange(BN)
    tile = tl.load(x, (i * BM, j * BN), (BM, BN), layout=LAYOUT)
    tl.store(out, (i * BM, j * BN), tl.where(columns[None, :] <= rows[:, None], tile, 0.0))


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_a_mask_of_positions_takes_one_difference(via: str) -> None:
    """A thread's 64 elements lie in 19 diagonals: each is one comparison of the same register with a constant."""
    code = disassemble(causal.compile("sm_80", via).cubin)
    asked = [found for _, text in instructions(code) if (found := ASKED.search(text))]
    assert len({found[2] for found in asked}) >= 16
    assert len({found[1] for found in asked}) <= 3
