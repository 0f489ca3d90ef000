"""Products with QLoRA's frozen weights: NF4 in blocks of 64, whose greatest magnitudes are quantised in turn.

A weight is ``code[nibble] (map[q] absmax2[block // 256] + offset)`` (Dettmers et al., arXiv 2305.14314). Forward
``y = x w`` and the gradient to the input ``dx = dy wᵀ`` read the same memory: weights have no gradient. Weights are
(K, N), with blocks along K, as ``tl.quantize(w, tl.qlora)`` gives them; those of bitsandbytes lie as (N, K), which are
the same kernels with other strides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from tilus.quantization.formats import dynamic8

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    X = Any
    Y = Any
else:
    X = tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"]
    Y = tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"]

SHAPES = [(1, 96, 128), (7, 1, 64), (5, 40, 256), (33, 130, 384), (16, 256, 512), (0, 5, 64), (130, 77, 192)]
BLOCK = 64
OUTER = 256
"""So many scales share one of theirs, in row-major order."""


@tl.jit
def nf4_matmul(x: X, w: tl.nf4["K", "N"], scales: stype["G", "N"], outer: tl.f32["S"], y: Y, offset: tl.f32,
               stype: tl.DType = dynamic8, runs: bool = False, BM: int = 64, BN: int = 0,
               BK: int = 64, stages: int = 3, warps: int = 8) -> None:
    """y = x @ w, with blocks of 64 rows of w. ``runs``: rows of scales are one behind the other, and
    multiples of 256."""
    M, K = x.shape
    N = y.shape[1]
    check(K, scales, outer)
    BN = BN or (1024 if tl.target() == "cpu" else 128)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    operand = tl.f32 if tl.target() == "cpu" else x.dtype
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        b = tl.load(w, (k, j * BN), (BK, BN)).to(tl.f32) * scales_of(scales, outer, offset, (k, j * BN), (BK, BN), runs)
        acc = tl.dot(tl.load(x, (i * BM, k), (BM, BK)).to(operand), b.to(operand), acc)
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


@tl.jit
def nf4_matmul_transposed(x: X, w: tl.nf4["N", "K"], scales: stype["G", "K"], outer: tl.f32["S"], y: Y, offset: tl.f32,
                          stype: tl.DType = dynamic8, runs: bool = False, BM: int = 64,
                          BN: int = 64, BK: int = 64, stages: int = 3, warps: int = 8) -> None:
    """y = x @ wᵀ, with blocks of 64 rows of w, which are columns of y."""
    M, K = x.shape
    N = y.shape[1]
    check(N, scales, outer)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    operand = tl.f32 if tl.target() == "cpu" else x.dtype
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        b = tl.load(w, (j * BN, k), (BN, BK)).to(tl.f32) * scales_of(scales, outer, offset, (j * BN, k), (BN, BK), runs)
        acc = tl.dot(tl.load(x, (i * BM, k), (BM, BK)).to(operand), b.T.to(operand), acc)
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


def check(rows: Any, scales: Any, outer: Any) -> None:
    """Blocks divide the rows of the weights."""
    tl.device_assert(rows % BLOCK == 0, "the rows of the weights are no multiple of 64")
    tl.device_assert(scales.shape[0] == rows // BLOCK, "scales have one row for 64 of the weights")
    tl.device_assert(outer.shape[0] == tl.cdiv(scales.shape[0] * scales.shape[1], OUTER),
                     "256 scales have one of their own")


def scales_of(scales: Any, outer: Any, offset: Any, at: tuple[Any, Any], tile: tuple[int, int], runs: bool) -> Any:
    """The scales of a tile of weights, a row for all of its rows or one for each of them."""
    (row, column), (BK, BN) = at, tile
    tl.static_assert(BK % BLOCK == 0 or BLOCK % BK == 0, "tiles have whole blocks of 64 rows, or whole parts of them")
    blocks, first = max(1, BK // BLOCK), row // BLOCK
    codes = tl.load(scales, (first, column), (blocks, BN)).to(tl.f32)
    found = codes * outer_scales(outer, first, column, scales.strides, (blocks, BN), runs) + offset
    if blocks == 1:
        return found
    return tl.broadcast_to(found.reshape(blocks, 1, BN), (blocks, BLOCK, BN)).reshape(BK, BN)


def outer_scales(outer: Any, first: Any, column: Any, strides: Any, tile: tuple[int, int], runs: bool) -> Any:
    """The scales of a tile of scales, 256 of which share one in the order in which they lie in memory."""
    blocks, BN = tile
    rows = (tl.arange(blocks)[:, None] + first) * strides[0]
    if not runs:
        return tl.gather(outer, (rows + (tl.arange(BN)[None, :] + column) * strides[1]) // OUTER)
    tl.static_assert(BN % OUTER == 0 or OUTER % BN == 0, "tiles have whole runs of 256 scales, or whole parts of them")
    width = min(BN, OUTER)
    found = tl.gather(outer, rows // OUTER + (tl.arange(BN // width)[None, :] + column // OUTER))
    spread = tl.broadcast_to(found.reshape(blocks, BN // width, 1), (blocks, BN // width, width))
    return spread.reshape(blocks, BN)


class Weights:
    """NF4 weights of a linear layer.

    Attributes:
        shape: (K, N).
        runs: whether rows of scales are one behind the other, and multiples of 256.
    """

    def __init__(self, q: tl.Quantized) -> None:
        """Of ``tl.quantize(w, tl.qlora)``, w (K, N), or ``tl.quantize(w.T, tl.qlora, axis=1)``."""
        inner = q.scales
        self.shape = q.shape if q.axis == 0 else q.shape[::-1]
        self.w, self.scales = (a if q.axis == 0 else turned(a) for a in (q.values, inner.values))
        self.outer, self.offset = inner.scales, inner.offset
        self.runs = q.axis == 0 and self.shape[1] % OUTER == 0


def turned(array: Any) -> Any:
    """The transpose of packed elements row by row, over the same memory."""
    rows, columns = array.shape
    return tl.packed(array.base, array.dtype, (columns, rows), strides=(1, columns))


def forward(x: Any, weights: Weights, y: Any, **tile: int) -> None:
    """y = x @ w."""
    _multiply(x, weights, y, False, tile)


def backward(dy: Any, weights: Weights, dx: Any, **tile: int) -> None:
    """dx = dy @ wᵀ."""
    _multiply(dy, weights, dx, True, tile)


def _multiply(x: Any, weights: Weights, y: Any, transposed: bool, tile: dict[str, int]) -> None:
    kernel = nf4_matmul_transposed if transposed else nf4_matmul
    tile = {"BM": rows_of_a_tile(x.shape[0]), **tile}
    kernel(x, weights.w, weights.scales, weights.outer, y, weights.offset, stype=weights.scales.dtype,
           runs=weights.runs, **tile)


def rows_of_a_tile(m: int) -> int:
    """As many rows as share the conversion of a tile of weights."""
    return 16 if m <= 16 else 64 if m <= 64 else 128


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, transposed: bool = False) -> Case:
    """``shape`` is (M, N, K); K is the multiple of 64, ``transposed`` or not."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    q = tl.quantize(rng.standard_normal((k, n), np.float32) * 0.05, tl.qlora)
    numbers = wide(tl.dequantize(q))
    weights = Weights(q)
    x, y = normal(rng, (m, n if transposed else k), dtype), empty((m, k if transposed else n), dtype)
    reference = wide(x) @ (numbers.T if transposed else numbers)
    return Case((x, weights.w, weights.scales, weights.outer, y, weights.offset), (y,), (reference,), {}, depth=k)


def main() -> None:
    report(nf4_matmul, SHAPES, case)
    report(nf4_matmul_transposed, SHAPES, lambda shape: case(shape, transposed=True))


if __name__ == "__main__":
    main()
