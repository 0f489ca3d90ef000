"""Attention of few queries to a cache of many keys (Flash-Decoding): the keys are split among blocks of threads, and a
second kernel merges what each has made of its part.

Of split n there are an output and a log-sum-exp, as if there were no other keys. Together they are

    lse = ln Σₙ exp(lseₙ)        o = Σₙ exp(lseₙ − lse) oₙ

Query heads that share a key head are rows of one product. New keys and values are appended to the cache, turned by
their positions, by the block that attends to them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.arrays import FUNCTION, NONE, QUERIES, SINKS, TYPES, given
from kernels_zoo.attention.cache import (
    CACHED_KEYS,
    CACHED_VALUES,
    KEY_RANGES,
    SCALES,
    TABLE,
    VALUE_RANGES,
    Cache,
    append,
    numbers_of,
    scales_of,
    tile_of,
)
from kernels_zoo.attention.flash_attention import PLAIN
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.online_softmax import INFINITY, LN_2, LOG2_E, State, attend, begin, finish, with_sink
from kernels_zoo.attention.rotary import rotated
from kernels_zoo.attention.visits import Span, visible
from kernels_zoo.checking import Array, Case, report

SHAPES = [(1, 1, 1, 1, 1, 64), (2, 1, 129, 4, 2, 64), (1, 5, 128, 4, 2, 64), (1, 3, 191, 6, 2, 59), (0, 8, 8, 1, 1, 64),
          (1, 5, 0, 1, 1, 64)]
MOST_SPLITS = 128
"""Of a sequence's keys, as the merging kernel has registers for."""
NEAR_BYTES = 1 << 20
"""Of keys, what all heads read on a processor before they go on: their rows lie side by side in memory, so that pages
and what is fetched beside a row serve the next head."""
NEW = 16
"""New keys of a tile; half as many where they are longer than 512 bytes."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    NEW_KEYS = Any
    NEW_VALUES = Any
    PARTS = Any
    SUMS = Any
    OUTPUT = Any
    ANGLES = Any
else:
    NEW_KEYS = tl.f16["B", "Sn", "Hk", "D"] | tl.bf16["B", "Sn", "Hk", "D"] | tl.f32["B", "Sn", "Hk", "D"] | None
    NEW_VALUES = (tl.f16["B", "Sn", "Hk", "E or D"] | tl.bf16["B", "Sn", "Hk", "E or D"]
                  | tl.f32["B", "Sn", "Hk", "E or D"] | None)
    PARTS = (tl.f32["splits", "B", "Sq", "H", "E or D"] | tl.f16["splits", "B", "Sq", "H", "E or D"]
             | tl.bf16["splits", "B", "Sq", "H", "E or D"])
    SUMS = tl.f32["splits", "B", "H", "Sq"]
    OUTPUT = tl.f32["B", "Sq", "H", "E"] | tl.f16["B", "Sq", "H", "E"] | tl.bf16["B", "Sq", "H", "E"]
    ANGLES = tl.f32["positions", "pairs"] | None


@tl.jit
def attention_split(
    q: QUERIES, k: CACHED_KEYS, v: CACHED_VALUES, lengths: tl.i32["B"], o: PARTS, lse: SUMS,
    table: TABLE = None, k_scales: SCALES = None, v_scales: SCALES = None,
    k_new: NEW_KEYS = None, v_new: NEW_VALUES = None, cos: ANGLES = None, sin: ANGLES = None, sinks: SINKS = None,
    k_ranges: KEY_RANGES = None, v_ranges: VALUE_RANGES = None,
    a0: types[0] = None, a1: types[1] = None, a2: types[2] = None, types: TYPES = NONE,
    score: FUNCTION = None, mask: FUNCTION = None, D: int = 64, E: int = 0, Gk: int = 1, Gv: int = 1,
    page: int = 0, interleaved: bool = False, causal: bool = False, left: int = -1, right: int = -1, few: int = 16,
    BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 4,
) -> None:
    """Split n of all: ``o[n]`` and ``lse[n]``. ``page`` is the extent of a page, where there is a ``table``. Of rows
    that see no key of the split, the log-sum-exp is −inf, or +inf where there is one split only. ``few`` is how many
    rows there are for a key head, queries times heads, where there are less than 16."""
    E, right, arrays = E or D, 0 if causal else right, given(a0, a1, a2)
    BM = BM or (few if tl.target() == "cpu" else 16)
    BN = BN or keys_of_a_tile(max(D, E), q.dtype.bits, tl.target(), k_ranges is not None)
    B, Sq, H, _ = q.shape
    assert H % k.shape[2] == 0, "the heads of queries are not a multiple of those of keys"
    splits, group = o.shape[0], H // k.shape[2]
    tl.block(warps=warps)
    row_tiles = tl.cdiv(Sq * group, BM)
    hk, tile, b = tl.grid(k.shape[2], splits * row_tiles, B)
    split, row_tile = tile // row_tiles, tile % row_tiles
    cached = lengths[b]
    total = cached if k_new is None else cached + k_new.shape[1]
    shift = total - Sq
    scale = LOG2_E / D**0.5 if score is None else LOG2_E           # exp(x) is computed as exp2(x log₂ e)

    def place(row: tl.Tile) -> tuple[tl.Tile, tl.Tile]:
        """Query and head of rows of the tile: heads of the group are the inner rows."""
        row = row_tile * BM + row
        return row // group, hk * group + row % group

    def of_queries(row: tl.Tile, columns: tl.Tile) -> tl.Tile:
        i, h = place(row)
        return tl.gather(q[b, :, :, :], (i, h, columns), mask=i < Sq)

    i, h = place(tl.arange(BM)[:, None])
    if cos is None:
        x = of_queries(tl.arange(BM)[:, None], tl.arange(D)[None, :])
    else:
        x = rotated(BM, D, q.dtype, of_queries, lambda row: place(row)[0] + shift, cos, sin, interleaved)

    def step(state: State, j: tl.Tile, end: tl.Tile, keys: Any, values: Any, k_factors: Any, v_factors: Any) -> State:
        """Keys from ``j`` on, before ``end``; a row's elements are times a factor, or None."""
        def scores(s: tl.Tile) -> tl.Tile:
            at = j + tl.arange(s.shape[1])[None, :]
            if k_factors is not None:
                s = s * k_factors()[None, :]
            if score is not None:
                s = score(s * D**-0.5, b, h, i + shift, at, *arrays)
            others = (mask(b, h, i + shift, at, *arrays),) if mask is not None else ()
            seen = visible(Span(0, 0, left >= 0, right >= 0, True), i, at, end, shift, left, right, others)
            return tl.where(seen, s, -INFINITY)

        def weights(p: tl.Tile) -> tl.Tile:
            return p if v_factors is None else p * v_factors()[None, :]

        return attend(state, x, keys, values, scale, scores, weights)

    def loads(cache: Any, ranges: Any, extent: int, j: tl.Tile) -> Any:
        def load() -> tl.Tile:
            found = tile_of(cache, table, page, b, hk, j, cached, BN, extent)
            if ranges is not None:
                found = numbers_of(found, ranges, q.dtype, table, page, b, hk, j, cached)
            return found.to(q.dtype)

        return load

    def factors(scales: Any, j: tl.Tile) -> Any:
        return None if scales is None else lambda: scales_of(scales, table, page, b, hk, j, cached, BN)

    first = tl.maximum(shift - left, 0) // BN if left >= 0 else 0  # tiles before it no query sees
    tiles = tl.maximum(tl.cdiv(cached, BN) - first, 0)
    each = tl.cdiv(tiles, splits)
    start = first + tl.minimum(split * each, tiles)
    state = begin(BM, E)
    for n in tl.range(start, first + tl.minimum((split + 1) * each, tiles), stages=stages):
        j = n * BN
        state = step(state, j, cached, loads(k, k_ranges, D, j), loads(v, v_ranges, E, j), factors(k_scales, j),
                     factors(v_scales, j))

    new = NEW if max(D, E) * q.dtype.bits <= 4096 else NEW // 2

    def appended(j: tl.Tile) -> tuple[tl.Tile, tl.Tile]:
        """New keys and values from ``j`` on, which the first rows' block stores."""
        def of_keys(row: tl.Tile, columns: tl.Tile) -> tl.Tile:
            return tl.gather(k_new[b, :, hk, :], (j + row, columns))

        z = tl.load(v_new[b, :, hk, :], (j, 0), (new, E))
        if cos is None:
            y = tl.load(k_new[b, :, hk, :], (j, 0), (new, D))
        else:
            y = rotated(new, D, q.dtype, of_keys, lambda row: cached + j + row, cos, sin, interleaved)
        if row_tile == 0:
            append(k, k_scales, k_ranges, table, page, b, hk, cached + j, total, y)
            append(v, v_scales, v_ranges, table, page, b, hk, cached + j, total, z)
        return y, z

    if split == splits - 1:
        if k_new is not None:
            for j in tl.range(0, k_new.shape[1], new):
                y, z = appended(j)
                state = step(state, cached + j, total, always(y), always(z), None, None)
        if sinks is not None:
            state = with_sink(state, tl.gather(sinks, (h[:, 0],)), scale)
    out, sums = finish(state, scale, tl.where(splits == 1, INFINITY, -INFINITY))
    tl.scatter(o[split, b, :, :, :], (i, h, tl.arange(E)[None, :]), out.to(o.dtype), mask=i < Sq)
    tl.scatter(lse[split, b, :, :], (h, i), sums[:, None], mask=i < Sq)


