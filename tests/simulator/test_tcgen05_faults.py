"""Faults planted in programs with tensor memory are found at their lines, and correct twins are clean."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.simulator.cuda import to_ptx, to_ptx_with_lines
from tests.simulator.test_tcgen05 import ARCH, HEAD
from tilus import simulator


@dataclass
class Planted:
    """``body`` commits a fault at its lines marked ``//!``; ``fix`` turns it into the correct twin."""

    name: str
    check: str
    body: str
    fix: list[tuple[str, str]]


START = "__shared__ u32 slot; __shared__ u64 bar; if (!t) INIT(&bar, 1);\nif (!w) { ALLOC(&slot, 64); } BEFORE; SYNC; AFTER; u32 base = slot, mine = base + (w << 21), v = 0;\n"
TILES = ("__shared__ __align__(1024) uint4 s[512]; for (int i = t; i < 512; i += 128) s[i] = make_uint4(0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00); FENCE;\n" + START
         + "u64 da = (u64)(sa(s) >> 4) | 128ull >> 4 << 16 | 256ull >> 4 << 32 | 1ull << 46, db = da + 256; u32 idesc = 1u << 4 | 64u / 8 << 17 | 128u / 16 << 24;\n")
ONE = 'MMA("f16", base, da, db, idesc, 0);'
END = "BEFORE; SYNC; if (!w) { AFTER; DEALLOC(base, 64); }\n"
FILL = "for (int c = 0; c < 8; ++c) ST1(mine + c, t); WAITST; "
PLANTED = [
    Planted("column_never_allocated", "bounds", START + FILL + "\nLD1(v, mine + 64); WAITLD; //!\nO[t] = v;\n" + END, [("mine + 64", "mine + 6")]),
    Planted("used_after_dealloc", "bounds", START + FILL + "SYNC; if (!w) DEALLOC(base, 64); SYNC;\nLD1(v, mine); WAITLD; //!\nO[t] = v;\n",
            [("SYNC; if (!w) DEALLOC(base, 64); SYNC;\nLD1(v, mine); WAITLD; //!", "LD1(v, mine); WAITLD; SYNC; if (!w) DEALLOC(base, 64);")]),
    Planted("lanes_of_another_warp", "bounds", START + FILL + "BEFORE; SYNC; AFTER;\nLD1(v, base); WAITLD; //!\nO[t] = v;\n" + END, [("LD1(v, base)", "LD1(v, mine)")]),
    Planted("read_before_it_is_written", "uninitialised", START + FILL + "LD1(v, mine + 9); WAITLD;\nO[t] = v; //!\n" + END, [("mine + 9", "mine + 7")]),
    Planted("read_beside_what_is_written", "uninitialised", START + FILL + 'u32 p; ASM("tcgen05.ld.sync.aligned.32x32b.x1.pack::16b.b32 {%0}, [%1];" : "=r"(p) : "r"(mine + 7) : "memory"); WAITLD;\nO[t] = p + v; //!\n' + END, [("mine + 7", "mine + 6")]),
    Planted("accumulator_before_it_is_written", "uninitialised", TILES + 'if (!t) {\nMMA("f16", base, da, db, idesc, 1); //!\nCOMMIT(&bar); } TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END, [("idesc, 1)", "idesc, 0)")]),
    Planted("accumulator_of_undefined_values", "uninitialised", TILES + 'LD1(v, mine + 50); WAITLD; for (int c = 0; c < 64; ++c) ST1(mine + c, c == 9 ? v : 0); WAITST; BEFORE; SYNC; AFTER; if (!t) {\nMMA("f16", base, da, db, idesc, 1); //!\nCOMMIT(&bar); } TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("c == 9 ? v : 0", "0")]),
    Planted("accumulator_read_before_commit", "async", TILES + "if (!t) { " + ONE + " COMMIT(&bar); } __syncwarp();\nLD1(v, mine); WAITLD; //!\nO[t] = v; TRY(&bar, 0);\n" + END,
            [("__syncwarp();", "TRY(&bar, 0); AFTER;"), (" TRY(&bar, 0);\n" + END, "\n" + END)]),
    Planted("commit_before_the_product", "async", TILES + "if (!t) { COMMIT(&bar); " + ONE + " } TRY(&bar, 0); AFTER;\nLD1(v, mine); WAITLD; //!\nO[t] = v;\n" + END.replace("DEALLOC(base, 64)", "DEALLOC(base, 64)"),
            [("COMMIT(&bar); " + ONE, ONE + " COMMIT(&bar);")]),
    Planted("fence_after_missing", "race", TILES + "if (!t) { " + ONE + " COMMIT(&bar); } TRY(&bar, 0);\nLD1(v, mine); WAITLD; //!\nO[t] = v;\n" + END, [("TRY(&bar, 0);", "TRY(&bar, 0); AFTER;")]),
    Planted("fence_before_missing", "race", TILES + FILL + 'SYNC; AFTER;\nif (!t) { MMA("f16", base, da, db, idesc, 0); COMMIT(&bar); } //!\nTRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("SYNC; AFTER;\nif", "BEFORE; SYNC; AFTER;\nif")]),
    Planted("fence_after_missing_before_the_product", "race", TILES + FILL + 'BEFORE; SYNC;\nif (!t) { MMA("f16", base, da, db, idesc, 0); COMMIT(&bar); } //!\nTRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("SYNC;\nif", "SYNC; AFTER;\nif")]),
    Planted("barrier_missing", "race", TILES + FILL + 'BEFORE; AFTER;\nif (t == 64) { MMA("f16", base, da, db, idesc, 0); COMMIT(&bar); } //!\nTRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("BEFORE; AFTER;\nif", "BEFORE; SYNC; AFTER;\nif")]),
    Planted("registers_used_before_wait_ld", "async", START + FILL + "LD1(v, mine);\nO[t] = v; //!\nWAITLD;\n" + END, [("LD1(v, mine);", "LD1(v, mine); WAITLD;")]),
    Planted("wait_st_missing", "async", START + "ST1(mine, t);\nLD1(v, mine); WAITLD; //!\nO[t] = v; WAITST;\n" + END, [("ST1(mine, t);", "ST1(mine, t); WAITST;")]),
    Planted("operand_overwritten_in_flight", "async", TILES + 'if (!t) {\nMMA("f16", base, da, db, idesc, 0); //!\nCOMMIT(&bar); } SYNC; s[t].x = 5; TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("SYNC; s[t].x = 5; TRY(&bar, 0);", "TRY(&bar, 0); s[t].x = 5;")]),
    Planted("proxy_fence_missing", "proxy", TILES.replace("FENCE;", "") + 'if (!t) {\nMMA("f16", base, da, db, idesc, 0); //!\nCOMMIT(&bar); } TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("BEFORE; SYNC;", "FENCE; BEFORE; SYNC;")]),
    Planted("size_not_a_power_of_two", "value", "__shared__ u32 slot;\nif (!w) ALLOC(&slot, 48); //!\nSYNC; if (!w) DEALLOC(slot, 64);\n", [("48", "64")]),
    Planted("size_below_32", "value", "__shared__ u32 slot;\nif (!w) ALLOC(&slot, 16); //!\nSYNC; if (!w) DEALLOC(slot, 32);\n", [("16", "32")]),
    Planted("never_deallocated", "value", "__shared__ u32 slot;\nif (!w) ALLOC(&slot, 32); //!\nSYNC;\n", [("SYNC;", "SYNC; if (!w) DEALLOC(slot, 32);")]),
    Planted("deallocated_with_another_size", "value", "__shared__ u32 slot;\nif (!w) ALLOC(&slot, 64); SYNC;\nif (!w) DEALLOC(slot, 32); //!\n", [("slot, 32", "slot, 64")]),
    Planted("alloc_after_relinquish", "value", '__shared__ u32 slot; if (!w) ASM("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;");\nif (!w) ALLOC(&slot, 32); //!\nSYNC; if (!w) DEALLOC(slot, 32);\n',
            [('if (!w) ASM("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;");', "")]),
    Planted("too_many_columns", "value", "__shared__ u32 one, two;\nif (!w) { ALLOC(&one, 512);\nALLOC(&two, 32); //!\n} SYNC; if (!w) { DEALLOC(one, 512); }\n",
            [("ALLOC(&one, 512)", "ALLOC(&one, 256)"), ("DEALLOC(one, 512);", "DEALLOC(one, 256); DEALLOC(two, 32);")]),
    Planted("half_a_warp", "sync", START + FILL + "if (t % 32 < 16 + n)\nLD1(v, mine); //!\nWAITLD; O[t] = v;\n" + END, [("16 + n", "32 + n")]),
    Planted("descriptor_outside_of_shared_memory", "bounds", TILES + 'if (!t) {\nMMA("f16", base, da + 4096, db, idesc, 0); //!\nCOMMIT(&bar); } TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n' + END,
            [("da + 4096", "da")]),
    Planted("bad_instruction_descriptor", "value", TILES + 'if (!t) {\nMMA("f16", base, da, db, idesc + (3u << 17), 0); //!\nCOMMIT(&bar); } TRY(&bar, 0); AFTER; if (n) { LD1(v, mine); WAITLD; } O[t] = v;\n' + END,
            [("idesc + (3u << 17)", "idesc")]),
]


def launch_planted(body: str) -> tuple[simulator.Report, str]:
    source = HEAD + 'extern "C" __global__ void k(u32* O, int n) { int t = threadIdx.x, w = t / 32;\n' + body + "}\n"
    return simulator.launch(to_ptx_with_lines(source, ARCH), "k", 1, 128, [np.zeros(128, "u4"), 0], collect=True), source


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: case.name)
def test_fault_is_found_at_its_line(case: Planted) -> None:
    report, source = launch_planted(case.body)
    marked = {number for number, line in enumerate(source.split("\n"), 1) if "//!" in line}
    found = {(fault.check, fault.source[1] if fault.source else 0) for fault in report.faults}
    assert any(check == case.check and line in marked for check, line in found), (found, marked)


@pytest.mark.parametrize("case", PLANTED, ids=lambda case: case.name)
def test_correct_twin_is_clean(case: Planted) -> None:
    body = case.body
    for old, new in case.fix:
        assert old in body
        body = body.replace(old, new)
    report, _ = launch_planted(body)
    assert not report.faults, report.faults


@pytest.mark.parametrize("seed", range(6))
def test_commits_of_a_thread_arrive_in_turn(seed: int) -> None:
    """Who waited for a later commit may take the mbarriers of earlier ones away."""
    body = TILES + """__shared__ u64 early[8]; if (t < 8) INIT(early + t, 1); SYNC;
    if (!t) { for (int i = 0; i < 8; ++i) { MMA("f16", base, da, db, idesc, i ? 1 : 0); COMMIT(early + i); } COMMIT(&bar); }
    TRY(&bar, 0); AFTER; if (t < 8) ASM("mbarrier.inval.shared.b64 [%0];" :: "r"(sa(early + t)) : "memory");
    SYNC; if (t < 8) early[t] = 1; BEFORE; SYNC; AFTER;
    if (!t) for (int i = 0; i < 8; ++i) { MMA("f16", base, da, db, idesc, 1); COMMIT(&bar); if (i < 7) TRY(&bar, (i + 1) % 2); }
    TRY(&bar, 0); AFTER; LD1(v, mine); WAITLD; O[t] = v;\n""" + END
    source = HEAD + 'extern "C" __global__ void k(u32* O, int n) { int t = threadIdx.x, w = t / 32;\n' + body + "}\n"
    out = np.zeros(128, "u4")
    simulator.launch(to_ptx(source, ARCH), "k", 1, 128, [out, 0], seed=seed)
    np.testing.assert_array_equal(out.view("f4"), np.full(128, 16 * 16, "f4"))
