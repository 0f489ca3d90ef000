"""Tables in registers: types of up to 4 bits, whatever their numbers are.

PRMT takes four bytes at a time out of eight by the low three bits of nibbles of a third register: a table of eight
codes. So codes are brought into nibbles, four at a time become the upper bytes of their numbers, and the lower ones
where not all of those are zero, and bytes become pairs.

The high bit of a nibble makes PRMT spread the sign of the byte, which gives 0 for bytes below 128. For 16 codes there
are two tables: one is read with the codes, the other one with their high bit flipped, and each gives 0 for the other's
codes. What the second gives is doubled and added, so that its numbers may be negative (sum). Else both are read with
masked codes, and their bytes selected from (select).
"""

from __future__ import annotations

from tilus.ir.dtypes import DType
from tilus.lowering.conversions.fields import new_program
from tilus.lowering.conversions.integers import half_bits
from tilus.lowering.conversions.numbers import numbers_of
from tilus.lowering.conversions.program import SELECT, Half, Program

_SECOND = 4
"""What says that a byte is of PRMT's second register."""


def build(source: DType, half: Half, way: str) -> Program | None:
    """The program of a way: ``eight`` for up to three bits, ``sum`` and ``select`` for four. None where the type has
    other bits, or the tables do not fit it."""
    if (source.bits > 4) or (source.bits == 4) == (way == "eight"):
        return None
    codes = [half_bits(number, half) for number in numbers_of(source)]
    uppers, lowers = [c >> 8 for c in codes], [c & 255 for c in codes]
    if way == "sum" and (any(lowers) or _factor(uppers) is None):
        return None
    p = new_program(source.bits)
    order: list[int] = []
    for node, elements in _in_nibbles(p):
        for first in (0, 4):
            upper = _bytes(p, node, 4 * first, uppers, way)
            lower = _bytes(p, node, 4 * first, lowers, way) if any(lowers) else p.const(0)
            for k in (0, 2):
                p.outputs.append(p.prmt(lower, upper, _zip(k, any(lowers))))
            order += elements[first : first + 4]
    p.order = tuple(order)
    return p


def _zip(k: int, lowers: bool) -> int:
    """The selector of two pairs' bytes from byte k on, out of lower ones (or zeros) and upper ones."""
    low, high = (k, k + 1) if lowers else (0, 0)
    return low | (4 + k) << 4 | high << 8 | (5 + k) << 12


def _factor(uppers: list[int]) -> int | None:
    """What the second table's bytes are multiplied by: they have to be below 128, and even for 2."""
    if len(uppers) < 16 or max(uppers[:8]) > 127:
        return None
    if max(uppers[8:]) < 128:
        return 1
    return 2 if not any(u % 2 for u in uppers[8:]) else None


def _in_nibbles(p: Program) -> list[tuple[int, list[int]]]:
    """All codes in nibbles whose other bits are zero, eight in a word, and which elements they are. Those of tables of
    one word read it as the second one, which is part of the instruction."""
    at = {i * p.bits % 32: i for i in range(p.elements)}
    found = []
    for by in range(4):
        elements = [at[4 * n + by] for n in range(8) if 4 * n + by in at]
        if elements:
            mask = ((1 << p.bits) - 1) * 0x11111111
            above = _SECOND * 0x11111111 if p.bits <= 2 else 0
            found.append((p.and_or(p.rotate(_gathered(p, elements), by), mask, above), elements))
    return found


def _gathered(p: Program, elements: list[int]) -> int:
    """A word with some elements where they are in theirs."""
    masks: dict[int, int] = {}
    for i in elements:
        for bit in range(i * p.bits, (i + 1) * p.bits):
            masks[bit // 32] = masks.get(bit // 32, 0) | 1 << bit % 32
    (first, _), *others = masks.items()
    node = p.word(first)
    for word, mask in others:
        node = p.select(node, p.word(word), mask)
    return node


def _bytes(p: Program, node: int, start: int, table: list[int], way: str) -> int:
    """Four bytes of a table, by the codes in nibbles of ``node`` from bit ``start`` on."""
    codes = p.rotate(node, start)
    if way == "eight":
        return _read(p, table if len(table) == 8 else [0] * 4 + (table * 2)[:4], codes)
    if way == "sum":
        factor = _factor(table) or 1
        flipped = p.rotate(p.xor(node, 0x88888888), start)
        return p.mad(_read(p, [byte // factor for byte in table[8:]], flipped), factor, _read(p, table[:8], codes))
    masked = p.rotate(p.both_and(node, 0x77777777), start)
    low, high = (_read(p, part, masked) for part in (table[:8], table[8:]))
    below = p.mad(_read(p, [1] * 8, codes), 255, p.const(0))  # all ones for the first eight codes
    return p.add("lop3", (high, low, below), SELECT)


def _read(p: Program, table: list[int], codes: int) -> int:
    words = [p.const(sum(byte << 8 * i for i, byte in enumerate(table[k : k + 4]))) for k in (0, 4)]
    return p.add("prmt", (words[0], words[1], codes), -1)

