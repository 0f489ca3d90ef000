"""FlashAttention-2, forward (Dao, 2023): softmax(q kᵀ / √D) v without the S×S matrix, and the log-sum-exp of each row.

Arrays are (batch, sequence, heads, D). There may be fewer key heads than query heads (each serves a group of them). The
causal mask is aligned at the bottom right: query i sees keys up to i + Sk − Sq. A row that sees no key gives 0, and
+inf for its log-sum-exp.
"""

from __future__ import annotations

import math
from typing import Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

LOG2_E, LN_2 = math.log2(math.e), math.log(2)
INFINITY = float("inf")
LOWEST = -1e38                                                     # below every score, and finite when scaled
State = tuple[tl.Tile, tl.Tile, tl.Tile]
SHAPES = [(1, 1, 1, 1, 1, 64), (2, 127, 129, 2, 1, 64), (1, 128, 128, 4, 2, 64), (1, 65, 191, 2, 2, 59),
          (0, 8, 8, 1, 1, 64), (1, 5, 0, 1, 1, 64)]


@tl.jit
def flash_attention_forward(
    q: tl.f16["B", "Sq", "H", "D"] | tl.bf16["B", "Sq", "H", "D"] | tl.f32["B", "Sq", "H", "D"],
    k: tl.f16["B", "Sk", "Hk", "D"] | tl.bf16["B", "Sk", "Hk", "D"] | tl.f32["B", "Sk", "Hk", "D"],
    v: tl.f16["B", "Sk", "Hk", "D"] | tl.bf16["B", "Sk", "Hk", "D"] | tl.f32["B", "Sk", "Hk", "D"],
    o: tl.f16["B", "Sq", "H", "D"] | tl.bf16["B", "Sq", "H", "D"] | tl.f32["B", "Sq", "H", "D"],
    lse: tl.f32["B", "H", "Sq"],
    D: int = 64, causal: bool = False, BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 4,
) -> None:
    BM = BM or (128 if tl.supports(tl.copy_async) else 64)         # without asynchronous copies they need registers
    BN = BN or (64 if q.dtype.bits <= 16 else 32)                  # as many bytes of shared memory for all types
    B, Sq, H, _ = q.shape
    _, Sk, Hk, _ = k.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(Sq, BM), H, B)
    queries, keys, values = q[b, :, h, :], k[b, :, h // (H // Hk), :], v[b, :, h // (H // Hk), :]
    start = tile * BM
    scale = LOG2_E / D**0.5                                        # exp(x) is computed as exp2(x log₂ e)
    rows, shift = start + tl.arange(BM), Sk - Sq

    x = tl.load(queries, (start, 0), (BM, D))
    m = tl.full((BM,), LOWEST, tl.f32)                             # the row's maximum so far,
    l = tl.zeros((BM,), tl.f32)                                    # its sum of exponentials,
    acc = tl.zeros((BM, D), tl.f32)                                # and its output, not yet divided by l

    def step(state: State, j: tl.Tile, masked: bool) -> State:
        m, l, acc = state
        s = tl.dot(x, tl.load(keys, (j, 0), (BN, D)).T)
        if masked:
            columns = j + tl.arange(BN)[None, :]
            visible = columns < Sk
            if causal:
                visible = visible & (columns <= rows[:, None] + shift)
            s = tl.where(visible, s, -INFINITY)
        top = tl.maximum(m, tl.max(s, axis=1))
        p = tl.exp2(s * scale - (top * scale)[:, None], approximate=True)
        shrink = tl.exp2((m - top) * scale, approximate=True)
        l = l * shrink + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), tl.load(values, (j, 0), (BN, D)), acc * shrink[:, None])
        return top, l, acc

    if causal:
        whole = tl.maximum(tl.minimum(Sk, start + 1 + shift), 0) // BN * BN   # every row sees all keys up to here,
        end = tl.minimum(Sk, start + BM + shift)                              # and none sees a key from here on
        for j in tl.range(0, whole, BN, stages=stages):
            m, l, acc = step((m, l, acc), j, False)
        for j in tl.range(whole, end, BN, stages=stages):
            m, l, acc = step((m, l, acc), j, True)
    else:
        for j in tl.range(0, Sk, BN, stages=stages):
            m, l, acc = step((m, l, acc), j, True)

    empty_row = l == 0.0
    acc = acc * tl.rcp(tl.where(empty_row, 1.0, l), approximate=True)[:, None]
    tl.store(o[b, :, h, :], (start, 0), acc.to(o.dtype))
    tl.store(lse[b, h, :], start, tl.where(empty_row, INFINITY, (m * scale + tl.log2(l, approximate=True)) * LN_2))


def reference(q: Array, k: Array, v: Array, causal: bool) -> tuple[Array, Array]:
    """Output (B, Sq, H, D) and log-sum-exp (B, H, Sq) by the definition, in the arrays' type."""
    import numpy as np

    (_, sq, h, d), (_, sk, hk, _) = q.shape, k.shape
    k, v = np.repeat(k, h // hk, axis=2), np.repeat(v, h // hk, axis=2)
    s = np.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(d)
    if causal:
        s = np.where(np.arange(sk)[None, :] <= np.arange(sq)[:, None] + sk - sq, s, -np.inf)
    top = np.max(s, axis=3, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isfinite(top), top, 0.0))
    total = e.sum(axis=3, keepdims=True)
    seen = total > 0
    out = np.einsum("bhqk,bkhd->bqhd", e / np.where(seen, total, 1.0), v)
    with np.errstate(divide="ignore"):
        lse = np.where(seen, top + np.log(total), np.inf)[..., 0]
    return out, lse


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
