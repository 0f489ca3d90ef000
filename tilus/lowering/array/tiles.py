"""Tile sizes of fused kernels: a small table over what a kernel does, the element types and the kind of machine.

Sizes along the last dimension of an array are ``BN``, along the last but one ``BM``; dimensions further out are taken
one index at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilus.ir.dtypes import DType

NAMES = ("BM", "BN", "BK", "stages", "warps")
"""What a call may override."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tile sizes of one kernel; ``BK`` and ``stages`` count for contractions only."""

    BM: int
    BN: int
    BK: int = 32
    stages: int = 0
    warps: int = 4

    def overridden(self, given: Mapping[str, int]) -> Tiling:
        return replace(self, **given)


def contraction_tiling(operand: DType, machine: str) -> Tiling:
    """16-bit and 8-bit operands go to tensor cores, where 128×128 tiles reuse most per byte; f32 and f64 are multiplied
    by plain instructions and keep their accumulators in registers, which 64×64 leaves room for. A CPU re-tiles
    products itself and only wants enough of them in a block."""
    if machine == "cpu":
        return Tiling(128, 128, 32)
    if operand.bits <= 16:
        return Tiling(128, 128, 32, stages=3)
    return Tiling(64, 64, 16 if operand.bits == 32 else 8, stages=2)


def loop_tiling(last_reduced: bool, others_reduced: bool, transposed: bool, machine: str) -> Tiling:
    """Elementwise kernels and reductions: 4096 elements a tile at most, wide along the contiguous dimension.

    A reduction along another dimension than the last keeps a narrow strip of columns and walks down it."""
    if transposed:
        return Tiling(32, 64)
    if others_reduced and not last_reduced:
        return Tiling(32, 128)
    if last_reduced:
        return Tiling(4, 1024)
    return Tiling(4, 1024 if machine == "cpu" else 512)
