"""What is known of the strides of arrays at compile time."""

from __future__ import annotations

import math


def contiguous_strides(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """C-order strides in elements, None from the first unknown extent on."""
    strides: list[int | None] = []
    running: int | None = 1
    for extent in reversed(shape):
        strides.append(running)
        running = None if running is None or extent is None else running * extent
    return tuple(reversed(strides))


WHOLE = 16
"""A divisor with which accesses are as wide as they get."""
WHOLE_OF_NARROW = 32
"""Of elements of less than 8 bits: accesses of 16 bytes move as many of 4 bits."""


def divisor_of(value: int, bits: int = 8) -> int:
    """The greatest power of two of which a value is a multiple, as far as that makes accesses wider to elements of so
    many bits: up to 16, or 32 of those below 8 bits."""
    return math.gcd(value, WHOLE if bits >= 8 else WHOLE_OF_NARROW)


def stride_divisors(shape: tuple[int | None, ...], divisors: tuple[int, ...], bits: int = 8) -> tuple[int, ...]:
    """What the strides of a contiguous array of elements of so many bits are multiples of, given its extents, as far as
    they are known, and what those are multiples of."""
    return tuple(divisor_of(stride if stride is not None else math.prod(divisors[d + 1 :]), bits)
                 for d, stride in enumerate(contiguous_strides(shape)))


__all__ = ["WHOLE", "contiguous_strides", "divisor_of", "stride_divisors"]
