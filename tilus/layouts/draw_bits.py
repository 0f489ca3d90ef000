"""Which bits hold each element of a packed tile: of its thread's registers, and of the bytes of a prepacked tile."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.layouts.draw import Cell, ranges
from tilus.layouts.packed import byte_layout
from tilus.layouts.register import RegisterLayout

REGISTER_BITS = 32
REGISTER_LEGEND = "thread:word.bits of its registers of 32 bits; + where an element goes on in the next one"
MEMORY_LEGEND = "thread.piece:place@byte.bits of a tile in memory; + where an element goes on in another byte"


def bits_text(first: int, width: int, unit: int) -> str:
    """``width`` bits from bit ``first`` on, in units of ``unit`` bits: ``3.8-11``, ``0.30-31+1.0``; units that are
    whole have no bits: ``2``, ``0+1.0-3``."""
    parts, end = [], first + width
    while first < end:
        number, low = divmod(first, unit)
        high = min(end - number * unit, unit) - 1
        within = f".{low}" if low == high else f".{low}-{high}"
        parts.append(f"{number}" if high - low == unit - 1 else f"{number}{within}")
        first = number * unit + high + 1
    return "+".join(parts)


def bits_summary(layout: RegisterLayout, name: str, bits: int) -> str:
    """How many bits and registers a thread has of elements called ``name``."""
    own = layout.num_locals * bits
    words = -(-own // REGISTER_BITS)
    return f"{name}: {own} bits of each thread in {words} register{'' if words == 1 else 's'} of {REGISTER_BITS} bits"


def register_bits(layout: RegisterLayout, bits: int) -> Cell:
    """The holders of an element of ``bits`` bits and the bits of their registers: a thread's elements lie in words of
    32 bits without gaps, local n at the bits from ``n * bits`` on."""

    def cell(index: tuple[int, ...]) -> tuple[str, int]:
        threads = layout.threads_of(index)
        return f"{ranges(threads)}:{bits_text(layout.local_of(index) * bits, bits, REGISTER_BITS)}", threads[0]

    return cell


def memory_bits(layout: RegisterLayout, bits: int, piece: int, order: Sequence[int] = ()) -> Cell:
    """Where an element of a prepacked tile lies in memory (``ir/prepacked.py`` says what pieces and order are): its
    thread, the piece of that thread's bytes in which it begins, its place among that thread's elements, and the bits of
    the tile's bytes."""
    memory = byte_layout(layout, bits, piece)
    group = len(order)

    def cell(index: tuple[int, ...]) -> tuple[str, int]:
        thread, local = layout.thread_of(index), layout.local_of(index)
        place = local // group * group + order[local % group] if group else local
        first, text = place * bits, []
        end = first + bits
        while first < end:  # a byte of the thread's at a time; the next one may be in another piece
            own = first // 8
            stop = min(end, own * 8 + 8)
            at = memory.index(thread, own)[0]
            text.append(bits_text(at * 8 + first % 8, stop - first, 8))
            first = stop
        return f"{thread}.{place * bits // 8 // piece}:{place}@{'+'.join(text)}", thread

    return cell


__all__ = ["MEMORY_LEGEND", "REGISTER_LEGEND", "bits_summary", "bits_text", "memory_bits", "register_bits"]
