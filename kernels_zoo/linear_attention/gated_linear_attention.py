"""Gated linear attention (Yang et al., 2024), chunkwise: a state that forgets each of its rows at a rate of its own.

Sₜ = diag(e^gₜ) Sₜ₋₁ + kₜ vₜᵀ and oₜ = Sₜᵀ qₜ / √D, where g, the logarithms of the gates, is negative or 0. With b the
sum of g within a chunk of C tokens up to and with each, and b_C its last row, a chunk is

    O = (Q ⊙ e^b) S / √D + A V           A[i, j] = Σ_d Q[i, d] K[j, d] e^(b[i, d] − b[j, d]) / √D for i ≥ j, else 0
    S ← diag(e^b_C) S + (K ⊙ e^(b_C − b))ᵀ V

A is no product of matrices as it stands: e^b underflows, and e^−b overflows. Chunks are divided once more. For blocks
of 16 rows I and columns J < I, with n the first row of I, A = (Q ⊙ e^(b_I − b_n)) (K ⊙ e^(b_n − b_J))ᵀ has no exponent
above 0; on the diagonal, elements are summed one by one, in f32, with products of gates.

Exponents are sums of the gates in between, never differences of longer sums, of which strong gates would leave nothing.
One kernel scales Q and K, one makes A, both for all chunks at once, and one walks along the chunks with the state.

The gradients are sums of the same weights, those of k and v from the last token to the first:

    dqₜ = Σ_{s≤t} (doₜ·vₛ) e^(bₜ − bₛ) ⊙ kₛ / √D         dkₛ = Σ_{t≥s} (vₛ·doₜ) e^(bₜ − bₛ) ⊙ qₜ / √D
    dvₛ = Σ_{t≥s} (kₛ·(e^(bₜ − bₛ) ⊙ qₜ)) doₜ / √D       dgₜ = Σ_{s≥t} (qₛ ⊙ dqₛ − kₛ ⊙ dkₛ)

dv is the forward pass with other operands; dq and dk share a kernel, in which the gates are those of its outputs.
Arrays are (batch, heads, sequence, D or E), g is f32, states are (batch, heads, D, E), f32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.linear_attention.arrays import KEY, KEYS, STATE, VALUE, VALUES

LOG2_E = math.log2(math.e)
SUB = 16
"""Rows and columns of the blocks that A is made of."""
SHAPES = [(1, 1, 1, 16, 16), (1, 2, 63, 60, 32), (2, 3, 130, 32, 59), (1, 2, 64, 16, 64), (1, 1, 193, 40, 24),
          (2, 4, 513, 128, 64), (0, 1, 8, 16, 16), (1, 1, 0, 16, 16)]
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    SCORES = Any
    GATES = Any
    DECAYS = Any
    FADES = Any
else:
    SCORES = tl.f16["B", "H", "N", "C"] | tl.bf16["B", "H", "N", "C"] | tl.f32["B", "H", "N", "C"]
    GATES = tl.f32["B", "H", "N", "D"]
    DECAYS = tl.f32["B", "H", "chunks", "D"]
    FADES = tl.f32["B", "H", "blocks", "D"]


@tl.jit
def gla_gates(q: KEYS, k: KEYS, g: GATES, queries: KEYS, keys: KEYS, decay: DECAYS, blocks: KEYS, fade: FADES,
              D: int = 64, C: int = 64, BD: int = 64, warps: int = 4) -> None:
    """What chunks multiply the state by, and what they add to it: ``queries`` = Q ⊙ e^b / √D,
    ``keys`` = K ⊙ e^(b_C − b) and ``decay`` = e^b_C; the last two also with blocks of SUB tokens for chunks:
    ``blocks`` and ``fade``."""
    B, H, N, _ = q.shape
    tl.block(warps=warps)
    BD = min(BD, D)
    columns = -(-D // BD)
    tile, h, b = tl.grid(tl.cdiv(N, C) * columns, H, B)
    chunk, column = tile // columns, tile % columns * BD
    total = tl.zeros((BD,), tl.f32)
    for start in tl.range(chunk * C, chunk * C + C, SUB):
        gates = tl.load(g[b, h, :, :], (start, column), (SUB, BD)) * LOG2_E
        sums = tl.cumsum(gates, axis=0) + total[None, :]                            # b
        x = tl.load(q[b, h, :, :], (start, column), (SUB, BD)) * (tl.exp2(sums, approximate=True) * D**-0.5)
        tl.store(queries[b, h, :, :], (start, column), x.to(queries.dtype))
        total = total + tl.sum(gates, axis=0)
    tl.store(decay[b, h, chunk, :], column, tl.exp2(total, approximate=True))
    last = (tl.arange(SUB) == SUB - 1)[:, None]
    rest = tl.zeros((BD,), tl.f32)                                 # from the end of the block to that of the chunk
    for back in tl.range(SUB, C + SUB, SUB):
        start = chunk * C + C - back
        later = tl.load(g[b, h, :, :], (start + 1, column), (SUB, BD), mask=~last) * LOG2_E
        after = tl.cumsum(later, axis=0, reverse=True)                              # b_SUB − b
        y = tl.load(k[b, h, :, :], (start, column), (SUB, BD))
        tl.store(blocks[b, h, :, :], (start, column), (y * tl.exp2(after, approximate=True)).to(blocks.dtype))
        y = y * tl.exp2(after + rest[None, :], approximate=True)
        tl.store(keys[b, h, :, :], (start, column), y.to(keys.dtype))
        total = tl.sum(later, axis=0) + tl.load(g[b, h, start, :], column, BD) * LOG2_E
        tl.store(fade[b, h, start // SUB, :], column, tl.exp2(total, approximate=True))
        rest = rest + total


@tl.jit
def gla_scores(q: KEYS, k: KEYS, g: GATES, blocks: KEYS, fade: FADES, a: SCORES,
               D: int = 64, C: int = 64, warps: int = 0) -> None:
    """A of all chunks, one below the other. A block of threads makes SUB of its rows."""
    B, H, N, _ = q.shape
    tl.block(warps=warps or (1 if D <= 128 else 4))                # of several, each would scale all of Q
    tile, h, b = tl.grid(tl.cdiv(N, SUB), H, B)
    start = tile * SUB
    first = start // C * C                                         # of the chunk
    rows = tl.arange(SUB)
    x = tl.load(q[b, h, :, :], (start, 0), (SUB, D)).to(tl.f32) * D**-0.5

    # Of column j, from the last one: the weights of rows i ≥ j are the products of the gates from j + 1 to i.
    diagonal, weights = tl.zeros((SUB, SUB), tl.f32), tl.full((SUB, D), 1.0, tl.f32)
    for n in tl.range(SUB):
        j = SUB - 1 - n
        y = tl.load(k[b, h, :, :], (start + j, 0), (1, D))
        gate = tl.exp2(tl.load(g[b, h, :, :], (start + j, 0), (1, D)) * LOG2_E, approximate=True)
        column = tl.sum(x * y * weights, axis=1)[:, None]
        diagonal = tl.where((rows[:, None] >= j) & (rows[None, :] == j), column, diagonal)
        weights = tl.where((rows >= j)[:, None], weights * gate, 1.0)
    tl.store(a[b, h, :, :], (start, start - first), diagonal.to(a.dtype))

    memory = tl.shared((SUB, D), tl.f32)                           # so that x has other layouts before and after
    tl.store(memory, (0, 0), x * weights)
    tl.sync()
    x = tl.load(memory, (0, 0), (SUB, D))                          # times weights from the end of J, which moves away
    for distance in tl.range(SUB, start - first + SUB, SUB):
        y = tl.load(blocks[b, h, :, :], (start - distance, 0), (SUB, D))
        tl.store(a[b, h, :, :], (start, start - distance - first), tl.dot(x.to(q.dtype), y.T).to(a.dtype))
        x = x * tl.load(fade[b, h, :, :], ((start - distance) // SUB, 0), (1, D))
    for column in tl.range(start - first + SUB, C, SUB):
        tl.store(a[b, h, :, :], (start, column), tl.zeros((SUB, SUB), a.dtype))


@tl.jit
def gla_outputs(
    queries: KEYS, keys: KEYS, decay: DECAYS, a: SCORES, v: VALUES, o: VALUES, initial: STATE | None,
    final: STATE | None, D: int = 64, E: int = 64, C: int = 64, BE: int = 0, stages: int = 0, warps: int = 4,
) -> None:
    """``initial`` is the state before the first token, 0 where None, and ``final`` that after the last one."""
    BE = BE or (min(E, 128) if tl.target() == "cpu" else 32 if D <= 128 else 16)   # what registers hold, or all,
    room = 2048 if tl.supports(tl.copy_async) else 1024                              # and what shared memory does
    stages = stages or (2 if D * v.dtype.bits <= room else 1)
    B, H, N, _ = queries.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(E, BE), H, B)
    column = tile * BE
    state = tl.zeros((D, BE), tl.f32)
    if initial is not None:
        state = tl.load(initial[b, h, :, :], (0, column), (D, BE))
    for start in tl.range(0, N, C, stages=stages):
        z = tl.load(v[b, h, :, :], (start, column), (C, BE))
        inter = tl.dot(tl.load(queries[b, h, :, :], (start, 0), (C, D)), state.to(queries.dtype))
        out = tl.dot(tl.load(a[b, h, :, :], (start, 0), (C, C)), z, inter)
        kept = state * tl.load(decay[b, h, start // C, :], 0, D)[:, None]
        state = tl.dot(tl.load(keys[b, h, :, :], (start, 0), (C, D)).T, z, kept)
        tl.store(o[b, h, :, :], (start, column), out.to(o.dtype))
    if final is not None:
        tl.store(final[b, h, :, :], (0, column), state)


@tl.jit
def gla_step(q: KEY, k: KEY, v: VALUE, g: tl.f32["B", "H", "D"], state: STATE, o: VALUE,
             D: int = 64, BE: int = 32, warps: int = 4) -> None:
    """Decoding: o = Sᵀ q / √D of one more token, after S ← diag(e^g) S + k vᵀ in place."""
    B, H, _ = q.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(v.shape[2], BE), H, B)
    column = tile * BE
    x, y, gates = (tl.load(t[b, h, :], 0, D).to(tl.f32)[:, None] for t in (q, k, g))
    z = tl.load(v[b, h, :], column, BE).to(tl.f32)[None, :]
    new = tl.load(state[b, h, :, :], (0, column), (D, BE)) * tl.exp2(gates * LOG2_E, approximate=True) + y * z
    tl.store(state[b, h, :, :], (0, column), new)
    tl.store(o[b, h, :], column, tl.sum(x * D**-0.5 * new, axis=0).to(o.dtype))


@tl.jit
def gla_gated_outputs(q: VALUES, k: VALUES, v: KEYS, g: GATES, o: GATES, D: int = 64, E: int = 64, BD: int = 0,
                      stages: int = 0, warps: int = 4) -> None:
    """oₜ = Σ_{s≤t} (qₜ·kₛ) e^(bₜ − bₛ) ⊙ vₛ / √D, in chunks of SUB tokens."""
    BD = BD or (min(D, 128) if tl.target() == "cpu" else 32 if E <= 128 else 16)
    stages = stages or (2 if E * v.dtype.bits <= 2048 else 1)
    B, H, N, _ = q.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(D, BD), H, B)
    at, rows = tile * BD, tl.arange(SUB)[:, None]
    state, memory = tl.zeros((E, BD), tl.f32), tl.shared((SUB, SUB), tl.f32)
    for start in tl.range(0, N, SUB, stages=stages):
        x = tl.load(q[b, h, :, :], (start, 0), (SUB, E))
        y = tl.load(k[b, h, :, :], (start, 0), (SUB, E))
        inter = tl.zeros((SUB, BD), tl.f32)
        for part in parts(state, x.dtype):
            inter = tl.dot(x, part, inter)
        tl.store(memory, (0, 0), tl.dot(x, y.T))                   # from which columns are read
        tl.sync()
        out, weights, after = tl.zeros((SUB, BD), tl.f32), *(tl.full((SUB, BD), 1.0, tl.f32) for _ in range(2))
        for n in tl.range(SUB, unroll=4):                          # as on the diagonal of A
            j = SUB - 1 - n
            gate = tl.exp2(tl.load(g[b, h, :, :], (start + j, at), (1, BD)) * LOG2_E, approximate=True)
            seen = rows >= j
            column = tl.where(seen, tl.load(memory, (0, j), (SUB, 1)), 0.0)
            out = out + column * weights * tl.load(v[b, h, :, :], (start + j, at), (1, BD))
            weights = tl.where(seen, weights * gate, weights)      # e^b in the end, and
            after = tl.where(seen, after, after * gate)            # e^(b_C − b)
        tl.sync()
        tl.store(o[b, h, :, :], (start, at), (inter * weights + out) * D**-0.5)
        state = state * tl.sum(tl.where(rows == SUB - 1, weights, 0.0), axis=0)[None, :]
        for part in parts(tl.load(v[b, h, :, :], (start, at), (SUB, BD)) * after, v.dtype):
            state = tl.dot(y.T, part, state)


def parts(x: tl.Tile, dtype: tl.DType, exact: bool = True) -> list[tl.Tile]:
    """``x``, f32, as a sum of tiles of this type; one where it need not be ``exact``. Of the gates' gradients, sums of
    differences, the rounding of one would be most of what is left."""
    high = x.to(dtype)
    return [high, (x - high.to(tl.f32)).to(dtype)] if exact and dtype is not tl.f32 else [high]


@tl.jit
def gla_gate_gradients(q: KEYS, k: KEYS, dq: GATES, dk: GATES, dg: GATES,
                       D: int = 64, C: int = 64, BD: int = 32, warps: int = 4) -> None:
    """dgₜ = Σ_{s≥t} (qₛ ⊙ dqₛ − kₛ ⊙ dkₛ)."""
    B, H, N, _ = q.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(D, BD), H, B)
    column, total = tile * BD, tl.zeros((BD,), tl.f32)
    last = (tl.cdiv(N, C) - 1) * C
    for n in tl.range(0, N, C):
        start = last - n
        x, y, dx, dy = (tl.load(a[b, h, :, :], (start, column), (C, BD)).to(tl.f32) for a in (q, k, dq, dk))
        both = x * dx - y * dy
        tl.store(dg[b, h, :, :], (start, column), tl.cumsum(both, axis=0, reverse=True) + total[None, :])
        total = total + tl.sum(both, axis=0)


def chunk_of(bits: int) -> int:
    """Tokens of a chunk, C: the products of f32 need as much shared memory for half of them."""
    return 64 if bits <= 16 else 32


def gated_linear_attention(q: Array, k: Array, v: Array, g: Array, initial: Array | None = None,
                           engine: str | None = None) -> tuple[Array, Array]:
    """The output (B, H, N, E), in the type of ``v``, and the state after the last token, (B, H, D, E), f32.

    ``q`` and ``k`` are (B, H, N, D), ``v`` (B, H, N, E), all of f16, bf16 or f32; ``g`` (B, H, N, D), f32, has the
    natural logarithms of the gates, finite. ``initial`` is the state before the first token, 0 where None. ``engine``
    is where to compute, as in ``kernel.on(engine)``.
    """
    import numpy as np

    batch, heads, length, d = q.shape
    e, chunk = v.shape[3], chunk_of(8 * q.itemsize)
    queries, keys, o = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    decay = np.empty((batch, heads, -(-length // chunk), d), np.float32)
    blocks, fade = np.empty_like(k), np.empty((batch, heads, -(-length // SUB), d), np.float32)
    a, final = np.empty((batch, heads, length, chunk), q.dtype), np.empty((batch, heads, d, e), np.float32)
    common = {"D": d, "C": chunk}
    calls: list[tuple[Any, tuple[Array | None, ...], dict[str, int]]] = [
        (gla_gates, (q, k, g, queries, keys, decay, blocks, fade), common),
        (gla_scores, (q, k, g, blocks, fade, a), common),
        (gla_outputs, (queries, keys, decay, a, v, o, initial, final), {**common, "E": e})]
    for kernel, arguments, constants in calls:
        (kernel.on(engine) if engine else kernel)(*arguments, **constants)
    return o, final


def gated_linear_attention_backward(q: Array, k: Array, v: Array, g: Array, do: Array,
                                    engine: str | None = None) -> tuple[Array, Array, Array, Array]:
    """The gradients (dq, dk, dv, dg) of what depends on the output by ``do``, (B, H, N, E) of the type of ``v``, from
    an initial state of 0. The other arguments are those of :func:`gated_linear_attention`; each gradient has the shape
    and type of what it is the gradient of.
    """
    import numpy as np

    dq, dk, dg = (np.empty(g.shape, np.float32) for _ in range(3))
    back = np.zeros_like(g)                                        # a token's gate lies between it and the one before
    back[:, :, 1:] = g[:, :, :0:-1]
    rq, rk, rv, rdo = (x[:, :, ::-1] for x in (q, k, v, do))
    common = {"D": q.shape[3], "E": v.shape[3]}
    calls: list[tuple[Any, tuple[Array, ...], dict[str, int]]] = [
        (gla_gated_outputs, (do, v, k, g, dq), common),
        (gla_gated_outputs, (rv, rdo, rq, back, dk[:, :, ::-1]), common),
        (gla_gate_gradients, (q, k, dq, dk, dg), {"D": q.shape[3]})]
    for kernel, arguments, constants in calls:
        (kernel.on(engine) if engine else kernel)(*arguments, **constants)
    dv, _ = gated_linear_attention(rk, rq, rdo, back, None, engine)
    return dq.astype(q.dtype), dk.astype(k.dtype), np.ascontiguousarray(dv[:, :, ::-1]), dg


def reference(q: Array, k: Array, v: Array, g: Array, initial: Array | None = None) -> tuple[Array, Array]:
    """The output and the final state by the recurrence, in the arrays' type."""
    import numpy as np

    o, (batch, heads, length, d) = np.zeros_like(v), q.shape
    state = np.zeros((batch, heads, d, v.shape[3]), v.dtype) if initial is None else initial
    for t in range(length):
        state = state * np.exp(g[:, :, t, :, None]) + k[:, :, t, :, None] * v[:, :, t, None, :]
        o[:, :, t] = np.einsum("bhd,bhde->bhe", q[:, :, t], state) / d**0.5
    return o, state


