"""Which iterations of a loop, or blocks along an axis, stand for all of them."""

from __future__ import annotations

ASSUMED_TRIPS = 16
"""Iterations of loops whose bounds are data."""


def sampled(count: int) -> list[tuple[int, float]]:
    """Iterations that stand for ``count`` ones, with weights that sum up to that. Those of costs that are linear in the
    index, but for the first and last iteration, are exact."""
    if count <= 4:
        return [(i, 1.0) for i in range(count)]
    half = (count - 2) / 2
    return [(0, 1.0), ((count - 1) // 4 or 1, half), (count - 1 - ((count - 1) // 4 or 1), half), (count - 1, 1.0)]


__all__ = ["ASSUMED_TRIPS", "sampled"]
