"""FlashAttention-2, backward (Dao, 2023): the gradients of softmax(q kᵀ / √D) v without the S×S matrices.

With P = exp(q kᵀ / √D − lse), Δ = rowsum(dO ⊙ O) and dS = P ⊙ (dO vᵀ − Δ), the gradients are dv = Pᵀ dO,
dk = dSᵀ q / √D and dq = dS k / √D. One kernel computes dk and dv, a block per tile of keys, one dq, a block per tile
of queries: each gradient is summed by one block, in one order, so that the result is the same from run to run. A key
head that serves a group of query heads sums over them in its block. One kernel does it all, and the scores are not
computed again, where each tile of keys adds its part to dq: by atomics where the order of sums is free, or in order
where one block has all keys of a head, as on a CPU.

Arrays are (batch, sequence, heads, D), as in the forward pass, whose ``lse`` (B, H, Sq) says what each row was divided
by. Rows that see no key (lse = +inf) have P = 0. A score function multiplies dS by its derivative; dropout thins P for
dv, and dO vᵀ by the same weights. Tiles that a query does not see are passed over, as in the forward pass.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import tilus as tl
from kernels_zoo.attention import flash_attention
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
    SUMS,
    TILES,
    TYPES,
    VALUES,
    given,
    numbers,
    sequence,
)
from kernels_zoo.attention.dropout import kept
from kernels_zoo.attention.flash_attention import PLAIN
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.online_softmax import INFINITY, LOG2_E
from kernels_zoo.attention.tiles import fitted, row_bytes, uneven, widened_bytes
from kernels_zoo.attention.visits import BlockMask, Span, band, block_arguments, visible
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from tilus.targets import get_target

SHAPES = [(1, 1, 2, 1, 1, 64), *flash_attention.SHAPES[1:]]           # of one key, dk is 0 but for rounding
IN_REGISTERS = 64
"""Elements of rows that are held in registers."""
BOTH_SUMS = 128
"""Elements of rows of which registers hold the sums of dk and dv."""
Gradients = tuple[tl.Tile, tl.Tile]


@tl.jit
def attention_delta(o: QUERIES, do: QUERIES, lse: ROWS, delta: ROWS, lse2: ROWS,
                    D: int = 64, BM: int = 64, warps: int = 4) -> None:
    """Δ = rowsum(dO ⊙ O), what the softmax takes off each element of a row's gradient, and lse to base 2."""
    B, Sq, H, _ = o.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(Sq, BM), H, B)
    start = tile * BM
    out, gradient = (tl.load(x[b, :, h, :], (start, 0), (BM, D)).to(tl.f32) for x in (o, do))
    tl.store(delta[b, h, :], start, tl.sum(out * gradient, axis=1))
    tl.store(lse2[b, h, :], start, tl.load(lse[b, h, :], start, BM) * LOG2_E)


