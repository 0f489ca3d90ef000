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


def divisor_of(value: int) -> int:
    """The greatest power of two up to 16 of which a value is a multiple: as much as accesses are wide."""
    return math.gcd(value, 16)


def stride_divisors(shape: tuple[int | None, ...], divisors: tuple[int, ...]) -> tuple[int, ...]:
    """What a contiguous array's strides are multiples of, given its extents, as far as they are known, and what those
    are multiples of."""
    return tuple(divisor_of(stride) if stride is not None else divisor_of(math.prod(divisors[d + 1 :]))
                 for d, stride in enumerate(contiguous_strides(shape)))


__all__ = ["contiguous_strides", "divisor_of", "stride_divisors"]
