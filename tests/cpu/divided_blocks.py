"""Kernels whose blocks several cores share, and some of which they cannot."""

from __future__ import annotations

import tilus as tl


def epilogue(a: tl.f32["M", "K"], b: tl.f32["K", "N"], bias: tl.f32["N"], c: tl.f32["M", "N"], top: tl.f32["M"],
             BM: int = 96, BN: int = 112) -> None:
    """Rows of a product, what is added to them, and their softmax and greatest elements."""
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), 1)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], 16):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, 16)), tl.load(b, (k, j * BN), (16, BN)), acc)
    columns = tl.arange(BN)[None, :]
    x = tl.where(columns < b.shape[1], acc + tl.load(bias, j * BN, BN)[None, :], -1e30)
    greatest = tl.max(x, axis=1, keepdims=True)
    e = tl.exp(x - greatest)
    tl.store(top, i * BM, tl.reshape(greatest, (BM,)))
    tl.store(c, (i * BM, j * BN), e / tl.sum(e, axis=1, keepdims=True))


def few_rows(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 16, BN: int = 256) -> None:
    """Divided by columns."""
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], 32):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, 32)), tl.load(b, (k, j * BN), (32, BN)), acc)
    tl.store(c, (i * BM, j * BN), tl.maximum(acc, 0.0))


def both(x: tl.f32["M", "K"], c: tl.f32["M", "M"], y: tl.f32["M", "K"], BM: int = 64, BK: int = 64) -> None:
    """One load is both operands of a product, by rows and as it is."""
    tl.grid(1)
    v = tl.load(x, (0, 0), (BM, BK))
    s = tl.dot(v, v.T, tl.zeros((BM, BM), tl.f32))
    rows, columns = tl.arange(BM)[:, None], tl.arange(BM)[None, :]
    s = tl.where(columns <= rows, s, 0.0)
    tl.store(c, (0, 0), s)
    tl.store(y, (0, 0), tl.dot(s, v, tl.zeros((BM, BK), tl.f32)))


def attention(q: tl.f16["M", 64], k: tl.f16["N", 64], v: tl.f16["N", 64], o: tl.f16["M", 64], causal: bool = False,
              BM: int = 64, BN: int = 32) -> None:
    i = tl.grid(tl.cdiv(q.shape[0], BM)) * BM
    x = tl.load(q, (i, 0), (BM, 64))
    m, total, acc = tl.full((BM,), -1e30, tl.f32), tl.zeros((BM,), tl.f32), tl.zeros((BM, 64), tl.f32)
    for j in tl.range(0, k.shape[0], BN):
        s = tl.dot(x, tl.load(k, (j, 0), (BN, 64)).T, tl.zeros((BM, BN), tl.f32)) * 0.125
        columns, rows = j + tl.arange(BN)[None, :], i + tl.arange(BM)[:, None]
        keep = columns < k.shape[0]
        if causal:
            keep = keep & (columns <= rows)
        s = tl.where(keep, s, -1e30)
        new = tl.maximum(m, tl.max(s, axis=1))
        p, scale = tl.exp(s - new[:, None]), tl.exp(m - new)
        m, total = new, total * scale + tl.sum(p, axis=1)
        acc = tl.dot(p.to(tl.f16), tl.load(v, (j, 0), (BN, 64)), acc * scale[:, None])
    tl.store(o, (i, 0), (acc / total[:, None]).to(tl.f16))


def elementwise(x: tl.f32["M", "N"], y: tl.f32["N", "M"], seed: tl.i32, BM: int = 128, BN: int = 128) -> None:
    """No product: functions of elements and chance, stored turned."""
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    rows, columns = i * BM + tl.arange(BM)[:, None], j * BN + tl.arange(BN)[None, :]
    v = tl.load(x, (i * BM, j * BN), (BM, BN), mask=(rows + columns) % 5 != 0, other=0.25)
    for _ in tl.range(seed):
        v = tl.tanh(v * 1.5) + tl.random.rand(seed, rows * 1024 + columns)
    tl.store(y, (j * BN, i * BM), v.T)


# Those that are done by one core.


def columns(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["N"], BM: int = 64, BN: int = 16) -> None:
    """Sums of a product's columns, of which there are few."""
    tl.grid(1)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], 32):
        acc = tl.dot(tl.load(a, (0, k), (BM, 32)), tl.load(b, (k, 0), (32, BN)), acc)
    tl.store(c, 0, tl.sum(acc, axis=0))


def adding(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 64, BN: int = 64) -> None:
    tl.grid(1)
    acc = tl.dot(tl.load(a, (0, 0), (BM, 64)), tl.load(b, (0, 0), (64, BN)), tl.zeros((BM, BN), tl.f32))
    tl.store(c, (0, 0), acc)
    tl.atomic_add(c, (tl.arange(BM)[:, None], tl.arange(BN)[None, :]), acc)


def in_place(a: tl.f32["M", "M"], b: tl.f32["M", "M"], BM: int = 64) -> None:
    """Rows of an array are written of which columns are read."""
    tl.grid(1)
    acc = tl.dot(tl.load(a, (0, 0), (BM, BM)), tl.load(b, (0, 0), (BM, BM)).T, tl.zeros((BM, BM), tl.f32))
    tl.store(b, (0, 0), acc)


def carried(a: tl.f32["M", "M"], c: tl.f32["M", "M"], BM: int = 64) -> None:
    """Powers of a matrix: each row is made of all rows of the one before."""
    tl.grid(1)
    acc = tl.load(a, (0, 0), (BM, BM))
    for _ in tl.range(3):
        acc = tl.dot(acc, acc, tl.zeros((BM, BM), tl.f32))
    tl.store(c, (0, 0), acc)


def little(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    tl.grid(1)
    tl.store(y, (0, 0), tl.load(x, (0, 0), (64, 64)) * 2.0)


REFUSED = (columns, adding, in_place, carried, little)