def reference_backward(q: Array, k: Array, v: Array, g: Array, do: Array) -> tuple[Array, Array, Array, Array]:
    """dq, dk, dv and dg by the recurrence and its reverse, in the arrays' type."""
    import numpy as np

    dq, dk, dv, dg = (np.zeros_like(x) for x in (q, k, v, g))
    batch, heads, length, d = q.shape
    states = [np.zeros((batch, heads, d, v.shape[3]), v.dtype)]
    for t in range(length):
        states.append(states[-1] * np.exp(g[:, :, t, :, None]) + k[:, :, t, :, None] * v[:, :, t, None, :])
    ds = np.zeros_like(states[0])
    for t in reversed(range(length)):
        ds = ds + q[:, :, t, :, None] * do[:, :, t, None, :] / d**0.5
        dq[:, :, t] = np.einsum("bhde,bhe->bhd", states[t + 1], do[:, :, t]) / d**0.5
        dk[:, :, t] = np.einsum("bhde,bhe->bhd", ds, v[:, :, t])
        dv[:, :, t] = np.einsum("bhde,bhd->bhe", ds, k[:, :, t])
        ds = ds * np.exp(g[:, :, t, :, None])
        dg[:, :, t] = np.sum(ds * states[t], axis=3)
    return dq, dk, dv, dg


