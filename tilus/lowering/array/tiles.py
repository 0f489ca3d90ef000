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


PARTS = {"cpu": 128, "gpu": 1024}
"""Parts at most into which a reduction to one number is divided: enough for all cores, and one tile for the last
block."""
TILES_OF_A_PART = {"cpu": 8, "gpu": 4}
"""Tiles at least that a part takes."""


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


def contraction_tiling(operand: DType, functions: bool, machine: str) -> Tiling:
    """16-bit and 8-bit operands go to tensor cores, where 128×128 tiles reuse most per byte. ``functions`` (exp, erf, …
    of the product) take registers beside the accumulators: then a thread has 32 of those instead of 128. f32 and f64
    are multiplied by plain instructions. A CPU re-tiles products itself and only wants enough of them in a block."""
    if machine == "cpu":
        return Tiling(128, 128, 32)
    if operand.bits <= 16:
        return Tiling(128, 64, 32, stages=3, warps=8) if functions else Tiling(128, 128, 32, stages=3)
    return Tiling(64, 64, 16 if operand.bits == 32 else 8, stages=2, warps=8)


def loop_tiling(last_reduced: bool, reduced: bool, transposed: bool, machine: str) -> Tiling:
    """Elementwise kernels and reductions: at most 4096 elements a tile (on GPUs 16 a thread), wide along the contiguous
    dimension. A reduction along another dimension than the last keeps a strip of columns and walks down it."""
    if transposed:
        return Tiling(32, 64)
    if reduced and not last_reduced:
        return Tiling(32, 128)
    if machine == "cpu":
        return Tiling(4, 1024)
    return Tiling(2, 1024) if reduced else Tiling(4, 512)
