"""Section A: matrix products over types, layouts, tiles, targets, ragged extents and ways to read."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

import tilus as tl
from benchmarks.gpu_code import kernels_gemm as kernels
from benchmarks.gpu_code.cases import Case, Peer, Work
from kernels_zoo.gemm.matmul_split_k import matmul_split_k

TYPES: dict[str, tuple[Any, Any, Any, str]] = {
    "f16": (np.float16, np.float16, tl.f32, ""), "bf16": (ml_dtypes.bfloat16, ml_dtypes.bfloat16, tl.f32, ""),
    "f32": (np.float32, np.float32, tl.f32, ""), "tf32": (np.float32, np.float32, tl.f32, "tf32"),
    "f64": (np.float64, np.float64, tl.f64, ""), "i8": (np.int8, np.int32, tl.i32, ""),
    "f8": (ml_dtypes.float8_e4m3fn, np.float16, tl.f32, ""),
}
"""Element types of operands and result, of the sums, and the precision that is asked for."""
Tile = tuple[int, int, int, int, int]
TILE: Tile = (128, 128, 32, 3, 4)
"""Rows, columns, depth, stages, warps."""


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    """Random numbers of a type's usual scale."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype) == np.int8:
        return rng.integers(-100, 100, shape, np.int8)
    return rng.standard_normal(shape).astype(dtype)


def operand(shape: tuple[int, int], layout: str, dtype: Any, seed: int) -> Any:
    """A matrix that lies by rows (N), or a view of one that lies by columns (T)."""
    return numbers(shape, dtype, seed) if layout == "N" else numbers(shape[::-1], dtype, seed).T


