"""Lightning Attention-2 (Qin et al., 2024): causal linear attention with a decay for each head, in linear time.

oₜ = Σ_{s≤t} λᵗ⁻ˢ (qₜ·kₛ) vₛ with λ = exp(−slope), without normaliser; a ``scale`` of all outputs is 1 but for retention
(:mod:`scalar_gated_attention`). A block of B tokens is a product with a mask M, M[i, j] = λⁱ⁻ʲ for i ≥ j, else 0; what
came before it is in a state KV of D×E numbers:

    O = ((Q Kᵀ) ⊙ M) V + Λ Q KV          Λ = diag(λ, λ², …, λᴮ)
    KV ← λᴮ KV + (λᴮ Λ⁻¹ K)ᵀ V

The gradients are of the same form, with other operands, those of k and v from the last token to the first:

    dqₜ = Σ_{s≤t} λᵗ⁻ˢ (doₜ·vₛ) kₛ       dkₛ = Σ_{t≥s} λᵗ⁻ˢ (vₛ·doₜ) qₜ       dvₛ = Σ_{t≥s} λᵗ⁻ˢ (kₛ·qₜ) doₜ

so that the backward pass is three calls of the kernel. Each output is summed by one block of threads, in one order.
Arrays are (batch, heads, sequence, D or E), slopes (heads,), states (batch, heads, D, E), f32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.linear_attention.arrays import KEY, KEYS, STATE, VALUE, VALUES

LOG2_E = math.log2(math.e)
SHAPES = [(1, 1, 1, 16, 16), (1, 2, 127, 64, 32), (2, 3, 130, 32, 59), (1, 2, 64, 16, 64), (1, 1, 193, 40, 24),
          (2, 8, 513, 128, 64), (0, 1, 8, 16, 16), (1, 1, 0, 16, 16)]


@tl.jit
def lightning_attention(
    q: KEYS, k: KEYS, v: VALUES, slope: tl.f32["H"], o: VALUES, initial: STATE | None, final: STATE | None,
    D: int = 64, E: int = 64, scale: float = 1.0, reverse: bool = False, BN: int = 0, BE: int = 0, stages: int = 2,
    warps: int = 0,
) -> None:
    """``initial`` is the state before the first token, 0 where None, and ``final`` that after the last one. With
    ``reverse`` the sequence runs from its last token to its first, and sums are over s ≥ t."""
    tile_of = tile_sizes(D, E, q.dtype.bits, tl.target(), tl.supports(tl.copy_async))
    BN, BE, warps = BN or tile_of[0], BE or tile_of[1], warps or tile_of[2]
    B, H, N, _ = q.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(E, BE), H, B)
    column = tile * BE
    queries, keys, values = q[b, h, :, :], k[b, h, :, :], v[b, h, :, :]
    rate = slope[h] * -LOG2_E

    def decay(tokens: Any) -> Any:
        return tl.exp2(rate * tokens, approximate=True)

    rows = tl.arange(BN)
    distance = rows[:, None] - rows[None, :]                       # tokens from the key's to the query's
    if reverse:
        distance = -distance
    mask = tl.where(distance >= 0, decay(tl.maximum(distance, 0)), 0.0)
    kv = tl.zeros((D, BE), tl.f32)
    if initial is not None:
        kv = tl.load(initial[b, h, :, :], (0, column), (D, BE))
    last = (tl.cdiv(N, BN) - 1) * BN
    for n in tl.range(0, N, BN, stages=stages):
        start = last - n if reverse else n
        length = tl.minimum(N - start, BN)
        before = length - 1 - rows if reverse else rows            # tokens of the block before each; beyond the
        before = tl.minimum(tl.maximum(before, 0), length - 1)     # end rows are 0 whatever they decay by
        x = tl.load(queries, (start, 0), (BN, D))
        y = tl.load(keys, (start, 0), (BN, D))
        z = tl.load(values, (start, column), (BN, BE))
        inter = tl.dot(x, kv.to(x.dtype)) * decay(before + 1)[:, None]
        out = tl.dot((tl.dot(x, y.T) * mask).to(z.dtype), z, inter)
        kept = (z * decay(length - 1 - before)[:, None]).to(z.dtype)
        kv = tl.dot(y.T, kept, kv * decay(length))
        tl.store(o[b, h, :, :], (start, column), (out * scale).to(o.dtype))
    if final is not None:
        tl.store(final[b, h, :, :], (0, column), kv)


@tl.jit
def lightning_attention_step(q: KEY, k: KEY, v: VALUE, slope: tl.f32["H"], state: STATE, o: VALUE,
                             D: int = 64, BE: int = 32, warps: int = 4) -> None:
    """Decoding: o = q KV of one more token, after KV ← λ KV + k vᵀ in place."""
    B, H, _ = q.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(v.shape[2], BE), H, B)
    column = tile * BE
    decay = tl.exp2(slope[h] * -LOG2_E, approximate=True)
    x, y = (tl.load(t[b, h, :], 0, D).to(tl.f32)[:, None] for t in (q, k))
    z = tl.load(v[b, h, :], column, BE).to(tl.f32)[None, :]
    kv = tl.load(state[b, h, :, :], (0, column), (D, BE)) * decay + y * z
    tl.store(state[b, h, :, :], (0, column), kv)
    tl.store(o[b, h, :], column, tl.sum(x * kv, axis=0).to(o.dtype))


def tile_sizes(D: int, E: int, bits: int, target: str, roomy: bool) -> tuple[int, int, int]:
    """BN, BE and warps of :func:`lightning_attention`: what registers hold, and shared memory, which is ``roomy`` or
    not; on a CPU all columns, so that Q Kᵀ is computed once."""
    if target == "cpu":
        return 64, min(E, 128), 4
    if 64 < D <= 128 and E > 32 and bits <= 16 and roomy:
        return 64, 64, 8
    rows = 64 if D <= 64 else 32 if D <= 128 else 16
    return rows if bits <= 16 else rows // 2, 32 if D <= 128 else 16, 4


def lightning_attention_backward(q: Array, k: Array, v: Array, slope: Array, do: Array, engine: str | None = None,
                                 scale: float = 1.0) -> tuple[Array, Array, Array]:
    """The gradients (dq, dk, dv) of what depends on attention's output by ``do``, from an initial state of 0.

    ``q`` and ``k`` are (B, H, N, D), ``v`` and ``do`` (B, H, N, E), all of f16, bf16 or f32, ``slope`` (H,) is f32.
    Each gradient has the shape and type of what it is the gradient of. ``engine`` is where to compute, as in
    ``kernel.on(engine)``.
    """
    kernel = lightning_attention.on(engine) if engine else lightning_attention
    return gradients(functools.partial(kernel, initial=None, final=None, scale=scale), q, k, v, slope, do)


def gradients(kernel: Callable[..., Any], q: Array, k: Array, v: Array, slope: Array,
              do: Array) -> tuple[Array, Array, Array]:
    """dq, dk and dv by three calls of a ``kernel`` (queries, keys, values, slope, output)."""
    import numpy as np

    dq, dk, dv = (np.empty(x.shape, x.dtype) for x in (q, k, v))
    for queries, keys, values, gradient, reverse in (do, v, k, dq, False), (v, do, q, dk, True), (k, q, do, dv, True):
        kernel(queries, keys, values, slope, gradient, D=queries.shape[3], E=values.shape[3], reverse=reverse)
    return dq, dk, dv


def slopes(heads: int) -> Array:
    """The slopes of ALiBi (heads,), f32: 2^(−8 (i + 1) / heads) for powers of two, else those of the power below, and
    every other one of the power above."""
    import numpy as np

    power = 1 << heads.bit_length() - 1
    found = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    found += [2 ** (-4 * (i + 1) / power) for i in range(0, 2 * (heads - power), 2)]
    return np.array(found, np.float32)


def reference(q: Array, k: Array, v: Array, slope: Array, initial: Array | None = None) -> tuple[Array, Array]:
    """The output (B, H, N, E) and the final state (B, H, D, E) by the recurrence, in the arrays' type."""
    import numpy as np

    o, (batch, heads, length, d) = np.zeros_like(v), q.shape
    kv = np.zeros((batch, heads, d, v.shape[3]), v.dtype) if initial is None else initial
    for t in range(length):
        kv = kv * np.exp(-slope)[:, None, None] + k[:, :, t, :, None] * v[:, :, t, None, :]
        o[:, :, t] = np.einsum("bhd,bhde->bhe", q[:, :, t], kv)
    return o, kv


