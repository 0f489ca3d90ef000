"""Undefined values: loading, moving and computing with them is fine, using them is not; registers of tcgen05.ld alike."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx_with_lines
from tests.simulator.test_tcgen05_faults import END, TILES, launch_planted
from tests.simulator.test_tcgen05_faults import FILL as FILL_TENSOR
from tilus import simulator
from tilus.diagnostics import CheckError
from tilus.simulator.faults import LEVELS

KERNEL = """#define ASM(...) asm volatile(__VA_ARGS__)
__device__ __forceinline__ unsigned sa(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
#define LDM(r, p) ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(sa(p)) : "memory")
#define STM(p, r) ASM("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%4], {%0, %1, %2, %3};" :: "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(sa(p)) : "memory")
#define MMA(c, a, b0, b1) ASM("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
extern "C" __global__ void k(const float* x, float* y, int n) { __shared__ __align__(128) float s[512]; int t = threadIdx.x; volatile float* v = s; const float INFINITY = __int_as_float(0x7f800000);
"""
FILL = "if (t < 16) s[t] = x[t]; __syncthreads();\n"       # s[16] and on are undefined
SOME_BYTES = "".join(f'ASM("red.shared.{op}.b32 [%0], %1;" :: "r"(sa(s + t)), "r"({operand}) : "memory"); '
                     for op, operand in (("and", "0xFFFF0000"), ("or", "7"))) + "__syncthreads(); "

# name, body; a fault is committed at lines marked //!
PROGRAMS = [
    ("a_value_that_is_not_used", FILL + "float next = v[t]; y[t] = x[t];"),
    ("one_past_the_end_of_a_window", "s[t] = x[t]; __syncthreads(); float a = v[t], b = v[t + 1]; if (t < 63) y[t] = a + b; else y[t] = a;"),
    ("selected_away", FILL + "float a = v[t]; y[t] = t < 16 ? a * 2 : 5;"),
    ("selected", FILL + "float a = v[t]; float b = t < 17 ? a * 2 : 5;\ny[t] = b; //!"),
    ("stored_at_once", FILL + "float a = v[t];\ny[t] = a; //!"),
    ("computed_with", FILL + "float a = v[t]; a = a * x[t] + 3; a = __sinf(a); int i = __float2int_rn(a) & 7;\ny[t] = i; //!"),
    ("computed_with_infinity", FILL + "float a = fmaxf(v[t], -INFINITY); float b = fmaf(v[t], INFINITY, a), c = v[t] + __int_as_float(0x7fc00000);\nif (t < 16) y[t] = a; else y[t] = b + c; //!"),
    ("computed_with_infinity_and_dropped", FILL + "float a = fminf(v[t], INFINITY) * -INFINITY; double d = (double)v[t] * INFINITY; if (t < 16) y[t] = a + (float)d;"),
    ("compared_with_infinity", FILL + "float a = v[t]; float r = a < INFINITY ? 3.0f : 1.0f;\ny[t] = r; //!"),
    ("an_address", FILL + "int i = (int)v[t] & 31;\ny[t] = x[i]; //!"), ("an_address_of_a_store", FILL + "int i = (int)v[t] & 31;\ny[i] = 1; //!"),
    ("an_address_in_shared_memory", FILL + "int i = (int)v[t] & 7;\nfloat a = v[i]; //!\ny[t] = a;"),
    ("a_branch", FILL + "float a = v[t]; float r = 0;\nfor (int i = 0; i < n; i++) if (a > i) { r += x[i]; __syncwarp(1u << t % 32); } //!\ny[t] = t < 16 ? r : 0;"),
    ("a_loop_bound", FILL + "int m = (int)v[t] & 3;\nfor (int i = 0; i < m; i++) y[t] = i; //!"),
    ("an_atomic_in_global_memory", FILL + "float a = v[t];\natomicAdd(y, a); //!"),
    ("an_atomic_over_undefined_memory", FILL + "\natomicAdd(s + t, 1.0f); //!"),
    ("moved_through_shared_memory", FILL + "float a = v[t]; s[t + 128] = a; __syncthreads(); float b = v[191 - t];\ny[t] = b; //!"),
    ("moved_and_not_used", FILL + "float a = v[t]; s[t + 128] = a; __syncthreads(); float b = v[128 + t]; if (t < 16) y[t] = b;"),
    ("moved_and_overwritten", FILL + "float a = v[t]; s[t + 128] = a; __syncthreads(); s[t + 128] = 3; __syncthreads(); y[t] = v[128 + t];"),
    ("moved_in_a_vector", FILL + "if (t < 16) { float4 a = ((float4*)s)[t]; ((float4*)s)[t + 32] = a; } __syncthreads(); float b = v[128 + t]; if (t < 16) y[t] = b;\nelse if (t < 20) y[t] = b; //!"),
    ("halves_of_a_word", "if (t < 32) ((short*)s)[2 * t] = t; __syncthreads(); short a = ((volatile short*)s)[t];\nif (t % 2 == 0) y[t] = a;"),
    ("the_other_half_of_a_word", "if (t < 32) ((short*)s)[2 * t] = t; __syncthreads(); short a = ((volatile short*)s)[t];\nif (t % 2 == 1) y[t] = a; //!"),
    ("some_bytes_by_reductions", SOME_BYTES + "short a = ((volatile short*)s)[2 * t];\ny[t] = a;"),
    ("the_bytes_that_reductions_keep", SOME_BYTES + "short a = ((volatile short*)s)[2 * t + 1];\ny[t] = a; //!"),
    ("shuffled_and_dropped", FILL + "float a = v[t]; float b = __shfl_xor_sync(~0u, a, 8); if (t < 16) y[t] = b;"),
    ("shuffled_and_used", FILL + "float a = v[t]; float b = __shfl_down_sync(~0u, a, 8);\nif (t < 16) y[t] = b; //!"),
    ("a_vote", FILL + "float a = v[t];\nif (__any_sync(~0u, a > 3)) y[t] = 1; //!"),
    ("a_vote_of_what_is_defined", FILL + "float a = v[t]; if (__any_sync(~0u, t < 16 && a > 3)) y[t] = 1;"),
    ("a_matrix_with_undefined_rows", "for (int i = t; i < 128; i += 64) if (i / 4 % 8 < 4) s[i] = 0; __syncthreads(); unsigned a[4]; LDM(a, s + t % 32 * 4); float c[4] = {1, 2, 3, 4}; unsigned one = 0x3C003C00; MMA(c, a, one, one);\nif (t % 32 < 16) y[t] = c[0];"),
    ("a_row_of_a_matrix", "if (t < 60) s[t] = 0; __syncthreads(); unsigned a[4]; LDM(a, s + t % 32 * 4); float c[4] = {1, 2, 3, 4}; unsigned one = 0x3C003C00; MMA(c, a, one, one);\ny[t] = c[0]; //!"),
    ("matrices_through_shared_memory", "s[t] = 0; s[t + 48] = 0; __syncthreads(); unsigned a[4]; LDM(a, s + t % 32 * 4); STM(s + 256 + t % 32 * 4, a); __syncthreads(); if (t < 28) y[t] = v[256 + 4 * t];\nelse if (t < 32) y[t] = v[256 + 4 * t]; //!"),
    ("local_memory_in_part", "float a[16]; for (int i = 0; i < n; i++) a[i] = i; int j = (int)x[t] & 15; float b = ((volatile float*)a)[j]; if (j < n) y[t] = b;"),
    ("local_memory", "float a[16]; for (int i = 0; i < n; i++) a[i] = i; int j = (int)x[t] & 15; float b = ((volatile float*)a)[j];\ny[t] = b; //!"),
    ("cleared_after_use", FILL + "float a = v[t + 4]; a = 0; for (int i = 0; i < 3; i++) a += x[i]; y[t] = a;"),
    ("a_loop_that_prefetches", "for (int i = 0; i < 4; i++) s[i * 64 + t] = x[t]; __syncthreads(); float next = v[t], sum = 0; for (int i = 1; i <= 4; i++) { float now = next; next = v[i * 64 + t]; sum += now; } y[t] = sum;"),
]


@pytest.mark.parametrize(("name", "body"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_use_of_undefined_values(name: str, body: str) -> None:
    source = KERNEL + body + "\n}"
    ptx = to_ptx_with_lines(source, "sm_90")
    report = simulator.launch(ptx, "k", 1, 64, [np.arange(64, dtype="f4"), np.zeros(64, "f4"), 8], collect=True, checks=["uninitialised", "sync"])
    marked = {number for number, line in enumerate(source.split("\n"), 1) if "//!" in line}
    found = {fault.source.line for fault in report.faults if fault.source is not None}
    assert {fault.check for fault in report.faults} <= {"uninitialised"}
    assert (found & marked if marked else not found), report.fault_lines()


PACKS = [
    ("unpacked", "mov.b64 q, {%r0, %r1}; mov.b64 {%r2, _}, q;", False),
    ("unpacked_the_other", "mov.b64 q, {%r0, %r1}; mov.b64 {_, %r2}, q;", True),
    ("unpacked_both", "mov.b64 q, {%r1, %r0}; mov.b64 {%r1, %r2}, q;", False),
    ("moved_between", "mov.b64 q, {%r0, %r1}; mov.b64 p, q; mov.b64 {%r2, %r1}, p;", False),
    ("narrowed", "mov.b64 q, {%r0, %r1}; cvt.u32.u64 %r2, q;", False),
    ("narrowed_undefined", "mov.b64 q, {%r1, %r0}; cvt.u32.u64 %r2, q;", True),
    ("computed_with", "mov.b64 q, {%r0, %r1}; add.u64 q, q, 1; mov.b64 {%r2, _}, q;", True),
    ("packed_anew", "mov.b64 q, {%r0, %r1}; mov.b64 q, {%r0, %r0}; mov.b64 {_, %r2}, q;", False),
    ("quarters", "mov.b64 q, {%h0, %h1, %h0, %h1}; mov.b64 {%h2, _, %h3, _}, q; mov.b32 %r2, {%h2, %h3};", False),
    ("halves_of_quarters", "mov.b64 q, {%h0, %h0, %h0, %h1}; mov.b64 {%r2, _}, q;", False),
    ("a_half_with_a_quarter", "mov.b64 q, {%h0, %h0, %h0, %h1}; mov.b64 {_, %r2}, q;", True),
    ("halves_of_a_word", "mov.b32 %r2, {%h0, %h1}; mov.b32 {%h1, _}, %r2; cvt.u32.u16 %r2, %h1;", False),
    ("a_low_half_narrowed", "mov.b32 %r2, {%h0, %h1}; cvt.u16.u32 %h2, %r2; cvt.u32.u16 %r2, %h2;", False),
    ("twice_packed", "mov.b32 %r2, {%h0, %h1}; mov.b64 q, {%r2, %r0}; mov.b64 {%r2, _}, q;", True),
]


@pytest.mark.parametrize(("name", "body", "faulty"), PACKS, ids=[p[0] for p in PACKS])
def test_parts_of_registers(name: str, body: str, faulty: bool) -> None:
    """What is packed with an undefined value is still known when it is unpacked; %r1 and %h1 are never written."""
    text = f""".version 8.3\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o) {{ .reg .b64 a, q, p; .reg .b32 %r<4>; .reg .b16 %h<4>;
    ld.param.u64 a, [o]; mov.u32 %r0, 7; mov.b16 %h0, 9; {body} st.global.u32 [a], %r2; ret; }}"""
    report = simulator.launch(text, "k", 1, 1, [np.zeros(1, "i4")], collect=True)
    assert [fault.check for fault in report.faults] == ["uninitialised"] * faulty, report.fault_lines()


def test_one_fault_for_one_load() -> None:
    """However many uses a value has; the fault names the load and the first use."""
    source = KERNEL + FILL + "float a = v[t];\nfor (int i = 0; i < n; i++) { y[i] = a + i;\nx += (int)a & 1;\ny[i + 1] = a; }\n}"
    report = simulator.launch(to_ptx_with_lines(source), "k", 1, 32, [np.zeros(64, "f4"), np.zeros(64, "f4"), 2], collect=True, checks=["uninitialised"])
    (fault,) = report.faults
    assert fault.cause is not None
    assert fault.source is not None
    assert (fault.cause.line, fault.source.line) == (8, 9)
    (label, use) = fault.diagnostic("k.ptx").labels[:2]
    assert (label.message, use.message) == ("read here", "used here")


START = "if (!t) { MMA(\"f16\", base, da, db, idesc, 0); COMMIT(&bar); } TRY(&bar, 0); AFTER;\n"
# name, level of the fault or nothing, body after the product
LOADS = [
    ("moves_before_the_wait", None, "LD1(v, mine); unsigned q = v; WAITLD; O[t] = q + v;"),
    ("arithmetic_before_the_wait", "formal", 'LD1(v, mine); unsigned q; ASM("add.u32 %0, %1, 1;" : "=r"(q) : "r"(v)); WAITLD; O[t] = q;'),
    ("a_store_before_the_wait", "formal", 'LD1(v, mine); ASM("st.global.u32 [%0], %1;" :: "l"(O + t), "r"(v) : "memory"); WAITLD;'),
    ("a_branch_before_the_wait", "formal", 'LD1(v, mine); ASM("{ .reg .pred p; setp.eq.u32 p, %0, 7; @p bra N; st.global.u32 [%1], 1; N: }" :: "r"(v), "l"(O + t) : "memory"); WAITLD;'),
    ("an_overwrite_before_the_wait", "formal", 'LD1(v, mine); ASM("mov.u32 %0, 5;" : "+r"(v)); WAITLD; O[t] = v;'),
]


@pytest.mark.parametrize(("name", "level", "body"), LOADS, ids=[x[0] for x in LOADS])
def test_registers_of_a_load_from_tensor_memory(name: str, level: str | None, body: str) -> None:
    report, _ = launch_planted(TILES + START + body + "\n" + END)
    found = [fault for fault in report.faults if fault.check == "async"]
    assert len(found) == (1 if level else 0), report.fault_lines()
    assert {fault.level for fault in found} <= {level}
    assert not report.errors


def test_tensor_memory_that_is_loaded_and_dropped() -> None:
    """Loading what was never written is no fault where nothing depends on it."""
    loads = "LD1(v, mine + 40); WAITLD; u32 kept = n ? v : 7; ST1(mine + 41, v); WAITST; LD1(v, mine + 41); WAITLD; O[t] = v & 0u | kept;"
    report, _ = launch_planted(TILES + START + loads + "\n" + END)
    assert not report.errors, report.fault_lines()


FENCES = [
    ("all_fences", None, ("BEFORE; SYNC; AFTER;", "TRY(&bar, 0); AFTER;")), ("none_before", "formal", ("SYNC; AFTER;", "TRY(&bar, 0); AFTER;")),
    ("none_after", "formal", ("BEFORE; SYNC;", "TRY(&bar, 0); AFTER;")), ("none_after_the_commit", "formal", ("BEFORE; SYNC; AFTER;", "TRY(&bar, 0);")),
    ("no_fence_at_all", "formal", ("SYNC;", "TRY(&bar, 0);")), ("no_barrier", "error", ("BEFORE; AFTER;", "TRY(&bar, 0); AFTER;")),
]


@pytest.mark.parametrize(("name", "level", "order"), FENCES, ids=[x[0] for x in FENCES])
def test_missing_fences_are_formal_and_missing_barriers_are_errors(name: str, level: str | None, order: tuple[str, str]) -> None:
    loads = " ".join(f"LD1(v, mine + {i}); WAITLD; O[t] += v;\n" for i in range(6))
    body = TILES + FILL_TENSOR + order[0] + '\nif (t == 64) { MMA("f16", base, da, db, idesc, 0); COMMIT(&bar); }\n' + order[1] + "\n" + loads + END
    report, _ = launch_planted(body)
    assert {fault.level for fault in report.faults} >= ({level} if level else set())
    assert bool(report.faults) == bool(level)
    assert bool(report.errors) == (level == "error"), report.fault_lines()
    assert len(report.faults) <= 3
    report.raise_if_faulty(()) if level == "error" else report.raise_if_faulty()
    if level == "formal":
        with pytest.raises(CheckError, match="fence"):
            report.raise_if_faulty(LEVELS)
        assert any(line.startswith("formal: ") for line in report.fault_lines())
        assert report.to_dict()["faults"][0]["level"] == "formal"


def test_a_note_when_there_are_too_many_faults() -> None:
    text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o) { .reg .b64 a; ld.param.u64 a, [o];\n"
    text += "".join(f"st.global.u32 [a+{i * 4}], {i};\n" for i in range(210)) + "ret; }\n"
    report = simulator.launch(text, "k", 1, 1, [np.zeros(2, "i4")], collect=True)
    assert len(report.faults) == 200
    assert any("more than 200 faults: 8 reports" in note for note in report.notes)
    assert not simulator.launch(text, "k", 1, 1, [np.zeros(100, "i4")], collect=True).notes


PARTS = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out) {{
  .reg .b64 %rd<4>; .reg .b32 %r<8>; .reg .b16 %h<6>; .reg .b32 %never;  .reg .b16 %nothing;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.s64 %rd1, %rd1, %rd2;
  cvt.u16.u32 %h1, %r1;
  {body}
  st.global.b32 [%rd1], %r5;
  ret;
}}
"""
# What is packed beside an undefined half; whether the stored word depends on it.
OF_PARTS = [
    ("the_low_half", "mov.b32 %r2, {%h1, %nothing}; mov.b32 {%h2, _}, %r2; cvt.u32.u16 %r5, %h2;", False),
    ("the_high_half", "mov.b32 %r2, {%h1, %nothing}; mov.b32 {_, %h2}, %r2; cvt.u32.u16 %r5, %h2;", True),
    ("masked", "mov.b32 %r2, {%h1, %nothing}; and.b32 %r5, %r2, 65535;", False),
    ("masked_wrongly", "mov.b32 %r2, {%h1, %nothing}; and.b32 %r5, %r2, 131071;", True),
    ("shifted_out", "mov.b32 %r2, {%nothing, %h1}; shr.u32 %r5, %r2, 16;", False),
    ("shifted_in", "mov.b32 %r2, {%h1, %nothing}; shl.b32 %r5, %r2, 8;", True),
    ("shifted_beyond", "mov.b32 %r2, {%h1, %nothing}; shl.b32 %r5, %r2, 16;", False),
    ("negated", "mov.b32 %r2, {%h1, %nothing}; xor.b32 %r2, %r2, 32768; mov.b32 {%h2, _}, %r2; cvt.u32.u16 %r5, %h2;",
     False),
    ("other_half_negated",
     "mov.b32 %r2, {%h1, %nothing}; xor.b32 %r2, %r2, 32768; mov.b32 {_, %h2}, %r2; cvt.u32.u16 %r5, %h2;", True),
    ("permuted", "mov.b32 %r2, {%h1, %nothing}; prmt.b32 %r5, %r2, %r1, 0x4110;", False),
    ("permuted_wrongly", "mov.b32 %r2, {%h1, %nothing}; prmt.b32 %r5, %r2, %r1, 0x4120;", True),
    ("added", "mov.b32 %r2, {%h1, %nothing}; add.u32 %r2, %r2, 1; mov.b32 {%h2, _}, %r2; cvt.u32.u16 %r5, %h2;", True),
    ("of_64_bits", "mov.b64 %rd3, {%r1, %never}; mov.b64 {%r5, _}, %rd3;", False),
    ("moved_whole", "mov.b32 %r2, {%h1, %nothing}; mov.b32 %r3, %r2; mov.b32 %r5, %r3;", True),
]


@pytest.mark.parametrize(("name", "body", "faulty"), OF_PARTS, ids=[p[0] for p in OF_PARTS])
def test_quarters_of_registers(name: str, body: str, faulty: bool) -> None:
    """Compilers leave half of a register undefined where only the other half matters."""
    out = np.zeros(32, np.uint32)
    report = simulator.launch(PARTS.format(body=body), "k", (1, 1, 1), (32, 1, 1), [out], collect=True)
    assert bool(report.faults) == faulty
