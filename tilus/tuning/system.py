"""Systems of integer constraints: variables with domains, constraints as text, and their solutions.

The language and the way of solving are after ConstrINT, the solver with which FlashRNN (Pöppel, Beck and Hochreiter,
2024) finds its tilings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tilus.diagnostics import Span, UserError
from tilus.diagnostics.frames import caller_span
from tilus.tuning.constraints import Constraint, Predicate
from tilus.tuning.domain import MOST_VALUES, Box, Domain
from tilus.tuning.enumerate import Budget, Columns, Enumeration, Goal
from tilus.tuning.integers import INF, EmptyError
from tilus.tuning.parse import is_variable_name, parse_constraints, parse_term
from tilus.tuning.propagate import Propagator
from tilus.tuning.terms import Number, Product, Term, Variable
from tilus.tuning.text import Text

Values = Domain | Iterable[int]
SHOWN_NAMES = 10
Where = str | Callable[..., Any] | Sequence[str | Callable[..., Any]]


def interval(low: int = 1, high: int | None = None, *, multiple_of: int = 1,
             primes: Iterable[int] | None = None) -> Domain:
    """The multiples of a number from ``low`` to ``high`` (None: without an end), inclusive, all of whose prime factors
    are among ``primes``.

    Raises:
        UserError: E1103, there are none.
    """
    try:
        return Domain(low, INF if high is None else high, multiple_of, None if primes is None else frozenset(primes))
    except EmptyError:
        raise UserError.at("E1103", f"the interval {low}..{high} is empty", caller_span()) from None


class System:
    """Integers under constraints.

    >>> from tilus.tuning.system import System, interval
    >>> tiles = System({"BM": [64, 128, 256], "BN": [64, 128, 256], "warps": interval(1, 16)},
    ...                "BM * BN // warps <= 4096; BM % (16 * warps) == 0 | warps == 1")
    >>> tiles.first()
    {'BM': 64, 'BN': 64, 'warps': 1}

    Args:
        variables: for each variable its values, or a domain (:func:`interval`). Their order is that of the search.
        where: constraints: a text, a Python function whose parameters are names of variables or given numbers, or
            several of these.
        given: numbers that the constraints speak of.

    Raises:
        UserError: E1101 for a malformed constraint, E1102 for a name that there is not, E1103 for a variable without
            values or with ones that are no integers.
    """

    def __init__(self, variables: Mapping[str, Values], where: Where = (), given: Mapping[str, int] | None = None, *,
                 span: Span | None = None) -> None:
        self.span = span or caller_span()
        self.orders: dict[str, tuple[int, ...]] = {}
        self.domains = {name: self._domain(name, values) for name, values in variables.items()}
        self.given = dict(given or {})
        self.constraints = read_constraints(where, (*self.domains, *self.given), self.span)

    @classmethod
    def of(cls, domains: Mapping[str, Domain], orders: Mapping[str, tuple[int, ...]],
           constraints: Sequence[Constraint], given: Mapping[str, int], span: Span | None) -> System:
        """A system of what has been read already."""
        self = cls.__new__(cls)
        self.span, self.domains, self.orders, self.given = span, dict(domains), dict(orders), dict(given)
        self.constraints = tuple(constraints)
        return self

    def _domain(self, name: str, values: Values) -> Domain:
        if not is_variable_name(name):
            raise UserError.at("E1103", f"{name!r} is no name that constraints can speak of", self.span)
        if isinstance(values, Domain):
            return values
        if isinstance(values, range) and len(values) > MOST_VALUES and values.start % values.step == 0:
            return Domain(min(values), max(values), abs(values.step))
        listed = tuple(values)
        wrong = [v for v in listed if isinstance(v, bool) or not hasattr(v, "__index__")]
        if wrong:
            raise UserError.at("E1103", f"{name!r} is {wrong[0]!r} among others, which is no integer", self.span)
        if not listed:
            raise UserError.at("E1103", f"{name!r} has no values", self.span)
        self.orders[name] = tuple(dict.fromkeys(int(v) for v in listed))
        return Domain.of(self.orders[name])

    def __repr__(self) -> str:
        return f"<System of {', '.join(self.domains)}>"

    # -- solutions

    def solutions(self, order: str = "given") -> Iterator[dict[str, int]]:
        """Every solution once, one after the other, in the order of the variables: ``"smallest"`` or ``"largest"``
        values first, or as ``"given"`` (intervals: smallest first). The first one comes without waiting for the others.

        Raises:
            UserError: E1105, a variable has no bound.
        """
        for columns in self.columns(order):
            yield from rows_of(columns)

    def __iter__(self) -> Iterator[dict[str, int]]:
        return self.solutions()

    def columns(self, order: str = "given", goal: Goal | None = None,
                budget: Budget | None = None) -> Iterator[Columns]:
        """The solutions, some at a time: for each variable a sequence of its values. Raises UserError (E1105)."""
        box = self.box()
        try:
            Propagator(self.constraints).run(box)
        except EmptyError:
            return
        self._check_bounds(box)
        orders: dict[str, str | tuple[int, ...]] = {
            name: self.orders.get(name, "smallest") if order == "given" else order for name in self.domains}
        yield from Enumeration(tuple(self.domains), self.constraints, orders, goal, budget).run(box)

    def count(self) -> int:
        """How many solutions there are."""
        return sum(len(next(iter(columns.values()))) for columns in self.columns()) if self.domains else int(
            bool(list(self.columns())))

    def first(self, order: str = "given") -> dict[str, int]:
        """The first solution. Raises UserError (E1104), which says what leaves none, where there is none."""
        found = next(self.solutions(order), None)
        if found is None:
            raise self.emptiness()
        return found

    def largest(self, objective: str, order: str = "largest") -> dict[str, int]:
        """The solution with the largest value of a term, the first of those in ``order``.

        Raises:
            UserError: E1104, there is no solution; E1101 and E1102 where the term is wrong.
        """
        found = self.best(self.term(objective), order)
        if found is None:
            raise self.emptiness()
        return found

    def smallest(self, objective: str, order: str = "smallest") -> dict[str, int]:
        """The solution with the smallest value of a term, the first of those in ``order``. Raises as
        :meth:`largest`."""
        found = self.best(Product(Number(-1), self.term(objective)), order)
        if found is None:
            raise self.emptiness()
        return found

    def best(self, term: Term, order: str = "largest") -> dict[str, int] | None:
        """The first solution with the largest value of a term; None where there is no solution."""
        goal, found = Goal(term), None
        for columns in self.columns(order, goal):
            for row in rows_of(columns):
                value = term.value({**self.given, **row}, [])
                if value > goal.best:
                    goal.best, found = value, row
        return found

    def __contains__(self, values: object) -> bool:
        """Whether numbers for all variables, and no others, are a solution."""
        if not isinstance(values, Mapping) or set(values) != set(self.domains):
            return False
        if not all(isinstance(values[name], int) and values[name] in domain for name, domain in self.domains.items()):
            return False
        env = {**self.given, **{name: int(values[name]) for name in self.domains}}
        return all(constraint.holds(env) for constraint in self.constraints)

    def term(self, text: str) -> Term:
        """A term of the variables and given numbers. Raises UserError (E1101, E1102)."""
        source = Text(text, self.span)
        term = parse_term(source)
        check_names(term, (*self.domains, *self.given), source)
        return term

    # -- domains

    def box(self) -> Box:
        """The domains as they are declared."""
        return Box({**self.domains, **{name: Domain.of((number,)) for name, number in self.given.items()}})

    def propagated(self) -> dict[str, Domain] | None:
        """What is left of the domains before anything is tried; None where nothing is."""
        box = self.box()
        try:
            Propagator(self.constraints).run(box)
        except EmptyError:
            return None
        return {name: box[name] for name in self.domains}

    def _check_bounds(self, box: Box) -> None:
        for name in self.domains:
            if box[name].size >= INF:
                raise UserError.at("E1105", f"{name!r} has no bound: {name} in {box[name]}", self.span,
                                   help=f"add a constraint, such as `{name} <= 1024`")

    def with_constraints(self, constraints: Sequence[Constraint]) -> System:
        """The same variables under other constraints."""
        return System.of(self.domains, self.orders, constraints, self.given, self.span)

    def emptiness(self, what: str = "the constraints have no solution") -> UserError:
        """The error of a system without solutions: which of its constraints leave none."""
        from tilus.tuning.explain import emptiness

        return emptiness(self, what)


def rows_of(columns: Columns) -> Iterator[dict[str, int]]:
    lists = [column.tolist() if hasattr(column, "tolist") else column for column in columns.values()]
    for row in zip(*lists, strict=True) if lists else [()]:
        yield dict(zip(columns, row, strict=True))


def read_constraints(where: Where, names: Iterable[str], span: Span | None) -> tuple[Constraint, ...]:
    """Constraints of texts and Python functions, about these names. Raises UserError (E1101, E1102)."""
    known = tuple(names)
    found: list[Constraint] = []
    for item in [where] if isinstance(where, str) or callable(where) else where:
        if isinstance(item, str):
            source = Text(item, span)
            for constraint in parse_constraints(source):
                for term in constraint.terms():
                    check_names(term, known, source)
                found.append(constraint)
        elif callable(item):
            found.append(_predicate(item, known, span))
        else:
            raise UserError.at("E1103", f"a constraint is text or a function, not {item!r}", span)
    return tuple(found)


def _predicate(function: Callable[..., Any], known: Sequence[str], span: Span | None) -> Predicate:
    name = getattr(function, "__name__", "")
    text = "the function" if name in ("", "<lambda>") else f"the function {name!r}"
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError.at("E1102", f"{text} of a constraint takes {parameter}", span,
                               help="name what it is about: `lambda BM, BN: BM <= BN`")
        if parameter.name in known:
            parameters.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise UserError.at("E1102", f"{text} of a constraint asks for {parameter.name!r}, which there is not", span,
                               help=_near(parameter.name, known))
    return Predicate(function, tuple(parameters), text)


def check_names(term: Term, known: Sequence[str], source: Text) -> None:
    """Raise UserError (E1102) where a term speaks of a name that is not among ``known``."""
    for part in term.walk():
        if isinstance(part, Variable) and part.name not in known:
            raise source.error("E1102", f"there is no {part.name!r} for a constraint to be about", part.begin, part.end,
                               help=_near(part.name, known))


def _near(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f" and {len(known) - SHOWN_NAMES} more" if len(known) > SHOWN_NAMES else ""
    return f"there are {', '.join(known[:SHOWN_NAMES])}{more}"


__all__ = ["System", "interval"]
