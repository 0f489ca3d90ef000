"""Rotary position embedding (Su et al., 2021): pairs of a row's elements turn by angles that grow with its position.

A pair is (x, y) → (x cos θ − y sin θ, y cos θ + x sin θ); the arrays of cosines and sines are (positions, R / 2), and
only the first R elements turn. Pairs are neighbours (``interleaved``), or R / 2 apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tilus as tl

PART = 4
"""Rows that turn at once: an element takes four, and their places, in registers."""


def rotated(rows: int, D: int, dtype: tl.DType, element: Callable[[tl.Tile, tl.Tile], tl.Tile],
            position: Callable[[tl.Tile], tl.Tile], cos: Any, sin: Any, interleaved: bool) -> tl.Tile:
    """The tile (rows, D) of what ``element`` gives for a column of rows and a row of columns, turned by the rows'
    ``position``."""
    half, columns = cos.shape[1], tl.arange(D)[None, :]
    if interleaved:
        first, pair, other = columns % 2 == 0, columns // 2, columns ^ 1
    else:
        first = columns < half
        pair = tl.where(first, columns, columns - half)
        other = tl.where(first, columns + half, columns - half)
    memory, part = tl.shared((rows, D), dtype), math.gcd(PART, rows)
    tl.sync()                                                      # some may still read what was there
    for n in tl.range(0, rows, part):
        some = (n + tl.arange(part))[:, None]
        x, y = (element(some, place).to(tl.f32) for place in (columns, other))
        c, s = (tl.gather(table, (position(some), pair)) for table in (cos, sin))
        turned = tl.where(columns < 2 * half, x * c + tl.where(first, -y, y) * s, x)
        tl.store(memory, (n, 0), turned.to(dtype))
    tl.sync()
    return tl.load(memory)
