"""Small CUDA C++ kernels of one expression each, compiled by NVRTC and compared with NumPy's definition."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator

N = 517


def ints(dtype: str, seed: int, low: int | None = None, high: int | None = None) -> np.ndarray:
    info = np.iinfo(dtype)
    random = np.random.default_rng(seed)
    low, high = info.min if low is None else low, info.max if high is None else high
    values = random.integers(low, high, N, dtype=dtype, endpoint=True)
    values[:6] = [low, high, max(low, 0), max(low, min(high, 1)), low + (high - low) // 2, high - 1]
    return values


def floats(dtype: str, seed: int, scale: float = 4.0) -> np.ndarray:
    values = (np.random.default_rng(seed).standard_normal(N) * scale).astype(dtype)
    values[:6] = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan]
    return values


@dataclass
class Case:
    name: str
    expression: str
    inputs: list[tuple[str, np.ndarray]]
    result: str
    dtype: str
    expected: Callable[..., Any]
    ulps: float = 0
    arch: str = "sm_80"
    head: str = ""


U, I, F, D = "unsigned", "int", "float", "double"
u1, u2, u3 = ints("u4", 1), ints("u4", 2), ints("u4", 3)
i1, i2, i3 = ints("i4", 4), ints("i4", 5), ints("i4", 6)
l1, l2 = ints("i8", 7), ints("i8", 8)
q1, q2 = ints("u8", 9), ints("u8", 10)
s1, s2 = ints("i2", 11), ints("i2", 12)
shift = ints("u4", 13, 0, 40)
f1, f2, f3 = floats("f4", 14), floats("f4", 15), floats("f4", 16)
d1, d2, d3 = floats("f8", 17), floats("f8", 18), floats("f8", 19)
h1, h2, h3 = floats("f2", 20), floats("f2", 21), floats("f2", 22)
positive = np.abs(floats("f4", 23)) + np.float32(0.1)
nonzero = np.where(i2 == 0, 7, i2)
unonzero = np.where(u2 == 0, 7, u2)
lnonzero = np.where(l2 == 0, 7, l2)


def c_div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([int(abs(int(x)) // abs(int(y))) * (1 if (x < 0) == (y < 0) else -1)
                     for x, y in zip(a, b, strict=True)], dtype=object)


def wrap(values: Any, dtype: str) -> np.ndarray:
    bits = np.dtype(dtype).itemsize * 8
    return np.array([int(v) & ((1 << bits) - 1) for v in values], dtype=f"u{bits // 8}").view(dtype)


def each(function: Callable[..., int], dtype: str) -> Callable[..., np.ndarray]:
    return lambda *args: wrap([function(*[int(v) for v in row]) for row in zip(*args, strict=True)], dtype)


def dot4(a: int, b: int, c: int) -> int:
    parts = zip(a.to_bytes(4, "little", signed=True), b.to_bytes(4, "little", signed=True), strict=True)
    return c + sum((x - 256 * (x > 127)) * (y - 256 * (y > 127)) for x, y in parts)


def prmt(a: int, b: int, s: int) -> int:
    pool = (b << 32 | a).to_bytes(8, "little")
    out = []
    for i in range(4):
        n = s >> 4 * i & 15
        byte = pool[n & 7]
        out.append((255 if byte & 128 else 0) if n & 8 else byte)
    return int.from_bytes(bytes(out), "little")


def fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    from fractions import Fraction

    out = []
    for x, y, z in zip(a, b, c, strict=True):
        if not np.isfinite([x, y, z]).all():
            out.append(x * y + z)
        else:
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
            out.append(float(exact) if exact else float(x * y + z))
    return np.array(out)


def clz(x: int, bits: int) -> int:
    return bits - x.bit_length()


HALF = "#include <cuda_fp16.h>\n"
BF = "#include <cuda_bf16.h>\n"
ASM = "[&]{{ {t} r; asm(\"{code}\" : \"={k}\"(r) : {ins}); return r; }}()"


def asm(code: str, t: str, k: str, ins: str) -> str:
    return ASM.format(code=code, t=t, k=k, ins=ins)


AB_R = '"r"(a), "r"(b)'
ABC_R = '"r"(a), "r"(b), "r"(c)'

CASES = [
    Case("add_sub_mul_int", "a + b * c - (a ^ b)", [(I, i1), (I, i2), (I, i3)], I, "i4",
         lambda a, b, c: wrap(a.astype(object) + b.astype(object) * c.astype(object) - (a ^ b).astype(object), "i4")),
    Case("mul64", "a * b + 5", [("long long", l1), ("long long", l2)], "long long", "i8",
         lambda a, b: wrap(a.astype(object) * b.astype(object) + 5, "i8")),
    Case("div_int", "a / b", [(I, i1), (I, nonzero)], I, "i4", lambda a, b: wrap(c_div(a, b), "i4")),
    Case("rem_int", "a % b", [(I, i1), (I, nonzero)], I, "i4",
         lambda a, b: wrap(a.astype(object) - c_div(a, b) * b.astype(object), "i4")),
    Case("div_unsigned", "a / b + a % b", [(U, u1), (U, unonzero)], U, "u4", lambda a, b: a // b + a % b),
    Case("div_long", "a / b", [("long long", l1), ("long long", lnonzero)], "long long", "i8",
         lambda a, b: wrap(c_div(a, b), "i8")),
    Case("mulhi", "__mulhi(a, b)", [(I, i1), (I, i2)], I, "i4", each(lambda a, b: a * b >> 32, "i4")),
    Case("umulhi", "__umulhi(a, b)", [(U, u1), (U, u2)], U, "u4", each(lambda a, b: a * b >> 32, "u4")),
    Case("mul64hi", "__mul64hi(a, b)", [("long long", l1), ("long long", l2)], "long long", "i8",
         each(lambda a, b: a * b >> 64, "i8")),
    Case("umul64hi", "__umul64hi(a, b)", [("unsigned long long", q1), ("unsigned long long", q2)],
         "unsigned long long", "u8", each(lambda a, b: a * b >> 64, "u8")),
    Case("mul_wide", "(long long)a * b", [(I, i1), (I, i2)], "long long", "i8", each(lambda a, b: a * b, "i8")),
    Case("mul24", "__mul24(a, b)", [(I, i1), (I, i2)], I, "i4",
         each(lambda a, b: ((a & 0xFFFFFF) - ((a >> 23 & 1) << 24)) * ((b & 0xFFFFFF) - ((b >> 23 & 1) << 24)), "i4")),
    Case("short_arithmetic", "(short)(a * b + a)", [("short", s1), ("short", s2)], "short", "i2",
         each(lambda a, b: a * b + a, "i2")),
    Case("min_max", "min(max(a, b), c)", [(I, i1), (I, i2), (I, i3)], I, "i4",
         lambda a, b, c: np.minimum(np.maximum(a, b), c)),
    Case("abs_sad", "__sad(a, b, (unsigned)abs(c))", [(I, i1), (I, i2), (I, i3)], U, "u4",
         each(lambda a, b, c: abs(a - b) + abs(c), "u4")),
    Case("shifts", asm("shl.b32 %0, %1, %2;", U, "r", AB_R), [(U, u1), (U, shift)], U, "u4",
         each(lambda a, b: a << min(b, 32), "u4")),
    Case("shift_right_signed", asm("shr.s32 %0, %1, %2;", I, "r", AB_R), [(I, i1), (U, shift)], I, "i4",
         each(lambda a, b: a >> min(b, 32), "i4")),
    Case("shift_right_64", asm("shr.u64 %0, %1, %2;", "unsigned long long", "l", '"l"(a), "r"(b)'),
         [("unsigned long long", q1), (U, shift * 2)], "unsigned long long", "u8", each(lambda a, b: a >> b, "u8")),
    Case("funnel_left", "__funnelshift_l(a, b, c)", [(U, u1), (U, u2), (U, u3)], U, "u4",
         each(lambda a, b, c: (b << 32 | a) << (c & 31) >> 32, "u4")),
    Case("funnel_right_clamp", "__funnelshift_rc(a, b, c)", [(U, u1), (U, u2), (U, shift)], U, "u4",
         each(lambda a, b, c: (b << 32 | a) >> min(c, 32), "u4")),
    Case("popc_clz_ffs", "__popc(a) * 10000 + __clz(a) * 100 + __ffs(a)", [(U, u1 >> (u2 & 31))], I, "i4",
         each(lambda a: bin(a).count("1") * 10000 + clz(a, 32) * 100 + (a & -a).bit_length(), "i4")),
    Case("clz64_brev", "(long long)__brevll(a) + __clzll(a) + __popcll(a)", [("unsigned long long", q1)], "long long",
         "i8", each(lambda a: int(f"{a:064b}"[::-1], 2) + clz(a, 64) + bin(a).count("1"), "i8")),
    Case("brev_prmt", "__byte_perm(__brev(a), b, c)", [(U, u1), (U, u2), (U, u3)], U, "u4",
         each(lambda a, b, c: prmt(int(f"{a:032b}"[::-1], 2), b, c & 0x7777), "u4")),
    Case("prmt_sign", asm("prmt.b32 %0, %1, %2, %3;", U, "r", ABC_R), [(U, u1), (U, u2), (U, u3)], U, "u4",
         each(prmt, "u4")),
    Case("bfe_unsigned", asm("bfe.u32 %0, %1, %2, %3;", U, "r", ABC_R), [(U, u1), (U, u2 & 31), (U, u3 & 31)], U, "u4",
         each(lambda a, b, c: a >> b & ((1 << c) - 1), "u4")),
    Case("bfe_signed", asm("bfe.s32 %0, %1, %2, %3;", I, "r", ABC_R), [(I, i1), (U, u2 & 31), (U, u3 & 31)], I, "i4",
         each(lambda a, b, c: (a >> b) if b + c > 32 and c else
              ((a >> b & ((1 << c) - 1)) - ((a >> (b + c - 1) & 1) << c) if c else 0), "i4")),
    Case("bfi", asm("bfi.b32 %0, %1, %2, %3, 9;", U, "r", ABC_R), [(U, u1), (U, u2), (U, u3 & 31)], U, "u4",
         each(lambda a, b, c: b & ~(0x1FF << c) | (a & 0x1FF) << c, "u4")),
    Case("bfind_fns", asm("bfind.u32 %0, %1;", U, "r", '"r"(a)') + " + " + asm("bfind.s32 %0, %1;", U, "r", '"r"(a)'),
         [(U, u1 >> (u2 & 31))], U, "u4",
         each(lambda a: a.bit_length() - 1 + ((a if a < 2 ** 31 else 2 ** 32 - 1 - a).bit_length() - 1), "u4")),
    Case("lop3", asm("lop3.b32 %0, %1, %2, %3, 0x6a;", U, "r", ABC_R), [(U, u1), (U, u2), (U, u3)], U, "u4",
         each(lambda a, b, c: sum(((0x6A >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1))) & 1) << i
                                  for i in range(32)), "u4")),
    Case("dp4a", "__dp4a(a, b, c)", [(I, i1), (I, i2), (I, i3)], I, "i4", each(dot4, "i4")),
    Case("dp2a_unsigned", "__dp2a_lo(a, b, c)", [(U, u1), (U, u2), (U, u3)], U, "u4",
         each(lambda a, b, c: c + (a & 0xFFFF) * (b & 255) + (a >> 16) * (b >> 8 & 255), "u4")),
    Case("carry_chain", asm("{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.cc.u32 t, t, %3; madc.hi.u32 %0, %1, %2, t; }", U, "r",
                             ABC_R), [(U, u1), (U, u2), (U, u3)], U, "u4",
         each(lambda a, b, c: (a * b >> 32) + (lambda t: (t & 0xFFFFFFFF) + (t >> 32))(
             ((a + b) & 0xFFFFFFFF) + c + (a + b >> 32)), "u4")),
    Case("borrow_chain", asm("{ .reg .u32 t; sub.cc.u32 t, %1, %2; subc.u32 %0, t, %3; }", U, "r", ABC_R),
         [(U, u1), (U, u2), (U, u3)], U, "u4", each(lambda a, b, c: a - b - c - (a < b), "u4")),
    Case("add_sat", asm("add.sat.s32 %0, %1, %2;", I, "r", AB_R), [(I, i1), (I, i2)], I, "i4",
         each(lambda a, b: max(-2 ** 31, min(2 ** 31 - 1, a + b)), "i4")),
    Case("select_compare", "a < b ? c : (a == c ? b : a)", [(I, i1), (I, i2), (I, i3)], I, "i4",
         lambda a, b, c: np.where(a < b, c, np.where(a == c, b, a))),
    Case("float_compare", "(a < b) + 2 * (a >= b) + 4 * (a != b) + 8 * !(a > b) + 16 * isnan(a)", [(F, f1), (F, f2)], I,
         "i4", lambda a, b: (a < b) + 2 * (a >= b) + 4 * (a != b) + 8 * ~(a > b) + 16 * np.isnan(a)),
    Case("float_arithmetic", "__fadd_rn(__fmul_rn(a, b), __fdiv_rn(c, b))", [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: a * b + c / b),
    Case("fma", "__fmaf_rn(a, b, c)", [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: (a.astype(np.longdouble) * b + c).astype("f4")),
    Case("fma_directed", "__fmaf_ru(a, b, c)", [(F, np.nan_to_num(np.abs(f1), posinf=7)), (F, np.nan_to_num(np.abs(f2), posinf=3)), (F, np.nan_to_num(np.abs(f3), posinf=5))], F, "f4",
         lambda a, b, c: np.array([(lambda e, r: r if r >= e or not np.isfinite(e) else np.nextafter(r, np.float32(np.inf)))(
             x.astype("f8") * y + z, np.float32(x.astype("f8") * y + z)) for x, y, z in zip(a, b, c, strict=True)], "f4")),
    Case("fma64", "__fma_rn(a, b, c)", [(D, d1), (D, d2), (D, d3)], D, "f8", fma64),
    Case("fmin_fmax", "fmaxf(fminf(a, b), c)", [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: np.fmax(np.fmin(a, b), c)),
    Case("sqrt_rcp", "__fsqrt_rn(a) + __frcp_rn(a)", [(F, positive)], F, "f4",
         lambda a: np.sqrt(a) + np.float32(1) / a),
    Case("rsqrt", "rsqrtf(a)", [(F, positive)], F, "f4", lambda a: 1 / np.sqrt(a.astype("f8")), 2),
    Case("exp2_log2", "exp2f(b) * log2f(a + 1.5f)", [(F, positive), (F, np.clip(f2, -20, 20))], F, "f4",
         lambda a, b: np.exp2(b.astype("f8")) * np.log2((a + np.float32(1.5)).astype("f8")), 8),
    Case("expf", "expf(a)", [(F, np.clip(f1, -30, 30))], F, "f4", lambda a: np.exp(a.astype("f8")), 4),
    Case("logf_powf", "logf(a) * powf(a, 0.75f)", [(F, positive)], F, "f4",
         lambda a: np.log(a.astype("f8")) * a.astype("f8") ** 0.75, 16),
    Case("sinf_cosf", "sinf(a) * cosf(b)", [(F, np.nan_to_num(f1, posinf=3, neginf=1)), (F, np.nan_to_num(f2, posinf=2))],
         F, "f4", lambda a, b: np.sin(a.astype("f8")) * np.cos(b.astype("f8")), 8),
    Case("tanhf", asm("tanh.approx.f32 %0, %1;", F, "f", '"f"(a)'), [(F, f1)], F, "f4",
         lambda a: np.tanh(a.astype("f8")), 2),
    Case("erff", "erff(a)", [(F, f1 / 4)], F, "f4",
         lambda a: np.array([__import__("math").erf(x) for x in a]), 8),
    Case("double_math", "exp(a) / (1.0 + b * b) + sqrt(fabs(a))", [(D, np.clip(d1, -9, 9)), (D, d2)], D, "f8",
         lambda a, b: np.exp(a) / (1.0 + b * b) + np.sqrt(np.abs(a)), 4),
    Case("double_to_int", "(int)a + (long long)(b * 1e6)", [(D, np.nan_to_num(d1, posinf=9, neginf=-9)),
                                                           (D, np.nan_to_num(d2, posinf=9, neginf=-9))],
         "long long", "i8", lambda a, b: a.astype("i4") + (b * 1e6).astype("i8")),
    Case("float_to_int_rounding", "__float2int_rn(a) * 1000 + __float2int_ru(a) * 100 + __float2int_rd(a) * 10 + "
         "__float2int_rz(a)", [(F, np.nan_to_num(f1, posinf=11.5, neginf=-11.5))], I, "i4",
         lambda a: np.rint(a) * 1000 + np.ceil(a) * 100 + np.floor(a) * 10 + np.trunc(a)),
    Case("float_to_int_saturates", "(int)a", [(F, np.concatenate([[3e9, -3e9, np.nan, np.inf, 2147483520.0], f1[5:] * 0])
                                               .astype("f4")[:N])], I, "i4",
         lambda a: np.where(np.isnan(a), 0, np.clip(np.nan_to_num(a.astype("f8")), -2 ** 31, 2 ** 31 - 1))),
    Case("int_to_float", "(float)a + __uint2float_rz(b)", [(I, i1), (U, u2)], F, "f4",
         lambda a, b: a.astype("f4") + np.where(b.astype("f4").astype("f8") > b, np.nextafter(b.astype("f4"), np.float32(0)),
                                                b.astype("f4"))),
    Case("long_to_float", "(float)a + (float)b", [("long long", l1), ("unsigned long long", q1)], F, "f4",
         lambda a, b: a.astype("f4") + b.astype("f4")),
    Case("cvt_sat_u8", asm("cvt.sat.u8.s32 %0, %1;", U, "r", '"r"(a)'), [(I, i1 >> 20)], U, "u4",
         each(lambda a: max(0, min(255, a)), "u4")),
    Case("half_arithmetic", "__hfma(a, b, __hadd(a, c))", [("__half", h1), ("__half", h2), ("__half", h3)], "__half", "f2",
         lambda a, b, c: (a.astype("f8") * b.astype("f8") + (a + c).astype("f8")).astype("f2"), head=HALF),
    Case("half2_arithmetic", "__low2half(__hmul2(__halves2half2(a, b), __halves2half2(c, a)))",
         [("__half", h1), ("__half", h2), ("__half", h3)], "__half", "f2", lambda a, b, c: a * c, head=HALF),
    Case("half_conversion", "__half2float(a) + __half2float(__float2half_rn(b))", [("__half", h1), (F, f2)], F, "f4",
         lambda a, b: a.astype("f4") + b.astype("f2").astype("f4"), head=HALF),
    Case("half_compare_max", "__hmax(a, __hlt(b, c) ? b : c)", [("__half", h1), ("__half", h2), ("__half", h3)], "__half",
         "f2", lambda a, b, c: np.fmax(a, np.where(b < c, b, c)), head=HALF),
    Case("half_exp", "hexp2(a)", [("__half", np.clip(h1, -10, 10))], "__half", "f2",
         lambda a: np.exp2(a.astype("f8")), 1, head=HALF),
    Case("bf16_roundtrip", "__bfloat162float(__float2bfloat16_rn(a)) + __bfloat162float(__float2bfloat16_rn(b))",
         [(F, f1), (F, f2)], F, "f4", lambda a, b: bf16(a) + bf16(b), head=BF),
    Case("bf16_fma", "__bfloat162float(__hfma(__float2bfloat16_rn(a), __float2bfloat16_rn(b), __float2bfloat16_rn(c)))",
         [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: bf16((bf16(a).astype("f8") * bf16(b) + bf16(c)).astype("f4")), head=BF),
    Case("tf32", asm("cvt.rna.tf32.f32 %0, %1;", U, "r", '"f"(a)'), [(F, f1)], U, "u4",
         lambda a: np.where(np.isnan(a), 0x7FFFFFFF,
                            np.where(np.isinf(a), a.view("u4"), (a.view("u4") + 0x1000) & 0xFFFFE000))),
    Case("fp8_e4m3", asm("{ .reg .b16 t; cvt.rn.satfinite.e4m3x2.f32 t, %1, %2; cvt.u32.u16 %0, t; }", U, "r",
                         '"f"(a), "f"(b)'), [(F, f1), (F, f2 * 100)], U, "u4",
         lambda a, b: fp8(a) << 8 | fp8(b), arch="sm_90"),
    Case("fp8_decode", asm("{ .reg .b16 t; cvt.u16.u32 t, %1; cvt.rn.f16x2.e4m3x2 %0, t; }", U, "r", '"r"(a)'),
         [(U, (u1 & 0xFFFF))], U, "u4", lambda a: fp8_value(a >> 8) << 16 | fp8_value(a & 255), arch="sm_90"),
    Case("packed_f32x2", "[&]{ unsigned long long r, x, y; asm(\"mov.b64 %0, {%1, %2};\" : \"=l\"(x) : \"f\"(a), \"f\"(b));"
         "asm(\"mov.b64 %0, {%1, %1};\" : \"=l\"(y) : \"f\"(c)); asm(\"fma.rn.f32x2 %0, %1, %2, %1;\" : \"=l\"(r) : \"l\"(x), "
         "\"l\"(y)); return __uint_as_float((unsigned)(r >> 32)); }()", [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: (b.astype(np.longdouble) * c + b).astype("f4"), arch="sm_100"),
    Case("video_halves", "__vadd2(a, b) ^ __vmaxs2(a, c)", [(U, u1), (U, u2), (U, u3)], U, "u4",
         lambda a, b, c: (a.view("u2") + b.view("u2")).view("u4")
         ^ np.maximum(a.view("i2"), c.view("i2")).view("u4"), arch="sm_90"),
    Case("copysign_classify", "copysignf(a, b) + (isinf(c) ? 1.0f : 0.0f) + (isfinite(c) ? 2.0f : 0.0f)",
         [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: np.copysign(a, b) + np.where(np.isinf(c), 1, 0) + np.where(np.isfinite(c), np.float32(2), 0)),
    Case("round_functions", "rintf(a) + floorf(b) * 3.0f + truncf(c) * 7.0f + ceilf(a)", [(F, f1), (F, f2), (F, f3)], F, "f4",
         lambda a, b, c: np.rint(a) + np.floor(b) * np.float32(3) + np.trunc(c) * np.float32(7) + np.ceil(a), 1),
    Case("saturate", "__saturatef(a) + __saturatef(b)", [(F, f1), (F, f2)], F, "f4",
         lambda a, b: np.clip(np.nan_to_num(a, nan=0, posinf=1, neginf=0), 0, 1)
         + np.clip(np.nan_to_num(b, nan=0, posinf=1, neginf=0), 0, 1)),
]


def bf16(x: np.ndarray) -> np.ndarray:
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16).astype("f4")


def fp8(x: np.ndarray) -> np.ndarray:
    import ml_dtypes

    clipped = np.where(np.isnan(x), x, np.clip(x, -448, 448))
    code = clipped.astype(ml_dtypes.float8_e4m3fn).view("u1").astype("u4")
    return np.where(np.isnan(x), 0x7F, code).astype("u4")


def fp8_value(code: np.ndarray) -> np.ndarray:
    import ml_dtypes

    value = code.astype("u1").view(ml_dtypes.float8_e4m3fn).astype("f2")
    return np.where(np.isnan(value), 0x7FFF, value.view("u2")).astype("u4")


def kernel(case: Case) -> str:
    params = ", ".join(f"const {t}* p{i}" for i, (t, _) in enumerate(case.inputs))
    loads = " ".join(f"{t} {'abc'[i]} = p{i}[i];" for i, (t, _) in enumerate(case.inputs))
    return (f"{case.head}extern \"C\" __global__ void k({params}, {case.result}* out, int n) {{\n"
            f"  int i = blockIdx.x * blockDim.x + threadIdx.x;\n  if (i >= n) return;\n  {loads}\n"
            f"  out[i] = ({case.result})({case.expression});\n}}\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_elementwise(case: Case) -> None:
    ptx = to_ptx(kernel(case), case.arch)
    out = np.zeros(N, case.dtype)
    arrays = [np.ascontiguousarray(values) for _, values in case.inputs]
    simulator.launch(ptx, "k", (N + 127) // 128, 128, [*arrays, out, N])
    with np.errstate(all="ignore"):
        wanted = np.asarray(case.expected(*arrays))
        reference = wanted.astype(case.dtype)
    if out.dtype.kind == "f":
        same_nan = np.isnan(out) == np.isnan(reference)
        with np.errstate(all="ignore"):
            close = np.abs(out.astype("f8") - wanted.astype("f8")) <= case.ulps * np.spacing(np.abs(reference)).astype("f8")
        good = same_nan & (np.isnan(out) | (out == reference) | (close & bool(case.ulps)))
    else:
        good = out == reference
    where = np.flatnonzero(~good)
    assert not where.size, (where[:5], [a[where[:5]] for a in arrays], out[where[:5]], reference[where[:5]])


def test_the_corpus_is_large_enough() -> None:
    assert len({case.name for case in CASES}) >= 60
