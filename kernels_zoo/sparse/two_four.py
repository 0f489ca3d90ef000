"""y = A @ b with 2:4 sparse weights: of each four neighbours along K two are kept, and four bits say which (Mishra et
al., arXiv 2104.08378; GPUSQ-ViT, arXiv 2305.10727). Tensor cores since sm_80 do it in half the instructions.

Weights are f16, bf16, int8 or fp8, the last two with a scale for each row. ``sparse_linear`` is a layer, x @ Aᵀ, whose
activations are quantised as they are read, where weights are of 8 bits (GPUSQ-ViT's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide
from kernels_zoo.quantized.rows import FACTORS, X, given_or_computed, quantised_tile, row_factors, rows_of_a_tile
from kernels_zoo.quantized.scaled import BIAS, FEW_ROWS, greatest, quantised_rows

SHAPES = [(16, 8, 64), (100, 40, 256), (1, 7, 64), (0, 5, 64), (130, 33, 192), (7, 1, 128)]
TYPES = [tl.f16, tl.bf16, tl.i8, tl.f8e4m3fn]
FEW_COLUMNS = 8
"""Up to so many columns a CPU multiplies the elements that are kept, rather than all of A filled up."""
DEPTH = 512
"""Rows of b that it has at hand meanwhile."""
ROWS, TOGETHER = 8, 16
"""Rows of A whose elements it has at hand, and the columns of each that it goes through by turns, so that their sums do
not wait for each other."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    Y = Any
    LAYER = Any
    WORDS = Any
else:
    Y = tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"]
    LAYER = Y
    WORDS = tl.u16["M", "W"] | tl.u32["M", "W"]


