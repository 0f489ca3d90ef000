"""Which statements programs are made of, and how often."""

from __future__ import annotations

from tests.fuzz import control, elementwise, explicit, features, groups, memory, packed, tiles
from tests.fuzz.generator import Generator, Statement

SIMPLE: list[tuple[Statement, float]] = [*elementwise.STATEMENTS, *tiles.STATEMENTS]
"""What stands in the bodies of loops and branches too."""
ALL: list[tuple[Statement, float]] = [*SIMPLE, *memory.STATEMENTS, *control.STATEMENTS, *explicit.STATEMENTS,
                                      *features.STATEMENTS, *groups.STATEMENTS]


def write(g: Generator) -> None:
    """A whole body: loads, then anything."""
    for _ in range(g.random.randint(2, 4)):
        memory.load(g)
    for dtype in g.stored:
        memory.load_of(g, dtype)
    for _ in range(g.random.randint(3, 12)):
        g.statement(ALL)
        if g.stored and g.chance(0.4):
            g.statement(packed.STATEMENTS)
    if g.chance(0.05):
        g.line("if g > n:")
        g.line("    return")
        g.count("early return")
