"""Run-time scalars: every type on every engine, what fits them, and one rounding."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tilus.ir.dtypes import DType, parse_dtype
from tilus.runtime.scalars import convert_scalar, round_float, scalar_bits

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_90:cuda")
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
FLOATS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}


def echo(dtype: DType, result: DType) -> Any:
    @tl.jit
    def kernel(y: result["N"], s: dtype):
        tl.grid(1)
        y[0] = s.to(result)
        y[1] = (s if dtype.is_bool else s + s).to(result)

    return kernel


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", INTEGERS)
def test_the_ends_of_each_integer_type(engine: str, name: str) -> None:
    dtype = parse_dtype(name)
    kernel = echo(dtype, dtype).on(engine)
    for value in (dtype.min_value, dtype.max_value, dtype.numpy.type(dtype.max_value - 1), np.array(3, dtype.numpy)):
        y = np.zeros(2, dtype.numpy)
        kernel(y, value)
        assert y[0] == value
    for value in (dtype.min_value - 1, dtype.max_value + 1, 10**30, np.iinfo(np.int64).max * 4):
        with pytest.raises(tl.UserError, match="does not fit"):
            kernel(y, value)
    for value in (True, np.True_, 1.0, np.float64(1), "1", 1j, None, [1], np.array([1]), np.array(1.0)):
        with pytest.raises(tl.UserError, match="but the parameter is"):
            kernel(y, value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_rounded_once(engine: str, name: str) -> None:
    kernel = echo(parse_dtype(name), tl.f64).on(engine)
    kind = FLOATS[name]
    for value in (0.1, -0.0, 3, np.int8(-3), np.float16(0.1), ml_dtypes.bfloat16(0.1), np.float32(0.1), np.array(0.1),
                  1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-30, 65519.9, 65520.0, 70000.0, 1e39, -1e39,
                  1e-46, 1e-300, 5e-324, float("nan"), float("inf"), float("-inf")):
        y = np.zeros(2)
        kernel(y, value)
        with np.errstate(all="ignore"):
            expected = round_float(float(value), parse_dtype(name))
        assert y[0] == expected or (np.isnan(y[0]) and np.isnan(expected))
        assert np.signbit(y[0]) == np.signbit(expected) or np.isnan(expected)
        if name != "bf16":  # ml_dtypes rounds doubles to bf16 by way of f32
            with np.errstate(all="ignore"):
                assert y[0] == float(kind(value)) or np.isnan(expected)
    for value in (True, np.True_, "1.5", b"1", 1j, np.complex64(1), np.array("1.5"), np.datetime64("2020"), None,
                  [1.0], np.array([1.0])):
        with pytest.raises(tl.UserError, match="but the parameter is"):
            kernel(y, value)


@pytest.mark.parametrize("engine", ENGINES)
def test_bools(engine: str) -> None:
    kernel = echo(tl.bool, tl.i32).on(engine)
    for value in (True, False, np.True_, np.False_, np.array(True)):
        y = np.full(2, 7, np.int32)
        kernel(y, value)
        assert y.tolist() == [int(value)] * 2
    for value in (1, 0, 1.0, np.int8(1), "x", None):
        with pytest.raises(tl.UserError, match="but the parameter is bool"):
            kernel(y, value)


@pytest.mark.parametrize("engine", ENGINES)
def test_several_beside_arrays(engine: str) -> None:
    """Scalars of all widths, one beside another: each is found where it lies."""

    @tl.jit
    def kernel(a: tl.i8, b: tl.f16, y: tl.f64["N"], c: tl.u64, d: tl.bf16, e: tl.bool, f: tl.f64, g: tl.u16,
               h: tl.f32 = 0.5, i: tl.f16 | None = None):
        tl.grid(1)
        y[0] = a.to(tl.f64)
        y[1] = b.to(tl.f64)
        y[2] = c.to(tl.f64)
        y[3] = d.to(tl.f64)
        y[4] = e.to(tl.f64)
        y[5] = f
        y[6] = g.to(tl.f64)
        y[7] = h.to(tl.f64)
        y[8] = 0.0 if i is None else i.to(tl.f64)

    y = np.zeros(9)
    for extra, last in (({}, 0.0), ({"i": -0.75}, -0.75)):
        kernel.on(engine)(-5, 1.5, y, 2**63, -2.25, True, 1e300, 65535, **extra)
        assert y.tolist() == [-5, 1.5, 2.0**63, -2.25, 1, 1e300, 65535, 0.5, last]


@pytest.mark.parametrize("name", ["f16", "bf16", "f32"])
def test_rounding_is_that_of_exact_arithmetic(name: str) -> None:
    """Against the two neighbours in the type, by fractions."""
    dtype = parse_dtype(name)
    random = np.random.default_rng(0)
    codes = random.integers(0, 2 ** (dtype.bits - 1) - 1, 300, dtype=np.int64)
    top = ((1 << dtype.exponent) - 1) << dtype.mantissa

    def decode(code: int) -> Fraction:
        exponent, fraction = code >> dtype.mantissa, code & ((1 << dtype.mantissa) - 1)
        significand = fraction + ((1 << dtype.mantissa) if exponent else 0)
        return Fraction(significand) * Fraction(2) ** (max(exponent, 1) - dtype.bias - dtype.mantissa)

    for code in map(int, codes):
        code = min(code, top - 2)
        low, high = decode(code), decode(code + 1)
        middle = (low + high) / 2
        even = low if code % 2 == 0 else high
        nudge = (high - low) / 1024
        for exact, expected in ((low, low), (middle, even), (middle - nudge, low), (middle + nudge, high)):
            assert Fraction(float(exact)) == exact
            assert round_float(float(exact), dtype) == float(expected)
            assert round_float(-float(exact), dtype) == -float(expected)
            if exact.denominator == 1:
                assert convert_scalar("s", dtype, int(exact)) == float(expected)


def test_large_integers_for_floats() -> None:
    f32, f64 = tl.f32, tl.f64
    assert convert_scalar("s", f32, 2**60 + 2**36) == 2.0**60  # a tie for f32, to even
    assert convert_scalar("s", f32, 2**60 + 2**36 + 1) == 2.0**60 + 2.0**37  # by way of a double it would be the tie
    assert convert_scalar("s", f32, -(2**60 + 2**36 + 1)) == -(2.0**60 + 2.0**37)
    assert convert_scalar("s", f64, 10**400) == float("inf")
    assert convert_scalar("s", f32, -(10**400)) == float("-inf")
    assert convert_scalar("s", f64, 2**1024 - 2**970 - 1) == float(2**1024 - 2**971)
    assert convert_scalar("s", f64, Fraction(1, 3)) == 1 / 3
    assert convert_scalar("s", f64, Decimal("0.1")) == 0.1


def test_bits() -> None:
    assert scalar_bits(1.5, tl.bf16) == 0x3FC0
    assert scalar_bits(-2.0, tl.f16) == 0xC000
    assert scalar_bits(float("inf"), tl.bf16) == 0x7F80
    assert scalar_bits(float("nan"), tl.bf16) & 0x7FFF > 0x7F80


@pytest.mark.parametrize("dtype", [tl.f8e4m3fn, tl.f8e5m2, tl.f6e3m2, tl.f4e2m1, tl.tf32, tl.i4, tl.u3,
                                   tl.integer(12), tl.float(exponent=5, mantissa=9)], ids=str)
def test_types_for_storage_are_refused_where_they_are_written(dtype: DType) -> None:
    with pytest.raises(tl.UserError, match=rf"'s' is a run-time scalar of {dtype}") as caught:

        @tl.jit
        def kernel(y: tl.f32["N"], s: dtype):
            tl.grid(1)

    assert "s: dtype" in str(caught.value)
    with pytest.raises(tl.UserError, match="for storage only"):

        @tl.fuse
        def fused(x, s: dtype):
            return x

    @tl.jit
    def late(y: tl.f32["N"], T: tl.DType, s: "T"):
        tl.grid(1)

    with pytest.raises(tl.UserError, match="for storage only"):
        late(np.zeros(1, np.float32), dtype, 1)


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "python"])
def test_scalars_of_fused_functions(engine: str) -> None:
    for name, value in (("f16", 0.1), ("bf16", 0.1), ("f32", 1e39), ("f64", 0.1), ("i8", -3), ("u64", 2**63),
                        ("bool", True)):
        dtype = parse_dtype(name)

        @tl.fuse
        def chosen(x, s: dtype):
            return tl.where(x > 0, s.to(tl.f64), 0.0)

        expected = float(convert_scalar("s", dtype, value))
        assert chosen.on(engine)(np.array([1.0, -1.0]), value).tolist() == [expected, 0]
        with pytest.raises(tl.UserError, match="'s' is a Python str, but the parameter is"):
            chosen.on(engine)(np.ones(3), "x")
