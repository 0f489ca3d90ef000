"""A few random kernels of Python at every run, thousands where slow tests are wanted."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import pytest

from tests.fuzz_python.harness import check

ROUTES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")


def sweep(seeds: range, engines: Sequence[str]) -> None:
    verdicts = [check(seed, engines) for seed in seeds]
    assert [v for v in verdicts if v.kind == "wrong"] == []
    kinds = collections.Counter(v.kind for v in verdicts)
    assert kinds["same"] >= 0.6 * len(verdicts)  # refusing everything would agree too
    assert kinds["skipped"] <= 0.02 * len(verdicts)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("first", range(0, 320, 40))
def test_traced_as_untraced(first: int) -> None:
    sweep(range(first, first + 40), ("interpret",))


@pytest.mark.parametrize("first", [1000, 1004])
def test_every_route(first: int) -> None:
    sweep(range(first, first + 4), ROUTES)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(2000, 5000, 250))
def test_many(first: int) -> None:
    sweep(range(first, first + 250), ("interpret",))
    sweep(range(first, first + 20), ROUTES)
