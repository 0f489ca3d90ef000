"""How long an iteration of a loop takes, from some iterations of all warps, and what loops in full add."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tilus.model.traces import ENDS, ENTERS, STARTS

Marks = Sequence[tuple[int, float]]
"""Marks of a trace with the cycles at which a warp came to them."""
Loops = Sequence[tuple[int, int]]
"""First instruction and iterations of the loops that a warp leaves, in order."""


def periods_of(warps: Sequence[tuple[Marks, Loops]]) -> dict[int, float]:
    """Cycles of an iteration of each loop, by its first instruction.

    Where all warps are in a loop at once, it is how many iterations they do together from the time when each has begun
    its second one to the time when the first of them leaves: schedulers prefer some warps, whose own iterations say
    little. Else it is the mean of the later halves of the iterations.
    """
    entries: dict[int, list[list[list[float]]]] = {}
    for marks, loops in warps:
        own: dict[int, list[list[float]]] = {}
        _entries(marks, loops, own)
        for first, found in own.items():
            entries.setdefault(first, []).append(found)
    return {first: _period(found) for first, found in entries.items()}


def _entries(marks: Marks, loops: Loops, into: dict[int, list[list[float]]]) -> None:
    """The times of each entry into each loop, with inner loops in full: where iterations begin, and the end."""
    extra = 0.0
    stack: list[list[float]] = []
    left = iter(loops)
    for kind, time in marks:
        if kind == ENTERS:
            stack.append([])
            continue
        stack[-1].append(time + extra)
        if kind == ENDS:
            times = stack.pop()
            first, count = next(left)
            into.setdefault(first, []).append(times)
            extra += max(0, count - len(times) + 1) * _later(times)


def _later(times: Sequence[float]) -> float:
    """The mean of the later half of an entry's iterations."""
    half = (len(times) - 1) // 2
    return (times[-1] - times[half]) / (len(times) - 1 - half)


def _period(warps: Sequence[Sequence[Sequence[float]]]) -> float:
    if all(len(entries) == 1 and len(entries[0]) > 3 for entries in warps):
        begins, ends = max(entries[0][1] for entries in warps), min(entries[0][-1] for entries in warps)
        done = sum(_iterations(entries[0], begins, ends) for entries in warps)
        if ends > begins and done >= len(warps):
            return (ends - begins) * len(warps) / done
        # One after the other: all of them together.
        first, last = min(entries[0][0] for entries in warps), max(entries[0][-1] for entries in warps)
        return (last - first) / max(len(entries[0]) - 1 for entries in warps)
    later = [_later(times) for entries in warps for times in entries]
    return sum(later) / len(later)


def _iterations(times: Sequence[float], begins: float, ends: float) -> float:
    """How many iterations of an entry lie between two times."""
    done = 0.0
    for start, stop in itertools.pairwise(times):
        if stop > start:
            done += max(0.0, min(stop, ends) - max(start, begins)) / (stop - start)
    return done


def in_full(marks: Marks, loops: Loops, periods: dict[int, float]) -> tuple[float, float]:
    """How many cycles a warp takes beyond the simulated ones with its loops in full, and how many it is in loops."""
    extra = inside = 0.0
    stack: list[tuple[float, int]] = []
    left = iter(loops)
    for kind, time in marks:
        if kind == ENTERS:
            stack.append((time + extra, 0))
        elif kind == STARTS:
            stack[-1] = stack[-1][0], stack[-1][1] + 1
        elif kind == ENDS:
            began, done = stack.pop()
            first, count = next(left)
            extra += max(0, count - done) * periods[first]
            if not stack:
                inside += time + extra - began
    return extra, inside


__all__ = ["in_full", "periods_of"]
