"""Loops over K that accumulate a dot."""

from __future__ import annotations

from tilus.ir.ops import For
from tilus.lowering.cpu.block import BlockLowering


def try_contraction(self: BlockLowering, op: For) -> bool:
    return False
