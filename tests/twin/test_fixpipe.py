"""Fixpipe: conversions and layouts on the way from L0C, against formulas of the results."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.twin.harness import Kernels, zn, zz
from tests.twin.test_cube import PRELUDE, numbers, sums

BODIES = {}
EXPECTED = {}
f16, f32, s8, u8, s32 = np.float16, np.float32, np.int8, np.uint8, np.int32


def case(name: str, body: str, arrays: list[np.ndarray], expected: np.ndarray, before: object = 0) -> None:
    BODIES[name] = body
    EXPECTED[name] = (arrays, expected, before)


def product(kind: str, m: int, n: int, k: int = 32) -> str:
    """A product [m, n] in l0c, of rows `up` in L0C."""
    total = {"half": "float", "int8_t": "int32_t", "float": "float"}[kind]
    up_m, up_n = -(-m // 16) * 16, -(-n // 16) * 16
    return f"""
    auto l0a = l0_image<{kind}>(TPosition::A2, a, {up_m * k});
    auto l0b = l0_image<{kind}>(TPosition::B2, b, {up_n * k});
    LocalTensor<{total}> l0c(TPosition::CO1, 0, {up_m * up_n});
    MmadParams product;
    product.m = {m};
    product.n = {n};
    product.k = {k};
    Mmad(l0c, l0a, l0b, product);
    step();
    FixpipeParamsV220 fix;
    fix.nSize = {n};
    fix.mSize = {m};
    fix.srcStride = {up_m};
    fix.dstStride = {n};
"""


def fix(destination: str, source: str, layout: str = "CFG_ROW_MAJOR", scales: str = "") -> str:
    return f"    Fixpipe<{destination}, {source}, {layout}>(gm<{destination}>(out), l0c, {scales}fix);\n"


# Column j of the result is a's column j, scaled by 0.5, 1, 2, ... where b is diagonal.
halves = np.arange(48 * 32, dtype=f32).reshape(48, 32) / 8 + 2048
left, right = (halves - 2048).astype(f16), np.eye(32, dtype=f16)
total = sums(left)

# 2049 and 2051 lie half between halves: to the even ones, 2048 and 2052.
odd = np.zeros((16, 32), f16)
odd[:, 0], odd[:, 1] = 2048, 3
pair = np.zeros((32, 16), f16)
pair[0, :2], pair[1, 1], pair[2, 0] = 1, 1, 1
odd[:, 2] = 1
case("to_half_rounds_to_even", product("half", 16, 16) + "    fix.quantPre = F322F16;\n" + fix("half", "float"),
     [zz(odd), zn(pair)], np.tile(np.array([2048, 2052] + [0] * 14, f16), (16, 1)))

# 257 and 259 as bfloat16_t: to 256 and 260.
odd[:, 0], odd[:, 1] = 256, 3
case("to_bfloat16_rounds_to_even", product("half", 16, 16) + "    fix.quantPre = F322BF16;\n"
     + fix("bfloat16_t", "float"), [zz(odd), zn(pair)],
     np.tile(np.array([256, 260] + [0] * 14, ml_dtypes.bfloat16), (16, 1)))

left, right = numbers((48, 32), f16), numbers((32, 48), f16)
total = sums(left) @ sums(right)
case("relu", product("half", 48, 48) + "    fix.reluEn = true;\n" + fix("float", "float"), [zz(left), zn(right)],
     np.maximum(total, 0))

# Any m and n, into a part of a wider matrix.
wide = np.full((20, 64), 7, f32)
wide[:17, :33] = total[:17, :33]
case("rows_of_a_wider_matrix", product("half", 17, 33) + "    fix.dstStride = 64;\n" + fix("float", "float"),
     [zz(left[:32]), zn(right)], wide, 7)

# Rows 3 to 10 and columns from 16 on.
case("part_of_a_tile", product("half", 48, 48) + """
    fix.nSize = 20;
    fix.mSize = 8;
    fix.dstStride = 20;
    Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out), l0c[48 * 16 + 3 * 16], fix);
""", [zz(left), zn(right)], total[3:11, 16:36])

# Two tiles of 16 columns as matrices of their own, 48 x 16 numbers apart in L0C and 1000 in GM.
two = np.full(2000, 7, f32)
two[:48 * 16], two[1000:1000 + 48 * 16] = total[:, :16].ravel(), total[:, 32:].ravel()
case("two_matrices", product("half", 48, 48) + """
    fix.nSize = fix.dstStride = 16;
    fix.ndNum = 2;
    fix.srcNdStride = 2 * 3;
    fix.dstNdStride = 1000;
