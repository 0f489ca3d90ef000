"""Terms of constraints: what they are on numbers, what is known of them from domains, and what they ask of domains.

A term is evaluated on Python's integers or on NumPy arrays of them, alike. Quotients and remainders are rounded down,
as Python's. By 0, and to a negative power, a term has no value: a condition about it does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tilus.records import record
from tilus.tuning.domain import Box
from tilus.tuning.integers import (
    INF,
    LARGE,
    EmptyError,
    ceil_div,
    divisors,
    logarithm,
    lower,
    power,
    prime_factors,
    root,
    upper,
)

Env = Mapping[str, Any]
"""A number, or an array of numbers, for every name."""


class Bounds(NamedTuple):
    """What is known of a value: it is a multiple of ``divisor`` (of 0: it is 0) between two bounds, which hold."""

    low: int
    high: int
    divisor: int = 1

    @property
    def fixed(self) -> bool:
        return self.low == self.high

    def __str__(self) -> str:
        if self.fixed:
            return str(self.low)
        if self.low <= -INF:
            return "any" if self.high >= INF else f"at most {self.high}"
        if self.high >= INF:
            return f"at least {self.low}"
        return f"{self.low} to {self.high}"


def _bounds(low: int, high: int, divisor: int = 1) -> Bounds:
    low, high = lower(low), upper(high)
    if low > high:
        raise EmptyError
    return Bounds(low, high, abs(low) if low == high else divisor if divisor < LARGE else 1)


class Term:
    """A term. ``begin`` and ``end`` say where it stands in its text."""

    begin: int
    end: int

    def parts(self) -> tuple[Term, ...]:
        return ()

    def walk(self) -> Iterator[Term]:
        yield self
        for part in self.parts():
            yield from part.walk()

    def value(self, env: Env, undefined: list[Any]) -> Any:
        """What it is on numbers. ``undefined`` collects where it has no value: True, or arrays of bools."""
        raise NotImplementedError

    def bounds(self, box: Box) -> Bounds:
        """What is known of it. Raises EmptyError where it cannot have a value."""
        raise NotImplementedError

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        """Take out of the domains what cannot be where it is a multiple of ``divisor`` between these bounds. Raises
        EmptyError where nothing is left."""
        raise NotImplementedError

    def primes(self, box: Box) -> frozenset[int] | None:
        """Primes among which all of its prime factors are, where it is not 0; None for any."""
        found = self.bounds(box)
        return prime_factors(found.low) if found.fixed and found.low else None

    def divides(self, box: Box, number: int) -> None:
        """Take out what cannot be where it divides a number that is not 0. Raises EmptyError."""

    def has_primes(self, box: Box, primes: frozenset[int]) -> None:
        """Take out what cannot be where it is not 0 and all of its prime factors are among these. Raises EmptyError."""


@record(frozen=True, slots=True)
class Number(Term):
    number: int
    begin: int = 0
    end: int = 0

    def value(self, env: Env, undefined: list[Any]) -> Any:
        return self.number

    def bounds(self, box: Box) -> Bounds:
        return _bounds(self.number, self.number)

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        if not low <= self.number <= high or (self.number % divisor if divisor else self.number):
            raise EmptyError

    def divides(self, box: Box, number: int) -> None:
        if self.number == 0 or number % self.number:
            raise EmptyError


@record(frozen=True, slots=True)
class Variable(Term):
    """A variable or a given number, by its name."""

    name: str
    begin: int = 0
    end: int = 0

    def value(self, env: Env, undefined: list[Any]) -> Any:
        return env[self.name]

    def bounds(self, box: Box) -> Bounds:
        domain = box[self.name]
        return _bounds(domain.low, domain.high, domain.divisor)

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        box.put(self.name, box[self.name].within(low, high, divisor))

    def primes(self, box: Box) -> frozenset[int] | None:
        domain = box[self.name]
        return domain.primes if domain.primes is not None else Term.primes(self, box)

    def divides(self, box: Box, number: int) -> None:
        domain = box[self.name]
        found = divisors(number)
        if found is None:
            box.put(self.name, domain.within(-abs(number), abs(number)))
        elif domain.low > 0:
            box.put(self.name, domain.within(values=found))
        else:
            box.put(self.name, domain.within(values=(*(-d for d in reversed(found)), *found)))

    def has_primes(self, box: Box, primes: frozenset[int]) -> None:
        if box[self.name].low > 0:
            box.put(self.name, box[self.name].within(primes=primes))


@record(frozen=True, slots=True)
class Sum(Term):
    left: Term
    right: Term
    begin: int = 0
    end: int = 0

    def parts(self) -> tuple[Term, ...]:
        return self.left, self.right

    def value(self, env: Env, undefined: list[Any]) -> Any:
        return self.left.value(env, undefined) + self.right.value(env, undefined)

    def bounds(self, box: Box) -> Bounds:
        a, b = self.left.bounds(box), self.right.bounds(box)
        return _bounds(a.low + b.low, a.high + b.high, math.gcd(a.divisor, b.divisor))

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        for term, other in ((self.left, self.right), (self.right, self.left)):
            b = other.bounds(box)
            term.narrow(box, lower(low - b.high), upper(high - b.low), math.gcd(divisor, b.divisor))


@record(frozen=True, slots=True)
class Product(Term):
    left: Term
    right: Term
    begin: int = 0
    end: int = 0

    def parts(self) -> tuple[Term, ...]:
        return self.left, self.right

    def value(self, env: Env, undefined: list[Any]) -> Any:
        return self.left.value(env, undefined) * self.right.value(env, undefined)

    def bounds(self, box: Box) -> Bounds:
        a, b = self.left.bounds(box), self.right.bounds(box)
        ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        return _bounds(min(ends), max(ends), a.divisor * b.divisor)

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        for term, other in ((self.left, self.right), (self.right, self.left)):
            if low > 0 or high < 0:
                _exclude_zero(other, box)
            b = other.bounds(box)
            ends = _quotients(low, high, b)
            if ends is not None:
                # A multiple of it is a multiple of `divisor`.
                rest = divisor // math.gcd(divisor, b.low) if b.fixed and divisor else 1
                term.narrow(box, *ends, rest)
        if low == high != 0:
            self.divides(box, low)

    def primes(self, box: Box) -> frozenset[int] | None:
        a, b = self.left.primes(box), self.right.primes(box)
        return None if a is None or b is None else a | b

    def divides(self, box: Box, number: int) -> None:
        for part in self.parts():
            part.divides(box, number)

    def has_primes(self, box: Box, primes: frozenset[int]) -> None:
        for part in self.parts():
            part.has_primes(box, primes)


def _exclude_zero(term: Term, box: Box) -> None:
    found = term.bounds(box)
    if found.low == 0:
        term.narrow(box, 1, INF)
    elif found.high == 0:
        term.narrow(box, -INF, -1)


def _quotients(low: int, high: int, by: Bounds) -> tuple[int, int] | None:
    """The least and the largest a with ``low <= a * b <= high`` for a number b within bounds; None where b may be 0."""
    if by.high < 0:
        return _quotients(-high, -low, Bounds(-by.high, -by.low))
    if by.low <= 0:
        return None
    return (-INF if low <= -INF else ceil_div(low, by.high if low >= 0 else by.low),
            INF if high >= INF else high // (by.low if high >= 0 else by.high))


@record(frozen=True, slots=True)
class Power(Term):
    base: Term
    exponent: Term
    begin: int = 0
    end: int = 0

    def parts(self) -> tuple[Term, ...]:
        return self.base, self.exponent

    def value(self, env: Env, undefined: list[Any]) -> Any:
        exponent = _defined(self.exponent.value(env, undefined), lambda e: e >= 0, undefined)
        return self.base.value(env, undefined) ** exponent

    def bounds(self, box: Box) -> Bounds:
        b, e = self.base.bounds(box), self.exponent.bounds(box)
        low, high = max(e.low, 0), e.high
        if high < low:
            raise EmptyError
        if b.low >= 0:
            # 0 to the power 0 is 1.
            least = 0 if b.low == 0 < high else power(b.low, low)
            return _bounds(least, max(power(b.high, high), power(b.high, low)),
                           b.divisor if low > 0 else 1)
        largest = power(max(-b.low, b.high), high)
        return _bounds(-largest, largest, b.divisor if low > 0 else 1)

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        self.exponent.narrow(box, 0, INF)
        b, e = self.base.bounds(box), self.exponent.bounds(box)
        if b.low >= 0 and e.fixed and e.low >= 1:
            if high < 0:
                raise EmptyError
            least = root(low - 1, e.low) + 1 if low > 0 else 0
            self.base.narrow(box, least, INF if high >= INF else root(high, e.low))
        if b.fixed and b.low >= 2:
            if high < 1:
                raise EmptyError
            least = logarithm(low - 1, b.low) + 1 if low > 1 else 0
            self.exponent.narrow(box, least, INF if high >= INF else logarithm(high, b.low))

    def primes(self, box: Box) -> frozenset[int] | None:
        return self.base.primes(box)

    def divides(self, box: Box, number: int) -> None:
        if self.exponent.bounds(box).low >= 1:
            self.base.divides(box, number)

    def has_primes(self, box: Box, primes: frozenset[int]) -> None:
        if self.exponent.bounds(box).low >= 1:
            self.base.has_primes(box, primes)


def _divisor_bounds(term: Term, box: Box) -> Bounds:
    """The bounds of what is divided by, which is not 0."""
    b = term.bounds(box)
    return _bounds(b.low + (b.low == 0), b.high - (b.high == 0), b.divisor)


@record(frozen=True, slots=True)
class Quotient(Term):
    """Rounded down."""

    left: Term
    right: Term
    begin: int = 0
    end: int = 0

    def parts(self) -> tuple[Term, ...]:
        return self.left, self.right

    def value(self, env: Env, undefined: list[Any]) -> Any:
        divisor = _defined(self.right.value(env, undefined), lambda b: b != 0, undefined)
        return self.left.value(env, undefined) // divisor

    def bounds(self, box: Box) -> Bounds:
        a, b = self.left.bounds(box), _divisor_bounds(self.right, box)
        if b.low < 0 < b.high:
            largest = max(abs(a.low), abs(a.high))
            return _bounds(-largest, largest)
        ends = [x // y for x in (a.low, a.high) for y in (b.low, b.high)]
        exact = a.divisor // b.low if b.fixed and a.divisor % b.low == 0 else 1
        return _bounds(min(ends), max(ends), abs(exact))

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        b = _divisor_bounds(self.right, box)
        if b.low <= 0:
            return
        least = -INF if low <= -INF else low * (b.low if low >= 0 else b.high)
        most = INF if high >= INF else (high + 1) * (b.high if high >= 0 else b.low) - 1
        self.left.narrow(box, lower(least), upper(most))
        a = self.left.bounds(box)
        if low > 0 and a.high < INF:
            self.right.narrow(box, 1, a.high // low)
        if 0 <= high < INF and a.low > 0:
            self.right.narrow(box, a.low // (high + 1) + 1, INF)


@record(frozen=True, slots=True)
class Remainder(Term):
    """Of the sign of the divisor."""

    left: Term
    right: Term
    begin: int = 0
    end: int = 0

    def parts(self) -> tuple[Term, ...]:
        return self.left, self.right

    def value(self, env: Env, undefined: list[Any]) -> Any:
        divisor = _defined(self.right.value(env, undefined), lambda b: b != 0, undefined)
        return self.left.value(env, undefined) % divisor

    def bounds(self, box: Box) -> Bounds:
        a, b = self.left.bounds(box), _divisor_bounds(self.right, box)
        if b.low > 0 and a.low >= 0 and a.high < b.low:
            return a
        common = math.gcd(a.divisor, b.divisor)
        if b.fixed and a.divisor % b.low == 0:
            return _bounds(0, 0)
        low, high = min(0, b.low + 1), max(0, b.high - 1)
        return _bounds(low, min(high, max(a.high, 0)) if a.low >= 0 and b.low > 0 else high, common)

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        b = _divisor_bounds(self.right, box)
        if low > 0:
            self.right.narrow(box, low + 1, INF)
        if low == high == 0 or divisor == 0:
            self._divide(box, b)
        elif low > 0 and self.left.bounds(box).low >= 0:
            self.left.narrow(box, low, INF)

    def _divide(self, box: Box, by: Bounds) -> None:
        self.left.narrow(box, -INF, INF, by.divisor)
        a = self.left.bounds(box)
        if a.fixed and a.low:
            self.right.divides(box, a.low)
        elif a.low > 0:
            self.right.narrow(box, -a.high, a.high)
            primes = self.left.primes(box)
            if primes is not None:
                self.right.has_primes(box, primes)


@record(frozen=True, slots=True)
class Extreme(Term):
    """The larger or the smaller one of two."""

    left: Term
    right: Term
    largest: bool
    begin: int = 0
    end: int = 0

    def parts(self) -> tuple[Term, ...]:
        return self.left, self.right

    def value(self, env: Env, undefined: list[Any]) -> Any:
        a, b = self.left.value(env, undefined), self.right.value(env, undefined)
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b) if self.largest else min(a, b)
        import numpy as np

        return np.maximum(a, b) if self.largest else np.minimum(a, b)

    def bounds(self, box: Box) -> Bounds:
        a, b = self.left.bounds(box), self.right.bounds(box)
        choose: Callable[[int, int], int] = max if self.largest else min
        return _bounds(choose(a.low, b.low), choose(a.high, b.high), math.gcd(a.divisor, b.divisor))

    def narrow(self, box: Box, low: int, high: int, divisor: int = 1) -> None:
        for term, other in ((self.left, self.right), (self.right, self.left)):
            b = other.bounds(box)
            if self.largest:
                term.narrow(box, low if b.high < low else -INF, high)
            else:
                term.narrow(box, low, high if b.low > high else INF)


def _defined(value: Any, holds: Callable[[Any], Any], undefined: list[Any]) -> Any:
    """The value, 1 in place of what does not hold, which is noted."""
    if isinstance(value, int):
        if holds(value):
            return value
        undefined.append(True)
        return 1
    import numpy as np

    good = holds(value)
    if good.all():
        return value
    undefined.append(~good)
    return np.where(good, value, 1)


def names_of(term: Term) -> frozenset[str]:
    return frozenset(part.name for part in term.walk() if isinstance(part, Variable))
