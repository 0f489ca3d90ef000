"""Bits, selections, comparisons and predicates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.model.emulate.operands import Source, constant, double_source, predicate, word_source
from tilus.model.emulate.operations import Operation, operation, parts_of, predicates, words
from tilus.model.emulate.registers import ident, results
from tilus.model.emulate.values import U32, ZERO, Array, high_word, low_word, signed
from tilus.model.sass import Instruction

_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal,
}
_COMBINE: dict[str, Callable[[Array, Array], Array]] = {
    "AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor,
}


@operation("ISETP", "UISETP")
def _compare(i: Instruction) -> Operation | None:
    """``P, Q, a, b, R``: P is ``a ~ b`` and (or, xor) R, Q its negation and R. ``.EX`` compares upper words; the last
    predicate says how the lower ones compare."""
    name = next((m for m in i.modifiers if m in _COMPARE), None)
    combine = next((m for m in i.modifiers if m in _COMBINE), None)
    rest = i.operands[2:]
    if name is None or combine is None or len(rest) != (4 if i.has("EX") else 3):
        return None
    wide = i.has("S64") or i.has("U64")
    unsigned = i.has("U32") or i.has("U64")
    compare, join = _COMPARE[name], _COMBINE[combine]
    read: Any = double_source if wide else word_source

    def outcome(a: Array, b: Array) -> Array:
        return compare(a, b) if unsigned else compare(signed(a), signed(b))

    if not i.has("EX"):
        def plain(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
            found = outcome(a, b)
            return join(found, c), join(np.logical_not(found), c)

        return Operation((read(rest[0]), read(rest[1]), predicate(rest[2])), results(i), plain,
                         compares=name + ("u" if unsigned else "s"))

    def extended(a: Array, b: Array, c: Array, lower: Array) -> tuple[Array, ...]:
        same = a == b
        if name == "EQ":
            found = same & lower
        elif name == "NE":
            found = ~same | lower
        else:
            beyond = _COMPARE["LT" if name in ("LT", "LE") else "GT"]
            found = (beyond(a, b) if unsigned else beyond(signed(a), signed(b))) | (same & lower)
        return join(found, c), join(np.logical_not(found), c)

    return Operation((word_source(rest[0]), word_source(rest[1]), predicate(rest[2]), predicate(rest[3])), results(i),
                     extended, compares=name + ("u" if unsigned else "s"), carry=ident(rest[3].kind, rest[3].number))


def _table(lut: int, *values: Array) -> Array:
    """A function of three bit vectors by its table: bit ``4a + 2b + c`` of ``lut`` is its value."""
    a, b, c = values
    total: Array | None = None
    for row in range(8):
        if lut >> row & 1:
            term = (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            total = term if total is None else total | term
    return np.zeros_like(a) if total is None else total


_SIMPLE: dict[int, Callable[[Array, Array, Array], Array]] = {
    0xC0: lambda a, b, c: a & b, 0xFC: lambda a, b, c: a | b, 0x3C: lambda a, b, c: a ^ b, 0x33: lambda a, b, c: ~b,
    0x0F: lambda a, b, c: ~a, 0x30: lambda a, b, c: a & ~b, 0x0C: lambda a, b, c: ~a & b,
    0xFE: lambda a, b, c: a | b | c, 0x96: lambda a, b, c: a ^ b ^ c, 0x80: lambda a, b, c: a & b & c,
    0xF8: lambda a, b, c: a | (b & c), 0xEA: lambda a, b, c: (a & b) | c, 0x78: lambda a, b, c: a ^ (b & c),
    0x6A: lambda a, b, c: (a & b) ^ c, 0xE2: lambda a, b, c: (a & b) | (c & ~b),
    0xCA: lambda a, b, c: (b & a) | (c & ~a),
    0xA8: lambda a, b, c: (a | b) & c, 0xF0: lambda a, b, c: a, 0xCC: lambda a, b, c: b, 0xAA: lambda a, b, c: c,
}


@operation("LOP3", "ULOP3")
def _logic(i: Instruction) -> Operation | None:
    """``[P,] D, a, b, c, table, Q``: the predicate is whether the result is not 0, or Q."""
    p = parts_of(i)
    if len(p.sources) != 4 or p.sources[3].kind != "immediate":
        return None
    lut = int(p.sources[3].value) & 255
    function = _SIMPLE.get(lut) or (lambda a, b, c: _table(lut, a, b, c))
    needed = [lut & 0xF != lut >> 4, lut & 0x33 != lut >> 2 & 0x33, lut & 0x55 != lut >> 1 & 0x55]
    sources = [word_source(o) if needed[n] else constant(ZERO) for n, o in enumerate(p.sources[:3])]
    if len(p.results) == 1:
        return Operation(tuple(sources), p.results, lambda a, b, c: (function(a, b, c),))

    def with_predicate(a: Array, b: Array, c: Array, q: Array) -> tuple[Array, ...]:
        value = function(a, b, c)
        return (value != U32(0)) | q, value

    return Operation((*sources, *predicates(p.predicates[:1])), p.results, with_predicate)


@operation("PLOP3", "UPLOP3")
def _predicate_logic(i: Instruction) -> Operation | None:
    """``P, Q, a, b, c, table of P, table of Q``."""
    operands = i.operands
    if len(operands) != 7 or any(o.kind != "immediate" for o in operands[5:]):
        return None
    first, second = (int(o.value) & 255 for o in operands[5:])
    return Operation(tuple(predicates(operands[2:5])), results(i),
                     lambda a, b, c: (_table(first, a, b, c), _table(second, a, b, c)))


@operation("SEL", "USEL")
def _select(i: Instruction) -> Operation | None:
    p = parts_of(i)
    if len(p.sources) != 2 or len(p.predicates) != 1:
        return None
    if i.has("64"):
        def wide(a: Array, b: Array, q: Array) -> tuple[Array, ...]:
            chosen = np.where(q, a, b)
            return low_word(chosen), high_word(chosen)

        return Operation((double_source(p.sources[0]), double_source(p.sources[1]), predicate(p.predicates[0])),
                         p.results, wide, linear=True, wide=True)

    def narrow(a: Array, b: Array, q: Array) -> tuple[Array, ...]:
        return (np.where(q, a, b),)

    return Operation((*words(p.sources), predicate(p.predicates[0])), p.results, narrow, linear=True)


@operation("PRMT", "UPRMT")
def _permute(i: Instruction) -> Operation | None:
    """Four bytes of the eight of ``b:a``, chosen by the nibbles of the selector; bit 3 repeats a byte's sign."""
    p = parts_of(i)
    if len(p.sources) != 3 or any(m not in ("IDX",) for m in i.modifiers):
        return None
    a, selector, b = p.sources
    if selector.kind == "immediate":
        chosen = int(selector.value)

        def fixed(x: Array, y: Array) -> tuple[Array, ...]:
            total: Array = ZERO
            for n in range(4):
                nibble = chosen >> 4 * n & 15
                part = ((y if nibble & 4 else x) >> U32(8 * (nibble & 3))) & U32(255)
                if nibble & 8:
                    part = (part >> U32(7)) * U32(255)
                total = total | part << U32(8 * n)
            return (total,)

        return Operation((word_source(a), word_source(b)), p.results[:1], fixed)

    def variable(x: Array, s: Array, y: Array) -> tuple[Array, ...]:
        total: Array = ZERO
        for n in range(4):
            nibble = (s >> U32(4 * n)) & U32(15)
            part = (np.where(nibble & U32(4), y, x) >> (U32(8) * (nibble & U32(3)))) & U32(255)
            total = total | np.where(nibble & U32(8), (part >> U32(7)) * U32(255), part) << U32(8 * n)
        return (total,)

    return Operation((word_source(a), word_source(selector), word_source(b)), p.results[:1], variable)


