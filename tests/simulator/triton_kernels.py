"""Triton kernels to PTX without a GPU: ``python triton_kernels.py CAPABILITY`` prints JSON of name to PTX and facts.

Runs in an environment of its own, since Triton is no dependency.
"""
# Kernels and their arguments read best on lines of their own length.
# ruff: noqa: E501

# The kernels' source is read by Triton, whose names are not known here.
# mypy: ignore-errors
from __future__ import annotations

import json
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.language.extra import libdevice


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


@triton.jit
def matmul_descriptor(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPECIAL: tl.constexpr):
    """Descriptors made on the device; ``SPECIAL``: loads and products by warps of their own."""
    da = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    db = tl.make_tensor_descriptor(b, shape=[K, N], strides=[N, 1], block_shape=[BK, BN])
    dc = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(0, K, BK, warp_specialize=SPECIAL):
        acc = tl.dot(da.load([m, k]), db.load([k, n]), acc)
    dc.store([m, n], acc)


@triton.jit
def matmul_persistent(a, b, c, M, N, K, PROGRAMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    da = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    db = tl.make_tensor_descriptor(b, shape=[K, N], strides=[N, 1], block_shape=[BK, BN])
    dc = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    columns = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BM) * columns, PROGRAMS, flatten=True):
        m, n = tile // columns * BM, tile % columns * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            acc = tl.dot(da.load([m, k]), db.load([k, n]), acc)
        dc.store([m, n], acc)


