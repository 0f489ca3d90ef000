"""Rotary position embedding (Su et al., 2021): pairs of a row's elements turn by angles that grow with its position.

A pair is (x, y) → (x cos θ − y sin θ, y cos θ + x sin θ); the arrays of cosines and sines are (positions, R / 2), and
only the first R elements turn. Pairs are neighbours (``interleaved``), or R / 2 apart.
"""

from __future__ import annotations

from collections.abc import Callable

import tilus as tl


def rotated(row: Callable[[tl.Tile], tl.Tile], columns: tl.Tile, position: tl.Tile, cos: tl.View, sin: tl.View,
            interleaved: bool) -> tl.Tile:
    """The tile of f32 whose elements in some columns ``row`` gives, turned."""
    half = cos.shape[1]
    if interleaved:
        first, pair, other = columns % 2 == 0, columns // 2, columns ^ 1
    else:
        first = columns < half
        pair = tl.where(first, columns, columns - half)
        other = tl.where(first, columns + half, columns - half)
    x, y = row(columns).to(tl.f32), row(other).to(tl.f32)
    c, s = (tl.gather(table, (position, pair)).to(tl.f32) for table in (cos, sin))
    return tl.where(columns < 2 * half, x * c + tl.where(first, -y, y) * s, x)
