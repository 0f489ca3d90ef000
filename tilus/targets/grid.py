"""How many blocks a launch has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.diagnostics import Diagnostic, Label, Span, UserError

MAX_BLOCKS = (1 << 31) - 1
"""Blocks of a launch, on every engine: what fits along the first axis of a GPU's grid."""
MAX_OTHER_EXTENT = 65535
"""What a GPU launches along its second and third axis; a longer grid is folded into the first one."""


def too_many_blocks(span: Span) -> Diagnostic:
    """What is said of a grid with more blocks."""
    return Diagnostic("E0606", f"the grid has more than {MAX_BLOCKS} blocks in all",
                      (Label(span),) if span.known else (), "let each block do more, with larger tiles or in a loop")


def check_blocks(grid: Sequence[int], span: Span) -> None:
    """Raise UserError (E0606) where a grid has too many blocks."""
    if math.prod(max(0, extent) for extent in grid) > MAX_BLOCKS:
        raise UserError(too_many_blocks(span))


def is_launchable(grid: Sequence[int]) -> bool:
    """Whether a GPU launches the grid as it is."""
    return all(extent <= MAX_OTHER_EXTENT for extent in grid[1:])
