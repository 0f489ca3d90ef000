"""Matrix products of ours that the zoo has not, as a user writes them first."""

from __future__ import annotations

import tilus as tl


@tl.jit
def product(a: atype["M", "K"], b: atype["K", "N"], c: ctype["M", "N"], atype: tl.DType = tl.f16,
            ctype: tl.DType = tl.f16, sums: tl.DType = tl.f32, BM: int = 128, BN: int = 128, BK: int = 32,
            stages: int = 3, warps: int = 4, precision: str = "") -> None:
    """c = a @ b of any type."""
    M, K = a.shape
    _, N = b.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), sums)
    for k in tl.range(0, K, BK, stages=stages):
        x = tl.load(a, (i * BM, k), (BM, BK))
        y = tl.load(b, (k, j * BN), (BK, BN))
        acc = tl.dot(x, y, acc, precision=precision) if precision else tl.dot(x, y, acc)
    tl.store(c, (i * BM, j * BN), acc.to(ctype))


@tl.jit
def product_of_rows(a: tl.f16["M", "K"], w: tl.f16["N", "K"], c: tl.f16["M", "N"], BM: int = 128, BN: int = 128,
                    BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    """c = a @ w.T, transposed in the kernel."""
    M, K = a.shape
    N, _ = w.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        x = tl.load(a, (i * BM, k), (BM, BK))
        y = tl.load(w, (j * BN, k), (BN, BK))
        acc = tl.dot(x, y.T, acc)
    tl.store(c, (i * BM, j * BN), acc.to(tl.f16))


@tl.jit
def gathered_rows(a: tl.f16["T", "K"], rows: tl.i32["M"], b: tl.f16["K", "N"], c: tl.f16["M", "N"], BM: int = 128,
                  BN: int = 128, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    """c = a[rows] @ b, as the tokens of an expert are multiplied."""
    M, K = rows.shape[0], a.shape[1]
    _, N = b.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    row = tl.load(rows, i * BM, BM)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        x = tl.gather(a, (row[:, None], (k + tl.arange(BK))[None, :]))
        y = tl.load(b, (k, j * BN), (BK, BN))
        acc = tl.dot(x, y, acc)
    tl.store(c, (i * BM, j * BN), acc.to(tl.f16))


@tl.jit
def masked_rows(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f16["M", "N"], count: tl.i32, BM: int = 128,
                BN: int = 128, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    """c = a @ b where rows of a from ``count`` on count as zeros."""
    M, K = a.shape
    _, N = b.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    there = (i * BM + tl.arange(BM) < count)[:, None]
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        x = tl.load(a, (i * BM, k), (BM, BK), mask=there & (k + tl.arange(BK) < K)[None, :])
        y = tl.load(b, (k, j * BN), (BK, BN))
        acc = tl.dot(x, y, acc)
    tl.store(c, (i * BM, j * BN), acc.to(tl.f16))


@tl.jit
def with_epilogue(a: tl.f16["M", "K"], b: tl.f16["K", "N"], bias: tl.f16["N"], c: tl.f16["M", "N"],
                  function: str = "gelu", BM: int = 128, BN: int = 128, BK: int = 32, stages: int = 3,
                  warps: int = 4) -> None:
    """c = gelu(a @ b + bias), or silu."""
    M, K = a.shape
    _, N = b.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    acc += tl.load(bias, j * BN, BN).to(tl.f32)[None, :]
    acc = tl.gelu(acc) if function == "gelu" else tl.silu(acc)
    tl.store(c, (i * BM, j * BN), acc.to(tl.f16))


@tl.jit
def convolution(x: tl.f16["H", "W", "C"], w: tl.f16["K", "N"], y: tl.f16["M", "N"], R: int = 3, BM: int = 128,
                BN: int = 64, BK: int = 32, stages: int = 3, warps: int = 4) -> None:
    """Without padding; k is row, column and channel of the window."""
    H, W, C = x.shape
    K, N = w.shape
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(y.shape[0], BM), tl.cdiv(N, BN))
    m = (i * BM + tl.arange(BM))[:, None]
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        at = (k + tl.arange(BK))[None, :]
        tap, width = at // C, W - R + 1
        a = tl.gather(x, (m // width + tap // R, m % width + tap % R, at % C))
        acc = tl.dot(a, tl.load(w, (k, j * BN), (BK, BN)), acc)
    tl.store(y, (i * BM, j * BN), acc.to(tl.f16))
