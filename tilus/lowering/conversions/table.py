"""The recipes that :mod:`search` has found, by type, target and order: ``table.txt``, read when first asked.

A line is a source, a target, and the recipe with elements in order and in any order, each with the operations and the
elements of its group. ``python -m tools.conversions`` writes it.
"""

from __future__ import annotations

import functools
from pathlib import Path

from tilus.ir.dtypes import DType
from tilus.lowering.conversions.program import Program
from tilus.lowering.conversions.recipes import build

TABLE = Path(__file__).with_name("table.txt")


@functools.cache
def table() -> dict[tuple[str, str], tuple[str, str]]:
    """The recipes in order and in any order, by the names of source and target."""
    found = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            source, target, ordered, free = (part.strip() for part in line.split("|"))
            found[source, target] = (ordered.rsplit(" ", 1)[0], free.rsplit(" ", 1)[0])
    return found


@functools.cache
def program_for(source: DType, target: DType, ordered: bool) -> Program | None:
    """The program of a conversion; None where there is none."""
    recipes = table().get((source.name, target.name))
    return None if recipes is None else build(source, target, recipes[not ordered], ordered)
