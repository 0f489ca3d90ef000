"""Linear attention whose state forgets all of its rows alike: gated linear attention with one gate for each head and
token (Mamba-2's form: Dao and Gu, 2024), and retention, with a constant one for each head (Sun et al., 2023).

Sₜ = e^gₜ Sₜ₋₁ + kₜ vₜᵀ and oₜ = Sₜᵀ qₜ / √D, where g is negative or 0. What :mod:`gated_linear_attention` takes a
kernel for, the weights of pairs of tokens, is here a matrix for a chunk of C tokens:

    O = ((Q Kᵀ ⊙ M) V + e^b ⊙ Q S) / √D          M[i, j] = e^(b[i] − b[j]) for i ≥ j, else 0
    S ← e^b_C S + (e^(b_C − b) ⊙ K)ᵀ V           b[i] = g_1 + … + g_i

After a strong gate, differences of sums would leave nothing of the weak ones that follow. The sums are therefore kept
in f64, as two f32 numbers, a high and a low part.
The gradients are of the same form, with other operands, those of k and v from the last token to the first, and

    dgₜ = Σ_{s≥t} (qₛ·dqₛ − kₛ·dkₛ)

Arrays are (batch, heads, sequence, D or E), g (batch, heads, sequence), f32, states (batch, heads, D, E), f32. A step
of decoding is :func:`gated_linear_attention.gla_step`, whose gates may share memory.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, report, wide
from kernels_zoo.linear_attention import gated_linear_attention
from kernels_zoo.linear_attention.arrays import KEYS, STATE, VALUES
from kernels_zoo.linear_attention.gated_linear_attention import LOG2_E, SHAPES, chunk_of, gla_step, parts
from kernels_zoo.linear_attention.lightning import lightning_attention, lightning_attention_backward

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    GATES = Any
else:
    GATES = tl.f32["B", "H", "N"]
Parts = tuple[tl.Tile | float, ...]
"""Of a number of f64: high and low."""


@tl.jit
def scalar_gate_sums(g: GATES, high: GATES, low: GATES, C: int = 64, warps: int = 1) -> None:
    """b of all chunks, times log₂ e, in two parts: ``high`` + ``low``."""
    B, H, N = g.shape
    tl.block(warps=warps)
    chunk, h, b = tl.grid(tl.cdiv(N, C), H, B)
    sums = tl.cumsum(tl.load(g[b, h, :], chunk * C, C).to(tl.f64) * LOG2_E, axis=0)
    first = sums.to(tl.f32)
    tl.store(high[b, h, :], chunk * C, first)
    tl.store(low[b, h, :], chunk * C, (sums - first.to(tl.f64)).to(tl.f32))


@tl.jit
def scalar_gated_outputs(
    q: KEYS, k: KEYS, v: VALUES, high: GATES, low: GATES, o: VALUES, initial: STATE | None, final: STATE | None,
    D: int = 64, E: int = 64, scale: float = 0.125, C: int = 64, BE: int = 0, stages: int = 0, warps: int = 0,
) -> None:
    """``high`` and ``low`` are what :func:`scalar_gate_sums` gives for chunks of C tokens, ``initial`` is the state
    before the first token, 0 where None, and ``final`` that after the last one. Outputs are times ``scale``,
    and those of f32 as exact as that, since the gates' gradients are differences of such."""
    long = D > 64 and C > 32
    columns = min(E, 128) if tl.target() == "cpu" else 64 if D <= 128 and E > 32 and long else 32
    BE, warps = BE or columns, warps or (8 if D > 128 or long else 4)
    room = 2048 if tl.supports(tl.copy_async) else 1024            # what shared memory holds
    stages = stages or (2 if D * v.dtype.bits <= room else 1)
    B, H, N, _ = q.shape
    exact = o.dtype is tl.f32
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(E, BE), H, B)
    column, rows = tile * BE, tl.arange(C)
    state = tl.zeros((D, BE), tl.f32)
    if initial is not None:
        state = tl.load(initial[b, h, :, :], (0, column), (D, BE))

    def weights(later: Parts, earlier: Parts) -> tl.Tile:
        """e^(b[later] − b[earlier])."""
        return tl.exp2((later[0] - earlier[0]) + (later[1] - earlier[1]), approximate=True)

    for start in tl.range(0, N, C, stages=stages):
        sums, last = tuple(tl.load(x[b, h, :], start, C) for x in (high, low)), tl.minimum(start + C, N) - 1
        all_of_it = tuple(x[b, h, last] for x in (high, low))
        by_rows, by_columns = tuple(x[:, None] for x in sums), tuple(x[None, :] for x in sums)
        mask = tl.where(rows[:, None] >= rows[None, :], weights(by_rows, by_columns), 0.0)
        x = tl.load(q[b, h, :, :], (start, 0), (C, D))
        y = tl.load(k[b, h, :, :], (start, 0), (C, D))
        z = tl.load(v[b, h, :, :], (start, column), (C, BE))
        out = tl.zeros((C, BE), tl.f32)
        for part in parts(state, x.dtype, exact):
            out = tl.dot(x, part, out)
        out = out * weights(by_rows, (0.0, 0.0))
        for part in parts(tl.dot(x, y.T) * mask, z.dtype, exact):
            out = tl.dot(part, z, out)
        state = state * weights(all_of_it, (0.0, 0.0))
        for part in parts(z * weights(all_of_it, by_rows), z.dtype, exact):
            state = tl.dot(y.T, part, state)
        tl.store(o[b, h, :, :], (start, column), (out * scale).to(o.dtype))
    if final is not None:
        tl.store(final[b, h, :, :], (0, column), state)


