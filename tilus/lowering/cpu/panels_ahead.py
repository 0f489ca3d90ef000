"""Asking for the operands of a product before its micro-kernels come to them.

A micro-kernel reads a panel of B again for each block of rows, from the first level of the cache, and rows of A again
for each panel. What it reads for the first time lies further away, in the second level or behind it, where memories of
packed operands are (``kept_operands.py``); there it would wait for each page anew. So each block of rows asks for a
share of the panel after its own, and, where the rows of A over the next chunk of K lie behind those of this one, of
those.
"""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.ir.ops.simd import Prefetch
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.values import LINE_BYTES, Number

MOST_LINES = 24
"""Of an operand that a block of rows asks for: as many as are under way at once. Where blocks are so few that it would
take more, they come to the next panel too soon for asking."""


class PanelsAhead:
    """For products of ``rows`` rows of A with ``panels`` panels of B, of elements of ``size`` bytes."""

    def __init__(self, lowering: BlockLowering, rows: int, panels: int, size: int) -> None:
        self.c = lowering.c
        self.rows, self.panels = rows, panels
        self.line = LINE_BYTES // size

    def ask_for_panel(self, following: Value, elements: int, i: Number, height: int) -> None:
        """The share of the block of rows from ``i`` on of a panel."""
        share = -(-elements // self.rows)
        self._ask(self.c.offset(following, self.c.mul(i, share)), height * share)

    def ask_for_rows(self, following: Value, elements: int, panel: Number, i: Number, height: int) -> None:
        """The share of a block of rows and a panel, by its number, of ``elements`` that all rows of A take."""
        share = -(-elements // (self.rows * self.panels))
        first = self.c.mul(self.c.add(self.c.mul(panel, self.rows), i), share)
        self._ask(self.c.offset(following, first), height * share)

    def _ask(self, first: Value, elements: int) -> None:
        lines = -(-elements // self.line)
        for n in range(lines if lines <= MOST_LINES else 0):
            self.c.b.add(Prefetch(self.c.offset(first, n * self.line)))
