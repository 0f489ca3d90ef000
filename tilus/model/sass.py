"""SASS as data: instructions with operands and the control bits by which ptxas schedules them, from sm_70 to sm_12x.

nvdisasm prints a text and the 128 bits of each instruction; of the bits only the control field (105 to 125) is decoded
here, which the text does not show.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tilus.records import record

NO_BARRIER = 7
"""The number in a barrier field that names none."""


@record(frozen=True, slots=True)
class Operand:
    """One operand as the text spells it.

    Attributes:
        kind: ``R`` and ``UR`` (registers, uniform ones), ``P`` and ``UP`` (predicates), ``B`` and ``SB`` (branch
            barriers, scoreboards), ``immediate``, ``constant`` (a constant bank), ``memory``, ``special``, ``label``.
        number: of the register, or -1 for those that are always zero or true (RZ, URZ, PT, UPT).
        value: of an immediate; the bank of a constant; the offset of an address, of a constant or a label.
        bank: of a constant.
        name: of a special register or of what a label names.
        negated: ``-`` before a number, ``!`` before a predicate.
        inverted: ``~``.
        absolute: ``|x|``.
        modifiers: what follows, such as ``64``, ``reuse``, ``H0_H0``, ``X4``.
        base, uniform: the registers of an address.
    """

    kind: str
    number: int = 0
    value: int | float = 0
    bank: int = 0
    name: str = ""
    negated: bool = False
    inverted: bool = False
    absolute: bool = False
    modifiers: tuple[str, ...] = ()
    base: Operand | None = None
    uniform: Operand | None = None


@record(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        address: bytes from the kernel's first instruction.
        opcode, modifiers: ``IMAD`` and ``("WIDE", "U32")`` of ``IMAD.WIDE.U32``.
        guard: the predicate that it is executed under; None for always.
        target: the address that it branches to, or None; -1 for one that it takes from a register.
        stall: cycles until the warp may issue the next one.
        yields: whether the scheduler is asked to take another warp next.
        write_barrier, read_barrier: the scoreboards that are decremented when the result is there, and when the
            operands have been read; 7 for none.
        waits: the scoreboards, as a mask, that have to be 0 before it issues.
        reuse: operand slots, as a mask, that stay in the reuse cache.
        line: file and line of the source where the cubin has such.
    """

    address: int
    opcode: str
    modifiers: tuple[str, ...]
    guard: Operand | None
    operands: tuple[Operand, ...]
    target: int | None
    stall: int
    yields: bool
    write_barrier: int
    read_barrier: int
    waits: int
    reuse: int
    text: str
    line: tuple[str, int] | None = None

    def has(self, modifier: str) -> bool:
        return modifier in self.modifiers


@record(frozen=True)
class Program:
    """The code of one kernel, with functions that follow it in its section; NOPs after its end are left out."""

    name: str
    instructions: tuple[Instruction, ...]

    def index(self) -> dict[int, int]:
        """The number of the instruction at each address."""
        return {instruction.address: n for n, instruction in enumerate(self.instructions)}


def parse_sass(text: str) -> dict[str, Program]:
    """The kernels of what ``nvdisasm -c -hex [-g]`` prints, by name."""
    programs: dict[str, Program] = {}
    for section in re.split(r"^\s*\.section\s+", text, flags=re.MULTILINE)[1:]:
        if section.startswith(".text."):
            name = section[len(".text."):].split(",", 1)[0].strip('"')
            programs[name] = Program(name, _instructions(section, name))
    return programs


_LABEL = re.compile(r"^(\.?[\w$.]+):\s*$")
_LINE = re.compile(r'^\s*//## File "(.*?)", line (\d+)')
_CODE = re.compile(r"^\s*(?:\{)?\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;?\s*\}?\s*/\* 0x([0-9a-f]{16}) \*/")
_HIGH = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")


