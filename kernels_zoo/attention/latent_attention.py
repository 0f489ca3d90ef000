"""Multi-head latent attention (DeepSeek-AI, 2024), decoding: of a token, one short vector is cached for all heads.

That is a latent vector c of L numbers, of which head h makes its key W_UK c and its value W_UV c, and a part r of R
numbers that all keys share and that carries their positions. A query has such parts too, q_nope and q_rope:

    s = (q_nope · W_UK c + q_rope · r) scale = (W_UKᵀ q_nope · c + q_rope · r) scale        scale = 1 / √(D + R)
    o = Σ p W_UV c = W_UV Σ p c

By the right sides nothing is made of the cached vectors ("absorbed"): attention of all heads is to one key head of
L + R elements, the first L of which are its values. A tile of the cache is loaded once and used in both products.
Keys are split among blocks of threads, and merged, as :mod:`decoding` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.cache import TABLE, tile_of
from kernels_zoo.attention.decoding import attention_merge, splits_for
from kernels_zoo.attention.flash_attention import ROOMY
from kernels_zoo.attention.flash_attention_backward import held
from kernels_zoo.attention.online_softmax import INFINITY, LOG2_E, State, attend, begin, finish
from kernels_zoo.attention.visits import Span, visible
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.gemm.batched_matmul import batched_matmul

SHAPES = [(1, 1, 1, 1, 64, 16), (2, 1, 129, 5, 64, 16), (1, 3, 131, 4, 59, 24), (2, 2, 67, 17, 128, 64),
          (1, 1, 70, 16, 512, 64), (0, 1, 8, 1, 64, 16), (1, 2, 0, 3, 64, 16)]
MOST_ROWS = 32
"""Of a tile."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    LATENT = Any
    ROPE = Any
    LATENTS = Any
    ROPES = Any
    PARTS = Any
    SUMS = Any
else:
    LATENT = tl.f16["B", "M", "L"] | tl.bf16["B", "M", "L"] | tl.f32["B", "M", "L"]
    ROPE = tl.f16["B", "M", "R"] | tl.bf16["B", "M", "R"] | tl.f32["B", "M", "R"]
    LATENTS = (tl.f16["blocks", "rows", 1, "L"] | tl.bf16["blocks", "rows", 1, "L"] | tl.f32["blocks", "rows", 1, "L"])
    ROPES = (tl.f16["blocks", "rows", 1, "R"] | tl.bf16["blocks", "rows", 1, "R"] | tl.f32["blocks", "rows", 1, "R"])
    PARTS = (tl.f32["splits", "B", "M", "L"] | tl.f16["splits", "B", "M", "L"] | tl.bf16["splits", "B", "M", "L"])
    SUMS = tl.f32["splits", "B", "M"]


@tl.jit
def latent_attention_split(
    q: LATENT, q_rope: ROPE, c: LATENTS, rope: ROPES, lengths: tl.i32["B"], o: PARTS, lse: SUMS, heads: tl.i32,
    table: TABLE = None, L: int = 512, R: int = 64, scale: float = 192**-0.5, page: int = 0, causal: bool = False,
    few: int = MOST_ROWS, BM: int = 0, BN: int = 0, stages: int = 0, warps: int = 0,
) -> None:
    """Split n of all: ``o[n]`` and ``lse[n]`` of rows that are queries times ``heads``, heads the inner ones. ``page``
    is the extent of a page, where there is a ``table``. ``few`` is how many rows there are, up to MOST_ROWS. Of rows
    that see no key of the split, the log-sum-exp is −inf, or +inf where there is one split only."""
    chosen = latent_tile(few, q.dtype, tl.target())
    BM, BN, warps, stages = (given or default for given, default in zip((BM, BN, warps, stages), chosen, strict=True))
    B, M, _ = q.shape
    splits = o.shape[0]
    tl.block(warps=warps)
    row_tiles = tl.cdiv(M, BM)
    tile, b = tl.grid(splits * row_tiles, B)
    split, start = tile // row_tiles, tile % row_tiles * BM
    length, queries = lengths[b], M // heads
    i = (start + tl.arange(BM)[:, None]) // heads                  # which of the sequence's last queries
    x, x_rope = (held(tl.load(a[b, :, :], (start, 0), (BM, a.shape[2]))) for a in (q, q_rope))

    def step(state: State, j: tl.Tile) -> State:
        latents, ropes = (tile_of(a, table, page, b, 0, j, length, BN, D) for a, D in ((c, L), (rope, R)))

        def scores(s: tl.Tile) -> tl.Tile:
            s = tl.dot(x_rope(), ropes.T, s)
            seen = visible(Span(0, 0, False, causal, True), i, j + tl.arange(BN)[None, :], length, length - queries,
                           -1, 0)
            return tl.where(seen, s, -INFINITY)

        return attend(state, x(), lambda: latents, lambda: latents, LOG2_E * scale, scores)

    tiles = tl.cdiv(length, BN)
    each = tl.cdiv(tiles, splits)
    state = begin(BM, L)
    for n in tl.range(tl.minimum(split * each, tiles), tl.minimum((split + 1) * each, tiles), stages=stages):
        state = step(state, n * BN)
    out, sums = finish(state, LOG2_E * scale, tl.where(splits == 1, INFINITY, -INFINITY))
    tl.store(o[split, b, :, :], (start, 0), out.to(o.dtype))
    tl.store(lse[split, b, :], start, sums)


