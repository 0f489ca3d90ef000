"""How many of some thresholds are not above a number, for arrays of f32."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DROPPED = 14
"""Low bits of an f32 that tables leave out: 10 bits of the significand are left, two more than in 8-bit types."""


class Ranks:
    """Looks a number up by its upper bits, which leaves few thresholds that it may be above: mostly one. These are
    halved until they are told apart."""

    def __init__(self, thresholds: Array) -> None:
        """``thresholds``: at most 255 numbers of f32 in increasing order."""
        self.thresholds = thresholds

    def __call__(self, values: Array) -> Array:
        """The ranks, in u8, of numbers of f32 that are no NaNs."""
        before, steps, thresholds = self._tables
        found = np.take(before, values.view(np.uint32) >> np.uint32(DROPPED))
        if steps == (1,):
            found += values >= np.take(thresholds, found)
            return found
        for step in steps:
            wide = found.astype(np.intp) + (step - 1)
            found += (values >= np.take(thresholds, wide)).astype(np.uint8) * np.uint8(step)
        return found

    @functools.cached_property
    def _tables(self) -> tuple[Array, tuple[int, ...], Array]:
        """For the upper bits of an f32 the rank of the least number with these bits; in which steps the rank of others
        is found from there on; and the thresholds, filled up with NaNs for steps beyond them."""
        bits = np.arange(1 << (32 - DROPPED), dtype=np.uint32) << np.uint32(DROPPED)
        ends = np.stack([bits, bits | np.uint32((1 << DROPPED) - 1)]).view(np.float32)
        least: Array = np.fmin.reduce(ends)
        greatest: Array = np.fmax.reduce(ends)
        before = np.searchsorted(self.thresholds, least, side="right")
        more = np.searchsorted(self.thresholds, greatest, side="right") - before
        steps = tuple(1 << k for k in reversed(range(int(more.max()).bit_length())))
        padded = np.full(2 * 256, np.nan, np.float32)
        padded[: len(self.thresholds)] = self.thresholds
        return before.astype(np.uint8), steps, padded


__all__ = ["DROPPED", "Ranks"]