def _instructions(section: str, kernel: str) -> tuple[Instruction, ...]:
    raw: list[tuple[int, str, int, tuple[str, int] | None]] = []
    labels: dict[str, int] = {kernel: 0}
    waiting: list[str] = []
    pending: tuple[int, str, int] | None = None
    line: tuple[str, int] | None = None
    for row in section.split("\n"):
        if pending is not None:
            if high := _HIGH.match(row):
                address, text, low = pending
                raw.append((address, text, low | int(high[1], 16) << 64, line))
                pending = None
        elif code := _CODE.match(row):
            address = int(code[1], 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting.clear()
            pending = address, code[2], int(code[3], 16)
        elif found := _LINE.match(row):
            if "inlined at" not in row:
                line = found[1], int(found[2])
        elif label := _LABEL.match(row):
            waiting.append(label[1])
    while raw and raw[-1][1] == "NOP":
        raw.pop()
    return tuple(_instruction(*item, labels) for item in raw)


_REMARK = re.compile(r"\s*\(\*.*?\*\)")
"""What nvdisasm adds to an instruction: that it spills, where it may branch to."""


def _instruction(address: int, text: str, bits: int, line: tuple[str, int] | None,
                 labels: dict[str, int]) -> Instruction:
    bare = _REMARK.sub("", text)
    words = bare.split(None, 1)
    guard = None
    rest = bare
    if words[0].startswith("@"):
        guard = _operand(words[0][1:])
        rest = words[1]
        words = rest.split(None, 1)
    opcode, *modifiers = words[0].split(".")
    operands = tuple(map(_operand, _split(words[1]))) if len(words) > 1 else ()
    return Instruction(
        address, opcode, tuple(modifiers), guard, operands, _target(opcode, operands, labels),
        stall=bits >> 105 & 15, yields=not bits >> 109 & 1, write_barrier=bits >> 110 & 7, read_barrier=bits >> 113 & 7,
        waits=bits >> 116 & 63, reuse=bits >> 122 & 15, text=text, line=line)


BRANCHES = frozenset({"BRA", "BRX", "JMP", "CALL", "RET", "BSSY", "BSYNC", "EXIT", "BREAK", "WARPSYNC"})


def _target(opcode: str, operands: tuple[Operand, ...], labels: dict[str, int]) -> int | None:
    if opcode not in BRANCHES:
        return None
    for operand in operands:
        if operand.kind == "label":
            return labels.get(operand.name, -1)
    return -1 if opcode in ("BRX", "JMP", "RET") else None


def _split(text: str) -> list[str]:
    """The operands of a text: commas, and a blank between a register and a label."""
    found = []
    for part in text.split(", "):
        register, blank, label = part.partition(" `(")
        found.append(register.strip())
        if blank:
            found.append("`(" + label)
    return [part for part in found if part]


_REGISTER = re.compile(r"^(UR|UP|SB|R|P|B)(\d+|Z|T)((?:\.[\w]+)*)$")
_CONSTANT = re.compile(r"^c\[0x([0-9a-f]+)\] ?\[(.*)\]((?:\.[\w]+)*)$")
_NUMBER = re.compile(r"^[+-]?(0x[0-9a-f]+|\d+)$")
_FLOAT = re.compile(r"^([+-]?\d[\d.]*(?:e[+-]?\d+)?|[+-]?(?:INF|QNAN|SNAN))$")


@lru_cache(maxsize=1 << 14)
def _operand(text: str) -> Operand:
    negated = inverted = absolute = False
    body = text.strip()
    if _NUMBER.match(body):
        return Operand("immediate", value=int(body, 0))
    if _FLOAT.match(body):
        return Operand("immediate", value=_float(body))
    while body[:1] in "-!~+|":
        negated, inverted = negated or body[0] in "-!", inverted or body[0] == "~"
        if body[0] == "|":
            absolute = True
            body = body[1:].replace("|", "", 1)
            break
        body = body[1:]
    plain = _plain(body)
    if not (negated or inverted or absolute):
        return plain
    return Operand(plain.kind, plain.number, plain.value, plain.bank, plain.name, negated, inverted, absolute,
                   plain.modifiers, plain.base, plain.uniform)


def _plain(body: str) -> Operand:
    """An operand without signs."""
    if found := _REGISTER.match(body):
        number = -1 if found[2] in "ZT" else int(found[2])
        return Operand(found[1], number, modifiers=_modifiers(found[3]))
    if found := _CONSTANT.match(body):
        address = _address(found[2])
        return Operand("constant", value=address.value, bank=int(found[1], 16), base=address.base,
                       uniform=address.uniform, modifiers=_modifiers(found[3]))
    if body.startswith("`("):
        return Operand("label", name=body[2:].rstrip(")"))
    if "[" in body:
        return _address(body[body.rindex("[") + 1:body.rindex("]")])
    return Operand("special", name=body)


def _float(text: str) -> float:
    text = text.upper()
    if "NAN" in text:
        return float("nan")
    return float(text.replace("INF", "inf"))


def _modifiers(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")[1:])


def _address(text: str) -> Operand:
    """``R1.64+UR4+0x10``: registers and an offset."""
    base = uniform = None
    offset = 0
    for part in re.findall(r"[+-]?[^+-]+", text):
        if _NUMBER.match(part):
            offset += int(part, 0)
            continue
        register = _operand(part.lstrip("+"))
        if register.kind == "UR":
            uniform = register
        elif register.kind == "R":
            base = register
    return Operand("memory", value=offset, base=base, uniform=uniform)


__all__ = ["BRANCHES", "NO_BARRIER", "Instruction", "Operand", "Program", "parse_sass"]