@tl.jit
def attention_backward_keys(
    q: QUERIES, k: KEYS, v: VALUES, do: OUTPUTS, lse2: ROWS, delta: ROWS, dk: KEYS | None, dv: VALUES | None,
    q_offsets: OFFSETS = None, k_offsets: OFFSETS = None, longest: LENGTH = None, counts: COUNTS = None,
    tiles: TILES = None, seed: SEED = None, dq: SUMS = None, a0: types[0] = None, a1: types[1] = None,
    a2: types[2] = None, types: TYPES = NONE, score: FUNCTION = None, mask: FUNCTION = None, D: int = 64, E: int = 0,
    causal: bool = False, left: int = -1, right: int = -1, dropout: float = 0.0, group: int = 0, ordered: bool = False,
    BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 0,
) -> None:
    """dk and dv. All products are transposed, keys by queries: Pᵀ and dSᵀ are then first operands of the next ones
    in the registers that they were computed in. ``group`` is H // Hk where that is known. One of dk and dv may be None:
    where rows are long, registers hold the sums of one. To ``dq``, if given, the gradients of queries are added: by
    atomics, or ``ordered``, where one block goes over all tiles of a head's keys. ``counts`` and ``tiles`` list queries
    by keys."""
    E, right, arrays = E or D, 0 if causal else right, given(a0, a1, a2)
    tile_of = keys_tile(max(D, E), q.dtype, tl.target(), dk is not None, dq is not None, ordered, stages)
    BM, BN, warps = BM or tile_of[0], BN or tile_of[1], warps or tile_of[2]
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    assert H % Hk == 0, "the heads of queries are not a multiple of those of keys"
    tl.block(warps=warps)
    batches, most = (B, Sk) if k_offsets is None else (k_offsets.shape[0] - 1, longest)

    def gradients_of(tile: tl.Tile, hk: tl.Tile, b: tl.Tile, Sq: tl.Tile, Sk: tl.Tile) -> None:
        if k_offsets is not None:
            Sq, Sk = q_offsets[b + 1] - q_offsets[b], k_offsets[b + 1] - k_offsets[b]
        start, shift = tile * BN, Sk - Sq
        keys = held(tl.load(sequence(k, b, hk, k_offsets), (start, 0), (BN, D)))
        minus_values = held(-tl.load(sequence(v, b, hk, k_offsets), (start, 0), (BN, E)))
        columns = (start + tl.arange(BN))[:, None]
        gk, gv = tl.zeros((BN, D), tl.f32), tl.zeros((BN, E), tl.f32)

        def step(gradients: Gradients, h: tl.Tile, head: tuple[tl.View, ...], i: tl.Tile, span: Span,
                 part: bool) -> Gradients:
            gk, gv = gradients
            queries, outputs, row_sums, deltas = head
            rows = (i + tl.arange(BM))[None, :]
            x, d = tl.load(queries, (i, 0), (BM, D)), tl.load(deltas, i, BM)
            sums = tl.load(row_sums, i, BM, other=None if score is None else INFINITY)
            place = b, h, rows + shift, columns, *arrays
            p, slope = probabilities(tl.dot(keys(), x.T), sums[None, :], D, score, place)
            others = (mask(*place),) if part and mask is not None else ()
            seen = visible(span, columns, rows, None, -shift, right, left, others)
            p = p if seen is None else tl.where(seen, p, 0.0)
            left_in = None if dropout == 0.0 else kept(dropout, seed, b, b * H + h, rows, columns)
            y = tl.load(outputs, (i, 0), (BM, E))
            if dv is not None:
                gv = tl.dot(thinned(p, left_in, dropout).to(do.dtype), y, gv)
            if dk is not None:
                minus_ds = minus_gradient(p, slope, minus_values(), y.T, tl.broadcast_to(d[None, :], (BN, BM)), left_in,
                                          dropout).to(q.dtype)
                gk = tl.dot(minus_ds, x, gk)
                if dq is not None:
                    add(sequence(dq, b, h, q_offsets), i, tl.dot(minus_ds.T, keys()) * -(D**-0.5), ordered)
            return gk, gv

        heads = group or H // Hk
        extent = Sq if k_offsets is None else tl.where(start < Sk, Sq, 0)
        for h in tl.range(hk * heads, (hk + 1) * heads):
            head = (*(sequence(x, b, h, q_offsets) for x in (q, do)),
                    *(numbers(x, b, h, q_offsets) for x in (lse2, delta)))
            if tiles is None:
                for span in band(start, BN, extent, BM, -shift, right, left):
                    for i in tl.range(span.begin, span.end, BM, stages=stages):
                        gk, gv = step((gk, gv), h, head, i, span, True)
            else:
                whole, some = counts[b, h, tile, 0], counts[b, h, tile, 1]
                all_of_it, some_of_it = Span(0, Sq, False, False, False), Span(0, Sq, right >= 0, left >= 0, False)
                for n in tl.range(0, whole, stages=stages):
                    gk, gv = step((gk, gv), h, head, tiles[b, h, tile, n] * BM, all_of_it, False)
                for n in tl.range(whole, whole + some, stages=stages):
                    gk, gv = step((gk, gv), h, head, tiles[b, h, tile, n] * BM, some_of_it, True)

        if dk is not None:
            tl.store(sequence(dk, b, hk, k_offsets), (start, 0), (gk * -(D**-0.5)).to(dk.dtype))
        if dv is not None:
            tl.store(sequence(dv, b, hk, k_offsets), (start, 0), gv.to(dv.dtype))

    if ordered:
        hk, b = tl.grid(Hk, batches)
        for tile in tl.range(tl.cdiv(most, BN)):
            gradients_of(tile, hk, b, Sq, Sk)
    else:
        tile, hk, b = tl.grid(tl.cdiv(most, BN), Hk, batches)
        gradients_of(tile, hk, b, Sq, Sk)


