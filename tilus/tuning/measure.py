"""Measuring variants against each other, on arrays that are afterwards as they were."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tilus.runtime.arrays import ArrayArgument
from tilus.tuning.devices import Device, Host

SHORTEST_SAMPLE = 1e-3
"""Seconds that a sample takes at least: shorter calls are repeated within it."""
FIRST_RUNS = 4
COMPARED = 1 << 20
"""Elements that are compared at once."""


class OutOfTime(Exception):
    """The budget is used up."""


class Written:
    """The memory of arrays that variants write: what it held before the search, and what the untuned kernel makes of
    it.

    Args:
        arrays: those arrays.
        reset: the names of those that are set to zero before each run.
        device: where they are.
    """

    def __init__(self, arrays: Mapping[str, ArrayArgument], reset: Iterable[str],
                 device: Device = Host()) -> None:  # noqa: B008  (it has no state)
        self._memory = {name: device.memory(array) for name, array in arrays.items()}
        self._types = {name: array.dtype for name, array in arrays.items()}
        self._before = {name: memory.saved() for name, memory in self._memory.items()}
        self.reset = [self._memory[name] for name in reset if name in self._memory]
        self.expected: dict[str, np.ndarray[Any, Any]] | None = None

    def restore(self) -> None:
        """Give all arrays what they held before the search."""
        for name, memory in self._memory.items():
            memory.put(self._before[name])

    def prepare(self) -> None:
        """For a run whose results are looked at."""
        self.restore()
        self.clear()

    def clear(self) -> None:
        """Set to zero what is to be zero before each run."""
        for memory in self.reset:
            memory.clear()

    def expect(self) -> None:
        """What the arrays hold now is right."""
        self.expected = {name: memory.numbers().copy() for name, memory in self._memory.items()}

    def difference(self, tolerance: float) -> str:
        """In which way the arrays are not as expected; "" where they are. Floats may differ by ``tolerance``, relative
        to the largest finite one of their array."""
        assert self.expected is not None
        for name, memory in self._memory.items():
            floats = self._types[name].is_float
            found = _differing(memory.numbers(), self.expected[name], tolerance if floats else 0.0)
            if found:
                return f"{name} differs from what the untuned kernel gives, {found}"
        return ""


def _differing(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], tolerance: float) -> str:
    if tolerance == 0.0 or found.dtype == np.uint8:
        wrong = int((found != expected).sum())
        return f"at {wrong} of {found.size} elements" if wrong else ""
    if _same_bits(found, expected):
        return ""
    found, expected = found.reshape(-1), expected.reshape(-1)
    parts = [slice(start, start + COMPARED) for start in range(0, found.size, COMPARED)]
    scale = max(float(np.abs(y[np.isfinite(y)]).max(initial=0.0)) for part in parts if len(y := _wide(expected[part])))
    wrong, worst = 0, 0.0
    for part in parts:
        count, error = _far(_wide(found[part]), _wide(expected[part]), tolerance * scale)
        wrong, worst = wrong + count, max(worst, error)
    if not wrong:
        return ""
    return (f"at {wrong} of {found.size} elements, by up to {worst:.3g} where the largest is {scale:.3g}"
            f" (tolerance {tolerance:.1g} of that)")


def _same_bits(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    bits = np.dtype(f"u{found.dtype.itemsize}")
    return bool(np.array_equal(found.view(bits), expected.view(bits)))


def _wide(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return numbers.astype(np.float64)


def _far(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], limit: float) -> tuple[int, float]:
    """How many numbers are not what is expected, and the largest error of finite ones."""
    finite = np.isfinite(y)
    with np.errstate(invalid="ignore"):
        error = np.abs(x - y)
        close = np.where(finite, error <= limit, (x == y) | (np.isnan(x) & np.isnan(y)))
    return int((~close).sum()), float(np.where(finite & np.isfinite(x), error, 0.0).max(initial=0.0))


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
        device: what variants are timed on.
    """

    def __init__(self, before: Callable[[], None] | None, deadline: float,
                 device: Device = Host()) -> None:  # noqa: B008  (it has no state)
        self.before, self.deadline, self.device = before, deadline, device
        self.samples: dict[int, dict[int, float]] = {}
        """By variant and by turn, seconds of a call."""
        self.running: int | None = None
        """The variant of which a sample was taken last."""
        self._runs: dict[int, tuple[Callable[[], Any], int]] = {}
        self._turn = 0
        self._order = random.Random(0)

    def enter(self, number: int, run: Callable[[], Any], first: float | None) -> None:
        """Add a variant that has run before, in ``first`` seconds; None: in too few, measure again."""
        # The least of some, since one that was disturbed would leave the variant with few runs in each sample, of which
        # the first ones also wake other threads.
        self.running = number
        once = min(self._timed(run, 1) for _ in range(FIRST_RUNS)) if first is None else first
        repeats = min(self.device.most_repeats, max(1, round(SHORTEST_SAMPLE / max(once, 1e-9))))
        self._runs[number] = run, repeats
        self.samples[number] = {0: once if repeats == 1 else self._timed(run, repeats)}

    def turns(self, numbers: Sequence[int], count: int) -> None:
        """Take so many samples of each. Raises OutOfTime."""
        for _ in range(count):
            self._turn += 1
            for number in self._order.sample(list(numbers), len(numbers)):
                if time.perf_counter() > self.deadline:
                    raise OutOfTime
                self.running = number
                run, repeats = self._runs[number]
                self.samples[number][self._turn] = self._timed(run, repeats)

    def _timed(self, run: Callable[[], Any], repeats: int) -> float:
        return self.device.sample(run, repeats, self.before)

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
