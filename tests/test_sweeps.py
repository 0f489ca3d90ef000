"""What of a sweep runs by default."""

from __future__ import annotations

import itertools

import pytest

from tests.sweeps import cover


@pytest.mark.parametrize("sizes", [(1,), (7,), (3, 5), (4, 4, 2), (1, 6, 3)], ids=str)
def test_each_value_occurs(sizes: tuple[int, ...]) -> None:
    """In as many combinations as the longest parameter has values."""
    combinations = [frozenset(enumerate(c)) for c in itertools.product(*map(range, sizes))]
    kept = cover(combinations)
    assert frozenset().union(*(combinations[i] for i in kept)) == frozenset().union(*combinations)
    assert len(kept) == max(sizes)


def test_values_meet_different_ones() -> None:
    """Where one parameter has more values than another, each value of the other is as frequent."""
    combinations = [frozenset({("engine", e), ("shape", s)}) for e in range(3) for s in range(9)]
    found = [dict(combinations[i])["engine"] for i in cover(combinations)]
    assert sorted(found) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_functions_begin_at_different_ones() -> None:
    engines = [frozenset({("engine", e)}) for e in range(4)]
    assert [cover(engines, first)[0] for first in range(4)] == [0, 1, 2, 3]