@tl.jit
def attention_backward_queries(
    q: QUERIES, k: KEYS, v: VALUES, do: OUTPUTS, lse2: ROWS, delta: ROWS, dq: QUERIES,
    q_offsets: OFFSETS = None, k_offsets: OFFSETS = None, longest: LENGTH = None, counts: COUNTS = None,
    tiles: TILES = None, seed: SEED = None, a0: types[0] = None, a1: types[1] = None, a2: types[2] = None,
    types: TYPES = NONE, score: FUNCTION = None, mask: FUNCTION = None, D: int = 64, E: int = 0, causal: bool = False,
    left: int = -1, right: int = -1, dropout: float = 0.0, BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 0,
) -> None:
    """dq: the loop over keys is the forward pass's."""
    E, right, arrays = E or D, 0 if causal else right, given(a0, a1, a2)
    tile_of = queries_tile(max(D, E), q.dtype, tl.target(), stages)
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
    keys, values = (sequence(x, b, h // (H // Hk), k_offsets) for x in (k, v))
    start, shift = tile * BM, Sk - Sq
    rows = (start + tl.arange(BM))[:, None]
    queries = held(tl.load(sequence(q, b, h, q_offsets), (start, 0), (BM, D)))
    minus_outputs = held(-tl.load(sequence(do, b, h, q_offsets), (start, 0), (BM, E)))
    sums = tl.load(numbers(lse2, b, h, q_offsets), start, BM)[:, None]
    deltas = tl.broadcast_to(tl.load(numbers(delta, b, h, q_offsets), start, BM)[:, None], (BM, BN))
    gq = tl.zeros((BM, D), tl.f32)

    def step(gq: tl.Tile, j: tl.Tile, span: Span, part: bool) -> tl.Tile:
        columns = j + tl.arange(BN)[None, :]
        x = tl.load(keys, (j, 0), (BN, D))
        place = b, h, rows + shift, columns, *arrays
        p, slope = probabilities(tl.dot(queries(), x.T), sums, D, score, place)
        others = (mask(*place),) if part and mask is not None else ()
        seen = visible(span, rows, columns, Sk, shift, left, right, others)
        p = p if seen is None else tl.where(seen, p, 0.0)
        left_in = None if dropout == 0.0 else kept(dropout, seed, b, b * H + h, rows, columns)
        minus_ds = minus_gradient(p, slope, minus_outputs(), tl.load(values, (j, 0), (BN, E)).T, deltas, left_in,
                                  dropout)
        return tl.dot(minus_ds.to(k.dtype), x, gq)

    if tiles is None:
        extent = Sk if q_offsets is None else tl.where(start < Sq, Sk, 0)
        for span in band(start, BM, extent, BN, shift, left, right):
            for j in tl.range(span.begin, span.end, BN, stages=stages):
                gq = step(gq, j, span, True)
    else:
        whole, some = counts[b, h, tile, 0], counts[b, h, tile, 1]
        for n in tl.range(0, whole, stages=stages):
            gq = step(gq, tiles[b, h, tile, n] * BN, Span(0, Sk, False, False, False), False)
        for n in tl.range(whole, whole + some, stages=stages):
            gq = step(gq, tiles[b, h, tile, n] * BN, Span(0, Sk, left >= 0, right >= 0, True), True)
    tl.store(sequence(dq, b, h, q_offsets), (start, 0), (gq * -(D**-0.5)).to(dq.dtype))


def probabilities(products: tl.Tile, sums: tl.Tile, D: int, score: Any,
                  place: tuple[Any, ...]) -> tuple[tl.Tile, tl.Tile | None]:
    """P of q kᵀ, and the scores' derivative by q kᵀ / √D; None: 1. exp(x) is computed as exp2(x log₂ e)."""
    if score is None:
        return tl.exp2(products * (LOG2_E / D**0.5) - sums, approximate=True), None
    s = products * D**-0.5
    p = tl.exp2(score(s, *place) * LOG2_E - sums, approximate=True)
    return p, score.slope(s, *place) if hasattr(score, "slope") else None


def thinned(x: tl.Tile, left_in: tl.Tile | None, dropout: float) -> tl.Tile:
    """``x`` after dropout."""
    return x if left_in is None else tl.where(left_in, x * (1 / (1 - dropout)), 0.0)


def minus_gradient(p: tl.Tile, slope: tl.Tile | None, x: tl.Tile, y: tl.Tile, delta: tl.Tile, left_in: tl.Tile | None,
                   dropout: float) -> tl.Tile:
    """−dS, where x y is −dP."""
    if left_in is None:  # sums of products begin at Δ: it takes no instruction to subtract it
        minus_ds = p * tl.dot(x, y, delta)
    else:
        minus_ds = p * (thinned(tl.dot(x, y), left_in, dropout) + delta)
    return minus_ds if slope is None else minus_ds * slope


def add(dq: tl.View, i: tl.Tile, part: tl.Tile, alone: bool) -> None:
    """Adds to rows of dq from ``i`` on, which this block may be ``alone`` with."""
    BM, D = part.shape
    if alone:
        tl.store(dq, (i, 0), tl.load(dq, (i, 0), (BM, D)) + part)
    else:
        tl.atomic_add(dq, ((i + tl.arange(BM))[:, None], tl.arange(D)[None, :]), part)


def keys_tile(D: int, dtype: tl.DType, target: str, of_keys: bool, of_queries: bool, ordered: bool,
              stages: int) -> tuple[int, int, int]:
    """BM, BN and warps of :func:`attention_backward_keys`: what registers and shared memory hold. A tile's part of the
    gradients of queries takes registers as well, and so do the next tiles where they cannot be copied
    asynchronously. A block that has all keys of a head reads and writes dq once for each tile of them."""
    bits = dtype.bits
    if ordered and not get_target(target).is_cuda:
        tile = 64, 128, 4
    elif of_queries:
        tile = (32 if D <= 128 else 16, 64, 8) if bits <= 16 else (16, 64 if D <= 64 else 32 if D <= 128 else 16, 4)
    elif bits > 16:
        tile = (32, 64, 4) if D <= 64 else (16, 64, 4) if D <= 128 else (16, 16, 4)
    else:
        tile = (64, 64, 4) if D <= 64 else (32, 128, 8) if D <= 128 else (16, 64, 8 if uneven(D, bits, target) else 4)
    step, keys, warps = tile
    full = 112 < D <= 128 and bits <= 16 and get_target(target).arch >= 120   # its assembler is left no register
    if full or (not tl.supports(tl.copy_async) and uneven(D, bits, target)):
        step //= 2
    row = row_bytes(D, bits)
    of_step = stages * (2 * row + 8) + 2 * widened_bytes(D, dtype, target)
    return fitted(step, keys, warps, of_step, (1 + of_keys) * row if D > IN_REGISTERS else 0, target)


def queries_tile(D: int, dtype: tl.DType, target: str, stages: int) -> tuple[int, int, int]:
    """BM, BN and warps of :func:`attention_backward_queries`."""
    bits = dtype.bits
    if bits > 16:
        queries, step, warps = (64, 32, 4) if D <= 64 else (64, 16, 4) if D <= 128 else (16, 16, 4)
    else:
        queries, step, warps = (128, 32, 4) if D <= 64 else (128, 64, 8) if D <= 128 else (64, 32, 4)
        step = step // 2 if uneven(D, bits, target) else step
    row = row_bytes(D, bits)
    of_step = stages * 2 * row + widened_bytes(D, dtype, target)
    step, queries, warps = fitted(step, queries, warps, of_step, 2 * row if D > IN_REGISTERS else 0, target)
    return queries, step, warps


def held(tile: tl.Tile) -> Callable[[], tl.Tile]:
    """Keeps a tile for the whole of a loop, in registers where its rows are short, else in shared memory, from which
    products read it as they go."""
    if tile.shape[1] <= IN_REGISTERS:
        return lambda: tile
    memory = tl.shared(tile.shape, tile.dtype)
    tl.store(memory, (0, 0), tile)
    tl.sync()
    return lambda: tl.load(memory)


def flash_attention_backward(q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array, form: Form = PLAIN,
                             blocks: tuple[BlockMask, BlockMask] | None = None, engine: str | None = None,
                             deterministic: bool = True, **tiles: int) -> tuple[Array, Array, Array]:
    """The gradients (dq, dk, dv) of what depends on attention's output by ``do``.

    ``q`` is (B, Sq, H, D), ``k`` (B, Sk, Hk, D), ``v`` (B, Sk, Hk, E), ``o`` and ``do`` (B, Sq, H, E), all of f16, bf16
    or f32; ``o`` and ``lse`` (B, H, Sq), f32, are what :func:`flash_attention.flash_attention` has given for the same
    form. Each gradient has the shape and type of what it is the gradient of. ``blocks`` are the block masks by queries
    and by keys. ``engine`` is where to compute, as in ``kernel.on(engine)``; ``tiles`` are BM, BN, stages and warps.
    Where it need not be ``deterministic``, dq is summed by atomics, and may differ by rounding from run to run.
    """
    import numpy as np

    dk, dv = (np.empty(x.shape, x.dtype) for x in (k, v))
    dq = np.empty(q.shape, q.dtype) if deterministic else np.zeros(q.shape, np.float32)
    gradients_into((dq, dk, dv), q, k, v, do, row_numbers(o, lse, do, engine), form, blocks, engine, deterministic,
                   **tiles)
    return dq.astype(q.dtype, copy=False), dk, dv


def row_numbers(o: Array, lse: Array, do: Array, engine: str | None = None) -> tuple[Array, Array]:
    """What :func:`attention_delta` gives: lse2 and delta, (B, H, Sq), f32."""
    import numpy as np

    delta, lse2 = np.empty(lse.shape, np.float32), np.empty(lse.shape, np.float32)
    (attention_delta.on(engine) if engine else attention_delta)(o, do, lse, delta, lse2, D=o.shape[3])
    return lse2, delta


def gradients_into(gradients: tuple[Array, Array, Array], q: Array, k: Array, v: Array, do: Array,
                   rows: tuple[Array, Array], form: Form = PLAIN, blocks: tuple[BlockMask, BlockMask] | None = None,
                   engine: str | None = None, deterministic: bool = True, **tiles: int) -> None:
    """As :func:`flash_attention_backward`, into arrays dq, dk and dv, of the numbers of rows that
    :func:`row_numbers` gives. By atomics dq, then f32, is added to."""
    import numpy as np

    (batch, _, h, d), (hk, e) = q.shape, v.shape[2:]
    dq, dk, dv = gradients
    common: dict[str, Any] = {"D": d, "E": e, **form.constants(), **tiles}
    lists = [block_arguments(x, batch, h) for x in blocks] if blocks is not None else [{}, {}]
    by_queries, by_keys = ({**common, **form.lengths(of_keys), **lists[of_keys]} for of_keys in (False, True))
    keys, queries = (x.on(engine) if engine else x for x in (attention_backward_keys, attention_backward_queries))
    sequences = batch if form.k_offsets is None else len(form.k_offsets) - 1
    ordered = deterministic and heads_suffice(sequences * hk, engine)
    added = np.zeros(q.shape, np.float32) if ordered else None if deterministic else dq
    for sums in [(dk, dv)] if max(d, e) <= BOTH_SUMS else [(dk, None), (None, dv)]:
        of_queries = {"dq": added, "ordered": ordered} if sums[0] is not None else {}
        keys(q, k, v, do, *rows, *sums, group=h // max(1, hk), **of_queries, **by_keys)
    if ordered:
        dq[...] = added
    elif deterministic:
        queries(q, k, v, do, *rows, dq, **by_queries)


def heads_suffice(heads: int, engine: str | None) -> bool:
    """Whether a block for each of all heads of keys is faster than computing scores twice, which makes 7 products of 5.
    That depends on the cores that there are: not on the threads, on whose number results do not depend."""
    cores = len(os.sched_getaffinity(0))
    return engine in (None, "cpu") and 5 * cores * -(-heads // cores) <= 7 * heads


def reference(q: Array, k: Array, v: Array, do: Array, causal: bool = False,
              slope: Callable[[Array], Array] | None = None, weights: Array | None = None,
              **meaning: Any) -> tuple[Array, Array, Array]:
    """dq, dk and dv by the definition, in the arrays' type. ``slope`` is the derivative of ``edit``; what the others
    mean, :func:`flash_attention.reference` says."""
    import numpy as np

    (_, _, h, d), (batch, sk, hk, _) = q.shape, k.shape
    p, ds, products = reference_of_scores(q, k, v, do, causal, weights, **meaning)
    ds = ds / d**0.5 if slope is None else ds * slope(products) / d**0.5
    dq = np.einsum("bhqk,bkhd->bqhd", ds, np.repeat(k, h // hk, axis=2))
    dk = np.einsum("bhqk,bqhd->bkhd", ds, q).reshape(batch, sk, hk, h // hk, d).sum(3)
    dv = np.einsum("bhqk,bqhd->bkhd", p, do).reshape(batch, sk, hk, h // hk, v.shape[3]).sum(3)
    return dq, dk, dv


def reference_of_scores(q: Array, k: Array, v: Array, do: Array, causal: bool = False, weights: Array | None = None,
                        **meaning: Any) -> tuple[Array, Array, Array]:
    """The weights of values, the gradient of the scores that the softmax is of, and q kᵀ / √D, each (B, H, Sq, Sk), by
    the definition; what the others mean, :func:`flash_attention.reference` says."""
    import numpy as np

    (_, sq, h, d), (_, sk, hk, _) = q.shape, k.shape
    o, lse = flash_attention.reference(q, k, v, causal, weights=weights, **meaning)
    wide_k, wide_v = (np.repeat(x, h // hk, axis=2) for x in (k, v))
    products = np.einsum("bqhd,bkhd->bhqk", q, wide_k) / d**0.5
    s = meaning["edit"](products) if "edit" in meaning else products
    if causal:
        s = np.where(np.arange(sk)[None, :] <= np.arange(sq)[:, None] + sk - sq, s, -np.inf)
    if meaning.get("seen") is not None:
        s = np.where(meaning["seen"], s, -np.inf)
    p, factors = np.exp(s - lse[..., None]), 1.0 if weights is None else weights
    delta = np.einsum("bqhd,bqhd->bhq", do, o)[..., None]
    return p * factors, p * (np.einsum("bqhd,bkhd->bhqk", do, wide_v) * factors - delta), products


def operands(shape: tuple[int, ...], dtype: tl.DType, seed: int, causal: bool) -> tuple[Array, ...]:
    """q, k, v, o, lse and do of a ``shape`` (B, Sq, Sk, H, Hk, D), with what the forward pass gives."""
    import numpy as np

    batch, sq, sk, h, hk, d = shape
    rng = np.random.default_rng(seed)
    q, do = (normal(rng, (batch, sq, h, d), dtype) for _ in range(2))
    k, v = (normal(rng, (batch, sk, hk, d), dtype) for _ in range(2))
    o, lse = flash_attention.reference(wide(q), wide(k), wide(v), causal)
    return q, k, v, o.astype(dtype.numpy), lse.astype(np.float32), do


def rows_of(o: Array, lse: Array, do: Array) -> tuple[Array, Array]:
    """What :func:`attention_delta` gives: delta and lse2."""
    import numpy as np

    delta = np.einsum("bqhd,bqhd->bhq", wide(o), wide(do))
    return delta.astype(np.float32), (wide(lse) * LOG2_E).astype(np.float32)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """Of :func:`attention_backward_keys`; ``shape`` is (B, Sq, Sk, H, Hk, D)."""
    q, k, v, o, lse, do = operands(shape, dtype, seed, causal)
    delta, lse2 = rows_of(o, lse, do)
    dk, dv = empty(k.shape, dtype), empty(v.shape, dtype)
    _, *gradients = reference(wide(q), wide(k), wide(v), wide(do), causal)
    return Case((q, k, v, do, lse2, delta, dk, dv), (dk, dv), gradients, {"D": shape[5], "causal": causal},
                depth=shape[1] * shape[3] // shape[4])


def queries_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """Of :func:`attention_backward_queries`; ``shape`` is (B, Sq, Sk, H, Hk, D)."""
    q, k, v, o, lse, do = operands(shape, dtype, seed, causal)
    delta, lse2 = rows_of(o, lse, do)
    dq = empty(q.shape, dtype)
    gradient = reference(wide(q), wide(k), wide(v), wide(do), causal)[0]
    return Case((q, k, v, do, lse2, delta, dq), (dq,), (gradient,), {"D": shape[5], "causal": causal}, depth=shape[2])


def delta_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """Of :func:`attention_delta`; ``shape`` is (B, Sq, Sk, H, Hk, D)."""
    *_, o, lse, do = operands(shape, dtype, seed, causal)
    delta, lse2 = (empty(lse.shape, tl.f32) for _ in range(2))
    return Case((o, do, lse, delta, lse2), (delta, lse2), rows_of(o, lse, do), {"D": shape[5]}, depth=shape[5])


CASES = ((attention_delta, delta_case), (attention_backward_keys, case), (attention_backward_queries, queries_case))
"""The kernels, in the order in which they run, with what makes a call of each."""


def main() -> None:
    for kernel, make in CASES:
        for causal in (False, True):
            report(kernel, SHAPES, functools.partial(make, causal=causal))


if __name__ == "__main__":
    main()
