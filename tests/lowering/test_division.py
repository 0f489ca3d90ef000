"""Floor division of floats and ceiling division of integers: the exact quotient, rounded once, on every engine."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.ir.literals import encode_float

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")


def divider(dtype: tl.DType) -> Any:
    @tl.jit
    def divide(x: dtype["N"], y: dtype["N"], quotient: dtype["N"], rest: dtype["N"], B: int = 256):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
        tl.store(quotient, i * B, a // b)
        tl.store(rest, i * B, a % b)

    return divide


def operands(dtype: tl.DType, count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Any bits, and quotients of all sizes up to twice the precision."""
    word = f"u{dtype.bits // 8}"
    x, y = (rng.integers(0, 1 << dtype.bits, count, dtype=word).view(dtype.numpy) for _ in range(2))
    x = np.where(rng.random(count) < 0.2, rng.integers(-1000, 1000, count).astype(dtype.numpy), x)
    with np.errstate(all="ignore"):
        scale = np.exp2(-rng.integers(-4, 2 * dtype.mantissa + 8, count).astype("f8")) * rng.uniform(0.5, 2, count)
        near = (x.astype("f8") * scale).astype(dtype.numpy)
    y = np.where(rng.random(count) < 0.8, near, y)
    finite = np.isfinite(x.astype("f8")) & np.isfinite(y.astype("f8")) & (y.astype("f8") != 0)
    return x[finite].astype(dtype.numpy), y[finite].astype(dtype.numpy)


def floors(x: Any, y: Any, dtype: tl.DType) -> Any:
    codes = []
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        quotient = Fraction(float(a)) // Fraction(float(b))
        codes.append(encode_float(quotient, dtype))
    return np.array(codes, f"u{dtype.bits // 8}").view(dtype.numpy)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES[1:])
@pytest.mark.parametrize("dtype", [tl.f32, tl.f64, tl.f16, tl.bf16])
def test_floor_division(dtype: tl.DType, engine: str) -> None:
    x, y = operands(dtype, 4000, np.random.default_rng(dtype.bits))
    quotient, rest = np.zeros_like(x), np.zeros_like(x)
    divider(dtype).on(engine)(x, y, quotient, rest)
    np.testing.assert_array_equal(quotient.astype("f8"), floors(x, y, dtype).astype("f8"))
    wide = rest.astype("f8")
    assert (np.abs(wide) <= np.abs(y.astype("f8"))).all()
    assert (np.signbit(wide) == np.signbit(y.astype("f8"))).all()
    # The quotient and the remainder are those of one division.
    fits = np.abs(quotient.astype("f8")) < 2.0**dtype.mantissa
    for a, b, q, r in zip(*(v[fits].astype("f8").tolist() for v in (x, y, quotient, rest)), strict=True):
        exact = Fraction(a) - Fraction(q) * Fraction(b)
        assert float(exact) == pytest.approx(r, rel=2.0**-dtype.mantissa, abs=5e-324)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [tl.f32, tl.f64])
def test_special_operands(dtype: tl.DType, engine: str) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([1, -1, 0, -0.0, 1, -1, inf, nan, 1, 5, -5, 0, 7.5, -7.5], dtype.numpy)
    y = np.array([0, 0, 0, 3, inf, inf, 2, 1, nan, -inf, -inf, -3, -2.5, 2.5], dtype.numpy)
    quotient, rest = np.zeros_like(x), np.zeros_like(x)
    divider(dtype).on(engine)(x, y, quotient, rest)
    expected = [inf, -inf, nan, -0.0, 0, -1, nan, nan, nan, -1, 0, -0.0, -3, -3]
    np.testing.assert_array_equal(quotient, expected)
    assert [bool(s) for s in np.signbit(quotient[[3, 11]])] == [True, True]


INTEGERS = [tl.i8, tl.u8, tl.i16, tl.u16, tl.i32, tl.u32, tl.i64, tl.u64]


