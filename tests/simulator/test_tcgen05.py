"""tcgen05 in CUDA C++ against NumPy: operands laid out on the host by the formulas of the PTX ISA, products from the definition."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.simulator.cuda import to_ptx, to_ptx_with_lines
from tilus import simulator
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import get_target

ARCH = "sm_100a"
HEAD = """
typedef unsigned u32; typedef unsigned long long u64;
__device__ __forceinline__ u32 sa(const void* p) { return (u32)__cvta_generic_to_shared(p); }
#define ASM(...) asm volatile(__VA_ARGS__)
#define ALLOC(s, n) ASM("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], %1;" :: "r"(sa(s)), "r"(n) : "memory")
#define DEALLOC(t, n) ASM("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, %1;" :: "r"(t), "r"(n))
#define BEFORE ASM("tcgen05.fence::before_thread_sync;" ::: "memory")
#define AFTER ASM("tcgen05.fence::after_thread_sync;" ::: "memory")
#define WAITST ASM("tcgen05.wait::st.sync.aligned;" ::: "memory")
#define WAITLD ASM("tcgen05.wait::ld.sync.aligned;" ::: "memory")
#define ST1(t, v) ASM("tcgen05.st.sync.aligned.32x32b.x1.b32 [%0], {%1};" :: "r"(t), "r"(v) : "memory")
#define LD1(v, t) ASM("tcgen05.ld.sync.aligned.32x32b.x1.b32 {%0}, [%1];" : "=r"(v) : "r"(t) : "memory")
#define INIT(b, n) ASM("mbarrier.init.shared.b64 [%0], %1;" :: "r"(sa(b)), "r"(n) : "memory")
#define TRY(b, p) ASM("{ .reg .pred q;\\nL: mbarrier.try_wait.parity.shared.b64 q, [%0], %1;\\n@!q bra L; }" :: "r"(sa(b)), "r"(p) : "memory")
#define COMMIT(b) ASM("tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" :: "r"(sa(b)) : "memory")
#define MMA(kind, d, a, b, i, e) ASM("{ .reg .pred p; setp.ne.u32 p, %4, 0; tcgen05.mma.cta_group::1.kind::" kind " [%0], %1, %2, %3, p; }" :: "r"(d), "l"(a), "l"(b), "r"(i), "r"(e) : "memory")
#define FENCE ASM("fence.proxy.async.shared::cta;" ::: "memory")
#define SYNC __syncthreads()
"""

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
TYPES: dict[str, Any] = {"f16": "f2", "bf16": ml_dtypes.bfloat16, "tf32": "f4", "s8": "i1", "u8": "u1", "e4m3": ml_dtypes.float8_e4m3fn,
                         "e5m2": ml_dtypes.float8_e5m2, "e3m2": ml_dtypes.float6_e3m2fn, "e2m3": ml_dtypes.float6_e2m3fn}
CODES = {"f16": 0, "bf16": 1, "tf32": 2, "u8": 0, "s8": 1, "e4m3": 0, "e5m2": 1, "e2m3": 3, "e3m2": 4, "e2m1": 5, "f4": 1}
MODES = {0: 0, 128: 2, 64: 4, 32: 6}


def values(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if kind in ("s8", "u8"):
        return random.integers(*{"s8": (-128, 128), "u8": (0, 256)}[kind], shape).astype("f8")
    return random.choice(E2M1, shape) * random.choice([-1.0, 1.0], shape)


def four_bits(matrix: np.ndarray) -> np.ndarray:
    return (np.searchsorted(E2M1, np.abs(matrix)) + 8 * np.signbit(matrix)).astype("u1")


def row_bytes(matrix: np.ndarray, kind: str) -> np.ndarray:
    """Bytes (rows, n) of a matrix whose rows are contiguous: f4 packed, e2m1 and 6-bit types in padded units of 16 elements."""
    rows = len(matrix)
    if kind == "f4":
        codes = four_bits(matrix)
        return codes[:, ::2] | codes[:, 1::2] << 4
    if kind == "e2m1":
        codes = four_bits(matrix).reshape(rows, -1, 16)
        out = np.zeros(codes.shape, "u1")
        out[..., :8] = codes[..., ::2] | codes[..., 1::2] << 4
        return out.reshape(rows, -1)
    if kind in ("e3m2", "e2m3"):
        codes = matrix.astype(TYPES[kind]).view("u1").reshape(rows, -1, 16)
        out = np.zeros(codes.shape, "u1")
        for unit in np.ndindex(codes.shape[:2]):
            number = sum(int(c) << 6 * i for i, c in enumerate(codes[unit]))
            out[unit] = np.frombuffer(number.to_bytes(16, "little"), "u1")
        return out.reshape(rows, -1)
    return np.ascontiguousarray(matrix.astype(TYPES[kind])).view("u1").reshape(rows, -1)


class Shared:
    """An image of shared memory and the descriptors of the operands in it."""

    def __init__(self) -> None:
        self.image = np.full(160 * 1024, 0xAB, "u1")
        self.end = 0

    def reserve(self, count: int) -> int:
        start = (self.end + 1023) // 1024 * 1024
        self.end = start + count
        return start

    def k_major(self, data: np.ndarray, swizzle: int, step: int = 32) -> list[int]:
        """Store rows of bytes; a descriptor for every ``step`` bytes of K."""
        rows, width = data.shape
        if swizzle == 0:  # core matrices of 8 rows of 16 bytes; those along K first
            start = self.reserve(rows * width)
            for r, c in np.ndindex(rows, width // 16):
                at = start + r // 8 * (width // 16 * 128) + c * 128 + r % 8 * 16
                self.image[at:at + 16] = data[r, 16 * c:16 * c + 16]
            return [descriptor(start + c // 16 * 128, 128, width // 16 * 128, 0) for c in range(0, width, step)]
        slabs = -(-width // swizzle)
        start = self.reserve(slabs * rows * swizzle)
        for r, c in np.ndindex(rows, width // 16):
            at = start + 16 * c // swizzle * rows * swizzle + r * swizzle + 16 * c % swizzle
            at ^= (at >> 7) % (swizzle // 16) << 4
            self.image[at:at + 16] = data[r, 16 * c:16 * c + 16]
        return [descriptor(start + c // swizzle * rows * swizzle + c % swizzle, rows * swizzle, 8 * swizzle, MODES[swizzle]) for c in range(0, width, step)]

    def mn_major(self, matrix: np.ndarray, kind: str, swizzle: int, k: int) -> list[int]:
        """Store a matrix (rows, depth) with its rows contiguous in memory; a descriptor for every k of depth."""
        rows, depth = matrix.shape
        size = np.dtype(TYPES[kind]).itemsize
        data = np.ascontiguousarray(matrix.T.astype(TYPES[kind])).view("u1").reshape(depth, rows * size)
        wide = swizzle or 16
        start = self.reserve(depth * rows * size)
        for d, c in np.ndindex(depth, rows * size // 16):
            unit, inside = 16 * c // wide, 16 * c % wide
            at = start + unit * depth * wide + d * wide + inside
            at ^= (at >> 7) % (wide // 16) << 4 if swizzle else 0
            self.image[at:at + 16] = data[d, 16 * c:16 * c + 16]
        # 8 deep by wide is one unit of the pattern; along the rows a unit lies depth * wide further
        one, other = (depth * wide, 8 * wide) if swizzle else (8 * wide, depth * wide)
        return [descriptor(start + d * wide, one, other, MODES[swizzle]) for d in range(0, depth, k)]


def descriptor(start: int, leading: int, stride: int, mode: int) -> int:
    return start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | 1 << 46 | mode << 61


def instruction(a: str, b: str, d: str, m: int, n: int, *, neg_a: int = 0, neg_b: int = 0, ta: int = 0, tb: int = 0, sat: int = 0, sparse: int = 0) -> int:
    return (sparse << 2 | sat << 3 | {"f16": 0, "f32": 1, "s32": 2}[d] << 4 | CODES[a] << 7 | CODES[b] << 10 | neg_a << 13 | neg_b << 14 | ta << 15 | tb << 16
            | n // 8 << 17 | m // 16 << 24)


def runner(kind: str, suffix: str = "", a: str = "l", operands: str = "%0{d}, {a}, %2, %3", extra: str = "") -> str:
    """A kernel that fills shared and tensor memory, issues products and writes tensor memory out."""
    source_a = "[%1]" if a == "r" else "%1"
    text = f"tcgen05.mma{suffix}.cta_group::1.kind::{kind} [%0], {source_a}, %2, {operands}p{extra};"
    return HEAD + f"""
    extern "C" __global__ void k(const uint4* S, int nS, const u32* T, int nT, const u64* P, int nP, u32* O, int nO, u32 idesc, u32 target, u32 keep, u32 meta, u32 scaleA, u32 scaleB) {{
      extern __shared__ __align__(1024) uint4 s[]; __shared__ u32 slot; __shared__ u64 bar; int t = threadIdx.x, w = t / 32;
      for (int i = t; i < nS; i += 128) s[i] = S[i];
      if (!t) INIT(&bar, 1); if (!w) ALLOC(&slot, 512); FENCE; BEFORE; SYNC; AFTER;
      u32 base = slot, mine = base + (w << 21);
      for (int c = 0; c < nT; ++c) ST1(mine + c, T[c * 128 + t]);
      WAITST; BEFORE; SYNC; AFTER;
      u32 at = sa(s) >> 4;
      if (!t) {{ for (int i = 0; i < nP; ++i) {{ u64 a = P[2 * i] {"+ at" if a == "l" else "+ base"}, b = P[2 * i + 1] + at;
        ASM("{{ .reg .pred p; .reg .b32 z; mov.u32 z, 0; setp.ne.u32 p, %4, 0; {text} }}" :: "r"(base + target), "{a}"({"a" if a == "l" else "(u32)a"}), "l"(b), "r"(idesc), "r"((i || keep) ? 1u : 0u),
          "r"(base + meta + 2 * i * {1 if ".sp" in suffix else 0}), "r"(base + scaleA + i), "r"(base + scaleB + i) : "memory"); }}
        COMMIT(&bar); }}
      TRY(&bar, 0); AFTER;
      for (int c = 0; c < nO; ++c) {{ u32 v; LD1(v, mine + c); WAITLD; O[c * 128 + t] = v; }}
      BEFORE; SYNC; if (!w) DEALLOC(base, 512); }}"""


@dataclass
class Setup:
    """What a launch of :func:`runner` needs, and its result."""

    source: str
    shared: Shared
    pairs: list[tuple[int, int]]
    idesc: int
    columns: int
    target: int = 0
    keep: int = 0
    meta: int = 0
    scales: tuple[int, int] = (0, 0)
    tensor: np.ndarray = field(default_factory=lambda: np.zeros((1, 128), "u4"))

    def run(self, **options: Any) -> np.ndarray:
        """Tensor memory (column, lane) afterwards."""
        out = np.zeros((self.columns, 128), "u4")
        words = self.shared.image[:(self.shared.end + 15) // 16 * 16].view("u4")
        launch = [words, words.size // 4, self.tensor, len(self.tensor), np.array(self.pairs, "u8"), len(self.pairs), out, self.columns, self.idesc, self.target,
                  self.keep, self.meta, *self.scales]
        simulator.launch(to_ptx(self.source, ARCH), "k", 1, 128, launch, shared_bytes=words.nbytes + 1024, **options)
        return out


def words_to(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "f16":
        return (values & 0xFFFF).astype("u2").view("f2").astype("f8")
    return np.ascontiguousarray(values).view({"f32": "f4", "s32": "i4"}[kind]).astype("f8")


@dataclass(frozen=True)
class Case:
    kind: str
    a: str
    b: str
    d: str = "f32"
    m: int = 128
    n: int = 64
    swizzle: tuple[int, int] = (128, 128)
    major: tuple[int, int] = (0, 0)
    steps: int = 2
    negate: tuple[int, int] = (0, 0)
    saturate: int = 0
    stationary: bool = False


DEPTH = {"f16": 16, "tf32": 8, "i8": 32, "f8f6f4": 32}
CASES = [
    Case("f16", "f16", "f16"), Case("f16", "bf16", "bf16", n=256, steps=4), Case("f16", "f16", "f16", "f16", n=16), Case("f16", "f16", "f16", m=64, n=24),
    *[Case("f16", "f16", "f16", n=32, swizzle=(x, y)) for x, y in ((0, 128), (32, 64), (64, 0))],
    *[Case("f16", "f16", "f16", n=128, swizzle=s, major=m) for s, m in (((128, 128), (1, 1)), ((64, 128), (1, 0)), ((128, 32), (0, 1)), ((0, 0), (1, 1)))],
    Case("f16", "bf16", "bf16", "f32", 64, negate=(1, 0)), Case("f16", "f16", "f16", negate=(1, 1)), Case("tf32", "tf32", "tf32", steps=4),
    Case("tf32", "tf32", "tf32", m=64, n=8, swizzle=(64, 32)), Case("i8", "s8", "u8", "s32"), Case("i8", "u8", "u8", "s32", n=32, steps=3, saturate=1),
    *[Case("f8f6f4", x, y) for x, y in (("e4m3", "e5m2"), ("e2m1", "e4m3"), ("e3m2", "e2m3"), ("e5m2", "e2m1"))], Case("f8f6f4", "e4m3", "e4m3", "f16", m=64),
    Case("f8f6f4", "e4m3", "e5m2", n=128, major=(1, 1)), *[Case("f16", "f16", "f16", m=m, n=n, stationary=True) for m, n in ((128, 64), (64, 128), (32, 64))],
]


def result_of(words: np.ndarray, case: Any) -> np.ndarray:
    """D (m, n) from tensor memory (column, lane) by the ISA's figures of the data path."""
    m, n = case.m, case.n
    out = np.zeros((m, n), "u4")
    for r, c in np.ndindex(m, n):
        if m == 128:
            lane, column = r, c
        elif case.stationary:
            lane, column = r + m * (c // (n * m // 128)), c % (n * m // 128)
        else:
            lane, column = r // 16 * 32 + r % 16, c
        out[r, c] = words[column, lane]
    return words_to(out, case.d)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}-{c.a}-{c.b}-{c.d}-m{c.m}n{c.n}-sw{c.swizzle}-major{c.major}{'-ws' if c.stationary else ''}{'-neg' if any(c.negate) else ''}")
