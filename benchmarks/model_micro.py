"""Micro-kernels in CUDA C: what the model says of single instructions, beside what has been measured on GPUs.

Sources of the measured cycles: 'Analyzing Modern NVIDIA GPU cores' (Ampere: latencies, the path to memory), published
peaks of tensor cores, 'Dissecting the NVIDIA Hopper architecture' (special functions).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tilus.model.boards import Board, board_of
from tilus.model.kernel import LaunchModel
from tilus.model.launch import ArrayAt, Launch
from tilus.model.sample import take_sample
from tilus.model.sass import Program, parse_sass
from tilus.runtime.cubin import read_cubin
from tilus.runtime.toolchains.binutils import disassemble
from tilus.runtime.toolchains.nvrtc import compile_cuda
from tilus.targets import get_target

LENGTH, TURNS = 64, 200


@dataclass(frozen=True)
class Micro:
    """A loop over ``LENGTH`` copies of a statement.

    Attributes:
        declare, body, keep: what is declared before the loop, its statement, and what is stored so that it stays.
        opcode: of the instructions that are counted.
        expected: cycles of each, of a warp where ``warps`` is 4 and of a sub-core beyond.
        why: what is known where the model differs.
    """

    name: str
    target: str
    declare: str
    body: str
    keep: str
    opcode: str
    expected: float
    warps: int = 4
    why: str = ""


HALF2 = "asm volatile(\"add.rn.f16x2 %0, %0, %1;\" : \"+r\"(h) : \"r\"(n));"
MMA = ("asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, "
       "{%0,%1,%2,%3};\" : \"+f\"(c[@][0]), \"+f\"(c[@][1]), \"+f\"(c[@][2]), \"+f\"(c[@][3]) : \"r\"(n));")
ACCUMULATORS = "float c[8][4] = {};"
SUM = "c[0][0] + c[1][1] + c[2][2] + c[3][3] + c[4][0] + c[5][1] + c[6][2] + c[7][3]"
EX2 = "asm volatile(\"ex2.approx.ftz.f32 %0, %0;\" : \"+f\"(x@));"
EX2_CHAIN = EX2.replace("@", "")
LDS = "asm volatile(\"ld.shared.{0} %0, [%0];\" : \"+r\"(s));"
SHUFFLE = "asm volatile(\"shfl.sync.bfly.b32 %0, %0, 1, 0x1f, -1;\" : \"+r\"(h));"
OVERHEAD = "the loop's own instructions take issue slots too"
SHARED = "unsigned s = (threadIdx.x & 31) * 4; ((volatile unsigned*)shared)[threadIdx.x] = s; __syncthreads();"


def cases() -> Iterator[Micro]:
    yield Micro("FFMA, dependent", "sm_80", "float x = out[0];", "x = fmaf(x, x, x);", "x", "FFMA", 4)
    yield Micro("FFMA, many warps", "sm_80", "float x = out[0];", "x = fmaf(x, x, x);", "x", "FFMA", 2, warps=32,
                why=OVERHEAD)
    yield Micro("FFMA, many warps", "sm_86", "float x = out[0];", "x = fmaf(x, x, x);", "x", "FFMA", 1, warps=32,
                why=OVERHEAD)
    yield Micro("HADD2, dependent", "sm_86", "unsigned h = n;", HALF2, "h", "HADD2", 5,
                why="the stall count that this ptxas writes down is 4")
    yield Micro("mma.m16n8k16, dependent", "sm_80", ACCUMULATORS, MMA.replace("@", "0"), SUM, "HMMA", 24,
                why="ptxas schedules 24; 33 to 34 have been measured on sm_86")
    for target, cycles in (("sm_80", 8), ("sm_86", 16), ("sm_90a", 6.36)):
        yield Micro("mma.m16n8k16, independent", target, ACCUMULATORS, MMA, SUM, "HMMA", cycles, warps=16)
    yield Micro("EX2, dependent", "sm_86", "float x = out[0];", EX2_CHAIN, "x", "MUFU", 14,
                why="a result of variable latency is seen one cycle later")
    yield Micro("EX2, many warps", "sm_86", "float x = out[0];", EX2_CHAIN, "x", "MUFU", 8, warps=16)
    yield Micro("LDS, dependent", "sm_86", SHARED, LDS.format("u32"), "s", "LDS", 24,
                why="a result of variable latency is seen one cycle later")
    yield Micro("SHFL, dependent", "sm_86", "unsigned h = n * threadIdx.x;", SHUFFLE, "h", "SHFL", 23)
    yield Micro("LDS, many warps", "sm_86", SHARED, LDS.format("u32"), "s", "LDS", 8, warps=32,
                why="the path takes a request of one of four sub-cores in two cycles")


SOURCE = """extern __shared__ unsigned shared[];
extern "C" __global__ void micro(float *out, int turns, unsigned n) {{
    {declare}
    #pragma unroll 1
    for (int i = 0; i < turns; i++) {{
{body}
    }}
    out[threadIdx.x] = (float)({keep});
}}
"""


@cache
def built(micro: Micro) -> tuple[Program, int]:
    """The code, and the registers of a thread."""
    body = "\n".join(" " * 8 + micro.body.replace("@", str(i % 8)) for i in range(LENGTH))
    source = SOURCE.format(declare=micro.declare, body=body, keep=micro.keep)
    cubin = compile_cuda(source, get_target(micro.target)).cubin
    registers = read_cubin(cubin).kernels["micro"].registers
    return parse_sass(disassemble(cubin, ("-c", "-hex")))["micro"], registers


def cycles_of(micro: Micro, board: Board) -> float:
    """What the model says: cycles from one counted instruction of a sub-core to the next."""
    program, registers = built(micro)
    address = 1 << 32
    parameters = address.to_bytes(8, "little") + TURNS.to_bytes(4, "little") + bytes(4)
    launch = Launch("micro", (board.sm_count, 1, 1), (32 * micro.warps, 1, 1), 4096, parameters,
                    (ArrayAt("out", address, 4096, 32),))
    target = get_target(micro.target)
    sample = take_sample(program, launch, target, wave_blocks=board.sm_count, l2_bytes=board.l2)
    timing = LaunchModel(sample, target, board, registers, 4096).model().timing
    first = max(timing.periods, key=timing.periods.__getitem__)
    last = max(n for n, i in enumerate(program.instructions) if i.target == program.instructions[first].address)
    count = sum(i.opcode == micro.opcode for i in program.instructions[first:last + 1])
    assert count >= LENGTH, f"{micro.name}: the compiler left {count} of {LENGTH}"
    return timing.periods[first] / count / max(1, micro.warps // 4)


def rows() -> list[tuple[str, str, float, float, str]]:
    """Name, target, measured and the model's cycles, and why they differ."""
    found = []
    for micro in cases():
        board = board_of(micro.target)
        assert board is not None
        found.append((micro.name, micro.target, micro.expected, cycles_of(micro, board), micro.why))
    return found
