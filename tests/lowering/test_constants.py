"""Literals of every type by every engine: rounded once, and read as they were written."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tilus.ir.literals import encode_float

ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx", "simulate:sm_90a:cuda",
           "simulate:sm_90a:ptx")
STORAGE = {"f8e5m2": ml_dtypes.float8_e5m2, "f8e4m3fn": ml_dtypes.float8_e4m3fn}
LITERALS = (1e39, -1e39, 70000.0, 1e-46, -0.0, 1e-40, 3e-8, float("inf"), float("nan"), 65519.99, 3.4028236e38, 1e400,
            0.1, 1 + 2**-11 + 2**-40, 1 + 2**-8 + 2**-40, 1.5, 2**53 + 1, 2**60 + 2**52 + 1, 10**30, 10**400)


def nearest(value: float | int, dtype: tl.DType) -> float:
    """``value`` in a binary float type, rounded to nearest even by exact arithmetic."""
    if isinstance(value, float) and not np.isfinite(value):
        return np.copysign(448.0, value) if dtype.specials == "fn" else value
    exact = Fraction(value)
    if exact == 0:
        return float(value)
    exponent = 0
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, 1 - dtype.bias) - dtype.mantissa)
    rounded = round(exact / unit) * unit
    top = (1 << dtype.exponent) - (2 if dtype.specials == "ieee" else 1)
    largest = Fraction(2) ** (top - dtype.bias) * (2 - Fraction(2) ** -dtype.mantissa)
    if dtype.specials == "fn":
        largest -= Fraction(2) ** (top - dtype.bias - dtype.mantissa)
    if abs(rounded) > largest:
        magnitude = float("inf") if dtype.specials == "ieee" else float(largest)
        return magnitude if exact > 0 else -magnitude
    return float(rounded) if rounded else np.copysign(0.0, float(exact))


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("engine", ENGINES[:4])
@pytest.mark.parametrize("dtype", [tl.f32, tl.f16, tl.bf16, tl.f64, tl.f8e5m2, tl.f8e4m3fn])
def test_literals(dtype: tl.DType, engine: str) -> None:
    for value in LITERALS:
        if value != value and dtype.name == "f8e4m3fn":
            continue

        @tl.jit
        def fill(x: dtype["M"], y: dtype["N"]):
            tl.grid(1)
            tl.store(y, 0, tl.load(x, 0, 8, other=value))  # noqa: B023
            y[1] = value  # noqa: B023
            tl.store(y[2:4], 0, tl.full((2,), value, dtype))  # noqa: B023

        y = np.zeros(8, dtype.numpy)
        fill.on(engine)(np.zeros(0, dtype.numpy), y)
        wanted = np.full(8, nearest(value, dtype))
        np.testing.assert_array_equal(y.astype(np.float64), wanted, err_msg=f"{dtype} {value!r}")
        np.testing.assert_array_equal(np.signbit(y), np.signbit(wanted))


@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16, tl.f8e5m2, tl.f8e4m3fn, tl.f32, tl.f64])
def test_encoding_against_fractions(dtype: tl.DType) -> None:
    rng = np.random.default_rng(dtype.bits)
    numbers = [float(v) for v in rng.standard_normal(500) * np.exp2(rng.integers(-60, 60, 500))]
    for shift in range(60):
        numbers += [int(v) << shift for v in rng.integers(-2**62, 2**62, 5)]
    for value in numbers:
        found = np.asarray(encode_float(value, dtype), f"u{dtype.bits // 8}").view(dtype.numpy)
        assert float(found) == nearest(value, dtype), (dtype, value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["f8e5m2", "f8e4m3fn", "bf16"])
def test_constants_of_storage_floats(name: str, engine: str) -> None:
    dtype = getattr(tl, name)

    @tl.jit
    def fill(x: dtype["M"], a: dtype["N"], b: dtype["N"], c: dtype["N"], d: dtype["N"], e: dtype["N"]):
        tl.grid(1)
        i = tl.arange(64)
        tl.store(a, 0, tl.load(x, 0, 64, mask=i < 10, other=1.5))
        tl.store(b, 0, tl.gather(x, i, other=-0.0))
        tl.store(c, 0, tl.where(i < 10, tl.load(x, 0, 64), tl.full((64,), 1.5, dtype)))
        tl.store(d, 0, tl.full((64,), 1.5, tl.f32).to(dtype))
        tl.store(e, 0, tl.concatenate([tl.load(x, 0, 8), tl.full((56,), -1.5, dtype)], 0))

    x = np.full(10, 2.0).astype(dtype.numpy)
    found = [np.zeros(64, dtype.numpy) for _ in range(5)]
    fill.on(engine)(x, *found)
    wide = [f.astype(np.float32) for f in found]
    padded = np.r_[np.full(10, 2.0), np.full(54, 1.5)]
    np.testing.assert_array_equal(wide[0], padded)
    np.testing.assert_array_equal(wide[1], np.r_[np.full(10, 2.0), np.full(54, -0.0)])
    assert np.signbit(wide[1][10:]).all()
    np.testing.assert_array_equal(wide[2], padded)
    np.testing.assert_array_equal(wide[3], np.full(64, 1.5))
    np.testing.assert_array_equal(wide[4], np.r_[np.full(8, 2.0), np.full(56, -1.5)])


@pytest.mark.parametrize("engine", ["python", *ENGINES, "simulate:sm_75:cuda", "simulate:sm_75:ptx"])
@pytest.mark.parametrize(("target", "halfway"), [(tl.bf16, 2.0**-8), (tl.f16, 2.0**-11)])
def test_narrowing_rounds_once(target: tl.DType, halfway: float, engine: str) -> None:
    """Just above a tie, f64 goes to the larger neighbour."""
    @tl.jit
    def narrow(x: tl.f64["N"], y: target["N"]):
        tl.grid(1)
        tl.store(y, 0, tl.load(x, 0, 64).to(target))

    x = np.tile([1 + halfway + 2.0**-30, 1 + halfway, 1 + halfway - 2.0**-30, -(1 + halfway + 2.0**-30)], 16)
    y = np.zeros(64, target.numpy)
    narrow.on(engine)(x, y)
    above = 1 + 2 * halfway
    np.testing.assert_array_equal(y[:4].astype(np.float64), [above, 1, 1, -above])
