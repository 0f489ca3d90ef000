"""How many of some thresholds are not above a number, for arrays of f32."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DROPPED = 14
"""Low bits of an f32 that tables leave out: 10 bits of the significand are left, two more than in 8-bit types."""
PLACES = 1 << 16
"""Of the span of thresholds that lie too close to each other for that."""


class Ranks:
    """Looks a number up in a table, which leaves few thresholds that it may be above: mostly one. These are halved
    until they are told apart."""

    def __init__(self, thresholds: Array) -> None:
        """``thresholds``: at most 255 numbers of f32 in increasing order."""
        self.thresholds = thresholds

    def __call__(self, values: Array) -> Array:
        """The ranks, in u8, of numbers of f32 that are no NaNs."""
        place, before, steps, thresholds = self._tables
        found = np.take(before, place(values))
        if steps == (1,):
            found += values >= np.take(thresholds, found)
            return found
        for step in steps:
            wide = found.astype(np.intp) + (step - 1)
            found += (values >= np.take(thresholds, wide)).astype(np.uint8) * np.uint8(step)
        return found

    @functools.cached_property
    def _tables(self) -> tuple[Callable[[Array], Array], Array, tuple[int, ...], Array]:
        """The place of a number in a table of the least ranks of what has that place; in which steps the rank is found
        from there on; and the thresholds, filled up with NaNs for steps beyond them."""
        place, (before, more) = _upper_bits, self._by_upper_bits()
        if more > 1 and 1e-30 < float(self.thresholds[-1]) - float(self.thresholds[0]) < 1e30:
            by_span = self._by_span()
            if by_span[1] < more:
                place, (before, more) = self._place_in_span, by_span
        padded = np.full(2 * 256, np.nan, np.float32)
        padded[: len(self.thresholds)] = self.thresholds
        return place, before.astype(np.uint8), tuple(1 << k for k in reversed(range(more.bit_length()))), padded

    def _by_upper_bits(self) -> tuple[Array, int]:
        """For the upper bits of an f32 the rank of the least number with these, and by how much more the greatest's is
        at most."""
        bits = np.arange(1 << (32 - DROPPED), dtype=np.uint32) << np.uint32(DROPPED)
        ends = np.stack([bits, bits | np.uint32((1 << DROPPED) - 1)]).view(np.float32)
        before, after = (np.asarray(np.searchsorted(self.thresholds, op.reduce(ends), side="right"))
                         for op in (np.fmin, np.fmax))
        return before, int((after - before).max())

    def _place_in_span(self, values: Array) -> Array:
        """Does not fall as the number grows, which is all that it has to do, however it is rounded."""
        low, high = self.thresholds[0], self.thresholds[-1]
        with np.errstate(over="ignore"):
            scaled = (values - low) * (np.float32(PLACES - 1) / (high - low))
        return np.clip(scaled, 0, PLACES - 1, out=scaled).astype(np.intp)

    def _by_span(self) -> tuple[Array, int]:
        """Likewise by the place in the span."""
        counts = np.bincount(self._place_in_span(self.thresholds), minlength=PLACES)
        return np.asarray(np.cumsum(counts) - counts), int(counts.max())


def _upper_bits(values: Array) -> Array:
    return values.view(np.uint32) >> np.uint32(DROPPED)


__all__ = ["DROPPED", "Ranks"]