@tl.jit
def sparse_matmul(a: atype["M", "H"], metadata: WORDS, b: atype["K", "N"], y: Y, row_scales: tl.f32["M"] | None = None,
                  column_scales: tl.f32["N"] | None = None, atype: tl.DType = tl.f16, BM: int = 64, BN: int = 0,
                  BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """``a`` has the elements that are kept, (M, K / 2); K is a multiple of 16, of 32 where they are of 8 bits."""
    M, H = a.shape
    K, N = b.shape
    check_shapes(a, metadata, K)
    BN = BN or (256 if tl.target() == "cpu" else 64)  # on a CPU what fills A up is done for all columns
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    if tl.target() == "cpu" and N <= FEW_COLUMNS:
        scaled_store(y, (i * BM, 0), element_by_element(a, metadata, b, i * BM, BM), row_scales, column_scales)
        return
    acc = tl.zeros((BM, BN), tl.i32 if a.dtype.is_int else tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        acc = tl.dot_sparse(*sparse_tile(a, metadata, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    scaled_store(y, (i * BM, j * BN), acc, row_scales, column_scales)


@tl.jit
def sparse_linear(x: X, a: atype["N", "H"], metadata: tl.u16["N", "W"] | tl.u32["N", "W"], y: LAYER,
                  row_scales: tl.f32["N"] | None = None, factors: FACTORS | None = None, bias: BIAS | None = None,
                  atype: tl.DType = tl.i8, BM: int = 16, BN: int = 64, BK: int = 128, warps: int = 4) -> None:
    """y = x @ Aᵀ + bias. Where A is of 8 bits, rows of x are quantised to its type; ``factors`` are those of
    ``row_factors``, where many blocks of columns would compute them."""
    M, K = x.shape
    check_shapes(a, metadata, K)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(a.shape[0], BN))
    tiny = atype.bits == 8
    if tiny:
        whole, scale = given_or_computed(x, factors, None, i * BM, 0.0, False, greatest(atype), (BM, BK))
    acc = tl.zeros((BN, BM), tl.i32 if atype.is_int else tl.f32)
    for k in tl.range(0, K, BK):
        if tiny:
            b = quantised_tile(x, None, (i * BM, k), whole, atype, (BM, BK))
        else:
            b = tl.load(x, (i * BM, k), (BM, BK)).to(atype)
        acc = tl.dot_sparse(*sparse_tile(a, metadata, (j * BN, k), (BN, BK)), b.T, acc)
    found = acc.T.to(tl.f32)
    if tiny:
        found *= 1.0 / scale[:, None]
    if row_scales is not None:
        found *= tl.load(row_scales, j * BN, BN)[None, :]
    if bias is not None:
        found += tl.load(bias, j * BN, BN).to(tl.f32)[None, :]
    tl.store(y, (i * BM, j * BN), found.to(y.dtype))


def columns_of_a_word(dtype: tl.DType) -> int:
    return 16 if dtype.bits == 16 else 32


def check_shapes(a: Any, metadata: Any, K: Any) -> None:
    tl.device_assert(2 * a.shape[1] == K, "A has half of K columns")
    tl.device_assert(metadata.shape[1] * columns_of_a_word(a.dtype) == K, "there are metadata for other than K columns")


def sparse_tile(a: Any, metadata: Any, at: tuple[Any, Any], tile: tuple[int, int]) -> tuple[Any, Any]:
    """The elements that a tile of A has kept, and their metadata."""
    (row, k), (rows, depth), columns = at, tile, columns_of_a_word(a.dtype)
    words = tl.load(metadata, (row, k // columns), (rows, depth // columns), other=valid_word(a.dtype))
    return tl.load(a, (row, k // 2), (rows, depth // 2)), words


def scaled_store(y: Any, at: tuple[Any, Any], sums: Any, row_scales: Any, column_scales: Any) -> None:
    """Write a tile of sums times their scales."""
    found, (BM, BN) = sums.to(tl.f32), sums.shape
    if row_scales is not None:
        found *= tl.load(row_scales, at[0], BM)[:, None]
    if column_scales is not None:
        found *= tl.load(column_scales, at[1], BN)[None, :]
    tl.store(y, at, found.to(y.dtype))


def element_by_element(a: Any, metadata: Any, b: Any, first: Any, BM: int) -> Any:
    """The sums of few columns for ``BM`` rows: each element that is kept is multiplied with its row of b, so that half
    of the products are done."""
    M, K = a.shape[0], b.shape[0]
    kind, columns = tl.i32 if a.dtype.is_int else tl.f32, columns_of_a_word(a.dtype)
    sums, factors = tl.shared((BM * FEW_COLUMNS,), kind), tl.shared((DEPTH * FEW_COLUMNS,), kind)
    kept, words = tl.shared((ROWS, DEPTH // 2), kind), tl.shared((ROWS, DEPTH // columns), metadata.dtype)
    tl.static_assert(BM % ROWS == 0, "a block has a multiple of 8 rows")
    tl.store(sums, 0, tl.zeros((BM * FEW_COLUMNS,), kind))
    for k in tl.range(0, K, DEPTH):
        tl.sync()
        tl.store(factors, 0, tl.load(b, (k, 0), (DEPTH, FEW_COLUMNS)).to(kind).reshape(DEPTH * FEW_COLUMNS))
        for top in tl.range(0, tl.minimum(M - first, BM), ROWS):
            tl.sync()  # some rows at a time, so that no row waits for memory or for its sums by itself
            tl.store(kept, (0, 0), tl.load(a, (first + top, k // 2), (ROWS, DEPTH // 2)).to(kind))
            tl.store(words, (0, 0), tl.load(metadata, (first + top, k // columns), (ROWS, DEPTH // columns)))
            for n in tl.range(0, tl.minimum(K - k, DEPTH), TOGETHER):  # beyond K all is 0
                for row in tl.static_range(ROWS):
                    tl.sync()
                    at = (top + row) * FEW_COLUMNS
                    total = tl.load(sums, at, FEW_COLUMNS)
                    bits = words[row, n // columns].to(tl.i64) >> n % columns
                    for e in tl.static_range(TOGETHER // 2):
                        place = (n + e // 2 * 4 + (bits >> 2 * e & 3)) * FEW_COLUMNS
                        total += kept[row, n // 2 + e] * tl.load(factors, place, FEW_COLUMNS)
                    tl.sync()
                    tl.store(sums, at, total)
    tl.sync()
    return tl.load(sums, 0, BM * FEW_COLUMNS).reshape(BM, FEW_COLUMNS)


def valid_word(dtype: tl.DType) -> int:
    """Metadata of the first two of each four."""
    return 0x4444 if dtype.bits == 16 else 0x44444444


def prune(a: Array) -> Array:
    """The two greatest magnitudes of each four along the last axis, of equal ones the first; the others are 0."""
    import numpy as np

    fours = a.reshape(*a.shape[:-1], a.shape[-1] // 4, 4)
    order = np.argsort(-np.abs(fours.astype(np.float64)), axis=-1, kind="stable")
    kept = np.zeros(fours.shape, bool)
    np.put_along_axis(kept, order[..., :2], True, axis=-1)
    return np.asarray(np.where(kept, fours, np.zeros((), a.dtype)).reshape(a.shape))


def compress(a: Array) -> tuple[Array, Array]:
    """A matrix (M, K) with at most two nonzero of each four along K, K a multiple of 32 (of 16 where elements have 16
    bits): the elements that are kept (M, K / 2), and their metadata.

    Raises:
        ValueError: K is none, or more than two of four are not 0.
    """
    import numpy as np

    M, K = a.shape
    columns = 16 if a.itemsize == 2 else 32
    if K % columns:
        raise ValueError(f"{K} columns are no multiple of {columns}")
    fours = a.reshape(M, K // 4, 4)
    used = fours != 0
    if (used.sum(axis=-1) > 2).any():
        raise ValueError("more than two of four neighbours are not 0: prune them")
    places = np.argsort(~used, axis=-1, kind="stable")[..., :2]
    places.sort(axis=-1)
    stored = np.take_along_axis(fours, places, axis=-1).reshape(M, K // 2)
    codes = (places[..., 0] | places[..., 1] << 2).astype(np.uint8)
    memory = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    return stored, memory.view(np.uint16 if a.itemsize == 2 else np.uint32)


def quantised_to(a: Array, dtype: tl.DType, axis: int) -> tuple[Array, Array | None]:
    """Numbers in an element type and, of 8 bits, a scale for each slice along ``axis``."""
    import numpy as np

    if dtype.bits == 16:
        return a.astype(dtype.numpy), None
    scales = (np.abs(a).max(axis=axis, initial=1e-5) / greatest(dtype)).astype(np.float32)
    ratio = a / np.expand_dims(wide(scales), axis)
    codes = np.rint(ratio) if dtype.is_int else ratio.astype(np.float32)
    return codes.astype(dtype.numpy), scales


class Weights:
    """Weights (N, K) of a layer: the two greatest of each four neighbours along K, in an element type.

    Attributes:
        a, metadata: what is kept (N, K / 2), and where it belongs.
        scales: of 8 bits, a scale for each row, else None.
    """

    def __init__(self, weights: Array, dtype: tl.DType) -> None:
        codes, self.scales = quantised_to(prune(wide(weights)), dtype, 1)
        (self.a, self.metadata), self.dtype = compress(codes), dtype
        self.numbers = wide(codes) if self.scales is None else wide(codes) * wide(self.scales)[:, None]


def multiply(x: Array, weights: Weights, y: Array, bias: Array | None = None) -> None:
    """y = x @ Aᵀ + bias, whose activations become the weights' type."""
    import numpy as np

    factors = None
    if weights.dtype.bits == 8 and x.shape[0] > FEW_ROWS:
        factors = np.empty((x.shape[0], 2), np.float32)
        row_factors(x, factors, most=greatest(weights.dtype))
    sparse_linear(x, weights.a, weights.metadata, y, weights.scales, factors, bias, atype=weights.dtype,
                  BM=max(8, rows_of_a_tile(x.shape[0])))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """``shape`` is (M, N, K). ``dtype`` is of the weights and of b; those of 8 bits have scales."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    weights = Weights(rng.standard_normal((m, k)), dtype)
    right, columns = quantised_to(rng.standard_normal((k, n)), dtype, 0)
    constants: dict[str, Any] = {"atype": dtype}
    if columns is not None:
        constants |= {"row_scales": weights.scales, "column_scales": columns}
    y = empty((m, n), dtype if dtype.bits == 16 else tl.f32)
    reference = weights.numbers @ (wide(right) * (1.0 if columns is None else wide(columns)))
    return Case((weights.a, weights.metadata, right, y), (y,), (reference,), constants, depth=k)


def linear_case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, atype: tl.DType = tl.i8) -> Case:
    """Of :func:`sparse_linear`; ``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    weights = Weights(rng.standard_normal((n, k)), atype)
    x, y = normal(rng, (m, k), dtype), empty((m, n), dtype)
    left = quantised_rows(wide(x), atype) if atype.bits == 8 else wide(x.astype(atype.numpy))
    return Case((x, weights.a, weights.metadata, y, weights.scales), (y,), (left @ weights.numbers.T,),
                {"atype": atype}, depth=k)


def main() -> None:
    for dtype in TYPES:
        report(sparse_matmul, SHAPES, lambda shape, dtype=dtype: case(shape, dtype))
        report(sparse_linear, SHAPES, lambda shape, dtype=dtype: linear_case(shape, atype=dtype))


if __name__ == "__main__":
    main()