def edges(dtype: tl.DType) -> list[int]:
    wanted = {dtype.min_value, dtype.min_value + 1, -8, -7, -1, 0, 1, 2, 7, 8, dtype.max_value // 2,
              dtype.max_value - 1, dtype.max_value}
    return sorted(v for v in wanted if dtype.min_value <= v <= dtype.max_value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_ceiling_division(dtype: tl.DType, engine: str) -> None:
    @tl.jit
    def ceilings(x: dtype["N"], y: dtype["N"], z: dtype["N"], B: int = 64):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.store(z, i * B, tl.cdiv(tl.load(x, i * B, B), tl.load(y, i * B, B)))

    pairs = [(a, b) for a in edges(dtype) for b in edges(dtype)]
    x, y = (np.array(v, dtype.numpy) for v in zip(*pairs, strict=True))
    z = np.zeros_like(x)
    ceilings.on(engine)(x, y, z)
    wrapped = [-(-a // b) & ((1 << dtype.bits) - 1) if b else 0 for a, b in pairs]
    np.testing.assert_array_equal(z, np.array(wrapped, f"u{dtype.bits // 8}").view(dtype.numpy))


@pytest.mark.parametrize("engine", ENGINES)
def test_ceiling_division_at_compile_time(engine: str) -> None:
    @tl.jit
    def ceilings(z: tl.i64["N"], n: tl.i32):
        tl.grid(1)
        for k, (a, b) in enumerate([(7, 2), (-7, 2), (7, -2), (-7, -2), (0, 5), (2**62, 2**31 - 1)]):
            z[k] = tl.cdiv(a, b)
        z[6] = tl.cdiv(n, -2).to(tl.i64)
        z[7] = tl.cdiv(-7, n).to(tl.i64)

    z = np.zeros(8, np.int64)
    ceilings.on(engine)(z, 7)
    assert z.tolist() == [4, -3, -3, 4, 0, -(-2**62 // (2**31 - 1)), -3, -1]


@pytest.mark.parametrize("engine", ENGINES)
def test_grids_near_the_top_of_the_type(engine: str) -> None:
    @tl.jit
    def count(done: tl.i32["N"], n: tl.i32):
        i = tl.grid(tl.cdiv(n, 2**28))
        done[i] = 1

    done = np.zeros(16, np.int32)
    count.on(engine)(done, 2**31 - 1)
    assert done.tolist() == [1] * 8 + [0] * 8


@pytest.mark.parametrize(("divide", "message"), [
    (lambda n: tl.cdiv(n, 2.0), "tl.cdiv takes integers, not float"),
    (lambda n: tl.cdiv(n.to(tl.f32), 2), "tl.cdiv takes integers, not f32"),
    (lambda n: tl.cdiv(n, 0), "tl.cdiv by 0"),
])
def test_messages(divide: Any, message: str) -> None:
    @tl.jit
    def kernel(z: tl.i32["N"], n: tl.i32):
        tl.grid(1)
        z[0] = divide(n)

    with pytest.raises(tl.UserError, match=message):
        kernel.on("interpret")(np.zeros(1, np.int32), 3)


INTEGERS = [tl.i8, tl.u16, tl.i16, tl.i32, tl.u32, tl.i64]


def integer_operands(dtype: tl.DType) -> tuple[Any, Any]:
    """The ends of the range with each other, quotients of all sizes, and dividends at multiples and beside them."""
    info, rng = np.iinfo(dtype.numpy), np.random.default_rng(dtype.bits)
    ends = np.array([info.min, info.min + 1, info.max, info.max - 1, info.max // 2, info.max // 2 + 1, 0, 1, 2, 3, 7],
                    dtype.numpy)
    x, y = (v.ravel() for v in np.meshgrid(ends, ends))
    a, b = (rng.integers(info.min, info.max, 1500, dtype.numpy, True) for _ in range(2))
    b = b >> rng.integers(0, info.bits - 1, 1500).astype(dtype.numpy)
    with np.errstate(all="ignore"):
        near = b * rng.integers(0, 1 << info.bits // 2, 1500).astype(dtype.numpy) - rng.integers(0, 3, 1500)
    return np.r_[x, a, near.astype(dtype.numpy)], np.r_[y, b, b].astype(dtype.numpy)


def by_scalar(dtype: tl.DType) -> Any:
    @tl.jit
    def divide(x: dtype["N"], s: dtype, quotient: dtype["N"], rest: dtype["N"], B: int = 4096):
        a = tl.load(x, tl.grid(tl.cdiv(x.shape[0], B)) * B, B)
        tl.store(quotient, 0, a // s)
        tl.store(rest, 0, a % s)

    return divide


def by_number(dtype: tl.DType) -> Any:
    @tl.jit
    def divide(x: dtype["N"], quotient: dtype["N"], rest: dtype["N"], divisor: int = 7, B: int = 256):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        a = tl.load(x, i * B, B)
        tl.store(quotient, i * B, a // divisor)
        tl.store(rest, i * B, a % divisor)

    return divide


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ["simulate:sm_80:cuda", "simulate:sm_75:ptx"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: tl.DType, engine: str) -> None:
    x, y = integer_operands(dtype)
    divisors = (0, 1, 3, 7, 100, dtype.max_value) + ((-1, -7, dtype.min_value) if dtype.is_signed else ())
    runs = [(divider(dtype), (x, y), {})]
    runs += [(by_scalar(dtype), (x, s), {}) for s in divisors]
    runs += [(by_number(dtype), (x,), {"divisor": s}) for s in divisors[2:6]]
    for kernel, given, constants in runs:
        expected, found = ([np.zeros_like(x), np.zeros_like(x)] for _ in range(2))
        with np.errstate(all="ignore"):
            kernel.on("interpret")(*given, *expected, **constants)
        kernel.on(engine)(*given, *found, **constants)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_the_reciprocal_of_a_scalar_is_computed_once(via: str) -> None:
    @tl.jit
    def divide(x: tl.i32["N"], s: tl.i32, B: int = 8192):
        tl.grid(1)
        for k in tl.range(0, x.shape[0], B):
            tl.store(x, k, tl.load(x, k, B) // s)

    assert divide.compile("sm_80", via).ptx.count("rcp.approx") == 1


@tl.jit
def by_a_count(x: tl.i64["N"], quotients: tl.i64["N"], remainders: tl.i64["N"], n: tl.i32, B: int = 64):
    """What is known not to be negative, in 32 bits, though the divisor may be 0."""
    start = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.assume(n >= 0)
    at = start + tl.arange(0, B, dtype=tl.i64)
    tl.store(quotients, start, at // n.to(tl.i64))
    tl.store(remainders, start, at % n.to(tl.i64))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n", [0, 1, 7, 64, 2**31 - 1])
def test_by_what_may_be_zero(n: int, engine: str) -> None:
    x = np.arange(200)
    quotients, remainders = np.zeros(200, np.int64), np.zeros(200, np.int64)
    by_a_count.on(engine)(x, quotients, remainders, n)
    np.testing.assert_array_equal(quotients, x // n if n else 0 * x)
    np.testing.assert_array_equal(remainders, x % n if n else x)
