"""Sections D (row-wise and memory-bound kernels), E (conversions, low-bit weights) and F (compile time)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

import tilus as tl
from benchmarks.gpu_code import kernels_memory as kernels
from benchmarks.gpu_code.cases import Case, Peer, Work
from benchmarks.gpu_code.section_gemm import numbers
from kernels_zoo.data_movement.transpose import transpose
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.quantized.matmul import quantized_matmul

TYPES: dict[str, Any] = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "i8": np.int8,
                         "i32": np.int32, "u8": np.uint8, "i16": np.int16, "f8": ml_dtypes.float8_e4m3fn}


def added(kind: str) -> Work:
    x, y, z, theirs = (numbers((4096,), TYPES[kind], n) for n in range(4))
    return Work(vector_add, (x, y, z), {}, (z,),
                peer=Peer("vector_add", {"x": x, "y": y, "z": theirs, "n": 4096}, {"B": 1024}, (4,), 4, 3, (theirs,)))


def row_wise(name: str, kind: str, fits: bool) -> Work:
    rows, n = 8, 1024 if fits else 4096
    x, y, theirs = (numbers((rows, n), TYPES[kind], s) for s in range(3))
    peer = f"{name}_fits" if fits else name
    constants = {"fits": True} if fits else {}
    if name == "softmax":
        given = {"x": x, "y": theirs, "x_stride": n, "y_stride": n, "n": n}
        return Work(softmax, (x, y), constants, (y,), peer=Peer(peer, given, {"B": 1024}, (rows,), 4, 3, (theirs,)))
    w, b = numbers((n,), TYPES[kind], 3), numbers((n,), TYPES[kind], 4)
    given = {"x": x, "w": w, "b": b, "y": theirs, "stride": n, "n": n, "eps": 1e-5}
    return Work(layer_norm, (x, w, b, y), constants, (y,),
                peer=Peer(peer, given, {"B": 1024}, (rows,), 4, 3, (theirs,)))


def transposed(kind: str, strided: bool = False) -> Work:
    """y = x.T; or, of a strided x, a copy that lies by rows."""
    x, y, theirs = numbers((256, 256), TYPES[kind]), *(np.zeros((256, 256), TYPES[kind]) for _ in range(2))
    given = {"x": x, "y": theirs, "xm": 256, "xn": 1, "ym": 256, "yn": 1}
    if strided:
        x = x.T
        given = {"x": x, "y": theirs.T, "xm": 1, "xn": 256, "ym": 1, "yn": 256}
        return Work(kernels.copied, (x, y), {"dtype": tl.from_numpy(np.dtype(TYPES[kind]))}, (y,),
                    peer=Peer("transpose", given, {"BM": 64, "BN": 64}, (4, 4), 4, 3, (theirs,)))
    return Work(transpose, (x, y), {}, (y,),
                peer=Peer("transpose", given, {"BM": 64, "BN": 64}, (4, 4), 4, 3, (theirs,)))


def permuted(kind: str) -> Work:
    x = numbers((128, 3, 128), TYPES[kind])
    y, theirs = (np.zeros((128, 3, 128), TYPES[kind]) for _ in range(2))
    return Work(kernels.permute, (x, y), {"dtype": tl.from_numpy(np.dtype(TYPES[kind]))}, (y,),
                peer=Peer("permute", {"x": x, "y": theirs, "xa": 384, "xb": 128, "yc": 384, "yb": 128}, {"T": 64},
                          (2, 3, 2), 4, 3, (theirs,)))


def plus_transposed(kind: str) -> Work:
    x = numbers((256, 256), TYPES[kind])
    theirs = np.zeros_like(x)
    return Work(kernels.plus_transposed, (x,), peer=Peer("plus_transposed", {"x": x, "y": theirs, "n": 256}, {"T": 64},
                                                         (4, 4), 4, 3, (theirs,)))


def rows_at(name: str, kind: str, distinct: bool) -> Work:
    """Gathers and scatters of rows of 256 elements."""
    x = numbers((128, 256), TYPES[kind])
    y, theirs = (np.zeros((128, 256), TYPES[kind]) for _ in range(2))
    rng = np.random.default_rng(1)
    rows = (rng.permutation(128) if distinct else rng.integers(0, 128, 128)).astype(np.int32)
    return Work(getattr(kernels, name), (x, rows, y), {"dtype": tl.from_numpy(np.dtype(TYPES[kind]))}, (y,),
                peer=Peer(name, {"x": x, "rows": rows, "y": theirs, "d": 256}, {"BM": 32, "BD": 128}, (4, 2), 4, 3,
                          (theirs,)))


def by_rows(name: str, n: int = 1024) -> Work:
    """Scans and places of extrema of rows that fit a tile."""
    x = numbers((16, n), np.float32)
    y, theirs = (np.zeros((16, n) if name == "scan_rows" else (16,), np.float32 if name == "scan_rows" else np.int32)
                 for _ in range(2))
    return Work(getattr(kernels, name), (x, y), {"BM": 4096 // n, "BN": n}, (y,),
                peer=Peer(name, {"x": x, "y": theirs, "n": n}, {"BM": 4096 // n, "BN": n}, (16 * n // 4096,), 4, 3,
                          (theirs,)))


def columns_summed() -> Work:
    x, y, theirs = numbers((512, 256), np.float32), np.zeros(256, np.float32), np.zeros(256, np.float32)
    return Work(kernels.sum_columns, (x, y), {}, (y,),
                peer=Peer("sum_columns", {"x": x, "y": theirs, "m": 512, "n": 256}, {"BM": 64, "BN": 64}, (4,), 4, 3,
                          (theirs,)))


def cross_entropy() -> Work:
    x, labels = numbers((8, 1024), np.float16), np.arange(8, dtype=np.int32)
    loss, theirs = np.zeros(8, np.float32), np.zeros(8, np.float32)
    return Work(kernels.cross_entropy, (x, labels, loss), {}, (loss,),
                peer=Peer("cross_entropy", {"x": x, "labels": labels, "loss": theirs, "n": 1024}, {"B": 1024}, (8,), 4,
                          3, (theirs,)))


def rotary(name: str) -> Work:
    x, cos, sin = (numbers((128, n), np.float16) for n in (128, 64, 64))
    y, theirs = (np.zeros((128, 128), np.float16) for _ in range(2))
    return Work(getattr(kernels, name), (x, cos, sin, y), {}, (y,),
                peer=Peer(name, {"x": x, "cos": cos, "sin": sin, "y": theirs}, {"D": 128, "BM": 32}, (4,), 4, 3,
                          (theirs,)))


def stencil() -> Work:
    x = numbers((64, 256), np.float32)
    y, theirs = np.zeros_like(x), np.zeros_like(x)
    return Work(kernels.stencil, (x, y), {}, (y,),
                peer=Peer("stencil", {"x": x, "y": theirs, "h": 64, "w": 256}, {"BM": 16, "BN": 64}, (4, 4), 4, 3,
                          (theirs,)))


def function(name: str, kind: str, block: int = 1024) -> Work:
    x = np.abs(numbers((8192,), TYPES[kind]))
    y, theirs = np.zeros_like(x), np.zeros_like(x)
    return Work(kernels.elementwise, (x, y),
                {"function": name, "dtype": tl.from_numpy(np.dtype(TYPES[kind])), "BLOCK": block}, (y,),
                peer=Peer("elementwise", {"x": x, "y": theirs, "n": 8192}, {"FUNCTION": name, "B": block},
                          (8192 // block,), 4, 3, (theirs,)))


def fused(name: str) -> Work:
    x = numbers((32, 1024), np.float16)
    theirs = np.zeros_like(x)
    if name == "softmax":
        peer = Peer("softmax_fits", {"x": x, "y": theirs, "x_stride": 1024, "y_stride": 1024, "n": 1024}, {"B": 1024},
                    (32,), 4, 3, (theirs,))
    else:
        peer = Peer("elementwise", {"x": x, "y": theirs, "n": x.size}, {"FUNCTION": name, "B": 1024}, (32,), 4, 3,
                    (theirs,))
    return Work(getattr(kernels, f"fused_{name}"), (x,), peer=peer)


def quotients() -> Work:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 1 << 30, 4096, np.int32), rng.integers(1, 1000, 4096, np.int32)
    z, theirs = np.zeros_like(x), np.zeros_like(x)
    return Work(kernels.quotients, (x, y, z), {}, (z,),
                peer=Peer("quotients", {"x": x, "y": y, "z": theirs, "n": 4096}, {"B": 1024}, (4,), 4, 3, (theirs,)))


def converted(source: str, target: str) -> Work:
    rng = np.random.default_rng(0)
    wide = np.dtype(TYPES[source]).kind in "iu"
    x = rng.integers(0, 100, 4096).astype(TYPES[source]) if wide else numbers((4096,), TYPES[source])
    y, theirs = np.zeros(4096, TYPES[target]), np.zeros(4096, TYPES[target])
    return Work(kernels.converted, (x, y), {"xtype": tl.from_numpy(np.dtype(TYPES[source])),
                                            "ytype": tl.from_numpy(np.dtype(TYPES[target]))}, (y,),
                peer=Peer("converted", {"x": x, "y": theirs, "n": 4096}, {"B": 1024}, (4,), 4, 3, (theirs,)))


def packed(source: str, target: str) -> Work:
    """Elements of fewer than 8 bits."""
    dtype = getattr(tl, source)
    low = -(1 << dtype.bits - 1) if source.startswith("i") else 0
    codes = np.random.default_rng(0).integers(low, low + (1 << dtype.bits), 4096)
    y = np.zeros(4096, TYPES[target])
    return Work(kernels.converted, (tl.pack(codes.astype(np.float32), dtype), y),
                {"xtype": dtype, "ytype": tl.from_numpy(np.dtype(TYPES[target]))}, (y,))


def weights(name: str, m: int, tile: tuple[int, int, int]) -> Work:
    """x @ w for weights of few bits, one scale for 128 rows."""
    dtype, (k, n) = getattr(tl, name), (512, 256)
    rng = np.random.default_rng(0)
    x, scales, y = (rng.standard_normal(s).astype(np.float16) for s in ((m, k), (k // 128, n), (m, n)))
    w = tl.pack(rng.integers(0, 7, (k, n)).astype(np.float32), dtype)
    bm, bn, bk = tile
    return Work(quantized_matmul, (x, w, scales, y), {"wtype": dtype, "BM": bm, "BN": bn, "BK": bk}, (y,), bm * bn * bk)


def _case(section: str, name: str, make: Any, *given: Any, target: str = "sm_80") -> Case:
    return Case(section, name, target, functools.partial(make, *given))


def memory_cases() -> Iterator[Case]:
    yield from (_case("D", f"vector add {kind}", added, kind) for kind in ("f32", "f16", "bf16"))
    yield _case("D", "vector add bf16", added, "bf16", target="sm_90a")
    for name in ("softmax", "layer_norm"):
        for fits in (True, False):
            yield from (_case("D", f"{name}{' fits' if fits else ''} {kind}", row_wise, name, kind, fits)
                        for kind in ("f32", "f16"))
    for kind in ("f32", "f16", "i8"):
        yield _case("D", f"strided copy {kind}", transposed, kind, True)
        if kind != "i8":
            yield _case("D", f"transpose {kind}", transposed, kind)
        yield _case("D", f"permute {kind}", permuted, kind)
    yield from (_case("D", f"x + x.T {kind}", plus_transposed, kind) for kind in ("f32", "f16"))
    for kind in ("f16", "f32"):
        yield _case("D", f"gather rows {kind}", rows_at, "gather_rows", kind, False)
        yield _case("D", f"scatter rows {kind}", rows_at, "scatter_rows", kind, True)
    for target in ("sm_80", "sm_90a"):
        yield from (_case("D", f"add rows {kind}", rows_at, "add_rows", kind, False, target=target)
                    for kind in ("f32", "f16"))
    yield from (_case("D", f"cumsum {n}", by_rows, "scan_rows", n) for n in (256, 1024, 4096))
    yield from (_case("D", f"argmax {n}", by_rows, "argmax_rows", n) for n in (256, 1024, 4096))
    yield _case("D", "column sums", columns_summed)
    yield _case("D", "cross entropy", cross_entropy)
    yield from (_case("D", name.replace("_", " "), rotary, name) for name in ("rotary_halves", "rotary_pairs"))
    yield _case("D", "stencil 3×3", stencil)
    yield from (_case("D", f"fused {name} f16", fused, name) for name in ("softmax", "silu", "sigmoid", "gelu"))
    yield _case("D", "i32 // i32", quotients)
    yield from (_case("D", f"{name} f16", function, name, "f16") for name in ("gelu", "silu", "exp"))


def bit_cases() -> Iterator[Case]:
    for source, target in (("i32", "f16"), ("i32", "bf16"), ("i16", "f16"), ("i8", "f16"), ("u8", "bf16"),
                           ("f16", "bf16"), ("f32", "bf16"), ("f16", "i32")):
        yield _case("E", f"{source} to {target}", converted, source, target)
    for target in ("sm_80", "sm_89", "sm_90a"):
        yield _case("E", "f8 to f16", converted, "f8", "f16", target=target)
        yield _case("E", "f16 to f8", converted, "f16", "f8", target=target)
    yield from (_case("E", f"{source} to f16", packed, source, "f16") for source in ("u1", "u2", "u4", "i4"))
    for name in ("u4", "i8", "f8e4m3fn", "u3"):
        yield _case("E", f"{name} weights 64×128×64", weights, name, 64, (64, 128, 64))
        yield _case("E", f"{name} weights 16×128×128", weights, name, 16, (16, 128, 128))
    for target in ("sm_89", "sm_90a"):
        yield _case("E", "f8e4m3fn weights 64×128×64", weights, "f8e4m3fn", 64, (64, 128, 64), target=target)


def compile_cases() -> Iterator[Case]:
    yield from (_case("F", f"{name} f32, 4096 a block", function, name, "f32", 4096)
                for name in ("sin", "cos", "gelu", "exp", "log"))
    yield _case("F", "sin f32, 1024 a block", function, "sin", "f32")
    yield from (_case("F", f"{name} f32 to f16, 8192 a block", function, name, "f16", 8192)
                for name in ("gelu", "silu", "exp", "log"))


def cases() -> Iterator[Case]:
    yield from memory_cases()
    yield from bit_cases()
    yield from compile_cases()


__all__ = ["cases"]
