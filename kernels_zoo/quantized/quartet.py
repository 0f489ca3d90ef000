"""Quartet's linear layer: all three products of a training step in MXFP4 (Castro et al., arXiv 2505.14669).

Blocks of 32 along the summed dimension are rotated by an orthonormal Hadamard matrix and rounded to f4e2m1 with a power
of two for each. Forward the power is that below 0.48708 std, numbers are rounded to nearest and clipped, and a mask
keeps where they were not; backward it follows from the greatest magnitude, signs are random, rounding is stochastic, so
that gradients have no bias, and both operands are 3/4 as large as their scales say: their product is taken 16/9 times.
Codes and scales are what ``tl.dot_scaled`` multiplies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

SHAPES = [(32, 32, 32), (7, 40, 64), (0, 3, 32), (1, 1, 96), (70, 33, 128)]
BLOCK = 32
CLIP = 0.48708
"""Of a normal distribution's standard deviation: the scale with the least squared error in f4e2m1."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    FLOATS = Any
    OUT = Any
else:
    FLOATS = tl.f32["M", "K"] | tl.bf16["M", "K"]
    OUT = tl.f32["M", "N"] | tl.bf16["M", "N"]


@tl.jit
def quartet_forward(x: FLOATS, w: tl.f32["N", "K"] | tl.bf16["N", "K"], y: OUT, xq: tl.f4e2m1["M", "K"],
                    xs: tl.f8e8m0fnu["M", "B"], xm: tl.u1["M", "K"], wq: tl.f4e2m1["N", "K"],
                    ws: tl.f8e8m0fnu["N", "B"], wm: tl.u1["N", "K"], BM: int = 32, BN: int = 32, BK: int = 64,
                    warps: int = 4) -> None:
    """y = x @ wᵀ; codes, scales and masks of both operands are written for the backward pass."""
    M, K = x.shape
    N = w.shape[0]
    tl.device_assert(K % BLOCK == 0, "K is a multiple of 32")
    tl.device_assert(xs.shape[1] * BLOCK == K, "32 numbers of a row share a scale")
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK):
        a, a_scales = rounded_to_nearest(x, (i * BM, k), (BM, BK), (xq, xs, xm), j == 0)
        b, b_scales = rounded_to_nearest(w, (j * BN, k), (BN, BK), (wq, ws, wm), i == 0)
        acc = tl.dot_scaled(a, a_scales, b.T, b_scales.T, acc)
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


@tl.jit
def quartet_backward(dy: OUT, xq: tl.f4e2m1["M", "K"], xs: tl.f8e8m0fnu["M", "B"], xm: tl.u1["M", "K"],
                     wq: tl.f4e2m1["N", "K"], ws: tl.f8e8m0fnu["N", "B"], wm: tl.u1["N", "K"], dx: FLOATS,
                     dw: tl.f32["N", "K"] | tl.bf16["N", "K"], seed: tl.u64, BM: int = 32, BN: int = 32, BK: int = 64,
                     warps: int = 4) -> None:
    """dx = dy @ w and dw = dyᵀ @ x, in one launch: first the tiles of dx, then those of dw."""
    M, N = dy.shape
    K = xq.shape[1]
    tl.block(warps=warps)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(K, BK)
    t = tl.grid((rows + tl.cdiv(N, BN)) * columns)
    if t < rows * columns:
        i, k = t // columns * BM, t % columns * BK
        acc = tl.zeros((BM, BK), tl.f32)
        for n in tl.range(0, N, BN):
            left = tl.load(dy, (i, n), (BM, BN)).to(tl.f32)
            right = numbers_of(wq, ws, (n, k), (BN, BK)).T
            acc = stochastic_product(left, right, (i, k), n, (N, K), seed * 8, acc)
        tl.store(dx, (i, k), unmasked(acc, xm, (i, k)).to(dx.dtype))
    else:
        u = t - rows * columns
        j, k = u // columns * BN, u % columns * BK
        acc = tl.zeros((BN, BK), tl.f32)
        for m in tl.range(0, M, BM):
            left = tl.load(dy, (m, j), (BM, BN)).to(tl.f32).T
            right = numbers_of(xq, xs, (m, k), (BM, BK)).T
            acc = stochastic_product(left, right, (j, k), m, (M, K), seed * 8 + 4, acc)
        tl.store(dw, (j, k), unmasked(acc, wm, (j, k)).to(dw.dtype))


