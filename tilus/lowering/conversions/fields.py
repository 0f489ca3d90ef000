"""Where the elements of a dense group lie in its words, and words that have two of them 16 bits apart.

Element i of b bits is at bits [i b, (i + 1) b) of consecutive words. A group is as many elements as fill whole words,
lcm(32, b) / b. Modulo 32 their places are all multiples of gcd(32, b), each once, so that every element that begins in
the lower half of a word has a partner just 16 bits further, maybe in another word. One rotation moves a pair, of its
word, or of a word that is selected bit by bit from two or three.
"""

from __future__ import annotations

import math

from tilus.lowering.conversions.program import MASK, Program
from tilus.records import record


def new_program(bits: int) -> Program:
    """An empty program for one group of elements of ``bits`` bits."""
    return Program(bits, math.lcm(32, bits) // 32)


def twice(half: int) -> int:
    """The same 16 bits in both halves of a register."""
    return half | half << 16


def rotated(bits: int, by: int) -> int:
    """A number of 32 bits rotated to the right."""
    by %= 32
    return (bits >> by | bits << (32 - by)) & MASK


def shifted(p: Program, start: int) -> int:
    """32 bits of the stream from bit ``start`` on; what is outside of the group is undefined."""
    index, by = divmod(start, 32)
    low = p.word(min(max(index, 0), p.inputs - 1))
    return p.funnel(low, p.word(min(max(index + 1, 0), p.inputs - 1)), by)


@record(frozen=True)
class Pair:
    """Two elements in ``node``: ``low`` from bit ``offset`` on, ``high`` 16 bits further, modulo 32."""

    node: int
    offset: int
    low: int
    high: int


def pairs(p: Program) -> list[Pair]:
    """All elements of the group, in pairs."""
    at = {i * p.bits % 32: i for i in range(p.elements)}
    return [Pair(_joined(p, offset, at[offset], at[offset + 16]), offset, at[offset], at[offset + 16])
            for offset in sorted(at) if offset < 16]


def _joined(p: Program, offset: int, low: int, high: int) -> int:
    """A word with the pair at its place: the lower element is in one word, the upper one in another, or the beginning
    of it with its end in the low bits of the next one."""
    first, second = p.word(low * p.bits // 32), high * p.bits // 32
    beyond = offset + 16 + p.bits - 32
    if beyond <= 0:
        return p.select(first, p.word(second), MASK << 16 & MASK)
    both = p.select(first, p.word(second), MASK << (offset + 16) & MASK)
    last = p.word(second + 1)
    return both if last == first else p.select(both, last, (1 << beyond) - 1)
