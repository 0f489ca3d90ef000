"""Which weights dropout keeps: a function of the seed and of the weight's place, by Philox, so that the backward pass
and other tiles find the same ones."""

from __future__ import annotations

import tilus as tl


def kept(rate: float, seed: tl.Tile, b: tl.Tile, head: tl.Tile, rows: tl.Tile, columns: tl.Tile) -> tl.Tile:
    """Of query ``rows`` and key ``columns``, counted from the first of their sequence; ``head`` is that of all heads of
    all sequences. There may be 2²² of either, and 2²⁰ heads."""
    index = (head.to(tl.i64) << 44) | (rows.to(tl.i64) << 22) | columns.to(tl.i64)
    return tl.random.rand(seed, index) >= rate
