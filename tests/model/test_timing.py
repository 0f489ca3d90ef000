"""The timing of single instructions, loops and blocks, by machine code that NVRTC makes of small kernels."""

from __future__ import annotations

from typing import Any

import pytest

from tilus.model.boards import BOARDS, board_of
from tilus.model.cost import Cost
from tilus.model.gpu import model_launch
from tilus.model.kernel import KernelModel, LaunchModel
from tilus.model.launch import ArrayAt, Launch
from tilus.model.multiprocessor import Multiprocessor
from tilus.model.paths import LoopRun
from tilus.model.pipes import use_of
from tilus.model.sample import take_sample
from tilus.model.sass import Instruction, parse_sass
from tilus.model.steps import steps_of
from tilus.model.traces import Cut, executions, trace_of
from tilus.runtime.toolchains.binutils import disassemble
from tilus.runtime.toolchains.nvrtc import compile_cuda
from tilus.targets import get_target

LENGTH, TURNS = 32, 100
A100, A6000 = BOARDS["A100"], BOARDS["RTX A6000"]


def parameters(*values: int) -> bytes:
    return b"".join(v.to_bytes(8 if v >> 31 else 4, "little") for v in values)


def modelled(source: str, name: str, *, grid: int, threads: int, values: tuple[int, ...] = (), shared: int = 0,
             arrays: dict[str, int] | None = None, target: str = "sm_80") -> KernelModel:
    """The model of a kernel whose first parameters are the arrays' pointers."""
    at, first = [], 1 << 32
    for array, size in (arrays or {}).items():
        at.append(ArrayAt(array, first, size, 32))
        first += -(-size // (1 << 21)) * (1 << 21) + (1 << 21)
    launch = Launch(name, (grid, 1, 1), (threads, 1, 1), shared,
                    parameters(*(a.address for a in at), *values), tuple(at))
    board = board_of(target)
    assert board is not None
    cubin = compile_cuda(source, get_target(target)).cubin
    return model_launch(cubin, launch, get_target(target), board).model


def chain(body: str, *, declare: str = "float x = out[threadIdx.x];", keep: str = "x", warps: int = 4,
          target: str = "sm_80", opcode: str) -> float:
    """Cycles between instructions of a sub-core in a loop over copies of a statement; ``@`` is the copy's number modulo
    8."""
    text = "\n".join(body.replace("@", str(i % 8)) for i in range(LENGTH))
    source = ('extern __shared__ unsigned shared[]; extern "C" __global__ void chain(float* out, int turns) {'
              f"{declare}\n#pragma unroll 1\nfor (int i = 0; i < turns; i++) {{ {text} }}\n"
              f"out[threadIdx.x] = {keep}; }}")
    board = board_of(target)
    assert board is not None
    cubin = compile_cuda(source, get_target(target)).cubin
    program = parse_sass(disassemble(cubin, ("-c", "-hex")))["chain"]
    launch = Launch("chain", (board.sm_count, 1, 1), (32 * warps, 1, 1), 4096, parameters(1 << 32, TURNS),
                    (ArrayAt("out", 1 << 32, 4096, 32),))
    sample = take_sample(program, launch, get_target(target), wave_blocks=board.sm_count, l2_bytes=board.l2)
    timing = LaunchModel(sample, get_target(target), board, 32, 4096).model().timing
    first = max(timing.periods, key=timing.periods.__getitem__)
    last = max(n for n, i in enumerate(program.instructions) if i.target == program.instructions[first].address)
    count = sum(i.opcode == opcode for i in program.instructions[first:last + 1])
    assert count >= LENGTH
    return timing.periods[first] / count / max(1, warps // 4)


MMA = ('asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, '
       '{%0,%1,%2,%3};" : "+f"(c[@][0]), "+f"(c[@][1]), "+f"(c[@][2]), "+f"(c[@][3]) : "r"(turns));')
SUMS = {"declare": "float c[8][4] = {};", "keep": "c[0][0] + c[1][1] + c[2][2] + c[3][3] + c[4][0] + c[5][1] + c[6][2] "
                                                   "+ c[7][3]", "opcode": "HMMA"}
EX2 = 'asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));'
LDS = 'asm volatile("ld.shared.u32 %0, [%0];" : "+r"(s));'
POINTERS = "unsigned s = (threadIdx.x & 31) * 4; ((volatile unsigned*)shared)[threadIdx.x] = s; __syncthreads();"


@pytest.mark.parametrize(("target", "cycles"), [("sm_80", 8), ("sm_86", 16), ("sm_90a", 6.36), ("sm_120a", 32)])
def test_tensor_cores_take_what_their_peak_says(target: str, cycles: float):
    assert chain(MMA, warps=16, target=target, **SUMS) == pytest.approx(cycles, rel=0.03)


def test_a_dependent_product_waits_for_the_one_before():
    assert chain(MMA.replace("@", "0"), **SUMS) == pytest.approx(24, rel=0.02)


def test_fixed_latencies_are_those_of_ptxas():
    assert chain("x = fmaf(x, x, x);", opcode="FFMA") == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(("target", "cycles"), [("sm_80", 2), ("sm_86", 1)])
def test_many_warps_fill_the_pipe_of_multiply_adds(target: str, cycles: float):
    assert chain("x = fmaf(x, x, x);", opcode="FFMA", warps=32, target=target) == pytest.approx(cycles, rel=0.4)


def test_special_functions_take_eight_cycles_of_four_lanes():
    assert chain(EX2, opcode="MUFU", target="sm_86") == pytest.approx(14, rel=0.05)
    assert chain(EX2, opcode="MUFU", target="sm_86", warps=32) == pytest.approx(8, rel=0.05)


def test_shared_memory_takes_a_request_in_two_cycles():
    loads = {"declare": POINTERS, "keep": "s", "opcode": "LDS", "target": "sm_86"}
    assert chain(LDS, **loads) == pytest.approx(24, rel=0.05)
    assert chain(LDS, warps=32, **loads) == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(("stride", "passes"), [(4, 2), (8, 2), (16, 4), (32, 8), (128, 32)])
def test_conflicts_take_a_pass_each(stride: int, passes: int):
    """A request takes two cycles anyway, and four sub-cores share the path."""
    store = 'asm volatile("st.volatile.shared.u32 [%0], %1;" :: "r"(s), "r"(turns));'
    found = chain(store, declare=f"unsigned s = (threadIdx.x & 31) * {stride};", keep="s", opcode="STS", warps=16)
    assert found == pytest.approx(4 * passes, rel=0.05)


COPY = """extern "C" __global__ void copy(const float4* x, float4* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}"""


def test_a_copy_takes_what_memory_takes():
    n = 1 << 24
    model = modelled(COPY, "copy", grid=n // 256, threads=256, values=(n,), arrays={"x": 16 * n, "y": 16 * n})
    assert model.memory_bytes == 32 * n
    least = 32 * n / (A100.memory_bandwidth * 1e9 * A100.efficiency)
    assert model.seconds == pytest.approx(least + A100.launch, rel=0.05)
    assert model.busy["DRAM"] > 0.95
    assert "memory bandwidth" in model.bottleneck


def test_a_small_grid_leaves_the_machine_idle():
    n = 256
    model = modelled(COPY, "copy", grid=1, threads=256, values=(n,), arrays={"x": 16 * n, "y": 16 * n})
    assert A100.launch < model.seconds < A100.launch + 3e-6
    assert "wait for global memory" in model.bottleneck
    assert "fewer blocks" in model.bottleneck


WORK = """extern "C" __global__ void work(float* y, int turns, int mine) {
    int count = blockIdx.x < mine ? turns * 8 : turns;
    float x = threadIdx.x;
    #pragma unroll 1
    for (int i = 0; i < count; i++) { x = fmaf(x, x, 1.0f); x = fmaf(x, x, 2.0f); }
    y[blockIdx.x * blockDim.x + threadIdx.x] = x;
}"""


def work(blocks: int, longer: int = 0, threads: int = 1024) -> KernelModel:
    return modelled(WORK, "work", grid=blocks, threads=threads, values=(1000, longer),
                    arrays={"y": 4 * threads * blocks})


def test_blocks_beyond_a_wave_take_another_one():
    one, more = work(2 * 108), work(2 * 108 + 1)
    assert one.resident == 2
    assert one.waves == 1
    assert more.cycles > 1.3 * one.cycles


def test_blocks_with_more_work_are_the_tail():
    even, uneven = work(2 * 108), work(2 * 108, longer=1)
    assert uneven.cycles == pytest.approx(even.cycles * 8, rel=0.3)


def test_occupancy_is_limited_by_shared_memory():
    def resident(shared: int) -> int:
        return modelled(COPY, "copy", grid=10_000, threads=128, values=(0,), arrays={"x": 16, "y": 16},
                        shared=shared).resident

    assert [resident(s) for s in (0, 40 * 1024, 81 * 1024, 160 * 1024)] == [16, 4, 2, 1]


def instruction(text: str, *, stall: int = 1, write: int = 7, waits: int = 0) -> Instruction:
    control = stall << 41 | 1 << 45 | write << 46 | 7 << 49 | waits << 52
    rows = f"k:\n        /*0000*/ {text} ; /* 0x0000000000000000 */\n   /* 0x{control:016x} */\n"
    return parse_sass('\t.section .text.k,"ax",@progbits\n' + rows)["k"].instructions[0]


@pytest.mark.parametrize(("text", "arch", "cycles"), [
    ("HGMMA.64x256x16.F32 R24, gdesc[UR4], R24, !UPT, gsb0", 90, 128),
    ("HGMMA.64x64x16.F32 R24, gdesc[UR4], R24, !UPT, gsb0", 90, 32),
    ("HGMMA.64x32x16.F32 R24, gdesc[UR4], R24, !UPT, gsb0", 90, 24),
    ("HGMMA.64x8x16.F32 R24, gdesc[UR4], R24, !UPT, gsb0", 90, 18),
    ("HGMMA.64x8x16.F32 R24, R4, gdesc[UR4], R24, gsb0", 90, 13),
    ("IMMA.16832.S8.S8 R4, R8.ROW, R10.COL, R4", 80, 8),
    ("HMMA.1688.F32.TF32 R4, R8, R10, R4", 80, 8),
    ("DMMA.884 R4, R8, R10, R4", 80, 16),
    ("HMMA.884.F32.F32.STEP0 R4, R8, R10, R4", 70, 2),
])
def test_intervals_of_products(text: str, arch: int, cycles: float):
    assert use_of(instruction(text), arch).interval == pytest.approx(cycles)


def test_control_bits_are_read():
    found = instruction("@!P0 IMAD.WIDE.U32 R2, R3.reuse, -0x4, c[0x0][0x160]")
    assert found.guard is not None
    assert (found.guard.kind, found.guard.number, found.guard.negated) == ("P", 0, True)
    assert (found.opcode, found.modifiers) == ("IMAD", ("WIDE", "U32"))
    assert [o.kind for o in found.operands] == ["R", "R", "immediate", "constant"]
    assert found.operands[1].modifiers == ("reuse",)
    assert (found.operands[2].value, found.operands[3].value) == (-4, 0x160)
    assert (found.stall, found.yields, found.write_barrier, found.read_barrier, found.waits) == (1, False, 7, 7, 0)


def test_loops_in_full_are_counted():
    inner = LoopRun(1, 10, ((1, 2), (1, 2), (1, 2)))
    outer = LoopRun(0, 5, ((0, inner, 3),) * 3)
    assert executions((outer, 4)) == {0: 5, 1: 50, 2: 50, 3: 5, 4: 1}


def times(cut: Cut, count: int) -> float:
    """Cycles of a loop of dependent multiply-adds, executed in part."""
    fma = instruction("FFMA R2, R2, R2, R2")
    path: Any = (LoopRun(0, count, ((0, 0, 0, 0),) * 3),)
    steps = steps_of([fma], {}, 80)
    return Multiprocessor(steps, [[trace_of(path, cut)] * 4], A100, 108).run().cycles


def test_loops_that_are_cut_take_as_long_as_those_in_full():
    whole, part = times(Cut(1000, 1000, 1000), 500), times(Cut(3, 8, 8), 500)
    assert part == pytest.approx(whole, rel=0.01)


def test_bandwidth_is_shared():
    load = instruction("LDG.E.128 R4, [R2.64]", write=0, waits=1)
    path: Any = (LoopRun(0, 200, ((0,),) * 3),)
    cost = {0: Cost(shared=False, store=False, passes=4, l2_bytes=512, memory_bytes=512)}
    cycles = {sharers: Multiprocessor(steps_of([load], cost, 80), [[trace_of(path, Cut(9, 99, 64))] * 32], A100,
                                      sharers).run().cycles for sharers in (20, 108)}
    assert cycles[108] / cycles[20] > 2.5
    assert 32 * 200 * 512 / cycles[108] <= 1.02 * A100.memory_bytes_per_cycle / 108


def test_every_target_that_is_read_has_a_board():
    for board in BOARDS.values():
        assert get_target(board.target).sm_count > 0
    assert board_of("sm_80") is A100
    assert board_of("cpu") is None
