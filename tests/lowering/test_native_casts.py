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
