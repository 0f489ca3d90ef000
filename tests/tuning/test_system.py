"""Systems of constraints have the solutions that trial finds, in the order that was asked for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

import tilus as tl
from tests.tuning.strategies import Example, examples
from tilus.tuning import enumerate as enumeration
from tilus.tuning import explain
from tilus.tuning.explain import conflict
from tilus.tuning.system import System

WAYS = {"one by one": (10**9, 1), "in blocks": (0, 1 << 21), "mixed": (3, 64)}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    first, points = WAYS[request.param]
    monkeypatch.setattr(enumeration, "FIRST_CHOICES", first)
    monkeypatch.setattr(enumeration, "MOST_POINTS", points)
    monkeypatch.setattr(enumeration, "BLOCK", 50)
    monkeypatch.setattr(explain, "MOST_WORK", 1 << 30)
    monkeypatch.setattr(explain, "WORK_IN_ALL", 1 << 30)


@pytest.mark.usefixtures("way")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(example=examples())
def test_it_agrees_with_trial(example: Example) -> None:
    expected = list(example.brute_force())
    system = System(example.variables, example.text)
    assert list(system.solutions("smallest")) == expected
    assert system.count() == len(expected)
    assert list(system.solutions("largest")) == expected[::-1]
    left = system.propagated()
    for row in expected:
        assert row in system
        assert left is not None
        assert all(row[name] in domain for name, domain in left.items())
    objective = " + ".join(f"({name} - 3)**2" for name in example.values)
    values = [sum((n - 3)**2 for n in row.values()) for row in expected]
    if expected:
        assert system.largest(objective) == [r for r, v in zip(expected, values, strict=True) if v == max(values)][-1]
        assert system.smallest(objective) == expected[values.index(min(values))]
    else:
        check_conflict(system, example)


def check_conflict(system: System, example: Example) -> None:
    """Of the constraints that are blamed none is superfluous, and no fewer would do."""
    guilty = conflict(system)
    assert not system.with_constraints(guilty).count()
    for constraint in guilty:
        assert system.with_constraints([c for c in guilty if c is not constraint]).count()
    with pytest.raises(tl.UserError, match="E1104") as caught:
        system.first()
    assert all(f"`{constraint.text}`" in str(caught.value) for constraint in guilty)
