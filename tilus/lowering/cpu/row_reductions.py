"""Reductions of short rows side by side: each row becomes one vector, then the lanes of many are combined at once.

What the lanes of one vector come to takes a step for each power of two, and so does every row. Steps of as many rows as
there are lanes are steps of whole vectors: the halves of two rows are those of one vector, and so on. In the end each
lane is of another row, and what is left to do for a row is done for all of these at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.ir.core import Value
from tilus.ir.ops import Pack, Shuffle
from tilus.lowering.cpu.block import BlockLowering, container_bytes
from tilus.lowering.cpu.evaluate import load_buffer
from tilus.lowering.cpu.values import Buffer, Coord, Coords

Combine = Callable[[Value, Value], Value]
BLOCK_BYTES = 16
"""Parts of registers within which shuffles are quickest."""


def across_rows(self: BlockLowering, vectors: Sequence[Value], combine: Combine) -> Value:
    """A vector whose lane r is what the lanes of vector r come to: there are as many vectors as lanes, a power of
    two. The first half of lanes is combined with the second one, and so on, as within one vector."""
    lanes = len(vectors)
    block = max(1, min(lanes, BLOCK_BYTES // container_bytes(vectors[0].tile.dtype)))
    steps = [_halves(lanes, lanes >> n, block) for n in range(lanes.bit_length() - 1)]
    level = [vectors[r] for r in _order(lanes, steps)]
    for low, high in steps:
        pairs = [self.c.b.add(Pack((level[n], level[n + 1]))).result for n in range(0, len(level), 2)]
        level = [combine(*(self.c.b.add(Shuffle(pair, part)).result for part in (low, high))) for pair in pairs]
    return level[0]


def _halves(lanes: int, segment: int, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the first halves of the segments of two vectors are, and the second ones: within blocks if they fit
    there."""
    half, unit = segment // 2, lanes if segment > block else block
    first = [source + start + k for at in range(0, lanes, unit) for source in (0, lanes)
             for start in range(at, at + unit, segment) for k in range(half)]
    return tuple(first), tuple(i + half for i in first)


def _order(lanes: int, steps: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[int]:
    """Which row each vector has to be of for lane r of the result to be of row r."""
    level = [[n] * lanes for n in range(lanes)]
    for low, _ in steps:
        level = [[(level[n] + level[n + 1])[i] for i in low] for n in range(0, len(level), 2)]
    order = [0] * lanes
    for row, vector in enumerate(level[0]):
        order[vector] = row
    return order


def load_rows(self: BlockLowering, parts: Buffer, coords: Coords, combine: Combine) -> Value:
    """The lanes of a vector along the last dimension at ``coords``: of each row, what its vector in ``parts`` comes
    to, which has the lanes of the row as a dimension more."""
    last = coords[-1]
    rows = [load_buffer(self, parts, (*coords[:-1], Coord(last.base, last.const + r), Coord(None, 0, True)))
            for r in range(self.lanes)]
    return across_rows(self, rows, combine)


__all__ = ["across_rows", "load_rows"]
