"""Gathers and scatters of rows, whose indices run along memory, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cpu.lang import tl
from tests.cpu.support import run


def gathered(x: tl.f32["M", "N"], rows: tl.i32["R"], first: tl.i64, y: tl.f32["R", "C"], z: tl.f32["R", "C"],
             BR: int = 8, BC: int = 40):
    i, j = tl.grid(tl.cdiv(y.shape[0], BR), tl.cdiv(y.shape[1], BC))
    r = tl.load(rows, i * BR, BR)
    c = first + j * BC + tl.arange(BC)
    at = r[:, None], c[None, :]
    tl.store(y, (i * BR, j * BC), tl.gather(x, at))
    odd = (c % 2 == 1)[None, :] & (r >= 0)[:, None]
    tl.store(z, (i * BR, j * BC), tl.gather(x, at, mask=odd, other=5.0) + tl.gather(x.T, (c[None, :], r[:, None])))


def expected_rows(x: Any, rows: Any, first: int, count: int) -> Any:
    columns = first + np.arange(count)
    inside = ((rows >= 0) & (rows < x.shape[0]))[:, None] & ((columns >= 0) & (columns < x.shape[1]))[None, :]
    return np.where(inside, x[np.clip(rows, 0, x.shape[0] - 1)][:, np.clip(columns, 0, x.shape[1] - 1)], 0), inside


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("first", "count"), [(0, 70), (3, 90), (-6, 33), (60, 40)])
def test_rows_are_gathered(order: Any, first: int, count: int) -> None:
    rng = np.random.default_rng(0)
    x = np.asarray(rng.standard_normal((30, 70)).astype("f"), order=order)
    rows = rng.integers(-3, 34, 21).astype("i4")
    y, z = np.zeros((21, count), "f"), np.zeros((21, count), "f")
    run(gathered, x=x, rows=rows, first=first, y=y, z=z)
    found, inside = expected_rows(x, rows, first, count)
    np.testing.assert_array_equal(y, found)
    odd = ((first + np.arange(count)) % 2 == 1)[None, :] & (rows >= 0)[:, None]
    np.testing.assert_allclose(z, found + np.where(odd & inside, found, 5))


def scattered(x: tl.f32["R", "C"], rows: tl.i64["R"], y: tl.f32["M", "N"], BR: int = 8, BC: int = 64):
    i, j = tl.grid(tl.cdiv(x.shape[0], BR), tl.cdiv(x.shape[1], BC))
    r = tl.load(rows, i * BR, BR, other=-1)
    c = j * BC + tl.arange(BC) - 2
    tl.scatter(y, (r[:, None], c[None, :]), tl.load(x, (i * BR, j * BC), (BR, BC)), mask=(c != 5)[None, :])


def test_rows_are_scattered() -> None:
    rng = np.random.default_rng(0)
    x, rows, y = rng.standard_normal((20, 80)).astype("f"), rng.permutation(30)[:20] - 4, np.full((24, 70), 9, "f")
    expected = y.copy()
    for r, row in zip(rows, x, strict=True):
        if 0 <= r < 24:
            expected[r] = np.where(np.arange(70) == 5, 9, row[2:72])
    run(scattered, x=x, rows=rows, y=y)
    np.testing.assert_array_equal(y, expected)
