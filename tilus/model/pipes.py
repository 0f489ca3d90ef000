"""The pipes of a sub-core: which instruction goes where, how long it keeps its pipe, and when its result is there.

A quarter of a multiprocessor issues one instruction a cycle; a pipe with 16 lanes takes a warp's every second cycle.
Intervals follow from the CUDA programming guide's table of arithmetic throughput (results a cycle and
multiprocessor) and, for tensor cores, from each board's published peak. Fixed latencies are not here: ptxas has put
them into the stall counts. Latencies of the others are those of 'Analyzing Modern NVIDIA GPU cores' (Ampere), in cycles
from issue.
"""

from __future__ import annotations

import re

from tilus.model.sass import Instruction
from tilus.records import record

MEMORY_OPCODES = frozenset({
    "LDG", "STG", "LDGSTS", "LDS", "STS", "LDSM", "STSM", "LDL", "STL", "LD", "ST", "ATOM", "ATOMG", "ATOMS", "RED",
    "REDG", "UBLKCP", "UBLKRED", "UTMALDG", "UTMASTG", "SUST", "SULD",
})
SHARED_OPCODES = frozenset({"LDS", "STS", "LDSM", "STSM", "ATOMS"})
STORE_OPCODES = frozenset({"STG", "ST", "STS", "STSM", "STL", "RED", "REDG"})


@record(frozen=True)
class Use:
    """What an instruction asks of its sub-core.

    Attributes:
        pipe: its name; pipes of different names work side by side.
        interval: cycles until the pipe takes the next warp.
        latency: cycles from issue to the result, for what a scoreboard waits for; 0 for fixed latencies.
        read: cycles from issue until the operands have been read, for what a scoreboard waits for.
    """

    pipe: str
    interval: float
    latency: float = 0
    read: float = 0


_ALU = frozenset({
    "IADD3", "IADD", "LOP3", "LOP", "SHF", "SHL", "SHR", "LEA", "ISETP", "SEL", "PRMT", "IMNMX", "VIMNMX", "VIMNMX3",
    "VIADDMNMX", "IABS", "SGXT", "BMSK", "PLOP3", "FMNMX", "FMNMX3", "FSETP", "FSEL", "FSET", "MOV", "R2P", "P2R",
    "VABSDIFF", "CSET", "HMNMX2", "HSETP2", "HSET2", "F2FP", "I2FP", "VOTE", "CS2R", "FCHK", "ISCADD", "VHMNMX",
    "VOTEU", "IADD32I",
})
_HALF = frozenset({"HADD2", "HMUL2", "HFMA2", "FHADD", "FHFMA"})
_SLOW = frozenset({
    "MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "FLO", "BREV", "I2I", "UF2I", "UI2F", "UFLO", "UPOPC", "UBREV",
})
_CONTROL = frozenset({
    "BRA", "BRX", "JMP", "EXIT", "BSSY", "BSYNC", "CALL", "RET", "BREAK", "WARPSYNC", "YIELD", "NOP", "NANOSLEEP",
    "DEPBAR", "LDGDEPBAR", "BAR", "MEMBAR", "ERRBAR", "CCTL", "CGAERRBAR", "WARPGROUP", "KILL", "BPT", "RPCMOV",
    "PREEXIT", "ACQBULK", "FENCE", "UCGABAR_ARV", "UCGABAR_WAIT", "ENDCOLLECTIVE", "PMTRIG", "B2R", "R2B", "LEPC",
    "BMOV", "ELECT", "SYNCS", "ARRIVES", "USETMAXREG", "UTMACMDFLUSH", "UTMACCTL", "QSPC",
})


@record(frozen=True)
class SubCore:
    """The rates of one architecture's sub-core.

    Attributes:
        fma, half, alu: cycles between warps of f32 multiply-adds, of those on pairs of f16, and of integers.
        integer_multiply: of IMAD, which shares the multiply-adds' pipe.
        double: of f64.
        conversions: of instructions of the slow pipe that are not transcendental.
        tensor: multiply-adds a cycle of its tensor core, on f16.
        matrix: what share of that mma.sync reaches.
    """

    fma: float
    half: float
    alu: float
    integer_multiply: float
    double: float
    tensor: float
    matrix: float = 1.0


