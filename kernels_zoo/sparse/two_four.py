"""y = A @ b with 2:4 sparse weights: of each four neighbours along K two are kept, and four bits say which (Mishra et
al., arXiv 2104.08378; GPUSQ-ViT, arXiv 2305.10727). Tensor cores since sm_80 do it in half the instructions.

Weights are f16, bf16, int8 or fp8, the last two with a scale for each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, report, wide

SHAPES = [(16, 8, 64), (100, 40, 256), (1, 7, 64), (0, 5, 64), (130, 33, 192), (7, 1, 128)]
TYPES = [tl.f16, tl.bf16, tl.i8, tl.f8e4m3fn]
FEW_COLUMNS = 8
"""Up to so many columns a CPU multiplies the elements that are kept, rather than all of A filled up."""
DEPTH, TOGETHER = 512, 64
"""Rows of b that it has at hand meanwhile, and those that it goes through in a step."""
ROWS = 8
"""Rows of A whose elements it has at hand."""
SUMS = 8
"""Sums of such a step that do not wait for each other."""
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    Y = Any
    WORDS = Any
else:
    Y = tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"]
    WORDS = tl.u16["M", "W"] | tl.u32["M", "W"]


@tl.jit
def sparse_matmul(a: atype["M", "H"], metadata: WORDS, b: atype["K", "N"], y: Y, row_scales: tl.f32["M"] | None = None,
                  column_scales: tl.f32["N"] | None = None, atype: tl.DType = tl.f16, BM: int = 64, BN: int = 0,
                  BK: int = 64, stages: int = 3, warps: int = 4) -> None:
    """``a`` has the elements that are kept, (M, K / 2); K is a multiple of 16, of 32 where they are of 8 bits."""
    M, H = a.shape
    K, N = b.shape
    columns = 16 if a.dtype.bits == 16 else 32
    tl.device_assert(2 * H == K, "A has half of the columns that b has rows")
    tl.device_assert(metadata.shape[1] * columns == K, "there are metadata for other than K columns")
    BN = BN or (256 if tl.target() == "cpu" else 64)  # on a CPU what fills A up is done for all columns
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    if tl.target() == "cpu" and N <= FEW_COLUMNS:
        scaled_store(y, (i * BM, 0), element_by_element(a, metadata, b, i * BM, BM), row_scales, column_scales)
        return
    acc = tl.zeros((BM, BN), tl.i32 if a.dtype.is_int else tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        stored = tl.load(a, (i * BM, k // 2), (BM, BK // 2))
        words = tl.load(metadata, (i * BM, k // columns), (BM, BK // columns), other=valid_word(a.dtype))
        acc = tl.dot_sparse(stored, words, tl.load(b, (k, j * BN), (BK, BN)), acc)
    scaled_store(y, (i * BM, j * BN), acc, row_scales, column_scales)


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
    kind, columns = tl.i32 if a.dtype.is_int else tl.f32, 4 * metadata.dtype.bits // 4
    sums, factors = tl.shared((BM, FEW_COLUMNS), kind), tl.shared((DEPTH, FEW_COLUMNS), kind)
    kept, words = tl.shared((ROWS, DEPTH // 2), kind), tl.shared((ROWS, DEPTH // columns), metadata.dtype)
    tl.static_assert(BM % ROWS == 0, "a block has a multiple of 8 rows")
    tl.store(sums, (0, 0), tl.zeros((BM, FEW_COLUMNS), kind))
    for k in tl.range(0, K, DEPTH):
        tl.sync()
        tl.store(factors, (0, 0), tl.load(b, (k, 0), (DEPTH, FEW_COLUMNS)).to(kind))
        for top in tl.range(0, tl.cdiv(tl.minimum(M - first, BM), ROWS)):
            tl.sync()  # some rows at a time, so that no row waits for memory by itself
            at = first + top * ROWS
            tl.store(kept, (0, 0), tl.load(a, (at, k // 2), (ROWS, DEPTH // 2)).to(kind))
            tl.store(words, (0, 0), tl.load(metadata, (at, k // columns), (ROWS, DEPTH // columns)))
            for row in tl.range(0, ROWS):
                tl.sync()
                totals = [tl.zeros((1, FEW_COLUMNS), kind) for _ in range(SUMS)]
                for step in tl.range(0, tl.minimum(tl.cdiv(K - k, TOGETHER), DEPTH // TOGETHER)):  # beyond K all is 0
                    n = step * TOGETHER
                    for e in tl.static_range(TOGETHER // 2):
                        word = words[row, n // columns + 2 * e // columns]
                        place = n + e // 2 * 4 + (word >> 2 * e % columns & 3).to(tl.i64)
                        totals[e % SUMS] += kept[row, n // 2 + e] * tl.load(factors, (place, 0), (1, FEW_COLUMNS))
                total = tl.load(sums, (top * ROWS + row, 0), (1, FEW_COLUMNS))
                for part in totals:
                    total += part
                tl.sync()
                tl.store(sums, (top * ROWS + row, 0), total)
    tl.sync()
    return tl.load(sums, (0, 0), (BM, FEW_COLUMNS))


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


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0) -> Case:
    """``shape`` is (M, N, K). ``dtype`` is of the weights and of b; those of 8 bits have scales."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    a, b = prune(rng.standard_normal((m, k))), rng.standard_normal((k, n))
    constants: dict[str, Any] = {"atype": dtype}
    if dtype.bits == 16:
        narrow, right = a.astype(dtype.numpy), b.astype(dtype.numpy)
        left, other = wide(narrow), wide(right)
    else:
        most = 127.0 if dtype.is_int else 448.0
        rows = np.abs(a).max(axis=1, initial=1e-5) / most
        columns = np.abs(b).max(axis=0, initial=1e-5) / most
        scaled = (a / rows[:, None], b / columns)
        narrow, right = (np.rint(x).astype(np.int8) if dtype.is_int else x.astype(np.float32).astype(dtype.numpy)
                         for x in scaled)
        constants |= {"row_scales": rows.astype(np.float32), "column_scales": columns.astype(np.float32)}
        left, other = wide(narrow) * constants["row_scales"][:, None], wide(right) * constants["column_scales"]
    stored, metadata = compress(narrow)
    y = empty((m, n), dtype if dtype.bits == 16 else tl.f32)
    return Case((stored, metadata, right, y), (y,), (left @ other,), constants, depth=k)


def main() -> None:
    for dtype in TYPES:
        report(sparse_matmul, SHAPES, lambda shape, dtype=dtype: case(shape, dtype))


if __name__ == "__main__":
    main()