@tl.jit
def attention_merge(parts: PARTS, sums: SUMS, o: OUTPUT, lse: tl.f32["B", "H", "Sq"], E: int = 64, BS: int = 8,
                    warps: int = 1) -> None:
    """The outputs and log-sum-exps of splits, as if of one; BS splits at a time."""
    splits = parts.shape[0]
    B, Sq, H, _ = o.shape
    tl.block(warps=warps)
    h, i, b = tl.grid(H, Sq, B)
    every = tl.load(sums[:, b, h, i], 0, MOST_SPLITS, other=-INFINITY)
    top = tl.max(every)
    seen = top > -INFINITY
    top = tl.where(seen, top, 0.0)
    total = tl.sum(tl.exp2((every - top) * LOG2_E, approximate=True))
    out = tl.zeros((E,), tl.f32)
    for n in tl.range(0, splits, BS):
        some = tl.load(sums[:, b, h, i], n, BS, other=-INFINITY)
        weights = tl.exp2((some - top) * LOG2_E, approximate=True)
        out = out + tl.sum(tl.load(parts[:, b, i, h, :], (n, 0), (BS, E)) * weights[:, None], axis=0)
    tl.store(o[b, i, h, :], 0, (out / tl.where(seen, total, 1.0)).to(o.dtype))
    lse[b, h, i] = tl.where(seen, top + tl.log2(total, approximate=True) * LN_2, INFINITY)