_SUB_CORES = {
    70: SubCore(2, 2, 2, 2, 4, 128),
    75: SubCore(2, 2, 2, 2, 64, 128),
    80: SubCore(2, 1, 2, 2, 4, 256),
    86: SubCore(1, 2, 2, 2, 64, 128),
    89: SubCore(1, 2, 2, 2, 64, 128),
    # Published: mma.sync reaches 62.9 % of Hopper's peak.
    90: SubCore(1, 1, 2, 2, 2, 512, 0.629),
    100: SubCore(1, 1, 2, 2, 2, 512, 0.5),
    120: SubCore(1, 1, 1, 1, 64, 128),
}


def sub_core(arch: int) -> SubCore:
    """The rates of an architecture (80 for sm_80), else of the newest one before it."""
    return _SUB_CORES[max((known for known in _SUB_CORES if known <= arch), default=70)]


def use_of(instruction: Instruction, arch: int, *, half_rate: bool = False) -> Use:
    """The pipe of an instruction.

    Args:
        half_rate: whether tensor cores that sum in f32 run at half their rate.
    """
    core, opcode = sub_core(arch), instruction.opcode
    if opcode in ("FFMA", "FMUL", "FADD", "FSWZADD", "FFMA2", "FMUL2", "FADD2", "FMUL32I", "FADD32I", "FFMA32I"):
        return Use("fma", core.fma * (2 if opcode in ("FFMA2", "FMUL2", "FADD2") else 1))
    if opcode in ("IMAD", "IMUL", "IDP", "VIADD", "XMAD", "IMAD32I", "IDP4A"):
        return Use("alu" if opcode == "VIADD" else "fma heavy", core.integer_multiply)
    if opcode in _HALF:
        return Use("half", core.half)
    if opcode in _ALU:
        return Use("alu", core.alu)
    if opcode in _SLOW:
        return Use("slow", 8, latency=14, read=9)
    if opcode in ("DFMA", "DADD", "DMUL", "DSETP", "DMNMX"):
        return Use("double", core.double, latency=8 if core.double < 16 else 44, read=9)
    if opcode in WARP_PRODUCTS:
        return _matrix(instruction, core, half_rate)
    if opcode in GROUP_PRODUCTS:
        return _group_matrix(instruction, core)
    if opcode in ("SHFL", "MATCH", "REDUX", "CREDUX", "MOVM"):
        return Use("shuffle", 2, latency=23, read=9)
    if opcode in ("S2R", "S2UR", "R2UR"):
        return Use("uniform", 2, latency=20 if opcode != "R2UR" else 10, read=9)
    if opcode in ("LDC", "LDCU", "ULDC"):
        return Use("constant", 2, latency=29, read=9)
    if opcode in MEMORY_OPCODES:
        return Use("memory", 1)
    if opcode in _CONTROL:
        return Use("control", 1)
    if opcode.startswith("U"):
        return Use("uniform", 2, latency=10, read=9)
    return Use("alu", core.alu)


_SHAPES = {
    "884": (8, 8, 4), "1688": (16, 8, 8), "16816": (16, 8, 16), "16832": (16, 8, 32), "16864": (16, 8, 64),
    "8816": (8, 8, 16), "8832": (8, 8, 32), "1684": (16, 8, 4), "168128": (16, 8, 128), "88128": (8, 8, 128),
    "168256": (16, 8, 256),
}


WARP_PRODUCTS = frozenset({"HMMA", "IMMA", "DMMA", "QMMA", "OMMA", "BMMA"})
GROUP_PRODUCTS = frozenset({"HGMMA", "IGMMA", "QGMMA", "BGMMA"})


