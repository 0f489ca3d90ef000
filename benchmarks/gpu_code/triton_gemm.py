"""Matrix products in Triton."""

import triton
import triton.language as tl


@triton.jit
def matmul(a, b, c, m, n, k, am, ak, bk, bn, cm, cn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
           INTEGER: tl.constexpr, MASK_M: tl.constexpr, MASK_N: tl.constexpr, MASK_K: tl.constexpr,
           PRECISION: tl.constexpr):
    """c = a @ b for any strides; dimensions that tiles divide have no masks."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.int32 if INTEGER else tl.float32)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        x_mask = None
        if MASK_M:
            x_mask = (i < m)[:, None]
        if MASK_K:
            x_mask = (at < k)[None, :] if x_mask is None else x_mask & (at < k)[None, :]
        y_mask = None
        if MASK_N:
            y_mask = (j < n)[None, :]
        if MASK_K:
            y_mask = (at < k)[:, None] if y_mask is None else y_mask & (at < k)[:, None]
        if x_mask is None:
            x = tl.load(a + i[:, None] * am + at[None, :] * ak)
        else:
            x = tl.load(a + i[:, None] * am + at[None, :] * ak, mask=x_mask, other=0)
        if y_mask is None:
            y = tl.load(b + at[:, None] * bk + j[None, :] * bn)
        else:
            y = tl.load(b + at[:, None] * bk + j[None, :] * bn, mask=y_mask, other=0)
        if INTEGER:
            acc = tl.dot(x, y, acc)
        else:
            acc = tl.dot(x, y, acc, input_precision=PRECISION)
    where = c + i[:, None] * cm + j[None, :] * cn
    if MASK_M or MASK_N:
        tl.store(where, acc.to(c.dtype.element_ty), mask=(i < m)[:, None] & (j < n)[None, :])
    else:
        tl.store(where, acc.to(c.dtype.element_ty))


@triton.jit
def gathered_rows(a, rows, b, c, n, k, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """c = a[rows] @ b, as the tokens of an expert are multiplied."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    row = tl.load(rows + i)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        x = tl.load(a + row[:, None] * am + at[None, :])
        y = tl.load(b + at[:, None] * bk + j[None, :])
        acc = tl.dot(x, y, acc)
    tl.store(c + i[:, None] * cm + j[None, :], acc.to(c.dtype.element_ty))


@triton.jit
def masked_rows(a, b, c, m, n, k, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """c = a @ b where rows of a from ``m`` on count as zeros."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        x = tl.load(a + i[:, None] * am + at[None, :], mask=(i < m)[:, None] & (at < k)[None, :], other=0.0)
        y = tl.load(b + at[:, None] * bk + j[None, :])
        acc = tl.dot(x, y, acc)
    tl.store(c + i[:, None] * cm + j[None, :], acc.to(c.dtype.element_ty))


@triton.jit
def split_k(a, b, c, n, k, part, am, bk, plane, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """The sums over one part of k of each block, into a workspace of their own."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    first = tl.program_id(2) * part
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(first, first + part, BK):
        at = start + tl.arange(0, BK)
        x = tl.load(a + i[:, None] * am + at[None, :])
        y = tl.load(b + at[:, None] * bk + j[None, :])
        acc = tl.dot(x, y, acc)
    tl.store(c + tl.program_id(2) * plane + i[:, None] * cm + j[None, :], acc)


@triton.jit
def add_parts(parts, c, count, plane, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    acc = tl.zeros((B,), dtype=tl.float32)
    for p in range(count):
        acc += tl.load(parts + p * plane + at)
    tl.store(c + at, acc.to(c.dtype.element_ty))


@triton.jit
def epilogue(a, b, bias, c, n, k, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
             GELU: tl.constexpr):
    """gelu or silu of a @ b + bias."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        x = tl.load(a + i[:, None] * am + at[None, :])
        y = tl.load(b + at[:, None] * bk + j[None, :])
        acc = tl.dot(x, y, acc)
    acc += tl.load(bias + j).to(tl.float32)[None, :]
    if GELU:
        acc = 0.5 * acc * (1 + tl.erf(acc * 0.7071067811865476))
    else:
        acc = acc * tl.sigmoid(acc)
    tl.store(c + i[:, None] * cm + j[None, :], acc.to(c.dtype.element_ty))


@triton.jit
def convolution(x, w, y, m, n, k, height, width, channels, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
                R: tl.constexpr):
    """Without padding; k is row, column and channel of the window."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    across = width - R + 1
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        tap = at // channels
        row = (i // across)[:, None] + (tap // R)[None, :]
        column = (i % across)[:, None] + (tap % R)[None, :]
        a = tl.load(x + (row * width + column) * channels + (at % channels)[None, :], mask=(i < m)[:, None], other=0.0)
        b = tl.load(w + at[:, None] * n + j[None, :])
        acc = tl.dot(a, b, acc)
    tl.store(y + i[:, None] * n + j[None, :], acc.to(y.dtype.element_ty), mask=(i < m)[:, None])
