"""Paths of warps as lists, with loops cut to a few iterations, and what they come to with loops in full."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.model.paths import LoopRun, Path
from tilus.records import record

ENTERS, STARTS, ENDS = -1, -2, -3
"""Marks in a trace: a loop is entered, an iteration begins, the loop is left."""


@record
class Trace:
    """Numbers of instructions and marks; ``loops`` has the first instruction and the iterations of each loop that is
    left, in order."""

    items: list[int]
    loops: list[tuple[int, int]]


@record(frozen=True)
class Cut:
    """How many iterations of loops a trace has: of those around others, of those within others, of all others. An inner
    loop should be in full, since what it competes with depends on how long warps are in it."""

    outer: int
    inner: int
    single: int


CUTS = tuple(Cut(outer, inner, single) for outer, inner, single in (
    (4, 64, 16), (3, 64, 16), (3, 32, 12), (3, 16, 12), (3, 8, 8), (3, 6, 6), (3, 4, 4)))
"""From the best one."""


def trace_of(path: Path, cut: Cut) -> Trace:
    """A path with its loops cut."""
    trace = Trace([], [])
    _extend(trace, path, cut, False)
    return trace


def _extend(trace: Trace, path: Path, cut: Cut, within: bool) -> None:
    for item in path:
        if isinstance(item, int):
            trace.items.append(item)
            continue
        if not item.iterations or not item.count:
            continue
        known = len(item.iterations)
        trace.items.append(ENTERS)
        for turn in range(min(_kept(item, cut, within), item.count)):
            trace.items.append(STARTS)
            # Beyond those that are known, the ones after the first again in turn: the first one may be special.
            place = turn if turn < known else (1 + (turn - 1) % (known - 1) if known > 1 else 0)
            _extend(trace, item.iterations[place], cut, True)
        trace.items.append(ENDS)
        trace.loops.append((item.first, item.count))


def _kept(loop: LoopRun, cut: Cut, within: bool) -> int:
    if any(not isinstance(item, int) for item in loop.iterations[0]):
        return cut.outer
    return cut.inner if within else cut.single


def length(path: Path, cut: Cut, within: bool = False) -> int:
    """How many instructions the trace of a path has."""
    total = 0
    for item in path:
        if isinstance(item, int):
            total += 1
        elif item.iterations:
            longest = max(length(p, cut, True) for p in item.iterations)
            total += min(_kept(item, cut, within), item.count) * longest
    return total


def cut_for(paths: Sequence[Path], budget: int) -> Cut:
    """The best cut that keeps the traces of some warps within a budget of instructions, else the shortest one."""
    return next((cut for cut in CUTS if sum(length(path, cut) for path in paths) <= budget), CUTS[-1])


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


__all__ = ["CUTS", "ENDS", "ENTERS", "STARTS", "Cut", "Trace", "cut_for", "executions", "length", "trace_of"]
