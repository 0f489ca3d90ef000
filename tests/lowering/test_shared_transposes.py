"""Shared memory through which a kernel turns a tile round: laid out by its rows and by its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus import simulator


def turned(dtype: tl.DType, rows: int, columns: int) -> Any:
    @tl.jit
    def kernel(x: dtype["M", "N"], y: dtype["N", "M"]):
        i, j = tl.grid(tl.cdiv(x.shape[0], rows), tl.cdiv(x.shape[1], columns))
        s = tl.shared((rows, columns), dtype)
        tl.store(s, (0, 0), tl.load(x, (i * rows, j * columns), (rows, columns)))
        tl.sync()
        tl.store(y, (j * columns, i * rows), tl.load(s).T)

    return kernel


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("rows", "columns", "dtype", "ways"), [
    (32, 64, tl.f32, 1), (64, 64, tl.f32, 1), (64, 64, tl.f16, 1), (64, 64, tl.f64, 2), (31, 33, tl.f32, 2)], ids=str)
def test_few_conflicts(rows: int, columns: int, dtype: tl.DType, ways: int, via: str,
                       monkeypatch: pytest.MonkeyPatch) -> None:
    """In rows apart by a multiple of 128 bytes, a warp's reads of a column would all take one bank."""
    reports: list[Any] = []

    def launch(*args: Any, _launch: Any = simulator.launch, **keywords: Any) -> Any:
        reports.append(_launch(*args, **keywords))
        return reports[-1]

    monkeypatch.setattr(simulator, "launch", launch)
    x = np.arange(128 * 192).reshape(128, 192).astype(dtype.numpy)
    y = np.zeros((192, 128), dtype.numpy)
    turned(dtype, rows, columns).on(f"simulate:sm_80:{via}")(x, y)
    np.testing.assert_array_equal(y, x.T)
    sites = [s for s in reports[-1].sites if s.opcode.startswith(("ld.shared", "st.shared"))]
    assert sites
    assert max(s.units / s.ideal for s in sites) <= ways
