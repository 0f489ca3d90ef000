"""FlashAttention-2, forward (Dao, 2023): softmax(q kᵀ / √D) v without the S×S matrix, and the log-sum-exp of each row.

Arrays are (batch, sequence, heads, D). There may be fewer key heads than query heads (each serves a group of them). The
causal mask is aligned at the bottom right: query i sees keys up to i + Sk − Sq. A row that sees no key gives 0, and
+inf for its log-sum-exp. The other forms are those of :class:`kernels_zoo.attention.forms.Form`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tilus as tl
from kernels_zoo.attention.arrays import (
    COUNTS,
    FUNCTION,
    KEYS,
    LENGTH,
    NONE,
    OFFSETS,
    OUTPUTS,
    QUERIES,
    ROWS,
    SEED,
    SINKS,
    TILES,
    TYPES,
    VALUES,
    given,
    numbers,
    sequence,
)
from kernels_zoo.attention.dropout import kept
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.online_softmax import INFINITY, LOG2_E, State, attend, begin, finish, with_sink
from kernels_zoo.attention.tiles import uneven
from kernels_zoo.attention.visits import BlockMask, Span, band, block_arguments, visible
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = [(1, 1, 1, 1, 1, 64), (2, 127, 129, 2, 1, 64), (1, 128, 128, 4, 2, 64), (1, 65, 191, 2, 2, 59),
          (0, 8, 8, 1, 1, 64), (1, 5, 0, 1, 1, 64)]
PLAIN = Form()
ROOMY = ("sm_80", "sm_90", "sm_90a", "sm_100", "sm_100a")
"""Targets with 163 KB of shared memory a block or more; others have 99 KB or less."""


@tl.jit
def flash_attention_forward(
    q: QUERIES, k: KEYS, v: VALUES, o: OUTPUTS, lse: ROWS,
    sinks: SINKS = None, q_offsets: OFFSETS = None, k_offsets: OFFSETS = None, longest: LENGTH = None,
    counts: COUNTS = None, tiles: TILES = None, seed: SEED = None,
    a0: types[0] = None, a1: types[1] = None, a2: types[2] = None, types: TYPES = NONE,
    score: FUNCTION = None, mask: FUNCTION = None, D: int = 64, E: int = 0, causal: bool = False,
    left: int = -1, right: int = -1, dropout: float = 0.0, BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 0,
) -> None:
    """All forms of :class:`forms.Form`; ``counts`` and ``tiles`` are a block mask's. ``longest`` is the longest of the
    sequences between two of ``q_offsets``. E is the extent of values where that is not D."""
    E, right, arrays = E or D, 0 if causal else right, given(a0, a1, a2)
    tile_of = forward_tile(max(D, E), q.dtype, tl.target(), causal)
    BM, BN, warps = BM or tile_of[0], BN or tile_of[1], warps or tile_of[2]
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    assert H % Hk == 0, "the heads of queries are not a multiple of those of keys"
    tl.block(warps=warps)
    if q_offsets is None:
        tile, h, b = tl.grid(tl.cdiv(Sq, BM), H, B)
    else:
        tile, h, b = tl.grid(tl.cdiv(longest, BM), H, q_offsets.shape[0] - 1)
        Sq, Sk = q_offsets[b + 1] - q_offsets[b], k_offsets[b + 1] - k_offsets[b]
    queries = sequence(q, b, h, q_offsets)
    keys, values = (sequence(x, b, h // (H // Hk), k_offsets) for x in (k, v))
    start, shift = tile * BM, Sk - Sq
    scale = LOG2_E / D**0.5 if score is None else LOG2_E           # exp(x) is computed as exp2(x log₂ e)
    rows = (start + tl.arange(BM))[:, None]
    x = tl.load(queries, (start, 0), (BM, D))
    state = begin(BM, E)

    def step(state: State, j: tl.Tile, span: Span, part: bool) -> State:
        """The tile of keys from ``j`` on; ``part``: the mask may hide some of it."""
        columns = j + tl.arange(BN)[None, :]

        def scores(s: tl.Tile) -> tl.Tile:
            if score is not None:
                s = score(s * D**-0.5, b, h, rows + shift, columns, *arrays)
            others = (mask(b, h, rows + shift, columns, *arrays),) if part and mask is not None else ()
            if span.inner is not None and not others:
                if span.cuts(j, BN):
                    s = tl.where(visible(span, rows, columns, Sk, shift, left, right), s, -INFINITY)
                return s
            seen = visible(span, rows, columns, Sk, shift, left, right, others)
            return s if seen is None else tl.where(seen, s, -INFINITY)

        def weights(p: tl.Tile) -> tl.Tile:
            return p if dropout == 0.0 else tl.where(kept(dropout, seed, b, b * H + h, rows, columns), p, 0.0)

        return attend(state, x, lambda: tl.load(keys, (j, 0), (BN, D)), lambda: tl.load(values, (j, 0), (BN, E)), scale,
                      scores, weights)

    if tiles is None:
        extent = Sk if q_offsets is None else tl.where(start < Sq, Sk, 0)
        for span in band(start, BM, extent, BN, shift, left, right):
            for j in tl.range(span.begin, span.end, BN, stages=stages):
                state = step(state, j, span, True)
    else:
        whole, some = counts[b, h, tile, 0], counts[b, h, tile, 1]
        for n in tl.range(0, whole, stages=stages):
            state = step(state, tiles[b, h, tile, n] * BN, Span(0, Sk, False, False, False), False)
        for n in tl.range(whole, whole + some, stages=stages):
            state = step(state, tiles[b, h, tile, n] * BN, Span(0, Sk, left >= 0, right >= 0, True), True)

    if sinks is not None:
        state = with_sink(state, sinks[h], scale)
    out, sums = finish(state, scale)
    if dropout != 0.0:
        out = out * (1 / (1 - dropout))
    tl.store(sequence(o, b, h, q_offsets), (start, 0), out.to(o.dtype))
    tl.store(numbers(lse, b, h, q_offsets), start, sums)


def forward_tile(D: int, dtype: tl.DType, target: str, causal: bool = False) -> tuple[int, int, int]:
    """BM, BN and warps of :func:`flash_attention_forward`: what registers and shared memory hold. Without asynchronous
    copies the next tiles are in registers, and shared memory is small; of bf16 it then holds f32, which is multiplied.
    On the CPU causal masks leave less to compute in vain in tiles with fewer queries.
    """
    bits = dtype.bits
    if target == "cpu":
        return (64, 64, 4) if causal else (128, 128, 4)
    if target == "ascend910b":
        return (128, 256, 4) if D <= 128 and bits <= 16 else (64, 128, 4) if D <= 128 or bits <= 16 else (32, 64, 4)
    if target in ("sm_70", "sm_75"):
        if bits > 16:
            return (64, 32, 4) if D <= 64 else (32, 16, 4) if D <= 128 else (16, 8, 4)
        few = target == "sm_70" or dtype is tl.bf16
        return (64, 64, 4) if D <= 64 else (64, 32 if few else 64, 4) if D <= 128 else (32, 16, 4)
    if bits > 16:
        return (128, 32, 4) if D <= 64 else (64, 16, 4) if D <= 128 else (16, 16, 4)
    if D <= 128:
        return (128, 64, 4) if D <= 64 else (64, 64, 4)
    return 64, 64 if target in ROOMY and not uneven(D, bits, target) else 32, 8


def flash_attention(q: Array, k: Array, v: Array, form: Form = PLAIN, blocks: BlockMask | None = None,
                    engine: str | None = None, **tiles: int) -> tuple[Array, Array]:
    """The output (B, Sq, H, E), in the type of ``q``, and the log-sum-exp of each row, (B, H, Sq), f32.

    ``q`` is (B, Sq, H, D), ``k`` (B, Sk, Hk, D), ``v`` (B, Sk, Hk, E), all of f16, bf16 or f32. ``blocks`` is the block
    mask of the form's mask and window, from :func:`visits.block_mask`; it says which tiles are visited, and their size.
    ``engine`` is where to compute, as in ``kernel.on(engine)``; ``tiles`` are BM, BN, stages and warps.
    """
    import numpy as np

    batch, sq, h, d = q.shape
    o, lse = np.empty((batch, sq, h, v.shape[3]), q.dtype), np.empty((batch, h, sq), np.float32)
    lists = block_arguments(blocks, batch, h) if blocks is not None else {}
    kernel = flash_attention_forward.on(engine) if engine else flash_attention_forward
    kernel(q, k, v, o, lse, sinks=form.sinks, D=d, E=v.shape[3], **form.constants(), **form.lengths(), **lists, **tiles)
    return o, lse


def reference(q: Array, k: Array, v: Array, causal: bool = False, seen: Array | None = None,
              edit: Callable[[Array], Array] | None = None, sinks: Array | None = None,
              weights: Array | None = None) -> tuple[Array, Array]:
    """Output (B, Sq, H, E) and log-sum-exp (B, H, Sq) by the definition, in the arrays' type. ``seen`` says which
    queries see which keys, (B, H, Sq, Sk) or what broadcasts to that, ``edit`` changes the scores, and ``weights`` are
    factors of the softmax's results, as dropout's."""
    import numpy as np

    (_, sq, h, d), (_, sk, hk, _) = q.shape, k.shape
    k, v = np.repeat(k, h // hk, axis=2), np.repeat(v, h // hk, axis=2)
    s = np.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(d)
    if edit is not None:
        s = edit(s)
    if causal:
        s = np.where(np.arange(sk)[None, :] <= np.arange(sq)[:, None] + sk - sq, s, -np.inf)
    if seen is not None:
        s = np.where(seen, s, -np.inf)
    top = np.max(s, axis=3, keepdims=True, initial=-np.inf)
    if sinks is not None:
        top = np.maximum(top, sinks[:, None, None])
    top = np.where(np.isfinite(top), top, 0.0)
    e = np.exp(s - top)
    total = e.sum(axis=3, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks[:, None, None] - top)
    nonzero = total > 0
    p = e / np.where(nonzero, total, 1.0) * (1.0 if weights is None else weights)
    with np.errstate(divide="ignore"):
        lse = np.where(nonzero, top + np.log(total), np.inf)[..., 0]
    return np.einsum("bhqk,bkhd->bqhd", p, v), lse


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """``shape`` is (B, Sq, Sk, H, Hk, D)."""
    import numpy as np

    batch, sq, sk, h, hk, d = shape
    rng = np.random.default_rng(seed)
    q = normal(rng, (batch, sq, h, d), dtype)
    k, v = (normal(rng, (batch, sk, hk, d), dtype) for _ in range(2))
    o, lse = empty(q.shape, dtype), empty((batch, h, sq), tl.f32)
    out, sums = reference(wide(q), wide(k), wide(v), causal)
    constants: dict[str, Any] = {"D": d, "causal": causal}
    return Case((q, k, v, o, lse), (o, lse), (out, sums), constants, depth=sk)


def main() -> None:
    report(flash_attention_forward, SHAPES, case)
    report(flash_attention_forward, SHAPES, lambda shape: case(shape, causal=True))


if __name__ == "__main__":
    main()
