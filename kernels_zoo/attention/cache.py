"""Caches of keys and values: one block of rows for each sequence, or pages of rows with a table of each sequence's;
elements as queries have them, of 8 or 4 bits with a scale for each row of a head, or of 4 bits with a scale and a least
number for each group of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import tilus as tl
from kernels_zoo.checking import Array

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    CACHED_KEYS = Any
    CACHED_VALUES = Any
    SCALES = Any
    KEY_RANGES = Any
    VALUE_RANGES = Any
    TABLE = Any
else:
    CACHED_KEYS = (tl.f16["blocks", "rows", "Hk", "D"] | tl.bf16["blocks", "rows", "Hk", "D"]
                   | tl.f32["blocks", "rows", "Hk", "D"] | tl.i8["blocks", "rows", "Hk", "D"]
                   | tl.f8e4m3fn["blocks", "rows", "Hk", "D"] | tl.i4["blocks", "rows", "Hk", "D"]
                   | tl.u4["blocks", "rows", "Hk", "D"])
    CACHED_VALUES = (tl.f16["blocks", "rows", "Hk", "E or D"] | tl.bf16["blocks", "rows", "Hk", "E or D"]
                     | tl.f32["blocks", "rows", "Hk", "E or D"] | tl.i8["blocks", "rows", "Hk", "E or D"]
                     | tl.f8e4m3fn["blocks", "rows", "Hk", "E or D"] | tl.i4["blocks", "rows", "Hk", "E or D"]
                     | tl.u4["blocks", "rows", "Hk", "E or D"])
    SCALES = tl.f32["blocks", "rows", "Hk"] | None
    KEY_RANGES = tl.f16["blocks", "rows", "Hk", "Gk", 2] | tl.bf16["blocks", "rows", "Hk", "Gk", 2] | None
    VALUE_RANGES = tl.f16["blocks", "rows", "Hk", "Gv", 2] | tl.bf16["blocks", "rows", "Hk", "Gv", 2] | None
    TABLE = tl.i32["B", "pages"] | None
GREATEST = {tl.i8: 127.0, tl.f8e4m3fn: 448.0, tl.i4: 7.0}
"""What the greatest magnitude of a row becomes, where the row has a scale."""
LEAST_SCALE = 2.0**-14
"""Of groups of a row: the least normal number of f16."""


class Cache(NamedTuple):
    """Keys (blocks, rows, Hk, D) and values (blocks, rows, Hk, E) of sequences of ``lengths`` (B,), i32. Without a
    ``table`` block b is sequence b. With one, (B, pages), i32, row n of sequence b is row n % rows of the block
    ``table[b, n // rows]``. Scales (blocks, rows, Hk), f32, are what a row's i8, f8e4m3fn or i4 elements are times.
    Elements of u4 have ranges (blocks, rows, Hk, groups, 2), f16 or bf16, instead: a scale and the least number of each
    group of a row, so that an element is code scale + least, rounded once to the type of the queries."""

    keys: Array
    values: Array
    lengths: Array
    table: Array | None = None
    key_scales: Array | None = None
    value_scales: Array | None = None
    key_ranges: Array | None = None
    value_ranges: Array | None = None


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


def numbers_of(codes: tl.Tile, ranges: Any, dtype: tl.DType, table: Any, page: int, b: tl.Tile, hk: tl.Tile,
               j: tl.Tile, length: tl.Tile) -> tl.Tile:
    """What the codes (BN, D) of these rows stand for."""
    BN, D = codes.shape
    G = ranges.shape[3]
    assert D % G == 0, "the groups of a row have the same size"
    kind = dtype if ranges.dtype == dtype else tl.f32  # in which scales and least numbers are exact
    at = j + tl.arange(BN)[:, None]
    block = b if table is None else tl.gather(table[b, :], (at // page,))
    index = (block, at % page if table is not None else at, tl.arange(G)[None, :])
    scale, least = (tl.gather(ranges[:, :, hk, :, n], index, mask=at < length).to(kind).reshape(BN, G, 1)
                    for n in range(2))
    return tl.fma(codes.to(kind).reshape(BN, G, D // G), scale, least).reshape(BN, D).to(dtype)


def append(cache: Any, scales: Any, ranges: Any, table: Any, page: int, b: tl.Tile, hk: tl.Tile, j: tl.Tile,
           total: tl.Tile, rows: tl.Tile) -> None:
    """Store rows of a sequence from ``j`` on, those before ``total``."""
    at, columns = (j + tl.arange(rows.shape[0]))[:, None], tl.arange(rows.shape[1])[None, :]
    block = b if table is None else tl.gather(table[b, :], (at // page,))
    row = at if table is None else at % page
    if scales is not None:
        rows = rows.to(tl.f32)
        scale = tl.maximum(tl.max(tl.abs(rows), axis=1), 1e-30)[:, None] * (1 / GREATEST[cache.dtype])
        rows = rows / scale
        tl.scatter(scales[:, :, hk], (block, row), scale, mask=at < total)
        rows = tl.round(rows) if cache.dtype.is_int else rows
    if ranges is not None:
        rows, *made = in_groups(rows, cache.dtype, ranges)
        for n, part in enumerate(made):
            tl.scatter(ranges[:, :, hk, :, n], (block, row, tl.arange(ranges.shape[3])[None, :]), part, mask=at < total)
    tl.scatter(cache[:, :, hk, :], (block, row, columns), rows.to(cache.dtype), mask=at < total)


def in_groups(rows: tl.Tile, dtype: tl.DType, ranges: Any) -> tuple[tl.Tile, tl.Tile, tl.Tile]:
    """Codes (rows, D), f32, and scales and least numbers (rows, G) of rows."""
    (R, D), G = rows.shape, ranges.shape[3]
    groups, steps = rows.to(tl.f32).reshape(R, G, D // G), dtype.max_value
    least, most = tl.min(groups, axis=2, keepdims=True), tl.max(groups, axis=2, keepdims=True)
    scale = tl.maximum((most - least) * (1 / steps), LEAST_SCALE).to(ranges.dtype)
    least = least.to(ranges.dtype)
    codes = tl.clamp(tl.round((groups - least.to(tl.f32)) / scale.to(tl.f32)), 0.0, float(steps))
    return codes.reshape(R, D), scale.reshape(R, G), least.reshape(R, G)