@tl.jit
def scalar_gate_gradients(q: KEYS, k: KEYS, dq: KEYS, dk: KEYS, dg: GATES, D: int = 64, C: int = 64,
                          warps: int = 4) -> None:
    """dgₜ = Σ_{s≥t} (qₛ·dqₛ − kₛ·dkₛ)."""
    B, H, N, _ = q.shape
    tl.block(warps=warps)
    h, b = tl.grid(H, B)
    total, last = tl.zeros((), tl.f32), (tl.cdiv(N, C) - 1) * C
    for n in tl.range(0, N, C):
        start = last - n
        x, y, dx, dy = (tl.load(a[b, h, :, :], (start, 0), (C, D)).to(tl.f32) for a in (q, k, dq, dk))
        both = tl.sum(x * dx - y * dy, axis=1)
        tl.store(dg[b, h, :], start, tl.cumsum(both, axis=0, reverse=True) + total)
        total = total + tl.sum(both, axis=0)


def scalar_gated_attention(q: Array, k: Array, v: Array, g: Array, initial: Array | None = None,
                           engine: str | None = None) -> tuple[Array, Array]:
    """The output (B, H, N, E), in the type of ``v``, and the state after the last token, (B, H, D, E), f32.

    ``q`` and ``k`` are (B, H, N, D), ``v`` (B, H, N, E), all of f16, bf16 or f32; ``g`` (B, H, N), f32, has the natural
    logarithms of the gates, finite. ``initial`` is the state before the first token, 0 where None. ``engine`` is where
    to compute, as in ``kernel.on(engine)``.
    """
    import numpy as np

    o, final = np.empty_like(v), np.empty((*q.shape[:2], q.shape[3], v.shape[3]), np.float32)
    forward(q, k, v, g, o, initial, final, q.shape[3]**-0.5, engine)
    return o, final


def chunk_for(D: int, bits: int, exact: bool = False) -> int:
    """Tokens of a chunk, C: long rows leave registers for half of them, the more so where outputs are ``exact``."""
    longest = 64 if exact or bits > 16 else 128
    return chunk_of(bits) // 2 if longest < D else chunk_of(bits)


