"""The integer part of machine code: instructions against Python's integers, loops, divergence, memory accesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.model.integer_programs import BASE, Stores, check, compile_program, execute, launch_of
from tilus.model.launch import ArrayAt, Launch
from tilus.model.paths import LoopRun
from tilus.model.sample import Sample, take_sample
from tilus.model.sass import Program
from tilus.targets import get_target

TARGETS = ["sm_75", "sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a"]
POINTER = (BASE, "pointer")


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(2))
def test_random_expressions(seed: int, target: str) -> None:
    check(seed, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_random_expressions(target: str) -> None:
    for seed in range(1000, 1040):
        check(seed, target, depth=5)


def sampled(source: str, target: str, grid: int, block: int, values: list[Any], size: int = 1 << 30,
            shared: int = 0) -> tuple[Program, Launch, Sample]:
    program, cubin = compile_program('extern "C" __global__ void k' + source, target)
    launch = launch_of(cubin, grid, block, values, arrays=(ArrayAt("p", BASE, size, 32),), shared=shared)
    return program, launch, take_sample(program, launch, get_target(target), wave_blocks=grid, l2_bytes=1 << 25)


def loops(sample: Sample, block: int = 0, warp: int = 0) -> list[LoopRun]:
    return [part for part in sample.blocks[block].warps[warp] if isinstance(part, LoopRun)]


@pytest.mark.sweep
@pytest.mark.parametrize("target", ["sm_80", "sm_120a"])
@pytest.mark.parametrize(("type_", "start", "step", "end", "condition"), [
    ("int", 0, 3, 10_000, "i < n"), ("int", 100_000, -7, 11, "i >= n"), ("unsigned", 5, 1, 70_005, "i != n"),
    ("unsigned", 0, 1 << 16, 0xFFF0_0000, "i < n"), ("long long", -(1 << 40), 1 << 20, 1 << 40, "i < n"),
    ("unsigned long long", 0, 4096, (1 << 36) + 1, "i <= n"), ("int", 0, 1, 1 << 30, "i < n"),
], ids=str)
def test_long_loops_are_counted_without_walking(type_: str, start: int, step: int, end: int, condition: str,
                                                target: str) -> None:
    source = (f"(volatile int* p, {type_} s, {type_} d, {type_} n) {{\n#pragma unroll 1\n"
              f"for ({type_} i = s; {condition}; i += d) *p = 1; }}")
    kind = {"int": "i32", "unsigned": "u32", "long long": "i64", "unsigned long long": "u64"}[type_]
    _, _, sample = sampled(source, target, 1, 32, [POINTER, (start, kind), (step, kind), (end, kind)])
    count = len(range(start, end + (">=" in condition) * -1 + ("<=" in condition), step))
    assert sum(run.count for run in loops(sample)) == count
    assert sum(work.item() for work in sample.block_work.values()) == count
    assert sample.assumed == ()
    store, = (number for number, access in sample.accesses.items() if access.array == "p")
    assert sample.executions[store] == count


def test_each_block_has_its_own_count() -> None:
    """As in causal attention: block b goes through b + 1 tiles."""
    source = ("(volatile int* p) {\n#pragma unroll 1\n"
              "for (int i = 0; i <= blockIdx.x; i++) p[i * 32 + threadIdx.x] = 1; }")
    _, _, sample = sampled(source, "sm_80", 500, 32, [POINTER])
    work, = sample.block_work.values()
    assert work.tolist() == list(range(1, 501))
    assert len(sample.blocks) == 8
    assert sum(block.weight for block in sample.blocks) == 500
    mean = sum(block.weight * loops(sample, n)[0].count for n, block in enumerate(sample.blocks)) / 500
    assert mean == pytest.approx(work.mean(), rel=0.02)


def test_nested_loops() -> None:
    source = ("(volatile int* p, int n, int m) {\n#pragma unroll 1\nfor (int i = 0; i < n; i++) {\n#pragma unroll 1\n"
              "for (int j = 0; j < m; j++) p[j] = i;\np[-1] = 0; } }")
    _, _, sample = sampled(source, "sm_80", 1, 32, [POINTER, (5, "i32"), (1000, "i32")])
    outer, = loops(sample)
    assert outer.count == 5
    inner, = (part for part in outer.iterations[0] if isinstance(part, LoopRun))
    assert inner.count == 1000
    assert sorted(work.item() for work in sample.block_work.values() if work.any()) == [5, 5000]


def test_warps_with_roles() -> None:
    source = ("(volatile int* p) { int w = threadIdx.x / 32;\n#pragma unroll 1\n"
              "for (int i = 0; i < (w == 0 ? 10 : w == 3 ? 0 : 100); i++) p[threadIdx.x] = i; }")
    _, _, sample = sampled(source, "sm_80", 7, 128, [POINTER])
    block, = sample.blocks
    assert [sum(r.count for r in loops(sample, warp=w)) for w in range(4)] == [10, 100, 100, 0]
    assert block.warps[1] is block.warps[2]


def test_divergent_lanes_meet_again() -> None:
    source = ("(volatile int* p, const float* x) { int t = threadIdx.x; float f = x[t];\n"
              "if (t & 1) {\n#pragma unroll 1\nfor (int i = 0; i < t; i++) p[t] = i;\n} else p[t + 64] = 3;\n"
              "__syncwarp(); p[t + 128] = f; }")
    program, _, sample = sampled(source, "sm_80", 1, 32, [POINTER, (BASE + (1 << 20), "pointer")])
    assert loops(sample)[0].count == 31  # as long as the lane that takes longest
    last = max(n for n, a in sample.accesses.items() if program.instructions[n].opcode == "STG")
    assert (sample.executions[last], sample.accesses[last].lanes) == (1, 32)


def test_functions_are_entered_and_left() -> None:
    source = "(volatile int* p, long long a, long long b) { p[(a + threadIdx.x) / b] = 1; p[0] = 2; }"
    program, _, sample = sampled(source, "sm_80", 1, 32, [POINTER, ((1 << 50) + 5, "i64"), ((1 << 40) + 1, "i64")])
    path = sample.blocks[0].warps[0]
    opcodes = [program.instructions[n].opcode for n in path if isinstance(n, int)]
    assert opcodes.index("CALL") < opcodes.index("RET") < opcodes.index("EXIT")
    assert [a.sectors for a in sample.accesses.values()] == [1, 1]


@pytest.mark.parametrize(("stride", "sectors"), [(1, 4), (2, 8), (8, 32), (32, 32)])
def test_sectors_of_strided_accesses(stride: int, sectors: int) -> None:
    _, _, sample = sampled(f"(volatile int* p) {{ p[threadIdx.x * {stride}] = 1; }}", "sm_80", 3, 96, [POINTER])
    access, = sample.accesses.values()
    assert (access.sectors, access.least_sectors, access.lanes) == (sectors, 4, 32)
    assert sample.traffic.requested_bytes == {"p": 9 * sectors * 32}


@pytest.mark.parametrize(("stride", "wavefronts"), [(1, 1), (2, 2), (8, 8), (32, 32), (33, 1)])
def test_conflicts_of_strided_accesses(stride: int, wavefronts: int) -> None:
    source = (f"(int* p) {{ extern __shared__ int s[]; s[threadIdx.x * {stride}] = p[threadIdx.x]; __syncthreads();"
              f" p[threadIdx.x] = s[(threadIdx.x ^ 1) * {stride}]; }}")
    program, _, sample = sampled(source, "sm_80", 2, 64, [POINTER], shared=1 << 14)
    found = {program.instructions[n].opcode: a for n, a in sample.accesses.items() if a.space == "shared"}
    assert set(found) == {"LDS", "STS"}
    assert {(a.wavefronts, a.least_wavefronts) for a in found.values()} == {(wavefronts, 1)}


def test_contents_that_are_known_lead_on() -> None:
    """A block reads how often to go round, and where, from a table."""
    source = ("(volatile int* p, const int* table) { int n = table[blockIdx.x];\n#pragma unroll 1\n"
              "for (int i = 0; i < n; i++) p[n * 1024 + i * 32 + threadIdx.x] = 1; }")
    program, cubin = compile_program('extern "C" __global__ void k' + source, "sm_80")
    table = np.array([3, 0, 12, 7], np.int32)
    place = BASE + (1 << 32)
    arrays = (ArrayAt("p", BASE, 1 << 20, 32), ArrayAt("table", place, 16, 32, table.view(np.uint8)))
    launch = launch_of(cubin, 4, 32, [POINTER, (place, "pointer")], arrays=arrays)
    sample = take_sample(program, launch, get_target("sm_80"), wave_blocks=4, l2_bytes=1 << 25)
    work, = sample.block_work.values()
    assert work.tolist() == [3, 0, 12, 7]
    assert sample.traffic.requested_bytes["p"] == 22 * 128
    assert sample.assumed == ()


def test_what_depends_on_data_is_written_down() -> None:
    source = "(volatile int* p, const int* x) { for (int i = 0; i < x[i]; i++) p[x[i]] = 1; }"
    _, _, sample = sampled(source, "sm_80", 1, 32, [POINTER, (BASE + (1 << 20), "pointer")])
    assert any("depends on data" in text for text in sample.assumed)
    assert any("addresses" in text for text in sample.assumed)


def test_opcodes_that_nobody_knows_are_named() -> None:
    program, cubin = compile_program('extern "C" __global__ void k(int* p) { p[threadIdx.x * 3] = 1; }', "sm_80")
    from dataclasses import replace

    changed = tuple(replace(i, opcode="IMADISON") if i.opcode == "IMAD" else i for i in program.instructions)
    launch = launch_of(cubin, 1, 32, [POINTER], arrays=(ArrayAt("p", BASE, 1 << 20, 32),))
    sample = take_sample(Program("k", changed), launch, get_target("sm_80"), wave_blocks=1, l2_bytes=1 << 25)
    assert {name.split(".")[0] for name in sample.unknown_opcodes} == {"IMADISON"}


def test_extents_of_grid_and_block_are_read() -> None:
    source = ("(volatile unsigned char* p) { p[blockDim.x] = 1; p[blockDim.y] = 1; p[gridDim.x] = 1; p[gridDim.y] = 1;"
              " p[(blockIdx.y * gridDim.x + blockIdx.x) * 64 + threadIdx.y * 8 + threadIdx.x] = 1; }")
    for target in TARGETS:
        program, cubin = compile_program('extern "C" __global__ void k' + source, target)
        plain = launch_of(cubin, 1, 1, [POINTER])
        launch = Launch("k", (3, 2, 1), (8, 8, 1), 0, plain.parameters)
        seen = Stores()
        execute(program, launch, target, seen)
        found = [np.unique(address - np.uint64(BASE)).tolist() for address, _, _ in seen.found]
        assert found == [[8], [8], [3], [2], list(range(6 * 64))], target


def test_spilled_registers_come_back() -> None:
    """More addresses than registers, each of a division: those that are kept in local memory are known."""
    places = "".join(f"unsigned a{n} = (t + {n}) / d * {n + 1}; " for n in range(48))
    loads = "".join(f"x += p[a{n}]; " for n in range(48))
    stores = "".join(f"p[a{n} + x * 0] = {n}; " for n in range(48))
    source = f"(volatile int* p, unsigned d) {{ unsigned t = threadIdx.x; int x = 0; {places} {loads} {stores} }}"
    program, cubin = compile_program('extern "C" __global__ void k' + source, "sm_80", max_registers=32)
    assert any(i.opcode == "LDL" for i in program.instructions)
    seen = Stores()
    execute(program, launch_of(cubin, 1, 32, [POINTER, (3, "u32")]), "sm_80", seen)
    assert len(seen.found) == 48
    for n, (address, known, _) in enumerate(seen.found):
        assert known is True
        assert ((address.reshape(-1) - np.uint64(BASE)) // 4).tolist() == [(t + n) // 3 * (n + 1) for t in range(32)]


@pytest.mark.parametrize(("rows", "kept"), [(8, True), (1 << 14, False)])
def test_l1_keeps_what_a_block_reads_again(rows: int, kept: bool) -> None:
    """All warps read the same vectors, and all of them twice: those that are still there the second time are not asked
    for again."""
    source = ("(volatile int* p, const int* __restrict__ x, int n) { int s = 0;\n"
              "for (int again = 0; again < 2; again++) {\n"
              "#pragma unroll 1\nfor (int i = 0; i < n; i++) s += x[i * 32 + threadIdx.x % 32]; __syncthreads(); }\n"
              "p[threadIdx.x] = s; }")
    program, cubin = compile_program('extern "C" __global__ void k' + source, "sm_80")
    place = BASE + (1 << 30)
    arrays = (ArrayAt("p", BASE, 1 << 20, 32), ArrayAt("x", place, rows * 128, 32))
    launch = launch_of(cubin, 108, 256, [POINTER, (place, "pointer"), (rows, "i32")], arrays=arrays)
    sample = take_sample(program, launch, get_target("sm_80"), wave_blocks=108, l2_bytes=1 << 25)
    assert sample.traffic.requested_bytes["x"] == pytest.approx(108 * rows * 128 * (1 if kept else 2), rel=0.01)
    assert sample.traffic.dram_bytes["x"] == pytest.approx(rows * 128, rel=0.01)


def test_bulk_copies_are_written_down() -> None:
    source = ("(char* p) { extern __shared__ char s[]; unsigned to = __cvta_generic_to_shared(s);\n"
              'asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;" :: "l"(p), "r"(to)); }')
    _, _, sample = sampled(source, "sm_90a", 1, 32, [POINTER], shared=1024)
    assert any("UBLKCP" in text for text in sample.assumed)
