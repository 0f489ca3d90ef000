"""Ranks among thresholds, wherever these lie."""

from __future__ import annotations

import numpy as np
import pytest

from tilus.runtime.ranks import Ranks

f32 = np.float32
THRESHOLDS = {
    "none": [],
    "one": [0.5],
    "spread": np.random.default_rng(0).standard_normal(255),
    "around 0": [-1e-45, 0, 1e-45],
    "of all magnitudes": [s * 10.0**e for s in (-1, 1) for e in range(-44, 39, 2)],
    "neighbours": 1 + np.arange(255) * 2.0**-23,
    "close": -3 + np.arange(255) * 2.0**-18,
    "close and far": [*(1 + np.arange(200) * 2.0**-23), 1e38, 3e38, -3e38],
    "close and apart": [*(1 + np.arange(100) * 2.0**-20), *(900 + np.arange(100) * 2.0**-14)],
}


@pytest.mark.parametrize("name", THRESHOLDS)
def test_ranks(name: str) -> None:
    thresholds = np.sort(np.array(THRESHOLDS[name], f32))
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 1 << 32, 20000, dtype=np.uint32).view(f32)
    near = np.concatenate([thresholds, np.nextafter(thresholds, f32(np.inf)), np.nextafter(thresholds, f32(-np.inf))])
    x = np.concatenate([wide[~np.isnan(wide)], near, f32([0, -0.0, np.inf, -np.inf, 1e-45]), rng.normal(size=5000)])
    x = x.astype(f32)
    np.testing.assert_array_equal(Ranks(thresholds)(x), np.searchsorted(thresholds, x, side="right"))