def reference_chunks(q: Array, k: Array, g: Array, chunk: int) -> tuple[Array, Array, Array, Array]:
    """What :func:`gla_gates` gives, queries, keys and decay, and :func:`gla_scores`, in the arrays' type."""
    import numpy as np

    batch, heads, length, d = q.shape
    queries, keys, scores = np.empty_like(q), np.empty_like(k), np.zeros((batch, heads, length, chunk), q.dtype)
    decay = np.empty((batch, heads, -(-length // chunk), d), q.dtype)
    for start in range(0, length, chunk):
        part = slice(start, start + chunk)
        x, y, b = q[:, :, part] / d**0.5, k[:, :, part], np.cumsum(g[:, :, part], axis=2)
        queries[:, :, part], keys[:, :, part] = x * np.exp(b), y * np.exp(b[:, :, -1:] - b)
        decay[:, :, start // chunk] = np.exp(b[:, :, -1])
        for j in range(y.shape[2]):
            weights = np.exp(b[:, :, j:] - b[:, :, j : j + 1])
            scores[:, :, start + j : start + y.shape[2], j] = np.sum(x[:, :, j:] * y[:, :, j : j + 1] * weights, axis=3)
    return queries, keys, decay, scores


def operands(shape: tuple[int, ...], dtype: tl.DType, seed: int, temper: float = 1.0) -> tuple[Array, ...]:
    """q, k, v, g and an initial state of a ``shape`` (B, H, N, D, E); gates are σ(x)^(1 / temper) of normal x."""
    import numpy as np

    batch, heads, length, d, e = shape
    rng = np.random.default_rng(seed)
    q, k = (normal(rng, (batch, heads, length, d), dtype) for _ in range(2))
    v = normal(rng, (batch, heads, length, e), dtype)
    g = -np.log1p(np.exp(-rng.standard_normal((batch, heads, length, d)))) / temper
    return q, k, v, g.astype(np.float32), normal(rng, (batch, heads, d, e), tl.f32)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`gla_outputs`; ``shape`` is (B, H, N, D, E)."""
    import numpy as np

    q, k, v, g, initial = operands(shape, dtype, seed, temper=16)
    chunk = chunk_of(dtype.bits)
    queries, keys, decay, scores = reference_chunks(wide(q), wide(k), wide(g), chunk)
    o, final = empty(v.shape, dtype), empty(initial.shape, tl.f32)
    arguments = (*(x.astype(dtype.numpy) for x in (queries, keys)), decay.astype(np.float32),
                 scores.astype(dtype.numpy), v, o, initial, final)
    references = reference(wide(q), wide(k), wide(v), wide(g), wide(initial))
    return Case(arguments, (o, final), references, {"D": shape[3], "E": shape[4], "C": chunk}, depth=shape[2])


def gates_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`gla_gates`; ``shape`` is (B, H, N, D, E)."""
    q, k, _, g, _ = operands(shape, dtype, seed, temper=16)
    chunk = chunk_of(dtype.bits)
    wider = wide(q), wide(k), wide(g)
    references = *reference_chunks(*wider, chunk)[:3], *reference_chunks(*wider, SUB)[1:3]
    outputs = tuple(empty(x.shape, tl.f32 if n in (2, 4) else dtype) for n, x in enumerate(references))
    return Case((q, k, g, *outputs), outputs, references, {"D": shape[3], "C": chunk}, depth=chunk)


def scores_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`gla_scores`; ``shape`` is (B, H, N, D, E)."""
    import numpy as np

    q, k, _, g, _ = operands(shape, dtype, seed, temper=16)
    chunk = chunk_of(dtype.bits)
    *_, scores = reference_chunks(wide(q), wide(k), wide(g), chunk)
    _, blocks, fade, _ = reference_chunks(wide(q), wide(k), wide(g), SUB)
    a, given = empty(scores.shape, dtype), (blocks.astype(dtype.numpy), fade.astype(np.float32))
    return Case((q, k, g, *given, a), (a,), (scores,), {"D": shape[3], "C": chunk}, depth=shape[3])


def step_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`gla_step`; ``shape`` is (B, H, N, D, E), of which one token is taken."""
    batch, heads, _, d, e = shape
    q, k, v, g, state = operands((batch, heads, 1, d, e), dtype, seed)
    out, new = reference(wide(q), wide(k), wide(v), wide(g), wide(state))
    o = empty((batch, heads, e), dtype)
    arguments = (*(x[:, :, 0] for x in (q, k, v, g)), state, o)
    return Case(arguments, (o, state), (out[:, :, 0], new), {"D": d}, depth=d)


CASES = ((gla_gates, gates_case), (gla_scores, scores_case), (gla_outputs, case), (gla_step, step_case))
"""The kernels, in the order in which they run, with what makes a call of each."""


def main() -> None:
    for kernel, make in CASES:
        report(kernel, SHAPES, make)


if __name__ == "__main__":
    main()
