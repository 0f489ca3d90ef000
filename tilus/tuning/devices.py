"""What variants are timed on, and the memory that they write there: the host's processor here, GPUs in ``gpu.py``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tilus.runtime.arrays import ArrayArgument

Call = Callable[[], Any]


class DeviceLost(Exception):
    """The device does not work any more, whatever is run on it; the message says what happened."""


class Memory(Protocol):
    """The memory of an array that variants write."""

    def numbers(self) -> np.ndarray[Any, Any]:
        """The elements as they are now, in host memory; the bytes that hold packed ones. It may be the memory."""

    def saved(self) -> Any:
        """A copy of what it holds, for :meth:`put`."""

    def put(self, saved: Any) -> None:
        """Give it what it held."""

    def clear(self) -> None:
        """Set all elements to zero."""


class Device(Protocol):
    """Something that variants are timed on.

    Attributes:
        name: what searches that measure on it wait for each other by.
        children: whether a variant's first run may be in a child of the process.
        most_repeats: how many calls a sample has at most.
    """

    name: str
    children: bool
    most_repeats: int

    def first(self, run: Call) -> float:
        """Run something to its end; seconds, in which it may have been loaded. Raises DeviceLost."""

    def sample(self, run: Call, repeats: int, before: Call | None) -> float:
        """The median of some calls that follow each other, in seconds; ``before`` is called before each, and is not
        timed. Raises DeviceLost."""

    def memory(self, array: ArrayArgument) -> Memory:
        """The memory of an array that is on it."""


class Host:
    """This machine's processor, by the wall clock."""

    children = True
    most_repeats = 10_000

    def __init__(self, name: str = "cpu") -> None:
        self.name = name

    def first(self, run: Call) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def sample(self, run: Call, repeats: int, before: Call | None) -> float:
        clock, found = time.perf_counter, []
        for _ in range(repeats):
            if before is not None:
                before()
            start = clock()
            run()
            found.append(clock() - start)
        return statistics.median(found)

    def memory(self, array: ArrayArgument) -> Memory:
        return HostMemory(array)


class HostMemory:
    """Host memory of an array."""

    def __init__(self, array: ArrayArgument) -> None:
        held = array.array
        assert held is not None
        memory: Any = held if isinstance(held, np.ndarray) else held.bytes
        self.array: np.ndarray[Any, Any] = memory

    def numbers(self) -> np.ndarray[Any, Any]:
        return self.array

    def saved(self) -> Any:
        return self.array.copy()

    def put(self, saved: np.ndarray[Any, Any]) -> None:
        self.array[...] = saved

    def clear(self) -> None:
        self.array[...] = 0


__all__ = ["Call", "Device", "DeviceLost", "Host", "HostMemory", "Memory"]
