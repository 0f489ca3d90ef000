"""mma.sp in CUDA C++ against NumPy: fragments, metadata and selectors by the formulas of the PTX ISA."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.diagnostics import CheckError, UserError
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import get_target

BITS = {"f16": 16, "bf16": 16, "tf32": 32, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "e4m3": 8, "e5m2": 8, "e2m1": 8, "e3m2": 8, "e2m3": 8, "e2m1x2": 4}
FLOATS = {"f16": "f2", "bf16": ml_dtypes.bfloat16, "tf32": "f4", "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
          "e3m2": ml_dtypes.float6_e3m2fn, "e2m3": ml_dtypes.float6_e2m3fn}
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


@dataclass(frozen=True)
class Case:
    shape: tuple[int, int]  # k, and how many threads of four hold the metadata
    result: str
    a: str
    b: str
    kind: str = ""
    arch: str = "sm_80"
    ordered: bool = False
    selector: int = 0

    @property
    def k(self) -> int:
        return self.shape[0]


CASES = [Case((16, 1), "f32", "f16", "f16", selector=s) for s in range(4)] + [Case((32, 2), "f16", "f16", "f16", selector=s) for s in range(2)] + [
    Case((16, 1), "f32", "bf16", "bf16", selector=2), Case((32, 2), "f32", "bf16", "bf16", ordered=True), Case((16, 1), "f16", "f16", "f16", ordered=True, selector=1),
    *[Case((8, 1), "f32", "tf32", "tf32", selector=s) for s in (0, 3)], *[Case((16, 2), "f32", "tf32", "tf32", selector=s, ordered=s == 1) for s in range(2)],
    Case((32, 2), "s32", "u8", "s8", selector=1), Case((32, 2), "s32", "s8", "s8", ordered=True), Case((64, 4), "s32", "s8", "u8"),
    Case((64, 2), "s32", "s4", "u4", selector=1), Case((64, 2), "s32", "u4", "u4", ordered=True), Case((128, 4), "s32", "s4", "s4"),
    Case((64, 4), "f32", "e4m3", "e5m2", arch="sm_89"), Case((64, 4), "f32", "e5m2", "e4m3", arch="sm_89", ordered=True),
    Case((64, 4), "f32", "e2m1", "e3m2", "f8f6f4", "sm_120a", True), Case((64, 4), "f16", "e2m3", "e4m3", "f8f6f4", "sm_120a", True),
    Case((64, 4), "f32", "e4m3", "e2m3", "mxf8f6f4.block_scale.scale_vec::1X", "sm_120a", True),
    Case((128, 4), "f32", "e2m1x2", "e2m1x2", "mxf4.block_scale.scale_vec::2X", "sm_120a", True),
    Case((128, 4), "f32", "e2m1x2", "e2m1x2", "mxf4nvf4.block_scale.scale_vec::4X", "sm_120a", True),
    Case((128, 4), "f32", "e2m1x2", "e2m1x2", "mxf4nvf4.block_scale.scale_vec::2X", "sm_120a", True),
]


def codes(values: np.ndarray, kind: str) -> np.ndarray:
    """Bit patterns of values."""
    if kind.startswith("e2m1"):
        index = np.array([E2M1.index(abs(v)) for v in values.reshape(-1)]).reshape(values.shape) + 8 * np.signbit(values)
        return index << (2 if kind == "e2m1" else 0)
    if kind in FLOATS:
        typed = values.astype(FLOATS[kind])
        return typed.view(f"u{typed.itemsize}")
    return values.astype("i8") & ((1 << BITS[kind]) - 1)


def randoms(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if kind[0] in "su":
        bits = BITS[kind]
        low = -(1 << bits - 1) if kind[0] == "s" else 0
        return random.integers(low, low + (1 << bits), shape).astype("f8")
    return random.choice(E2M1, shape) * random.choice([-1.0, 1.0], shape)


def words(matrix: np.ndarray, kind: str, rows: int) -> np.ndarray:
    """Registers (32, n) of a fragment of rows x depth elements: row 8 i + lane / 4, elements (lane % 4) e + j of every 4 e."""
    e = 32 // BITS[kind]
    out = np.zeros((32, rows // 8 * matrix.shape[1] // (4 * e)), "u8")
    for row in range(rows):
        for column in range(matrix.shape[1]):
            lane = row % 8 * 4 + column % (4 * e) // e
            register = column // (4 * e) * (rows // 8) + row // 8
            out[lane, register] |= np.uint64(int(codes(matrix[row, column:column + 1], kind)[0]) << column % e * BITS[kind])
    return out.astype("u4")


def sparse_matrix(case: Case, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The dense A, its stored elements, and the metadata codes (16, chunks)."""
    unit, chunk = {True: (2, 8), False: (1, 4)}[BITS[case.a] == 4]
    if case.a == "tf32":
        chunk = 2
    stored = randoms(case.a, (16, case.k // 2), random)
    dense = np.zeros((16, case.k))
    meta = np.zeros((16, case.k // chunk), "u4")
    for row in range(16):
        for c in range(case.k // chunk):
            if chunk == 2:
                at = int(random.integers(2))
                meta[row, c] = 0b1110 if at else 0b0100
                dense[row, 2 * c + at] = stored[row, c]
                continue
            first, second = random.permutation(4)[:2]
            if case.ordered:
                first, second = min(first, second), max(first, second)
            meta[row, c] = first | second << 2
            for n, at in enumerate((first, second)):
                here = stored[row, (2 * c + n) * unit:(2 * c + n + 1) * unit]
                dense[row, chunk * c + at * unit:chunk * c + (at + 1) * unit] = here
    return dense, stored, meta


def metadata(meta: np.ndarray, case: Case) -> np.ndarray:
    """The metadata word of each lane; lanes that do not contribute hold rubbish."""
    out = np.full(32, 0xA5A5A5A5, "u8")
    threads = case.shape[1]
    for lane in range(32):
        t = lane % 4 - case.selector * threads
        if not 0 <= t < threads:
            continue
        low = lane // 4
        if BITS[case.a] >= 16:
            parts = [*meta[low, 4 * t:4 * t + 4], *meta[low + 8, 4 * t:4 * t + 4]]
        else:
            parts = list(meta[low + 8 * (t % 2), 8 * (t // 2):8 * (t // 2) + 8])
        out[lane] = sum(int(p) << 4 * i for i, p in enumerate(parts))
    return out.astype("u4")


def source(case: Case, counts: tuple[int, int, int]) -> str:
    na, nb, nc = counts
    scaled = "block_scale" in case.kind
    head = "mma.sp::ordered_metadata" if case.ordered else "mma.sp"
    kind = f".kind::{case.kind}" if case.kind else ""
    ta, tb = case.a.removesuffix("x2"), case.b.removesuffix("x2")
    scale = (".ue4m3" if "4X" in case.kind else ".ue8m0") if scaled else ""
    opcode = f"{head}.sync.aligned.m16n8k{case.k}.row.col{kind}.{case.result}.{ta}.{tb}.{case.result}{scale}"
    registers = [", ".join(f"%{i}" for i in range(start, start + count)) for start, count in ((0, nc), (nc, na), (nc + na, nb))]
    tail = f", %{nc + na + nb + 1}, {{0, 1}}, %{nc + na + nb + 2}, {{0, 2}}" if scaled else ""
    text = f"{opcode} {{{registers[0]}}}, {{{registers[1]}}}, {{{registers[2]}}}, {{{registers[0]}}}, %{nc + na + nb}, {case.selector}{tail};"
    kind_c = "f" if case.result == "f32" else "r"
    outs = ", ".join(f'"+{kind_c}"(c[{i}])' for i in range(nc))
    ins = ", ".join([f'"r"(A[t * {na} + {i}])' for i in range(na)] + [f'"r"(B[t * {nb} + {i}])' for i in range(nb)]
                    + ['"r"(E[t])', '"r"(S[2 * t])', '"r"(S[2 * t + 1])'][:3 if scaled else 1])
    element = "float" if case.result == "f32" else "unsigned"
    return f"""extern "C" __global__ void k(const unsigned* A, const unsigned* B, const unsigned* E, const unsigned* S, {element}* C) {{
      int t = threadIdx.x; {element} c[{nc}]; for (int i = 0; i < {nc}; ++i) c[i] = C[t * {nc} + i];
      asm volatile("{text}" : {outs} : {ins});
      for (int i = 0; i < {nc}; ++i) C[t * {nc} + i] = c[i]; }}"""


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"k{c.k}-{c.result}-{c.a}-{c.b}-{c.selector}{'-ordered' if c.ordered else ''}")
def test_sparse_product(case: Case) -> None:
    random = np.random.default_rng(case.k + case.selector)
    dense, stored, meta = sparse_matrix(case, random)
    b = randoms(case.b, (case.k, 8), random)
    c = random.integers(-9, 9, (16, 8)).astype("f8")
    wa, wb, we = words(stored, case.a, 16), words(b.T, case.b, 8), metadata(meta, case)
    lane = np.arange(32)
    rows = np.stack([lane // 4, lane // 4, lane // 4 + 8, lane // 4 + 8], 1)
    columns = np.stack([lane % 4 * 2, lane % 4 * 2 + 1] * 2, 1)
    scales = np.zeros((32, 2), "u4")
    left, right = dense, b
    if "block_scale" in case.kind:
        blocks = int(case.kind[-2])
        exponents = [random.integers(125, 130, (n, blocks)) if blocks < 4 else random.choice([0x30, 0x38, 0x40, 0x34], (n, blocks)) for n in (16, 8)]
        value = (lambda x: 2.0 ** (x - 127)) if blocks < 4 else (lambda x: x.astype("u1").view(ml_dtypes.float8_e4m3fn).astype("f8"))
        for row in range(16):  # thread selector 1 of A: threads 2 and 3; of B: thread 2
            scales[row % 8 * 4 + 2 + row // 8, 0] = sum(int(x) << 8 * i for i, x in enumerate(exponents[0][row]))
        for column in range(8):
            scales[column * 4 + 2, 1] = sum(int(x) << 8 * i for i, x in enumerate(exponents[1][column]))
        left = dense * np.repeat(value(exponents[0]), case.k // blocks, 1)
        right = b * np.repeat(value(exponents[1]), case.k // blocks, 1).T
    values = c[rows, columns]
    out = values.astype({"f32": "f4", "s32": "i4", "f16": "f2"}[case.result])
    held = np.ascontiguousarray(out).view("f4" if case.result == "f32" else "u4")
    ptx = to_ptx(source(case, (wa.shape[1], wb.shape[1], held.shape[1])), case.arch)
    simulator.launch(ptx, "k", 1, 32, [wa, wb, we, scales, held])
    wanted = (left @ right + c)[rows, columns].astype(out.dtype)
    np.testing.assert_array_equal(held.view(out.dtype), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"k{c.k}-{c.result}-{c.a}-{c.b}-{c.selector}{'-ordered' if c.ordered else ''}")
def test_assembler_accepts_the_instruction(case: Case) -> None:
    counts = (case.k * BITS[case.a] // 128, case.k * BITS[case.b] // 128, 2 if case.result == "f16" else 4)
    assemble(to_ptx(source(case, counts), case.arch), get_target(case.arch))


@pytest.mark.parametrize(("code", "ordered"), [(0b0101, False), (0b0001, True), (0b1111, True)])
def test_invalid_metadata_is_a_fault(code: int, ordered: bool) -> None:
    case = Case((16, 1), "f32", "f16", "f16", ordered=ordered)
    zeros = np.zeros((32, 4), "u4")
    meta = np.full(32, 0x44444444, "u4")
    ptx = to_ptx(source(case, (2, 2, 4)))
    arguments = [zeros, zeros, meta, zeros, np.zeros((32, 4), "f4")]
    simulator.launch(ptx, "k", 1, 32, arguments)
    meta[8] = meta[8] & 0xFFFFFFF0 | code
    with pytest.raises(CheckError, match=r"metadata .* row 2"):
        simulator.launch(ptx, "k", 1, 32, arguments)


def test_selector_outside_of_its_range() -> None:
    case = Case((32, 2), "f32", "f16", "f16", selector=2)
    with pytest.raises(UserError, match="sparsity selector 2"):
        simulator.launch(to_ptx(source(case, (4, 4, 4))), "k", 1, 32, [np.zeros((32, 4), "u4")] * 4 + [np.zeros((32, 4), "f4")])


@pytest.mark.parametrize(("a", "b", "result"), [("e2m1", "e4m3", "f32"), ("e3m2", "e2m3", "f32"), ("e5m2", "e2m1", "f16"), ("e2m3", "e3m2", "f32")])
def test_dense_product_of_narrow_floats(a: str, b: str, result: str) -> None:
    random = np.random.default_rng(2)
    left, right, c = randoms(a, (16, 32), random), randoms(b, (32, 8), random), random.integers(-9, 9, (16, 8)).astype("f8")
    case = Case((32, 1), result, a, b, "f8f6f4", "sm_120a")
    lane = np.arange(32)
    rows, columns = np.stack([lane // 4, lane // 4, lane // 4 + 8, lane // 4 + 8], 1), np.stack([lane % 4 * 2, lane % 4 * 2 + 1] * 2, 1)
    values = c[rows, columns].astype("f4" if result == "f32" else "f2")
    held = np.ascontiguousarray(values).view("f4" if result == "f32" else "u4")
    text = source(case, (4, 2, held.shape[1])).replace("mma.sp.", "mma.").replace(f", %{held.shape[1] + 6}, 0;", ";")
    simulator.launch(to_ptx(text, case.arch), "k", 1, 32, [words(left, a, 16), words(right.T, b, 8), np.zeros(32, "u4"), np.zeros((32, 2), "u4"), held])
    np.testing.assert_array_equal(held.view(values.dtype), (left @ right + c)[rows, columns].astype(values.dtype))


GROUP = [Case((32, 2), "f32", "f16", "f16", selector=s) for s in range(2)] + [Case((32, 2), "f16", "f16", "f16"), Case((32, 2), "f32", "bf16", "bf16"), Case((16, 2), "f32", "tf32", "tf32"),
         Case((64, 4), "f32", "e4m3", "e5m2"), Case((64, 4), "s32", "s8", "u8")]


@pytest.mark.parametrize("case", GROUP, ids=lambda c: f"{c.result}-{c.a}-{c.b}-{c.selector}")
@pytest.mark.parametrize("from_registers", [False, True])
def test_sparse_product_of_a_warp_group(case: Case, from_registers: bool) -> None:
    """wgmma.mma_async.sp with n = 16: operands without a swizzle, 16-byte chunks of 8 rows next to each other."""
    random = np.random.default_rng(7)
    parts = [sparse_matrix(case, random) for _ in range(4)]
    b = randoms(case.b, (case.k, 16), random)
    dense, stored = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    meta = np.concatenate([metadata(p[2], case) for p in parts])
    registers = np.concatenate([words(p[1], case.a, 16) for p in parts])

    def chunks(matrix: np.ndarray, kind: str) -> np.ndarray:
        raw = np.ascontiguousarray(codes(np.ascontiguousarray(matrix), kind).astype(f"u{BITS[kind] // 8}")).view("u1").reshape(len(matrix) // 8, 8, -1, 16)
        return np.ascontiguousarray(raw.transpose(0, 2, 1, 3)).reshape(-1).view("u4")

    left, right = chunks(stored, case.a), chunks(b.T, case.b)
    per_row = [case.k // 2 * BITS[case.a] // 8, case.k * BITS[case.b] // 8]
    count = 4 if case.result == "f16" else 8
    kind = {"f32": "f", "s32": "r", "f16": "r"}[case.result]
    element = "float" if case.result == "f32" else "unsigned"
    outs, names = ", ".join(f'"+{kind}"(d[{i}])' for i in range(count)), ", ".join(f"%{i}" for i in range(count))
    a = "{" + ", ".join(f"%{count + 2 + i}" for i in range(4)) + "}" if from_registers else f"%{count + 2}"
    ins = ", ".join(f'"r"(R[t * 4 + {i}])' for i in range(4)) if from_registers else '"l"(da)'
    tail = ", 1, 1" if case.result != "s32" else ""
    tail += {True: ", 0", False: ", 0, 0"}[from_registers] if BITS[case.a] == 16 else ""
    text = f"wgmma.mma_async.sp.sync.aligned.m64n16k{case.k}.{case.result}.{case.a}.{case.b} {{{names}}}, {a}, %{count}, %{count + 1}, {case.selector}, 1{tail};"
    ptx = to_ptx(f"""extern "C" __global__ void k(const unsigned* A, const unsigned* B, const unsigned* R, const unsigned* E, {element}* D) {{
      __shared__ __align__(1024) unsigned a[{left.size}], b[{right.size}]; int t = threadIdx.x; {element} d[{count}];
      for (int i = t; i < {left.size}; i += 128) a[i] = A[i]; for (int i = t; i < {right.size}; i += 128) b[i] = B[i]; for (int i = 0; i < {count}; ++i) d[i] = D[t * {count} + i];
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads(); asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
      unsigned long long da = (unsigned)__cvta_generic_to_shared(a) >> 4 | 128ull >> 4 << 16 | {8 * per_row[0]}ull >> 4 << 32, db = (unsigned)__cvta_generic_to_shared(b) >> 4 | 128ull >> 4 << 16 | {8 * per_row[1]}ull >> 4 << 32;
      asm volatile("{text}" : {outs} : "l"(db), "r"(E[t]), {ins}); asm volatile("wgmma.commit_group.sync.aligned;\\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
      for (int i = 0; i < {count}; ++i) D[t * {count} + i] = d[i]; }}""", "sm_90a")
    c = random.integers(-9, 9, (64, 16)).astype("f8")
    t = np.arange(128)[:, None]
    i = np.arange(8)[None, :]
    rows, columns = t // 32 * 16 + t % 32 // 4 + i // 2 % 2 * 8, i // 4 * 8 + t % 4 * 2 + i % 2
    values = np.ascontiguousarray(c[rows, columns].astype({"f32": "f4", "s32": "i4", "f16": "f2"}[case.result]))
    simulator.launch(ptx, "k", 1, 128, [left, right, registers, meta, values.view("f4" if case.result == "f32" else "u4")])
    np.testing.assert_array_equal(values, (dense @ b + c)[rows, columns].astype(values.dtype))
