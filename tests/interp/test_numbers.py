"""Conversions of every float of 3 to 8 bits and of codebooks, against exact rational arithmetic."""

import numpy as np
import pytest

import tilus as tl
from tests.lowering.exact_codes import CODEBOOKS, FLOATS, SOURCES, every, inputs, nearest, numbers, same_codes
from tilus.interp.numbers import cast, decode, held_as
from tilus.ir.dtypes import parse_dtype
from tilus.ir.literals import integer_bits

TYPES = [*FLOATS, *CODEBOOKS]


def codes_of(dtype: tl.DType) -> np.ndarray:
    return np.arange(1 << dtype.bits).astype(held_as(dtype))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_code_is_its_number(dtype: tl.DType) -> None:
    found, wanted = decode(codes_of(dtype), dtype), numbers(dtype)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found)[~np.isnan(wanted)], np.signbit(wanted)[~np.isnan(wanted)])
    for target, kind in SOURCES.items():
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(cast(codes_of(dtype), dtype, target).astype("f8"),
                                          wanted.astype(kind).astype("f8"))


@pytest.mark.sweep(keep=117)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_number_gets_the_nearest_code(dtype: tl.DType) -> None:
    for source, x in ((tl.f16, every(SOURCES[tl.f16])), (tl.bf16, every(SOURCES[tl.bf16])),
                      (tl.f32, inputs(dtype, 20_000)), (tl.f64, inputs(dtype, 2_000).astype("f8") * (1 + 2.0**-40))):
        with np.errstate(all="ignore"):
            same_codes(cast(x, source, dtype), nearest(x.astype("f8"), dtype), dtype)
    x = np.arange(-300, 300)
    same_codes(cast(x, tl.i64, dtype), nearest(x.astype("f8"), dtype), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_many_numbers_get_the_nearest_code(dtype: tl.DType) -> None:
    x = inputs(dtype, 1_000_000)
    same_codes(cast(x, tl.f32, dtype), nearest(x.astype("f8"), dtype), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_literals(dtype: tl.DType) -> None:
    x = inputs(dtype)[:: 1 + len(inputs(dtype)) // 400].astype("f8")
    same_codes(np.array([integer_bits(float(n), dtype) for n in x]), nearest(x, dtype), dtype)


def test_between_narrow_types() -> None:
    chosen = [*FLOATS[::7], *CODEBOOKS]
    for source in chosen:
        for target in chosen:
            found = cast(codes_of(source), source, target)
            same_codes(found, nearest(numbers(source), target) if source is not target else codes_of(source), target)


@pytest.mark.parametrize("dtype", [*TYPES, tl.f32, tl.i3, tl.bool], ids=str)
def test_names(dtype: tl.DType) -> None:
    assert parse_dtype(dtype.name) is dtype


def test_codebooks_are_their_contents() -> None:
    assert tl.codebook("a", [1, 2]) is tl.codebook("a", (1.0, 2.0))
    assert tl.codebook("a", [1, 2]) is not tl.codebook("a", [1, 3])
    assert tl.codebook("nf4", tl.nf4.values) is tl.nf4
    assert tl.codebook("nf4", [1, 2]) is not tl.nf4
    for wrong in (lambda: tl.codebook("a b", [1]), lambda: tl.codebook("a", [np.inf]), lambda: tl.codebook("a", []),
                  lambda: tl.codebook("a", range(5), bits=2), lambda: tl.codebook("a", range(257)),
                  lambda: tl.codebook("a", [1e39]), lambda: tl.codebook("a", [1], bits=9)):
        with pytest.raises(ValueError, match="codebook"):
            wrong()


def test_ml_dtypes_agree() -> None:
    """Where the types are the same: but for what is beyond the range, and e8m0's zero and negative numbers. What is
    just above 2^-127, subnormal in f32, is 2^-126 in ml_dtypes."""
    for dtype in (tl.f8e8m0fnu, tl.float(exponent=4, mantissa=3), tl.float(exponent=3, mantissa=4), tl.f8e4m3fn,
                  tl.f8e5m2):
        x = inputs(dtype, 20_000)
        greatest = np.nanmax(np.where(np.isinf(numbers(dtype)), 0, numbers(dtype)))
        x = x[(np.abs(x) <= greatest) & ((x > 2.0**-126) | dtype.signed)]
        np.testing.assert_array_equal(cast(x, tl.f32, dtype).view("u1"), x.astype(dtype.numpy).view("u1"))
        np.testing.assert_array_equal(numbers(dtype), np.arange(256, dtype="u1").view(dtype.numpy).astype("f8"))
