"""The interpreter against NumPy and exact arithmetic, and its checks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tilus.interp import elementwise, numbers, tiles
from tilus.ir import dtypes as d


def exact_codes(dtype: tl.DType) -> list[tuple[int, Fraction]]:
    """Every finite non-negative code of a small float and its value, by the definition."""
    out = []
    for code in range(1 << (dtype.bits - 1)):
        exponent, fraction = code >> dtype.mantissa, code & ((1 << dtype.mantissa) - 1)
        top = (1 << dtype.exponent) - 1
        if dtype.specials == "ieee" and exponent == top:
            continue
        if dtype.specials == "fn" and code == (1 << (dtype.bits - 1)) - 1:
            continue
        if exponent == 0:
            value = Fraction(fraction) * Fraction(2) ** (1 - dtype.bias - dtype.mantissa)
        else:
            value = (fraction + (1 << dtype.mantissa)) * Fraction(2) ** (exponent - dtype.bias - dtype.mantissa)
        out.append((code, value))
    return out


@pytest.mark.parametrize("dtype", [d.f8e4m3fn, d.f8e5m2, d.f6e3m2, d.f6e2m3, d.f4e2m1, d.f16, d.bf16], ids=str)
def test_every_code_decodes_and_encodes(dtype: tl.DType) -> None:
    codes = exact_codes(dtype)
    raw = np.array([c for c, _ in codes], numbers.held_as(d.integer(max(dtype.bits, 8), False)))
    held = raw.view(numbers.held_as(dtype)) if dtype.bits >= 8 else raw
    values = numbers.cast(held, dtype, d.f64) if dtype.is_arithmetic else numbers.decode(held, dtype)
    assert [Fraction(float(v)) for v in values] == [v for _, v in codes]
    back = numbers.encode(values, dtype)
    assert np.array_equal(back.view(raw.dtype), raw)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("dtype", [d.f8e4m3fn, d.f8e5m2, d.f6e3m2, d.f4e2m1, d.bf16, d.f16], ids=str)
@pytest.mark.parametrize("rounding", ["rn", "rz", "rm", "rp"])
def test_rounding_against_rationals(dtype: tl.DType, rounding: str) -> None:
    grid = sorted({v for _, v in exact_codes(dtype)} | {-v for _, v in exact_codes(dtype)})
    rng = np.random.default_rng(1)
    picks = rng.integers(0, len(grid) - 1, 200)
    for at in picks:
        low, high = grid[at], grid[at + 1]
        for part in (Fraction(1, 3), Fraction(1, 2), Fraction(2, 3)):
            x = float(low + (high - low) * part)
            got = numbers.encode(np.array([x]), dtype, rounding)
            value = Fraction(float((numbers.cast(got, dtype, d.f64) if dtype.is_arithmetic
                                    else numbers.decode(got, dtype))[0]))
            exact = Fraction(x)
            expected = {"rm": low, "rp": high, "rz": low if exact > 0 else high}.get(rounding)
            if expected is None:
                if exact - low == high - exact:
                    continue  # ties are covered by the neighbours' parity below
                expected = low if exact - low < high - exact else high
            if low < exact < high:
                assert value == expected


def test_bf16_as_ml_dtypes_does() -> None:
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 1e3
    assert np.array_equal(numbers.cast(x, d.f32, d.bf16), x.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("dtype", [d.i8, d.u8, d.i32, d.u64], ids=str)
def test_float_to_integer_saturates(dtype: tl.DType) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 1.9, -1.9], np.float32)
    low, high = dtype.min_value, dtype.max_value
    assert list(map(int, numbers.cast(x, d.f32, dtype))) == [0, high, low, high, low, 1, -1 if low else 0]


def test_integer_corner_cases() -> None:
    x, zero = np.array([7, -7, -128], np.int8), np.zeros(3, np.int8)
    assert list(elementwise.binary("floordiv", x, zero, d.i8)) == [0, 0, 0]
    assert list(elementwise.binary("mod", x, zero, d.i8)) == [7, -7, -128]
    assert list(elementwise.binary("floordiv", x, np.full(3, 2, np.int8), d.i8)) == [3, -4, -64]
    assert list(elementwise.binary("floordiv", x, np.full(3, -1, np.int8), d.i8)) == [-7, 7, -128]
    assert list(elementwise.binary("shl", x, np.full(3, 9, np.int8), d.i8)) == [0, 0, 0]
    assert list(elementwise.binary("shr", x, np.full(3, 9, np.int8), d.i8)) == [0, -1, -1]
    assert list(elementwise.unary("clz", np.array([1, -1, 0], np.int8), d.i8)) == [7, 0, 8]
    assert list(elementwise.unary("popcount", np.array([1, -1, 0], np.int8), d.i8)) == [1, 8, 0]


def test_minimum_prefers_numbers() -> None:
    x, y = np.array([np.nan, 1, np.nan], np.float32), np.array([2, np.nan, np.nan], np.float32)
    assert np.array_equal(elementwise.binary("min", x, y, d.f32), np.array([2, 1, np.nan], np.float32), equal_nan=True)


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (rng.standard_normal(2000).astype(np.float32) for _ in range(3))
    got = elementwise.fma(a, b, -(a * b), d.f32)
    exact = [float(Fraction(float(x)) * Fraction(float(y)) - Fraction(float(np.float32(x * y))))
             for x, y in zip(a, b, strict=True)]
    assert np.array_equal(got, np.array(exact).astype(np.float32))
    wide = elementwise.fma(*(v.astype(np.float64) for v in (a, b, c)), d.f64)
    assert wide.dtype == np.float64


def test_philox_known_answer() -> None:
    """From the Random123 distribution's kat_vectors: zero key, zero counter."""
    words = elementwise.philox(np.uint64(0), np.zeros(1, np.uint64))
    assert [int(w[0]) for w in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_argmax_passes_over_nan() -> None:
    x = np.array([[np.nan, 3, 3], [np.nan, np.nan, np.nan], [-np.inf, np.nan, -np.inf]], np.float32)
    assert list(tiles.reduce("argmax", x, 1, d.f32)) == [1, 0, 0]


def run(kernel: Any, *arguments: Any) -> None:
    kernel.on("interpret")(*arguments)


def test_groups_hand_over_through_shared_memory() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], B: int = 64):
        tl.block(warps=3)
        tl.grid(1)
        ring = tl.shared((2, B), tl.f32)
        full = [tl.named_barrier(1 + n, 3) for n in range(2)]
        empty = [tl.named_barrier(3 + n, 3) for n in range(2)]
        with tl.group(0, 1):
            for i in tl.static_range(4):
                if i > 1:
                    empty[i % 2].sync()
                tl.store(ring[i % 2], 0, tl.load(x, i * B, B))
                full[i % 2].arrive()
        with tl.group(1, 2):
            for i in tl.static_range(4):
                full[i % 2].sync()
                tl.store(y, i * B, tl.load(ring[i % 2]) + 1)
                if i < 2:
                    empty[i % 2].arrive()

    x, y = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
    run(kernel, x, y)
    assert np.array_equal(y, x + 1)


