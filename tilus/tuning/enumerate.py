"""Enumeration of solutions: depth first in the order of the variables, with propagation at each choice, and of the last
variables by NumPy: their combinations in blocks, out of which each constraint takes what it excludes as soon as all of
its variables are in.

Choices one by one find the first solutions at once and cope with domains of any size; blocks take 10 to 100 ns a point,
a choice some 100 µs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilus.tuning.constraints import Constraint, Members, Predicate
from tilus.tuning.domain import Box, Domain
from tilus.tuning.integers import INF, EmptyError
from tilus.tuning.propagate import Propagator
from tilus.tuning.terms import Term

if TYPE_CHECKING:
    import numpy as np

MOST_POINTS = 1 << 21
"""Combinations of variables that are taken in blocks."""
FIRST_CHOICES = 64
"""So many choices are made one by one before that."""
POINTS_OF_WORK = 1 << 12
BLOCK = 1 << 17
"""Rows that are looked at together."""
WIDE = 1 << 62
"""Numbers that may be as large are Python's."""

Columns = Mapping[str, Any]
"""Solutions: for each variable its values, lists or arrays."""


class Goal:
    """Only solutions with a larger value of a term than the best one so far."""

    def __init__(self, term: Term) -> None:
        self.term = term
        self.best = -INF

    def narrow(self, box: Box) -> None:
        """Raises EmptyError where no better one is left."""
        self.term.narrow(box, -INF if self.best <= -INF else self.best + 1, INF)
        if self.term.bounds(box).high <= self.best:
            raise EmptyError

    def better(self, env: Mapping[str, Any]) -> Any:
        """Where it is better."""
        undefined: list[Any] = []
        found = self.term.value(env, undefined) > self.best
        for mask in undefined:
            found = found & ~mask if mask is not True else found & False
        return found


class GaveUpError(Exception):
    """More work than was allowed."""


