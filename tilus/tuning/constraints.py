"""Constraints: conditions on integers, joined by "and" and "or", and predicates that are Python functions."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tilus.diagnostics import UserError
from tilus.diagnostics.frames import raising_span
from tilus.records import record
from tilus.tuning.domain import Box
from tilus.tuning.integers import INF, EmptyError, is_smooth
from tilus.tuning.terms import Bounds, Env, Term, Variable, names_of

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
SWAPPED = {"==": "==", "!=": "!=", "<=": ">=", ">=": "<=", "<": ">", ">": "<"}


class Constraint:
    """A condition. ``text`` is what it is called in messages."""

    text: str

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The variables and given numbers that it is about."""
        raise NotImplementedError

    def terms(self) -> tuple[Term, ...]:
        """The terms that it compares, outermost ones."""
        return ()

    def holds(self, env: Env) -> Any:
        """Whether it holds for numbers; of arrays of numbers: where."""
        raise NotImplementedError

    def revise(self, box: Box) -> None:
        """Take out of the domains what cannot be. Raises EmptyError where nothing is left."""
        raise NotImplementedError


def _where_defined(found: Any, undefined: list[Any]) -> Any:
    for mask in undefined:
        found = found & ~mask if mask is not True else found & False
    return found


@record(frozen=True, eq=False)
class Comparison(Constraint):
    """``left RELATION right``, with one of ``== != <= < >= >``."""

    relation: str
    left: Term
    right: Term
    text: str

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return names_of(self.left) | names_of(self.right)

    def terms(self) -> tuple[Term, ...]:
        return self.left, self.right

    def holds(self, env: Env) -> Any:
        undefined: list[Any] = []
        a, b = self.left.value(env, undefined), self.right.value(env, undefined)
        found = OPERATORS[self.relation](a, b)
        return _where_defined(found, undefined) if undefined else found

    def revise(self, box: Box) -> None:
        for term, relation, other in ((self.left, self.relation, self.right),
                                      (self.right, SWAPPED[self.relation], self.left)):
            known = other.bounds(box)
            if relation == "==":
                _equal(term, other, known, box)
            elif relation in ("<=", "<"):
                term.narrow(box, -INF, known.high - (relation == "<") if known.high < INF else INF)
            elif relation in (">=", ">"):
                term.narrow(box, known.low + (relation == ">") if known.low > -INF else -INF, INF)
            elif known.fixed:
                _unequal(term, known.low, box)


def _equal(term: Term, other: Term, known: Bounds, box: Box) -> None:
    term.narrow(box, *known)
    if known.low > 0:
        primes = other.primes(box)
        if primes is not None:
            term.has_primes(box, primes)


def _unequal(term: Term, number: int, box: Box) -> None:
    found = term.bounds(box)
    if found.fixed and found.low == number:
        raise EmptyError
    if found.low == number:
        term.narrow(box, number + 1, INF)
    elif found.high == number:
        term.narrow(box, -INF, number - 1)


@record(frozen=True, eq=False)
class PrimesAmong(Constraint):
    """The term is positive, and all of its prime factors are among ``primes``."""

    term: Term
    primes: frozenset[int]
    text: str

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return names_of(self.term)

    def terms(self) -> tuple[Term, ...]:
        return (self.term,)

    def holds(self, env: Env) -> Any:
        undefined: list[Any] = []
        value = self.term.value(env, undefined)
        if isinstance(value, int):
            return _where_defined(is_smooth(value, self.primes), undefined)
        import numpy as np

        different, place = np.unique(value, return_inverse=True)
        found = np.array([is_smooth(int(n), self.primes) for n in different], bool)
        return _where_defined(found[place.reshape(value.shape)], undefined)

    def revise(self, box: Box) -> None:
        self.term.narrow(box, 1, INF)
        self.term.has_primes(box, self.primes)


@record(frozen=True, eq=False)
class AllOf(Constraint):
    parts: tuple[Constraint, ...]
    text: str

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(part.names for part in self.parts))

    def terms(self) -> tuple[Term, ...]:
        return tuple(term for part in self.parts for term in part.terms())

    def holds(self, env: Env) -> Any:
        return functools.reduce(lambda a, b: a & b, [part.holds(env) for part in self.parts])

    def revise(self, box: Box) -> None:
        for part in self.parts:
            part.revise(box)


