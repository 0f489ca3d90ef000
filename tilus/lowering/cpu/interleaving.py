"""Elements of two vectors by turns within each 128 bits, which is one instruction for each half of those."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.ops import Pack, Shuffle

PART_BITS = 128
"""What instructions exchange elements within."""


def interleaved(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
    """Those of the lower halves of 128 bits, and those of the upper ones."""
    count = x.tile.size
    whole = PART_BITS // x.tile.dtype.bits
    both = b.add(Pack((x, y))).result

    def half(first: int) -> Value:
        order = [part + first + n // 2 + n % 2 * count for part in range(0, count, whole) for n in range(whole)]
        return b.add(Shuffle(both, tuple(order))).result

    return half(0), half(whole // 2)


__all__ = ["PART_BITS", "interleaved"]