def forward(q: Array, k: Array, v: Array, g: Array, o: Array, initial: Array | None, final: Array | None, scale: float,
            engine: str | None) -> None:
    """Both kernels: fills ``o`` and ``final``."""
    import numpy as np

    chunk, high, low = chunk_for(q.shape[3], 8 * q.itemsize, o.itemsize == 4), np.empty_like(g), np.empty_like(g)
    sums, outputs = (x.on(engine) if engine else x for x in (scalar_gate_sums, scalar_gated_outputs))
    sums(g, high, low, C=chunk)
    outputs(q, k, v, high, low, o, initial, final, D=q.shape[3], E=v.shape[3], scale=scale, C=chunk)


def scalar_gated_attention_backward(q: Array, k: Array, v: Array, g: Array, do: Array,
                                    engine: str | None = None) -> tuple[Array, Array, Array, Array]:
    """The gradients (dq, dk, dv, dg) of what depends on the output by ``do``, (B, H, N, E) of the type of ``v``, from
    an initial state of 0. The other arguments are those of :func:`scalar_gated_attention`; each gradient has the shape
    and type of what it is the gradient of.
    """
    import numpy as np

    dq, dk, dv, dg = (*(np.empty(q.shape, np.float32) for _ in range(2)), np.empty_like(v), np.empty_like(g))
    back = np.zeros_like(g)                                        # a token's gate lies between it and the one before
    back[:, :, 1:] = g[:, :, :0:-1]
    rq, rk, rv, rdo, rdk, rdv = (x[:, :, ::-1] for x in (q, k, v, do, dk, dv))
    for x, y, z, gates, out in (do, v, k, g, dq), (rv, rdo, rq, back, rdk), (rk, rq, rdo, back, rdv):
        forward(x, y, z, gates, out, None, None, q.shape[3]**-0.5, engine)
    (scalar_gate_gradients.on(engine) if engine else scalar_gate_gradients)(q, k, dq, dk, dg, D=q.shape[3])
    return dq.astype(q.dtype), dk.astype(k.dtype), dv, dg


def scalar_gated_step(q: Array, k: Array, v: Array, g: Array, state: Array, o: Array,
                      engine: str | None = None) -> None:
    """Decoding: ``o`` (B, H, E) of one more token (B, H, D or E) with the gates ``g`` (B, H), f32; ``state`` is changed
    in place."""
    import numpy as np

    gates = np.broadcast_to(g[:, :, None], k.shape)
    (gla_step.on(engine) if engine else gla_step)(q, k, v, gates, state, o, D=q.shape[2])


def retention_slopes(heads: int) -> Array:
    """−ln(1 − 2^(−5 − h)) for head h, (heads,), f32: by so much the logarithms of weights fall with each token."""
    import numpy as np

    slopes: Array = -np.log1p(-(2.0 ** -(5 + np.arange(heads))))
    return slopes.astype(np.float32)


def retention(q: Array, k: Array, v: Array, initial: Array | None = None,
              engine: str | None = None) -> tuple[Array, Array]:
    """As :func:`scalar_gated_attention` with the gates −:func:`retention_slopes`: lightning attention with a scale."""
    import numpy as np

    (batch, heads, _, d), e = q.shape, v.shape[3]
    o, final = np.empty_like(v), np.empty((batch, heads, d, e), np.float32)
    kernel = lightning_attention.on(engine) if engine else lightning_attention
    kernel(q, k, v, retention_slopes(heads), o, initial, final, D=d, E=e, scale=d**-0.5)
    return o, final


def retention_backward(q: Array, k: Array, v: Array, do: Array,
                       engine: str | None = None) -> tuple[Array, Array, Array]:
    """dq, dk and dv, as :func:`scalar_gated_attention_backward` gives them."""
    return lightning_attention_backward(q, k, v, retention_slopes(q.shape[1]), do, engine, q.shape[3]**-0.5)


