"""Which tests of a long sweep run by default.

A test function marked ``sweep`` has many combinations of parameters. By default those run in which each value of each
parameter occurs once, in as few tests as that takes, or, by ``sweep(keep=n)``, n of them at equal distances; the others
are slow ones (``pytest -m "slow or not slow"``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence, Set

import pytest


def cover(waiting: Sequence[Set[Hashable]]) -> set[int]:
    """The places of combinations in which each choice that one of them makes occurs.

    The next one is that with the most new choices and, of several, that with the rarest ones: values of one parameter
    meet different ones of another."""
    missing = frozenset[Hashable]().union(*waiting)
    used: Counter[Hashable] = Counter()
    found: set[int] = set()
    while missing:
        best = max(range(len(waiting)),
                   key=lambda i: (len(waiting[i] & missing), -sum(used[choice] for choice in waiting[i])))
        found.add(best)
        used.update(waiting[best])
        missing = missing - waiting[best]
    return found


def choices(item: pytest.Function) -> frozenset[Hashable]:
    """The values of the parameters of a test, those that are given together as one."""
    params = item.callspec.params
    together = [names.replace(",", " ").split() if isinstance(names := mark.args[0], str) else list(names)
                for mark in item.iter_markers("parametrize")]
    alone = [[name] for name in params if not any(name in names for names in together)]
    return frozenset((*names, *(id(params[name]) for name in names)) for names in together + alone)


def kept_of(sweep: Sequence[pytest.Function]) -> set[int]:
    """The places of the tests of one function that run by default."""
    marker = sweep[0].get_closest_marker("sweep")
    assert marker is not None
    keep = marker.kwargs.get("keep")
    if keep is None:
        return cover([choices(item) for item in sweep])
    return {i * (len(sweep) - 1) // max(1, keep - 1) for i in range(min(keep, len(sweep)))}


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark what a sweep does not run by default as slow."""
    sweeps: dict[str, list[pytest.Function]] = {}
    for item in items:
        is_sweep = isinstance(item, pytest.Function) and item.get_closest_marker("sweep") and hasattr(item, "callspec")
        if is_sweep and not item.get_closest_marker("slow"):
            sweeps.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for sweep in sweeps.values():
        kept = kept_of(sweep)
        for place, item in enumerate(sweep):
            if place not in kept:
                item.add_marker(pytest.mark.slow)