@operation("P2R", "UP2UR")
def _pack(i: Instruction) -> Operation | None:
    """``D, PR, a, mask``: a with the bits of the mask replaced by predicates; ``.B1`` puts them into another byte."""
    operands = i.operands
    if len(operands) < 3 or operands[1].name not in ("PR", "UPR") or operands[-1].kind != "immediate":
        return None
    mask = int(operands[-1].value)
    byte = next((int(m[1]) for m in i.modifiers if m in ("B1", "B2", "B3")), 0)
    kind = "P" if i.opcode == "P2R" else "UP"
    chosen = [n for n in range(7) if mask >> n & 1]
    sources = [word_source(operands[-2])] + [_predicate(kind, n) for n in chosen]
    kept = U32(~(mask << 8 * byte) & 0xFFFF_FFFF)

    def compute(value: Array, *flags: Array) -> tuple[Array, ...]:
        total = value & kept
        for n, flag in zip(chosen, flags, strict=True):
            total = total | flag.astype(U32) << U32(n + 8 * byte)
        return (total,)

    return Operation(tuple(sources), results(i)[:1], compute)


def _predicate(kind: str, number: int) -> Source:
    register = ident(kind, number)
    return Source((register,), lambda state: state.values[register])


@operation("R2P")
def _unpack(i: Instruction) -> Operation | None:
    byte = next((int(m[1]) for m in i.operands[1].modifiers if m in ("B1", "B2", "B3")), 0)
    mask = int(i.operands[-1].value)
    chosen = [n for n in range(7) if mask >> n & 1]

    def compute(value: Array) -> tuple[Array, ...]:
        return tuple(np.asarray(value >> U32(n + 8 * byte) & U32(1), bool) for n in chosen)

    return Operation((word_source(i.operands[1]),), results(i), compute)


