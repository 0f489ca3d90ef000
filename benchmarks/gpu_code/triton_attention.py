"""Attention in Triton: FlashAttention-2's forward pass over (batch, sequence, heads, D)."""

import triton
import triton.language as tl


@triton.jit
def forward(q, k, v, o, lse, length, heads, batch_stride, stride, scale, D: tl.constexpr, P: tl.constexpr,
            BM: tl.constexpr, BN: tl.constexpr, CAUSAL: tl.constexpr):
    """P is D rounded up to a power of two; lengths are multiples of the tiles."""
    tile, h, b = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    i = tile * BM + tl.arange(0, BM)
    d = tl.arange(0, P)
    base = b * batch_stride + h * D
    if D == P:
        x = tl.load(q + base + i[:, None] * stride + d[None, :])
    else:
        x = tl.load(q + base + i[:, None] * stride + d[None, :], mask=d[None, :] < D, other=0.0)
    top = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, P), tl.float32)
    if CAUSAL:
        whole = tile * BM // BN * BN
    else:
        whole = length
    for start in range(0, whole, BN):
        acc, total, top = step(acc, total, top, x, k, v, base, stride, start, i, d, scale, D, P, BN, False)
    if CAUSAL:
        for start in range(whole, (tile + 1) * BM, BN):
            acc, total, top = step(acc, total, top, x, k, v, base, stride, start, i, d, scale, D, P, BN, True)
    acc = acc / total[:, None]
    tl.store(lse + (b * heads + h) * length + i, top * 0.6931471805599453 + tl.log(total))
    where = o + base + i[:, None] * stride + d[None, :]
    if D == P:
        tl.store(where, acc.to(o.dtype.element_ty))
    else:
        tl.store(where, acc.to(o.dtype.element_ty), mask=d[None, :] < D)


@triton.jit
def step(acc, total, top, x, k, v, base, stride, start, i, d, scale, D: tl.constexpr, P: tl.constexpr,
         BN: tl.constexpr, MASK: tl.constexpr):
    j = start + tl.arange(0, BN)
    where = base + j[:, None] * stride + d[None, :]
    if D == P:
        y = tl.load(k + where)
    else:
        y = tl.load(k + where, mask=d[None, :] < D, other=0.0)
    s = tl.dot(x, tl.trans(y))
    if MASK:
        s = tl.where(i[:, None] >= j[None, :], s, -float("inf"))
    higher = tl.maximum(top, tl.max(s, 1) * scale)
    p = tl.exp2(s * scale - higher[:, None])
    less = tl.exp2(top - higher)
    total = total * less + tl.sum(p, 1)
    acc = acc * less[:, None]
    if D == P:
        z = tl.load(v + where)
    else:
        z = tl.load(v + where, mask=d[None, :] < D, other=0.0)
    acc = tl.dot(p.to(v.dtype.element_ty), z, acc)
    return acc, total, higher
