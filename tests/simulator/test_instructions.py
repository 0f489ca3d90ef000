"""Single instructions that C++ seldom reaches, each against its definition in NumPy or Python integers."""

# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501, ISC004
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tilus import simulator
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import get_target

N = 256
RNG = np.random.default_rng(5)
INTS = RNG.integers(0, 1 << 32, (3, N), dtype="u4")
INTS[:, :8] = np.array([0, 1, 31, 32, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 33])
SMALL = RNG.integers(0, 40, (3, N), dtype="u4")
FLOATS = (RNG.standard_normal((3, N)) * 3).astype("f4")
FLOATS[0, :6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-41]
HALVES = (RNG.standard_normal((3, 2 * N)) * 2).astype("f2")
WIDE = (RNG.standard_normal((3, N)) * 5).astype("f8")


def i(x: Any) -> list[int]:
    return [int(v) for v in x]


def each(function: Callable[..., int]) -> Callable[..., np.ndarray]:
    return lambda *args: np.array([function(*[int(v) for v in row]) & 0xFFFFFFFF for row in zip(*args, strict=True)], "u4")


def s32(x: int) -> int:
    return x - (1 << 32) if x >> 31 else x


def s24(x: int) -> int:
    return (x & 0xFFFFFF) - ((x >> 23 & 1) << 24)


def halves(function: Callable[..., Any], dtype: str = "u2") -> Callable[..., np.ndarray]:
    return lambda *args: np.ascontiguousarray(np.asarray(function(*[np.ascontiguousarray(x).view(dtype) for x in args])).astype(dtype)).view("u4")


def f(function: Callable[..., Any], dtype: str = "f4") -> Callable[..., np.ndarray]:
    return lambda *args: np.asarray(function(*[x.view("f4") for x in args])).astype(dtype).view("u4" if dtype != "f8" else "u8")


