"""Why a system has no solution: the smallest set of constraints that leaves none, and the values they see."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilus.diagnostics import UserError
from tilus.tuning.constraints import Comparison, Constraint
from tilus.tuning.enumerate import Budget, GaveUpError
from tilus.tuning.integers import INF, EmptyError
from tilus.tuning.terms import Number, Product, Term, names_of
from tilus.tuning.text import one_line

if TYPE_CHECKING:
    from tilus.tuning.system import System

MOST_WORK = 1000
"""As much is looked into each set of constraints."""
WORK_IN_ALL = 4000
"""As much is looked into single constraints and pairs, and as much into larger sets."""
MOST_SEEN = 3
"""Of so many constraints the values of their sides are told."""
MOST_POINTS = 1 << 22
"""Of larger sets of values bounds are told, not the least and the largest one."""


def emptiness(system: System, what: str) -> UserError:
    """The error (E1104) of a system that has no solution."""
    guilty = conflict(system)
    notes = []
    if len(guilty) == 1:
        notes.append(f"`{one_line(guilty[0].text)}` alone leaves nothing{_seen(system, guilty[0])}")
    else:
        *others, last = (f"`{one_line(c.text)}`" for c in guilty)
        notes.append(f"{', '.join(others)} and {last} together leave nothing, none of them alone")
        if len(guilty) <= MOST_SEEN:
            notes += [f"`{one_line(c.text)}`{seen}" for c in guilty if (seen := _seen(system, c))]
    about = frozenset().union(*(c.names for c in guilty))
    shown = [f"{name} in {domain}" for name, domain in system.domains.items() if name in about]
    shown += [f"{name} = {number}" for name, number in system.given.items() if name in about]
    if shown:
        notes.append(", ".join(shown))
    return UserError.at("E1104", what, system.span, notes=notes)


def conflict(system: System) -> tuple[Constraint, ...]:
    """Constraints that together have no solution, as few as possible: one, else two, else some of which each is needed.
    Where little work does not show that fewer have none, they may be more."""
    budget = Budget(WORK_IN_ALL)
    for size in (1, 2):
        for some in itertools.combinations(system.constraints, size):
            if not _has_solution(system, some, budget):
                return some
    budget, left = Budget(WORK_IN_ALL), list(system.constraints)
    for constraint in system.constraints:
        without = [c for c in left if c is not constraint]
        if not _has_solution(system, without, budget):
            left = without
    return tuple(left)


def _has_solution(system: System, constraints: Sequence[Constraint], budget: Budget) -> bool:
    """Whether some of the constraints have a solution; also where that takes too long to find out, or a variable has no
    bound under them."""
    some = _restricted(system, constraints, frozenset().union(*(c.names for c in constraints)))
    left = some.propagated()
    if left is None or any(domain.size >= INF for domain in left.values()):
        return left is not None
    own = Budget(min(MOST_WORK, budget.left))
    before = own.left
    try:
        return next(some.columns(budget=own), None) is not None
    except GaveUpError:
        return True
    finally:
        budget.left = max(0, budget.left - (before - own.left))


def _restricted(system: System, constraints: Sequence[Constraint], names: frozenset[str]) -> System:
    """The system of some of its variables under some of its constraints."""
    smaller = system.with_constraints(constraints)
    smaller.domains = {name: domain for name, domain in system.domains.items() if name in names}
    return smaller


def _seen(system: System, constraint: Constraint) -> str:
    """Which values the sides of a comparison have, with nothing else asked for."""
    if not isinstance(constraint, Comparison):
        return ""
    sides = []
    text = constraint.text
    for term, written in ((constraint.left, text[:constraint.left.end - constraint.left.begin]),
                          (constraint.right, text[len(text) - (constraint.right.end - constraint.right.begin):])):
        values = _values(system, term)
        if values and str(values) != written:
            sides.append(f"{one_line(written)} is {values}")
    return f": {', '.join(sides)}" if sides else ""


def _values(system: System, term: Term) -> str:
    """The least and the largest value of a term over the declared domains."""
    alone = _restricted(system, (), names_of(term))
    points = 1
    for domain in alone.domains.values():
        points *= domain.size
    try:
        bounds = term.bounds(system.box())
    except EmptyError:
        return ""
    if points > MOST_POINTS:
        return str(bounds)
    ends = [alone.best(term), alone.best(Product(Number(-1), term))]
    if ends[0] is None or ends[1] is None:
        return ""
    high, low = (term.value({**system.given, **end}, []) for end in ends if end is not None)
    return str(low) if low == high else f"{low} to {high}"