""" + fix("float", "float"), [zz(left), zn(right)], two, 7)

# Nz: blocks of 16 columns, of 8 where they are split, of 32 for bytes; dstStride is in units of 32 B.
case("nz_half", product("half", 48, 48) + "    fix.quantPre = F322F16;\n    fix.dstStride = 48;\n"
     + fix("half", "float", "CFG_NZ"), [zz(left), zn(right)],
     total.reshape(48, 3, 16).transpose(1, 0, 2).astype(f16))
case("nz_float", product("half", 48, 48) + "    fix.dstStride = 2 * 48;\n" + fix("float", "float", "CFG_NZ"),
     [zz(left), zn(right)], total.reshape(48, 3, 16).transpose(1, 0, 2))
case("nz_float_split", product("half", 48, 48) + "    fix.dstStride = 48;\n    fix.isChannelSplit = true;\n"
     + fix("float", "float", "CFG_NZ"), [zz(left), zn(right)], total.reshape(48, 6, 8).transpose(1, 0, 2))

# Integers: scales in the low 32 bits, an offset at bit 37, bit 46 for signed results.
left, right = numbers((32, 32), s8), numbers((32, 32), s8)
total = sums(left) @ sums(right)
HALF, QUARTER = (int(np.float32(value).view(np.uint32)) for value in (0.5, 0.25))
case("deq_half", product("int8_t", 32, 32) + f"    fix.quantPre = DEQF16;\n    fix.deqScalar = {HALF};\n"
     + fix("half", "int32_t"), [zz(left), zn(right)], (total * 0.5).astype(f16))
scaled = np.rint(total * 0.25)
case("req_int8", product("int8_t", 32, 32)
     + f"    fix.quantPre = REQ8;\n    fix.deqScalar = {QUARTER}ull | 1ull << 46 | 509ull << 37;\n"
     + fix("int8_t", "int32_t"), [zz(left), zn(right)], np.clip(scaled - 3, -128, 127).astype(s8))
case("req_uint8", product("int8_t", 32, 32)
     + f"    fix.quantPre = REQ8;\n    fix.deqScalar = {QUARTER}ull | 100ull << 37;\n"
     + fix("uint8_t", "int32_t"), [zz(left), zn(right)], np.clip(scaled + 100, 0, 255).astype(u8))
case("nz_int8", product("int8_t", 32, 32)
     + f"    fix.quantPre = REQ8;\n    fix.deqScalar = {QUARTER}ull | 1ull << 46;\n    fix.dstStride = 32;\n"
     + fix("int8_t", "int32_t", "CFG_NZ"), [zz(left), zn(right)], np.clip(scaled, -128, 127).astype(s8))

# A scale for each column, from L1 and from the fixpipe buffer.
factors = 2.0 ** np.arange(-27, 5)
columns = np.asarray(factors, f32).view(np.uint32).astype(np.uint64)
case("vdeq_half", product("int8_t", 32, 32) + """
    auto scales = l1_image<uint64_t>(c, 32);
    fix.quantPre = VDEQF16;
""" + fix("half", "int32_t", scales="scales, "), [zz(left), zn(right), columns], (total * factors).astype(f16))
case("vdeq_half_from_buffer", product("int8_t", 32, 32) + """
    auto l1 = l1_image<uint64_t>(c, 32);
    LocalTensor<uint64_t> scales(TPosition::C2PIPE2GM, 0, 32);
    DataCopy(scales, l1, DataCopyParams(1, 2, 0, 0));
    step();
    SetFixPipeConfig(scales);
    fix.quantPre = VDEQF16;
""" + fix("half", "int32_t"), [zz(left), zn(right), columns], (total * factors).astype(f16))

left, right = numbers((32, 32), f16), numbers((32, 32), f16)
total = sums(left) @ sums(right)
case("float_to_int8", product("half", 32, 32)
     + f"    fix.quantPre = QF322B8_PRE;\n    fix.deqScalar = {QUARTER}ull | 1ull << 46;\n"
     + fix("int8_t", "float"), [zz(left), zn(right)], np.clip(np.rint(total * 0.25), -128, 127).astype(s8))

case("atomic_add", product("half", 32, 32) + """
    SetAtomicAdd<float>();
    Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out), l0c, fix);
    step();
    Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out), l0c, fix);
    SetAtomicNone();
""", [zz(left), zn(right)], 2 * total + 7, 7)

# The result as left operand of another product, by way of L1.
case("to_l1", product("half", 32, 32) + """
    LocalTensor<half> l1(TPosition::A1, 0, 1024);
    fix.quantPre = F322F16;
    fix.dstStride = 32;
    Fixpipe<half, float>(l1, l0c, fix);
    step();
    LocalTensor<half> again(TPosition::A2, 0, 1024);
    for (uint32_t r = 0; r < 2; ++r) LoadData(again[r * 512], l1, LoadData2DParams(r, 2, 2, 0, 0, false, 0));
    step();
    multiply(out, again, l0b, 32, 32, 32);
""", [zz(left), zn(right)], total.astype(f16).astype(f32) @ sums(right))

# Products and Fixpipe of two tiles, ordered by the unit flag alone.
case("unit_flag", """
    auto l0a = l0_image<half>(TPosition::A2, a, 1024);
    auto l0b = l0_image<half>(TPosition::B2, b, 1024);
    LocalTensor<float> l0c(TPosition::CO1, 0, 1024);
    for (uint32_t tile = 0; tile < 2; ++tile) {
        for (uint32_t i = 0; i < 2; ++i) {
            MmadParams product;
            product.m = product.n = product.k = 32;
            product.cmatrixInitVal = i == 0;
            product.unitFlag = i == 1 ? 3 : 2;
            Mmad(l0c, l0a, l0b, product);
            PipeBarrier<PIPE_M>();
        }
        FixpipeParamsV220 fix;
        fix.nSize = fix.mSize = fix.srcStride = fix.dstStride = 32;
        fix.unitFlag = 3;
        Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out)[tile * 1024], l0c, fix);
    }
""", [zz(left), zn(right)], np.stack([2 * total, 2 * total]))


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels(BODIES, kind="AIC_ONLY", prelude=PRELUDE)


@pytest.mark.parametrize("name", BODIES)
def test_fixpipe(name: str, kernels: Kernels):
    arrays, expected, before = EXPECTED[name]
    out = np.full(expected.shape, before, expected.dtype)
    kernels.run(name, arrays, out)
    if name == "nz_int8":
        out, expected = out.reshape(32, 32), expected
    np.testing.assert_array_equal(out, expected)