def reference_backward(q: Array, k: Array, v: Array, slope: Array, do: Array) -> tuple[Array, Array, Array]:
    """dq, dk and dv by the definition, with matrices of N×N, in the arrays' type."""
    import numpy as np

    t = np.arange(q.shape[2])
    distance = t[:, None] - t[None, :]
    mask = np.where(distance >= 0, np.exp(-slope[:, None, None] * np.maximum(distance, 0)), 0.0)
    da, a = (np.einsum("bhtd,bhsd,hts->bhts", x, y, mask, optimize=True) for x, y in ((do, v), (q, k)))
    return da @ k, da.swapaxes(2, 3) @ q, a.swapaxes(2, 3) @ do


def operands(shape: tuple[int, ...], dtype: tl.DType, seed: int) -> tuple[Array, ...]:
    """q, k, v, slope, initial state and do of a ``shape`` (B, H, N, D, E)."""
    import numpy as np

    batch, heads, length, d, e = shape
    rng = np.random.default_rng(seed)
    q, k = (normal(rng, (batch, heads, length, d), dtype) for _ in range(2))
    v, do = (normal(rng, (batch, heads, length, e), dtype) for _ in range(2))
    return q, k, v, slopes(heads), normal(rng, (batch, heads, d, e), tl.f32), do


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, initial: bool = True) -> Case:
    """Of :func:`lightning_attention`; ``shape`` is (B, H, N, D, E)."""
    q, k, v, slope, state, _ = operands(shape, dtype, seed)
    o, final = empty(v.shape, dtype), empty(state.shape, tl.f32)
    references = reference(wide(q), wide(k), wide(v), wide(slope), wide(state) if initial else None)
    return Case((q, k, v, slope, o, state if initial else None, final), (o, final), references,
                {"D": shape[3], "E": shape[4]}, depth=shape[2])


