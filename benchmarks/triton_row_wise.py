"""Row-wise kernels in Triton, doing the same work as the zoo's."""

import triton
import triton.language as tl


@triton.jit
def vector_add(x, y, z, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    mask = at < n
    tl.store(z + at, tl.load(x + at, mask=mask) + tl.load(y + at, mask=mask), mask=mask)


@triton.jit
def softmax_fits(x, y, x_stride, y_stride, n, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    mask = at < n
    part = tl.load(x + row * x_stride + at, mask=mask, other=-float("inf")).to(tl.float32)
    e = tl.exp(part - tl.max(part, axis=0))
    tl.store(y + row * y_stride + at, e / tl.sum(e, axis=0), mask=mask)


@triton.jit
def softmax(x, y, x_stride, y_stride, n, B: tl.constexpr):
    row = tl.program_id(0)
    top = -float("inf")
    total = 0.0
    for j in range(0, n, B):
        at = j + tl.arange(0, B)
        part = tl.load(x + row * x_stride + at, mask=at < n, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(top, tl.max(part, axis=0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(part - higher), axis=0)
        top = higher
    for j in range(0, n, B):
        at = j + tl.arange(0, B)
        part = tl.load(x + row * x_stride + at, mask=at < n).to(tl.float32)
        tl.store(y + row * y_stride + at, tl.exp(part - top) / total, mask=at < n)


@triton.jit
def layer_norm_fits(x, w, b, y, stride, n, eps, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    mask = at < n
    part = tl.load(x + row * stride + at, mask=mask, other=0.0).to(tl.float32)
    part = tl.where(mask, part - tl.sum(part, axis=0) / n, 0.0)
    scale = 1 / tl.sqrt(tl.sum(part * part, axis=0) / n + eps)
    tl.store(y + row * stride + at, part * scale * tl.load(w + at, mask=mask) + tl.load(b + at, mask=mask), mask=mask)


@triton.jit
def layer_norm(x, w, b, y, stride, n, eps, B: tl.constexpr):
    row = tl.program_id(0)
    sums = tl.zeros([B], dtype=tl.float32)
    for j in range(0, n, B):
        at = j + tl.arange(0, B)
        sums += tl.load(x + row * stride + at, mask=at < n, other=0.0).to(tl.float32)
    mean = tl.sum(sums, axis=0) / n
    squares = tl.zeros([B], dtype=tl.float32)
    for j in range(0, n, B):
        at = j + tl.arange(0, B)
        part = tl.load(x + row * stride + at, mask=at < n, other=0.0).to(tl.float32)
        part = tl.where(at < n, part - mean, 0.0)
        squares += part * part
    scale = 1 / tl.sqrt(tl.sum(squares, axis=0) / n + eps)
    for j in range(0, n, B):
        at = j + tl.arange(0, B)
        mask = at < n
        part = tl.load(x + row * stride + at, mask=mask, other=0.0).to(tl.float32)
        weight, bias = tl.load(w + at, mask=mask), tl.load(b + at, mask=mask)
        tl.store(y + row * stride + at, (part - mean) * scale * weight + bias, mask=mask)
