"""Domains: what is known of an integer. A domain may hold more than the values that are possible, never fewer."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

from tilus.tuning.integers import INF, EmptyError, ceil_div, is_smooth, lower, smooth_numbers, upper

MOST_VALUES = 4096
"""Domains of at most so many values may list them."""


class Domain:
    """The multiples of ``factor`` from ``low`` to ``high`` (-INF and INF: no bound), all of whose prime factors are
    among ``primes``, and which are among ``values``; None allows all. Primes are those of positive numbers: 0 and
    negative ones have none that are allowed. A factor of 0 leaves 0. Immutable.

    Raises:
        EmptyError: there is no such number.
    """

    __slots__ = ("__dict__", "factor", "high", "low", "primes", "values")

    def __init__(self, low: int = -INF, high: int = INF, factor: int = 1, primes: frozenset[int] | None = None,
                 values: tuple[int, ...] | None = None) -> None:
        if primes is not None:
            low = max(low, 1)
        if factor == 0:
            low, high, factor = max(low, 0), min(high, 0), 1
        low, high = lower(low), upper(high)
        if values is not None:
            values = tuple(v for v in values if low <= v <= high and v % factor == 0
                           and (primes is None or is_smooth(v, primes)))
        else:
            low = low if low <= -INF else ceil_div(low, factor) * factor
            high = high if high >= INF else high // factor * factor
            if primes is not None and low <= high < INF:
                smooth = smooth_numbers(primes, high, 0, MOST_VALUES)
                values = None if smooth is None else tuple(v for v in smooth if v >= low and v % factor == 0)
        if values is not None:
            low, high = (values[0], values[-1]) if values else (1, 0)
        if low > high:
            raise EmptyError
        self.low, self.high, self.factor, self.primes, self.values = low, high, factor, primes, values

    @classmethod
    def of(cls, values: Iterable[int]) -> Domain:
        """These values and no others."""
        return cls(values=tuple(sorted(set(values))))

    def meet(self, other: Domain) -> Domain:
        """What is in both; this very object where the other one takes nothing away."""
        return self.within(other.low, other.high, other.factor, other.primes, other.values)

    def within(self, low: int = -INF, high: int = INF, factor: int = 1, primes: frozenset[int] | None = None,
               values: tuple[int, ...] | None = None) -> Domain:
        """What is left of it; this very object where nothing is taken away."""
        both = self.values
        if values is not None:
            allowed = set(values)
            both = values if both is None else tuple(v for v in both if v in allowed)
            if both == self.values:
                both = self.values
        common = math.lcm(self.factor, factor)
        allowed_primes = self.primes if primes is None else primes if self.primes is None else self.primes & primes
        if low <= self.low and high >= self.high and both is self.values and (
                common == self.factor and allowed_primes == self.primes):
            return self
        found = Domain(max(low, self.low), min(high, self.high), common, allowed_primes, both)
        return self if found == self else found

    def join(self, other: Domain) -> Domain:
        """A domain that holds both."""
        if self.values is not None and other.values is not None:
            return Domain.of((*self.values, *other.values))
        primes = None if self.primes is None or other.primes is None else self.primes | other.primes
        factor = math.gcd(self.divisor, other.divisor)
        return Domain(min(self.low, other.low), max(self.high, other.high), factor, primes)

    @property
    def fixed(self) -> bool:
        return self.low == self.high

    @functools.cached_property
    def divisor(self) -> int:
        """What divides every value; 0 where 0 is the only one."""
        return self.factor if self.values is None and not self.fixed else math.gcd(*self.values or (self.low,))

    @functools.cached_property
    def size(self) -> int:
        """How many values it has at most; INF where there is no bound."""
        if self.values is not None:
            return len(self.values)
        if self.low <= -INF or self.high >= INF:
            return INF
        return (self.high - self.low) // self.factor + 1

    def __iter__(self) -> Iterator[int]:
        """Its values, ascending."""
        return self._allowed(range(self.low, self.high + 1, self.factor) if self.values is None else self.values)

    def __reversed__(self) -> Iterator[int]:
        return self._allowed(reversed(range(self.low, self.high + 1, self.factor) if self.values is None
                                      else self.values))

    def _allowed(self, numbers: Iterable[int]) -> Iterator[int]:
        if self.values is not None or self.primes is None:
            return iter(numbers)
        primes = self.primes
        return (n for n in numbers if is_smooth(n, primes))

    def __contains__(self, value: int) -> bool:
        if self.values is not None:
            return value in self.values
        return self.low <= value <= self.high and value % self.factor == 0 and (
            self.primes is None or is_smooth(value, self.primes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and (self.low, self.high, self.factor, self.primes, self.values) == (
            other.low, other.high, other.factor, other.primes, other.values)

    def __hash__(self) -> int:
        return hash((self.low, self.high, self.factor, self.primes, self.values))

    def __str__(self) -> str:
        if self.fixed:
            return str(self.low)
        if self.values is not None:
            shown = [str(v) for v in self.values]
            return f"[{', '.join(shown if len(shown) <= 12 else [*shown[:8], '…', shown[-1]])}]"
        low, high = ("" if abs(end) >= INF else str(end) for end in (self.low, self.high))
        multiple = f", multiples of {self.factor}" if self.factor > 1 else ""
        return f"{low}..{high}{multiple}"

    def __repr__(self) -> str:
        return f"<Domain {self}>"


class Box:
    """A domain for every name. ``changed`` collects the names whose domains have shrunk."""

    __slots__ = ("changed", "domains")

    def __init__(self, domains: dict[str, Domain]) -> None:
        self.domains = domains
        self.changed: set[str] = set()

    def __getitem__(self, name: str) -> Domain:
        return self.domains[name]

    def copy(self) -> Box:
        return Box(dict(self.domains))

    def put(self, name: str, domain: Domain) -> None:
        """Make it the domain of a name. It is part of the one that the name has."""
        if domain is not self.domains[name]:
            self.domains[name] = domain
            self.changed.add(name)