def shape_of(instruction: Instruction) -> tuple[int, int, int] | None:
    """M, N and K of the product that a warp does with an instruction (of wgmma its 16 rows, of Volta's the four quad
    pairs together and a quarter of the columns); None for others."""
    if instruction.opcode in WARP_PRODUCTS:
        if instruction.has("884") and instruction.opcode == "HMMA":
            return 32, 8 // (4 if _has_step(instruction) else 1), 4
        return next((_SHAPES[m] for m in instruction.modifiers if m in _SHAPES), (16, 8, 16))
    if instruction.opcode in GROUP_PRODUCTS:
        found = next((m for m in instruction.modifiers if re.fullmatch(r"64x\d+x\d+", m)), "64x64x16")
        _, n, k = map(int, found.split("x"))
        return 16, n, k
    return None


def _matrix(instruction: Instruction, core: SubCore, half_rate: bool) -> Use:
    """mma.sync. A product of the tensor core takes as many cycles as it has multiply-adds for."""
    m, n, k = shape_of(instruction) or (0, 0, 0)
    work = float(m * n * k)
    rate = core.tensor * core.matrix
    if instruction.opcode == "DMMA":
        return Use("double", work / 16 if core.double < 16 else work, latency=33, read=9)
    if instruction.opcode == "HMMA" and instruction.has("884"):
        return Use("tensor", work / core.tensor)
    rate *= _type_rate(instruction)
    if half_rate and instruction.opcode in ("HMMA", "QMMA") and instruction.has("F32"):
        rate /= 2
    if instruction.has("SP"):
        work /= 2
    return Use("tensor", work / rate)


def _has_step(instruction: Instruction) -> bool:
    return any(m.startswith("STEP") for m in instruction.modifiers)


def _type_rate(instruction: Instruction) -> float:
    """How many times as fast as f16 the operands' type is."""
    if instruction.opcode == "HMMA":
        return 0.5 if instruction.has("TF32") else 1.0
    if instruction.opcode in ("IMMA", "IGMMA"):
        return 4.0 if any(m in ("S4", "U4") for m in instruction.modifiers) else 2.0
    if instruction.opcode == "BMMA":
        return 16.0
    return 4.0 if instruction.opcode == "OMMA" else 2.0


def _group_matrix(instruction: Instruction, core: SubCore) -> Use:
    """wgmma: each warp of a warp group does its 16 rows. With both operands in shared memory what reads them limits it
    at N < 64 (published for m64nNk16: 24, 20 and 18 cycles for N of 32, 16 and 8; 13 at least with A in registers)."""
    _, n, k = shape_of(instruction) or (0, 0, 0)
    rate = 2.0 if instruction.opcode != "HGMMA" else 0.5 if instruction.has("TF32") else 1.0
    cycles = 16 * n * k / (core.tensor * rate)
    in_registers = sum(operand.kind == "R" for operand in instruction.operands) > 2
    least = 13.0 if in_registers else 16 + n / 4 if n <= 32 else 0.0
    return Use("tensor", max(cycles, least), latency=cycles + 16, read=9)


def memory_latency(instruction: Instruction) -> tuple[float, float]:
    """Cycles until the operands are read and until the result is there, of an access that hits in the first level and
    conflicts with none: Ampere's, by width."""
    opcode = instruction.opcode
    wide = 2 if instruction.has("128") else 1 if instruction.has("64") else 0
    if opcode in ("LDS", "ATOMS"):
        return 9.0, (24.0, 24.0, 26.0)[wide]
    if opcode == "LDSM":
        return 9.0, 29.0
    if opcode in ("STS", "STSM"):
        return (12.0, 14.0, 18.0)[wide], 12.0
    if opcode == "LDGSTS":
        return 13.0, 39.0
    if opcode in ("STG", "ST", "STL", "RED", "REDG"):
        return (14.0, 16.0, 20.0)[wide], 20.0
    uniform = bool(instruction.operands) and any(o.kind == "memory" and o.base is None for o in instruction.operands)
    return (9.0, (29.0, 31.0, 35.0)[wide]) if uniform else (11.0, (32.0, 34.0, 38.0)[wide])


__all__ = [
    "GROUP_PRODUCTS", "MEMORY_OPCODES", "SHARED_OPCODES", "STORE_OPCODES", "WARP_PRODUCTS", "SubCore", "Use",
    "memory_latency", "shape_of", "sub_core", "use_of",
]
