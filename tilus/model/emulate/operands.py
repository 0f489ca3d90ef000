"""Reads the operands of instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.model.emulate.registers import ident
from tilus.model.emulate.state import State
from tilus.model.emulate.values import (
    FALSE,
    I32,
    TRUE,
    U32,
    U64,
    UNKNOWN,
    ZERO,
    Array,
    Known,
    Value,
    both,
    double,
    extend,
    join,
    word,
)
from tilus.model.sass import Operand
from tilus.records import record

Read = Callable[[State], Value]


@record(frozen=True, eq=False)
class Source:
    """An operand: the registers that it reads, and its value."""

    registers: tuple[int, ...]
    read: Read


def constant(value: Array) -> Source:
    return Source((), lambda state: (value, True))


def predicate(operand: Operand) -> Source:
    """A predicate, with its negation."""
    register = ident(operand.kind, operand.number)
    if register < 0:
        return constant(FALSE if operand.negated else TRUE)
    if not operand.negated:
        return Source((register,), lambda state: state.values[register])

    def negated(state: State) -> Value:
        value, known = state.values[register]
        return np.logical_not(value), known

    return Source((register,), negated)


def word_source(operand: Operand) -> Source:
    """32 bits as they lie in a register, constant bank or immediate, with signs; without the parts of registers that
    packed instructions choose."""
    return _signed_source(operand, _plain_word(operand), 32)


def double_source(operand: Operand, unsigned: bool = False) -> Source:
    """64 bits: a pair of registers, constants, or an immediate (extended by its sign, or not where ``unsigned``)."""
    if operand.kind == "immediate":
        value = int(operand.value)
        return constant(double(value & 0xFFFF_FFFF if unsigned else value))
    if operand.kind == "constant":
        low, high = (_plain_word(moved(operand, offset)) for offset in (0, 4))
    else:
        register = ident(operand.kind, operand.number)
        low, high = (_register(register + n if register >= 0 else -1) for n in (0, 1))
    return _signed_source(operand, joined(low, high), 64)


def joined(low: Source, high: Source) -> Source:
    """64 bits of two words."""
    read_low, read_high = low.read, high.read

    def pair(state: State) -> Value:
        (a, known_a), (b, known_b) = read_low(state), read_high(state)
        return join(a, b), both(known_a, known_b)

    return Source(low.registers + high.registers, pair)


def widened(source: Source, signed: bool) -> Source:
    """A word as 64 bits."""
    read = source.read

    def wide(state: State) -> Value:
        value, known = read(state)
        return (extend(value) if signed else value.astype(U64)), known

    return Source(source.registers, wide)


def moved(operand: Operand, offset: int) -> Operand:
    """A constant or address some bytes further on."""
    return Operand(operand.kind, operand.number, operand.value + offset, operand.bank, operand.name, operand.negated,
                   operand.inverted, operand.absolute, operand.modifiers, operand.base, operand.uniform)


def without_sign(operand: Operand) -> Operand:
    """The operand without negation, complement or absolute value."""
    return Operand(operand.kind, operand.number, operand.value, operand.bank, operand.name,
                   modifiers=operand.modifiers, base=operand.base, uniform=operand.uniform)


def _signed_source(operand: Operand, source: Source, bits: int) -> Source:
    if operand.kind == "immediate" or not (operand.negated or operand.inverted or operand.absolute):
        return source
    read = source.read
    negated, inverted, absolute = operand.negated, operand.inverted, operand.absolute

    def changed(state: State) -> Value:
        value, known = read(state)
        if absolute:
            value = np.abs(value.view(I32)).view(U32)
        if negated:
            value = (value.dtype.type(0) - value) if value.size > 1 else np.negative(value)
        return (np.invert(value) if inverted else value), known

    return Source(source.registers, changed)


def _register(register: int) -> Source:
    if register < 0:
        return constant(ZERO)
    return Source((register,), lambda state: state.values[register])


def _plain_word(operand: Operand) -> Source:
    if operand.kind in ("R", "UR"):
        return _register(ident(operand.kind, operand.number))
    if operand.kind == "immediate":
        return constant(word(_bits(operand.value)))
    if operand.kind == "constant":
        return bank_source(operand, 4)
    return Source((), lambda state: UNKNOWN)


def _bits(value: float) -> int:
    """An immediate's bits: those of a float where it is written as one."""
    return value if isinstance(value, int) else int(np.float32(value).view(U32))


