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
    acc = tl.zeros((BM, BN), tl.i32 if a.dtype.is_int else tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        stored = tl.load(a, (i * BM, k // 2), (BM, BK // 2))
        words = tl.load(metadata, (i * BM, k // columns), (BM, BK // columns), other=valid_word(a.dtype))
        acc = tl.dot_sparse(stored, words, tl.load(b, (k, j * BN), (BK, BN)), acc)
    found = acc.to(tl.f32)
    if row_scales is not None:
        found *= tl.load(row_scales, i * BM, BM)[:, None]
    if column_scales is not None:
        found *= tl.load(column_scales, j * BN, BN)[None, :]
    tl.store(y, (i * BM, j * BN), found.to(y.dtype))


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
