"""Rounding by chance: one of the two neighbours, with the right probability, whatever the order of the work."""

from __future__ import annotations

import numpy as np
import pytest

import tilus as tl
from tests.lowering.exact_codes import CODEBOOKS, FLOATS
from tests.quantization import reference
from tests.quantization.reference import f32
from tests.quantization.test_nearest import INTEGERS, SOME_FLOATS, weights
from tilus.interp.elementwise import philox


def uniform(seed: int, count: int) -> np.ndarray:
    """By the interpreter's Philox: the upper 24 bits of word 0 of each element's counter."""
    word = philox(np.uint64(seed), np.arange(count))[0]
    return (word >> np.uint32(8)).astype(np.float64) / (1 << 24)


@pytest.mark.sweep(keep=10)
@pytest.mark.parametrize("dtype", [*INTEGERS, *SOME_FLOATS, *CODEBOOKS], ids=str)
def test_every_element(dtype: tl.DType) -> None:
    w, seed = weights(dtype, seed=1), 2**63 + 5
    q = tl.quantize(w, dtype, group=8, scale_dtype=tl.f32, rounding="stochastic", seed=seed)
    zero, step = reference.fixed_zero(dtype), reference.spread(q.scales, w.shape, 0)
    u, have = uniform(seed, w.size), reference.numbers(dtype)[reference.codes(q.values)]
    for i, place in enumerate(np.ndindex(*w.shape)):
        quotient = w[place] / step[place] if step[place] else f32(0)
        if zero != int(zero):
            quotient = quotient + f32(zero)
        lower, upper = reference.neighbours(float(quotient) + (zero if zero == int(zero) else 0), dtype)
        if dtype.is_float and quotient < 0:  # chance is of going away from zero
            lower, upper = upper, lower
        exact = float(quotient) + (zero if zero == int(zero) else 0)
        share = float((reference.Fraction(exact) - lower) / (upper - lower)) if lower != upper else 0
        assert have[place] == float(upper if u[i] < share else lower)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_float(dtype: tl.DType) -> None:
    test_every_element(dtype)


def test_probabilities() -> None:
    """The mean over many copies is the number itself, but for chance."""
    copies = 1 << 14
    for dtype in (tl.i4, tl.u3, tl.u1, tl.i8, tl.f4e2m1, tl.f6e3m2, tl.f8e5m2, tl.f8e4m3fn, tl.nf4, tl.ternary,
                  *CODEBOOKS[2:5:2], *FLOATS[::41]):
        reach = reference.reach(dtype)
        known = np.unique(reference.numbers(dtype) - reference.fixed_zero(dtype))
        known = known[np.abs(known) <= reach]
        rng = np.random.default_rng(dtype.bits)
        x = f32(rng.uniform(max(known[0], -reach), known[-1], 20))
        w = np.tile(np.r_[x, f32(reach)], (copies, 1))  # the greatest makes the scale 1
        q = tl.quantize(w, dtype, axis=None, scale_dtype=tl.f32, rounding="stochastic", seed=3)
        assert q.scales.tolist() == [1]
        found = tl.dequantize(q)[:, :-1].astype(np.float64)
        place = np.clip(np.searchsorted(known, x, side="right") - 1, 0, len(known) - 2)
        lower, upper = known[place], known[place + 1]
        assert ((found == lower) | (found == upper)).all()
        share = (x - lower) / (upper - lower)
        sigma = (upper - lower) * np.sqrt(share * (1 - share) / copies)
        assert (np.abs(found.mean(axis=0) - x) <= 5 * sigma + 1e-9).all(), dtype


def test_numbers_of_the_type_stay() -> None:
    for dtype in (tl.i8, tl.u4, tl.f8e4m3fn, tl.f6e2m3, tl.nf4, CODEBOOKS[4]):
        known = (reference.numbers(dtype) - reference.fixed_zero(dtype)).astype(f32)
        known = known[np.abs(known) <= reference.reach(dtype)]
        w = np.repeat(np.r_[known, f32(reference.reach(dtype))], 50)
        q = tl.quantize(w, dtype, axis=None, scale_dtype=tl.f32, rounding="stochastic")
        np.testing.assert_array_equal(tl.dequantize(q)[:-50], w[:-50])


@pytest.mark.parametrize("shape", [(40001,), (3, 70001), (70001, 3), (1, 5)])
def test_parts(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """In how large parts an array is done makes no difference, nor along which axis the scales run."""
    from tilus.quantization import groups, host

    w = np.random.default_rng(4).uniform(-7, 7, shape).astype(f32)
    w[..., 0], w[0] = 7, 7
    found = []
    for part in (1 << 10, 1 << 15, 1 << 20):
        monkeypatch.setattr(groups, "PART", part)
        monkeypatch.setattr(host, "PART", part)
        found += [tl.quantize(w, tl.i4, axis=axis, scale_dtype=tl.f32, rounding="stochastic", seed=9).values.base
                  for axis in (0, None, -1)]
    want = np.floor(w) + (uniform(9, w.size).reshape(shape) < w - np.floor(w))
    for base in found:
        np.testing.assert_array_equal(tl.unpack(tl.packed(base, tl.i4, shape)), want)


def test_seeds() -> None:
    w = np.random.default_rng(5).standard_normal((64, 64)).astype(f32)
    bases = [tl.quantize(w, tl.i4, rounding="stochastic", seed=seed).values.base for seed in (0, 0, 1)]
    np.testing.assert_array_equal(bases[0], bases[1])
    assert (bases[0] != bases[2]).mean() > 0.1


def test_a_kernel_gets_the_same() -> None:
    """The chance of an element is that of a kernel with its number in row-major order."""
    @tl.jit
    def rounded(x: tl.f32["N"], y: tl.i8["N"], seed: tl.u64):
        tl.grid(1)
        low = tl.floor(tl.load(x, 0, 256))
        chance = tl.random.rand(seed, tl.arange(256))
        up = tl.where(chance < tl.load(x, 0, 256) - low, 1.0, 0.0)
        tl.store(y, 0, (low + up).to(tl.i8))

    w = np.random.default_rng(6).uniform(-127, 127, 256).astype(f32)
    w[0], found = 127, np.zeros(256, np.int8)
    rounded(w, found, 77)
    q = tl.quantize(w, tl.i8, scale_dtype=tl.f32, rounding="stochastic", seed=77)
    np.testing.assert_array_equal(tl.unpack(q.values), found)