@triton.jit
def matmul_host(da, db, c, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Descriptors made on the host."""
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(da.load([m, k]), db.load([k, n]), acc)
    i, j = m + tl.arange(0, BM), n + tl.arange(0, BN)
    tl.store(c + i[:, None] * N + j[None, :], acc)


@triton.jit
def matmul_scaled(a, sa, b, sb, c, M, N, K, FORMAT: tl.constexpr, PACK: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                  BK: tl.constexpr):
    """Products of block-scaled matrices: a is (M, K), b is (N, K), scales are of 32 elements."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        k, s = start // PACK + tl.arange(0, BK // PACK), start // 32 + tl.arange(0, BK // 32)
        x, y = tl.load(a + m[:, None] * (K // PACK) + k[None, :]), tl.load(b + n[None, :] * (K // PACK) + k[:, None])
        xs, ys = tl.load(sa + m[:, None] * (K // 32) + s[None, :]), tl.load(sb + n[:, None] * (K // 32) + s[None, :])
        acc = tl.dot_scaled(x, xs, FORMAT, y, ys, FORMAT, acc)
    tl.store(c + m[:, None] * N + n[None, :], acc)


@triton.jit
def matmul_mixed(da, sa, db, sb, c, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """a has 8-bit floats, b 4-bit ones, which descriptors spread out in shared memory."""
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    m, n = i + tl.arange(0, BM), j + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        s = k // 32 + tl.arange(0, BK // 32)
        xs, ys = tl.load(sa + m[:, None] * (K // 32) + s[None, :]), tl.load(sb + n[:, None] * (K // 32) + s[None, :])
        acc = tl.dot_scaled(da.load([i, k]), xs, "e4m3", db.load([j, k // 2]).T, ys, "e2m1", acc)
    tl.store(c + m[:, None] * N + n[None, :], acc)


@triton.jit
def causal_attention(dq, dk, dv, do, scale, LENGTH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr,
                     SPECIAL: tl.constexpr):
    """Tiles below the diagonal, of which the first rows have none; then those on it."""
    base, start = tl.program_id(1) * LENGTH, tl.program_id(0) * BM
    m, n = start + tl.arange(0, BM), tl.arange(0, BN)
    vq = dq.load([base + start, 0])
    top = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for diagonal in tl.static_range(2):
        for at in tl.range(start * diagonal, start + BM * diagonal, BN, warp_specialize=SPECIAL):
            s = tl.dot(vq, dk.load([base + at, 0]).T) * scale
            if diagonal:
                s = tl.where(m[:, None] >= at + n[None, :], s, -1.0e6)
            new = tl.maximum(top, tl.max(s, axis=1))
            p = tl.exp2(s - new[:, None])
            old = tl.exp2(top - new)
            total = total * old + tl.sum(p, axis=1)
            acc = tl.dot(p.to(tl.float16), dv.load([base + at, 0]), acc * old[:, None])
            top = new
    do.store([base + start, 0], (acc / total[:, None]).to(tl.float16))


@triton.jit
def grouped(a, b, c, sizes, count, PROGRAMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Several products, whose tiles the programs take in turn: lists of pointers, and (M, N, K) of each."""
    tile, first = tl.program_id(0), 0
    for g in range(count):
        m, n, k = tl.load(sizes + 3 * g), tl.load(sizes + 3 * g + 1), tl.load(sizes + 3 * g + 2)
        columns = tl.cdiv(n, BN)
        tiles = tl.cdiv(m, BM) * columns
        if tile < first + tiles:
            half = tl.pointer_type(tl.float16)
            da = tl.make_tensor_descriptor(tl.load(a + g).to(half), shape=[m, k], strides=[k, 1], block_shape=[BM, BK])
            db = tl.make_tensor_descriptor(tl.load(b + g).to(half), shape=[k, n], strides=[n, 1], block_shape=[BK, BN])
            dc = tl.make_tensor_descriptor(tl.load(c + g).to(half), shape=[m, n], strides=[n, 1], block_shape=[BM, BN])
            while tile < first + tiles:
                i, j = (tile - first) // columns * BM, (tile - first) % columns * BN
                acc = tl.zeros((BM, BN), tl.float32)
                for at in range(0, k, BK):
                    acc = tl.dot(da.load([i, at]), db.load([at, j]), acc)
                dc.store([i, j], acc.to(tl.float16))
                tile += PROGRAMS
        first += tiles


@triton.jit
def sums_under_a_lock(x, sums, lock, columns, BLOCK: tl.constexpr):
    """Rows are added up in one buffer; ``lock`` has the lock, and whether the buffer holds anything yet."""
    i = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * columns + i, mask=i < columns)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    if tl.load(lock + 1) == 0:
        tl.atomic_xchg(lock + 1, 1)
    else:
        row += tl.load(sums + i, mask=i < columns)
    tl.store(sums + i, row, mask=i < columns)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def random_and_arcsine(x, out, n, seed, BLOCK: tl.constexpr):
    """After the kernel that this one depends on, where the target has that."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.extra.cuda.gdc_wait()
    v = libdevice.asin(tl.load(x + i, mask=i < n))
    tl.extra.cuda.gdc_launch_dependents()
    tl.store(out + i, tl.where(tl.rand(seed, i) > 0.25, v, -1.0), mask=i < n)


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
    jobs["sums_under_a_lock"] = (sums_under_a_lock, {"x": "*fp32", "sums": "*fp32", "lock": "*i32", "columns": "i32"},
                                 {"BLOCK": 256}, 3)
    if capability >= 89:
        jobs["matmul_fp8"] = (matmul, f8, {**tiles, "BK": 64, "SPLIT": 1}, 6)
    if capability >= 90:
        jobs["matmul_descriptor"] = (matmul_descriptor, gemm, {**tiles, "SPECIAL": False}, 6)
        jobs["matmul_persistent"] = (matmul_persistent, gemm, {"PROGRAMS": 3, **tiles}, 6)
        described = {"da": "tensordesc<fp16[64, 32]>", "db": "tensordesc<fp16[32, 64]>", "c": "*fp32", "N": "i32", "K": "i32"}
        jobs["matmul_host"] = (matmul_host, described, tiles, 0)
        jobs["matmul_special"] = (matmul_descriptor, gemm, {"BM": 128, "BN": 64, "BK": 32, "SPECIAL": True}, 6)
        tile = {"dq": [128, 64], "dk": [64, 64], "dv": [64, 64], "do": [128, 64]}
        causal = {**{name: f"tensordesc<fp16{box}>" for name, box in tile.items()}, "scale": "fp32"}
        sizes = {"LENGTH": 256, "BM": 128, "BN": 64, "D": 64}
        jobs["causal_attention"] = (causal_attention, causal, {**sizes, "SPECIAL": False}, 0)
        if capability >= 100:
            jobs["causal_attention_special"] = (causal_attention, causal, {**sizes, "SPECIAL": True}, 0)
        pointers = dict.fromkeys(("a", "b", "c"), "*i64")
        jobs["grouped"] = (grouped, {**pointers, "sizes": "*i32", "count": "i32"}, {"PROGRAMS": 3, **tiles}, 4)
        jobs["random_and_arcsine"] = (random_and_arcsine, {"x": "*fp32", "out": "*fp32", "n": "i32", "seed": "i32"},
                                      {"BLOCK": 256}, 2)
    if capability >= 100:
        scaled = {"a": "*fp8e4nv", "sa": "*u8", "b": "*fp8e4nv", "sb": "*u8", "c": "*fp32", "M": "i32", "N": "i32", "K": "i32"}
        sizes = {"BM": 128, "BN": 64, "BK": 128}
        jobs["matmul_mxfp8"] = (matmul_scaled, scaled, {"FORMAT": "e4m3", "PACK": 1, **sizes}, 8)
        packed = {**scaled, "a": "*u8", "b": "*u8"}
        jobs["matmul_mxfp4"] = (matmul_scaled, packed, {"FORMAT": "e2m1", "PACK": 2, **sizes}, 8)
        mixed = {"da": "tensordesc<fp8e4nv[128, 128]>", "sa": "*u8", "db": "tensordesc<u8[64, 64]>", "sb": "*u8",
                 "c": "*fp32", "N": "i32", "K": "i32"}
        jobs["matmul_mixed"] = (matmul_mixed, mixed, sizes, 0)
    result = {}
    for name, (function, signature, constants, pointers) in jobs.items():
        full = {**signature, **dict.fromkeys(constants, "constexpr")}
        attributes = {(i,): aligned for i in range(pointers)}
        source = ASTSource(function, full, {(list(full).index(k),): v for k, v in constants.items()}, attributes)
        made = triton.compile(source, target=target, options={"num_warps": 4, "num_stages": 3})
        meta = made.metadata
        result[name] = {"ptx": made.asm["ptx"], "shared": meta.shared, "warps": meta.num_warps, "entry": meta.name,
                        "scratch": getattr(meta, "global_scratch_size", 0), "maps": meta.tensordesc_meta}
    json.dump(result, sys.stdout)


main()
