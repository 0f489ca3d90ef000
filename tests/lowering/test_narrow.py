"""Types of odd widths in registers: views of bytes, conversions, comparisons; every engine gives the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("python", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")
TYPES = [
    *(tl.integer(n, signed=s) for n in range(1, 8) for s in (False, True)), tl.integer(12),
    tl.integer(11, signed=False), tl.integer(24), tl.integer(40), tl.integer(33, signed=False),
    tl.float(exponent=2, mantissa=1),
    tl.float(exponent=3, mantissa=2), tl.float(exponent=2, mantissa=3), tl.float(exponent=2, mantissa=2),
    tl.float(exponent=4, mantissa=2), tl.float(exponent=5, mantissa=6), tl.f8e4m3fn, tl.f8e5m2,
]
THREADS = 128



def agree(kernel: tl.JitFunction, make: Any, engine: str, **constants: Any) -> list[Any]:
    expected, actual = make(), make()
    kernel.on("interpret")(*expected, **constants)
    kernel.on(engine)(*actual, **constants)
    for want, have in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(have, want)
        if want.dtype.kind == "f":
            number = ~np.isnan(want)  # which NaN is not specified
            np.testing.assert_array_equal(np.signbit(have[number]), np.signbit(want[number]))
    return expected


@tl.jit
def unpack(x: tl.u8["N"], numbers: tl.f64["M"], whole: tl.i64["M"], back: tl.u8["N"], equal: tl.u8["M"],
           dtype: tl.DType):
    """Bytes to eight elements for each thread, to numbers, and to bytes again."""
    tl.grid(1)
    n = dtype.bits
    packed = tl.load(x, 0, THREADS * n, layout=tl.layouts.spatial(THREADS).local(n))
    v = tl.view(packed, dtype=dtype, layout=tl.layouts.spatial(THREADS).local(8))
    tl.store(numbers, 0, v.to(tl.f64))
    tl.store(whole, 0, v.to(tl.i64))
    tl.store(back, 0, tl.view(v, dtype=tl.u8, layout=tl.layouts.spatial(THREADS).local(n)))
    tl.store(equal, 0, tl.where(v == v[3:4], 1, 0).to(tl.u8))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_unpack(engine: str, dtype: tl.DType) -> None:
    def make() -> Any:
        x = np.random.default_rng(dtype.bits).integers(0, 256, THREADS * dtype.bits).astype(np.uint8)
        m = THREADS * 8
        return x, np.zeros(m), np.zeros(m, np.int64), np.zeros_like(x), np.zeros(m, np.uint8)

    x, numbers, whole, back, _ = agree(unpack, make, engine, dtype=dtype)
    np.testing.assert_array_equal(back, x)
    bits = np.unpackbits(x, bitorder="little").reshape(-1, dtype.bits).astype(object)
    codes = np.array([sum(int(b) << i for i, b in enumerate(row)) for row in bits])
    if dtype.is_int:
        signed = codes - ((codes >> (dtype.bits - 1)) << dtype.bits) if dtype.kind == "int" else codes
        np.testing.assert_array_equal(whole, signed)
        np.testing.assert_array_equal(numbers, signed)


@tl.jit
def pack(x: tl.f32["N"], counts: tl.i32["N"], a: tl.u8["K"], b: tl.u8["K"], dtype: tl.DType, rounding: str):
    tl.grid(1)
    n = dtype.bits
    bytes = tl.layouts.spatial(THREADS).local(n)
    eight = tl.layouts.spatial(THREADS).local(8)
    v = tl.load(x, 0, THREADS * 8, layout=eight).to(dtype, rounding=rounding)
    tl.store(a, 0, tl.view(v, dtype=tl.u8, layout=bytes, from_layout=eight))
    w = tl.load(counts, 0, THREADS * 8).to(dtype)
    w = tl.where(tl.arange(THREADS * 8) % 5 == 0, v, w)
    tl.store(b, 0, tl.view(w, dtype=tl.u8, layout=bytes, from_layout=eight))


@pytest.mark.sweep(keep=14)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_pack(engine: str, dtype: tl.DType) -> None:
    def make() -> Any:
        rng = np.random.default_rng(dtype.bits)
        x = (rng.standard_normal(THREADS * 8) * 2.0 ** rng.integers(-6, dtype.bits + 2, THREADS * 8)).astype(np.float32)
        x[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.5]
        counts = rng.integers(-300, 300, THREADS * 8).astype(np.int32)
        return x, counts, np.zeros(THREADS * dtype.bits, np.uint8), np.zeros(THREADS * dtype.bits, np.uint8)

    for rounding in ("rn", "rz"):
        agree(pack, make, engine, dtype=dtype, rounding=rounding)
