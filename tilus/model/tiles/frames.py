"""Lanes: the executions of a region of a kernel that stand for all of them, side by side in NumPy arrays.

A lane is a block of the grid and, within loops, an iteration of each. Its weight says how many executions it stands
for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.ir.core import Value
from tilus.model.sampled import sampled
from tilus.model.tiles.windows import Numbers, Window, taken

_MISSING = object()


class Frame:
    """The lanes of a region, and the numbers of scalars and views there; None is a number that is not known.

    Attributes:
        blocks: for each lane the number of its block among those that are followed.
        weights: for each lane how many executions it stands for.
        parent: the lanes of the region around it; ``lanes`` says which of them each lane belongs to.
    """

    def __init__(self, blocks: Numbers, weights: Numbers, parent: Frame | None = None, lanes: Numbers = None) -> None:
        self.blocks, self.weights, self.parent, self.lanes = blocks, weights, parent, lanes
        self.env: dict[Value, Any] = {}

    def get(self, value: Value) -> Any:
        found = self.env.get(value, _MISSING)
        if found is _MISSING:
            found = None
            if self.parent is not None:
                found = self.parent.get(value)
                if isinstance(found, Window):
                    found = found.take(self.lanes)
                elif found is not None:
                    found = taken(found, self.lanes)
            self.env[value] = found
        return found

    def inside(self, lanes: Numbers, weights: Numbers) -> Frame:
        """The lanes of a region within: each is one of these."""
        return Frame(self.blocks[lanes], weights, self, lanes)

    def total(self, numbers: Numbers, blocks: int) -> Any:
        """The sum of a number over the executions of each block."""
        return np.bincount(self.blocks, weights=self.weights * numbers, minlength=blocks)


def iterations(trips: Numbers, lanes: int) -> tuple[Any, Any, Any]:
    """Iterations that stand for a loop's: lanes of the region around it, the numbers of the iterations, and what share
    of the lane's weight each has.

    Args:
        trips: of each lane, or of all of them.
    """
    trips = np.broadcast_to(np.asarray(trips, np.int64), (lanes,))
    found_lanes, found_numbers, found_shares = [], [], []
    for count in np.unique(trips):
        these = np.flatnonzero(trips == count)
        chosen = sampled(int(count))
        found_lanes.append(np.repeat(these, len(chosen)))
        found_numbers.append(np.tile([i for i, _ in chosen], len(these)))
        found_shares.append(np.tile([share for _, share in chosen], len(these)))
    if not found_lanes:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    every = np.concatenate(found_lanes).astype(np.int64)
    order = np.argsort(every, kind="stable")
    return (every[order], np.concatenate(found_numbers).astype(np.int64)[order],
            np.concatenate(found_shares).astype(np.float64)[order])


__all__ = ["Frame", "iterations"]
