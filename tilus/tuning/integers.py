"""Arithmetic of integers that may be without bound, roots, divisors and primes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

INF = 1 << 256
"""Stands for no bound."""
LARGE = 1 << 128
"""What is at least as large counts as without bound."""
MAX_DIVIDED = 1 << 44
"""Larger numbers are not divided by trial."""


class EmptyError(Exception):
    """No value is left."""


def lower(n: int) -> int:
    """A lower bound that is no larger than ``n``."""
    return -INF if n <= -LARGE else min(n, LARGE)


def upper(n: int) -> int:
    """An upper bound that is no smaller than ``n``."""
    return INF if n >= LARGE else max(n, -LARGE)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def power(base: int, exponent: int) -> int:
    """``base ** exponent`` of an exponent that is not negative, or INF with its sign where that is LARGE."""
    if abs(base) >= 2 and exponent * (abs(base).bit_length() - 1) >= 128:
        return -INF if base < 0 and exponent % 2 else INF
    return int(base**exponent)


def root(n: int, degree: int) -> int:
    """The largest r with ``r ** degree <= n``, for n >= 0 and degree >= 1."""
    low, high = 0, 1 << -(-n.bit_length() // degree)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= n:
            low = middle
        else:
            high = middle - 1
    return low


def logarithm(n: int, base: int) -> int:
    """The largest e with ``base ** e <= n``, for n >= 1 and base >= 2."""
    exponent = 0
    while n >= base:
        n //= base
        exponent += 1
    return exponent


@functools.lru_cache(maxsize=4096)
def prime_factors(n: int) -> frozenset[int] | None:
    """The primes that divide ``n``, of n != 0; None where n is too large to be divided by trial."""
    n = abs(n)
    found = set()
    for p in (2, 3, 5, 7):
        while n % p == 0:
            n //= p
            found.add(p)
    if n > MAX_DIVIDED:
        return None
    p = 11
    while p * p <= n:
        while n % p == 0:
            n //= p
            found.add(p)
        p += 2
    return frozenset(found | ({n} if n > 1 else set()))


@functools.lru_cache(maxsize=4096)
def divisors(n: int) -> tuple[int, ...] | None:
    """The positive divisors of ``n``, ascending, of n != 0; None where n is too large to be divided by trial."""
    primes = prime_factors(n)
    return None if primes is None else smooth_numbers(primes, abs(n), abs(n), 1 << 16)


def smooth_numbers(primes: Iterable[int], high: int, dividing: int, most: int) -> tuple[int, ...] | None:
    """The numbers from 1 to ``high`` whose prime factors are all among ``primes`` and, unless it is 0, that divide
    ``dividing``, ascending; None where there are more than ``most``."""
    found = [1]
    for p in sorted(primes):
        grown = []
        for n in found:
            while n <= high and dividing % n == 0:
                grown.append(n)
                n *= p
        found = grown
        if len(found) > most:
            return None
    return tuple(sorted(found))


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def is_smooth(n: int, primes: Iterable[int]) -> bool:
    """Whether n is positive and has no other prime factors."""
    if n < 1:
        return False
    for p in primes:
        while n % p == 0:
            n //= p
    return n == 1