def strides(array: Any) -> tuple[int, ...]:
    return tuple(s // array.itemsize for s in array.strides)


def constants(tile: Tile) -> dict[str, int]:
    return dict(zip(("BM", "BN", "BK", "stages", "warps"), tile, strict=True))


def grid_of(m: int, n: int, tile: Tile) -> tuple[int, int]:
    return -(-m // tile[0]), -(-n // tile[1])


def products(shape: tuple[int, int, int], tile: Tile) -> int:
    """Of whole tiles."""
    return math.prod(-(-n // t) * t for n, t in zip(shape, tile[:3], strict=True))


def product(kind: str, layout: str, tile: Tile, shape: tuple[int, int, int]) -> Work:
    """a @ b for operands that lie by rows or columns (``layout``: NT is a row-major a and a transposed b)."""
    dtype, out, sums, precision = TYPES[kind]
    m, n, k = shape
    a, b = operand((m, k), layout[0], dtype, 0), operand((k, n), layout[1], dtype, 1)
    c, theirs = np.zeros((m, n), out), np.zeros((m, n), out)
    names = ("am", "ak", "bk", "bn", "cm", "cn")
    peer = Peer("matmul", {"a": a, "b": b, "c": theirs, "m": m, "n": n, "k": k,
                           **dict(zip(names, strides(a) + strides(b) + strides(c), strict=True))},
                {"BM": tile[0], "BN": tile[1], "BK": tile[2], "INTEGER": kind == "i8", "MASK_M": m % tile[0] != 0,
                 "MASK_N": n % tile[1] != 0, "MASK_K": k % tile[2] != 0, "PRECISION": precision or "ieee"},
                grid_of(m, n, tile), tile[4], tile[3], (theirs,))
    types = {"atype": tl.from_numpy(np.dtype(dtype)), "ctype": tl.from_numpy(np.dtype(out)), "sums": sums}
    return Work(kernels.product, (a, b, c), {**types, "precision": precision, **constants(tile)}, (c,),
                tile[0] * tile[1] * tile[2], products(shape, tile), None if kind == "f64" else peer, warps=tile[4])


def transposed_inside(tile: Tile, shape: tuple[int, int, int]) -> Work:
    m, n, k = shape
    given = product("f16", "NT", tile, shape)
    a, b, c = given.arguments
    return Work(kernels.product_of_rows, (a, b.T, c), constants(tile), (c,), given.unit, given.total, given.peer,
                warps=tile[4])


def expert_rows(tile: Tile, shape: tuple[int, int, int]) -> Work:
    m, n, k = shape
    a, b = numbers((2 * m, k), np.float16, 0), numbers((k, n), np.float16, 1)
    rows = np.random.default_rng(2).permutation(2 * m)[:m].astype(np.int32)
    c, theirs = np.zeros((m, n), np.float16), np.zeros((m, n), np.float16)
    peer = Peer("gathered_rows", {"a": a, "rows": rows, "b": b, "c": theirs, "n": n, "k": k, "am": k, "bk": n,
                                  "cm": n}, {"BM": tile[0], "BN": tile[1], "BK": tile[2]}, grid_of(m, n, tile),
                tile[4], tile[3], (theirs,))
    return Work(kernels.gathered_rows, (a, rows, b, c), constants(tile), (c,), tile[0] * tile[1] * tile[2],
                products(shape, tile), peer, warps=tile[4])


def masked_rows(tile: Tile, shape: tuple[int, int, int]) -> Work:
    m, n, k = shape
    a, b = numbers((m, k), np.float16, 0), numbers((k, n), np.float16, 1)
    c, theirs, count = np.zeros((m, n), np.float16), np.zeros((m, n), np.float16), m - 37
    peer = Peer("masked_rows", {"a": a, "b": b, "c": theirs, "m": count, "n": n, "k": k, "am": k, "bk": n, "cm": n},
                {"BM": tile[0], "BN": tile[1], "BK": tile[2]}, grid_of(m, n, tile), tile[4], tile[3], (theirs,))
    return Work(kernels.masked_rows, (a, b, c, count), constants(tile), (c,), tile[0] * tile[1] * tile[2],
                products(shape, tile), peer, warps=tile[4])


def split_k(shape: tuple[int, int, int], splits: int) -> Work:
    """Beside two kernels of the peer: one for the parts of the sums, one that adds them."""
    m, n, k = shape
    tile = (64, 64, 32, 3, 4)
    a, b = numbers((m, k), np.float16, 0), numbers((k, n), np.float16, 1)
    c, theirs, parts = *(np.zeros((m, n), np.float16) for _ in range(2)), np.zeros((splits, m, n), np.float32)
    adding = Peer("add_parts", {"parts": parts, "c": theirs, "count": splits, "plane": m * n}, {"B": 1024},
                  (m * n // 1024,), 4, 3, (theirs,))
    peer = Peer("split_k", {"a": a, "b": b, "c": parts, "n": n, "k": k, "part": k // splits, "am": k, "bk": n,
                            "plane": m * n, "cm": n}, {"BM": 64, "BN": 64, "BK": 32}, (*grid_of(m, n, tile), splits),
                after=adding)
    return Work(matmul_split_k, (a, b, c, splits), constants(tile), (c,), 64 * 64 * 32, products(shape, tile), peer)


def epilogue(function: str, shape: tuple[int, int, int]) -> Work:
    m, n, k = shape
    a, b = numbers((m, k), np.float16, 0), numbers((k, n), np.float16, 1)
    bias, c, theirs = numbers((n,), np.float16, 2), np.zeros((m, n), np.float16), np.zeros((m, n), np.float16)
    peer = Peer("epilogue", {"a": a, "b": b, "bias": bias, "c": theirs, "n": n, "k": k, "am": k, "bk": n, "cm": n},
                {"BM": 128, "BN": 128, "BK": 32, "GELU": function == "gelu"}, grid_of(m, n, TILE), 4, 3, (theirs,))
    return Work(kernels.with_epilogue, (a, b, bias, c), {"function": function}, (c,), peer=peer)


def convolution() -> Work:
    """3×3 windows of 18×34 pixels of 64 channels, 64 of them out."""
    h, w, c, n = 18, 34, 64, 64
    x, weights = numbers((h, w, c), np.float16, 0), numbers((9 * c, n), np.float16, 1)
    m, tile = (h - 2) * (w - 2), (128, 64, 32, 3, 4)
    y, theirs = np.zeros((m, n), np.float16), np.zeros((m, n), np.float16)
    peer = Peer("convolution", {"x": x, "w": weights, "y": theirs, "m": m, "n": n, "k": 9 * c, "height": h, "width": w,
                                "channels": c}, {"BM": 128, "BN": 64, "BK": 32, "R": 3}, grid_of(m, n, tile), 4, 3,
                (theirs,))
    return Work(kernels.convolution, (x, weights, y), {}, (y,), 128 * 64 * 32, products((m, n, 9 * c), tile), peer)


SQUARE = (256, 256, 256)
TILES: list[Tile] = [(64, 64, 32, 3, 4), (128, 64, 32, 3, 4), (64, 128, 64, 3, 4), (128, 128, 64, 3, 4),
                     (128, 256, 32, 3, 8), (256, 128, 32, 3, 8), (32, 64, 64, 4, 4), (16, 128, 128, 3, 4)]
LAYOUTS = ("NN", "NT", "TN", "TT")


def _case(name: str, target: str, make: Any, *given: Any) -> Case:
    return Case("A", name, target, functools.partial(make, *given))


def _product(kind: str, layout: str, tile: Tile, target: str, shape: tuple[int, int, int] = SQUARE) -> Case:
    text = "×".join(map(str, tile[:3])) + f" {tile[4]}w"
    size = "" if shape == SQUARE else " of " + "×".join(map(str, shape))
    return _case(f"{kind} {layout} {text}{size}", target, product, kind, layout, tile, shape)


def cases() -> Iterator[Case]:
    yield from (_product("f16", layout, TILE, "sm_80") for layout in LAYOUTS)
    yield _case("f16 .T in the kernel", "sm_80", transposed_inside, TILE, SQUARE)
    for shape in ((256, 256, 250), (256, 257, 256), (256, 256, 248), (255, 256, 256), (250, 250, 250)):
        yield _product("f16", "NN", TILE, "sm_80", shape)
    yield _product("f16", "NT", TILE, "sm_80", (256, 256, 250))
    yield _case("expert rows", "sm_80", expert_rows, TILE, SQUARE)
    yield _case("masked rows", "sm_80", masked_rows, TILE, SQUARE)
    yield _case("split-k", "sm_80", split_k, (64, 64, 1024), 4)
    yield _case("3×3 convolution", "sm_80", convolution)
    for function in ("gelu", "silu"):
        yield _case(f"bias + {function}", "sm_80", epilogue, function, (128, 128, 64))
    for kind in ("bf16", "tf32", "i8", "f32"):
        depth = {"f32": 16, "tf32": 32, "i8": 64}.get(kind, 32)
        yield from (_product(kind, layout, (128, 128, depth, 3, 4), "sm_80") for layout in LAYOUTS)
    yield _product("f64", "NN", (64, 64, 16, 3, 4), "sm_80")
    yield _product("f64", "NN", (64, 64, 16, 3, 4), "sm_120a")
    for tile in TILES:
        yield from (_product("f16", layout, tile, "sm_80") for layout in ("NN", "NT"))
    for target in ("sm_75", "sm_86", "sm_89", "sm_90a", "sm_120a"):
        tile = (128, 128, 32, 2 if target == "sm_75" else 3, 4)
        yield from (_product("f16", layout, tile, target) for layout in ("NN", "NT", "TN"))
    for target in ("sm_89", "sm_90a", "sm_120a"):
        yield from (_product("f8", layout, (128, 128, 64, 3, 4), target) for layout in ("NN", "NT"))
    yield from (_product("i8", layout, (128, 128, 64, 2, 4), "sm_75") for layout in ("NN", "NT"))


__all__ = ["cases"]
