"""Propagation: constraints take out of the domains what they exclude, until nothing changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tilus.tuning.constraints import Constraint, Predicate
from tilus.tuning.domain import MOST_VALUES, Box
from tilus.tuning.integers import EmptyError

MOST_ROUNDS = 64
"""Bounds of some systems (``x < y; y < x``) creep: what is left then is left to the enumeration."""
FEW_VALUES = 16
"""Trying so many values is quicker than reasoning about bounds."""
MOST_CALLS = 64
"""Domains of at most so many values are tried with a predicate."""


class Propagator:
    """Propagates a set of constraints. Constraints about few possible values come first. ``revisions`` counts how often
    one was looked at."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.constraints = tuple(constraints)
        self.revisions = 0
        self.about: dict[str, list[int]] = {}
        for index, constraint in enumerate(self.constraints):
            for name in constraint.names:
                self.about.setdefault(name, []).append(index)

    def run(self, box: Box, changed: Iterable[str] | None = None) -> None:
        """Narrow the domains of a box. ``changed``: only these have shrunk since it was last done.

        Raises:
            EmptyError: there is no solution.
        """
        pending = set(range(len(self.constraints))) if changed is None else self._about(changed)
        for _ in range(MOST_ROUNDS):
            if not pending:
                return
            order = sorted(pending, key=lambda i: (self._points(self.constraints[i], box), i))
            pending = set()
            for index in order:
                box.changed = set()
                self.revisions += 1
                revise(self.constraints[index], box)
                pending |= self._about(box.changed)

    def _about(self, names: Iterable[str]) -> set[int]:
        return {index for name in names for index in self.about.get(name, ())}

    def _points(self, constraint: Constraint, box: Box) -> int:
        points = 1
        for name in constraint.names:
            points *= box[name].size
        return points


def revise(constraint: Constraint, box: Box) -> None:
    """Take out what a constraint excludes; exactly where at most one of its variables is open. Raises EmptyError."""
    open_ = [name for name in constraint.names if not box[name].fixed]
    if len(open_) > 1 or (open_ and box[open_[0]].size > FEW_VALUES):
        constraint.revise(box)
        open_ = [name for name in constraint.names if not box[name].fixed]
        if len(open_) > 1:
            return
    env = {name: box[name].low for name in constraint.names}
    if not open_:
        if not constraint.holds(env):
            raise EmptyError
        return
    (name,) = open_
    domain = box[name]
    if domain.size <= (MOST_CALLS if isinstance(constraint, Predicate) else MOST_VALUES):
        kept = tuple(value for value in domain if constraint.holds({**env, name: value}))
        if len(kept) < domain.size:
            box.put(name, domain.within(values=kept))
