"""The shortest program among all ways to convert a type that give every number exactly."""

from __future__ import annotations

from tilus.ir.dtypes import DType
from tilus.lowering.conversions.program import Program
from tilus.lowering.conversions.recipes import build, recipes
from tilus.lowering.conversions.verify import is_exact


def search(source: DType, target: DType, ordered: bool) -> tuple[str, Program] | None:
    """The cheapest recipe whose program is exact on all bit patterns, and the program; the first one of several. None
    where there is none."""
    best: tuple[str, Program] | None = None
    for recipe in recipes(source, target):
        p = build(source, target, recipe, ordered)
        if p is not None and (best is None or p.cost < best[1].cost) and is_exact(p, source, target):
            best = recipe, p
    return best