def bank_source(operand: Operand, size: int) -> Source:
    """A word of a constant bank (or a smaller unsigned number), at an address that may depend on registers."""
    index = [word_source(r) for r in (operand.base, operand.uniform) if r is not None and r.number >= 0]
    offset, bank = int(operand.value), operand.bank
    if not index:
        key = (bank, offset, size)

        def fixed(state: State) -> Value:
            found = state.constants.get(key)
            if found is None:
                found = state.constants[key] = _read_bank(state, bank, np.full((1, 1, 1), offset), True, size)
            return found

        return Source((), fixed)

    def indexed(state: State) -> Value:
        at: Array = np.full((1, 1, 1), offset)
        known: Known = True
        for source in index:
            value, k = source.read(state)
            at, known = at + value.view(I32), both(known, k)
        return _read_bank(state, bank, at, known, size)

    return Source(tuple(r for s in index for r in s.registers), indexed)


def _read_bank(state: State, bank: int, at: Array, known: Known, size: int) -> Value:
    data = state.banks.get(bank)
    if data is None or known is False:
        return UNKNOWN
    inside = (at >= 0) & (at + size <= len(data))
    known = both(known, bool(inside.all()))
    if known is False:
        return UNKNOWN
    return gather(data, np.where(inside, at, 0), size), known


def gather(data: Array, at: Array, size: int) -> Array:
    """Unsigned numbers of up to 4 bytes from bytes."""
    total = data[at].astype(U32)
    for n in range(1, size):
        total = total | data[at + n].astype(U32) << U32(8 * n)
    return total


def address_source(operand: Operand, wide: bool) -> Source:
    """The address that a memory operand names: bytes, in global memory 64 bits of them (``wide``)."""
    base, uniform, offset = operand.base, operand.uniform, int(operand.value)
    parts: list[Source] = []
    if base is not None and base.number >= 0:
        narrow = not wide or "U32" in base.modifiers
        part = word_source(_bare(base)) if narrow else double_source(_bare(base))
        scale = next((int(m[1:]) for m in base.modifiers if m[:1] == "X" and m[1:].isdigit()), 1)
        parts.append(_scaled(widened(part, signed=False) if narrow and wide else part, scale))
    if uniform is not None and uniform.number >= 0:
        parts.append(double_source(_bare(uniform)) if wide else word_source(_bare(uniform)))
    total = double(offset) if wide else word(offset)

    def read(state: State) -> Value:
        value: Array = total
        known: Known = True
        for part in parts:
            found, k = part.read(state)
            if k is False:
                return UNKNOWN
            value, known = value + found, both(known, k)
        return value, known

    return Source(tuple(r for p in parts for r in p.registers), read)


def _bare(operand: Operand) -> Operand:
    return Operand(operand.kind, operand.number)


def _scaled(source: Source, scale: int) -> Source:
    if scale == 1:
        return source
    read = source.read

    def scaled(state: State) -> Value:
        value, known = read(state)
        return value * value.dtype.type(scale), known

    return Source(source.registers, scaled)


def registers_of(sources: list[Any]) -> tuple[int, ...]:
    return tuple(r for s in sources for r in s.registers)


__all__ = ["Read", "Source", "address_source", "bank_source", "constant", "double_source", "gather", "joined", "moved",
           "predicate", "registers_of", "widened", "without_sign",
           "word_source"]