def reversed_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, initial: bool = True) -> Case:
    """Of :func:`lightning_attention` from the last token to the first; ``shape`` is (B, H, N, D, E)."""
    q, k, v, slope, state, _ = operands(shape, dtype, seed)
    o, final = empty(v.shape, dtype), empty(state.shape, tl.f32)
    x, y, z = (wide(array)[:, :, ::-1] for array in (q, k, v))
    out, kv = reference(x, y, z, wide(slope), wide(state) if initial else None)
    return Case((q, k, v, slope, o, state if initial else None, final), (o, final), (out[:, :, ::-1], kv),
                {"D": shape[3], "E": shape[4], "reverse": True}, depth=shape[2])


def step_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`lightning_attention_step`; ``shape`` is (B, H, N, D, E), of which one token is taken."""
    batch, heads, _, d, e = shape
    q, k, v, slope, state, _ = operands((batch, heads, 1, d, e), dtype, seed)
    out, kv = reference(*map(wide, (q, k, v, slope, state)))
    o = empty((batch, heads, e), dtype)
    return Case((q[:, :, 0], k[:, :, 0], v[:, :, 0], slope, state, o), (o, state), (out[:, :, 0], kv), {"D": d},
                depth=d)


CASES = ((lightning_attention, case), (lightning_attention, functools.partial(case, initial=False)),
         (lightning_attention, reversed_case), (lightning_attention_step, step_case))
"""The kernels with what makes calls of each."""


def main() -> None:
    for kernel, make in CASES:
        report(kernel, SHAPES, make)


if __name__ == "__main__":
    main()
