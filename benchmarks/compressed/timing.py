"""How the lines of this benchmark are measured and printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """One figure: ours against something, with what the paper says of its own system.

    Attributes:
        name: what is computed.
        figure: of ours, with its unit.
        ratio: how many times faster (smaller, more precise) than ``of`` ours is.
        of: what it is compared with.
        bar: the least ratio asked of it; None where nothing is.
        paper: the paper's headline, which is of GPUs and of its own baseline.
        measured: what the figure and the ratio are of.
    """

    name: str
    figure: str
    ratio: float
    of: str
    bar: float | None
    paper: str
    measured: str = "CPU time"


Lines = Iterator[Line]


def seconds(*calls: Callable[[], Any], most: float = 2.0, rounds: int = 25, times: int = 3) -> list[float]:
    """The least times of functions that run by turns, so that what else the machine does meets all of them; so many
    times each, so that what fits the caches is in them, unless that is 1."""
    for call in calls:
        call()
    best = [float("inf")] * len(calls)
    began = time.perf_counter()
    for n in range(rounds):
        for place, call in enumerate(calls):
            for _ in range(times):
                start = time.perf_counter()
                call()
                best[place] = min(best[place], time.perf_counter() - start)
        if n >= 2 and time.perf_counter() - began > most:
            break
    return best


def milliseconds(t: float) -> str:
    return f"{1e3 * t:.3g} ms"
