"""The language of constraints: precedence, sets, functions, and messages at the place of a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

import tilus as tl
from tilus.tuning import enumerate as enumeration
from tilus.tuning.system import System, interval

VALUES = range(-2, 7)
MEANINGS: dict[str, Callable[[int, int, int], bool]] = {
    "a == 1 | b == 2; c == 3": lambda a, b, c: (a == 1 or b == 2) and c == 3,
    "a == 1 or b == 2; c == 3;": lambda a, b, c: (a == 1 or b == 2) and c == 3,
    "a == 1 | b == 2 and c == 3": lambda a, b, c: a == 1 or (b == 2 and c == 3),
    "(a == 1; b == 2) | c == 3": lambda a, b, c: (a == 1 and b == 2) or c == 3,
    "(a == 1 | b == 2) and (c == 3)": lambda a, b, c: (a == 1 or b == 2) and c == 3,
    "1 <= a < b <= 5": lambda a, b, c: 1 <= a < b <= 5,
    "a < b > c != 2": lambda a, b, c: a < b > c != 2,
    "-a ** 2 == -4": lambda a, b, c: a * a == 4,
    "2 ** b ** 2 == 512": lambda a, b, c: abs(b) == 3,
    "a - b - c == 1": lambda a, b, c: (a - b) - c == 1,
    "-a // 2 == b": lambda a, b, c: (-a) // 2 == b,
    "a + b * c % 4 == 5": lambda a, b, c: a + (b * c) % 4 == 5,
    "(a + b) * (c - 1) == 6": lambda a, b, c: (a + b) * (c - 1) == 6,
    "a in 1..b": lambda a, b, c: 1 <= a <= b,
    "a not in 1..b": lambda a, b, c: not 1 <= a <= b,
    "a * b in [c, 3, 5..8]": lambda a, b, c: a * b in (c, 3, 5, 6, 7, 8),
    "a * b not in [c, 3, 5..8]": lambda a, b, c: a * b not in (c, 3, 5, 6, 7, 8),
    "a == [1, 2]; b != [0, 3]; c == 1..2": lambda a, b, c: a in (1, 2) and b not in (0, 3) and c in (1, 2),
    "max(a, b, c) == 2; min(a, b) >= -1": lambda a, b, c: max(a, b, c) == 2 and min(a, b) >= -1,
    "cdiv(a, 2) == b + c": lambda a, b, c: -(-a // 2) == b + c,
    "primes(a + b) in [2, 3]": lambda a, b, c: a + b in (1, 2, 3, 4, 6, 8, 9, 12),
    "6 % b == 0": lambda a, b, c: b != 0 and 6 % b == 0,
    "6 % b != 0": lambda a, b, c: b != 0 and 6 % b != 0,
    "2 ** a >= 1": lambda a, b, c: a >= 0,
    "a\n == +1 ;\n\n b == 1_0 - 8": lambda a, b, c: a == 1 and b == 2,
    "": lambda a, b, c: True,
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning(text: str) -> None:
    expected = [row for row in itertools.product(VALUES, repeat=3) if MEANINGS[text](*row)]
    assert [tuple(row.values()) for row in System(dict.fromkeys("abc", VALUES), text)] == expected


@pytest.mark.parametrize(("text", "part", "label"), [
    ("a * b <=", "", "the text ends too soon"),
    ("a / b == 2", "/", "not expected here"),
    ("a == 1 & b == 2", "&", "not expected here"),
    ("a == 1 || b == 2", "||", "not expected here"),
    ("a < 2.5", ".", "not expected here"),
    ("2a == 4", "2", "this is no integer"),
    ("not a == 2", "not", "not expected here"),
    ("a == b c", "c", "not expected here"),
    ("a", "a", "this is a number, and a condition is needed"),
    ("a == 1; (a + b)", "(a + b)", "this is a number, and a condition is needed"),
    ("[1, 2]", "[1, 2]", "this is a set, and a condition is needed"),
    ("a > (b == 2)", "(b == 2)", "a number is needed here"),
    ("a < [1, 2]", "[1, 2]", "a number is needed here"),
    ("a in b", "b", "a set is needed here"),
    ("a in []", "[]", "the list is empty"),
    ("a in [1, [2]]", "[2]", "a number or an interval is needed here"),
    ("a == [1, 2", "", "',' is missing"),
    ("(a == 1", "", "')' is missing"),
    ("a == 1)", ")", "not expected here"),
    ("primes(a) in [2, 4]", "[2, 4]", "a list of primes is needed here"),
    ("primes(a) + 1 == 3", "primes(a)", "a number is needed here"),
    ("max(a) == 3", "max(a)", "max takes two or more numbers"),
    ("cdiv(a, b, 3) == 3", "cdiv(a, b, 3)", "cdiv takes two numbers"),
    ("sqrt(a) == 3", "sqrt", "unknown function"),
    ("a == 3 ? b", "?", "not expected here"),
])
def test_mistakes(text: str, part: str, label: str) -> None:
    with pytest.raises(tl.UserError, match="E1101") as caught:
        System(dict.fromkeys("abc", VALUES), "".join([text]))
    place = caught.value.diagnostics[0].labels[-1]
    assert place.message == label
    begin = text.rindex(part) if part else len(text)
    assert (place.span.column, place.span.end_column) == (begin, begin + max(1, len(part)))


@pytest.mark.parametrize("blocks", [False, True])
def test_numbers_of_any_size(blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumeration, "FIRST_CHOICES", 0 if blocks else 1000)
    system = System({"a": [3, 2**70, 2**70 + 1, 5], "n": range(60, 75)}, "2 ** n <= a; a % 2 == 1 | n == 70")
    assert list(system) == [{"a": 2**70, "n": 70}, *({"a": 2**70 + 1, "n": n} for n in range(60, 71))]
    assert System({"n": range(1, 300)}, "3 ** n // 3 ** (n - 1) == 3; n ** n > 10 ** 600").first() == {"n": 251}


def test_variables_without_a_bound() -> None:
    with pytest.raises(tl.UserError, match=r"E1105.*'b' has no bound"):
        System({"a": interval(1, 4), "b": interval()}, "b % a == 0").first()
    assert System({"a": interval(), "b": interval()}, "a * b == 15; a > 2").count() == 3
    assert System({"a": interval(), "e": interval(0)}, "2 ** e == a; a <= 1000").count() == 10


def test_values_that_are_wrong() -> None:
    for variables in ({"a": []}, {"a": [1.5]}, {"a": [True]}, {"a b": [1]}, {"min": [1]}):
        with pytest.raises(tl.UserError, match="E1103"):
            System(variables)
    with pytest.raises(tl.UserError, match="E1103"):
        interval(5, 4)


def test_orders() -> None:
    system = System({"a": [3, 1, 2], "b": interval(1, 2)}, "a != 3 | b == 1")
    rows = [(3, 1), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert [tuple(r.values()) for r in system] == rows
    assert [tuple(r.values()) for r in system.solutions("smallest")] == sorted(rows)
    assert [tuple(r.values()) for r in system.solutions("largest")] == sorted(rows, reverse=True)
    assert system.first("largest") == {"a": 3, "b": 1}


def test_the_first_solution_comes_at_once() -> None:
    """Of so many that their enumeration would not end."""
    system = System({name: interval(1, 1000) for name in "abcdef"}, "a + b + c + d + e + f > 30; a * b % 7 == 3")
    assert next(system.solutions()) == {"a": 1, "b": 3, "c": 1, "d": 1, "e": 1, "f": 24}
