"""Reads constraints from text.

From the loosest to the tightest: ``;`` (and), ``|`` or ``or``, ``and``, comparisons and ``in``, ``..`` (an interval),
``+ -``, ``* // %``, the sign, ``**``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tilus.diagnostics import UserError
from tilus.records import record
from tilus.tuning.constraints import AllOf, AnyOf, Comparison, Constraint, Members, PrimesAmong
from tilus.tuning.integers import is_prime
from tilus.tuning.terms import Extreme, Number, Power, Product, Quotient, Remainder, Sum, Term, Variable
from tilus.tuning.text import Text

_TOKEN = re.compile(r"\s*(?:(?P<number>\d[\d_]*(?!\w))|(?P<name>[A-Za-z_]\w*)"
                    r"|(?P<sign>\*\*|//|\.\.|==|!=|<=|>=|&&|\|\||[-+*%<>()\[\],;|&/=^!.])|(?P<odd>\S))")
_RELATIONS = ("==", "!=", "<=", "<", ">=", ">")
_BINARY = {";": 1, "|": 2, "or": 2, "and": 3, **dict.fromkeys(_RELATIONS, 4), "in": 4, "not": 4, "..": 5,
           "+": 6, "-": 6, "*": 7, "//": 7, "%": 7, "**": 9}
_SIGN = 8
_HELP = {"/": "write // for the quotient rounded down", "=": "write == for equality", "&": "write ; for `and`",
         "&&": "write ; for `and`", "||": "write | for `or`", "^": "write ** for powers",
         "!": "there is no `not`: write the opposite comparison", ".": "constraints are about integers"}
FUNCTIONS = ("min", "max", "cdiv", "primes")
WORDS = ("and", "or", "in", "not", *FUNCTIONS)
"""Names that are no variables."""


@record(frozen=True)
class _Token:
    kind: str
    text: str
    begin: int
    end: int


@record(frozen=True)
class _Set:
    """``low..high``, or a list of terms and intervals."""

    items: tuple[Term | _Set, ...]
    interval: bool
    begin: int
    end: int


@record(frozen=True)
class _Primes:
    """``primes(term)``, which stands before ``in`` only."""

    term: Term
    begin: int
    end: int


@record(frozen=True)
class _Condition:
    constraint: Constraint
    begin: int
    end: int
    last: Term | None = None
    """The right side of a comparison, which another one may go on from."""


_Node = Term | _Set | _Primes | _Condition


def parse_constraints(text: Text) -> tuple[Constraint, ...]:
    """The constraints of a text, those between ``;`` one by one. Raises UserError (E1101)."""
    return _Parser(text).parse()


def parse_term(text: Text) -> Term:
    """The term that a text is. Raises UserError (E1101)."""
    parser = _Parser(text)
    term = parser.term(parser.expression(1))
    if parser.next.kind != "end":
        raise parser.unexpected()
    return term


def is_variable_name(name: str) -> bool:
    """Whether a text of constraints can speak of it."""
    return name.isidentifier() and name.isascii() and name not in WORDS


class _Parser:
    def __init__(self, text: Text) -> None:
        self.text = text
        self.at = 0
        self.tokens = self._tokens(text.text)

    def _tokens(self, text: str) -> list[_Token]:
        tokens = [_Token(str(m.lastgroup), m.group(str(m.lastgroup)), m.start(str(m.lastgroup)), m.end())
                  for m in _TOKEN.finditer(text)]
        return [*tokens, _Token("end", "", len(text.rstrip()), len(text.rstrip()) + 1)]

    def fail(self, place: _Token | _Node, what: str, help: str | None = None) -> UserError:
        return self.text.error("E1101", "malformed constraint", place.begin, place.end, label=what, help=help)

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, sign: str) -> _Token:
        if self.next.text != sign or self.next.kind == "end":
            raise self.unexpected(f"{sign!r} is missing" + (" before this" if self.next.kind != "end" else ""))
        return self.take()

    def unexpected(self, what: str = "not expected here") -> UserError:
        token = self.next
        if token.kind == "end" and what == "not expected here":
            what = "the text ends too soon"
        if token.kind == "odd" and re.match(r"\d", token.text):
            what = "this is no integer"
        return self.fail(token, what, _HELP.get(token.text))

    # -- conditions

    def parse(self) -> tuple[Constraint, ...]:
        found: list[Constraint] = []
        while self.next.kind != "end":
            if self.next.text == ";":
                self.take()
                continue
            found.append(self.condition(self.expression(2)).constraint)
            if self.next.text != ";" and self.next.kind != "end":
                raise self.unexpected()
        return tuple(found)

    def condition(self, node: _Node) -> _Condition:
        if not isinstance(node, _Condition):
            kind = "a number" if isinstance(node, Term) else "a set"
            raise self.fail(node, f"this is {kind}, and a condition is needed", "compare it: `BM * BN <= 4096`")
        return node

    def term(self, node: _Node) -> Term:
        if not isinstance(node, Term):
            raise self.fail(node, "a number is needed here", "primes(x) stands before `in` only"
                            if isinstance(node, _Primes) else None)
        return node

    # -- expressions

    def expression(self, tightness: int) -> _Node:
        """What binds at least so tightly."""
        left = self.prefix()
        while True:
            token = self.next
            binds = _BINARY.get(token.text, 0) if token.kind in ("sign", "name") else 0
            if binds == 0 or binds < tightness:
                if token.text in _HELP:
                    raise self.unexpected()
                return left
            self.take()
            left = self.binary(left, token, binds)

    def binary(self, left: _Node, token: _Token, binds: int) -> _Node:
        sign = token.text
        if sign == ";" and (self.next.kind == "end" or self.next.text in (")", ";")):
            return left
        if sign in (";", "|", "or", "and"):
            return self.joined(self.condition(left), sign, self.condition(self.expression(binds + 1)))
        if binds == 4:
            return self.comparison(left, token)
        if sign == "..":
            low, high = self.term(left), self.term(self.expression(binds + 1))
            return _Set((low, high), True, low.begin, high.end)
        a = self.term(left)
        b = self.term(self.expression(_SIGN if sign == "**" else binds + 1))
        return self.arithmetic(sign, a, b)

    def arithmetic(self, sign: str, a: Term, b: Term) -> Term:
        place = (a.begin, b.end)
        if sign == "+":
            return Sum(a, b, *place)
        if sign == "-":
            return Sum(a, Product(Number(-1), b, b.begin, b.end), *place)
        kinds: dict[str, Callable[..., Term]] = {"*": Product, "//": Quotient, "%": Remainder, "**": Power}
        return kinds[sign](a, b, *place)

    def prefix(self) -> _Node:
        token = self.take()
        if token.kind == "number":
            return Number(int(token.text), token.begin, token.end)
        if token.kind == "name" and token.text in FUNCTIONS and self.next.text == "(":
            return self.call(token)
        if token.kind == "name" and token.text not in WORDS:
            if self.next.text == "(":
                raise self.fail(token, "unknown function", f"functions: {', '.join(FUNCTIONS)}")
            return Variable(token.text, token.begin, token.end)
        if token.text in ("-", "+") and token.kind == "sign":
            inner = self.term(self.expression(_SIGN))
            if token.text == "+":
                return inner
            if isinstance(inner, Number):
                return Number(-inner.number, token.begin, inner.end)
            return Product(Number(-1), inner, token.begin, inner.end)
        if token.text == "(":
            return self.group(token)
        if token.text == "[":
            return self.list(token)
        self.at -= 1
        if token.kind == "name":
            hint = "there is no `not` but in `not in`" if token.text == "not" else None
            raise self.fail(token, "not expected here", hint)
        raise self.unexpected()

    def group(self, opening: _Token) -> _Node:
        inner = self.expression(1)
        closing = self.expect(")")
        place = (opening.begin, closing.end)
        if isinstance(inner, _Condition):
            return _Condition(inner.constraint, *place)
        if isinstance(inner, (_Set, _Primes)):
            return inner
        return _placed(inner, *place)

    def list(self, opening: _Token) -> _Set:
        items: list[Term | _Set] = []
        while self.next.text != "]":
            item = self.expression(5)
            if not isinstance(item, Term) and not (isinstance(item, _Set) and item.interval):
                raise self.fail(item, "a number or an interval is needed here")
            items.append(item)
            if self.next.text != "]":
                self.expect(",")
        closing = self.take()
        if not items:
            raise self.fail(_Token("", "[]", opening.begin, closing.end), "the list is empty")
        return _Set(tuple(items), False, opening.begin, closing.end)

    def call(self, name: _Token) -> _Node:
        self.take()
        arguments = [self.term(self.expression(6))]
        while self.next.text == ",":
            self.take()
            arguments.append(self.term(self.expression(6)))
        closing = self.expect(")")
        place = (name.begin, closing.end)
        wanted = {"min": (2, 99), "max": (2, 99), "cdiv": (2, 2), "primes": (1, 1)}[name.text]
        if not wanted[0] <= len(arguments) <= wanted[1]:
            several = "two or more numbers" if wanted[1] == 99 else "two numbers" if wanted[0] == 2 else "one number"
            raise self.fail(_Token("", "", *place), f"{name.text} takes {several}")
        if name.text == "primes":
            return _Primes(arguments[0], *place)
        if name.text == "cdiv":  # ⌈a / b⌉ = -⌊-a / b⌋
            a, b = arguments
            return Product(Number(-1), self.arithmetic("//", Product(Number(-1), a, *place), b), *place)
        found = arguments[0]
        for other in arguments[1:]:
            found = Extreme(found, other, name.text == "max", *place)
        return found

    # -- comparisons

    def comparison(self, left: _Node, token: _Token) -> _Condition:
        negated = token.text in ("not", "!=")
        if token.text == "not":
            self.expect("in")
        right = self.expression(5)
        if isinstance(left, _Condition) and left.last is not None:  # a <= b <= c
            return self.joined(left, "and", self.comparison_of(left.last, token, right, negated))
        return self.comparison_of(left, token, right, negated)

    def comparison_of(self, left: _Node, token: _Token, right: _Node, negated: bool) -> _Condition:
        if isinstance(left, _Primes):
            return self.primes(left, token, right)
        a = self.term(left)
        if isinstance(right, _Set):
            if token.text not in ("in", "not", "==", "!="):
                raise self.fail(right, "a number is needed here", "a set stands after `in`, == or !=")
            return _Condition(self.member(a, right, negated), a.begin, right.end)
        if token.text in ("in", "not"):
            raise self.fail(right, "a set is needed here", "write [64, 128] or 16..256")
        b = self.term(right)
        return _Condition(Comparison(token.text, a, b, self.text.text[a.begin:b.end]), a.begin, b.end, b)

    def primes(self, left: _Primes, token: _Token, right: _Node) -> _Condition:
        numbers = right.items if isinstance(right, _Set) and not right.interval else ()
        primes = [n.number for n in numbers if isinstance(n, Number) and is_prime(n.number)]
        if token.text not in ("in", "==") or len(primes) != len(numbers) or not primes:
            raise self.fail(right, "a list of primes is needed here", "write primes(x) in [2, 3]")
        text = self.text.text[left.begin:right.end]
        return _Condition(PrimesAmong(left.term, frozenset(primes), text), left.begin, right.end)

    def member(self, term: Term, items: _Set, negated: bool) -> Constraint:
        text = self.text.text[term.begin:items.end]
        if items.interval:
            return self._within(term, items, negated, text)
        if all(isinstance(item, Number) for item in items.items):
            return Members(term, tuple(sorted({i.number for i in items.items if isinstance(i, Number)})), negated, text)
        parts: list[Constraint] = []
        for item in items.items:
            if isinstance(item, _Set):
                parts.append(self._within(term, item, negated, text))
            else:
                parts.append(Comparison("!=" if negated else "==", term, item, text))
        return AllOf(tuple(parts), text) if negated else AnyOf(tuple(parts), text)

    def _within(self, term: Term, interval: _Set, negated: bool, text: str) -> Constraint:
        low, high = (item for item in interval.items if isinstance(item, Term))
        if negated:
            return AnyOf((Comparison("<", term, low, text), Comparison(">", term, high, text)), text)
        return AllOf((Comparison(">=", term, low, text), Comparison("<=", term, high, text)), text)

    def joined(self, left: _Condition, sign: str, right: _Condition) -> _Condition:
        kind: type[AllOf | AnyOf] = AnyOf if sign in ("|", "or") else AllOf
        parts: Sequence[Constraint] = (left.constraint, right.constraint)
        flat = [p for part in parts for p in (part.parts if isinstance(part, kind) else (part,))]
        text = self.text.text[left.begin:right.end]
        return _Condition(kind(tuple(flat), text), left.begin, right.end, right.last)


def _placed(term: Term, begin: int, end: int) -> Term:
    """The term with its parentheses."""
    from dataclasses import replace

    return replace(term, begin=begin, end=end)  # type: ignore[type-var]
