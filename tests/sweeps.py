"""Which tests of a long sweep run by default.

A test function marked ``sweep`` has many combinations of parameters. By default those run in which each value of each
parameter occurs once, in as few tests as that takes, or, by ``sweep(keep=n)``, the n that show most of the values; the
others are slow ones (``pytest -m "slow or not slow"``). Where the choice is free it differs from function to function,
so that of engines and types that all have in common each is met somewhere.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Hashable, Sequence, Set

import pytest


def cover(waiting: Sequence[Set[Hashable]], first: int = 0) -> list[int]:
    """The places of combinations in which each choice that one of them makes occurs.

    The next one is that with the most new choices and, of several, that with the rarest ones: values of one parameter
    meet different ones of another. Of equal ones it is the next at or after ``first``."""
    missing = frozenset[Hashable]().union(*waiting)
    used: Counter[Hashable] = Counter()
    found: list[int] = []
    places = [(first + i) % len(waiting) for i in range(len(waiting))]
    while missing:
        best = max(places, key=lambda i: (len(waiting[i] & missing), -sum(used[choice] for choice in waiting[i])))
        found.append(best)
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


def kept_of(name: str, sweep: Sequence[pytest.Function]) -> set[int]:
    """The places of the tests of one function that run by default."""
    marker = sweep[0].get_closest_marker("sweep")
    assert marker is not None
    covering = cover([choices(item) for item in sweep], zlib.crc32(name.encode()) % len(sweep))
    keep = marker.kwargs.get("keep", len(covering))
    others = (i for i in range(len(sweep)) if i not in covering)
    return set(itertools.islice(itertools.chain(covering, others), keep))


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark what a sweep does not run by default as slow."""
    sweeps: dict[str, list[pytest.Function]] = {}
    for item in items:
        is_sweep = isinstance(item, pytest.Function) and item.get_closest_marker("sweep") and hasattr(item, "callspec")
        if is_sweep and not item.get_closest_marker("slow"):
            sweeps.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, sweep in sweeps.items():
        kept = kept_of(name, sweep)
        for place, item in enumerate(sweep):
            if place not in kept:
                item.add_marker(pytest.mark.slow)
