"""The gradient of what is added to attention's scores, as a bias is, summed over what the bias is broadcast along.

With P, Δ and dP = dO vᵀ as in the backward pass, the scores' gradient is dS = P ⊙ (dP − Δ), and so is that of a bias
(B, H, Sq, Sk). Where a bias has one batch, head, row or column for all, its gradient is the sum over them. A block
computes a tile of the gradient: it visits all tiles of scores that the tile is added to, one after another, so that the
result is the same from run to run.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.arrays import (
    FUNCTION,
    KEYS,
    NONE,
    OUTPUTS,
    QUERIES,
    ROWS,
    SEED,
    TYPES,
    VALUES,
    given,
    variant_arrays,
)
from kernels_zoo.attention.dropout import kept
from kernels_zoo.attention.flash_attention import PLAIN
from kernels_zoo.attention.flash_attention_backward import (
    minus_gradient,
    probabilities,
    reference_of_scores,
    row_numbers,
    rows_of,
)
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.online_softmax import INFINITY
from kernels_zoo.attention.variants import biased
from kernels_zoo.attention.visits import band, visible
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

if TYPE_CHECKING:
    BIAS = Any
else:
    BIAS = (tl.f16["Bb", "Hb", "rows", "columns"] | tl.bf16["Bb", "Hb", "rows", "columns"] |
            tl.f32["Bb", "Hb", "rows", "columns"])
SHAPES = [(1, 1, 2, 1, 1, 16, 1, 1, 1, 1), (2, 0, 5, 2, 1, 16, 1, 1, 1, 1), (1, 33, 47, 2, 1, 16, 1, 1, 1, 1),
          (2, 70, 45, 4, 2, 16, 0, 1, 1, 1), (2, 40, 40, 2, 2, 16, 1, 0, 0, 1), (2, 37, 50, 3, 3, 16, 0, 1, 1, 0),
          (1, 200, 190, 2, 1, 64, 0, 1, 1, 1)]


@tl.jit
def attention_bias_gradient(
    q: QUERIES, k: KEYS, v: VALUES, do: OUTPUTS, lse2: ROWS, delta: ROWS, dbias: BIAS, seed: SEED = None,
    a0: types[0] = None, a1: types[1] = None, a2: types[2] = None, types: TYPES = NONE, score: FUNCTION = None,
    mask: FUNCTION = None, D: int = 64, E: int = 0, one_row: bool = False, one_column: bool = False,
    causal: bool = False, left: int = -1, right: int = -1, dropout: float = 0.0, BM: int = 0, BN: int = 0,
    stages: int = 2, warps: int = 4,
) -> None:
    """``one_row`` and ``one_column`` say that ``dbias`` has one for all; of its first two extents that is found out."""
    E, right, arrays = E or D, 0 if causal else right, given(a0, a1, a2)
    tile_of = scores_tile(max(D, E), q.dtype.bits)
    BM, BN = BM or tile_of[0], BN or tile_of[1]
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    batches, heads, _, _ = dbias.shape
    assert H % Hk == 0, "the heads of queries are not a multiple of those of keys"
    assert (batches == B) | (batches == 1), "the bias has another number of batches"
    assert (heads == H) | (heads == 1), "the bias has another number of heads"
    tl.block(warps=warps)
    across = 1 if one_column else tl.cdiv(Sk, BN)
    tile, hb, bb = tl.grid((1 if one_row else tl.cdiv(Sq, BM)) * across, heads, batches)
    start, first, shift = tile // across * BM, tile % across * BN, Sk - Sq
    total = tl.zeros((BM, BN), tl.f32)
    for b in tl.range(bb, tl.where(batches == 1, B, bb + 1)):
        for h in tl.range(hb, tl.where(heads == 1, H, hb + 1)):
            for i in tl.range(start, Sq if one_row else start + BM, BM, stages=1):
                rows = (i + tl.arange(BM))[:, None]
                queries, outputs = tl.load(q[b, :, h, :], (i, 0), (BM, D)), tl.load(do[b, :, h, :], (i, 0), (BM, E))
                sums = tl.load(lse2[b, h, :], i, BM, other=INFINITY)[:, None]
                deltas = tl.broadcast_to(tl.load(delta[b, h, :], i, BM)[:, None], (BM, BN))
                for span in band(i, BM, Sk, BN, shift, left, right):
                    begin = span.begin if one_column else tl.maximum(span.begin, first)
                    end = span.end if one_column else tl.minimum(span.end, first + BN)
                    for j in tl.range(begin, end, BN, stages=stages):
                        columns = j + tl.arange(BN)[None, :]
                        place = b, h, rows + shift, columns, *arrays
                        x = tl.load(k[b, :, h // (H // Hk), :], (j, 0), (BN, D))
                        y = tl.load(v[b, :, h // (H // Hk), :], (j, 0), (BN, E))
                        p = probabilities(tl.dot(queries, x.T), sums, D, score, place)[0]
                        others = (mask(*place),) if mask is not None else ()
                        seen = visible(span, rows, columns, Sk, shift, left, right, others)
                        p = p if seen is None else tl.where(seen, p, 0.0)
                        left_in = None if dropout == 0.0 else kept(dropout, seed, b, b * H + h, rows, columns)
                        total -= minus_gradient(p, None, -outputs, y.T, deltas, left_in, dropout)
    if one_row:
        total = tl.sum(total, axis=0, keepdims=True)
    if one_column:
        total = tl.sum(total, axis=1, keepdims=True)
    tl.store(dbias[bb, hb, :, :], (start, first), total.to(dbias.dtype))


def scores_tile(D: int, bits: int) -> tuple[int, int]:
    """BM and BN: 64 KiB of shared memory hold the rows of queries and outputs, and two stages of keys and values."""
    if bits > 16:
        return (32, 32) if D <= 64 else (16, 16) if D <= 128 else (16, 8)
    return (64, 64) if D <= 64 else (32, 32) if D <= 128 else (16, 16)


def bias_gradient(shape: tuple[int, int, int, int], q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array,
                  form: Form = PLAIN, engine: str | None = None, **tiles: int) -> Array:
    """The gradient of a bias of a ``shape`` (B or 1, H or 1, Sq or 1, Sk or 1), f32.

    The arrays and ``form`` are as of :func:`flash_attention_backward.flash_attention_backward`; the form's score
    function adds the bias last, as :func:`variants.biased` does: what it does to the scores before has no bearing.
    ``engine`` is where to compute, as in ``kernel.on(engine)``; ``tiles`` are BM, BN, stages and warps. Raises
    ValueError where the shape is not that of a bias, and for sequences of different lengths, which have no bias in
    common.
    """
    import numpy as np

    (batch, sq, h, d), sk = q.shape, k.shape[1]
    if any(n not in (1, extent) for n, extent in zip(shape, (batch, h, sq, sk), strict=True)):
        raise ValueError(f"scores of shape {(batch, h, sq, sk)} have no bias of shape {shape}")
    if form.q_offsets is not None:
        raise ValueError("sequences of different lengths have no bias in common")
    gradient = np.empty(shape, np.float32)
    kernel = attention_bias_gradient.on(engine) if engine else attention_bias_gradient
    kernel(q, k, v, do, *row_numbers(o, lse, do, engine), gradient, D=d, E=v.shape[3],
           one_row=shape[2] == 1 != sq, one_column=shape[3] == 1 != sk, **form.constants(), **tiles)
    return gradient


def reference(shape: tuple[int, ...], q: Array, k: Array, v: Array, do: Array, causal: bool = False,
              **meaning: Any) -> Array:
    """The gradient by the definition, in the arrays' type; :func:`flash_attention.reference` says what the others
    mean."""
    import numpy as np

    gradients = reference_of_scores(q, k, v, do, causal, **meaning)[1]
    axes = tuple(d for d, (n, extent) in enumerate(zip(shape, gradients.shape, strict=True)) if n != extent)
    summed: Array = np.sum(gradients, axis=axes, keepdims=True)
    return summed


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """``shape`` is (B, Sq, Sk, H, Hk, D) and, of the bias' batches, heads, rows and columns, 1 where it has all of
    them and 0 where it has one. There are sinks, with much of the weight: without them the gradients of a bias of one
    column are 0."""
    import numpy as np

    (batch, sq, sk, h, hk, d), has = shape[:6], shape[6:]
    rng = np.random.default_rng(seed)
    q, do = (normal(rng, (batch, sq, h, d), dtype) for _ in range(2))
    k, v = (normal(rng, (batch, sk, hk, d), dtype) for _ in range(2))
    whole = batch, h, sq, sk
    of_bias = tuple(n if all_of_them else 1 for n, all_of_them in zip(whole, has, strict=True))
    bias, sinks, found = normal(rng, of_bias, tl.f32), 4 + normal(rng, (h,), tl.f32), empty(of_bias, tl.f32)
    meaning: dict[str, Any] = {"edit": lambda s: s + wide(bias), "sinks": wide(sinks)}
    o, lse = flash_attention.reference(wide(q), wide(k), wide(v), causal, **meaning)
    delta, lse2 = rows_of(o, lse, do)
    constants = {"D": d, "causal": causal, "one_row": not has[2], "one_column": not has[3], "score": biased,
                 **variant_arrays((np.broadcast_to(bias, whole),))}
    expected = reference(of_bias, wide(q), wide(k), wide(v), wide(do), causal, **meaning)
    return Case((q, k, v, do, lse2, delta, found), (found,), (expected,), constants, depth=math.prod(whole))


def main() -> None:
    for causal in (False, True):
        report(attention_bias_gradient, SHAPES, functools.partial(case, causal=causal))


if __name__ == "__main__":
    main()
