"""Conversions of narrow floats and codebooks in registers, on every bit pattern, against exact rational arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lowering.exact_codes import CODEBOOKS, FLOATS, SOURCES, every, inputs, nearest, numbers, same_codes

GPU_ROUTES = ("simulate:sm_80:ptx", "simulate:sm_80:cuda")
CHOSEN = [
    tl.f8e8m0fnu, tl.f4e2m1, tl.f6e2m3, tl.f6e3m2, tl.f8e4m3fn,
    tl.float(exponent=4, mantissa=3, signed=False, specials="fn"), tl.float(exponent=3, mantissa=0),
    tl.float(exponent=7, mantissa=0, specials="ieee"), tl.float(exponent=1, mantissa=1, specials="ieee"),
    tl.float(exponent=1, mantissa=6), tl.float(exponent=4, mantissa=0, signed=False),
    tl.float(exponent=3, mantissa=2, signed=False, specials="ieee"), tl.float(exponent=8, mantissa=0, signed=False),
    *CODEBOOKS,
]


@tl.jit
def decode(codes: tl.u8["N"], half: tl.f16["N"], brain: tl.bf16["N"], single: tl.f32["N"], whole: tl.i32["N"],
           dtype: tl.DType, size: int):
    i = tl.grid(tl.cdiv(codes.shape[0], size)) * size
    x = tl.load(codes, i, size).to(tl.integer(dtype.bits, signed=False)).bitcast(dtype)
    tl.store(half, i, x.to(tl.f16))
    tl.store(brain, i, x.to(tl.bf16))
    tl.store(single, i, x.to(tl.f32))
    tl.store(whole, i, x.to(tl.i32))


def check_decoding(dtype: tl.DType, engine: str) -> None:
    codes = np.arange(1 << dtype.bits, dtype=np.uint8)
    found = [np.zeros(len(codes), kind) for kind in SOURCES.values()]
    whole = np.zeros(len(codes), np.int32)
    decode.on(engine)(codes, *found, whole, dtype=dtype, size=256)
    with np.errstate(all="ignore"):
        for have in found:
            np.testing.assert_array_equal(have.astype("f8"), numbers(dtype).astype(have.dtype).astype("f8"))
            number = ~np.isnan(numbers(dtype))
            np.testing.assert_array_equal(np.signbit(have[number]), np.signbit(numbers(dtype)[number]))
    bounded = np.clip(np.nan_to_num(numbers(dtype)), -(2.0**31), 2.0**31 - 1)
    np.testing.assert_array_equal(whole, np.trunc(bounded).astype(np.int32))


@tl.jit
def encode(x: tl.f32["N"], codes: tl.u8["N"], half: tl.f16["M"], half_codes: tl.u8["M"], brain: tl.bf16["M"],
           brain_codes: tl.u8["M"], dtype: tl.DType, size: int):
    i = tl.grid(tl.cdiv(tl.maximum(x.shape[0], half.shape[0]), size)) * size
    for source, target in ((x, codes), (half, half_codes), (brain, brain_codes)):
        code = tl.load(source, i, size).to(dtype).bitcast(tl.integer(dtype.bits, signed=False))
        tl.store(target, i, code.to(tl.u8))


def check_encoding(dtype: tl.DType, engine: str, x: Any, halves: Any) -> None:
    half, brain = (every(SOURCES[t])[halves] for t in (tl.f16, tl.bf16))
    found = [np.zeros(len(n), np.uint8) for n in (x, half, brain)]
    encode.on(engine)(x, found[0], half, found[1], brain, found[2], dtype=dtype, size=1024)
    with np.errstate(all="ignore"):
        for source, have in zip((x, half, brain), found, strict=True):
            same_codes(have, nearest(source.astype("f8"), dtype), dtype)


@tl.jit
def between(codes: tl.u8["N"], out: tl.u8["N"], source: tl.DType, target: tl.DType):
    i = tl.grid(1)
    x = tl.load(codes, i, 256).to(tl.integer(source.bits, signed=False)).bitcast(source)
    tl.store(out, i, x.to(target).bitcast(tl.integer(target.bits, signed=False)).to(tl.u8))


@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("dtype", CHOSEN, ids=str)
def test_cpu(dtype: tl.DType) -> None:
    check_decoding(dtype, "cpu")
    check_encoding(dtype, "cpu", inputs(dtype, 100_000), slice(None))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [t for t in FLOATS if t not in CHOSEN], ids=str)
def test_every_float_on_cpu(dtype: tl.DType) -> None:
    check_decoding(dtype, "cpu")
    check_encoding(dtype, "cpu", inputs(dtype, 1_000_000), slice(None))


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize("engine", GPU_ROUTES)
@pytest.mark.parametrize("dtype", CHOSEN, ids=str)
def test_gpu(dtype: tl.DType, engine: str) -> None:
    check_decoding(dtype, engine)
    x = inputs(dtype, 500)
    check_encoding(dtype, engine, x[:: 1 + len(x) // 1500], slice(None, None, 37))


@pytest.mark.slow
@pytest.mark.parametrize("route", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("dtype", [*FLOATS, *CODEBOOKS], ids=str)
def test_every_type_on_gpus(dtype: tl.DType, target: str, route: str) -> None:
    """All numbers of 16 bits."""
    engine = f"simulate:{target}:{route}"
    check_decoding(dtype, engine)
    x = inputs(dtype, 3000)
    check_encoding(dtype, engine, x[:: 1 + len(x) // 20_000], slice(None))


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_between_narrow_types(engine: str) -> None:
    for n, source in enumerate(CHOSEN):
        target = CHOSEN[(n * 5 + 3) % len(CHOSEN)]
        out = np.zeros(1 << source.bits, np.uint8)
        between.on(engine)(np.arange(1 << source.bits, dtype=np.uint8), out, source=source, target=target)
        same_codes(out, nearest(numbers(source), target), target)


@pytest.mark.parametrize("engine", ["interpret", "python", "cpu", *GPU_ROUTES])
@pytest.mark.parametrize("dtype", [tl.f8e8m0fnu, tl.nf4, tl.ternary, tl.codebook("two", [-0.25, 3])], ids=str)
def test_constants_and_choices(dtype: tl.DType, engine: str) -> None:
    @tl.jit
    def kernel(y: tl.f32["M", "N"], equal: tl.i32["N"]):
        tl.grid(1)
        x = tl.full(32, 1.4, dtype)
        z = tl.zeros(32, dtype)
        which = tl.arange(32) < 7
        tl.store(y, (0, 0), tl.expand_dims(tl.where(which, x, z).to(tl.f32), 0))
        tl.store(equal, 0, (tl.where(which, x, z) == x).to(tl.i32))

    y, equal = np.zeros((1, 32), np.float32), np.zeros(32, np.int32)
    kernel.on(engine)(y, equal)
    a, b = numbers(dtype)[nearest(np.array([1.4, 0.0]), dtype)]
    np.testing.assert_array_equal(y[0], np.where(np.arange(32) < 7, a, b).astype(np.float32))
    np.testing.assert_array_equal(equal, np.arange(32) < 7)


def test_rounding_of_codebooks_is_to_nearest() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        i = tl.grid(1)
        tl.store(y, i, tl.load(x, i, 32).to(tl.nf4, rounding="rz").to(tl.f32))

    with pytest.raises(tl.UserError, match="to the nearest value"):
        kernel.compile("sm_80")
