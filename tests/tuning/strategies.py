"""Random systems of constraints, as text and as Python."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tilus.tuning.system import interval

NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Written:
    """The same condition or term in the language of constraints and in Python."""

    text: str
    python: str


def power(base: int, exponent: int) -> int:
    if exponent < 0:
        raise ZeroDivisionError
    return base**exponent


def smooth(n: int, primes: list[int]) -> bool:
    """Whether n is positive and divides a power of the product of the primes."""
    return n > 0 and pow(math.prod(primes), n.bit_length(), n) == 0 % n


def holds(condition: Callable[[], bool]) -> bool:
    """A condition about a term without a value does not hold."""
    try:
        return bool(condition())
    except ZeroDivisionError:
        return False


@functools.cache
def terms(names: tuple[str, ...]) -> st.SearchStrategy[Written]:
    leaves = st.one_of(st.sampled_from(names).map(lambda n: Written(n, n)),
                       st.integers(0, 12).map(lambda n: Written(str(n), str(n))))

    def grow(inner: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
        def binary(sign: str) -> Callable[[Written, Written], Written]:
            return lambda a, b: Written(f"({a.text} {sign} {b.text})", f"({a.python} {sign} {b.python})")

        def called(name: str, python: str) -> Callable[[Written, Written], Written]:
            return lambda a, b: Written(f"{name}({a.text}, {b.text})", python.format(a=a.python, b=b.python))

        two = [binary(sign) for sign in ("+", "-", "*", "*", "//", "%")]
        two += [called("min", "min({a}, {b})"), called("max", "max({a}, {b})"), called("cdiv", "(-(-{a} // {b}))")]
        return st.one_of(
            *(st.builds(make, inner, inner) for make in two),
            st.builds(lambda a, n: Written(f"{a.text}**{n}", f"power({a.python}, {n})"), leaves, st.integers(0, 3)),
            st.builds(lambda n, a: Written(f"{n}**{a.text}", f"power({n}, {a.python})"), st.integers(0, 3), leaves),
            inner.map(lambda a: Written(f"-({a.text})", f"(-({a.python}))")),
        )

    return st.recursive(leaves, grow, max_leaves=5)


@functools.cache
def conditions(names: tuple[str, ...]) -> st.SearchStrategy[Written]:
    term = terms(names)
    plain = st.builds(lambda a, sign, b: Written(f"{a.text} {sign} {b.text}",
                                                 f"holds(lambda: {a.python} {sign} {b.python})"), term,
                      st.sampled_from(["==", "!=", "<=", "<", ">=", ">"]), term)
    multiples = st.builds(lambda a, b: Written(f"{a.text} % {b.text} == 0",
                                               f"holds(lambda: {a.python} % {b.python} == 0)"),
                          term, st.sampled_from(names).map(lambda n: Written(n, n)) | term)
    numbers = st.lists(st.integers(-4, 40), min_size=1, max_size=5)
    member = st.builds(lambda a, word, ns: Written(f"{a.text} {word} {ns}", f"holds(lambda: {a.python} {word} {ns})"),
                       term, st.sampled_from(["in", "not in"]), numbers)
    within = st.builds(lambda a, low, b: Written(f"{a.text} in {low}..{b.text}",
                                                 f"holds(lambda: {low} <= {a.python} <= {b.python})"),
                       term, st.integers(0, 9), term)
    primes = st.builds(lambda a, ps: Written(f"primes({a.text}) in {ps}", f"holds(lambda: smooth({a.python}, {ps}))"),
                       term, st.lists(st.sampled_from([2, 3, 5]), min_size=1, max_size=2))
    one = st.one_of(plain, plain, multiples, member, within, primes)
    either = st.lists(one, min_size=1, max_size=3).map(lambda ws: Written(
        " | ".join(w.text for w in ws), "(" + " or ".join(w.python for w in ws) + ")"))
    return either | st.lists(either, min_size=2, max_size=2).map(lambda ws: Written(
        f"({ws[0].text}) and ({ws[1].text})", f"({ws[0].python} and {ws[1].python})"))


@st.composite
def domains(draw: st.DrawFn) -> tuple[Any, list[int]]:
    """What a system is given for a variable, and its values, ascending."""
    kind = draw(st.sampled_from(["list", "interval", "multiples", "primes"]))
    if kind == "list":
        values = draw(st.lists(st.integers(-3, 64), min_size=1, max_size=6, unique=True))
        return values, sorted(values)
    low, high = sorted(draw(st.tuples(st.integers(-2, 20), st.integers(-2, 20))))
    if kind == "interval":
        return interval(low, high), list(range(low, high + 1))
    if kind == "multiples":
        factor = draw(st.integers(2, 4))
        return interval(0, high + 2, multiple_of=factor), list(range(0, high + 3, factor))
    return interval(1, high + 3, primes=[2, 3]), [n for n in range(1, high + 4) if smooth(n, [2, 3])]


@dataclass(frozen=True)
class Example:
    variables: dict[str, Any]
    values: dict[str, list[int]]
    text: str
    python: str

    def brute_force(self) -> Iterator[dict[str, int]]:
        """The solutions by trial, smallest values first."""
        scope = {"power": power, "smooth": smooth, "holds": holds}
        condition = eval(f"lambda {', '.join(self.values)}: {self.python or True}", scope)
        for row in itertools.product(*self.values.values()):
            if condition(*row):
                yield dict(zip(self.values, row, strict=True))


@st.composite
def examples(draw: st.DrawFn) -> Example:
    names = NAMES[:draw(st.integers(1, 4))]
    drawn = {name: draw(domains()) for name in names}
    found = draw(st.lists(conditions(names), min_size=0, max_size=4))
    return Example({n: d for n, (d, _) in drawn.items()}, {n: v for n, (_, v) in drawn.items()},
                   "; ".join(w.text for w in found), " and ".join(w.python for w in found))


__all__ = ["Example", "examples"]
