"""Tiles whose memory runs along another dimension than the buffer they go to."""

from __future__ import annotations

from tilus.ir.core import Value
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.values import Buffer


def try_transposed(self: BlockLowering, value: Value, target: Buffer) -> bool:
    return False


def try_transposed_store(self: BlockLowering, value: Value, window: object) -> bool:
    return False
