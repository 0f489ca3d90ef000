"""One line a case: ours by both routes and the peer's, how they compare, and what is beyond the bar."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmarks.gpu_code.cases import Case, Work
from benchmarks.gpu_code.figures import Figures, ours
from benchmarks.gpu_code.peer import Compiler

ROUTES = ("ptx", "cuda")
JUDGED = ("sass", "work", "sectors", "wavefronts")
"""Beside the peer. ``work`` is that of the route by PTX, since NVRTC's PTX is not what its own optimiser leaves, and of
kernels whose SASS is counted as a whole: of loops SASS says it, where PTX has what ptxas folds into instructions."""
BAR = 1.10
LITTLE = {"sass": 40.0, "work": 400.0, "sectors": 16.0, "wavefronts": 64.0}
"""Differences up to so much are not judged."""
SLOWEST = 2.0
"""Seconds that a kernel may take to compile."""


@dataclass
class Line:
    """What was found for a case.

    Attributes:
        found: figures by route.
        peer: the peer's, or why there are none.
        misses: what is beyond its bar, in words.
    """

    case: Case
    found: dict[str, Figures] = field(default_factory=dict)
    peer: Figures | str | None = None
    misses: list[str] = field(default_factory=list)
    worst: float = 0.0


def measured(case: Case, compiler: Compiler | None) -> Line:
    """Compile and simulate a case by all routes and by the peer."""
    line = Line(case)
    results = []
    for route in ROUTES:
        work = case.make()
        try:
            line.found[route], result = ours(work, case.target, route)
            results.append((route, result))
        except Exception as problem:  # a case that fails is a miss, not the end of the table
            line.misses.append(f"{route}: {type(problem).__name__}: {str(problem).splitlines()[0][:90]}")
    if compiler is not None and work.peer is not None:
        answer = compiler.figures(work.peer, case.target, work.unit, work.total)
        line.peer = answer if isinstance(answer, str) else answer[0]
        if not isinstance(answer, str) and answer[1]:
            results.append(("peer", answer[1]))
    _compare_results(line, results)
    _judge(line, work)
    return line


def _compare_results(line: Line, results: list[tuple[str, list[np.ndarray]]]) -> None:
    """All ways have to give the same numbers, but for rounding."""
    for name, arrays in results[1:]:
        for one, other in zip(results[0][1], arrays, strict=True):
            x, y = one.astype(np.float64), other.astype(np.float64)
            if not np.linalg.norm(x - y) <= 2e-2 * max(float(np.linalg.norm(x)), 1e-6):
                line.misses.append(f"{results[0][0]} and {name} give different numbers")


def _judge(line: Line, work: Work) -> None:
    for name in JUDGED:
        if name == "work" and work.unit:
            continue
        given = [getattr(f, name) for route, f in line.found.items() if name != "work" or route == "ptx"]
        bars = [work.floor[name]] if name in work.floor else []
        if isinstance(line.peer, Figures):
            bars.append(getattr(line.peer, name))
        if not given:
            continue
        if bars:
            ratio = max(given) / max(min(bars), 1.0)
            line.worst = max(line.worst, ratio)
            if ratio > BAR and max(given) - min(bars) > LITTLE[name]:
                line.misses.append(f"{name} {ratio:.2f}")
        least, most = min(given), max(given)
        if len(given) == 2 and most > BAR * least and most - least > LITTLE[name]:
            line.misses.append(f"routes' {name} {most / least:.2f}")
    spilled = max((f.spills for f in line.found.values()), default=0)
    if spilled > (line.peer.spills if isinstance(line.peer, Figures) else 0):
        line.misses.append(f"{spilled} spills")
    slow = max((f.seconds for f in line.found.values()), default=0.0)
    if slow > SLOWEST:
        line.misses.append(f"{slow:.1f} s")


def header() -> str:
    names = ("SASS a unit", "dyn", "less moves", "sectors", "wavefronts", "spills", "registers", "seconds")
    return f"{'ours by PTX, by CUDA C, peer':48}" + "".join(f"{n:>23}" for n in names)


def text(line: Line) -> str:
    """The line as it is printed: three figures a column, the ratio of the worse route to the peer."""
    columns = []
    peer = line.peer if isinstance(line.peer, Figures) else None
    for name in ("sass", "dyn", "work", "sectors", "wavefronts", "spills", "registers", "seconds"):
        given = [_short(getattr(line.found[r], name)) if r in line.found else "-" for r in ROUTES]
        theirs = _short(getattr(peer, name)) if peer else "-"
        ratio = ""
        if peer and name in JUDGED and line.found:
            worse = max(getattr(f, name) for route, f in line.found.items() if name != "work" or route == "ptx")
            ratio = f" {worse / max(getattr(peer, name), 1):.2f}"
        columns.append(f"{'/'.join([*given, theirs])}{ratio}".rjust(23))
    star = "*" if line.misses else " "
    note = "; ".join(line.misses + ([f"peer: {line.peer}"] if isinstance(line.peer, str) else []))
    return f"{star} {line.case.title:46}" + "".join(columns) + (f"  {note}" if note else "")


def _short(value: float) -> str:
    if isinstance(value, float) and value < 100:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.1f}k"


__all__ = ["Line", "header", "measured", "text"]
