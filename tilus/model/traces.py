"""Paths of warps as lists, with loops cut to a few iterations, and what they come to with loops in full."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.model.paths import Path
from tilus.records import record

ENTERS, STARTS, ENDS = -1, -2, -3
"""Marks in a trace: a loop is entered, an iteration begins, the loop is left."""


@record
class Trace:
    """Numbers of instructions and marks; ``loops`` has the first instruction and the iterations of each loop that is
    left, in order."""

    items: list[int]
    loops: list[tuple[int, int]]


def trace_of(path: Path, keep: int) -> Trace:
    """A path with its loops cut to ``keep`` iterations each."""
    trace = Trace([], [])
    _extend(trace, path, keep)
    return trace


def _extend(trace: Trace, path: Path, keep: int) -> None:
    for item in path:
        if isinstance(item, int):
            trace.items.append(item)
            continue
        if not item.iterations or not item.count:
            continue
        known = len(item.iterations)
        trace.items.append(ENTERS)
        for turn in range(min(keep, item.count)):
            trace.items.append(STARTS)
            # Beyond those that are known, the ones after the first again in turn: the first one may be special.
            place = turn if turn < known else (1 + (turn - 1) % (known - 1) if known > 1 else 0)
            _extend(trace, item.iterations[place], keep)
        trace.items.append(ENDS)
        trace.loops.append((item.first, item.count))


def length(path: Path, keep: int) -> int:
    """How many instructions the trace of a path has."""
    total = 0
    for item in path:
        if isinstance(item, int):
            total += 1
        elif item.iterations:
            total += min(keep, item.count) * max(length(p, keep) for p in item.iterations)
    return total


def iterations_to_keep(paths: Sequence[Path], budget: int) -> int:
    """How many iterations of loops fit into a budget of instructions; 3 at least, so that there is a steady state."""
    return next((keep for keep in (16, 12, 8, 6, 4) if sum(length(path, keep) for path in paths) <= budget), 3)


def executions(path: Path, into: dict[int, float] | None = None, times: float = 1.0) -> dict[int, float]:
    """How often each instruction is executed, loops in full."""
    counts = {} if into is None else into
    for item in path:
        if isinstance(item, int):
            counts[item] = counts.get(item, 0.0) + times
        elif item.iterations and item.count:
            known = min(len(item.iterations), item.count)
            head = item.iterations[0]
            rest = item.iterations[1:known]
            executions(head, counts, times * (1 if rest else item.count))
            for iteration in rest:
                executions(iteration, counts, times * (item.count - 1) / len(rest))
    return counts


__all__ = ["ENDS", "ENTERS", "STARTS", "Trace", "executions", "iterations_to_keep", "length", "trace_of"]
