"""The gradients of attention sinks: a sink takes its weight of each row from the values.

A row's weight of the sink is w = exp(sink − lse), and its output falls by w for each unit of the sink's score, so that
the gradient is −Σ w Δ over all rows, with Δ = rowsum(dO ⊙ O). One block sums the rows of a head in one order.
"""

from __future__ import annotations

import functools

import tilus as tl
from kernels_zoo.attention import flash_attention, flash_attention_backward
from kernels_zoo.attention.arrays import ROWS
from kernels_zoo.attention.flash_attention_backward import row_numbers, rows_of
from kernels_zoo.attention.online_softmax import INFINITY, LOG2_E
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = flash_attention_backward.SHAPES


@tl.jit
def attention_sink_gradient(sinks: tl.f32["H"], lse2: ROWS, delta: ROWS, dsinks: tl.f32["H"], BM: int = 256,
                            warps: int = 4) -> None:
    """``lse2`` and ``delta`` are what :func:`flash_attention_backward.attention_delta` gives."""
    B, H, Sq = lse2.shape
    tl.block(warps=warps)
    h = tl.grid(H)
    sink, total = sinks[h] * LOG2_E, tl.zeros((BM,), tl.f32)
    for b in tl.range(B):
        for i in tl.range(0, Sq, BM):
            weights = tl.exp2(sink - tl.load(lse2[b, h, :], i, BM, other=INFINITY), approximate=True)
            total -= weights * tl.load(delta[b, h, :], i, BM)
    dsinks[h] = tl.sum(total)


def sink_gradients(sinks: Array, o: Array, lse: Array, do: Array, engine: str | None = None) -> Array:
    """The gradients of the sinks' scores, (H,), f32.

    ``o`` (B, Sq, H, E) and ``lse`` (B, H, Sq) are what attention has given with these ``sinks`` (H,), f32, and ``do``
    is the gradient of ``o``. ``engine`` is where to compute, as in ``kernel.on(engine)``.
    """
    import numpy as np

    gradients = np.empty(sinks.shape, np.float32)
    kernel = attention_sink_gradient.on(engine) if engine else attention_sink_gradient
    kernel(sinks, *row_numbers(o, lse, do, engine), gradients)
    return gradients


def reference(sinks: Array, o: Array, lse: Array, do: Array) -> Array:
    """The gradients by the definition, in the arrays' type."""
    import numpy as np

    delta = np.einsum("bqhd,bqhd->bhq", o, do)
    gradients: Array = -np.sum(np.exp(sinks[:, None] - lse) * delta, axis=(0, 2))
    return gradients


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, causal: bool = False) -> Case:
    """``shape`` is (B, Sq, Sk, H, Hk, D)."""
    import numpy as np

    batch, sq, sk, h, hk, d = shape
    rng = np.random.default_rng(seed)
    q, do = (normal(rng, (batch, sq, h, d), dtype) for _ in range(2))
    k, v = (normal(rng, (batch, sk, hk, d), dtype) for _ in range(2))
    sinks, found = normal(rng, (h,), tl.f32), empty((h,), tl.f32)
    o, lse = flash_attention.reference(wide(q), wide(k), wide(v), causal, sinks=wide(sinks))
    delta, lse2 = rows_of(o, lse, do)
    # of the rounded arguments: their terms cancel, and more than the sum's error would come from what rounding took
    terms = np.exp2(wide(sinks)[:, None] * LOG2_E - wide(lse2)) * wide(delta)
    return Case((sinks, lse2, delta, found), (found,), (-np.sum(terms, axis=(0, 2)),), depth=batch * sq)


def main() -> None:
    for causal in (False, True):
        report(attention_sink_gradient, SHAPES, functools.partial(case, causal=causal))


if __name__ == "__main__":
    main()