def reference(q: Array, k: Array, v: Array, g: Array, initial: Array | None = None) -> tuple[Array, Array]:
    """The output and the final state by the recurrence, in the arrays' type."""
    return gated_linear_attention.reference(q, k, v, spread(g, q), initial)


def reference_backward(q: Array, k: Array, v: Array, g: Array, do: Array) -> tuple[Array, Array, Array, Array]:
    """dq, dk, dv and dg by the recurrence, in the arrays' type."""
    *found, dg = gated_linear_attention.reference_backward(q, k, v, spread(g, q), do)
    dq, dk, dv = found
    return dq, dk, dv, dg.sum(axis=3)


def spread(g: Array, q: Array) -> Array:
    """The gates as those of all elements of keys."""
    import numpy as np

    return np.broadcast_to(g[..., None], q.shape)


def operands(shape: tuple[int, ...], dtype: tl.DType, seed: int, temper: float = 1.0) -> tuple[Array, ...]:
    """q, k, v, g and an initial state of a ``shape`` (B, H, N, D, E)."""
    q, k, v, g, initial = gated_linear_attention.operands(shape, dtype, seed, temper)
    return q, k, v, g[..., 0].copy(), initial


def reference_sums(g: Array, chunk: int) -> tuple[Array, Array]:
    """What :func:`scalar_gate_sums` gives: f32, but exact."""
    import numpy as np

    sums = np.zeros(g.shape)
    for start in range(0, g.shape[2], chunk):
        part = slice(start, start + chunk)
        sums[:, :, part] = np.cumsum(wide(g[:, :, part]) * LOG2_E, axis=2)
    high = sums.astype(np.float32)
    return high, (sums - high).astype(np.float32)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, initial: bool = True) -> Case:
    """Of :func:`scalar_gated_outputs`; ``shape`` is (B, H, N, D, E)."""
    q, k, v, g, state = operands(shape, dtype, seed, temper=16)
    o, final, chunk = empty(v.shape, dtype), empty(state.shape, tl.f32), chunk_for(shape[3], dtype.bits)
    references = reference(wide(q), wide(k), wide(v), wide(g), wide(state) if initial else None)
    arguments = (q, k, v, *reference_sums(g, chunk), o, state if initial else None, final)
    constants = {"D": shape[3], "E": shape[4], "scale": shape[3]**-0.5, "C": chunk}
    return Case(arguments, (o, final), references, constants, depth=shape[2])


def sums_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`scalar_gate_sums`; ``shape`` is (B, H, N, D, E)."""
    *_, g, _ = operands(shape, dtype, seed)
    high, low = empty(g.shape, tl.f32), empty(g.shape, tl.f32)
    return Case((g, high, low), (high,), reference_sums(g, 64)[:1], {"C": 64})


def gradients_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`scalar_gate_gradients`; ``shape`` is (B, H, N, D, E)."""
    import numpy as np

    q, k, _, g, _ = operands(shape, dtype, seed)
    dq, dk, *_ = operands(shape, dtype, seed + 1)
    dg = empty(g.shape, tl.f32)
    both = np.einsum("bhnd,bhnd->bhn", wide(q), wide(dq)) - np.einsum("bhnd,bhnd->bhn", wide(k), wide(dk))
    return Case((q, k, dq, dk, dg), (dg,), (np.cumsum(both[:, :, ::-1], axis=2)[:, :, ::-1],), {"D": shape[3]},
                depth=shape[2] * shape[3])


CASES = ((scalar_gate_sums, sums_case), (scalar_gated_outputs, case),
         (scalar_gated_outputs, functools.partial(case, initial=False)), (scalar_gate_gradients, gradients_case))
"""The kernels with what makes calls of each."""


def main() -> None:
    for kernel, make in CASES:
        report(kernel, SHAPES, make)


if __name__ == "__main__":
    main()
