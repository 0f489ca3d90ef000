"""Multi-matrix factorisation attention (Hu et al., 2024), decoding as in Step-3 (StepFun, 2025): many heads of queries,
made by a product of low rank, and one head of keys and values.

    y, k, v = x W_D, x W_K, x W_V          q = (y ⊙ gain / √(mean(y²) + ε)) W_U

The rank of y, C, is much less than the H × D elements of q. Of a token, the cache holds k and v, D elements each.
The three first products are one; the norm of y is taken in the product that follows, whose sum runs along y anyway.
Queries and keys are turned by their positions, and the heads are rows of one product with each tile of keys
(:mod:`decoding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.cache import Cache
from kernels_zoo.attention.decoding import Rotary, decode
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.gemm.matmul import matmul

EPSILON = 1e-6
SHAPES = [(0, 5, 3), (1, 1, 1), (1, 256, 2048), (7, 129, 33), (17, 64, 128), (65, 131, 67)]
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    ROWS = Any
    GAIN = Any
    WEIGHTS = Any
    OUTPUT = Any
else:
    ROWS = tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"]
    GAIN = tl.f16["K"] | tl.bf16["K"] | tl.f32["K"]
    WEIGHTS = tl.f16["K", "N"] | tl.bf16["K", "N"] | tl.f32["K", "N"]
    OUTPUT = tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"]


@tl.jit
def normed_product(x: ROWS, gain: GAIN, w: WEIGHTS, y: OUTPUT, eps: tl.f32 = EPSILON,
                   BM: int = 16, BN: int = 64, BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """y = (x ⊙ gain / √(mean(x²) + ε)) w."""
    M, K = x.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(w.shape[1], BN))
    acc, squares = tl.zeros((BM, BN), tl.f32), tl.zeros((BM,), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        part = tl.load(x, (i * BM, k), (BM, BK))
        squares = squares + tl.sum(part.to(tl.f32) * part.to(tl.f32), axis=1)
        grown = (part.to(tl.f32) * tl.load(gain, k, BK).to(tl.f32)[None, :]).to(w.dtype)
        acc = tl.dot(grown, tl.load(w, (k, j * BN), (BK, BN)), acc)
    mean = squares * tl.rcp(K.to(tl.f32), approximate=True)
    tl.store(y, (i * BM, j * BN), (acc * tl.rsqrt(mean + eps, approximate=True)[:, None]).to(y.dtype))


class Weights(NamedTuple):
    """``first`` (hidden, C + 2 D) has the columns of W_D, W_K and W_V, ``gain`` is (C,) and ``up`` (C, H D)."""

    first: Array
    gain: Array
    up: Array


def factorised_decode(x: Array, weights: Weights, cache: Cache, rotary: Rotary | None = None,
                      engine: str | None = None, **options: Any) -> tuple[Array, Array]:
    """The output (B, Sq, H, D), in the type of ``x``, and the log-sum-exp (B, H, Sq), f32, of the next Sq tokens of
    sequences, ``x`` (B, Sq, hidden). Their keys and values are appended to the ``cache``, which has one head of D
    elements. The options are those of :func:`decoding.decode`."""
    import numpy as np

    (batch, sq, _), d, rank = x.shape, cache.keys.shape[3], len(weights.gain)
    tokens = batch * sq
    made, q = np.empty((tokens, rank + 2 * d), x.dtype), np.empty((tokens, weights.up.shape[1]), x.dtype)
    first, second = (kernel.on(engine) if engine else kernel for kernel in (matmul, normed_product))
    first(x.reshape(tokens, -1), weights.first, made)
    second(made[:, :rank], weights.gain, weights.up, q)
    k, v = (part.reshape(batch, sq, 1, d) for part in (made[:, rank : rank + d], made[:, rank + d :]))
    return decode(q.reshape(batch, sq, -1, d), cache, Form(causal=True), (k, v), rotary, engine=engine, **options)


def reference_queries(x: Array, gain: Array, w: Array) -> Array:
    """What :func:`normed_product` gives, in the arrays' type."""
    import numpy as np

    result: Array = x * gain / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) @ w
    return result


def reference(x: Array, weights: Weights, keys: Array, values: Array) -> tuple[Array, Array]:
    """The output and the log-sum-exp for tokens ``x`` (Sq, hidden) that follow cached ``keys`` and ``values`` (Sk, D),
    without rotary embedding, in the arrays' type."""
    import numpy as np

    d, rank = keys.shape[1], len(weights.gain)
    low, k, v = np.split(x @ weights.first, [rank, rank + d], axis=1)
    q = reference_queries(low, weights.gain, weights.up).reshape(1, len(x), -1, d)
    k, v = (np.concatenate(pair)[None, :, None] for pair in ((keys, k), (values, v)))
    return flash_attention.reference(q, k, v, causal=True)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """Of :func:`normed_product`; ``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    x, gain, w = normal(rng, (m, k), dtype), normal(rng, (k,), dtype), normal(rng, (k, n), dtype)
    y = empty((m, n), dtype)
    return Case((x, gain, w, y), (y,), (reference_queries(wide(x), wide(gain), wide(w)),), depth=k)


def main() -> None:
    report(normed_product, SHAPES, case)


if __name__ == "__main__":
    main()