def test_product(case: Case) -> None:
    random = np.random.default_rng(case.m + case.n)
    k = DEPTH[case.kind]
    a, b = values(case.a, (case.m, k * case.steps), random), values(case.b, (case.n, k * case.steps), random)
    shared = Shared()
    descriptors = []
    for matrix, kind, swizzle, major in ((a, case.a, case.swizzle[0], case.major[0]), (b, case.b, case.swizzle[1], case.major[1])):
        descriptors.append(shared.mn_major(matrix, kind, swizzle, k) if major else shared.k_major(row_bytes(matrix, kind), swizzle))
    idesc = instruction(case.a, case.b, case.d, case.m, case.n, neg_a=case.negate[0], neg_b=case.negate[1], ta=case.major[0], tb=case.major[1], sat=case.saturate)
    source = runner(case.kind, ".ws" if case.stationary else "", operands="%3, ")
    columns = case.n * (case.m if case.stationary else 128) // 128
    words = Setup(source, shared, list(zip(*descriptors, strict=True)), idesc, columns).run() if case.m != 64 or case.stationary else partial(source, shared, descriptors, idesc, columns)
    wanted = a @ b.T * (-1) ** sum(case.negate)
    if case.d == "f16":
        steps = [a[:, i:i + k] @ b[:, i:i + k].T for i in range(0, a.shape[1], k)]
        wanted = np.zeros_like(wanted)
        for part in steps:
            wanted = (wanted + part).astype("f2").astype("f8")
    np.testing.assert_array_equal(result_of(words, case), wanted)


def partial(source: str, shared: Shared, descriptors: list[list[int]], idesc: int, columns: int) -> np.ndarray:
    """M = 64 leaves half of the lanes unwritten: fill them first."""
    return Setup(source, shared, list(zip(*descriptors, strict=True)), idesc, columns, tensor=np.zeros((columns, 128), "u4")).run()
