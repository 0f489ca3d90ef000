"""Which memory an instruction touches, and loads of what is known."""

from __future__ import annotations

import numpy as np

from tilus.model.emulate.operands import Source, address_source, gather, predicate, word_source
from tilus.model.emulate.registers import FILES, memory_bytes, results, span
from tilus.model.emulate.state import Keep, State
from tilus.model.emulate.values import UNKNOWN, Array, Known, Value, both, merge
from tilus.model.sass import Instruction, Operand
from tilus.records import record

_SPACES = {
    **dict.fromkeys(("LDG", "LD", "STG", "ST", "ATOMG", "ATOM", "RED", "REDG", "LDGSTS"), "global"),
    **dict.fromkeys(("LDS", "STS", "ATOMS", "LDSM", "STSM"), "shared"),
    **dict.fromkeys(("LDL", "STL"), "local"),
}
_WRITES = frozenset({"STG", "ST", "RED", "REDG", "STS", "STSM", "STL"})
_ATOMIC = frozenset({"ATOMG", "ATOM", "ATOMS", "RED", "REDG"})

LOCAL = FILES["UP"] + 8
"""Local memory, among the numbers of registers: what spills are read back from."""


@record(frozen=True, eq=False)
class MemoryAccess:
    """What one instruction touches.

    Attributes:
        space: ``global``, ``shared`` or ``local``.
        size: bytes of each lane.
        address: bytes; of global memory 64 bits of them.
        copies_to: the address in shared memory that an asynchronous copy writes.
        condition: a predicate without which such a copy writes zeros and reads nothing.
        rows: of matrices, how many lanes have addresses, 0 for all.
        cached: whether L1 keeps what it reads.
    """

    space: str
    size: int
    address: Source
    reads: bool
    writes: bool
    copies_to: Source | None = None
    condition: Source | None = None
    rows: int = 0
    cached: bool = False


def space_of(instruction: Instruction) -> str:
    """The space of the memory that an instruction touches, "" where :func:`access_of` gives nothing."""
    space = _SPACES.get(instruction.opcode, "")
    return space if space and any(o.kind == "memory" for o in instruction.operands) else ""


def access_of(instruction: Instruction) -> MemoryAccess | None:
    """What an instruction touches, None where that is no memory or not described by an address of each lane."""
    opcode = instruction.opcode
    space = _SPACES.get(opcode)
    operands = [o for o in instruction.operands if o.kind == "memory"]
    if space is None or not operands:
        return None
    size = memory_bytes(instruction)
    reads, writes = opcode not in _WRITES or opcode in _ATOMIC, opcode in _WRITES or opcode in _ATOMIC
    if opcode == "LDGSTS":
        flags = [o for o in instruction.operands if o.kind == "P"]
        return MemoryAccess(space, size, address_source(operands[1], wide=True), True, False,
                            address_source(operands[0], wide=False), predicate(flags[0]) if flags else None,
                            cached=not instruction.has("BYPASS"))
    if opcode in ("LDSM", "STSM"):
        matrices = int(instruction.modifiers[-1]) if instruction.modifiers[-1] in ("2", "4") else 1
        return MemoryAccess(space, 16, address_source(operands[0], wide=False), reads, writes, rows=8 * matrices)
    return MemoryAccess(space, size, address_source(operands[0], wide=space == "global"), reads, writes,
                        cached=opcode in ("LD", "LDG") and not instruction.has("STRONG"))


def load(state: State, instruction: Instruction, access: MemoryAccess, lanes: Array) -> list[Value]:
    """What a load gives for each register of its result: unknown but where the contents of an array are known."""
    found = results(instruction)
    known_arrays = [a for a in state.launch.arrays if a.contents is not None]
    if access.space != "global" or access.writes or not known_arrays:
        return [UNKNOWN] * len(found)
    address, known = access.address.read(state)
    if known is False:
        return [UNKNOWN] * len(found)
    values = []
    size = min(access.size, 4)
    for n in range(len(found)):
        values.append(_known_word(state, address + np.uint64(4 * n), known, size))
    if any(m in ("S8", "S16") for m in instruction.modifiers):
        bits = 8 * size
        values = [((v << np.uint32(32 - bits)).view(np.int32) >> np.int32(32 - bits), k) for v, k in values]
        values = [(v.view(np.uint32), k) for v, k in values]
    return values


def _known_word(state: State, address: Array, known: Known, size: int) -> Value:
    total: Value = UNKNOWN
    for array in state.launch.arrays:
        if array.contents is None:
            continue
        at = (address - np.uint64(array.address)).view(np.int64)
        inside = (at >= 0) & (at + size <= len(array.contents))
        if inside.any():
            value = gather(array.contents, np.where(inside, at, 0), size)
            total = merge(inside, (value, both(known, True)), total) if not inside.all() else (value, known)
    return total


def local_words(state: State, access: MemoryAccess) -> list[int] | None:
    """The addresses of the words that an access to local memory touches, where they are the same for all lanes."""
    value, known = access.address.read(state)
    if known is not True or value.size != 1:
        return None
    first = int(value.item())
    return [first + n for n in range(0, max(access.size, 4), 4)]


def load_local(state: State, instruction: Instruction, access: MemoryAccess) -> list[Value]:
    """Spilled registers come back."""
    count = len(results(instruction))
    places = local_words(state, access) if access.size >= 4 else None
    if places is None:
        return [UNKNOWN] * count
    return [state.local.get(place, UNKNOWN) for place in places][:count]


def store_local(state: State, access: MemoryAccess, values: list[Source], keep: Keep) -> None:
    """Registers are spilled; a store to an unknown place makes all of it unknown."""
    places = local_words(state, access)
    if places is None or access.size < 4:
        state.local.clear()
        return
    for place, source in zip(places, values, strict=False):
        value = source.read(state)
        state.local[place] = value if keep is None else merge(keep, value, state.local.get(place, UNKNOWN))


def stored_words(instruction: Instruction, access: MemoryAccess) -> list[Source]:
    """The registers that a store to local memory writes."""
    data = instruction.operands[-1]
    if data.kind not in ("R", "UR"):
        return []
    found = []
    for register in span(data, max(1, access.size // 4)):
        number = register if register >= 0 else -1
        found.append(word_source(Operand(data.kind, number - FILES[data.kind] if number >= 0 else -1)))
    return found


__all__ = ["LOCAL", "MemoryAccess", "access_of", "load", "load_local", "space_of", "store_local", "stored_words"]
