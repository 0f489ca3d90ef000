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

from tests.simulator.cuda import to_ptx
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


def reference(case: Any, random: np.random.Generator, k: int) -> tuple[np.ndarray, np.ndarray]:
    return values(case.a, (case.m, k * case.steps), random), values(case.b, (case.n, k * case.steps), random)


@pytest.mark.parametrize(("kind", "a", "m", "suffix"), [("f16", "f16", 128, ""), ("f16", "bf16", 64, ""), ("tf32", "tf32", 128, ""), ("i8", "s8", 128, ""), ("f8f6f4", "e4m3", 128, ""),
                                                        ("f16", "f16", 32, ".ws")])
def test_a_in_tensor_memory(kind: str, a: str, m: int, suffix: str) -> None:
    case = Case(kind, a, a, "s32" if kind == "i8" else "f32", m, 64, stationary=bool(suffix))
    random, k = np.random.default_rng(1), DEPTH[kind]
    left, right = reference(case, random, k)
    shared = Shared()
    of_b = shared.k_major(row_bytes(right, case.b), 128)
    packed = row_bytes(left, a).view("u4")
    tensor = np.zeros((64 + packed.shape[1], 128), "u4")
    rows = np.arange(m)
    tensor[64:, rows // 16 * 32 + rows % 16 if m == 64 else rows] = packed.T
    pairs = [(64 + 8 * i, d) for i, d in enumerate(of_b)]
    words = Setup(runner(kind, suffix, "r", "%3, "), shared, pairs, instruction(a, a, case.d, m, 64), 64, tensor=tensor).run()
    np.testing.assert_array_equal(result_of(words, case), left @ right.T)


@pytest.mark.parametrize(("kind", "vector", "a", "b"), [
    ("mxf8f6f4", "", "e4m3", "e5m2"), ("mxf8f6f4", ".scale_vec::1X", "e2m1", "e3m2"), ("mxf8f6f4", ".block32", "e5m2", "e2m3"), ("mxf4", "", "f4", "f4"),
    ("mxf4", ".scale_vec::2X", "f4", "f4"), ("mxf4nvf4", ".scale_vec::2X", "f4", "f4"), ("mxf4nvf4", ".scale_vec::4X", "f4", "f4"), ("mxf4nvf4", ".block16", "f4", "f4")])
@pytest.mark.parametrize("n", [64, 96])
def test_block_scaled(kind: str, vector: str, a: str, b: str, n: int) -> None:
    case = Case(kind, a, b, n=n)
    random = np.random.default_rng(n)
    k = 32 if kind == "mxf8f6f4" else 64
    left, right = reference(case, random, k)
    shared = Shared()
    descriptors = [shared.k_major(row_bytes(left, a), 128), shared.k_major(row_bytes(right, b), 128)]
    blocks = {"": 1 if k == 32 else 2, ".scale_vec::1X": 1, ".block32": 1, ".scale_vec::2X": 2, ".scale_vec::4X": 4, ".block16": 4}[vector]
    e4m3 = blocks == 4
    scales = [random.choice([0x30, 0x38, 0x40, 0x34], (rows, 2, blocks)) if e4m3 else random.integers(125, 130, (rows, 2, blocks)) for rows in (128, n)]
    identifier = {1: 3, 2: 2, 4: 0}[blocks]
    tensor = np.zeros((n + 16, 128), "u4")
    # step i reads its scales from column base + i on: row r in lane r % 32 (in each of the four parts), column r / 32; the steps' words overlap, so step 1 uses others
    for which, at in ((0, n), (1, n + 8)):
        for r in range(len(scales[which])):
            word = sum(int(code) << 8 * (identifier + j) for j, code in enumerate(scales[which][r, 0]))
            for part in range(4):
                tensor[at + r // 32, part * 32 + r % 32] = word
    idesc = identifier << 4 | CODES[a] << 7 | CODES[b] << 10 | n // 8 << 17 | (0 if e4m3 else 1) << 23 | 128 // 16 << 24 | identifier << 29
    operands = "%3, [%6], [%7], "
    words = Setup(runner(f"{kind}.block_scale{vector}", operands=operands), shared, list(zip(*descriptors, strict=True))[:1], idesc, n, scales=(n, n + 8), tensor=tensor).run()
    value = (lambda x: x.astype("u1").view(ml_dtypes.float8_e4m3fn).astype("f8")) if e4m3 else (lambda x: 2.0 ** (x - 127))
    factors = [np.repeat(value(s[:, 0]), k // blocks, 1) for s in scales]
    np.testing.assert_array_equal(result_of(words, case), ((left[:, :k] * factors[0]) @ (right[:, :k] * factors[1]).T).astype("f4"))


@pytest.mark.parametrize(("kind", "a", "b", "selector"), [("f16", "f16", "f16", 0), ("f16", "bf16", "bf16", 1), ("tf32", "tf32", "tf32", 0), ("i8", "s8", "u8", 0), ("f8f6f4", "e4m3", "e5m2", 0),
                                                      ("f16 ws", "f16", "f16", 1), ("mxf8f6f4.block_scale", "e4m3", "e5m2", 0)])
def test_sparse(kind: str, a: str, b: str, selector: int) -> None:
    case = Case(kind, a, b, "s32" if kind == "i8" else "f32", steps=1)
    kind, scaled, suffix = kind.removesuffix(" ws"), "block_scale" in kind, ".ws.sp" if kind.endswith("ws") else ".sp"
    random, k = np.random.default_rng(5), 64 if scaled else 2 * DEPTH[kind]
    stored, right = values(a, (128, k // 2), random), values(b, (64, k), random)
    chunk = 2 if kind == "tf32" else 4
    dense, codes = np.zeros((128, k)), np.zeros((128, k // chunk), "u4")
    for r, c in np.ndindex(codes.shape):
        if chunk == 2:
            at = int(random.integers(2))
            codes[r, c], dense[r, 2 * c + at] = (0b1110 if at else 0b0100), stored[r, c]
        else:
            first, second = sorted(random.permutation(4)[:2])
            codes[r, c] = first | second << 2
            dense[r, 4 * c + first], dense[r, 4 * c + second] = stored[r, 2 * c:2 * c + 2]
    tensor = np.zeros((80, 128), "u4")
    scales = [random.integers(125, 130, rows) for rows in (128, 64)]
    for which, at in ((0, 72), (1, 76)):
        for r, lane in np.ndindex(len(scales[which]), 4):
            tensor[at + r // 32, 32 * lane + r % 32] = scales[which][r]
    for r in range(128):
        if kind in ("f16", "tf32"):  # 16 bits for each half of K: rows r and r + 8 share a word, the halves lie 8 lanes apart
            for half in range(2):
                bits = sum(int(code) << 4 * i for i, code in enumerate(codes[r, 4 * half:4 * half + 4]))
                tensor[64 + selector, r // 16 * 16 + r % 8 + 8 * half] |= np.uint32(bits << 16 * (r // 8 % 2))
        else:
            for j in range(2):
                tensor[64 + j, r] = sum(int(code) << 4 * i for i, code in enumerate(codes[r, 8 * j:8 * j + 8]))
    shared = Shared()
    pairs = list(zip(shared.k_major(row_bytes(stored, a), 32), shared.k_major(row_bytes(right, b), 64, 64), strict=True))
    word = instruction(a, b, case.d, 128, 64, sparse=1) | selector
    source = runner(kind, suffix, operands="[%5], %3, " + ("[%6], [%7], " if scaled else ""))
    setup = Setup(source, shared, pairs, word & ~48 | 1 << 23 if scaled else word, 64, meta=64, scales=(72, 76), tensor=tensor)
    wanted = dense @ right.T
    if scaled:
        wanted = wanted * 2.0 ** (scales[0][:, None] - 127) * 2.0 ** (scales[1] - 127)
    np.testing.assert_array_equal(result_of(setup.run(), case), wanted)


def test_accumulating_with_scale_and_disabled_lanes() -> None:
    case = Case("f16", "f16", "f16", n=16, steps=1)
    random = np.random.default_rng(2)
    a, b = reference(case, random, 16)
    shared = Shared()
    pairs = list(zip(shared.k_major(row_bytes(a, "f16"), 32), shared.k_major(row_bytes(b, "f16"), 32), strict=True))
    before = random.integers(-64, 64, (16, 128)).astype("f4")
    source = runner("f16", operands="%3, {z, 0xff00, z, 1}, ", extra=", 3").replace("0xff00", "%5").replace(", 1}", ", %6}")
    setup = Setup(source, shared, pairs, instruction("f16", "f16", "f32", 128, 16), 16, keep=1, tensor=before.view("u4"))
    setup.meta, setup.scales = 0xFF00, (1, 0)
    words = setup.run()
    wanted = a @ b.T + before.T / 8
    off = np.zeros(128, bool)
    off[[*range(40, 48), 96]] = True
    wanted[off] = before.T[off]
    np.testing.assert_array_equal(result_of(words, case), wanted)


def test_pair_of_blocks() -> None:
    """cta_group::2: M = 256 and 128, each block holds half of the rows of A, half of B's and of D's."""
    for m in (256, 128):
        n, k, half = 64, 16, m // 2
        random = np.random.default_rng(m)
        a, b = random.integers(-4, 5, (m, k)).astype("f2"), random.integers(-4, 5, (n, k)).astype("f2")
        images, descriptors = [], []
        for block in range(2):
            shared = Shared()
            descriptors = [shared.k_major(row_bytes(a[half * block:half * block + half], "f16"), 32)[0], shared.k_major(row_bytes(b[n // 2 * block:n // 2 * block + n // 2], "f16"), 32)[0]]
            images.append(shared.image[:shared.end].copy())
        words = np.stack(images).view("u4")
        out = np.zeros((2, n, 128), "u4")
        source = HEAD + """
        extern "C" __global__ __cluster_dims__(2, 1, 1) void k(const uint4* S, int nS, u64 da, u64 db, u32 idesc, u32* O, int nO) {
          extern __shared__ __align__(1024) uint4 s[]; __shared__ u32 slot; __shared__ u64 bar; int t = threadIdx.x, w = t / 32, r = blockIdx.x;
          for (int i = t; i < nS; i += 128) s[i] = S[r * nS + i];
          if (!t) INIT(&bar, 1); if (!w) ASM("tcgen05.alloc.cta_group::2.sync.aligned.shared::cta.b32 [%0], %1;" :: "r"(sa(&slot)), "r"(64) : "memory");
          FENCE; BEFORE; SYNC; AFTER; ASM("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
          u64 at = sa(s) >> 4;
          if (!t && !r) { ASM("{ .reg .pred p; setp.ne.u32 p, 0, 0; tcgen05.mma.cta_group::2.kind::f16 [%0], %1, %2, %3, p; }" :: "r"(slot), "l"(da + at), "l"(db + at), "r"(idesc) : "memory");
            ASM("tcgen05.commit.cta_group::2.mbarrier::arrive::one.shared::cluster.multicast::cluster.b64 [%0], %1;" :: "r"(sa(&bar)), "h"((short)3) : "memory"); }
          TRY(&bar, 0); AFTER;
          for (int c = 0; c < nO; ++c) { u32 v; LD1(v, slot + (w << 21) + c); WAITLD; O[(r * 64 + c) * 128 + t] = v; }
          BEFORE; ASM("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory"); if (!w) ASM("tcgen05.dealloc.cta_group::2.sync.aligned.b32 %0, %1;" :: "r"(slot), "r"(64)); }"""
        used = n if m == 256 else n // 2
        simulator.launch(to_ptx(source, ARCH), "k", 2, 128, [words, words.shape[1] // 4, *descriptors, instruction("f16", "f16", "f32", m, n), out, used], shared_bytes=words.nbytes + 1024)
        found = out.view("f4")
        wanted = (a.astype("f4") @ b.astype("f4").T).reshape(2, half, n)
        if m == 256:
            np.testing.assert_array_equal(found.transpose(0, 2, 1), wanted)
        else:
            np.testing.assert_array_equal(np.concatenate([found[:, :32, :64], found[:, :32, 64:]], axis=1).transpose(0, 2, 1), wanted)


# -- loads, stores, copies

def number_of(shape: str, count: int) -> int:
    return {"32x32b": 1, "16x32bx2": 1, "16x64b": 1, "16x128b": 2, "16x256b": 4}[shape] * count


def transfer_source(shape: str, count: int, packed: bool, lane: int) -> str:
    registers = number_of(shape, count)
    names = ", ".join(f"%{i}" for i in range(registers))
    outs = ", ".join(f'"=r"(v[{i}])' for i in range(registers))
    ins = ", ".join(f'"r"(v[{i}])' for i in range(registers))
    split = f", {count * (2 if packed else 1)}" if shape == "16x32bx2" else ""
    pack, unpack = (".pack::16b", ".unpack::16b") if packed else ("", "")
    stored = ", ".join(f"%{i}" for i in range(registers))
    return HEAD + f"""
    extern "C" __global__ void k(const u32* T, int n, u32* R, u32* O) {{ __shared__ u32 slot; int t = threadIdx.x, w = t / 32; u32 v[{registers}];
      if (!w) ALLOC(&slot, 512); SYNC; u32 mine = slot + (w << 21), at = mine + ({lane} << 16);
      for (int c = 0; c < n; ++c) ST1(mine + c, T[c * 128 + t]); WAITST;
      ASM("tcgen05.ld.sync.aligned.{shape}.x{count}{pack}.b32 {{{names}}}, [%{registers}]{split};" : {outs} : "r"(at) : "memory"); WAITLD;
      for (int i = 0; i < {registers}; ++i) {{ R[t * {registers} + i] = v[i]; v[i] = v[i] ^ 0x5a5a0f0fu; }}
      ASM("tcgen05.st.sync.aligned.{shape}.x{count}{unpack}.b32 [%{registers}]{split}, {{{stored}}};" :: {ins}, "r"(at) : "memory"); WAITST;
      for (int c = 0; c < n; ++c) {{ u32 x; LD1(x, mine + c); WAITLD; O[c * 128 + t] = x; }}
      SYNC; if (!w) DEALLOC(slot, 512); }}"""


SHAPES = [(shape, count) for shape in ("32x32b", "16x64b", "16x128b", "16x256b", "16x32bx2") for count in (1, 2, 8) if number_of(shape, count) <= 32]


def places(shape: str, count: int, packed: bool) -> Callable[[int, int], tuple[int, int]]:
    """(lane, column) of register i of thread t, by the layouts of the CuTe headers (copy_traits_sm100): bits numbered row by row."""
    width = {"32x32b": 32, "16x32bx2": 64, "16x64b": 64, "16x128b": 128, "16x256b": 256}[shape] * count
    def place(t: int, i: int) -> tuple[int, int]:
        if shape == "32x32b":
            bit = width * t + 32 * i
        elif shape == "16x32bx2":
            bit = width * (t % 16) + width // 2 * (t // 16) + 32 * i
        elif shape == "16x64b":
            bit = 8 * width * (t % 2) + 32 * (t // 2 % 2) + width * (t // 4) + 64 * i
        elif shape == "16x128b":
            bit = 32 * (t % 4) + width * (t // 4) + 8 * width * (i % 2) + 128 * (i // 2)
        else:
            bit = 64 * (t % 4) + width * (t // 4) + 32 * (i % 2) + 8 * width * (i // 2 % 2) + 256 * (i // 4)
        return bit // width, bit % width // 32

    return place


@pytest.mark.sweep
@pytest.mark.parametrize(("shape", "count"), SHAPES)
@pytest.mark.parametrize("packed", [False, True])
def test_load_and_store(shape: str, count: int, packed: bool) -> None:
    lane = 16 if shape != "32x32b" and count == 2 else 0
    registers, columns = number_of(shape, count), 128
    table = np.random.default_rng(count).integers(0, 1 << 32, (columns, 128), dtype="u4")
    loaded, out = np.zeros((128, registers), "u4"), np.zeros((columns, 128), "u4")
    simulator.launch(to_ptx(transfer_source(shape, count, packed, lane), ARCH), "k", 1, 128, [table, columns, loaded, out])
    place = places(shape, count, packed)
    changed = table.copy()
    for t, i in np.ndindex(128, registers):
        row, column = place(t % 32, i)
        row += t // 32 * 32 + lane
        if packed:
            low, high = table[2 * column:2 * column + 2, row]
            word = int(low) & 0xFFFF | (int(high) & 0xFFFF) << 16
            new = word ^ 0x5A5A0F0F
            changed[2 * column:2 * column + 2, row] = new & 0xFFFF, new >> 16
        else:
            word = int(table[column, row])
            changed[column, row] = word ^ 0x5A5A0F0F
        assert loaded[t, i] == word
    np.testing.assert_array_equal(out, changed)


COPIES = [("128x256b", 128, 32), ("4x256b", 4, 32), ("128x128b", 128, 16), ("64x128b.warpx2::02_13", 64, 16), ("64x128b.warpx2::01_23", 64, 16), ("32x128b.warpx4", 32, 16)]


def copy_source(shape: str) -> str:
    return HEAD + f"""
    extern "C" __global__ void k(const uint4* S, int nS, u64 d, u32* O) {{ extern __shared__ __align__(1024) uint4 s[]; __shared__ u32 slot; __shared__ u64 bar; int t = threadIdx.x, w = t / 32;
      for (int i = t; i < nS; i += 128) s[i] = S[i];
      if (!t) INIT(&bar, 1); if (!w) ALLOC(&slot, 32); FENCE; BEFORE; SYNC; AFTER;
      u32 mine = slot + (w << 21); for (int c = 0; c < 8; ++c) ST1(mine + c, 0xdeadu); WAITST; BEFORE; SYNC; AFTER;
      if (!t) {{ ASM("tcgen05.cp.cta_group::1.{shape} [%0], %1;" :: "r"(slot), "l"(d + (sa(s) >> 4)) : "memory"); COMMIT(&bar); }}
      TRY(&bar, 0); AFTER; for (int c = 0; c < 8; ++c) {{ u32 v; LD1(v, mine + c); WAITLD; O[c * 128 + t] = v; }}
      BEFORE; SYNC; if (!w) DEALLOC(slot, 32); }}"""


@pytest.mark.parametrize(("shape", "rows", "width"), COPIES, ids=[c[0] for c in COPIES])
@pytest.mark.parametrize("packing", ["", ".b8x16.b6x16_p32", ".b8x16.b4x16_p64"])
def test_copy_from_shared_memory(shape: str, rows: int, width: int, packing: str) -> None:
    random = np.random.default_rng(rows)
    data = random.integers(0, 256, (rows, width), dtype="u1")
    shared = Shared()
    padded = np.zeros((max(8, rows), width), "u1")
    padded[:rows] = data
    at = shared.k_major(padded, 0, width)[0]
    out = np.zeros((8, 128), "u4")
    words = shared.image[:shared.end].view("u4")
    simulator.launch(to_ptx(copy_source(shape + packing), ARCH), "k", 1, 128, [words, words.size // 4, at, out], shared_bytes=words.nbytes + 1024)
    unit = data.reshape(-1, 16)
    if "b4" in packing:
        unit = np.stack([unit[:, :8] & 15, unit[:, :8] >> 4], -1).reshape(-1, 16) << 2
    elif packing:
        unit = np.array([[int.from_bytes(u.tobytes(), "little") >> 6 * i & 63 for i in range(16)] for u in unit], "u1")
    moved = unit.reshape(rows, width).view("u4")
    wanted = np.full((128, 8), 0xDEAD, "u4")
    for r in range(rows):
        lanes = {"128": [r], "4x2": [32 * r], "64x": [r, r + 64] if "02_13" in shape else [r % 32 + 64 * (r // 32), r % 32 + 64 * (r // 32) + 32],
                 "32x": [r + 32 * i for i in range(4)]}[shape[:3]]
        for lane in lanes:
            wanted[lane, :width // 4] = moved[r]
    np.testing.assert_array_equal(out.T, wanted)


def test_shift() -> None:
    table = np.random.default_rng(0).integers(0, 1 << 32, (8, 128), dtype="u4")
    out = np.zeros((8, 128), "u4")
    source = HEAD + """
    extern "C" __global__ void k(const u32* T, u32* O) { __shared__ u32 slot; __shared__ u64 bar; int t = threadIdx.x, w = t / 32; if (!t) INIT(&bar, 1);
      if (!w) { ALLOC(&slot, 32); ASM("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;"); } SYNC;
      u32 mine = slot + (w << 21); for (int c = 0; c < 8; ++c) ST1(mine + c, T[c * 128 + t]); WAITST; BEFORE; SYNC; AFTER;
      if (!t) { ASM("tcgen05.shift.cta_group::1.down [%0];" :: "r"(slot + (32 << 16)) : "memory"); COMMIT(&bar); } TRY(&bar, 0); AFTER;
      for (int c = 0; c < 8; ++c) { u32 v; LD1(v, mine + c); WAITLD; O[c * 128 + t] = v; } BEFORE; SYNC; if (!w) DEALLOC(slot, 32); }"""
    simulator.launch(to_ptx(source, ARCH), "k", 1, 128, [table, out])
    wanted = table.copy()
    wanted[:, 33:64] = table[:, 32:63]
    np.testing.assert_array_equal(out, wanted)


# -- whole kernels: the device writes the swizzled tiles itself

GEMM = HEAD + """
__device__ __forceinline__ u64 desc(const void* p) { return (u64)(sa(p) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 46 | (u64)2 << 61; }
extern "C" __global__ __launch_bounds__(160) void k(const unsigned short* A, const unsigned short* B, float* D, int N, int K) {
  __shared__ __align__(1024) unsigned short a[2][128 * 64], b[2][64 * 64]; __shared__ u32 slot; __shared__ u64 full[2], empty[2], done;
  int t = threadIdx.x, w = t / 32, m0 = blockIdx.y * 128, n0 = blockIdx.x * 64;
  if (w == 4) ALLOC(&slot, 64); if (!t) { for (int i = 0; i < 2; ++i) { INIT(&full[i], 128); INIT(&empty[i], 1); } INIT(&done, 1); }
  BEFORE; SYNC; AFTER; u32 base = slot;
  if (w < 4) { for (int s = 0; s < K / 64; ++s) { int i = s & 1; if (s > 1) { TRY(&empty[i], (s / 2 - 1) & 1); }
      for (int e = t; e < 128 * 64; e += 128) { int r = e / 64, c = e % 64; a[i][r * 64 + ((c / 8 ^ r % 8) * 8) + c % 8] = A[(m0 + r) * K + s * 64 + c]; }
      for (int e = t; e < 64 * 64; e += 128) { int r = e / 64, c = e % 64; b[i][r * 64 + ((c / 8 ^ r % 8) * 8) + c % 8] = B[(n0 + r) * K + s * 64 + c]; }
      FENCE; ASM("mbarrier.arrive.shared.b64 _, [%0];" :: "r"(sa(&full[i])) : "memory"); }
    TRY(&done, 0); AFTER; float v[16];
    for (int c = 0; c < 64; c += 16) {
      ASM("tcgen05.ld.sync.aligned.32x32b.x16.b32 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, [%16];" : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]), "=f"(v[4]),
        "=f"(v[5]), "=f"(v[6]), "=f"(v[7]), "=f"(v[8]), "=f"(v[9]), "=f"(v[10]), "=f"(v[11]), "=f"(v[12]), "=f"(v[13]), "=f"(v[14]), "=f"(v[15]) : "r"(base + (w << 21) + c)); WAITLD;
      for (int i = 0; i < 16; ++i) D[(m0 + t) * N + n0 + c + i] = v[i]; }
    BEFORE; }
  else if (t == 128) { for (int s = 0; s < K / 64; ++s) { int i = s & 1; TRY(&full[i], (s / 2) & 1);
      for (int kk = 0; kk < 4; ++kk) MMA("f16", base, desc((char*)a[i] + kk * 32), desc((char*)b[i] + kk * 32), (1u << 4) | (64u / 8 << 17) | (128u / 16 << 24), (s || kk) ? 1u : 0u);
      COMMIT(&empty[i]); } COMMIT(&done); }
  SYNC; if (w == 4) { AFTER; DEALLOC(base, 64); } }
"""


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_warp_specialised_matmul(seed: int | None) -> None:
    random = np.random.default_rng(0)
    m, n, k = 256, 128, 320
    a, b = random.integers(-4, 5, (m, k)).astype("f2"), random.integers(-4, 5, (n, k)).astype("f2")
    out = np.zeros((m, n), "f4")
    report = simulator.launch(to_ptx(GEMM, ARCH), "k", (n // 64, m // 128), 160, [a.view("u2"), b.view("u2"), out, n, k], seed=seed)
    np.testing.assert_array_equal(out, a.astype("f4") @ b.astype("f4").T)
    assert report.matrix_operations == 2 * m * n * k


SCALED_GEMM = HEAD + """
__device__ __forceinline__ u64 desc(const void* p, u32 lead, u32 stride, u64 mode) { return (u64)(sa(p) >> 4) | (u64)(lead >> 4) << 16 | (u64)(stride >> 4) << 32 | (u64)1 << 46 | mode << 61; }
extern "C" __global__ void k(const unsigned char* A, const unsigned char* B, const unsigned char* SA, const unsigned char* SB, float* D, int K) {
  __shared__ __align__(1024) unsigned char a[128 * 128], b[64 * 128], sc[512], sd[512]; __shared__ u32 slot; __shared__ u64 bar; int t = threadIdx.x, w = t / 32;
  if (!w) ALLOC(&slot, 128); if (!t) INIT(&bar, 1); BEFORE; SYNC; AFTER; u32 base = slot, phase = 0;
  for (int s = 0; s < K / 128; ++s) {
    for (int e = t; e < 128 * 128; e += 128) { int r = e / 128, c = e % 128; a[r * 128 + ((c / 16 ^ r % 8) * 16) + c % 16] = A[r * K + s * 128 + c]; }
    for (int e = t; e < 64 * 128; e += 128) { int r = e / 128, c = e % 128; b[r * 128 + ((c / 16 ^ r % 8) * 16) + c % 16] = B[r * K + s * 128 + c]; }
    for (int j = 0; j < 4; ++j) { sc[t % 32 * 16 + t / 32 * 4 + j] = SA[t * (K / 32) + s * 4 + j]; sd[t % 32 * 16 + t / 32 * 4 + j] = t < 64 ? SB[t * (K / 32) + s * 4 + j] : 0; }
    FENCE; SYNC;
    if (!t) { ASM("tcgen05.cp.cta_group::1.32x128b.warpx4 [%0], %1;" :: "r"(base + 64), "l"(desc(sc, 128, 128, 0)) : "memory");
      ASM("tcgen05.cp.cta_group::1.32x128b.warpx4 [%0], %1;" :: "r"(base + 68), "l"(desc(sd, 128, 128, 0)) : "memory");
      for (u32 kk = 0; kk < 4; ++kk) { u32 i = kk << 4 | 64u / 8 << 17 | 1u << 23 | 128u / 16 << 24 | kk << 29;
        ASM("{ .reg .pred p; setp.ne.u32 p, %4, 0; tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale.scale_vec::1X [%0], %1, %2, %3, [%5], [%6], p; }" :: "r"(base), "l"(desc(a + kk * 32, 16, 1024, 2)),
          "l"(desc(b + kk * 32, 16, 1024, 2)), "r"(i), "r"((s || kk) ? 1u : 0u), "r"(base + 64), "r"(base + 68) : "memory"); }
      COMMIT(&bar); }
    TRY(&bar, phase); phase ^= 1; }
  AFTER; for (int c = 0; c < 64; ++c) { u32 v; LD1(v, base + (w << 21) + c); WAITLD; D[t * 64 + c] = __uint_as_float(v); }
  BEFORE; SYNC; if (!w) { AFTER; DEALLOC(base, 128); } }
"""


def test_block_scaled_matmul() -> None:
    random = np.random.default_rng(4)
    k = 256
    a, b = values("e4m3", (128, k), random), values("e4m3", (64, k), random)
    scales = [random.integers(125, 130, (rows, k // 32)) for rows in (128, 64)]
    out = np.zeros((128, 64), "f4")
    raw = [x.astype(TYPES["e4m3"]).view("u1") for x in (a, b)]
    simulator.launch(to_ptx(SCALED_GEMM, ARCH), "k", 1, 128, [*raw, *[s.astype("u1") for s in scales], out, k])
    factors = [np.repeat(2.0 ** (s - 127), 32, 1) for s in scales]
    np.testing.assert_array_equal(out, ((a * factors[0]) @ (b * factors[1]).T).astype("f4"))


@pytest.mark.slow
@pytest.mark.parametrize("source", [GEMM, SCALED_GEMM, *[copy_source(c[0] + p) for c in COPIES for p in ("", ".b8x16.b4x16_p64")],
                                    *[transfer_source(s, c, p, 0) for s, c in SHAPES[::3] for p in (False, True)],
                                    *[runner(k, s, a, o) for k, s, a, o in (("f16", "", "l", "%3, "), ("tf32", "", "r", "%3, "), ("i8", ".ws", "l", "%3, "), ("f16", ".sp", "l", "[%5], %3, "),
                                      ("mxf8f6f4.block_scale.scale_vec::1X", "", "l", "%3, [%6], [%7], "), ("mxf4nvf4.block_scale.block16", "", "l", "%3, [%6], [%7], "))]])
def test_assembler_accepts_the_kernel(source: str) -> None:
    assemble(to_ptx(source, ARCH), get_target(ARCH))
