"""Conversions to floats of more than 8 bits that are no type of a machine, from every kind of number: as the
interpreter has them, whose conversions are held against rationals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
TYPES = [tl.tf32, tl.float(exponent=5, mantissa=14), tl.float(exponent=8, mantissa=20),
         tl.float(exponent=3, mantissa=8), tl.float(exponent=10, mantissa=4),
         tl.float(exponent=8, mantissa=6, specials="fn"),
         tl.float(exponent=6, mantissa=9, signed=False, specials="finite")]


@tl.jit
def converted(x: source["N"], codes: tl.u64["N"], again: tl.f64["N"], source: tl.DType, dtype: tl.DType,
              rounding: str, size: int = 256):
    i = tl.grid(tl.cdiv(x.shape[0], size)) * size
    y = tl.load(x, i, size).to(dtype, rounding=rounding)
    tl.store(codes, i, y.bitcast(tl.integer(dtype.bits, signed=False)).to(tl.u64))
    tl.store(again, i, y.to(tl.f64))


def values(source: tl.DType, dtype: tl.DType) -> Any:
    """Of all magnitudes; around those that the type has, half-way between two, and beyond its range."""
    rng = np.random.default_rng(0)
    if source.is_int:
        drawn = rng.integers(0, 2**64, 400, np.uint64) >> rng.integers(0, 63, 400).astype(np.uint64)
        return np.concatenate([[np.iinfo(source.numpy).min, np.iinfo(source.numpy).max, 0], drawn.astype(source.numpy)],
                              dtype=source.numpy, casting="unsafe")
    scale = np.exp2(rng.integers(-160, 160, 400) if source.bits > 16 else rng.integers(-20, 16, 400))
    fraction = np.round(rng.uniform(1, 2, 400) * 2**dtype.mantissa * 2) / (2**dtype.mantissa * 2)
    near = fraction * (1 + rng.integers(-1, 2, 400) * 2.0**-30)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-300, 1e300, 65504, 65536]
    with np.errstate(over="ignore"):
        return np.concatenate([special, np.where(rng.random(400) < 0.5, -1, 1) * near * scale]).astype(source.numpy)


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("source", [tl.f64, tl.f32, tl.f16, tl.i32, tl.u64, tl.i16], ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_conversions(dtype: tl.DType, source: tl.DType, engine: str) -> None:
    x = values(source, dtype)
    for rounding in ("rn", "rz", "rm", "rp") if source.is_float else ("rn",):
        results = []
        for which in ("interpret", engine):
            codes, again = np.zeros(len(x), np.uint64), np.zeros(len(x))
            converted.on(which)(x, codes, again, source=source, dtype=dtype, rounding=rounding)
            results.append((codes, again))
        (codes, again), (found, back) = results
        np.testing.assert_array_equal(back, again)
        np.testing.assert_array_equal(found, codes)
