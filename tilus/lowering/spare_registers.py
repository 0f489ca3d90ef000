"""What the registers are for that tiles of loops of products leave: addresses, bounds, counters, fragments on their
way."""

from __future__ import annotations

from tilus.ir.core import Function

OTHERS = 32
"""Registers that what is neither a tile nor an address of rows takes."""


def is_crowded(function: Function) -> bool:
    """Whether tiles leave a thread no registers but a few."""
    spare = function.attributes.spare
    return spare is not None and spare < OTHERS


def is_short(function: Function) -> bool:
    """Whether tiles leave so few registers that addresses should not take more than instructions save."""
    spare = function.attributes.spare
    return spare is not None and spare < 2 * OTHERS


def registers_of_rows(function: Function) -> int | None:
    """How many registers there are for addresses and bounds of rows in memory; None where that does not matter."""
    spare = function.attributes.spare
    return None if spare is None else max(0, spare - OTHERS)


__all__ = ["OTHERS", "is_crowded", "is_short", "registers_of_rows"]
