"""The recipes that :mod:`search` has found, by type, target and order: ``recipes.table``, read when first asked.

A line is a source, a target, and the recipe with elements in order and in any order, each with the instructions and
the elements of a group. ``python -m tools.conversions`` writes it.
"""

from __future__ import annotations

import functools
from pathlib import Path

from tilus.ir.dtypes import DType, bf16, f16, i8, u8
from tilus.lowering.conversions.program import Program
from tilus.lowering.conversions.recipes import LOOKUPS, build

TABLE = Path(__file__).with_name("recipes.table")


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
def program_for(source: DType, target: DType, ordered: bool, less: int = 0) -> Program | None:
    """The program of a conversion, for integers also of their difference from ``less``; None where there is none."""
    if less and not source.is_int:
        return None
    if target in (i8, u8):  # of which bytes are the same
        target = i8 if source.kind == "int" else u8
    recipes = table().get((source.name, target.name))
    if recipes is None:
        return _by_tables(source, target, ordered) if source.is_codebook and target in (f16, bf16) else None
    return build(source, target, recipes[not ordered], ordered, less)


def _by_tables(source: DType, target: DType, ordered: bool) -> Program | None:
    """Of codebooks that the table does not name: the first that fits, which are the shorter ones."""
    ways = (build(source, target, f"{target.name} lookup {way}", ordered) for way in LOOKUPS)
    return next((p for p in ways if p is not None), None)
