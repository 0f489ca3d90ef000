"""Writes the table of register conversions: for each type and target the recipe with the fewest operations.

    python -m tools.conversions
"""

from __future__ import annotations

from tilus.ir.dtypes import DType
from tilus.lowering.conversions.recipes import sources, targets_of
from tilus.lowering.conversions.search import search
from tilus.lowering.conversions.table import TABLE

_HEADER = """\
# source | target | in order: recipe, instructions/elements of a group | in any order: the same
# Written by `python -m tools.conversions`.
"""


def line(source: DType, target: DType) -> str | None:
    """The line of a conversion; None where no recipe is exact."""
    cells = []
    for ordered in (True, False):
        found = search(source, target, ordered)
        if found is None:
            return None
        recipe, p = found
        cells.append(f"{recipe} {p.cost}/{p.elements}")
    return " | ".join([source.name, target.name, *cells])


def main() -> None:
    lines = [line(source, target) for source in sources() for target in targets_of(source)]
    TABLE.write_text(_HEADER + "".join(f"{text}\n" for text in lines if text is not None))


if __name__ == "__main__":
    main()
