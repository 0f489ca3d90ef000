"""Conversions in rounds: parts that together move every element, in a bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from tilus.layouts import RegisterLayout, blocked, column_local, local, spatial
from tilus.layouts.convert import SharedPlan, conversion_rounds, plan_conversion

FRAGMENTS = column_local(2, 2).spatial(8, 4).local(1, 2)
CASES = [  # a layout, the order of what it is converted to, and the most rounds that there are
    (spatial(4, 2) * local(4, 8) * FRAGMENTS, (1, 0), 4),
    (local(4, 4) * spatial(2, 2) * FRAGMENTS, (1, 0), 4),
    (local(8, 1) * spatial(2, 4) * FRAGMENTS, (1, 0), 8),
    (blocked((128, 128), 128, 4, (0, 1)), (1, 0), 1),
]


@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
@pytest.mark.parametrize(("source", "order", "most"), CASES)
def test_rounds_move_everything(source: RegisterLayout, order: tuple[int, ...], most: int, divisor: int) -> None:
    target = blocked(source.shape, source.num_threads, 4, order)
    plan = plan_conversion(source, target, 32, allow="shared")
    assert isinstance(plan, SharedPlan)
    rounds = conversion_rounds(plan, plan.bytes // divisor)
    if divisor <= most:
        assert len(rounds) >= divisor
        assert max(part.plan.bytes for part in rounds) <= plan.bytes // divisor
    assert sorted(n for part in rounds for n in part.taken) == list(range(source.num_locals))
    assert sorted(n for part in rounds for n in part.given) == list(range(target.num_locals))
    numbers = np.arange(np.prod(source.shape)).reshape(source.shape)
    values, result = (numbers[tuple(np.moveaxis(m.table(), -1, 0))] for m in (source, target))
    found = np.full_like(result, -1)
    for part in rounds:
        found[:, list(part.given)] = part.plan.apply(values[:, list(part.taken)])
    np.testing.assert_array_equal(found, result)


def test_what_cannot_be_divided_goes_at_once() -> None:
    source, target = spatial(32, 4).local(1, 8), spatial(4, 32).local(8, 1)
    plan = plan_conversion(source, target, 32, allow="shared")
    assert isinstance(plan, SharedPlan)
    assert len(conversion_rounds(plan, 64)) == 1