def keys_of_a_tile(D: int, bits: int, target: str, ranges: bool = False) -> int:
    """BN of :func:`attention_split`: what shared memory holds, and registers, where elements become numbers in them by
    the ranges of groups."""
    length = D * bits if target not in ("sm_70", "sm_75") and not ranges else 2 * D * bits
    return 64 if length <= 2048 or target == "cpu" else 32 if length <= 4096 else 16 if length <= 8192 else 8


def always(tile: tl.Tile) -> Callable[[], tl.Tile]:
    return lambda: tile


def splits_for(blocks: int, slots: int, tiles: int, spread: int = 0) -> int:
    """Into how many parts to split ``tiles`` of keys, where there are ``blocks`` of threads without that, of which
    ``slots`` run at once: the fewest whose last wave leaves almost as little idle as the best. On a processor,
    whose blocks run one after another, each has NEAR_BYTES of the ``spread`` bytes of keys."""
    if spread > NEAR_BYTES:
        return min(MOST_SPLITS, tiles, -(-spread // NEAR_BYTES))
    if blocks >= 0.8 * slots:
        return 1
    most = max(1, min(MOST_SPLITS, slots, tiles))
    found = [n for n in range(1, most + 1) if n == 1 or -(-tiles // n) != -(-tiles // (n - 1))]

    def efficiency(n: int) -> float:
        waves = blocks * n / slots
        return waves / -(-blocks * n // slots)

    best = max(map(efficiency, found))
    return next(n for n in found if efficiency(n) >= 0.85 * best)


class Rotary(NamedTuple):
    """Cosines and sines (positions, R / 2), f32, and whether pairs are neighbours."""

    cos: Array
    sin: Array
    interleaved: bool = False


def decode(q: Array, cache: Cache, form: Form = PLAIN, new: tuple[Array, Array] | None = None,
           rotary: Rotary | None = None, splits: int = 0, slots: int = 0, engine: str | None = None,
           **tiles: int) -> tuple[Array, Array]:
    """The output (B, Sq, H, E), in the type of ``q``, and the log-sum-exp of each row, (B, H, Sq), f32, of the last Sq
    queries of sequences.

    ``new`` are keys and values (B, Sn, Hk, D or E) that follow those of the cache. They are appended to it, and
    attended to as they are before they become 8 or 4 bits; ``lengths`` the caller increases. ``rotary`` turns queries
    and new keys. Of the form there are no dropout and offsets. ``splits`` 0 leaves their number to :func:`splits_for`,
    for ``slots`` blocks that run at once: by default the processors of this machine; twice a GPU's multiprocessors.
    """
    import numpy as np

    (batch, sq, h, _), e = q.shape, cache.values.shape[3]
    splits = splits or splits_of(q, cache, int(cache.lengths.max(initial=0)), slots, engine, **tiles)
    o, lse = np.empty((batch, sq, h, e), q.dtype), np.empty((batch, h, sq), np.float32)
    parts = (np.empty((splits, *o.shape), np.float32), np.empty((splits, *lse.shape), np.float32))
    if splits == 1:
        parts = (o[None], lse[None])
    attend_in_splits(q, cache, parts, form, new, rotary, engine, **tiles)
    if splits > 1:
        (attention_merge.on(engine) if engine else attention_merge)(*parts, o, lse, E=e)
    return o, lse


def splits_of(q: Array, cache: Cache, longest: int, slots: int = 0, engine: str | None = None, **tiles: int) -> int:
    """:func:`splits_for` of a call, where the longest sequence has so many keys."""
    (batch, sq, h, _), hk = q.shape, cache.keys.shape[2]
    blocks = batch * hk * -(-sq * (h // max(1, hk)) // tiles.get("BM", 16))
    row_bytes = cache.keys.nbytes // max(1, math.prod(cache.keys.shape[:3]))
    return splits_for(blocks, slots or os.cpu_count() or 1, -(-longest // tiles.get("BN", 64)),
                      longest * hk * row_bytes if engine in (None, "cpu") else 0)


def attend_in_splits(q: Array, cache: Cache, parts: tuple[Array, Array], form: Form = PLAIN,
                     new: tuple[Array, Array] | None = None, rotary: Rotary | None = None, engine: str | None = None,
                     **tiles: int) -> None:
    """What :func:`decode` merges: ``parts`` are the outputs (splits, B, Sq, H, E), and log-sum-exps
    (splits, B, H, Sq)."""
    (_, sq, h, d), hk, e = q.shape, cache.keys.shape[2], cache.values.shape[3]
    k_new, v_new = new or (None, None)
    cos, sin, interleaved = rotary or (None, None, False)
    groups = {name: ranges.shape[3] for name, ranges in (("Gk", cache.key_ranges), ("Gv", cache.value_ranges))
              if ranges is not None}
    constants = {"D": d, "E": e, **groups, "few": min(16, sq * (h // max(1, hk))), **tiles, **form.constants()}
    del constants["dropout"], constants["seed"]
    kernel = attention_split.on(engine) if engine else attention_split
    kernel(q, cache.keys, cache.values, cache.lengths, *parts, cache.table, cache.key_scales, cache.value_scales,
           k_new, v_new, cos, sin, form.sinks, cache.key_ranges, cache.value_ranges,
           page=cache.keys.shape[1] if cache.table is not None else 0, interleaved=interleaved, **constants)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """Of :func:`attention_split`, with one split; ``shape`` is (B, Sq, Sk, H, Hk, D)."""
    import numpy as np

    plain = flash_attention.case(shape, dtype, seed, causal)
    q, k, v, o, lse = plain.arguments
    lengths = np.full(shape[0], shape[2], np.int32)
    outputs = o[None], lse[None]
    few = min(16, max(1, shape[1] * shape[3] // shape[4]))
    return Case((q, k, v, lengths, *outputs), outputs, [x[None] for x in plain.references],
                {**plain.constants, "few": few}, plain.depth)


def main() -> None:
    report(attention_split, SHAPES, case)


if __name__ == "__main__":
    main()
