"""Lightning Attention-1 (Qin et al., 2024): causal linear attention with a decay for each head, in quadratic time.

oₜ = Σ_{s≤t} λᵗ⁻ˢ (qₜ·kₛ) vₛ with λ = exp(−slope), as in :mod:`lightning`, but as flash attention computes it, without
its softmax: a tile of tokens goes along all tiles before it. With t₀ the first of the tokens,

    O = Λ Σ_{S<T} ((Q K_Sᵀ) ⊙ λ^(t₀ − s)) V_S + ((Q K_Tᵀ) ⊙ M) V_T          Λ = diag(1, λ, λ², …)

where M, M[i, j] = λⁱ⁻ʲ for i ≥ j, else 0, is for the tile on the diagonal. No exponent is above 0, and tokens that are
far away cost one factor for a column of scores. Tiles are independent of each other, so that short sequences of few
heads keep a machine busy, which :mod:`lightning`, in linear time, does not.

The gradients are sums of the same weights (see there), so that the backward pass is three calls of the kernel.
"""

from __future__ import annotations

import functools
from typing import Any

import tilus as tl
from kernels_zoo.checking import Array, Case, report
from kernels_zoo.linear_attention import lightning
from kernels_zoo.linear_attention.arrays import KEYS, VALUES
from kernels_zoo.linear_attention.lightning import LOG2_E, SHAPES


@tl.jit
def lightning_attention_quadratic(
    q: KEYS, k: KEYS, v: VALUES, slope: tl.f32["H"], o: VALUES, D: int = 64, E: int = 64, reverse: bool = False,
    BM: int = 0, BN: int = 0, stages: int = 2, warps: int = 0,
) -> None:
    """With ``reverse`` the sequence runs from its last token to its first, and sums are over s ≥ t."""
    tile_of = tile_sizes(max(D, E), q.dtype.bits, tl.target())
    BM, BN, warps = BM or tile_of[0], BN or tile_of[1], warps or tile_of[2]
    B, H, N, _ = q.shape
    assert BM % BN == 0, "tiles on the diagonal are cut by others"
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(N, BM), H, B)
    start, rate = tile * BM, slope[h] * -LOG2_E
    rows = start + tl.arange(BM)[:, None]
    x = tl.load(q[b, h, :, :], (start, 0), (BM, D))

    def decay(later: Any, earlier: Any) -> Any:
        return tl.exp2(rate * (earlier - later if reverse else later - earlier), approximate=True)

    def step(acc: tl.Tile, j: tl.Tile, weights: Any) -> tl.Tile:
        """The tile of keys from ``j`` on; ``weights`` of a row of positions."""
        s = tl.dot(x, tl.load(k[b, h, :, :], (j, 0), (BN, D)).T)
        z = tl.load(v[b, h, :, :], (j, 0), (BN, E))
        return tl.dot((s * weights(j + tl.arange(BN)[None, :])).to(z.dtype), z, acc)

    def mask(columns: tl.Tile) -> tl.Tile:
        nearest = tl.maximum(rows, columns) if reverse else tl.minimum(rows, columns)
        return tl.where(columns == nearest, decay(rows, nearest), 0.0)

    first, last = start, start + BM - 1
    begin, end, edge = (last + 1, N, last) if reverse else (0, start, first)
    acc = tl.zeros((BM, E), tl.f32)
    for j in tl.range(begin, end, BN, stages=stages):
        acc = step(acc, j, lambda columns: decay(edge, columns))
    acc = acc * decay(rows, edge)
    for j in tl.range(start, tl.minimum(start + BM, N), BN, stages=stages):
        acc = step(acc, j, mask)
    tl.store(o[b, h, :, :], (start, 0), acc.to(o.dtype))


def tile_sizes(D: int, bits: int, target: str) -> tuple[int, int, int]:
    """BM, BN and warps of :func:`lightning_attention_quadratic`: what registers hold."""
    if target == "cpu":
        return 128, 64, 4
    if bits > 16:
        return (64, 32, 4) if D <= 128 else (32, 16, 8)
    rows = 128 if D <= 64 and target not in ("sm_70", "sm_75") else 64
    return (rows, 64, 4) if D <= 128 else (rows, 32, 8)


def lightning_attention_quadratic_backward(q: Array, k: Array, v: Array, slope: Array, do: Array,
                                           engine: str | None = None) -> tuple[Array, Array, Array]:
    """As :func:`lightning.lightning_attention_backward`."""
    kernel = lightning_attention_quadratic.on(engine) if engine else lightning_attention_quadratic
    return lightning.gradients(kernel, q, k, v, slope, do)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, reverse: bool = False) -> Case:
    """``shape`` is (B, H, N, D, E)."""
    if reverse:
        made = lightning.reversed_case(shape, dtype, seed, initial=False)
    else:
        made = lightning.case(shape, dtype, seed, initial=False)
    return Case(made.arguments[:5], made.outputs[:1], made.references[:1], made.constants, made.depth)


CASES = ((lightning_attention_quadratic, case), (lightning_attention_quadratic, functools.partial(case, reverse=True)))
"""The kernel with what makes calls of it."""


def main() -> None:
    for kernel, make in CASES:
        report(kernel, SHAPES, make)


if __name__ == "__main__":
    main()