def rounded_to_nearest(array: Any, at: tuple[Any, Any], tile: tuple[int, int], kept: tuple[Any, Any, Any],
                       keep: Any) -> tuple[Any, Any]:
    """Codes and scales of a tile in MXFP4, once rotated; written, with the mask, where ``keep``."""
    R, C = tile
    x = rotated(tl.load(array, at, tile).to(tl.f32)).reshape(R, C // BLOCK, BLOCK)
    mean = tl.sum(x, axis=2, keepdims=True) * (1.0 / BLOCK)
    std = tl.sqrt(tl.sum((x - mean) * (x - mean), axis=2, keepdims=True) * (1.0 / BLOCK))
    scale = power_below(std * CLIP + 1e-8)
    ratio = x / scale
    found, found_scales = ratio.to(tl.f4e2m1).reshape(R, C), scale.reshape(R, C // BLOCK).to(tl.f8e8m0fnu)
    if keep:
        codes, scales, mask = kept
        tl.store(codes, at, found)
        tl.store(scales, (at[0], at[1] // BLOCK), found_scales)
        tl.store(mask, at, (tl.abs(ratio) < 6.0).to(tl.u1).reshape(R, C))
    return found, found_scales


def numbers_of(codes: Any, scales: Any, at: tuple[Any, Any], tile: tuple[int, int]) -> Any:
    """A tile of what has been rounded, f32."""
    R, C = tile
    scale = tl.load(scales, (at[0], at[1] // BLOCK), (R, C // BLOCK)).to(tl.f32).reshape(R, C // BLOCK, 1)
    x = tl.load(codes, at, tile).to(tl.f32).reshape(R, C // BLOCK, BLOCK)
    return tl.where(x == 0.0, 0.0, x * scale).reshape(R, C)


def stochastic_product(left: Any, right: Any, at: tuple[Any, Any], first: Any, extents: tuple[Any, Any], seed: Any,
                       acc: Any) -> Any:
    """acc + left @ rightᵀ of tiles (R, C) and (S, C), both rotated with random signs and rounded by chance; ``at`` is
    where their rows begin, ``first`` their columns, of so many."""
    C = left.shape[1]
    index = tl.arange(C) + first
    sign = tl.where(tl.random.rand(seed, index) < 0.5, -1.0, 1.0)[None, :]
    sides: list[Any] = []
    for n, side in enumerate((left, right)):
        rows = tl.arange(side.shape[0])[:, None] + at[n]
        chance = tl.random.rand(seed + (n + 1), rows * tl.cdiv(extents[0], BLOCK) * BLOCK + index[None, :])
        sides += rounded_by_chance(rotated(side * sign), chance)
    a, a_scales, b, b_scales = sides
    return tl.dot_scaled(a, a_scales, b.T, b_scales.T, acc)


def rounded_by_chance(x: Any, chance: Any) -> tuple[Any, Any]:
    """Codes and scales of 3/4 of a tile in MXFP4: the neighbour away from zero with probability (x - lower) / (upper -
    lower)."""
    R, C = x.shape
    blocks = x.reshape(R, C // BLOCK, BLOCK)
    amax = tl.max(tl.abs(blocks), axis=2, keepdims=True)
    scale = power_below(tl.maximum(amax, 2.0**-120)) * 0.25
    u = tl.abs(blocks) * 0.75 / scale
    step = tl.where(u < 2.0, 0.5, tl.where(u < 4.0, 1.0, 2.0))
    lower = tl.floor(u / step) * step
    up = chance.reshape(R, C // BLOCK, BLOCK) < (u - lower) / step
    codes = tl.copysign(lower + tl.where(up, step, 0.0), blocks).to(tl.f4e2m1)
    return codes.reshape(R, C), scale.reshape(R, C // BLOCK).to(tl.f8e8m0fnu)


def unmasked(acc: Any, mask: Any, at: tuple[Any, Any]) -> Any:
    """A gradient where nothing was clipped, rotated back; with the factor of both operands."""
    kept = tl.load(mask, at, acc.shape).to(tl.f32)
    return rotated(acc * kept * (16.0 / 9.0))


def rotated(x: Any) -> Any:
    """Each 32 neighbours of a row times the Hadamard matrix, which is its own inverse."""
    R, C = x.shape
    parity = tl.popcount(tl.arange(BLOCK)[:, None] & tl.arange(BLOCK)[None, :]) & 1
    matrix = (1 - 2 * parity).to(tl.f32) * BLOCK**-0.5
    return tl.dot(x.reshape(R * C // BLOCK, BLOCK), matrix).reshape(R, C)


def power_below(x: Any) -> Any:
    """The greatest power of two that is not above a normal number."""
    return tl.bitcast(tl.bitcast(x, tl.u32) & 0x7F800000, tl.f32)


class Saved:
    """What the forward pass of a layer with w (n, k) keeps of m rows."""

    def __init__(self, m: int, n: int, k: int) -> None:
        import numpy as np

        def codes(rows: int, dtype: tl.DType, columns: int) -> Any:
            return tl.packed(np.zeros(-(-rows * columns * dtype.bits // 8), np.uint8), dtype, (rows, columns))

        self.arrays = tuple(part for rows in (m, n) for part in (
            codes(rows, tl.f4e2m1, k), np.zeros((rows, k // BLOCK), tl.f8e8m0fnu.numpy), codes(rows, tl.u1, k)))


def forward(x: Array, w: Array, y: Array) -> Saved:
    """y = x @ wᵀ of (m, k) and (n, k); what the backward pass needs."""
    saved = Saved(*x.shape[:1], *w.shape)
    quartet_forward(x, w, y, *saved.arrays)
    return saved


def backward(dy: Array, saved: Saved, dx: Array, dw: Array, seed: int = 0) -> None:
    """dx and dw, with no bias but where the forward pass has clipped."""
    quartet_backward(dy, *saved.arrays, dx, dw, seed)


def hadamard() -> Array:
    """The orthonormal matrix of 32 rows."""
    import numpy as np

    h = np.ones((1, 1))
    while len(h) < BLOCK:
        h = np.block([[h, h], [h, -h]])
    return np.asarray(h / BLOCK**0.5)


def reference(x: Array) -> tuple[Array, Array]:
    """Rows (…, k) in MXFP4 as the forward pass has them, rotated, and the mask."""
    import numpy as np

    blocks = x.reshape(-1, BLOCK) @ hadamard()
    scale = 2.0 ** np.floor(np.log2(CLIP * blocks.std(axis=1, keepdims=True) + 1e-8))
    ratio = blocks / scale
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    place = np.searchsorted((grid[1:] + grid[:-1]) / 2, np.abs(ratio))
    return (np.sign(ratio) * grid[place] * scale).reshape(x.shape), (np.abs(ratio) < 6).reshape(x.shape)


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    """``shape`` is (M, N, K)."""
    m, n, k = shape
    import numpy as np

    rng = np.random.default_rng(seed)
    x, w, y = normal(rng, (m, k), dtype), normal(rng, (n, k), dtype), empty((m, n), dtype)
    expected = reference(wide(x))[0] @ reference(wide(w))[0].T
    return Case((x, w, y, *Saved(m, n, k).arrays), (y,), (expected,), {}, depth=k)


def main() -> None:
    report(quartet_forward, SHAPES, case)


if __name__ == "__main__":
    main()