class Budget:
    """How much work is allowed: times that a constraint is looked at in propagation, or ``POINTS_OF_WORK``
    combinations. Raises GaveUpError beyond."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise GaveUpError


class Enumeration:
    """The solutions of a system whose domains are in a box.

    ``orders`` has for each variable the order of its values: ``"smallest"`` or ``"largest"`` first, or the values.
    """

    def __init__(self, variables: Sequence[str], constraints: Sequence[Constraint],
                 orders: Mapping[str, str | tuple[int, ...]], goal: Goal | None = None,
                 budget: Budget | None = None) -> None:
        self.variables = tuple(variables)
        self.constraints = tuple(constraints)
        self.propagator = Propagator(constraints)
        self.orders = orders
        self.goal = goal
        self.choices = self.spent = 0
        self.budget = budget

    def run(self, box: Box) -> Iterator[Columns]:
        """Some solutions at a time, in order. The box is one on which nothing has been propagated."""
        try:
            self.propagator.run(box)
        except EmptyError:
            return
        yield from self._search(box)

    def _search(self, box: Box) -> Iterator[Columns]:
        if self.goal is not None:
            try:
                box.changed = set()
                self.goal.narrow(box)
                self.propagator.run(box, box.changed)
            except EmptyError:
                return
        open_ = [name for name in self.variables if not box[name].fixed]
        if not open_:
            yield from self._leaf(box)
            return
        points = math.prod(box[name].size for name in open_)
        if self.choices >= FIRST_CHOICES and points <= MOST_POINTS:
            self._spend(points // POINTS_OF_WORK + 1)
            yield from _Blocks(self, box, open_).run()
            return
        name = open_[0]
        for value in ordered(box[name], self.orders[name]):
            if self.goal is not None and self.goal.term.bounds(box).high <= self.goal.best:
                return
            self.choices += 1
            self._spend(self.propagator.revisions - self.spent)
            self.spent = self.propagator.revisions
            child = box.copy()
            try:
                child.put(name, child[name].within(value, value))
                self.propagator.run(child, (name,))
            except EmptyError:
                continue
            yield from self._search(child)

    def _spend(self, work: int) -> None:
        if self.budget is not None:
            self.budget.spend(work)

    def _leaf(self, box: Box) -> Iterator[Columns]:
        env = {name: domain.low for name, domain in box.domains.items()}
        # Propagation may have stopped before it was done.
        if all(c.holds(env) for c in self.constraints) and (self.goal is None or self.goal.better(env)):
            yield {name: (env[name],) for name in self.variables}


def ordered(domain: Domain, order: str | tuple[int, ...]) -> Iterator[int]:
    """The values of a domain in an order."""
    if isinstance(order, tuple):
        return (value for value in order if value in domain)
    return reversed(domain) if order == "largest" else iter(domain)


class _Blocks:
    """All combinations of the open variables of a box, as columns of arrays."""

    def __init__(self, enumeration: Enumeration, box: Box, open_: Sequence[str]) -> None:
        import numpy as np

        self.enumeration, self.open = enumeration, tuple(open_)
        self.fixed = {name: domain.low for name, domain in box.domains.items() if domain.fixed}
        kind: Any = object if _is_wide(enumeration, box) else np.int64
        self.values = [np.array(list(ordered(box[name], enumeration.orders[name])), kind) for name in open_]
        place = {name: level for level, name in enumerate(open_)}
        self.checks: list[list[Constraint]] = [[] for _ in open_]
        for constraint in sorted(enumeration.constraints, key=lambda c: isinstance(c, Predicate)):
            levels = [place[name] for name in constraint.names if name in place]
            # Without open variables it holds already, unless propagation has stopped before it was done.
            self.checks[max(levels, default=0)].append(constraint)

    def run(self) -> Iterator[Columns]:
        import numpy as np

        for columns, rows in self._extend({}, 1, 0):
            fixed = {name: np.full(rows, number) for name, number in self.fixed.items()}
            yield {name: columns.get(name, fixed.get(name)) for name in self.enumeration.variables}

    def _extend(self, columns: dict[str, np.ndarray[Any, Any]], rows: int,
                level: int) -> Iterator[tuple[dict[str, np.ndarray[Any, Any]], int]]:
        import numpy as np

        if level == len(self.open):
            goal = self.enumeration.goal
            columns, rows = self._keep(columns, rows, [goal.better] if goal else [])
            if rows:
                yield columns, rows
            return
        values = self.values[level]
        step = max(1, BLOCK // len(values))
        for start in range(0, rows, step):
            part = {name: np.repeat(column[start:start + step], len(values)) for name, column in columns.items()}
            some = min(step, rows - start)
            part[self.open[level]] = np.tile(values, some)
            kept, left = part, some * len(values)
            for predicates in (False, True):
                tests = [c.holds for c in self.checks[level] if isinstance(c, Predicate) is predicates]
                kept, left = self._keep(kept, left, tests)
            if left:
                yield from self._extend(kept, left, level + 1)

    def _keep(self, columns: dict[str, np.ndarray[Any, Any]], rows: int,
              tests: Sequence[Any]) -> tuple[dict[str, np.ndarray[Any, Any]], int]:
        """The rows that pass all tests."""
        import numpy as np

        if not tests or not rows:
            return columns, rows
        env = {**self.fixed, **columns}
        mask = np.ones(rows, bool)
        for test in tests:
            mask &= test(env)
        if mask.all():
            return columns, rows
        return {name: column[mask] for name, column in columns.items()}, int(mask.sum())


def _is_wide(enumeration: Enumeration, box: Box) -> bool:
    """Whether numbers may not fit 64 bits."""
    terms = [term for constraint in enumeration.constraints for term in constraint.terms()]
    terms += [enumeration.goal.term] if enumeration.goal else []
    for term in terms:
        for part in term.walk():
            try:
                found = part.bounds(box)
            except EmptyError:
                return True
            if found.low <= -WIDE or found.high >= WIDE:
                return True
    return any(abs(number) >= WIDE for constraint in enumeration.constraints if isinstance(constraint, Members)
               for number in constraint.numbers) or any(
        max(abs(box[name].low), abs(box[name].high)) >= WIDE for name in box.domains)


__all__ = ["Columns", "Enumeration", "Goal", "ordered"]