def bf(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(ml_dtypes.bfloat16)


def fns(mask: int, base: int, offset: int) -> int:
    base, offset = base & 31, s32(offset)
    order = range(base, 32) if offset >= 0 else range(base, -1, -1)
    found = [b for b in order if mask >> b & 1]
    if offset == 0:
        return base if mask >> base & 1 else -1
    return found[abs(offset) - 1] if len(found) >= abs(offset) else -1


def clamp(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


def prmt_mode(mode: str) -> Callable[[int, int, int], int]:
    def fn(a: int, b: int, c: int) -> int:
        pool = (b << 32 | a).to_bytes(8, "little")
        c &= 3
        order = {"f4e": [c, c + 1, c + 2, c + 3], "b4e": [c, c - 1, c - 2, c - 3], "rc8": [c] * 4,
                 "ecl": [max(c, k) for k in range(4)], "ecr": [min(c, k) for k in range(4)], "rc16": [2 * (c & 1), 2 * (c & 1) + 1] * 2}[mode]
        return int.from_bytes(bytes(pool[k & 7] for k in order), "little")

    return fn


def pack_sat(bits: int, signed: bool, with_c: bool) -> Callable[..., int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def fn(a: int, b: int, c: int = 0) -> int:
        m = (1 << bits) - 1
        return (clamp(s32(a), low, high) & m) << bits | (clamp(s32(b), low, high) & m) | (c << 2 * bits if with_c else 0)

    return fn


def szext(wrap: bool, signed: bool) -> Callable[[int, int], int]:
    def fn(a: int, b: int) -> int:
        n = b & 31 if wrap else min(b, 32)
        v = a & ((1 << n) - 1)
        return v - (1 << n) if signed and n and v >> (n - 1) else v

    return fn


def f16(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """Of packed halves computed in float64."""
    return lambda *args: np.asarray(function(*[np.ascontiguousarray(x).view("f2").astype("f8") for x in args])).astype("f2").view("u4")


def b16(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda *args: np.asarray(function(*[bf(x).astype("f8") for x in args])).astype("f4").astype(ml_dtypes.bfloat16).view("u4")


# instruction (%a %b %c in, %d out, %p: a < b unsigned), inputs, definition, ulps
ROWS: list[tuple[str, np.ndarray, Callable[..., np.ndarray], float]] = [
    ("sub.sat.s32 %d, %a, %b;", INTS, each(lambda a, b, c: clamp(s32(a) - s32(b), -2 ** 31, 2 ** 31 - 1)), 0),
    ("add.s16x2 %d, %a, %b;", INTS, halves(lambda a, b, c: a + b), 0),
    ("min.u16x2 %d, %a, %b;", INTS, halves(lambda a, b, c: np.minimum(a, b)), 0),
    ("max.s16x2 %d, %a, %b;", INTS, halves(lambda a, b, c: np.maximum(a, b), "i2"), 0),
    ("max.relu.s16x2 %d, %a, %b;", INTS, halves(lambda a, b, c: np.maximum(np.maximum(a, b), 0), "i2"), 0),
    ("min.relu.s32 %d, %a, %b;", INTS, each(lambda a, b, c: max(0, min(s32(a), s32(b)))), 0),
    ("mad.hi.sat.s32 %d, %a, %b, %c;", INTS, each(lambda a, b, c: clamp((s32(a) * s32(b) >> 32) + s32(c), -2 ** 31, 2 ** 31 - 1)), 0),
    ("mul24.hi.s32 %d, %a, %b;", INTS, each(lambda a, b, c: s24(a) * s24(b) >> 16), 0),
    ("mul24.lo.u32 %d, %a, %b;", INTS, each(lambda a, b, c: (a & 0xFFFFFF) * (b & 0xFFFFFF)), 0),
    ("mad24.hi.u32 %d, %a, %b, %c;", INTS, each(lambda a, b, c: ((a & 0xFFFFFF) * (b & 0xFFFFFF) >> 16) + c), 0),
    ("mad24.lo.s32 %d, %a, %b, %c;", INTS, each(lambda a, b, c: s24(a) * s24(b) + c), 0),
    ("bmsk.clamp.b32 %d, %a, %b;", SMALL, each(lambda a, b, c: ((1 << min(b, 32)) - 1) << min(a, 32)), 0),
    ("bmsk.wrap.b32 %d, %a, %b;", SMALL, each(lambda a, b, c: ((1 << (b & 31)) - 1) << (a & 31)), 0),
    ("szext.clamp.s32 %d, %a, %b;", np.stack([INTS[0], SMALL[0], SMALL[1]]), each(lambda a, b, c: szext(False, True)(a, b)), 0),
    ("szext.wrap.u32 %d, %a, %b;", np.stack([INTS[0], SMALL[0], SMALL[1]]), each(lambda a, b, c: szext(True, False)(a, b)), 0),
    ("fns.b32 %d, %a, %b, %c;", np.stack([INTS[0], SMALL[0] & 31, SMALL[1] - 8]), each(fns), 0),
    ("lop3.and.b32 %d|%q, %a, %b, %c, 0x1e, %p; selp.b32 %d, 1, 0, %q;", INTS, each(lambda a, b, c: int((a ^ (b | c)) != 0 and a < b)), 0),
    *[(f"prmt.b32.{m} %d, %a, %b, %c;", INTS, each(prmt_mode(m)), 0.0) for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")],
    ("cvt.pack.sat.s16.s32 %d, %a, %b;", INTS, each(lambda a, b, c: pack_sat(16, True, False)(a, b)), 0),
    ("cvt.pack.sat.u8.s32.b32 %d, %a, %b, %c;", INTS, each(pack_sat(8, False, True)), 0),
    ("cvt.pack.sat.s4.s32.b32 %d, %a, %b, %c;", INTS, each(pack_sat(4, True, True)), 0),
    ("slct.b32.s32 %d, %a, %b, %c;", INTS, each(lambda a, b, c: a if s32(c) >= 0 else b), 0),
    ("set.lt.u32.s32 %d, %a, %b;", INTS, each(lambda a, b, c: -(s32(a) < s32(b))), 0),
    ("set.ge.and.f32.u32 %d, %a, %b, %p;", INTS, lambda a, b, c: np.where((a >= b) & (a < b), np.float32(1), np.float32(0)).view("u4"), 0),
    ("red.global.add.u32 [%o], %a; ld.global.u32 %d, [%o];", INTS, lambda a, b, c: a, 0),
    ("red.global.or.b32 [%o], %a; ld.global.u32 %d, [%o];", INTS, lambda a, b, c: a, 0),
    ("atom.global.exch.b32 %d, [%o], %a; ld.global.u32 %d, [%o];", INTS, lambda a, b, c: a, 0),
    ("div.approx.f32 %d, %a, %b;", FLOATS, f(lambda a, b, c: a.astype("f8") / b), 2),
    ("div.full.ftz.f32 %d, %b, %c;", FLOATS, f(lambda a, b, c: b.astype("f8") / c), 2),
    ("sqrt.approx.f32 %d, %a;", FLOATS, f(lambda a, b, c: np.sqrt(a.astype("f8"))), 1),
    ("lg2.approx.f32 %d, %b;", FLOATS, f(lambda a, b, c: np.log2(b.astype("f8"))), 2),
    ("sin.approx.f32 %d, %b;", FLOATS, f(lambda a, b, c: np.sin(b.astype("f8"))), 2),
    ("cos.approx.ftz.f32 %d, %b;", FLOATS, f(lambda a, b, c: np.cos(b.astype("f8"))), 2),
    ("mad.rn.f32 %d, %b, %c, %b;", FLOATS, f(lambda a, b, c: b.astype(np.longdouble) * c + b), 0),
    ("testp.subnormal.f32 %q, %a; selp.b32 %d, 1, 0, %q;", FLOATS, lambda a, b, c: ((np.abs(a.view("f4")) < 2.0 ** -126) & (a.view("f4") != 0)).astype("u4"), 0),
    ("testp.infinite.f32 %q, %a; selp.b32 %d, 1, 0, %q;", FLOATS, lambda a, b, c: np.isinf(a.view("f4")).astype("u4"), 0),
    ("max.NaN.f32 %d, %a, %b; set.nan.u32.f32 %d, %d, %d;", FLOATS, lambda a, b, c: np.where(np.isnan(a.view("f4")), 0xFFFFFFFF, 0).astype("u4"), 0),
    ("min.xorsign.abs.f32 %d, %b, %c;", FLOATS, f(lambda a, b, c: np.copysign(np.minimum(np.abs(b), np.abs(c)), np.where(np.signbit(b) ^ np.signbit(c), -1.0, 1.0))), 0),
    ("slct.f32.f32 %d, %b, %c, %a;", FLOATS, f(lambda a, b, c: np.where(a >= 0, b, c)), 0),
    ("cvt.rn.relu.f16x2.f32 %d, %b, %c;", FLOATS, lambda a, b, c: np.stack([np.maximum(c.view("f4"), 0), np.maximum(b.view("f4"), 0)], 1).astype("f2").view("u4")[:, 0], 0),
    ("cvt.rz.bf16x2.f32 %d, %b, %c;", FLOATS, lambda a, b, c: (b & np.uint32(0xFFFF0000)) | (c >> np.uint32(16)), 0),
    ("fma.rn.f16x2 %d, %a, %b, %c;", HALVES.view("u4"), f16(lambda a, b, c: a * b + c), 0),
    ("fma.rn.relu.f16x2 %d, %a, %b, %c;", HALVES.view("u4"), f16(lambda a, b, c: np.maximum(a * b + c, 0)), 0),
    ("fma.rn.bf16x2 %d, %a, %b, %c;", HALVES.view("u4"), b16(lambda a, b, c: a * b + c), 0),
    ("max.bf16x2 %d, %a, %b;", FLOATS.view("u4"), b16(lambda a, b, c: np.fmax(a, b)), 0),
    ("neg.f16x2 %d, %a;", HALVES.view("u4"), lambda a, b, c: a ^ np.uint32(0x80008000), 0),
    ("ex2.approx.f16x2 %d, %a;", HALVES.view("u4"), f16(lambda a, b, c: np.exp2(a)), 0),
    ("tanh.approx.f16x2 %d, %a;", HALVES.view("u4"), f16(lambda a, b, c: np.tanh(a)), 0),
    ("set.lt.f16x2.f16x2 %d, %a, %b;", HALVES.view("u4"), f16(lambda a, b, c: (a < b) * 1.0), 0),
    ("setp.gt.f16x2 %q|%s, %a, %b; selp.b32 %d, 1, 0, %q; @%s add.u32 %d, %d, 2;", HALVES.view("u4"),
     lambda a, b, c: ((a.view("f2") > b.view("f2")).reshape(-1, 2) * [1, 2]).sum(axis=1).astype("u4"), 0),
    ("getctarank.shared::cluster.u32 %d, %z; isspacep.shared %q, %g; @%q add.u32 %d, %d, 5;", INTS, lambda a, b, c: np.full(N, 5, "u4"), 0),
    ("nanosleep.u32 20; membar.gl; fence.proxy.alias; prefetch.global.L2 [%o]; mov.u32 %d, %a;", INTS, lambda a, b, c: a, 0),
    ("elect.sync %d|%q, 0xffffffff; selp.b32 %d, 7, %d, %q;", INTS, lambda a, b, c: np.where(np.arange(N) % 32 == 0, 7, 0).astype("u4"), 0),
    ("vote.sync.uni.pred %q, %p, 0xffffffff; selp.b32 %d, 1, 0, %q;", INTS, lambda a, b, c: np.repeat([len({*w}) == 1 for w in (a < b).reshape(-1, 32)], 32).astype("u4"), 0),
    ("barrier.sync 3; barrier.red.popc.aligned.u32 %d, 2, 64, %p;", INTS, lambda a, b, c: np.repeat((a < b).reshape(-1, 64).sum(axis=1), 64).astype("u4"), 0),
    ("movmatrix.sync.aligned.m8n8.trans.b16 %d, %a;", INTS, lambda a, b, c: np.ascontiguousarray(a.view("u2").reshape(-1, 8, 8).transpose(0, 2, 1)).view("u4").reshape(-1), 0),
    ("{ .reg .b64 x, y; mov.b64 x, {%b, %c}; mov.b64 y, {%c, %b}; add.rn.f32x2 x, x, y; mul.rn.f32x2 x, x, y; mov.b64 {%d, _}, x; }", FLOATS,
     f(lambda a, b, c: (b + c) * c), 0),
    ("{ .reg .f64 x; cvt.f64.f32 x, %b; rcp.rn.f64 x, x; cvt.rn.f32.f64 %d, x; }", FLOATS, f(lambda a, b, c: 1 / b.astype("f8")), 0),
    ("{ .reg .f64 x, y; cvt.f64.f32 x, %b; mul.f64 x, x, x; rsqrt.approx.f64 y, x; cvt.rn.f32.f64 %d, y; }", FLOATS, f(lambda a, b, c: 1 / np.abs(b.astype("f8"))), 1),
    ("{ .reg .b64 m, t; .shared .align 8 .b64 bar; setp.eq.u32 %q, %tx, 0; @%q mbarrier.init.shared.b64 [bar], 65; bar.sync 0; "
     "@%q mbarrier.arrive_drop.shared.b64 t, [bar]; mbarrier.arrive.shared.b64 m, [bar]; mbarrier.pending_count.b64 %d, m; and.b32 %d, %d, 0; "
     "bar.sync 0; mbarrier.test_wait.shared.b64 %q, [bar], m; selp.b32 %d, 1, 0, %q; }", INTS, lambda a, b, c: np.ones(N, "u4"), 0),
    ("{ .reg .b32 x, y, z, w, p; .shared .align 128 .b8 tile[1024]; mov.u32 p, tile; mad.lo.u32 x, %tx, 16, p; sub.u32 y, %tx, 32; setp.ge.u32 %q, %tx, 32; "
     "@%q mad.lo.u32 x, y, 16, p; @%q add.u32 x, x, 512; mov.u32 p, x; stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [p], {%a, %b, %c, %a}; "
     "bar.warp.sync 0xffffffff; ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {x, y, z, w}, [p]; mov.u32 %d, z; }", INTS, lambda a, b, c: c, 0),
]


def text(line: str) -> str:
    clusters = "sm_90" if "u16x2" in line or "s16x2" in line or "relu.s32" in line or "cluster" in line or "elect" in line or "stmatrix" in line or "xorsign" in line \
        else "sm_80"
    target = "sm_100" if "f32x2" in line and "cvt" not in line else clusters
    return f""".version 8.8\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd, .param .u64 po)
{{
  .reg .b32 %a, %b, %c, %d, %t, %tx, %z, %w; .reg .pred %p, %q, %s; .reg .b64 %pa, %pb, %pc, %pd, %o, %off, %g; .shared .b32 some;
  mov.u32 %tx, %tid.x; mov.u32 %t, %ctaid.x; mad.lo.u32 %t, %t, 64, %tx; mul.wide.u32 %off, %t, 4; mov.u32 %z, some; cvt.u64.u32 %g, %z; cvta.shared.u64 %g, %g;
  ld.param.u64 %pa, [pa]; ld.param.u64 %pb, [pb]; ld.param.u64 %pc, [pc]; ld.param.u64 %pd, [pd]; ld.param.u64 %o, [po];
  add.u64 %pa, %pa, %off; add.u64 %pb, %pb, %off; add.u64 %pc, %pc, %off; add.u64 %pd, %pd, %off; add.u64 %o, %o, %off;
  ld.global.b32 %a, [%pa]; ld.global.b32 %b, [%pb]; ld.global.b32 %c, [%pc]; setp.lt.u32 %p, %a, %b;
  {line}
  st.global.b32 [%pd], %d;
  ret;
}}
"""


def run(line: str, inputs: np.ndarray, check: bool = True) -> np.ndarray:
    out, other = np.zeros(N, "u4"), np.zeros(N, "u4")
    arrays = [np.ascontiguousarray(x).view("u4") for x in inputs]
    simulator.launch(text(line), "k", N // 64, 64, [*arrays, out, other])
    return out


@pytest.mark.parametrize(("line", "inputs", "definition", "ulps"), ROWS, ids=[r[0].split(" ", 1)[0].strip("{") + f"-{n}" for n, r in enumerate(ROWS)])
def test_instruction(line: str, inputs: np.ndarray, definition: Callable[..., np.ndarray], ulps: float) -> None:
    verify(line, inputs, definition, ulps)


def verify(line: str, inputs: np.ndarray, definition: Callable[..., np.ndarray], ulps: float) -> None:
    """Run an instruction on every input and compare with its definition, bit for bit or within ulps."""
    out = run(line, inputs)
    arrays = [np.ascontiguousarray(x).view("u4") for x in inputs]
    with np.errstate(all="ignore"):
        wanted = definition(*arrays)
        if ulps or inputs is FLOATS:
            x, y = out.view("f4"), wanted.view("f4")
            good = (out == wanted) | (np.isnan(x) & np.isnan(y)) | (np.abs(x.astype("f8") - y) <= ulps * np.spacing(np.abs(y)).astype("f8"))
        else:
            good = out == wanted
    where = np.flatnonzero(~good)[:4]
    assert not where.size, (where, [a[where] for a in arrays], out[where], wanted[where])


@pytest.mark.slow
@pytest.mark.parametrize("line", [row[0] for row in ROWS])
def test_assembler_accepts_the_test(line: str) -> None:
    source = text(line)
    assemble(source, get_target("sm_100a" if "sm_100" in source else "sm_90a"))


def test_seeded_perturbation_stays_inside_the_bound() -> None:
    exact = run("ex2.approx.f32 %d, %b;", FLOATS)
    arrays = [np.ascontiguousarray(x).view("u4") for x in FLOATS]
    out = np.zeros(N, "u4")
    simulator.launch(text("ex2.approx.f32 %d, %b;"), "k", N // 64, 64, [*arrays, out, np.zeros(N, "u4")], seed=1)
    difference = np.abs(out.astype("i8") - exact.astype("i8"))
    assert difference.max() == 1
    assert (difference == 0).any()
