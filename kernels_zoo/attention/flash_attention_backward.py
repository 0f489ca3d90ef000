"""FlashAttention-2, backward (Dao, 2023): the gradients of softmax(q kᵀ / √D) v without the S×S matrices.

With P = exp(q kᵀ / √D − lse), Δ = rowsum(dO ⊙ O) and dS = P ⊙ (dO vᵀ − Δ), the gradients are dv = Pᵀ dO,
dk = dSᵀ q / √D and dq = dS k / √D. One kernel computes dk and dv, a block per tile of keys, one dq, a block per tile
of queries: each gradient is summed by one block, in one order, so that the result is the same from run to run. A key
head that serves a group of query heads sums over them in its block.

Arrays are (batch, sequence, heads, D), as in the forward pass, whose ``lse`` (B, H, Sq) says what each row was divided
by. Rows that see no key (lse = +inf) have P = 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.online_softmax import LOG2_E
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = [(1, 1, 2, 1, 1, 64), *flash_attention.SHAPES[1:]]           # of one key, dk is 0 but for rounding
IN_REGISTERS = 64
"""Elements of rows that are held in registers."""
BOTH_SUMS = 128
"""Elements of rows of which registers hold the sums of dk and dv."""
ROOMY = ("sm_80", "sm_90", "sm_90a", "sm_100", "sm_100a")
"""Targets with 163 KB of shared memory a block or more; others have 99 KB or less."""
Gradients = tuple[tl.Tile, tl.Tile]
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    QUERIES = Any
    KEYS = Any
    ROWS = Any
else:
    QUERIES = tl.f16["B", "Sq", "H", "D"] | tl.bf16["B", "Sq", "H", "D"] | tl.f32["B", "Sq", "H", "D"]
    KEYS = tl.f16["B", "Sk", "Hk", "D"] | tl.bf16["B", "Sk", "Hk", "D"] | tl.f32["B", "Sk", "Hk", "D"]
    ROWS = tl.f32["B", "H", "Sq"]


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
    q: QUERIES, k: KEYS, v: KEYS, do: QUERIES, lse2: ROWS, delta: ROWS, dk: KEYS | None, dv: KEYS | None,
    D: int = 64, causal: bool = False, group: int = 0, BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 0,
) -> None:
    """dk and dv. All products are transposed, keys by queries: Pᵀ and dSᵀ are then first operands of the next ones
    in the registers that they were computed in. ``group`` is H // Hk where that is known. One of dk and dv may be None:
    where rows are long, registers hold the sums of one."""
    tile_of = keys_tile(D, q.dtype.bits)
    BM, BN, warps = BM or tile_of[0], BN or tile_of[1], warps or tile_of[2]
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    tl.block(warps=warps)
    tile, hk, b = tl.grid(tl.cdiv(Sk, BN), Hk, B)
    start, shift = tile * BN, Sk - Sq
    scale = LOG2_E / D**0.5                                        # exp(x) is computed as exp2(x log₂ e)
    keys = held(tl.load(k[b, :, hk, :], (start, 0), (BN, D)))
    minus_values = held(-tl.load(v[b, :, hk, :], (start, 0), (BN, D)))
    gk, gv = tl.zeros((BN, D), tl.f32), tl.zeros((BN, D), tl.f32)
    first: tl.Tile | int = 0
    whole: tl.Tile | int = 0
    if causal:                                                     # rows before the first see no key of the tile,
        first = tl.minimum(tl.maximum(start - shift, 0), Sq) // BM * BM         # and rows from here on see them all
        whole = tl.minimum(tl.maximum(tl.cdiv(start + BN - 1 - shift, BM) * BM, first), Sq)

    def step(gradients: Gradients, head: tuple[tl.View, ...], i: tl.Tile, masked: bool) -> Gradients:
        gk, gv = gradients
        queries, outputs, sums, deltas = head
        x, d = tl.load(queries, (i, 0), (BM, D)), tl.load(deltas, i, BM)
        p = tl.exp2(tl.dot(keys(), x.T) * scale - tl.load(sums, i, BM)[None, :], approximate=True)
        if masked:
            p = tl.where(tl.arange(BN)[:, None] <= tl.arange(BM)[None, :] + (i + shift - start), p, 0.0)
        y = tl.load(outputs, (i, 0), (BM, D))
        if dv is not None:
            gv = tl.dot(p.to(do.dtype), y, gv)
        if dk is not None:
            # Sums of products begin at Δ: it takes no instruction to subtract it, but gives −dS.
            minus_ds = p * tl.dot(minus_values(), y.T, tl.broadcast_to(d[None, :], (BN, BM)))
            gk = tl.dot(minus_ds.to(q.dtype), x, gk)
        return gk, gv

    heads = group or H // Hk
    for h in tl.range(hk * heads, (hk + 1) * heads):
        head = q[b, :, h, :], do[b, :, h, :], lse2[b, h, :], delta[b, h, :]
        if causal:
            for i in tl.range(first, whole, BM, stages=stages):
                gk, gv = step((gk, gv), head, i, True)
        for i in tl.range(whole, Sq, BM, stages=stages):
            gk, gv = step((gk, gv), head, i, False)

    if dk is not None:
        tl.store(dk[b, :, hk, :], (start, 0), (gk * -(D**-0.5)).to(dk.dtype))
    if dv is not None:
        tl.store(dv[b, :, hk, :], (start, 0), gv.to(dv.dtype))


@tl.jit
def attention_backward_queries(
    q: QUERIES, k: KEYS, v: KEYS, do: QUERIES, lse2: ROWS, delta: ROWS, dq: QUERIES,
    D: int = 64, causal: bool = False, BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 0,
) -> None:
    """dq: the loop over keys is the forward pass's."""
    tile_of = queries_tile(D, q.dtype.bits, tl.target())
    BM, BN, warps = BM or tile_of[0], BN or tile_of[1], warps or tile_of[2]
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(Sq, BM), H, B)
    keys, values = k[b, :, h // (H // Hk), :], v[b, :, h // (H // Hk), :]
    start, shift = tile * BM, Sk - Sq
    rows = start + tl.arange(BM)
    scale = LOG2_E / D**0.5
    queries = held(tl.load(q[b, :, h, :], (start, 0), (BM, D)))
    minus_outputs = held(-tl.load(do[b, :, h, :], (start, 0), (BM, D)))
    sums = tl.load(lse2[b, h, :], start, BM)[:, None]
    deltas = tl.broadcast_to(tl.load(delta[b, h, :], start, BM)[:, None], (BM, BN))
    gq = tl.zeros((BM, D), tl.f32)

    def step(gq: tl.Tile, j: tl.Tile, masked: bool) -> tl.Tile:
        x = tl.load(keys, (j, 0), (BN, D))
        p = tl.exp2(tl.dot(queries(), x.T) * scale - sums, approximate=True)
        if masked:
            columns = j + tl.arange(BN)[None, :]
            visible = columns < Sk
            if causal:
                visible = visible & (columns <= rows[:, None] + shift)
            p = tl.where(visible, p, 0.0)
        minus_ds = p * tl.dot(minus_outputs(), tl.load(values, (j, 0), (BN, D)).T, deltas)
        return tl.dot(minus_ds.to(k.dtype), x, gq)

    if causal:
        whole = tl.maximum(tl.minimum(Sk, start + 1 + shift), 0) // BN * BN   # every row sees all keys up to here,
        end = tl.minimum(Sk, start + BM + shift)                              # and none sees a key from here on
        for j in tl.range(0, whole, BN, stages=stages):
            gq = step(gq, j, False)
        for j in tl.range(whole, end, BN, stages=stages):
            gq = step(gq, j, True)
    else:
        for j in tl.range(0, Sk, BN, stages=stages):
            gq = step(gq, j, True)
    tl.store(dq[b, :, h, :], (start, 0), (gq * -(D**-0.5)).to(dq.dtype))


def keys_tile(D: int, bits: int) -> tuple[int, int, int]:
    """BM, BN and warps of :func:`attention_backward_keys`: what registers and shared memory hold."""
    if bits > 16:
        return (32, 64, 4) if D <= 64 else (16, 64, 4) if D <= 128 else (16, 16, 4)
    return (64, 64, 4) if D <= 64 else (32, 128, 8) if D <= 128 else (16, 64, 4)


def queries_tile(D: int, bits: int, target: str) -> tuple[int, int, int]:
    """BM, BN and warps of :func:`attention_backward_queries`."""
    if bits > 16:
        return (64, 32, 4) if D <= 64 else (64, 16, 4) if D <= 128 else (16, 16, 4)
    if D <= 128:
        return (128, 32, 4) if D <= 64 else (128, 64 if target in ROOMY else 32, 8)
    return (64, 32 if target in ROOMY else 16, 4)


def held(tile: tl.Tile) -> Callable[[], tl.Tile]:
    """Keeps a tile for the whole of a loop, in registers where its rows are short, else in shared memory, from which
    products read it as they go."""
    if tile.shape[1] <= IN_REGISTERS:
        return lambda: tile
    memory = tl.shared(tile.shape, tile.dtype)
    tl.store(memory, (0, 0), tile)
    tl.sync()
    return lambda: tl.load(memory)


def flash_attention_backward(q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array, causal: bool = False,
                             engine: str | None = None) -> tuple[Array, Array, Array]:
    """The gradients (dq, dk, dv) of what depends on attention's output by ``do``.

    ``q``, ``o`` and ``do`` are (B, Sq, H, D), ``k`` and ``v`` (B, Sk, Hk, D), all of f16, bf16 or f32; ``o`` and
    ``lse`` (B, H, Sq), f32, are what :func:`flash_attention_forward` has given for the same ``causal``. Each gradient
    has the shape and type of what it is the gradient of. ``engine`` is where to compute, as in ``kernel.on(engine)``.
    """
    import numpy as np

    delta, lse2 = np.empty(lse.shape, np.float32), np.empty(lse.shape, np.float32)
    dq, dk, dv = (np.empty(x.shape, x.dtype) for x in (q, k, v))
    common: dict[str, Any] = {"D": q.shape[3]}
    at_once = [(dk, dv)] if q.shape[3] <= BOTH_SUMS else [(dk, None), (None, dv)]
    group = {"group": q.shape[2] // max(1, k.shape[2])}
    calls: list[tuple[Any, tuple[Array | None, ...], dict[str, Any]]] = [
        (attention_delta, (o, do, lse, delta, lse2), common),
        *((attention_backward_keys, (q, k, v, do, lse2, delta, *sums), {**common, **group, "causal": causal})
          for sums in at_once),
        (attention_backward_queries, (q, k, v, do, lse2, delta, dq), {**common, "causal": causal})]
    for kernel, arguments, constants in calls:
        (kernel.on(engine) if engine else kernel)(*arguments, **constants)
    return dq, dk, dv


def reference(q: Array, k: Array, v: Array, do: Array, causal: bool) -> tuple[Array, Array, Array]:
    """dq, dk and dv by the definition, in the arrays' type."""
    import numpy as np

    (_, sq, h, d), (batch, sk, hk, _) = q.shape, k.shape
    o, lse = flash_attention.reference(q, k, v, causal)
    groups = (batch, sk, hk, h // hk, d)
    wide_k, wide_v = (np.repeat(x, h // hk, axis=2) for x in (k, v))
    s = np.einsum("bqhd,bkhd->bhqk", q, wide_k) / d**0.5
    if causal:
        s = np.where(np.arange(sk)[None, :] <= np.arange(sq)[:, None] + sk - sq, s, -np.inf)
    p = np.exp(s - lse[..., None])
    delta = np.einsum("bqhd,bqhd->bhq", do, o)[..., None]
    ds = p * (np.einsum("bqhd,bkhd->bhqk", do, wide_v) - delta) / d**0.5
    dq = np.einsum("bhqk,bkhd->bqhd", ds, wide_k)
    dk = np.einsum("bhqk,bqhd->bkhd", ds, q).reshape(groups).sum(3)
    dv = np.einsum("bhqk,bqhd->bkhd", p, do).reshape(groups).sum(3)
    return dq, dk, dv


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
