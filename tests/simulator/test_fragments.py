"""Tensor-core instructions against the layout tables of CuTe (golden/cute_layouts.cu made them) and NumPy's products."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.simulator.cuda import to_ptx
from tilus import simulator
from tilus.runtime.toolchains.ptxas import assemble
from tilus.simulator.ops_wgmma import operand_addresses
from tilus.targets import get_target

TABLES: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "cute_layouts.json").read_text())
# The headers give this atom a B layout that names some elements twice and others never; m8n8k32 has the same B.
BROKEN_B = "SM80_16x8x32_S32S4S4S32_TN"
assert len({v for row in TABLES[BROKEN_B]["b"] for v in row}) < 8 * 32
TABLES[BROKEN_B]["b"] = TABLES["SM80_8x8x32_S32S4S4S32_TN"]["b"]
ATOMS = [name for name in TABLES if re.match(r"SM\d+_\d+x\d+x\d+_", name)]
TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "TF32": "tf32", "F64": "f64", "S32": "s32", "S8": "s8", "U8": "u8", "S4": "s4",
         "U4": "u4", "U1": "b1", "E4M3": "e4m3", "E5M2": "e5m2"}
BITS = {"f32": 32, "tf32": 32, "s32": 32, "f16": 16, "bf16": 16, "f64": 64, "s8": 8, "u8": 8, "e4m3": 8, "e5m2": 8, "s4": 4, "u4": 4, "b1": 1}
NUMPY = {"f32": "f4", "tf32": "f4", "s32": "i4", "f16": "f2", "bf16": ml_dtypes.bfloat16, "f64": "f8", "s8": "i1", "u8": "u1",
         "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}


def parse(name: str) -> tuple[list[str], str]:
    """PTX types of D, A, B, C and the layouts."""
    body = name.split("_")[2]
    words = re.findall(r"BF16|TF32|E4M3|E5M2|[FSU]\d+?(?=[FSUBTE]|$)|[FSU]\d+", body)
    return [TYPES[w] for w in words], name.split("_")[3]


def random_matrix(kind: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    low, high = {"u8": (0, 255), "s8": (-128, 127), "s4": (-8, 7), "u4": (0, 15), "b1": (0, 1), "s32": (-999, 999)}.get(kind, (-4, 4))
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype("f8")


def encode(values: np.ndarray, kind: str) -> np.ndarray:
    """Values of one lane to 32-bit words."""
    if kind in NUMPY:
        return values.astype(NUMPY[kind]).view("u4")
    bits = BITS[kind]
    codes = values.astype("i8").astype("u8") & np.uint64((1 << bits) - 1)
    per = 32 // bits
    shifts = np.arange(per, dtype="u8") * np.uint64(bits)
    return (codes.reshape(-1, per) << shifts).sum(axis=1).astype("u4")


def decode(words: np.ndarray, kind: str) -> np.ndarray:
    return np.ascontiguousarray(words).view(NUMPY[kind]).astype("f8")


def spread(matrix: np.ndarray, layout: list[list[int]], kind: str) -> np.ndarray:
    """Words of each thread for a matrix whose elements the layout numbers column by column."""
    flat = matrix.T.reshape(-1)
    return np.stack([encode(flat[np.array(row)], kind) for row in layout])


def instruction(name: str, kinds: list[str], layouts: str, words: list[int]) -> str:
    shape = "m{}n{}k{}".format(*TABLES[name]["shape"])
    order = {"T": "row", "N": "col"}[layouts[0]] + "." + {"T": "row", "N": "col"}[layouts[1]]
    suffix = ".xor.popc" if kinds[1] == "b1" else ""
    opcode = f"mma.sync.aligned.{shape}.{order}.{'.'.join(kinds)}{suffix}"
    registers, loads, groups = [], [], []
    for letter, kind, count in zip("dabc", kinds, words, strict=True):
        double = kind == "f64"
        number = count // 2 if double else count
        registers.append(f".reg .{'f64' if double else 'f32' if kind == 'f32' else 'b32'} %{letter}<{number}>;")
        groups.append("{" + ", ".join(f"%{letter}{i}" for i in range(number)) + "}")
        for i in range(number if letter != "d" else 0):
            size = 8 if double else 4
            loads.append(f"ld.global.b{size * 8} %{letter}{i}, [%p{letter}+{i * size}];")
    names = ["d", "a", "b", "c"]
    address = "\n".join(f"ld.param.u64 %p{x}, [p{x}]; mad.wide.u32 %p{x}, %t, {4 * n}, %p{x};" for x, n in zip(names, words, strict=True))
    number = words[0] // 2 if kinds[0] == "f64" else words[0]
    size = 8 if kinds[0] == "f64" else 4
    stores = "\n".join(f"st.global.b{8 * size} [%pd+{i * size}], %d{i};" for i in range(number))
    arch = "sm_90" if "SM90" in name else "sm_89" if "SM89" in name else "sm_80"
    newline = "\n"
    return (f".version 8.6\n.target {arch}\n.address_size 64\n.visible .entry k(.param .u64 pd, .param .u64 pa, .param .u64 pb, "
            f".param .u64 pc)\n{{\n.reg .b32 %t; .reg .b64 %pd, %pa, %pb, %pc;\n{newline.join(registers)}\nmov.u32 %t, %tid.x;\n{address}\n"
            f"{newline.join(loads)}\n{opcode} {', '.join(groups)};\n{stores}\nret;\n}}\n")


@pytest.mark.parametrize("name", ATOMS)
def test_mma(name: str) -> None:
    entry = TABLES[name]
    m, n, k = entry["shape"]
    kinds, layouts = parse(name)
    quads = 32 // len(entry["threads"])
    lanes = [[t + 4 * q for t in entry["threads"]] for q in range(quads)]
    table: dict[str, np.ndarray] = {}
    wanted = []
    for q in range(quads):
        a, b, c = (random_matrix(kind, shape, 10 * q + i) for i, (kind, shape) in
                   enumerate(((kinds[1], (m, k)), (kinds[2], (k, n)), (kinds[3], (m, n)))))
        product = a.sum(axis=1)[:, None] + b.sum(axis=0) - 2 * (a @ b) if kinds[1] == "b1" else a @ b
        wanted.append(product + c)
        for key, words in (("a", spread(a, entry["a"], kinds[1])), ("b", spread(b.T, entry["b"], kinds[2])),
                           ("c", spread(c, entry["c"], kinds[3]))):
            table.setdefault(key, np.zeros((32, words.shape[1]), "u4"))[lanes[q]] = words
    out = np.zeros((32, len(entry["c"][0]) * BITS[kinds[0]] // 32), "u4")
    text = instruction(name, kinds, layouts, [out.shape[1], table["a"].shape[1], table["b"].shape[1], table["c"].shape[1]])
    simulator.launch(text, "k", 1, 32, [out, table["a"], table["b"], table["c"]])
    for q in range(quads):
        result = np.zeros(m * n)
        for thread, lane in enumerate(lanes[q]):
            result[np.array(entry["c"][thread])] = decode(out[lane], kinds[0])
        expected = wanted[q].astype("f2").astype("f8") if kinds[0] == "f16" else wanted[q]
        np.testing.assert_array_equal(result.reshape(n, m).T, expected)


@pytest.mark.parametrize(("name", "trans"), [("SM75_U32x4_LDSM_N", ""), ("SM75_U16x8_LDSM_T", ".trans")])
def test_ldmatrix(name: str, trans: str) -> None:
    rows = np.random.default_rng(0).integers(0, 1 << 16, (32, 8), dtype="u2")
    out = np.zeros((32, 4), "u4")
    ptx = to_ptx(f"""extern "C" __global__ void k(const uint4* x, uint4* o) {{ __shared__ uint4 s[32]; int t = threadIdx.x; s[t] = x[t];
        __syncthreads(); uint4 v; asm volatile("ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%0, %1, %2, %3}}, [%4];" : "=r"(v.x),
        "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"((unsigned)__cvta_generic_to_shared(s + t)) : "memory"); o[t] = v; }}""")
    simulator.launch(ptx, "k", 1, 32, [rows, out])
    bits = np.unpackbits(rows.view("u1").reshape(-1), bitorder="little")
    source = {index: bits[128 * t + v] for t, row in enumerate(TABLES[name]["src"]) for v, index in enumerate(row)}
    for t, row in enumerate(TABLES[name]["dst"]):
        expected = np.packbits([source[index] for index in row], bitorder="little").view("u4")
        np.testing.assert_array_equal(out[t], expected)


@pytest.mark.parametrize("name", [n for n in TABLES if n.startswith(("k_", "mn_"))])
def test_shared_layouts_of_matrix_descriptors(name: str) -> None:
    entry = TABLES[name]
    mode = {"inter": 0, "sw128": 1, "sw64": 2, "sw32": 3}[name.split("_")[1]]
    rows, columns = (entry["rows"], entry["columns"])
    addresses = operand_addresses(mode << 62, rows, columns * 2, name.startswith("k_"), 2)
    np.testing.assert_array_equal(addresses // 2, np.array(entry["offset"]).reshape(rows, columns))


@pytest.mark.parametrize("n", [8, 32, 128])
def test_wgmma_accumulator_layout(n: int) -> None:
    from tilus.simulator.ops_wgmma import _scatter

    matrix = np.arange(64 * n).reshape(64, n)
    values = _scatter(matrix, n)
    layout = TABLES[f"wgmma_m64n{n}"]["c"]
    for thread in range(128):
        numbers = np.array(layout[thread])
        np.testing.assert_array_equal(values[:, thread], matrix[numbers % 64, numbers // 64])


def wgmma_source(n: int, trans_b: int) -> str:
    count = n // 2
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    registers = ", ".join(f"%{i}" for i in range(count))
    return f"""
    __device__ unsigned long long desc(const void* p, int lead, int stride, int mode) {{ unsigned a = (unsigned)__cvta_generic_to_shared(p);
      return (unsigned long long)((a & 0x3ffff) >> 4) | (unsigned long long)(lead >> 4) << 16 | (unsigned long long)(stride >> 4) << 32 |
        (unsigned long long)mode << 62; }}
    extern "C" __global__ void k(const unsigned short* A, const unsigned short* B, float* D, int early) {{
      __shared__ __align__(1024) unsigned short a[64 * 64], b[64 * {n}]; int t = threadIdx.x; float d[{count}];
      for (int i = 0; i < {count}; ++i) d[i] = 0;
      for (int i = t; i < 64 * 64; i += 128) {{ int r = i / 64, c = i % 64; a[r * 64 + ((c / 8 ^ r % 8) * 8) + c % 8] = A[i]; }}
      for (int i = t; i < 64 * {n}; i += 128) {{
        if ({trans_b}) {{ int k = i / {n}, c = i % {n}; b[c / 64 * 4096 + k * 64 + ((c % 64 / 8 ^ k % 8) * 8) + c % 8] = B[k * {n} + c]; }}
        else {{ int k = i % 64, c = i / 64; b[c * 64 + ((k / 8 ^ c % 8) * 8) + k % 8] = B[k * {n} + c]; }} }}
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads(); asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
      for (int kk = 0; kk < 4; ++kk) {{
        unsigned long long da = desc((char*)a + kk * 32, 16, 1024, 1);
        unsigned long long db = {trans_b} ? desc((char*)b + kk * 16 * 128, 8192, 1024, 1) : desc((char*)b + kk * 32, 16, 1024, 1);
        asm volatile("wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16 {{{registers}}}, %{count}, %{count + 1}, 1, 1, 1, 0, {trans_b};"
          : {outputs} : "l"(da), "l"(db)); }}
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); if (early) D[t] = d[0];
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
      for (int i = 0; i < {count}; ++i) {{ int r = t / 32 * 16 + t % 32 / 4 + (i / 2 % 2) * 8, c = i / 4 * 8 + t % 4 * 2 + i % 2; D[r * {n} + c] = d[i]; }}
    }}"""


@pytest.mark.parametrize(("n", "trans_b"), [(64, 0), (64, 1), (128, 0), (128, 1), (24, 0)])
def test_wgmma_with_swizzled_operands(n: int, trans_b: int) -> None:
    random = np.random.default_rng(n)
    a, b = random.integers(-4, 5, (64, 64)).astype("f2"), random.integers(-4, 5, (64, n)).astype("f2")
    out = np.zeros((64, n), "f4")
    report = simulator.launch(to_ptx(wgmma_source(n, trans_b), "sm_90a"), "k", 1, 128, [a.view("u2"), b.view("u2"), out, 0])
    np.testing.assert_array_equal(out, a.astype("f4") @ b.astype("f4"))
    assert report.matrix_operations == 2 * 64 * 64 * n


def test_accumulator_used_before_the_wait() -> None:
    a, b, out = np.ones((64, 64), "f2"), np.ones((64, 8), "f2"), np.zeros((64, 8), "f4")
    report = simulator.launch(to_ptx(wgmma_source(8, 0), "sm_90a"), "k", 1, 128, [a.view("u2"), b.view("u2"), out, 1], collect=True)
    assert "async" in {fault.check for fault in report.faults}


@pytest.mark.parametrize(("types", "fragment", "shape"), [
    (("f16", "f32"), "half", (16, 16, 16)), (("f16", "f32"), "half", (32, 8, 16)), (("f16", "f32"), "half", (8, 32, 16)),
    (("s8", "s32"), "signed char", (16, 16, 16)), (("bf16", "f32"), "__nv_bfloat16", (16, 16, 16)),
])
@pytest.mark.parametrize("layout", ["row", "col"])
def test_wmma(types: tuple[str, str], fragment: str, shape: tuple[int, int, int], layout: str) -> None:
    m, n, k = shape
    result = "float" if types[1] == "f32" else "int"
    source = f"""#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#include <mma.h>
    using namespace nvcuda::wmma; typedef {fragment} T;
    extern "C" __global__ void k(const T* A, const T* B, {result}* C) {{ fragment<matrix_a, {m}, {n}, {k}, T, {layout}_major> a;
      fragment<matrix_b, {m}, {n}, {k}, T, row_major> b; fragment<accumulator, {m}, {n}, {k}, {result}> c; fill_fragment(c, ({result})1);
      load_matrix_sync(a, A, {k if layout == "row" else m}); load_matrix_sync(b, B, {n}); mma_sync(c, a, b, c); mma_sync(c, a, b, c);
      store_matrix_sync(C, c, {n}, mem_row_major); }}"""
    random = np.random.default_rng(3)
    a, b = random.integers(-4, 5, (m, k)), random.integers(-4, 5, (k, n))
    dtype = NUMPY[types[0]]
    out = np.zeros((m, n), NUMPY[types[1]])
    stored = np.ascontiguousarray(a if layout == "row" else a.T).astype(dtype)
    simulator.launch(to_ptx(source), "k", 1, 32, [stored.view(f"u{stored.itemsize}"), b.astype(dtype).view(f"u{stored.itemsize}"), out])
    np.testing.assert_array_equal(out, 2 * (a @ b) + 1)


WMMA = [("precision::tf32", "float", "float", (16, 16, 8), "f4", "f4"), ("double", "double", "double", (8, 8, 4), "f8", "f8")]


@pytest.mark.parametrize(("kind", "element", "result", "shape", "dtype", "out_dtype"), WMMA)
def test_wmma_of_wide_types(kind: str, element: str, result: str, shape: tuple[int, int, int], dtype: str, out_dtype: str) -> None:
    m, n, k = shape
    source = f"""#include <mma.h>
    using namespace nvcuda::wmma; extern "C" __global__ void k(const {element}* A, const {element}* B, {result}* C) {{ fragment<matrix_a, {m}, {n}, {k}, {kind}, row_major> a;
      fragment<matrix_b, {m}, {n}, {k}, {kind}, col_major> b; fragment<accumulator, {m}, {n}, {k}, {result}> c; load_matrix_sync(c, C, {n}, mem_row_major);
      load_matrix_sync(a, A, {k}); load_matrix_sync(b, B, {k}); mma_sync(c, a, b, c); store_matrix_sync(C, c, {n}, mem_row_major); }}"""
    random = np.random.default_rng(3)
    a, b, c = random.integers(-4, 5, (m, k)).astype(dtype), random.integers(-4, 5, (n, k)).astype(dtype), random.integers(-9, 9, (m, n)).astype(out_dtype)
    wanted = a @ b.T + c
    simulator.launch(to_ptx(source), "k", 1, 32, [a, b, c])
    np.testing.assert_array_equal(c, wanted)


@pytest.mark.parametrize("kind", ["s4", "u4", "b1-xor", "b1-and"])
def test_wmma_of_narrow_types(kind: str) -> None:
    """Packed operands in memory, low bits first: A by rows, B by columns."""
    m = n = 8
    bits, k = (4, 32) if kind.endswith("4") else (1, 128)
    random = np.random.default_rng(1)
    low = -8 if kind == "s4" else 0
    a, b = random.integers(low, low + (1 << bits), (m, k)), random.integers(low, low + (1 << bits), (n, k))
    packed = [np.stack([sum((row[i::32 // bits].astype("i8") & ((1 << bits) - 1)) << bits * i for i in range(32 // bits)) for row in x]).astype("u4") for x in (a, b)]
    mma = f"mma.sync.aligned.row.col.m8n8k32.s32.{kind}.{kind}.s32" if bits == 4 else f"mma.{kind[3:]}.popc.sync.aligned.row.col.m8n8k128.s32.b1.b1.s32"
    name = kind[:2]
    source = f"""extern "C" __global__ void k(const unsigned* A, const unsigned* B, int* C) {{ unsigned a, b; int c0, c1;
      asm volatile("wmma.load.a.sync.aligned.row.m8n8k{k}.global.{name} {{%0}}, [%1], %2;" : "=r"(a) : "l"(A), "r"({k}));
      asm volatile("wmma.load.b.sync.aligned.col.m8n8k{k}.global.{name} {{%0}}, [%1], %2;" : "=r"(b) : "l"(B), "r"({k}));
      asm volatile("wmma.load.c.sync.aligned.row.m8n8k{k}.global.s32 {{%0, %1}}, [%2], %3;" : "=r"(c0), "=r"(c1) : "l"(C), "r"(8));
      asm volatile("wmma.{mma} {{%0, %1}}, {{%2}}, {{%3}}, {{%0, %1}};" : "+r"(c0), "+r"(c1) : "r"(a), "r"(b));
      asm volatile("wmma.store.d.sync.aligned.row.m8n8k{k}.global.s32 [%0], {{%1, %2}}, %3;" :: "l"(C), "r"(c0), "r"(c1), "r"(8) : "memory"); }}"""
    c = random.integers(-99, 99, (m, n)).astype("i4")
    wanted = c + (a.sum(1)[:, None] + b.sum(1) - 2 * a @ b.T if kind == "b1-xor" else a @ b.T)
    simulator.launch(to_ptx(source), "k", 1, 32, [*packed, c])
    np.testing.assert_array_equal(c, wanted)


SCALED = [("m16n8k32", "mxf8f6f4", "scale_vec::1X", "e4m3", "ue8m0", 1, 2), ("m16n8k32", "mxf8f6f4", "scale_vec::1X", "e5m2", "ue8m0", 1, 1),
          ("m16n8k64", "mxf4", "scale_vec::2X", "e2m1", "ue8m0", 2, 2), ("m16n8k64", "mxf4nvf4", "scale_vec::4X", "e2m1", "ue4m3", 4, 0),
          ("m16n8k64", "mxf4nvf4", "scale_vec::2X", "e2m1", "ue8m0", 2, 0)]


@pytest.mark.parametrize(("shape", "kind", "vector", "element", "scale", "blocks", "byte"), SCALED, ids=[f"{s[1]}-{s[2]}-{s[3]}-{s[4]}" for s in SCALED])
def test_block_scaled_mma(shape: str, kind: str, vector: str, element: str, scale: str, blocks: int, byte: int) -> None:
    """Fragments by the formulas of the PTX ISA; thread selectors 1 for A and 3 for B."""
    k = int(shape.split("k")[1])
    random = np.random.default_rng(7)
    codes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    a, b = (random.choice(codes, size) * random.choice([-1, 1], size) for size in ((16, k), (k, 8)))
    bits = 4 if element == "e2m1" else 8
    per = 32 // bits

    def code(values: np.ndarray) -> np.ndarray:
        if bits == 8:
            return values.astype(NUMPY[element]).view("u1").astype("u4")
        return (np.array([codes.index(abs(v)) for v in values]) + 8 * (values < 0)).astype("u4")

    words = {"a": np.zeros((32, 4), "u4"), "b": np.zeros((32, 2), "u4"), "c": np.zeros((32, 4), "f4"), "s": np.zeros((32, 2), "u4")}
    c = random.integers(-9, 9, (16, 8)).astype("f4")
    raw_a, raw_b = (random.integers(125, 130, (count, blocks)) if scale == "ue8m0" else random.integers(40, 70, (count, blocks))
                    for count in (16, 8))
    value = (lambda x: 2.0 ** (x - 127)) if scale == "ue8m0" else (lambda x: x.astype("u1").view(ml_dtypes.float8_e4m3fn).astype("f8"))
    shifts = np.arange(per, dtype="u4") * np.uint32(bits)
    for lane in range(32):
        g, t = lane // 4, lane % 4
        for r in range(4):
            columns = 4 * per * (r // 2) + per * t + np.arange(per)
            words["a"][lane, r] = (code(a[g + 8 * (r % 2), columns]) << shifts).sum()
            words["c"][lane, r] = c[g + 8 * (r // 2), 2 * t + r % 2]
        for r in range(2):
            words["b"][lane, r] = (code(b[4 * per * r + per * t + np.arange(per), g]) << shifts).sum()
        if t // 2 == 1:
            row = raw_a[g + 8 * (t % 2)]
            words["s"][lane, 0] = sum(int(v) << 8 * (byte + i) for i, v in enumerate(row))
        if t == 3:
            words["s"][lane, 1] = sum(int(v) << 8 * (byte + i) for i, v in enumerate(raw_b[g]))
    opcode = f"mma.sync.aligned.{shape}.row.col.kind::{kind}.block_scale.{vector}.f32.{element}.{element}.f32.{scale}"
    loads = "\n".join(f"ld.global.b32 %{x}{i}, [%p{x}+{4 * i}];" for x, n in (("a", 4), ("b", 2), ("c", 4), ("s", 2)) for i in range(n))
    address = "\n".join(f"ld.param.u64 %p{x}, [p{x}]; mad.wide.u32 %p{x}, %t, {4 * n}, %p{x};" for x, n in (("d", 4), ("a", 4), ("b", 2), ("c", 4), ("s", 2)))
    stores = "\n".join(f"st.global.f32 [%pd+{4 * i}], %d{i};" for i in range(4))
    text = (f".version 8.8\n.target sm_120a\n.address_size 64\n.visible .entry k(.param .u64 pd, .param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 ps)\n"
            f"{{\n.reg .b32 %t, %a<4>, %b<2>, %s<2>; .reg .f32 %c<4>, %d<4>; .reg .b64 %pd, %pa, %pb, %pc, %ps;\nmov.u32 %t, %tid.x;\n{address}\n{loads}\n"
            f"{opcode} {{%d0, %d1, %d2, %d3}}, {{%a0, %a1, %a2, %a3}}, {{%b0, %b1}}, {{%c0, %c1, %c2, %c3}}, %s0, {{{byte}, 1}}, %s1, {{{byte}, 3}};\n"
            f"{stores}\nret;\n}}\n")
    assemble(text, get_target("sm_120a"))
    out = np.zeros((32, 4), "f4")
    simulator.launch(text, "k", 1, 32, [out, *(words[x] for x in "abcs")])
    scaled_a = a * np.repeat(value(raw_a), k // blocks, axis=1)
    scaled_b = b * np.repeat(value(raw_b), k // blocks, axis=1).T
    wanted = (scaled_a @ scaled_b + c).astype("f4")
    for lane in range(32):
        g, t = lane // 4, lane % 4
        np.testing.assert_allclose(out[lane], [wanted[g, 2 * t], wanted[g, 2 * t + 1], wanted[g + 8, 2 * t], wanted[g + 8, 2 * t + 1]], rtol=1e-6)


def bytes_source(opcode: str, n: int, result: str, letter: str, tail: str) -> str:
    """A and B as rows of 128 bytes of K, copied with the 128-byte swizzle."""
    count = n // 2
    outputs = ", ".join(f'"+{letter}"(d[{i}])' for i in range(count))
    registers = ", ".join(f"%{i}" for i in range(count))
    return f"""
    __device__ unsigned long long desc(const void* p) {{ unsigned a = (unsigned)__cvta_generic_to_shared(p);
      return (unsigned long long)((a & 0x3ffff) >> 4) | 1ull << 16 | (1024ull >> 4) << 32 | 1ull << 62; }}
    extern "C" __global__ void k(const uint4* A, const uint4* B, {result}* D) {{
      __shared__ __align__(1024) uint4 a[64 * 8], b[{n} * 8]; int t = threadIdx.x; {result} d[{count}];
      for (int i = 0; i < {count}; ++i) d[i] = 0;
      for (int i = t; i < 64 * 8; i += 128) a[i / 8 * 8 + (i % 8 ^ i / 8 % 8)] = A[i];
      for (int i = t; i < {n} * 8; i += 128) b[i / 8 * 8 + (i % 8 ^ i / 8 % 8)] = B[i];
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); __syncthreads(); asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
      for (int kk = 0; kk < 4; ++kk) asm volatile("{opcode} {{{registers}}}, %{count}, %{count + 1}, 1{tail};"
          : {outputs} : "l"(desc((char*)a + kk * 32)), "l"(desc((char*)b + kk * 32)));
      asm volatile("wgmma.commit_group.sync.aligned;\\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
      for (int i = 0; i < {count}; ++i) {{ int r = t / 32 * 16 + t % 32 / 4 + (i / 2 % 2) * 8, c = i / 4 * 8 + t % 4 * 2 + i % 2; D[r * {n} + c] = d[i]; }}
    }}"""


@pytest.mark.parametrize(("a", "b"), [("bf16", "bf16"), ("tf32", "tf32"), ("e4m3", "e5m2"), ("s8", "s8"), ("u8", "s8")])
def test_wgmma_types(a: str, b: str) -> None:
    n, bits = 16, BITS[a]
    k = 128 * 8 // bits
    integer = a in ("s8", "u8")
    left, right = random_matrix(a, (64, k), 1), random_matrix(b, (k, n), 2)
    depth = 256 // bits
    opcode = f"wgmma.mma_async.sync.aligned.m64n{n}k{depth}.{'s32' if integer else 'f32'}.{a}.{b}"
    tail = "" if integer else ", 1, 1, 0, 0" if bits == 16 else ", 1, 1"
    out = np.zeros((64, n), "i4" if integer else "f4")
    source = bytes_source(opcode, n, "int" if integer else "float", "r" if integer else "f", tail)
    raw_a, raw_b = left.astype(NUMPY[a]).view("u1"), np.ascontiguousarray(right.T).astype(NUMPY[b]).view("u1")
    simulator.launch(to_ptx(source, "sm_90a"), "k", 1, 128, [raw_a, raw_b, out])
    np.testing.assert_array_equal(out, left @ right)
