"""Which registers an instruction writes: results of loads and matrix instructions are several registers wide."""

from __future__ import annotations

import re

from tilus.model.sass import Instruction, Operand

FILES = {"R": 0, "UR": 256, "P": 512, "UP": 520}
"""Where each register file begins in the numbers by which all registers are known."""
REGISTERS = 528
_ALWAYS = {"R": 255, "UR": 255, "P": 7, "UP": 7}

NO_RESULT = frozenset({
    "ST", "STG", "STS", "STL", "STSM", "STAS", "RED", "REDG", "LDGSTS", "LDGDEPBAR", "DEPBAR", "BAR", "BARRIER",
    "MEMBAR", "ERRBAR", "CCTL", "CCTLL", "CCTLT", "CGAERRBAR", "NOP", "BRA", "BRX", "JMP", "JMX", "CALL", "RET",
    "EXIT", "KILL", "BSSY", "BSYNC", "BREAK", "WARPSYNC", "YIELD", "NANOSLEEP", "BPT", "WARPGROUP", "FENCE",
    "UBLKCP", "UBLKPF", "UBLKRED", "UTMALDG", "UTMASTG", "UTMAPF", "UTMAREDG", "UTMACMDFLUSH", "UTMACCTL",
    "PREEXIT", "ACQBULK", "ENDCOLLECTIVE", "SUST", "SURED", "PMTRIG", "RPCMOV", "UTCHMMA", "UTCQMMA", "UTCIMMA",
    "UTCOMMA", "UTCMMA", "UTCBAR", "UTCCP", "UTCSHIFT", "UTCATOMSWS", "STTM", "USETMAXREG", "ARRIVES", "SETCTAID",
    "SETLMEMBASE", "UCGABAR_ARV", "UCGABAR_WAIT", "CGABAR_ARV", "CGABAR_GET", "LDTMWAIT", "WARPGROUPSET",
    "USETSHMSZ", "UGETNEXTWORKID", "UMEMSETS", "REPLC",
})
"""Opcodes without a register for a result."""

PREDICATES_FIRST = {"ISETP": 2, "UISETP": 2, "FSETP": 2, "DSETP": 2, "HSETP2": 2, "PLOP3": 2, "UPLOP3": 2, "PSETP": 2,
                    "FCHK": 1, "UFSETP": 2, "CSETP": 2, "ELECT": 1}
"""Opcodes whose results are so many predicates."""

def ident(kind: str, number: int) -> int:
    """The number of a register among all; -1 for those that are always zero or true."""
    return -1 if number < 0 or number >= _ALWAYS[kind] else FILES[kind] + number


_KNOWN: dict[str, tuple[int, ...]] = {}
_MOST_KNOWN = 1 << 16


def results(instruction: Instruction) -> tuple[int, ...]:
    """The registers that an instruction writes; -1 where a result is dropped."""
    found = _KNOWN.get(instruction.text)
    if found is None or not instruction.text:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        found = _KNOWN[instruction.text] = _results(instruction)
    return found


def _results(instruction: Instruction) -> tuple[int, ...]:
    opcode, operands = instruction.opcode, instruction.operands
    if opcode in NO_RESULT or not operands:
        return ()
    if opcode == "R2P":
        return tuple(ident("P", n) for n in range(7) if int(operands[-1].value) >> n & 1)
    count = PREDICATES_FIRST.get(opcode)
    if opcode in ("VOTE", "VOTEU") and operands[0].kind in ("P", "UP"):
        count = 1
    if count is not None:
        return tuple(ident(o.kind, o.number) for o in operands[:count] if o.kind in ("P", "UP"))
    found: list[int] = []
    place = 0
    while place < len(operands) and operands[place].kind in ("P", "UP"):
        found.append(ident(operands[place].kind, operands[place].number))
        place += 1
    has_register = place == 0 or opcode != "SYNCS"
    if place < len(operands) and operands[place].kind in ("R", "UR") and has_register:
        first = operands[place]
        found += span(first, width(instruction))
        for extra in operands[place + 1:place + 2 + (opcode in _TWO_PREDICATES)] if place == 0 else ():
            if extra.kind not in ("P", "UP") or opcode in ("SEL", "FSEL", "USEL"):
                break
            found.append(ident(extra.kind, extra.number))
    return tuple(found)


