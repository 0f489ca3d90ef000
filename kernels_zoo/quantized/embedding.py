"""Rows of a quantised embedding: y[i] = (table[ids[i]] - zero) scales[ids[i]], with groups along rows."""

from __future__ import annotations

import tilus as tl
from kernels_zoo.checking import Case, empty, report, wide
from kernels_zoo.quantized.parameters import Y

SHAPES = [(1, 10, 64), (7, 100, 128), (0, 3, 32), (33, 50, 96), (5, 1, 1)]


@tl.jit
def embedding_lookup(ids: tl.i32["M"], table: wtype["V", "N"],
                     scales: tl.f16["V", "G"] | tl.bf16["V", "G"] | tl.f32["V", "G"], y: Y, wtype: tl.DType = tl.u4,
                     group: int = 32, zero: float = 0.0, BN: int = 256, warps: int = 4) -> None:
    """``group`` neighbours in a row share a scale, all of them where it is -1. Of an id outside the row is 0."""
    M, N = y.shape
    V = table.shape[0]
    groups = 1 if group == -1 else max(1, BN // group)
    tl.static_assert(group == -1 or BN % group == 0 or group % BN == 0, "BN and the group do not divide each other")
    tl.device_assert(scales.shape[1] == (1 if group == -1 else tl.cdiv(N, group)), "a row has a scale for each group")
    tl.block(warps=warps)
    i, j = tl.grid(M, tl.cdiv(N, BN))
    row = ids[i].to(tl.i64)
    there = (row >= 0) & (row < V)
    row = tl.where(there, row, 0)
    codes = tl.load(table[row, :], j * BN, BN).to(tl.f32) - zero
    first = 0 if group == -1 else j * BN // group
    scale = tl.load(scales[row, :], first, groups).to(tl.f32)
    spread = tl.broadcast_to(scale.reshape(groups, 1), (groups, BN // groups)).reshape(BN)
    tl.store(y[i, :], j * BN, tl.where(there, codes * spread, 0.0).to(y.dtype))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, wtype: tl.DType = tl.u4) -> Case:
    """``shape`` is (M, V, N)."""
    import numpy as np

    m, v, n = shape
    rng = np.random.default_rng(seed)
    group = 32 if n % 32 == 0 else -1
    q = tl.quantize(rng.standard_normal((v, n), np.float32), wtype, group=group, axis=1)
    ids, y = rng.integers(0, v, m).astype(np.int32), empty((m, n), dtype)
    constants = {"wtype": wtype, "group": group, "zero": float(q.zeros or 0)}
    return Case((ids, q.values, q.scales, y), (y,), (wide(tl.dequantize(q))[ids],), constants)


def main() -> None:
    report(embedding_lookup, SHAPES, case)


if __name__ == "__main__":
    main()
