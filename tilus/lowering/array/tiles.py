"""Tile sizes of fused kernels: a small table over what a kernel does, the element types and the machine.

Sizes along the last dimension of an array are ``BN``, along the last but one ``BM``; dimensions further out are taken
one index at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tilus.ir.dtypes import DType
from tilus.records import record

NAMES = ("BM", "BN", "BK", "stages", "warps", "unroll", "prefetch", "raster")
"""What a call may override."""


@record(frozen=True, slots=True)
class Tiling:
    """Tile sizes and schedule of one kernel. ``BK``, ``stages``, ``unroll`` and ``prefetch`` (those of ``tl.range``)
    and ``raster`` (that of ``tl.block``) count for contractions only."""

    BM: int
    BN: int
    BK: int = 32
    stages: int = 0
    warps: int = 4
    unroll: int = 1
    prefetch: bool | None = None
    raster: int | None = None

    def overridden(self, given: Mapping[str, Any]) -> Tiling:
        return replace(self, **given)


WIDEST = 1024
"""Extents beyond which it makes no difference to a tile how long a dimension is."""
LARGEST = 4096
"""Elements of a tile of an elementwise kernel or a reduction, at most."""


def bound_of(extent: int, limit: int = WIDEST) -> int | None:
    """The power of two that an extent is known not to exceed in a specialisation for extents like it; None for those
    beyond ``limit``."""
    bound = 1 << max(0, extent - 1).bit_length()
    return bound if bound <= limit else None


def limit_before(last: int | None) -> int:
    """The ``limit`` for the last dimension but one, by the bound of the last."""
    return LARGEST // (last or WIDEST)


def fitted(tiling: Tiling, last: int | None, before: int | None) -> Tiling:
    """A tile of as many elements for arrays whose last two extents are not beyond these bounds, if there are any: what
    one dimension does not fill the other takes."""
    elements = tiling.BM * tiling.BN
    columns = tiling.BN if last is None else min(tiling.BN, last)
    rows = elements // columns if before is None else min(elements // columns, before)
    if last is None:
        rows = min(rows, tiling.BM)
        columns = elements // rows
    return replace(tiling, BM=rows, BN=columns)


def lightened(tiling: Tiling, reads: int, most: int) -> Tiling:
    """A tile of so few elements that threads, which read several elements for each, read no more than ``most``: fewer
    rows, and then fewer columns."""
    elements = max(32 * tiling.warps, most * 32 * tiling.warps // max(1, reads))
    rows, columns = tiling.BM, tiling.BN
    while rows * columns > elements:
        rows, columns = (rows // 2, columns) if rows > 1 else (1, columns // 2)
    return replace(tiling, BM=rows, BN=columns)


@record(frozen=True)
class TileTable:
    """The tile sizes for a kind of machine.

    Attributes:
        contraction: for a contraction of operands of a type, with functions (exp, erf, …) of the product or without,
            of operands that are gathered or not.
        attention: for operands of a type, and values of up to so many columns.
        loop: for elementwise kernels and reductions: whether the last dimension is reduced, whether any is, whether
            there are transpositions.
        parts: into how many a reduction to one number is divided at most: enough for all cores, and one tile for the
            last block.
        tiles_of_a_part: tiles at least that a part takes.
        resident: elements of whole rows that a block keeps, at most, where they are more than a tile: rows that are
            reduced several times are read once then, and functions of them computed once.
        joins: whether kernels that could run at the same time share a launch.
        loads: elements that a thread reads for its part of a tile, at most, where it can be so few; 0 for no limit.
            All of a thread's registers are for what it has read, until that has been summed up.
    """

    contraction: Callable[[DType, bool, bool], Tiling]
    attention: Callable[[DType, int], Tiling]
    loop: Callable[[bool, bool, bool], Tiling]
    parts: int
    tiles_of_a_part: int
    resident: int = 0
    joins: bool = False
    loads: int = 0


def _gpu_contraction(operand: DType, functions: bool, gathered: bool) -> Tiling:
    """16-bit and 8-bit operands go to tensor cores, where 128×128 tiles reuse most per byte. Functions take registers
    beside the accumulators, and so do the places of what is gathered: then a thread has 32 of those instead of 128. f32
    and f64 are multiplied by plain instructions."""
    if operand.bits <= 16 and gathered:
        return Tiling(64, 64, 32, stages=2)
    if operand.bits <= 16:
        return Tiling(128, 64, 32, stages=3, warps=8) if functions else Tiling(128, 128, 32, stages=3)
    return Tiling(64, 64, 16 if operand.bits == 32 else 8, stages=2, warps=8)


def _cpu_contraction(operand: DType, functions: bool, gathered: bool) -> Tiling:
    """A CPU re-tiles products itself and only wants enough of them in a block."""
    return Tiling(128, 128, 32)


def _ascend_contraction(operand: DType, functions: bool, gathered: bool) -> Tiling:
    """Sums of 128 by 256 fill L0C; where vectors compute with them, half of that."""
    return Tiling(128, 128, 128) if functions or operand.bits > 16 else Tiling(128, 256, 128)


def _columns(most: int) -> int:
    """All columns of the values in one tile, so that scores are computed once, unless they are too many."""
    return min(max(most, 16), 256)


def _gpu_attention(operand: DType, columns: int) -> Tiling:
    """The queries' tile, the sums and the scores are held in registers; shared memory is that of the smallest chip."""
    wide = _columns(columns)
    if operand.bits <= 16:
        return Tiling(64, wide, 64 if wide <= 128 else 32, stages=2, warps=4 if wide <= 128 else 8)
    return Tiling(64 if wide <= 64 else 32, wide, 16, stages=2, warps=4)


def _cpu_attention(operand: DType, columns: int) -> Tiling:
    return Tiling(128, _columns(columns), 64)


def _ascend_attention(operand: DType, columns: int) -> Tiling:
    return Tiling(128, _columns(columns), 128 if operand.bits <= 16 else 64)


def _gpu_loop(last_reduced: bool, reduced: bool, transposed: bool) -> Tiling:
    """16 elements a thread, wide along the contiguous dimension."""
    return _strip(last_reduced, reduced, transposed) or (Tiling(2, 1024) if reduced else Tiling(4, 512))


def _cpu_loop(last_reduced: bool, reduced: bool, transposed: bool) -> Tiling:
    return _strip(last_reduced, reduced, transposed) or Tiling(4, 1024)


def _ascend_loop(last_reduced: bool, reduced: bool, transposed: bool) -> Tiling:
    """A tile of 16 KB of f32 is copied at the full rate, and eleven fit in the unified buffer."""
    return _strip(last_reduced, reduced, transposed) or Tiling(4, 1024)


def _strip(last_reduced: bool, reduced: bool, transposed: bool) -> Tiling | None:
    """A reduction along another dimension than the last keeps a strip of columns and walks down it."""
    if transposed:
        return Tiling(32, 64)
    return Tiling(32, 128) if reduced and not last_reduced else None


GPU_TILES = TileTable(_gpu_contraction, _gpu_attention, _gpu_loop, 1024, 4, joins=True, loads=256)
CPU_TILES = TileTable(_cpu_contraction, _cpu_attention, _cpu_loop, 128, 8, resident=1 << 16)
ASCEND_TILES = TileTable(_ascend_contraction, _ascend_attention, _ascend_loop, 96, 4)
