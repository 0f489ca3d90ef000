"""Reading disassemblies: instructions, loops, what matrix instructions do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

INTEGER = frozenset({
    "IMAD", "IADD3", "LOP3", "IADD", "SHF", "LEA", "ISETP", "PRMT", "VIADD", "IMNMX", "VIADDMNMX", "VIMNMX", "SEL",
    "LOP", "SHL", "SHR", "PLOP3", "POPC", "BREV", "IABS", "I2FP", "SGXT", "BMSK", "IDP", "VABSDIFF", "R2P",
})
"""Integer instructions outside of the uniform datapath."""
MATRIX = frozenset({"HMMA", "IMMA", "DMMA", "HGMMA", "QMMA", "QGMMA", "IGMMA"})


@dataclass(frozen=True)
class Loop:
    """One loop of a kernel: its instructions by opcode, modifiers dropped, without NOPs."""

    opcodes: Counter[str]

    @property
    def total(self) -> int:
        return sum(self.opcodes.values())

    @property
    def matrix(self) -> int:
        return sum(n for op, n in self.opcodes.items() if op in MATRIX)

    @property
    def integer(self) -> int:
        return sum(n for op, n in self.opcodes.items() if op in INTEGER)


def instructions(sass: str) -> list[tuple[int, str]]:
    """Address and text of every instruction of a disassembly, NOPs left out."""
    found = []
    for line in sass.splitlines():
        match = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", line)
        if match and not match[2].startswith("NOP"):
            found.append((int(match[1], 16), match[2]))
    return found


def opcode(text: str) -> str:
    words = text.split()
    return words[1 if words[0].startswith("@") else 0].split(".")[0]


def labels(sass: str) -> dict[str, int]:
    """The address that each label stands before."""
    found: dict[str, int] = {}
    waiting: list[str] = []
    for line in sass.splitlines():
        label = re.match(r"\s*(\.L_x_\d+):", line)
        if label:
            waiting.append(label[1])
        address = re.match(r"\s*/\*([0-9a-f]{4,})\*/", line)
        if address and waiting:
            found.update(dict.fromkeys(waiting, int(address[1], 16)))
            waiting.clear()
    return found


def innermost_loops(sass: str) -> list[list[str]]:
    """The instructions of each loop of a disassembly, from the target of a backward branch to the branch, that holds no
    other loop."""
    code, where = instructions(sass), labels(sass)
    found = []
    for address, text in code:
        match = re.search(r"BRA.*?(\.L_x_\d+)", text)
        start = where.get(match[1]) if match else None
        if start is not None and start < address:
            found.append((start, address))
    inner = [(start, end) for start, end in found
             if not any(start <= first and last < end for first, last in found)]
    return [[t for a, t in code if start <= a <= end] for start, end in inner]


def loop_instructions(sass: str) -> list[str]:
    """The smallest of the innermost loops that hold the most tensor-core instructions; empty where none holds any."""
    found = [(sum(opcode(t) in MATRIX for t in loop), loop) for loop in innermost_loops(sass)]
    found = [(matrix, loop) for matrix, loop in found if matrix]
    return min(found, key=lambda f: (-f[0], len(f[1])))[1] if found else []


def main_loop(sass: str) -> Loop | None:
    """:func:`loop_instructions`, counted."""
    found = loop_instructions(sass)
    return Loop(Counter(map(opcode, found))) if found else None


def products(text: str) -> int:
    """Scalar products that one warp's instruction computes: of matrix instructions by the shape in their name, of
    multiply-adds one a lane."""
    name = text.split()[1 if text.startswith("@") else 0]
    stem, *modifiers = name.split(".")
    if stem in ("FFMA", "DFMA"):
        return 32
    if stem == "HFMA2":
        return 64
    if stem not in MATRIX:
        return 0
    grouped = re.search(r"\.(\d+)x(\d+)x(\d+)", name)
    if grouped:
        m, n, k = map(int, grouped.groups())
        return m * n * k // (4 if stem.endswith("GMMA") else 1)
    found = next((SHAPES[m] for m in modifiers if m in SHAPES), None)
    if found is None:
        raise ValueError(f"no shape in {name}")
    return found


SHAPES = {"884": 8 * 8 * 4, "8816": 8 * 8 * 16, "8832": 8 * 8 * 32, "1688": 16 * 8 * 8, "16816": 16 * 8 * 16,
          "16832": 16 * 8 * 32, "16864": 16 * 8 * 64}


def work_of(loop: Iterable[str]) -> int:
    """Products of a loop's matrix instructions; where it has none, of its multiply-adds."""
    code = list(loop)
    matrix = [t for t in code if opcode(t) in MATRIX]
    return sum(products(t) for t in (matrix or code))


def busiest_loop(sass: str) -> list[str]:
    """:func:`loop_instructions`; where no loop has matrix instructions, the innermost one with most multiply-adds."""
    found = loop_instructions(sass)
    return found or max(innermost_loops(sass), key=lambda loop: (work_of(loop), -len(loop)), default=[])