def test_groups_without_a_barrier_race() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.block(warps=2)
        tl.grid(1)
        s = tl.shared((32,), tl.f32)
        with tl.group(0, 1):
            tl.store(s, 0, tl.load(x, 0, 32))
        with tl.group(1, 1):
            tl.store(x, 0, tl.load(s))

    with pytest.raises(tl.TilusError, match="race"):
        run(kernel, np.zeros(32, np.float32))


def test_a_barrier_that_nobody_completes() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.block(warps=2)
        tl.grid(1)
        with tl.group(0, 1):
            tl.named_barrier(1, 2).sync()

    with pytest.raises(tl.TilusError, match="deadlock"):
        run(kernel, np.zeros(32, np.float32))


def test_cooperative_blocks_meet() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        i = tl.grid(4)
        tl.block(cooperative=True)
        tl.store(x, i, tl.full((1,), i.to(tl.f32)))
        tl.grid_sync()
        tl.store(y, i, tl.load(x, (i + 1) % 4, 1))

    x, y = np.zeros(4, np.float32), np.zeros(4, np.float32)
    run(kernel, x, y)
    assert list(y) == [1, 2, 3, 0]


def test_uninitialised_workspace() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], zero: bool = False):
        tl.grid(1)
        w = tl.workspace((8,), tl.f32, zero=zero)
        tl.store(x, 0, tl.load(w, 0, 8))

    x = np.ones(8, np.float32)
    kernel.on("interpret")(x, zero=True)
    assert not x.any()
    with pytest.raises(tl.TilusError, match="before it is written"):
        kernel.on("interpret")(x)


def test_a_failed_assumption() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.assume(x.shape[0] % 16 == 0)

    run(kernel, np.ones(32, np.float32))
    with pytest.raises(tl.TilusError, match="does not hold"):
        run(kernel, np.ones(33, np.float32))


def test_printing(capsys: pytest.CaptureFixture[str]) -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        i = tl.grid(2)
        tl.print("block", i, "has", tl.load(x, i * 2, 2))

    run(kernel, np.arange(4, dtype=np.float32))
    assert capsys.readouterr().out == "block 0 has [0., 1.]\nblock 1 has [2., 3.]\n"


def test_the_source_of_a_copy_is_not_written_before_the_wait():
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], late: int = 0):
        tl.grid(1)
        s = tl.shared((8,), tl.f32)
        tl.copy_async(s, x, 0)
        tl.commit()
        if late:
            tl.wait(0)
        tl.store(x, 0, tl.full((8,), 5.0))
        tl.wait(0)
        tl.sync()
        tl.store(y, 0, tl.load(s, 0, 8))

    def arrays():
        return np.arange(8, dtype=np.float32), np.zeros(8, np.float32)

    with pytest.raises(tl.TilusError, match=r"(?s)E0701.*written while an asynchronous copy"):
        kernel.on("interpret")(*arrays())
    x, y = arrays()
    kernel.on("interpret")(x, y, late=1)
    np.testing.assert_array_equal(y, np.arange(8))
