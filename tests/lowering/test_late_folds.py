"""Comparisons that only a late simplification decides, when tiles have layouts."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
@pytest.mark.parametrize("levels", range(4))
def test_known_a_simplification_later(levels: int, engine: str) -> None:
    """Each level's range is known once the selection before it is gone."""
    @tl.jit
    def late(y: tl.i64["N"]):
        tl.grid(1)
        i = tl.arange(64)
        u = i
        for n in tl.static_range(levels):
            u = tl.where(u < 64 + n, 1 + n, u) + i
        tl.store(y, 0, (u < 64 + levels).to(tl.i64))

    y = np.zeros(64, np.int64)
    late.on(engine)(y)
    np.testing.assert_array_equal(y, 1)