def span(first: Operand, words: int) -> list[int]:
    """So many registers beginning with one."""
    start = ident(first.kind, first.number)
    return [start + n if start >= 0 else -1 for n in range(words)]


_SIZES = {"8": 1, "16": 1, "U8": 1, "S8": 1, "U16": 1, "S16": 1, "64": 2, "96": 3, "128": 4, "256": 8}


def memory_words(instruction: Instruction) -> int:
    """Registers that each lane moves."""
    return max((_SIZES.get(m, 1) for m in instruction.modifiers), default=1)


def memory_bytes(instruction: Instruction) -> int:
    """Bytes that each lane moves."""
    for modifier in instruction.modifiers:
        if modifier in ("U8", "S8", "8"):
            return 1
        if modifier in ("U16", "S16", "16") and instruction.opcode not in ("LDSM", "STSM"):
            return 2
    return 4 * memory_words(instruction)


_TWO_PREDICATES = frozenset({"IADD3", "UIADD3", "VIMNMX", "UVIMNMX", "IMNMX", "UIMNMX", "VIMNMX3", "UVIMNMX3"})
"""Opcodes that may have two predicates after the register among their results."""

_SIZED = frozenset({
    "LD", "LDG", "LDS", "LDL", "LDC", "ULDC", "LDCU", "ATOM", "ATOMG", "ATOMS", "LDTM", "UMOV", "MOV", "SEL", "USEL",
    "IADD", "UIADD3", "IADD3", "UIADD", "IMNMX", "UIMNMX", "SHF", "USHF", "LEA", "ULEA", "SYNCS", "LDGMC",
})
"""Opcodes with a modifier for the size of the result."""


def width(instruction: Instruction) -> int:
    """Registers of the result."""
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in _SIZED:
        return _memory_width(instruction)
    if opcode == "LDSM":
        return int(modifiers[-1]) if modifiers[-1] in ("2", "4") else 1
    if opcode in ("IMAD", "UIMAD") and "WIDE" in modifiers:
        return 2
    if opcode in ("CS2R", "CS2UR"):
        return 1 if "32" in modifiers else 2
    if opcode == "F2I":
        return 2 if any(m in ("U64", "S64") for m in modifiers) else 1
    if opcode in ("I2F", "F2F"):
        return 2 if modifiers and modifiers[0] == "F64" else 1
    if opcode in ("DADD", "DMUL", "DFMA", "DMNMX", "FADD2", "FMUL2", "FFMA2"):
        return 2
    return _matrix_width(instruction)


def _memory_width(instruction: Instruction) -> int:
    if any(m in ("U64", "S64") for m in instruction.modifiers) and instruction.opcode not in ("SHF", "USHF"):
        return 2
    if instruction.opcode == "LDTM":
        found = [re.fullmatch(r"x(\d+)", m) for m in instruction.modifiers]
        return max((int(f[1]) for f in found if f), default=1) * (2 if instruction.has("16dp256bit") else 1)
    return memory_words(instruction)


def _matrix_width(instruction: Instruction) -> int:
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in ("HGMMA", "IGMMA", "QGMMA", "BGMMA"):
        shape = next((re.fullmatch(r"\d+x(\d+)x\d+", m) for m in modifiers if "x" in m), None)
        columns = int(shape[1]) if shape else 256
        return columns // (2 if "F32" in modifiers or opcode == "IGMMA" else 4)
    if opcode == "HMMA":
        if modifiers[0] == "884":
            return 8 if "F32" in modifiers[1:2] else 4
        return 4 if "F32" in modifiers else 2
    if opcode in ("QMMA", "OMMA"):
        return 4 if "F32" in modifiers else 2
    if opcode == "IMMA":
        return 2 if modifiers[0] == "8816" or modifiers[0] == "8832" else 4
    if opcode in ("DMMA", "BMMA"):
        return 4
    return 1


__all__ = ["FILES", "NO_RESULT", "REGISTERS", "ident", "memory_bytes", "memory_words", "results", "span", "width"]
