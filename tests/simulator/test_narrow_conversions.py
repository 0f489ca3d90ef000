"""Conversions between pairs of narrow numbers and pairs of bfloat16, with scales, over every code."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from tilus import simulator

PTX = """
.version 9.2
.target sm_100a
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z)
{{
  .reg .b8 %b; .reg .b16 %h<4>; .reg .b32 %r<4>; .reg .f32 %f<3>; .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u64 %rd3, [z];
  mov.u32 %r1, %ctaid.x; mad.lo.u32 %r1, %r1, 128, 0; mov.u32 %r2, %tid.x; add.u32 %r1, %r1, %r2;
  mul.wide.u32 %rd4, %r1, 4; mul.wide.u32 %rd5, %r1, 2;
  add.u64 %rd1, %rd1, %rd4; add.u64 %rd2, %rd2, %rd5; add.u64 %rd3, %rd3, %rd4;
  ld.global.b32 %r2, [%rd1]; cvt.u16.u32 %h1, %r2; ld.global.b16 %h2, [%rd2];
  {body}
  st.global.b32 [%rd3], %r3;
  ret;
}}
"""
Array = npt.NDArray[np.float64]
CODES = np.arange(256, dtype=np.uint8)
VALUES: dict[str, Array] = {
    "e4m3": CODES.view(ml_dtypes.float8_e4m3fn).astype(np.float64),
    "e5m2": CODES.view(ml_dtypes.float8_e5m2).astype(np.float64),
    "e2m3": (CODES & 63).view(ml_dtypes.float6_e2m3fn).astype(np.float64),
    "e3m2": (CODES & 63).view(ml_dtypes.float6_e3m2fn).astype(np.float64),
    "s2f6": CODES.view(np.int8) / 64.0,
}
LARGEST = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)


def run(body: str, words: npt.NDArray[np.uint32], scales: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint32]:
    out = np.zeros(words.size, np.uint32)
    simulator.launch(PTX.format(body=body), "k", words.size // 128, 128, [words, scales, out])
    return out


def as_bf16(value: Array) -> npt.NDArray[np.uint16]:
    with np.errstate(over="ignore"):
        bits: npt.NDArray[np.uint16] = value.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    return np.where(np.isnan(value), np.uint16(0x7FFF), bits)


@pytest.mark.parametrize("modifiers", ["", ".relu", ".satfinite", ".scaled::n2::ue8m0",
                                       ".relu.satfinite.scaled::n2::ue8m0"])
@pytest.mark.parametrize("kind", VALUES)
def test_to_pairs_of_bfloat16(kind: str, modifiers: str) -> None:
    """Each code beside the one that mirrors it; scales from 2^-127 to 2^127, and the code without a value."""
    pairs = CODES.astype(np.uint32) | CODES[::-1].astype(np.uint32) << 8
    scales = np.repeat(np.array([0x7F7F, 0x857E, 0x00FE, 0xFF80], np.uint16), 256)
    words = np.tile(pairs, 4)
    extra = ", %h2" if "scaled" in modifiers else ""
    out = run(f"cvt.rn{modifiers}.bf16x2.{kind}x2 %r3, %h1{extra};", words, scales)
    for half in range(2):
        value = VALUES[kind][words >> 8 * half & 0xFF]
        if extra:
            code = (scales >> 8 * half & 0xFF).astype(np.float64)
            value = value * np.where(code == 255, np.nan, 2.0 ** (code - 127))
        if ".relu" in modifiers:
            value = np.where(value < 0, 0.0, value)
        if ".satfinite" in modifiers:
            value = np.clip(value, -LARGEST, LARGEST)
        wanted = as_bf16(value)
        got = (out >> 16 * half & 0xFFFF).astype(np.uint16)
        zero = (wanted & 0x7FFF == 0) & (".relu" in modifiers)
        np.testing.assert_array_equal(np.where(zero, got & 0x7FFF, got), np.where(zero, 0, wanted))


def test_four_bit_codes() -> None:
    words = np.tile(CODES.astype(np.uint32), 2)
    scales = np.full(512, 0x827F, np.uint16)
    out = run("cvt.u8.u16 %b, %h1; cvt.rn.scaled::n2::ue8m0.bf16x2.e2m1x2 %r3, %b, %h2;", words, scales)
    table = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    np.testing.assert_array_equal(out & 0xFFFF, as_bf16(table[words & 15]))
    np.testing.assert_array_equal(out >> 16, as_bf16(table[words >> 4] * 8))


@pytest.mark.parametrize("kind", ["e4m3", "e5m2", "e2m3", "e3m2", "s2f6"])
def test_from_pairs_of_bfloat16(kind: str) -> None:
    """The nearest code, ties to even, clamped to the largest; from bfloat16 as from float32 of equal value."""
    rng = np.random.default_rng(0)
    exact = np.repeat(VALUES[kind][np.isfinite(VALUES[kind])], 2)
    value = np.concatenate([exact, (rng.standard_normal(1024) * 4.0 ** rng.integers(-9, 9, 1024))])
    halves = value[:len(value) // 256 * 256].astype(ml_dtypes.bfloat16)
    words = halves.view(np.uint32)
    empty = np.zeros(words.size, np.uint16)
    direct = run(f"cvt.rn.satfinite.{kind}x2.bf16x2 %h3, %r2; cvt.u32.u16 %r3, %h3;", words, empty)
    wide = run(f"shl.b32 %r3, %r2, 16; mov.b32 %f1, %r3; and.b32 %r3, %r2, 0xFFFF0000; mov.b32 %f2, %r3; "
               f"cvt.rn.satfinite.{kind}x2.f32 %h3, %f2, %f1; cvt.u32.u16 %r3, %h3;", words, empty)
    np.testing.assert_array_equal(direct, wide)
    if kind == "s2f6":
        wanted = np.clip(np.rint(halves.astype(np.float64) * 64), -128, 127).astype(np.int8).view(np.uint8)
        np.testing.assert_array_equal(direct.astype(np.uint16).view(np.uint8), wanted)
    else:
        finite = VALUES[kind][np.isfinite(VALUES[kind])]
        clamped = np.clip(halves.astype(np.float64), finite.min(), finite.max())
        error = np.abs(VALUES[kind][direct.astype(np.uint16).view(np.uint8)] - clamped)
        np.testing.assert_array_equal(error, np.abs(finite[None, :] - clamped[:, None]).min(axis=1))
