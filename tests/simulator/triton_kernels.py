"""Triton kernels to PTX without a GPU: ``python triton_kernels.py CAPABILITY`` prints JSON of name to PTX and facts.

Runs in an environment of its own, since Triton is no dependency.
"""

# The kernels' source is read by Triton, whose names are not known here.
# mypy: ignore-errors
from __future__ import annotations

import json
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def vector_add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n), mask=i < n)


@triton.jit
def softmax(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * columns + i, mask=i < columns, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(out + row * columns + i, e / tl.sum(e, axis=0), mask=i < columns)


@triton.jit
def layer_norm(x, w, b, out, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * columns + i, mask=i < columns, other=0.0)
    mean = tl.sum(v, axis=0) / columns
    d = tl.where(i < columns, v - mean, 0.0)
    scale = 1 / tl.sqrt(tl.sum(d * d, axis=0) / columns + eps)
    y = d * scale * tl.load(w + i, mask=i < columns) + tl.load(b + i, mask=i < columns)
    tl.store(out + row * columns + i, y, mask=i < columns)


@triton.jit
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.program_id(2) * BK + tl.arange(0, BK)
    pa, pb = a + m[:, None] * K + k[None, :], b + k[:, None] * N + n[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK * SPLIT):
        acc = tl.dot(tl.load(pa), tl.load(pb), acc)
        pa += BK * SPLIT
        pb += BK * SPLIT * N
    pc = c + m[:, None] * N + n[None, :]
    if SPLIT == 1:
        tl.store(pc, acc)
    else:
        tl.atomic_add(pc, acc)


@triton.jit
def attention(q, k, v, out, scale, LENGTH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    base = tl.program_id(1) * LENGTH * D
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n, d = tl.arange(0, BN), tl.arange(0, D)
    vq = tl.load(q + base + m[:, None] * D + d[None, :])
    top = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for start in range(0, LENGTH, BN):
        vk = tl.load(k + base + (start + n)[None, :] * D + d[:, None])
        vv = tl.load(v + base + (start + n)[:, None] * D + d[None, :])
        s = tl.dot(vq, vk) * scale
        new = tl.maximum(top, tl.max(s, axis=1))
        p = tl.exp2(s - new[:, None])
        old = tl.exp2(top - new)
        total = total * old + tl.sum(p, axis=1)
        acc = tl.dot(p.to(tl.float16), vv, acc * old[:, None])
        top = new
    tl.store(out + base + m[:, None] * D + d[None, :], acc / total[:, None])


def main() -> None:
    capability = int(sys.argv[1])
    target = GPUTarget("cuda", capability, 32)
    aligned = [["tt.divisibility", 16]]
    gemm = {"a": "*fp16", "b": "*fp16", "c": "*fp32", "M": "i32", "N": "i32", "K": "i32"}
    f8 = {**gemm, "a": "*fp8e4nv", "b": "*fp8e4nv"}
    tiles = {"BM": 64, "BN": 64, "BK": 32}
    jobs = {
        "vector_add": (vector_add, {"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32"}, {"BLOCK": 256}, 3),
        "softmax": (softmax, {"x": "*fp32", "out": "*fp32", "columns": "i32"}, {"BLOCK": 256}, 2),
        "layer_norm": (layer_norm, {**dict.fromkeys(("x", "w", "b", "out"), "*fp32"), "columns": "i32", "eps": "fp32"},
                       {"BLOCK": 256}, 4),
        "matmul": (matmul, gemm, {**tiles, "SPLIT": 1}, 6),
        "matmul_split": (matmul, gemm, {**tiles, "SPLIT": 2}, 6),
        "attention": (attention, {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp32", "scale": "fp32"},
                      {"LENGTH": 128, "BM": 64, "BN": 32, "D": 64}, 4),
    }
    if capability >= 89:
        jobs["matmul_fp8"] = (matmul, f8, {**tiles, "BK": 64, "SPLIT": 1}, 6)
    result = {}
    for name, (function, signature, constants, pointers) in jobs.items():
        full = {**signature, **dict.fromkeys(constants, "constexpr")}
        attributes = {(i,): aligned for i in range(pointers)}
        source = ASTSource(function, full, {(list(full).index(k),): v for k, v in constants.items()}, attributes)
        made = triton.compile(source, target=target, options={"num_warps": 4, "num_stages": 3})
        meta = made.metadata
        result[name] = {"ptx": made.asm["ptx"], "shared": meta.shared, "warps": meta.num_warps, "entry": meta.name}
    json.dump(result, sys.stdout)


main()
