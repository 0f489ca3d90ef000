"""Row-wise kernels and movements of ours that the zoo has not, as they are written first."""

from __future__ import annotations

from typing import Any

import tilus as tl


@tl.jit
def copied(x: dtype["M", "N"], y: dtype["M", "N"], dtype: tl.DType = tl.f16, BM: int = 64, BN: int = 64) -> None:
    M, N = x.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    tl.store(y, (i * BM, j * BN), tl.load(x, (i * BM, j * BN), (BM, BN)))


@tl.jit
def permute(x: dtype["A", "B", "C"], y: dtype["C", "B", "A"], dtype: tl.DType = tl.f16, T: int = 64) -> None:
    """y[c, b, a] = x[a, b, c]."""
    A, B, C = x.shape
    i, b, j = tl.grid(tl.cdiv(A, T), B, tl.cdiv(C, T))
    tl.store(y[:, b, :], (j * T, i * T), tl.load(x[:, b, :], (i * T, j * T), (T, T)).T)


@tl.fuse
def plus_transposed(x: tl.f32["N", "N"] | tl.f16["N", "N"]) -> Any:
    return x + x.T


@tl.jit
def gather_rows(x: dtype["N", "D"], rows: tl.i32["M"], y: dtype["M", "D"], dtype: tl.DType = tl.f16, BM: int = 32,
                BD: int = 128) -> None:
    """y = x[rows]."""
    M, D = y.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(D, BD))
    row = tl.load(rows, i * BM, BM)
    tile = tl.gather(x, (row[:, None], (j * BD + tl.arange(BD))[None, :]))
    tl.store(y, (i * BM, j * BD), tile)


@tl.jit
def scatter_rows(x: dtype["M", "D"], rows: tl.i32["M"], y: dtype["N", "D"], dtype: tl.DType = tl.f16, BM: int = 32,
                 BD: int = 128) -> None:
    """y[rows] = x."""
    M, D = x.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(D, BD))
    there = (i * BM + tl.arange(BM) < M)[:, None]
    row = tl.load(rows, i * BM, BM)
    tl.scatter(y, (row[:, None], (j * BD + tl.arange(BD))[None, :]), tl.load(x, (i * BM, j * BD), (BM, BD)),
               mask=there)


@tl.jit
def add_rows(x: dtype["M", "D"], rows: tl.i32["M"], y: dtype["N", "D"], dtype: tl.DType = tl.f32, BM: int = 32,
             BD: int = 128) -> None:
    """y[rows] += x."""
    M, D = x.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(D, BD))
    there = (i * BM + tl.arange(BM) < M)[:, None]
    row = tl.load(rows, i * BM, BM)
    tl.atomic_add(y, (row[:, None], (j * BD + tl.arange(BD))[None, :]), tl.load(x, (i * BM, j * BD), (BM, BD)),
                  mask=there)


@tl.jit
def scan_rows(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 4, BN: int = 1024) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    tl.store(y, (i, 0), tl.cumsum(tl.load(x, (i, 0), (BM, BN)), axis=1))


@tl.jit
def argmax_rows(x: tl.f32["M", "N"], y: tl.i32["M"], BM: int = 4, BN: int = 1024) -> None:
    M, N = x.shape
    i = tl.grid(tl.cdiv(M, BM)) * BM
    tl.store(y, i, tl.argmax(tl.load(x, (i, 0), (BM, BN), other=-float("inf")), axis=1).to(tl.i32))


@tl.jit
def sum_columns(x: tl.f32["M", "N"], y: tl.f32["N"], BM: int = 64, BN: int = 64) -> None:
    """y[n] = Σ x[:, n]."""
    M, N = x.shape
    j = tl.grid(tl.cdiv(N, BN)) * BN
    total = tl.zeros((BM, BN), tl.f32)
    for i in tl.range(0, M, BM):
        total += tl.load(x, (i, j), (BM, BN))
    tl.store(y, j, tl.sum(total, axis=0))


@tl.jit
def cross_entropy(x: tl.f16["M", "N"], labels: tl.i32["M"], loss: tl.f32["M"], BN: int = 1024) -> None:
    """loss = log Σ exp(x) − x[label], row by row."""
    M, N = x.shape
    i = tl.grid(M)
    row = tl.load(x, (i, 0), (1, BN), other=-float("inf")).to(tl.f32)
    top = tl.max(row, axis=1)
    total = tl.sum(tl.exp(row - top[:, None], approximate=True), axis=1)
    picked = x[i, labels[i]].to(tl.f32)
    tl.store(loss, i, tl.log(total, approximate=True) + top - picked)


