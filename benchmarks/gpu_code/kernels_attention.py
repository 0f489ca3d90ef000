"""Attention's backward pass as it is written down first: each tile loaded once and multiplied where it is wanted."""

from __future__ import annotations

import tilus as tl


@tl.jit
def keys(q: tl.f16["H", "S", "D_"], k: tl.f16["H", "S", "D_"], v: tl.f16["H", "S", "D_"], do: tl.f16["H", "S", "D_"],
         lse2: tl.f32["H", "S"], delta: tl.f32["H", "S"], dk: tl.f16["H", "S", "D_"], dv: tl.f16["H", "S", "D_"],
         scale: tl.f32, D: int = 64, BM: int = 64, BN: int = 64, warps: int = 4, stages: int = 2) -> None:
    """dk and dv, keys by queries."""
    S = q.shape[1]
    tl.block(warps=warps)
    tile, h = tl.grid(tl.cdiv(S, BN), q.shape[0])
    start = tile * BN
    kt, vt = (tl.load(x[h, :, :], (start, 0), (BN, D)) for x in (k, v))
    gk, gv = tl.zeros((BN, D), tl.f32), tl.zeros((BN, D), tl.f32)
    for i in tl.range(0, S, BM, stages=stages):
        x = tl.load(q[h, :, :], (i, 0), (BM, D))
        p = tl.exp2(tl.dot(kt, x.T) * scale - tl.load(lse2[h, :], i, BM)[None, :], approximate=True)
        y = tl.load(do[h, :, :], (i, 0), (BM, D))
        gv = tl.dot(p.to(tl.f16), y, gv)
        ds = p * (tl.dot(vt, y.T) - tl.load(delta[h, :], i, BM)[None, :])
        gk = tl.dot(ds.to(tl.f16), x, gk)
    tl.store(dk[h, :, :], (start, 0), (gk * scale).to(tl.f16))
    tl.store(dv[h, :, :], (start, 0), gv.to(tl.f16))


@tl.jit
def turned_keys(q: tl.f16["H", "S", "D_"], k: tl.f16["H", "S", "D_"], v: tl.f16["H", "S", "D_"],
                do: tl.f16["H", "S", "D_"], lse2: tl.f32["H", "S"], delta: tl.f32["H", "S"], dk: tl.f16["H", "S", "D_"],
                dv: tl.f16["H", "S", "D_"], scale: tl.f32, D: int = 64, BM: int = 64, BN: int = 64, warps: int = 4,
                stages: int = 2) -> None:
    """dk and dv, queries by keys: P and dS are turned."""
    S = q.shape[1]
    tl.block(warps=warps)
    tile, h = tl.grid(tl.cdiv(S, BN), q.shape[0])
    start = tile * BN
    kt, vt = (tl.load(x[h, :, :], (start, 0), (BN, D)) for x in (k, v))
    gk, gv = tl.zeros((BN, D), tl.f32), tl.zeros((BN, D), tl.f32)
    for i in tl.range(0, S, BM, stages=stages):
        x = tl.load(q[h, :, :], (i, 0), (BM, D))
        p = tl.exp2(tl.dot(x, kt.T) * scale - tl.load(lse2[h, :], i, BM)[:, None], approximate=True)
        y = tl.load(do[h, :, :], (i, 0), (BM, D))
        gv = tl.dot(p.to(tl.f16).T, y, gv)
        ds = p * (tl.dot(y, vt.T) - tl.load(delta[h, :], i, BM)[:, None])
        gk = tl.dot(ds.to(tl.f16).T, x, gk)
    tl.store(dk[h, :, :], (start, 0), (gk * scale).to(tl.f16))
    tl.store(dv[h, :, :], (start, 0), gv.to(tl.f16))


@tl.jit
def queries(q: tl.f16["H", "S", "D_"], k: tl.f16["H", "S", "D_"], v: tl.f16["H", "S", "D_"],
            do: tl.f16["H", "S", "D_"], lse2: tl.f32["H", "S"], delta: tl.f32["H", "S"], dq: tl.f16["H", "S", "D_"],
            scale: tl.f32, D: int = 64, BM: int = 64, BN: int = 64, warps: int = 4, stages: int = 2) -> None:
    """dq."""
    S = q.shape[1]
    tl.block(warps=warps)
    tile, h = tl.grid(tl.cdiv(S, BM), q.shape[0])
    start = tile * BM
    x, y = (tl.load(a[h, :, :], (start, 0), (BM, D)) for a in (q, do))
    shift, d = (tl.load(a[h, :], start, BM)[:, None] for a in (lse2, delta))
    gq = tl.zeros((BM, D), tl.f32)
    for j in tl.range(0, S, BN, stages=stages):
        kt = tl.load(k[h, :, :], (j, 0), (BN, D))
        p = tl.exp2(tl.dot(x, kt.T) * scale - shift, approximate=True)
        vt = tl.load(v[h, :, :], (j, 0), (BN, D))
        ds = p * (tl.dot(y, vt.T) - d)
        gq = tl.dot(ds.to(tl.f16), kt, gq)
    tl.store(dq[h, :, :], (start, 0), (gq * scale).to(tl.f16))
