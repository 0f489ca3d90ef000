"""Run-time extents of array-level functions that are made of others' (``Attributes.sizes``)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from tilus.ir.types import Extent

Size = tuple[str, str, Extent, Extent]
"""The name of an extent, and the kind of operation and operands that it is the result of."""
KINDS: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv, "min": min,
    "max": max,
}

SIGNS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//"}


def evaluated(sizes: Sequence[Size], values: Mapping[str, int]) -> dict[str, int]:
    """``values`` of symbols, and those of the symbols that are made of them."""
    found = dict(values)
    for name, kind, *operands in sizes:
        a, b = (found[n] if isinstance(n, str) else n for n in operands)
        found[name] = KINDS[kind](a, b)
    return found


def renamed(sizes: Sequence[Size], names: dict[str, Extent]) -> tuple[Size, ...]:
    """The definitions where symbols have other names, or are numbers; ``names`` is given those that become equal to
    others, or numbers, by that."""
    kept: dict[tuple[str, Extent, Extent], str] = {}
    for name, kind, *operands in sizes:
        a, b = (names.get(n, n) if isinstance(n, str) else n for n in operands)
        if name in names:
            continue
        if isinstance(a, int) and isinstance(b, int):
            names[name] = KINDS[kind](a, b)
        elif (kind, a, b) in kept:
            names[name] = kept[kind, a, b]
        else:
            kept[kind, a, b] = name
    for name, other in names.items():  # one that has become another may be a number by now
        while isinstance(other, str) and other in names:
            other = names[other]
        names[name] = other
    return tuple((name, *key) for key, name in kept.items())


__all__ = ["KINDS", "SIGNS", "Size", "evaluated", "renamed"]