@operation("SGXT", "USGXT")
def _sign_extend(i: Instruction) -> Operation | None:
    """The lowest bits of a word, so many as the second operand says, with zeros or their sign above."""
    p = parts_of(i)
    unsigned, wraps = i.has("U32"), i.has("W")

    def compute(a: Array, n: Array) -> tuple[Array, ...]:
        n = n & U32(31) if wraps else np.minimum(n, U32(32))
        rest = (U32(32) - n).astype(np.uint64)
        moved = (a.astype(np.uint64) << rest).astype(U32)
        if unsigned:
            return ((moved.astype(np.uint64) >> rest).astype(U32),)
        return ((moved.view(np.int32).astype(np.int64) >> rest.view(np.int64)).view(np.uint64).astype(U32),)

    return Operation(tuple(words(p.sources[:2])), p.results[:1], compute)


@operation("BMSK", "UBMSK")
def _bit_mask(i: Instruction) -> Operation | None:
    """So many ones (the second operand) from a bit on (the first)."""
    p = parts_of(i)
    wraps = i.has("W")

    def compute(start: Array, count: Array) -> tuple[Array, ...]:
        if wraps:
            start, count = start & U32(31), count & U32(31)
        ones = (np.uint64(1) << np.minimum(count, U32(32)).astype(np.uint64)) - np.uint64(1)
        return ((ones << np.minimum(start, U32(32)).astype(np.uint64)).astype(U32),)

    return Operation(tuple(words(p.sources[:2])), p.results[:1], compute)


@operation("POPC", "UPOPC")
def _count_ones(i: Instruction) -> Operation:
    return Operation((word_source(i.operands[1]),), results(i)[:1], lambda a: (np.bitwise_count(a).astype(U32),))


@operation("BREV", "UBREV")
def _reverse_bits(i: Instruction) -> Operation:
    def compute(a: Array) -> tuple[Array, ...]:
        for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
            a = (a >> U32(shift)) & U32(mask) | (a & U32(mask)) << U32(shift)
        return (a,)

    return Operation((word_source(i.operands[1]),), results(i)[:1], compute)


@operation("FLO", "UFLO")
def _leading_bit(i: Instruction) -> Operation:
    """The number of the highest bit that is set (of a negative signed one: that is not), ~0 where there is none;
    ``.SH`` gives how far it has to be shifted to the top."""
    p = parts_of(i)
    unsigned, shift = i.has("U32"), i.has("SH")

    def compute(a: Array) -> tuple[Array, ...]:
        a = a if unsigned else np.where(signed(a) < 0, ~a, a)
        _, exponent = np.frexp(a.astype(np.float64))
        found = exponent.astype(np.int32) - np.int32(1)
        found = np.where(found >= 0, np.int32(31) - found if shift else found, np.int32(-1))
        return (found.view(U32), a != U32(0))[:len(p.results)]

    return Operation((word_source(p.sources[0]),), p.results, compute)