@tl.jit
def rotary_halves(x: tl.f16["S", "D_"], cos: tl.f16["S", "R"], sin: tl.f16["S", "R"], y: tl.f16["S", "D_"],
                  D: int = 128, BM: int = 32) -> None:
    S, _ = x.shape
    i, h = tl.grid(tl.cdiv(S, BM)) * BM, D // 2
    a, b = (tl.load(x, (i, at), (BM, h)).to(tl.f32) for at in (0, h))
    c, s = (tl.load(t, (i, 0), (BM, h)).to(tl.f32) for t in (cos, sin))
    tl.store(y, (i, 0), (a * c - b * s).to(tl.f16))
    tl.store(y, (i, h), (b * c + a * s).to(tl.f16))


@tl.jit
def rotary_pairs(x: tl.f16["S", "D_"], cos: tl.f16["S", "R"], sin: tl.f16["S", "R"], y: tl.f16["S", "D_"],
                 D: int = 128, BM: int = 32) -> None:
    S, _ = x.shape
    i, h = tl.grid(tl.cdiv(S, BM)) * BM, D // 2
    a, b = tl.split(tl.load(x, (i, 0), (BM, D)).to(tl.f32).reshape((BM, h, 2)), 2, axis=2)
    a, b = a.reshape((BM, h)), b.reshape((BM, h))
    c, s = (tl.load(t, (i, 0), (BM, h)).to(tl.f32) for t in (cos, sin))
    turned = tl.concatenate([(a * c - b * s).reshape((BM, h, 1)), (b * c + a * s).reshape((BM, h, 1))], axis=2)
    tl.store(y, (i, 0), turned.reshape((BM, D)).to(tl.f16))


@tl.jit
def stencil(x: tl.f32["H", "W"], y: tl.f32["H", "W"], BM: int = 16, BN: int = 64) -> None:
    """The mean of 3×3 neighbours, zeros beyond the image."""
    H, W = x.shape
    i, j = tl.grid(tl.cdiv(H, BM), tl.cdiv(W, BN))
    total = tl.zeros((BM, BN), tl.f32)
    for di in tl.static_range(-1, 2):
        for dj in tl.static_range(-1, 2):
            total += tl.load(x, (i * BM + di, j * BN + dj), (BM, BN))
    tl.store(y, (i * BM, j * BN), total * (1 / 9))


@tl.jit
def elementwise(x: dtype["N"], y: dtype["N"], function: str = "gelu", dtype: tl.DType = tl.f32,
                BLOCK: int = 1024) -> None:
    (N,) = x.shape
    start = tl.grid(tl.cdiv(N, BLOCK)) * BLOCK
    value = tl.load(x, start, BLOCK).to(tl.f32)
    tl.store(y, start, getattr(tl, function)(value).to(dtype))


@tl.jit
def quotients(x: tl.i32["N"], y: tl.i32["N"], z: tl.i32["N"], BLOCK: int = 1024) -> None:
    """z = x // y."""
    (N,) = x.shape
    start = tl.grid(tl.cdiv(N, BLOCK)) * BLOCK
    tl.store(z, start, tl.load(x, start, BLOCK) // tl.load(y, start, BLOCK, other=1))


@tl.jit
def converted(x: xtype["N"], y: ytype["N"], xtype: tl.DType = tl.i32, ytype: tl.DType = tl.f16,
              BLOCK: int = 1024) -> None:
    (N,) = x.shape
    start = tl.grid(tl.cdiv(N, BLOCK)) * BLOCK
    tl.store(y, start, tl.load(x, start, BLOCK).to(ytype))


@tl.fuse
def fused_silu(x: tl.f16["M", "N"]) -> Any:
    return tl.silu(x)


@tl.fuse
def fused_gelu(x: tl.f16["M", "N"]) -> Any:
    return tl.gelu(x)


@tl.fuse
def fused_sigmoid(x: tl.f16["M", "N"]) -> Any:
    return tl.sigmoid(x)


@tl.fuse
def fused_softmax(x: tl.f16["M", "N"]) -> Any:
    z = tl.exp(x - tl.max(x, axis=1, keepdims=True))
    return z / tl.sum(z, axis=1, keepdims=True)
