"""Row-wise kernels and movements in Triton."""

import triton
import triton.language as tl


@triton.jit
def transpose(x, y, xm, xn, ym, yn, BM: tl.constexpr, BN: tl.constexpr):
    """y = x.T of extents that the tiles divide; through shared memory, as its strides ask for."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    tile = tl.load(x + i[:, None] * xm + j[None, :] * xn)
    tl.store(y + j[:, None] * ym + i[None, :] * yn, tl.trans(tile))


@triton.jit
def permute(x, y, xa, xb, yc, yb, T: tl.constexpr):
    i = tl.program_id(0) * T + tl.arange(0, T)
    j = tl.program_id(2) * T + tl.arange(0, T)
    b = tl.program_id(1)
    tile = tl.load(x + b * xb + i[:, None] * xa + j[None, :])
    tl.store(y + b * yb + j[:, None] * yc + i[None, :], tl.trans(tile))


@triton.jit
def plus_transposed(x, y, n, T: tl.constexpr):
    i = tl.program_id(0) * T + tl.arange(0, T)
    j = tl.program_id(1) * T + tl.arange(0, T)
    here = tl.load(x + i[:, None] * n + j[None, :])
    there = tl.load(x + j[:, None] * n + i[None, :])
    tl.store(y + i[:, None] * n + j[None, :], here + tl.trans(there))


@triton.jit
def gather_rows(x, rows, y, d, BM: tl.constexpr, BD: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BD + tl.arange(0, BD)
    row = tl.load(rows + i)
    tl.store(y + i[:, None] * d + j[None, :], tl.load(x + row[:, None] * d + j[None, :]))


@triton.jit
def scatter_rows(x, rows, y, d, BM: tl.constexpr, BD: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BD + tl.arange(0, BD)
    row = tl.load(rows + i)
    tl.store(y + row[:, None] * d + j[None, :], tl.load(x + i[:, None] * d + j[None, :]))


@triton.jit
def add_rows(x, rows, y, d, BM: tl.constexpr, BD: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BD + tl.arange(0, BD)
    row = tl.load(rows + i)
    tl.atomic_add(y + row[:, None] * d + j[None, :], tl.load(x + i[:, None] * d + j[None, :]), sem="relaxed")


@triton.jit
def scan_rows(x, y, n, BM: tl.constexpr, BN: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    at = i[:, None] * n + tl.arange(0, BN)[None, :]
    tl.store(y + at, tl.cumsum(tl.load(x + at), 1))


@triton.jit
def argmax_rows(x, y, n, BM: tl.constexpr, BN: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    tl.store(y + i, tl.argmax(tl.load(x + i[:, None] * n + tl.arange(0, BN)[None, :]), 1))


@triton.jit
def sum_columns(x, y, m, n, BM: tl.constexpr, BN: tl.constexpr):
    j = tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for i in range(0, m, BM):
        total += tl.load(x + (i + tl.arange(0, BM))[:, None] * n + j[None, :])
    tl.store(y + j, tl.sum(total, 0))


@triton.jit
def cross_entropy(x, labels, loss, n, B: tl.constexpr):
    i = tl.program_id(0)
    at = tl.arange(0, B)
    row = tl.load(x + i * n + at, mask=at < n, other=-float("inf")).to(tl.float32)
    top = tl.max(row, 0)
    total = tl.sum(tl.exp(row - top), 0)
    picked = tl.load(x + i * n + tl.load(labels + i)).to(tl.float32)
    tl.store(loss + i, tl.log(total) + top - picked)


@triton.jit
def rotary_halves(x, cos, sin, y, D: tl.constexpr, BM: tl.constexpr):
    i = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    h = tl.arange(0, D // 2)[None, :]
    a = tl.load(x + i * D + h).to(tl.float32)
    b = tl.load(x + i * D + h + D // 2).to(tl.float32)
    c = tl.load(cos + i * (D // 2) + h).to(tl.float32)
    s = tl.load(sin + i * (D // 2) + h).to(tl.float32)
    tl.store(y + i * D + h, (a * c - b * s).to(tl.float16))
    tl.store(y + i * D + h + D // 2, (b * c + a * s).to(tl.float16))


@triton.jit
def rotary_pairs(x, cos, sin, y, D: tl.constexpr, BM: tl.constexpr):
    i = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    h = tl.arange(0, D // 2)[None, :]
    tile = tl.load(x + i * D + tl.arange(0, D)[None, :]).to(tl.float32)
    a, b = tl.split(tl.reshape(tile, (BM, D // 2, 2)))
    c = tl.load(cos + i * (D // 2) + h).to(tl.float32)
    s = tl.load(sin + i * (D // 2) + h).to(tl.float32)
    turned = tl.reshape(tl.join(a * c - b * s, b * c + a * s), (BM, D))
    tl.store(y + i * D + tl.arange(0, D)[None, :], turned.to(tl.float16))


@triton.jit
def stencil(x, y, h, w, BM: tl.constexpr, BN: tl.constexpr):
    i = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    j = (tl.program_id(1) * BN + tl.arange(0, BN))[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for di in tl.static_range(-1, 2):
        for dj in tl.static_range(-1, 2):
            inside = (i + di >= 0) & (i + di < h) & (j + dj >= 0) & (j + dj < w)
            total += tl.load(x + (i + di) * w + j + dj, mask=inside, other=0.0)
    tl.store(y + i * w + j, total * (1 / 9), mask=(i < h) & (j < w))


@triton.jit
def elementwise(x, y, n, FUNCTION: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at, mask=at < n).to(tl.float32)
    if FUNCTION == "gelu":
        value = 0.5 * value * (1 + tl.erf(value * 0.7071067811865476))
    elif FUNCTION == "silu":
        value = value * tl.sigmoid(value)
    elif FUNCTION == "sigmoid":
        value = tl.sigmoid(value)
    elif FUNCTION == "exp":
        value = tl.exp(value)
    elif FUNCTION == "log":
        value = tl.log(value)
    elif FUNCTION == "sin":
        value = tl.sin(value)
    elif FUNCTION == "cos":
        value = tl.cos(value)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=at < n)


@triton.jit
def quotients(x, y, z, n, B: tl.constexpr):
    """Of numbers that are not negative, where floor division is truncation."""
    at = tl.program_id(0) * B + tl.arange(0, B)
    mask = at < n
    tl.store(z + at, tl.load(x + at, mask=mask) // tl.load(y + at, mask=mask, other=1), mask=mask)


@triton.jit
def converted(x, y, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at, mask=at < n).to(y.dtype.element_ty), mask=at < n)
