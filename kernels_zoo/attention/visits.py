"""Which tiles of keys a tile of queries visits: those that none of its rows sees are passed over, and those that all of
its rows see take no mask.

Causal masks and windows are bands, of which this follows from the positions: row i sees the columns from
i + shift − left to i + shift + right, where a negative left or right is no bound. Rows and columns change places in
``band(…, −shift, right, left)``. For other masks :func:`block_mask` looks at each tile once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tilus as tl
from kernels_zoo.attention.arrays import FUNCTION, NONE, TYPES, given, variant_arrays
from kernels_zoo.checking import Array

Bound = Any
"""A number of the compiler's or one that is known at run time."""


class Span(NamedTuple):
    """Columns from ``begin`` to ``end``, and which of their bounds may cut through their tiles: but not through those
    of ``inner``, where it is given, which the rows see whole."""

    begin: Bound
    end: Bound
    left: bool
    right: bool
    edge: bool
    inner: tuple[Bound, Bound] | None = None

    def cuts(self, column: Bound, step: int) -> Bound:
        """Whether a bound may cut through the tile of ``step`` columns from ``column`` on."""
        assert self.inner is not None
        return (column < self.inner[0]) | (column + step > self.inner[1])


def band(start: Bound, rows: int, extent: Bound, step: int, shift: Bound, left: int, right: int) -> list[Span]:
    """The columns, of ``extent``, that the rows from ``start`` on see, in spans of tiles of ``step`` columns."""
    begin: Bound = 0
    first: Bound = 0
    end, whole = extent, extent
    if right >= 0:
        whole = tl.maximum(tl.minimum(extent, start + 1 + shift + right), 0) // step * step     # rows see all before,
        end = tl.minimum(extent, start + rows + shift + right)                                  # and none from here on
    if left >= 0:
        begin = tl.minimum(tl.maximum(start + shift - left, 0), extent) // step * step          # none sees any before,
        first = tl.cdiv(start + rows - 1 + shift - left, step) * step                           # and rows see all after
        first = tl.minimum(tl.maximum(first, begin), tl.maximum(end, begin) if right >= 0 else end)
        whole = tl.maximum(whole, first) if right >= 0 else whole
    if tl.target() == "ascend910b":                                 # two units alternate in a loop, which takes a while
        inner = (first, tl.minimum(whole, extent))                  # to begin and to end: one for all
        return [Span(begin, end, left >= 0, right >= 0, True, inner)]
    spans = [Span(begin, first, True, right >= 0, True)] if left >= 0 else []
    spans.append(Span(first, whole, False, False, right < 0))
    return [*spans, Span(whole, end, False, True, True)] if right >= 0 else spans


def visible(span: Span, rows: tl.Tile, columns: tl.Tile, extent: Bound, shift: Bound, left: int, right: int,
            others: tuple[tl.Tile, ...] = ()) -> tl.Tile | None:
    """Which columns of a tile of a span the rows see; None: all. ``others`` are further conditions. Columns from
    ``extent`` on are not seen, unless that is None."""
    conditions = list(others)
    if span.edge and extent is not None:
        conditions.append(columns < extent)
    if span.right:
        conditions.append(columns <= rows + (shift + right))
    if span.left:
        conditions.append(columns >= rows + (shift - left))
    seen = None
    for condition in conditions:
        seen = condition if seen is None else seen & condition
    return seen


@tl.jit
def look_at_tiles(
    kinds: tl.u8["batches", "heads", "row_tiles", "column_tiles"], Sq: tl.i32, Sk: tl.i32,
    a0: types[0] = None, a1: types[1] = None, a2: types[2] = None, types: TYPES = NONE,
    mask: FUNCTION = None, left: int = -1, right: int = -1, BM: int = 64, BN: int = 64, warps: int = 4,
) -> None:
    """Of each tile of scores 0 where no query sees a key, 2 where all see all, else 1."""
    batches, heads, row_tiles, column_tiles = kinds.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(row_tiles * column_tiles, heads, batches)
    i, j = tile // column_tiles, tile % column_tiles
    rows, columns = i * BM + tl.arange(BM)[:, None], j * BN + tl.arange(BN)[None, :]
    shift, arrays = Sk - Sq, given(a0, a1, a2)
    others = (mask(b, h, rows + shift, columns, *arrays),) if mask is not None else ()
    seen = visible(Span(0, 0, left >= 0, right >= 0, True), rows, columns, Sk, shift, left, right, others)
    seen = tl.broadcast_to(seen, (BM, BN))
    some = tl.any(seen & (rows < Sq))
    kinds[b, h, i, j] = tl.where(tl.all(seen | (rows >= Sq)), 2, tl.where(some, 1, 0)).to(tl.u8)


class BlockMask(NamedTuple):
    """For each tile of queries, the tiles of keys to visit: ``tiles`` (batches, heads, tiles, most), of which
    ``counts`` (batches, heads, tiles, 2) says how many are visible whole, which come first, and how many in part.
    Tiles have BM queries and BN keys. Batches and heads that are alike may share memory."""

    counts: Array
    tiles: Array
    BM: int
    BN: int


def block_mask(mask: Any, shape: tuple[int, int, int, int], arrays: tuple[Array, ...] = (), left: int = -1,
               right: int = -1, BM: int = 64, BN: int = 64, by_keys: bool = False,
               engine: str | None = None) -> BlockMask:
    """The block mask of a mask (None: of the window alone) for a ``shape`` (B, H, Sq, Sk); B and H may be 1 where
    sequences or heads have the same mask. ``by_keys`` lists, for each tile of keys, the tiles of queries, as the
    gradients of keys and values want."""
    import numpy as np

    batch, heads, sq, sk = shape
    kinds = np.zeros((batch, heads, -(-sq // BM), -(-sk // BN)), np.uint8)
    kernel = look_at_tiles.on(engine) if engine else look_at_tiles
    kernel(kinds, sq, sk, mask=mask, left=left, right=right, BM=BM, BN=BN, **variant_arrays(arrays))
    return listed(kinds.swapaxes(2, 3) if by_keys else kinds, BM, BN)


def listed(kinds: Array, BM: int, BN: int) -> BlockMask:
    """The lists of a map of tiles, as :func:`look_at_tiles` makes one."""
    import numpy as np

    counts = np.stack([(kinds == 2).sum(3), (kinds == 1).sum(3)], axis=3).astype(np.int32)
    most = max(1, int(counts.sum(3).max(initial=0)))
    order = np.argsort(-kinds.astype(np.int8), axis=3, kind="stable")[..., :most].astype(np.int32)
    if order.shape[3] < most:                                      # without keys
        order = np.zeros((*kinds.shape[:3], most), np.int32)
    return BlockMask(counts, np.ascontiguousarray(order), BM, BN)


def block_arguments(blocks: BlockMask, batch: int, heads: int) -> dict[str, Any]:
    """The arguments of a kernel that visits what a block mask says."""
    import numpy as np

    counts, tiles = (np.broadcast_to(x, (batch, heads, *x.shape[2:])) for x in (blocks.counts, blocks.tiles))
    return {"counts": counts, "tiles": tiles, "BM": blocks.BM, "BN": blocks.BN}
