"""What an instruction does to registers, as a function of arrays; the table of opcodes is filled by its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.model.emulate.operands import Source, predicate, word_source
from tilus.model.emulate.registers import results
from tilus.model.emulate.values import Array
from tilus.model.sass import Instruction, Operand
from tilus.records import record

Compute = Callable[..., tuple[Array, ...]]


@record(frozen=True, eq=False)
class Operation:
    """Registers computed from operands.

    Attributes:
        results: registers written, one for each array that ``compute`` gives.
        linear: whether results change by constant steps where operands do.
        product: whether its first two operands are multiplied.
        wide: whether the first two results are the halves of one number.
        carry: the predicate that it adds as a carry: its result is the upper half of the number whose lower half the
            operation gives that the carry comes from.
        compares: how its first two operands are compared (``LTs``, signed; ``u`` alone for the least of unsigned ones):
            results that are truths stay while the outcome does.
    """

    sources: tuple[Source, ...]
    results: tuple[int, ...]
    compute: Compute
    linear: bool = False
    product: bool = False
    wide: bool = False
    carry: int = -1
    compares: str = ""


TABLE: dict[str, Callable[[Instruction], Operation | None]] = {}
"""By opcode; None where a form of the instruction is not known."""

UNKNOWN_RESULTS = frozenset({
    "FADD", "FMUL", "FFMA", "FMNMX", "FMNMX3", "FSETP", "FSWZADD", "FCMP", "FADD32I", "FMUL32I", "FFMA32I", "FADD2",
    "FMUL2", "FFMA2", "FHADD", "FHFMA", "UFADD", "UFMUL", "UFFMA", "UFSETP", "UFMNMX", "UFSEL", "UFRND", "HADD2",
    "HMUL2", "HFMA2", "HSET2", "HSETP2", "HMNMX2", "HADD2_32I", "HMUL2_32I", "HFMA2_32I", "DADD", "DMUL", "DFMA",
    "DSETP", "DMNMX", "MUFU", "F2F", "F2FP", "F2I", "F2IP", "FRND", "I2F", "RRO", "UF2FP", "UI2FP", "UF2IP", "HMMA",
    "IMMA", "DMMA", "BMMA", "QMMA", "OMMA", "HGMMA", "IGMMA", "QGMMA", "BGMMA", "MOVM", "SPMMA", "LD", "LDG", "LDS",
    "LDL", "LDSM", "LDTM", "ATOM", "ATOMG", "ATOMS", "LDGMC", "TEX", "TLD", "TLD4", "TMML", "TXD", "TXQ", "SULD",
    "SUATOM", "SUQUERY", "AL2P", "OUT", "PIXLD", "SYNCS", "UTMALDG", "BMOV", "B2R", "RPCMOV", "CS2UR",
    "GETLMEMBASE", "LEPC", "QSPC", "UCGABAR_GET", "QUERYCC", "NEXTWORKID", "CREDUX",
})
"""Opcodes of which it is known that what they give is not worked out."""


def operation(*opcodes: str) -> Callable[[Callable[[Instruction], Operation | None]],
                                         Callable[[Instruction], Operation | None]]:
    """Enters a decoder into the table."""
    def enter(decode: Callable[[Instruction], Operation | None]) -> Callable[[Instruction], Operation | None]:
        for opcode in opcodes:
            TABLE[opcode] = decode
        return decode

    return enter


@record(frozen=True)
class Parts:
    """The operands of an instruction whose results are a register and predicates in either order.

    Attributes:
        results: registers that it writes.
        carries: how many of these, the last ones, are predicates after the register.
        sources: operands that are no predicates.
        predicates: operands that are, after those.
    """

    results: tuple[int, ...]
    carries: int
    sources: tuple[Operand, ...]
    predicates: tuple[Operand, ...]


def parts_of(instruction: Instruction) -> Parts:
    """Splits the operands of ``D [, P…], a, b, …, [, P…]`` and ``[P…,] D, a, b, … [, P…]``."""
    operands = list(instruction.operands)
    place = 0
    while operands[place].kind in ("P", "UP"):
        place += 1
    place += 1
    first = place
    if first == 1:
        while place < len(operands) and operands[place].kind in ("P", "UP"):
            place += 1
    end = len(operands)
    while end > place and operands[end - 1].kind in ("P", "UP"):
        end -= 1
    return Parts(results(instruction), place - first, tuple(operands[place:end]), tuple(operands[end:]))


def words(operands: Sequence[Operand]) -> list[Source]:
    return [word_source(o) for o in operands]


def predicates(operands: Sequence[Operand]) -> list[Source]:
    return [predicate(o) for o in operands]


def decode(instruction: Instruction) -> tuple[Operation | None, bool]:
    """What an instruction does to registers; None where its results are unknown. And whether that is as it should be:
    False for an opcode, or a form of one, that nobody has described."""
    found: Any = TABLE.get(instruction.opcode)
    made = found(instruction) if found is not None else None
    return made, made is not None or instruction.opcode in UNKNOWN_RESULTS or not results(instruction)


__all__ = ["TABLE", "Compute", "Operation", "Parts", "decode", "operation", "parts_of", "predicates", "words"]