def latent_tile(rows: int, dtype: tl.DType, target: str) -> tuple[int, int, int, int]:
    """BM, BN, warps and stages of :func:`latent_attention_split`: what registers and shared memory hold of 512 + 64
    elements. Without products of bf16 shared memory holds f32 as well, which is multiplied."""
    if target == "cpu":
        return rows, 64, 4, 2
    if dtype.bits > 16:
        return 16, 8, 4, 1 if target == "sm_75" else 2
    if target in ("sm_70", "sm_75"):
        return 16, 16, 4, 1 if dtype is tl.bf16 else 2
    return (32, 32, 8, 2) if rows > 16 and target in ROOMY else (16, 32, 4, 2)


class LatentCache(NamedTuple):
    """Latent vectors (blocks, rows, L) and what positions turn of keys (blocks, rows, R), of sequences of ``lengths``
    (B,), i32: two arrays, or parts of one. The ``table`` is that of a :class:`cache.Cache`."""

    latents: Array
    ropes: Array
    lengths: Array
    table: Array | None = None


def latent_attention(q: Array, q_rope: Array, cache: LatentCache, scale: float, causal: bool = False, splits: int = 0,
                     slots: int = 0, engine: str | None = None, **tiles: int) -> tuple[Array, Array]:
    """The output in the latent space, (B, Sq, H, L), in the type of ``q``, and the log-sum-exp of each row, (B, H, Sq),
    f32, of the last Sq queries of sequences: ``q`` (B, Sq, H, L), in the latent space, and ``q_rope`` (B, Sq, H, R).
    With ``causal`` they see keys up to their own position. ``splits`` and ``slots`` are those of
    :func:`decoding.decode`; ``tiles`` are BM, BN, stages and warps."""
    import numpy as np

    (batch, sq, h, n), r, rows = q.shape, q_rope.shape[3], q.shape[1] * q.shape[2]
    longest = int(cache.lengths.max(initial=0))
    blocks = batch * -(-rows // tiles.get("BM", few_rows(rows)))
    splits = splits or splits_for(blocks, slots or os.cpu_count() or 1, -(-longest // tiles.get("BN", 64)))
    o, sums = np.empty(q.shape, q.dtype), np.empty((batch, sq, h), np.float32)
    parts: tuple[Array, Array] = (o[None], sums[None])
    if splits > 1:
        parts = (np.empty((splits, *o.shape), np.float32), np.empty((splits, *sums.shape), np.float32))
    kernel, merge = (x.on(engine) if engine else x for x in (latent_attention_split, attention_merge))
    kernel(q.reshape(batch, rows, n), q_rope.reshape(batch, rows, r), cache.latents[:, :, None],
           cache.ropes[:, :, None], cache.lengths, parts[0].reshape(splits, batch, rows, n),
           parts[1].reshape(splits, batch, rows), h, cache.table, L=n, R=r,
           scale=scale, page=cache.latents.shape[1] if cache.table is not None else 0,
           causal=causal, few=few_rows(rows), **tiles)
    lse: Array = sums.swapaxes(1, 2)
    if splits > 1:
        merge(parts[0], parts[1].swapaxes(2, 3), o, lse, E=n)
    return o, lse


def few_rows(rows: int) -> int:
    return min(MOST_ROWS, max(1, rows))


def latent_decode(q_nope: Array, q_rope: Array, w_uk: Array, w_uv: Array, cache: LatentCache, scale: float = 0.0,
                  engine: str | None = None, **options: Any) -> tuple[Array, Array]:
    """The output (B, Sq, H, E) and the log-sum-exp (B, H, Sq), f32, of queries ``q_nope`` (B, Sq, H, D) and ``q_rope``
    (B, Sq, H, R), with the weights ``w_uk`` (H, D, L) and ``w_uv`` (H, E, L) that make keys and values of latent
    vectors. ``scale`` is 1 / √(D + R) where it is 0. The options are those of :func:`latent_attention`."""
    import numpy as np

    batch, sq, h, d = q_nope.shape
    product = batched_matmul.on(engine) if engine else batched_matmul

    def of_heads(x: Array) -> Any:
        """(B, Sq, H, …) as a batch of products."""
        return x.reshape(batch * sq, h, x.shape[3]).swapaxes(0, 1)

    q, o = (np.empty((batch, sq, h, n), q_nope.dtype) for n in (w_uk.shape[2], w_uv.shape[1]))
    product(of_heads(q_nope), w_uk, of_heads(q))
    latent, lse = latent_attention(q, q_rope, cache, scale or (d + q_rope.shape[3])**-0.5, engine=engine, **options)
    product(of_heads(latent), w_uv.swapaxes(1, 2), of_heads(o))
    return o, lse


def reference(q_nope: Array, q_rope: Array, w_uk: Array, w_uv: Array, latents: Array, ropes: Array,
              causal: bool = False) -> tuple[Array, Array]:
    """The output and the log-sum-exp as the definition has them, not absorbed: with the keys and values of each head,
    for latent vectors (B, Sk, L) of sequences, in the arrays' type."""
    import numpy as np

    keys, values = (np.einsum("hdl,bsl->bshd", w, latents) for w in (w_uk, w_uv))
    shared = np.broadcast_to(ropes[:, :, None], (*keys.shape[:3], ropes.shape[2]))
    q, k = np.concatenate([q_nope, q_rope], 3), np.concatenate([keys, shared], 3)
    return flash_attention.reference(q, k, values, causal)


def operands(shape: tuple[int, ...], dtype: tl.DType, seed: int) -> tuple[Array, ...]:
    """q, q_rope, latents and ropes of a ``shape`` (B, Sq, Sk, H, L, R)."""
    import numpy as np

    batch, sq, sk, h, n, r = shape
    rng = np.random.default_rng(seed)
    q, q_rope = (normal(rng, (batch, sq, h, x), dtype) for x in (n, r))
    latents, ropes = (normal(rng, (batch, sk, x), dtype) for x in (n, r))
    return q, q_rope, latents, ropes


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """Of :func:`latent_attention_split`, with one split; ``shape`` is (B, Sq, Sk, H, L, R)."""
    import numpy as np

    batch, sq, sk, h, n, r = shape
    q, q_rope, latents, ropes = operands(shape, dtype, seed)
    x, y = (np.concatenate(list(map(wide, pair)), -1) for pair in ((q, q_rope), (latents, ropes)))
    out, sums = flash_attention.reference(x, y[:, :, None], wide(latents)[:, :, None], causal)
    outputs = empty((1, batch, sq * h, n), dtype), empty((1, batch, sq * h), tl.f32)
    arguments = (q.reshape(batch, sq * h, n), q_rope.reshape(batch, sq * h, r), latents[:, :, None], ropes[:, :, None],
                 np.full(batch, sk, np.int32), *outputs, h)
    references = out.reshape(outputs[0].shape), sums.swapaxes(1, 2).reshape(outputs[1].shape)
    constants = {"L": n, "R": r, "scale": (n + r)**-0.5, "causal": causal, "few": few_rows(sq * h)}
    return Case(arguments, outputs, references, constants, depth=sk)


def main() -> None:
    report(latent_attention_split, SHAPES, case)
    report(latent_attention_split, SHAPES, lambda shape: case(shape, causal=True))


if __name__ == "__main__":
    main()
