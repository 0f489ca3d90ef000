"""Register layouts for scans, and for reductions that go from left to right.

Each thread holds one run of neighbours along the axis, and threads follow along it, as few of them as the runs that
registers hold allow: within a run, an element takes one combination, and each doubling of the threads one more of all
runs. Where the lanes of a warp are enough, no shared memory is needed. The other lanes and the warps have other rows;
those that are left over hold the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.layouts import RegisterLayout, blocked, local, replicated, spatial

WARP = 32
LONGEST_IN_MEMORY = 8
"""Elements of a run along the last dimension, which neighbours in memory most often are: loads stay coalesced."""


def scan_layout(shape: tuple[int, ...], axis: int, threads: int) -> RegisterLayout:
    """The layout of a tile for a scan along ``axis``."""
    extents = [max(1, n) for n in shape]
    held = -(-math.prod(extents) // threads)
    longest = min(held, LONGEST_IN_MEMORY) if axis == len(shape) - 1 else held
    lanes = _power_from(-(-extents[axis] // longest))
    if lanes > WARP or threads % WARP:
        return _along_first(shape, axis, threads)
    rest = [d for d in reversed(range(len(shape))) if d != axis]
    by_lanes, copies = _share(WARP // lanes, [extents[d] for d in rest])
    warps, copies_of_warps = _share(threads // WARP, [-(-extents[d] // n) for d, n in zip(rest, by_lanes, strict=True)])
    run = -(-extents[axis] // lanes)

    def along(others: Sequence[int], own: int) -> list[int]:
        """By dimension, from what the others and the axis have."""
        found = dict(zip(rest, others, strict=True)) | {axis: own}
        return [found[d] for d in range(len(shape))]

    repeats = [-(-extents[d] // (n * m)) for d, n, m in zip(rest, by_lanes, warps, strict=True)]
    ones = [1] * len(rest)
    rows, columns = spatial(*along(by_lanes, 1)), spatial(*along(ones, lanes))
    in_warp = rows * columns if axis == len(shape) - 1 else columns * rows
    outer = replicated(copies_of_warps, len(shape)) * local(*along(repeats, 1)) * spatial(*along(warps, 1))
    return outer * replicated(copies, len(shape)) * in_warp * local(*along(ones, run))


def _along_first(shape: tuple[int, ...], axis: int, threads: int) -> RegisterLayout:
    """The layout in which as many threads as there are follow along the axis."""
    order = (axis, *(d for d in reversed(range(len(shape))) if d != axis))
    run = max(1, -(-shape[axis] // threads))
    while True:
        layout = blocked(shape, threads, run, order)
        along = math.prod(size for _, size, dim, _ in layout.thread_digits if dim == axis)
        if along * run >= shape[axis]:
            return layout
        run = -(-shape[axis] // along)  # else each thread would hold several runs


def _share(count: int, extents: list[int]) -> tuple[list[int], int]:
    """How many of ``count`` go along each dimension, as many as it has elements or all, and how many are left."""
    found = []
    for extent in extents:
        taken = next(n for n in range(1, count + 1) if count % n == 0 and (n >= extent or n == count))
        found.append(taken)
        count //= taken
    return found, count


def _power_from(n: int) -> int:
    """The smallest power of two that is no less."""
    return 1 << (n - 1).bit_length()


__all__ = ["scan_layout"]
