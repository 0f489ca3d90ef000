"""Caches of keys and values: one block of rows for each sequence, or pages of rows with a table of each sequence's;
elements as queries have them, or of 8 bits, with a scale for each row of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import tilus as tl
from kernels_zoo.checking import Array

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    CACHED_KEYS = Any
    CACHED_VALUES = Any
    SCALES = Any
    TABLE = Any
else:
    CACHED_KEYS = (tl.f16["blocks", "rows", "Hk", "D"] | tl.bf16["blocks", "rows", "Hk", "D"]
                   | tl.f32["blocks", "rows", "Hk", "D"] | tl.i8["blocks", "rows", "Hk", "D"]
                   | tl.f8e4m3fn["blocks", "rows", "Hk", "D"])
    CACHED_VALUES = (tl.f16["blocks", "rows", "Hk", "E or D"] | tl.bf16["blocks", "rows", "Hk", "E or D"]
                     | tl.f32["blocks", "rows", "Hk", "E or D"] | tl.i8["blocks", "rows", "Hk", "E or D"]
                     | tl.f8e4m3fn["blocks", "rows", "Hk", "E or D"])
    SCALES = tl.f32["blocks", "rows", "Hk"] | None
    TABLE = tl.i32["B", "pages"] | None


class Cache(NamedTuple):
    """Keys (blocks, rows, Hk, D) and values (blocks, rows, Hk, E) of sequences of ``lengths`` (B,), i32. Without a
    ``table`` block b is sequence b. With one, (B, pages), i32, row n of sequence b is row n % rows of the block
    ``table[b, n // rows]``. Scales (blocks, rows, Hk), f32, are what a row's i8 or f8e4m3fn elements are times."""

    keys: Array
    values: Array
    lengths: Array
    table: Array | None = None
    key_scales: Array | None = None
    value_scales: Array | None = None


def tile_of(cache: Any, table: Any, page: int, b: tl.Tile, hk: tl.Tile | int, j: tl.Tile, length: tl.Tile, BN: int,
            D: int) -> tl.Tile:
    """The rows from ``j`` on of a sequence, (BN, D); those from ``length`` on are 0, whatever the cache has there.
    ``page`` is the rows of a page, if there is a table."""
    if table is None:
        return tl.load(cache[b, :length, hk, :], (j, 0), (BN, D))
    if page % BN == 0:
        first = j // page * page
        return tl.load(cache[table[b, j // page], : length - first, hk, :], (j - first, 0), (BN, D))
    at = (j + tl.arange(BN))[:, None]
    block = tl.gather(table[b, :], (at // page,))
    return tl.gather(cache[:, :, hk, :], (block, at % page, tl.arange(D)[None, :]), mask=at < length)


def scales_of(scales: Any, table: Any, page: int, b: tl.Tile, hk: tl.Tile, j: tl.Tile, length: tl.Tile,
              BN: int) -> tl.Tile:
    """The scales of these rows, (BN,)."""
    at = j + tl.arange(BN)
    block = b if table is None else tl.gather(table[b, :], (at // page,))
    return tl.gather(scales[:, :, hk], (block, at % page if table is not None else at), mask=at < length)


def append(cache: Any, scales: Any, table: Any, page: int, b: tl.Tile, hk: tl.Tile, j: tl.Tile, total: tl.Tile,
           rows: tl.Tile) -> None:
    """Store rows of a sequence from ``j`` on, those before ``total``."""
    at, columns = (j + tl.arange(rows.shape[0]))[:, None], tl.arange(rows.shape[1])[None, :]
    block = b if table is None else tl.gather(table[b, :], (at // page,))
    row = at if table is None else at % page
    if scales is not None:
        rows, greatest = rows.to(tl.f32), 127.0 if cache.dtype is tl.i8 else 448.0
        scale = tl.maximum(tl.max(tl.abs(rows), axis=1), 1e-30)[:, None] * (1 / greatest)
        rows = rows / scale
        tl.scatter(scales[:, :, hk], (block, row), scale, mask=at < total)
        rows = tl.round(rows) if cache.dtype is tl.i8 else rows
    tl.scatter(cache[:, :, hk, :], (block, row, columns), rows.to(cache.dtype), mask=at < total)
