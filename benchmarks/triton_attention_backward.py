"""FlashAttention-2's backward pass in Triton: the same two kernels as the zoo's, not causal and not masked."""

import triton
import triton.language as tl


@triton.jit
def rows(base, stride, first, BLOCK: tl.constexpr, D: tl.constexpr):
    """Where the elements of some rows are."""
    return base + (first + tl.arange(0, BLOCK))[:, None] * stride + tl.arange(0, D)[None, :]


@triton.jit
def keys(q, k, v, do, lse2, delta, dk, dv, head_stride, stride, length, scale,
         D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    start = tl.program_id(0) * BN
    head = tl.program_id(1)
    at = head * head_stride
    kt = tl.load(rows(k + at, stride, start, BN, D))
    vt = tl.load(rows(v + at, stride, start, BN, D))
    gk = tl.zeros([BN, D], dtype=tl.float32)
    gv = tl.zeros([BN, D], dtype=tl.float32)
    for i in range(0, length, BM):
        x = tl.load(rows(q + at, stride, i, BM, D))
        shift = tl.load(lse2 + head * length + i + tl.arange(0, BM))
        p = tl.exp2(tl.dot(kt, tl.trans(x)) * scale - shift[None, :])
        y = tl.load(rows(do + at, stride, i, BM, D))
        gv += tl.dot(p.to(q.dtype.element_ty), y)
        d = tl.load(delta + head * length + i + tl.arange(0, BM))
        ds = p * (tl.dot(vt, tl.trans(y)) - d[None, :])
        gk += tl.dot(ds.to(q.dtype.element_ty), x)
    tl.store(rows(dk + at, stride, start, BN, D), (gk * scale).to(q.dtype.element_ty))
    tl.store(rows(dv + at, stride, start, BN, D), gv.to(q.dtype.element_ty))


@triton.jit
def queries(q, k, v, do, lse2, delta, dq, dv, head_stride, stride, length, scale,
            D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    start = tl.program_id(0) * BM
    head = tl.program_id(1)
    at = head * head_stride
    x = tl.load(rows(q + at, stride, start, BM, D))
    y = tl.load(rows(do + at, stride, start, BM, D))
    shift = tl.load(lse2 + head * length + start + tl.arange(0, BM))
    d = tl.load(delta + head * length + start + tl.arange(0, BM))
    gq = tl.zeros([BM, D], dtype=tl.float32)
    for j in range(0, length, BN):
        kt = tl.load(rows(k + at, stride, j, BN, D))
        p = tl.exp2(tl.dot(x, tl.trans(kt)) * scale - shift[:, None])
        vt = tl.load(rows(v + at, stride, j, BN, D))
        ds = p * (tl.dot(y, tl.trans(vt)) - d[:, None])
        gq += tl.dot(ds.to(q.dtype.element_ty), kt)
    tl.store(rows(dq + at, stride, start, BM, D), (gq * scale).to(q.dtype.element_ty))
