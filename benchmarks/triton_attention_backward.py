"""FlashAttention-2's backward pass in Triton: the same two kernels as the zoo's, in f16 and not causal.

Run by the peer's Python: ``triton_attention_backward.py DIR`` writes ``PART_dD.cubin`` into DIR (keys or queries),
for sm_80, with strides that are multiples of 16 and lengths that are multiples of the tiles, so that nothing is masked.
"""

import sys
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TILES = {("keys", 64): (64, 64, 4), ("keys", 128): (64, 128, 8), ("queries", 64): (64, 64, 4),
         ("queries", 128): (128, 64, 8)}
"""Part and head dimension: queries and keys a tile, and warps."""


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
        gv += tl.dot(p.to(tl.float16), y)
        d = tl.load(delta + head * length + i + tl.arange(0, BM))
        ds = p * (tl.dot(vt, tl.trans(y)) - d[None, :])
        gk += tl.dot(ds.to(tl.float16), x)
    tl.store(rows(dk + at, stride, start, BN, D), (gk * scale).to(tl.float16))
    tl.store(rows(dv + at, stride, start, BN, D), gv.to(tl.float16))


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
        gq += tl.dot(ds.to(tl.float16), kt)
    tl.store(rows(dq + at, stride, start, BM, D), (gq * scale).to(tl.float16))


def compile_into(folder: Path) -> None:
    scalars = {"head_stride": "i32", "stride": "i32", "length": "i32", "scale": "fp32"}
    for (part, head_dim), (bm, bn, warps) in TILES.items():
        kernel = globals()[part]
        constants = {"D": head_dim, "BM": bm, "BN": bn}
        names = [n for n in kernel.arg_names if n not in constants]
        signature = {n: scalars.get(n, "*fp32" if n in ("lse2", "delta") else "*fp16") for n in names}
        divisible = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n != "scale"}
        source = ASTSource(fn=kernel, signature={**signature, **dict.fromkeys(constants, "constexpr")},
                           constexprs=constants, attrs=divisible)
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32),
                                  options={"num_warps": warps, "num_stages": 2})
        (folder / f"{part}_d{head_dim}.cubin").write_bytes(compiled.asm["cubin"])


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]))