@record(frozen=True, eq=False)
class AnyOf(Constraint):
    parts: tuple[Constraint, ...]
    text: str

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(part.names for part in self.parts))

    def terms(self) -> tuple[Term, ...]:
        return tuple(term for part in self.parts for term in part.terms())

    def holds(self, env: Env) -> Any:
        return functools.reduce(lambda a, b: a | b, [part.holds(env) for part in self.parts])

    def revise(self, box: Box) -> None:
        """What some alternative leaves."""
        left: list[Box] = []
        for part in self.parts:
            alternative = box.copy()
            try:
                part.revise(alternative)
            except EmptyError:
                continue
            left.append(alternative)
        if not left:
            raise EmptyError
        for name in frozenset.intersection(*(frozenset(alternative.changed) for alternative in left)):
            joined = functools.reduce(lambda a, b: a.join(b), [alternative[name] for alternative in left])
            box.put(name, box[name].meet(joined))


@record(frozen=True, eq=False)
class Members(Constraint):
    """The term is among ``numbers``, or is not."""

    term: Term
    numbers: tuple[int, ...]
    negated: bool
    text: str

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return names_of(self.term)

    def terms(self) -> tuple[Term, ...]:
        return (self.term,)

    def holds(self, env: Env) -> Any:
        undefined: list[Any] = []
        value = self.term.value(env, undefined)
        if isinstance(value, int):
            found: Any = (value in self.numbers) is not self.negated
        else:
            import numpy as np

            found = np.isin(value, np.array(self.numbers, value.dtype), invert=self.negated)
        return _where_defined(found, undefined)

    def revise(self, box: Box) -> None:
        if self.negated:
            for number in self.numbers:
                _unequal(self.term, number, box)
        elif isinstance(self.term, Variable):
            box.put(self.term.name, box[self.term.name].within(values=self.numbers))
        else:
            found = self.term.bounds(box)
            inside = [n for n in self.numbers if found.low <= n <= found.high]
            if not inside:
                raise EmptyError
            self.term.narrow(box, inside[0], inside[-1])


class Predicate(Constraint):
    """A Python function of variables and given numbers, by the names of its parameters. ``decode`` has, for variables
    that count values, these values.

    Raises UserError (E1106) where the function raises.
    """

    def __init__(self, function: Callable[..., Any], parameters: tuple[str, ...], text: str,
                 decode: Mapping[str, Mapping[int, Any]] | None = None) -> None:
        self.function, self.parameters, self.text = function, parameters, text
        self.decode = dict(decode or {})
        self._of_row = _of_row(function, parameters)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.parameters)

    def holds(self, env: Env) -> Any:
        given = [env[name] for name in self.parameters]
        if not any(hasattr(value, "tolist") for value in given):
            return self._call(self._decoded(name, value) for name, value in zip(self.parameters, given, strict=True))
        import numpy as np

        columns = []
        for name, column in zip(self.parameters, np.broadcast_arrays(*given), strict=True):
            code = self.decode.get(name)
            columns.append(column.tolist() if code is None else [code[number] for number in column.tolist()])
        try:
            return np.fromiter(map(bool, map(self._of_row, *columns)), bool, len(columns[0]))
        except Exception:  # once more, row by row, to say which one it fails for
            return np.array([self._call(row) for row in zip(*columns, strict=True)], bool)

    def _decoded(self, name: str, value: Any) -> Any:
        return self.decode[name][value] if name in self.decode else value

    def _call(self, values: Iterable[Any]) -> bool:
        row = tuple(values)
        try:
            return bool(self._of_row(*row))
        except Exception as error:
            shown = ", ".join(f"{n}={v!r}" for n, v in zip(self.parameters, row, strict=True))
            raise UserError.at("E1106", f"{self.text} fails for {shown}: {type(error).__name__}: {error}",
                               raising_span(error)) from error

    def revise(self, box: Box) -> None:
        pass


def _of_row(function: Callable[..., Any], parameters: tuple[str, ...]) -> Callable[..., Any]:
    """The function of values in the order of ``parameters``: itself, where its parameters begin with these."""
    declared = list(inspect.signature(function).parameters.values())[:len(parameters)]
    if tuple(p.name for p in declared) == parameters and all(p.kind is not p.KEYWORD_ONLY for p in declared):
        return function
    return lambda *row: function(**dict(zip(parameters, row, strict=True)))
