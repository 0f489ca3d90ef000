"""Scans along rows, from either end, whose lengths are no multiples of registers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl


@tl.jit
def scans(x: tl.f32["M", "N"], y: tl.f32["M", "N"], z: tl.i64["M", "N"], w: tl.f64["M", "N"], B: int = 64,
          reverse: bool = True):
    i = tl.grid(tl.cdiv(x.shape[0], 4))
    tile = tl.load(x, (i * 4, 0), (4, B))
    tl.store(y, (i * 4, 0), tl.cumsum(tile, 1, reverse=reverse))
    tl.store(z, (i * 4, 0), tl.cummax(tl.cast(tile * 100, tl.i64), 1, reverse=reverse))
    tl.store(w, (i * 4, 0), tl.cumprod(1 + tile.to(tl.f64) / 100, 1, reverse=reverse))


@pytest.mark.sweep
@pytest.mark.parametrize("level", ["", "avx2", "sse2"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("columns", [16, 20, 37, 64, 97, 257])
def test_row_scans(level: str, reverse: bool, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from tilus.runtime.cpu.processor import host

    monkeypatch.setenv("TILUS_CPU", level)
    host.cache_clear()
    x = np.random.default_rng(columns).standard_normal((6, columns)).astype("f")
    outputs = [np.zeros(x.shape, t) for t in ("f", "i8", "d")]
    width = 1 << (columns - 1).bit_length()
    scans(x, *outputs, B=width, reverse=reverse)
    monkeypatch.undo()
    host.cache_clear()

    def along(function: Any, values: Any) -> Any:
        whole = np.pad(values, ((0, 0), (0, width - columns)))[:, :: -1 if reverse else 1]
        return function(whole, 1)[:, :: -1 if reverse else 1][:, :columns]

    sums, most, products = outputs
    np.testing.assert_allclose(sums, along(np.cumsum, x.astype("d")), rtol=0, atol=4e-7 * np.abs(x).sum())
    np.testing.assert_array_equal(most, along(np.maximum.accumulate, np.trunc(x * 100).astype("i8")))
    products_of = along(lambda v, axis: np.cumprod(1 + v / 100, axis), x.astype("d"))
    np.testing.assert_allclose(products, products_of, rtol=1e-13)
