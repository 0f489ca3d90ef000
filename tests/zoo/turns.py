"""Combinations of parameters of which some run each time, and all with ``-m slow``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

ROUTES = ("simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_90a:ptx", "simulate:sm_90a:cuda")


def by_turns(first: Sequence[Any], second: Sequence[Any], one_in: int = 2) -> list[Any]:
    """Pairs of both, of which one in so many is quick; each value of either is in some that is."""
    return [pytest.param(a, b, marks=() if (i + j) % one_in == 0 else pytest.mark.slow)
            for i, a in enumerate(first) for j, b in enumerate(second)]
