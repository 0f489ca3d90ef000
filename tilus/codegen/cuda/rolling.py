"""Statements that differ just in the indices of arrays, as loops that the compiler unrolls."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_INDEX = re.compile(r"\[(\d+)\]")
_FEWEST = 4
"""Statements that are worth a loop."""
_NAMES = ("i", "j", "n", "m", "k", "u", "v")


def rolled(statements: Sequence[str]) -> list[str]:
    """The same statements in the same order: in one loop, or in two of which one is in the other, where all indices
    grow by constants along them; else as they are."""
    if len(statements) < _FEWEST or len({_INDEX.sub("[]", s) for s in statements}) > 1:
        return list(statements)
    indices = [[int(x) for x in _INDEX.findall(s)] for s in statements]
    for inner in _divisors(len(statements)):
        rows = [indices[i : i + inner] for i in range(0, len(indices), inner)]
        along, across = _steps(rows[0]), _steps([row[0] for row in rows])
        if along is not None and across is not None and all(_steps(row) == along for row in rows):
            return _loops(statements[0], indices[0], [(len(rows), across), (inner, along)])
    return list(statements)


def _divisors(count: int) -> list[int]:
    """From the greatest on, without 1."""
    return [n for n in range(count, 1, -1) if count % n == 0]


def _steps(rows: Sequence[Sequence[int]]) -> list[int] | None:
    """By how much each index grows from a row to the next, where that is always the same."""
    if len(rows) == 1:
        return [0] * len(rows[0])
    steps = [b - a for a, b in zip(rows[0], rows[1], strict=True)]
    alike = all([b - a for a, b in zip(x, y, strict=True)] == steps for x, y in itertools.pairwise(rows))
    return steps if alike else None


def _loops(statement: str, first: Sequence[int], levels: list[tuple[int, list[int]]]) -> list[str]:
    free = [n for n in _NAMES if not re.search(rf"\b{n}\b", statement)]
    named = [(name, *level) for name, level in zip(free, [x for x in levels if x[0] > 1], strict=False)]
    texts = iter([_sum(start, [(steps[at], name) for name, _, steps in named]) for at, start in enumerate(first)])
    body = _INDEX.sub(lambda _: f"[{next(texts)}]", statement)
    lines: list[str] = []
    for depth, (name, count, _) in enumerate(named):
        pad = "  " * depth
        lines += [f"{pad}#pragma unroll", f"{pad}for (int {name} = 0; {name} < {count}; ++{name}) {{"]
    lines.append(f"{'  ' * len(named)}{body}")
    return lines + [f"{'  ' * depth}}}" for depth in reversed(range(len(named)))]


def _sum(start: int, terms: list[tuple[int, str]]) -> str:
    parts = [name if step == 1 else f"{step} * {name}" for step, name in terms if step]
    return " + ".join([*parts, str(start)] if start or not parts else parts)
