"""Conversions of 8-bit floats by instructions where the target has them: the values are those of every engine."""

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ["cpu", *(f"simulate:{t}:{v}" for t in ("sm_80", "sm_89", "sm_90a", "sm_120a") for v in ("cuda", "ptx"))]
BYTES = [tl.f8e4m3fn, tl.f8e5m2]
NUMBERS = [tl.f32, tl.f16, tl.bf16, tl.f64]


def converter(source: tl.DType, target: tl.DType, size: int) -> Any:
    @tl.jit
    def convert(x: source["N"], y: target["N"], B: int = size):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.store(y, i * B, tl.load(x, i * B, B).to(target))

    return convert


def check(source: tl.DType, target: tl.DType, x: Any, engine: str, size: int = 512) -> None:
    expected, found = np.zeros(len(x), target.numpy), np.zeros(len(x), target.numpy)
    converter(source, target, size).on("interpret")(x, expected)
    converter(source, target, size).on(engine)(x, found)
    np.testing.assert_array_equal(found.astype("f8"), expected.astype("f8"))
    number = ~np.isnan(expected.astype("f8"))
    np.testing.assert_array_equal(np.signbit(found.astype("f8"))[number], np.signbit(expected.astype("f8"))[number])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", NUMBERS)
@pytest.mark.parametrize("source", BYTES)
def test_every_code(source: tl.DType, target: tl.DType, engine: str) -> None:
    check(source, target, np.arange(256, dtype=np.uint8).view(source.numpy), engine)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("source", NUMBERS)
@pytest.mark.parametrize("target", BYTES)
def test_every_tie_and_its_neighbours(source: tl.DType, target: tl.DType, engine: str) -> None:
    codes = np.sort(np.arange(128, dtype=np.uint8).view(target.numpy).astype("f8"))
    codes = np.r_[codes[np.isfinite(codes)], 480, 512, 61440, 65536, 1e6, np.inf, np.nan]
    with np.errstate(all="ignore"):
        ties = (codes[1:] + codes[:-1]) / 2
        wanted = np.r_[codes, ties, ties * (1 + 2.0**-9), ties * (1 - 2.0**-9), ties * (1 + 2.0**-20), 1e-30]
        x = np.r_[wanted, -wanted].astype(source.numpy)
    check(source, target, x, engine)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 32, 64, 96, 100])
def test_sizes(size: int, engine: str) -> None:
    """One element, or two, to a thread have registers of their own."""
    x = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    for target in BYTES:
        check(tl.f32, target, x, engine, size)
        check(target, tl.f16, x.astype(target.numpy), engine, size)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("target", "native"), [("sm_80", False), ("sm_89", True), ("sm_90a", True)])
def test_instructions(target: str, native: bool, via: str) -> None:
    reading, writing = converter(tl.f8e4m3fn, tl.f32, 512), converter(tl.f32, tl.f8e5m2, 512)
    assert bool(re.search(r"cvt\.rn\.f16x2\.e4m3x2", reading.compile(target, via).ptx)) == native
    assert bool(re.search(r"cvt\.rn\.satfinite\.e5m2x2\.f32", writing.compile(target, via).ptx)) == native


INTEGERS = [tl.i32, tl.u32, tl.i64, tl.u64, tl.i16, tl.u8]


def near_ties(dtype: tl.DType) -> Any:
    """Integers at and beside what lies halfway between neighbours of 8, 11 and 24 bits, of every magnitude."""
    rng = np.random.default_rng(0)
    heads = [int(h) for bits in (9, 12, 25) for h in rng.integers(1 << bits - 1, 1 << bits, 12) | 1]
    values = {h << s | low for h in heads for s in range(55) for low in (0, 1, (1 << s) - 1)} | {0, 1, 65519, 65520}
    inside = [v for n in values for v in (n, -n) if dtype.min_value <= v <= dtype.max_value]
    return np.array([*inside, dtype.min_value, dtype.max_value], dtype.numpy)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx",
                                    "simulate:sm_90a:cuda", "simulate:sm_75:ptx"])
@pytest.mark.parametrize("target", [tl.f16, tl.bf16])
def test_integers_are_rounded_once(target: tl.DType, engine: str) -> None:
    for source in INTEGERS:
        check(source, target, near_ties(source), engine)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_integers_become_halves_without_f64(via: str) -> None:
    for source, target in ((tl.i32, tl.f16), (tl.i64, tl.f16), (tl.i32, tl.bf16), (tl.u64, tl.bf16)):
        assert "f64" not in converter(source, target, 512).compile("sm_80", via).ptx


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_floats_saturate_to_integers(engine: str) -> None:
    x = np.array([0.5, -0.5, 1.99, -1.99, 127.5, 128, -129, 255.9, 256, 32767.5, 40000, -40000, 65535, 3e9, -3e9, 5e9,
                  np.inf, -np.inf, np.nan, 1e-40, 1e19, -1e19])
    for source in (tl.f16, tl.bf16, tl.f32, tl.f64):
        for target in (tl.i8, tl.u8, tl.i16, tl.u16, tl.i32, tl.u32, tl.i64):
            with np.errstate(over="ignore"):
                values = x.astype(source.numpy)
            check(source, target, np.resize(values, 128), engine, size=128)


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_sums_of_bf16_are_pairs(via: str) -> None:
    @tl.jit
    def add(x: tl.bf16["N"], y: tl.bf16["N"], B: int = 1024):
        i = tl.grid(tl.cdiv(x.shape[0], B))
        a, b = tl.load(x, i * B, B), tl.load(y, i * B, B)
        tl.store(y, i * B, (a + b) * (a - b))

    assert len(re.findall(r"fma\.rn\.bf16x2", add.compile("sm_80", via).ptx)) == 3 * 4
    rng = np.random.default_rng(0)
    x, y = (np.r_[rng.standard_normal(2000) * 2.0 ** rng.integers(-140, 120, 2000), 0, -0.0, 0, -0.0, np.inf, np.nan]
            .astype(tl.bf16.numpy) for _ in range(2))
    y[2000:2004] = np.array([0, -0.0, -0.0, 0], tl.bf16.numpy)
    expected, found = y.copy(), y.copy()
    with np.errstate(all="ignore"):
        add.on("interpret")(x, expected)
    add.on(f"simulate:sm_80:{via}")(x, found)
    number = ~np.isnan(expected.astype("f4"))
    np.testing.assert_array_equal(found.view(np.uint16)[number], expected.view(np.uint16)[number])
    assert np.isnan(found[~number].astype("f4")).all()
