"""Tables of sixteen numbers as bytes: where an instruction picks bytes of a table in a register faster than another one
picks words, the bytes of a number are looked up one by one, for as many codes as a register has bytes.

They become numbers by two rounds of interleaving. That is 5 instructions for 8 numbers, and all of them are quick.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, u8, u16, u32
from tilus.ir.ops import Binary, Bitcast, Pack, Shuffle
from tilus.ir.ops.simd import ByteLookup
from tilus.ir.ops.words import Regroup
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.interleaving import PART_BITS, interleaved

BITS = 4
"""Of the codes."""
WORD = 4
"""Bytes of a number."""
PART = PART_BITS // 8


def planes_of(c: Cursor, numbers: Sequence[Value]) -> tuple[Value, ...]:
    """For each byte of a number, those of all sixteen in each 128 bits."""
    b, size = c.b, WORD * numbers[0].tile.size
    whole = b.add(Regroup(b.add(Bitcast(b.add(Pack(tuple(numbers))).result, u32)).result, u8)).result
    return tuple(b.add(Shuffle(whole, tuple(n % PART * WORD + byte for n in range(size)))).result
                 for byte in range(WORD))


def looked_up_words(c: Cursor, planes: Sequence[Value], words: Value, dtype: DType) -> list[Value]:
    """For vectors of words of eight codes each, the numbers of the codes at each place in a word."""
    b, lanes = c.b, words.tile.size
    # Of four words in 128 bits the first bytes come first, so that interleaving keeps the lanes in order.
    order = [n // PART * PART + n % WORD * WORD + n % PART // WORD for n in range(WORD * lanes)]
    codes = b.add(Shuffle(b.add(Regroup(words, u8)).result, tuple(order))).result
    mask = c.const((1 << BITS) - 1, u8, WORD * lanes)
    halves = []
    for shifted in (codes, b.add(Binary("lsr", codes, c.const(BITS, u8, WORD * lanes))).result):
        index = b.add(Binary("and", shifted, mask)).result
        halves.append(_numbers(c, [b.add(ByteLookup(index, plane)).result for plane in planes], dtype))
    return [x for pair in zip(*halves, strict=True) for x in pair]


def _numbers(c: Cursor, found: Sequence[Value], dtype: DType) -> list[Value]:
    """Vectors of numbers from vectors of their bytes."""
    b = c.b
    low, high = (interleaved(b, found[n], found[n + 1]) for n in (0, 2))
    return [b.add(Bitcast(b.add(Regroup(x, u32)).result, dtype)).result
            for parts in zip(low, high, strict=True)
            for x in interleaved(b, *(b.add(Regroup(part, u16)).result for part in parts))]


__all__ = ["looked_up_words", "planes_of"]
