"""Measuring variants against each other, on arrays that are afterwards as they were."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tilus.runtime.arrays import ArrayArgument

SHORTEST_SAMPLE = 1e-3
"""Seconds that a sample takes at least: shorter calls are repeated within it."""
MOST_REPEATS, FIRST_RUNS = 10_000, 4


class OutOfTime(Exception):
    """The budget is used up."""


class Written:
    """The memory of arrays that variants write: what it held before the search, and what the untuned kernel makes of
    it.

    Args:
        arrays: those arrays, in host memory.
        reset: the names of those that are set to zero before each run.
    """

    def __init__(self, arrays: Mapping[str, ArrayArgument], reset: Iterable[str]) -> None:
        self._memory = {name: _memory(array) for name, array in arrays.items()}
        self._types = {name: array.dtype for name, array in arrays.items()}
        self._before = {name: memory.copy() for name, memory in self._memory.items()}
        self.reset = [self._memory[name] for name in reset if name in self._memory]
        self.expected: dict[str, np.ndarray[Any, Any]] | None = None

    def restore(self) -> None:
        """Give all arrays what they held before the search."""
        for name, memory in self._memory.items():
            memory[...] = self._before[name]

    def prepare(self) -> None:
        """For a run whose results are looked at."""
        self.restore()
        self.clear()

    def clear(self) -> None:
        """Set to zero what is to be zero before each run."""
        for memory in self.reset:
            memory[...] = 0

    def expect(self) -> None:
        """What the arrays hold now is right."""
        self.expected = {name: memory.copy() for name, memory in self._memory.items()}

    def difference(self, tolerance: float) -> str:
        """In which way the arrays are not as expected; "" where they are. Floats may differ by ``tolerance``, relative
        to the largest finite one of their array."""
        assert self.expected is not None
        for name, memory in self._memory.items():
            found = _differing(memory, self.expected[name], tolerance if self._types[name].is_float else 0.0)
            if found:
                return f"{name} differs from what the untuned kernel gives, {found}"
        return ""


def _memory(array: ArrayArgument) -> np.ndarray[Any, Any]:
    """The elements of an array; the bytes that hold packed ones."""
    held = array.array
    assert held is not None
    memory: np.ndarray[Any, Any] = held.bytes if not isinstance(held, np.ndarray) else held
    return memory


def _differing(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], tolerance: float) -> str:
    if found.size == 0:
        return ""
    if tolerance == 0.0 or found.dtype == np.uint8:
        wrong = found != expected
        return f"at {int(wrong.sum())} of {wrong.size} elements" if wrong.any() else ""
    x, y = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(y)
    scale = float(np.abs(y[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        error = np.abs(x - y)
        close = np.where(finite, error <= tolerance * scale, (x == y) | (np.isnan(x) & np.isnan(y)))
    if close.all():
        return ""
    worst = float(np.nanmax(np.where(finite & np.isfinite(x), error, 0.0)))
    return (f"at {int((~close).sum())} of {close.size} elements, by up to {worst:.3g} where the largest is {scale:.3g}"
            f" (tolerance {tolerance:.1g} of that)")


def default_tolerance(arrays: Iterable[ArrayArgument]) -> float:
    """How far floats may differ: machine epsilon to the power 2/3, of the coarsest of the types of 16 bits and more
    among the arrays, since kernels may round to those on the way. That is 10⁻² for f16, 2·10⁻⁵ for f32."""
    digits = [a.dtype.mantissa for a in arrays if a.dtype.is_float and a.dtype.bits >= 16]
    return float(2.0 ** (-min(digits, default=7) * 2 / 3))


class Race:
    """Samples of variants that are taken in turns, so that whatever slows the machine for a while slows all of them.

    Args:
        before: is called before each run, where something has to be.
        deadline: when to stop, by ``time.perf_counter``.
        measuring: what calls are timed in, such as an engine's ``measuring``.
    """

    def __init__(self, before: Callable[[], None] | None, deadline: float,
                 measuring: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.before, self.deadline, self.measuring = before, deadline, measuring
        self.samples: dict[int, dict[int, float]] = {}
        """By variant and by turn, seconds of a call."""
        self._runs: dict[int, tuple[Callable[[], Any], int]] = {}
        self._turn = 0
        self._order = random.Random(0)

    def enter(self, number: int, run: Callable[[], Any], first: float | None) -> None:
        """Add a variant that has run before, in ``first`` seconds; None: in too few, measure again."""
        # The least of some, since one that was disturbed would leave the variant with few runs in each sample, of which
        # the first ones also wake other threads.
        once = min(self._timed(run, 1) for _ in range(FIRST_RUNS)) if first is None else first
        repeats = min(MOST_REPEATS, max(1, round(SHORTEST_SAMPLE / max(once, 1e-9))))
        self._runs[number] = run, repeats
        self.samples[number] = {0: once if repeats == 1 else self._timed(run, repeats)}

    def turns(self, numbers: Sequence[int], count: int) -> None:
        """Take so many samples of each. Raises OutOfTime."""
        for _ in range(count):
            self._turn += 1
            for number in self._order.sample(list(numbers), len(numbers)):
                if time.perf_counter() > self.deadline:
                    raise OutOfTime
                run, repeats = self._runs[number]
                self.samples[number][self._turn] = self._timed(run, repeats)

    def _timed(self, run: Callable[[], Any], repeats: int) -> float:
        """The median of some calls that follow each other, in seconds."""
        clock, found = time.perf_counter, []
        with self.measuring():
            for _ in range(repeats):
                if self.before is not None:
                    self.before()
                start = clock()
                run()
                found.append(clock() - start)
        return statistics.median(found)

    def scores(self, numbers: Sequence[int]) -> dict[int, float]:
        """How long variants take relative to each other: of each the median, over the turns in which all of them were
        sampled (the first run counts as one), of its share of the turn's median."""
        shared = sorted(set.intersection(*(set(self.samples[n]) for n in numbers)))
        middles = {turn: statistics.median(self.samples[n][turn] for n in numbers) for turn in shared}
        return {n: statistics.median(self.samples[n][turn] / middles[turn] for turn in shared) for n in numbers}

    def median(self, number: int) -> float:
        """Seconds of a call."""
        return statistics.median(self.samples[number].values())

    def spread(self, number: int) -> float:
        """Half of the distance between the quartiles, in seconds."""
        found = list(self.samples[number].values())
        if len(found) < 2:
            return 0.0
        first, _, third = statistics.quantiles(found, n=4, method="inclusive")
        return (third - first) / 2


__all__ = ["OutOfTime", "Race", "Written", "default_tolerance"]
