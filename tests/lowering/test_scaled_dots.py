"""Scaled dots: every kind of instruction, pair of types, shape and route, and what is done without them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.zoo.turns import by_turns
from tilus.interp.evaluate import evaluate
from tilus.interp.numbers import decode
from tilus.ir.dtypes import integer
from tilus.ir.ops import Dot
from tilus.ir.ops.reduction import SCALE_BLOCKS
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.lowering.dots import choose_dot_units

NATIVE = ["simulate:sm_120a:ptx", "simulate:sm_120a:cuda"]
ENGINES = ["cpu", "interpret", "python", *NATIVE, "simulate:sm_80:ptx", "simulate:sm_90a:cuda", "simulate:sm_75:ptx"]
PAIRS = [(tl.f4e2m1, tl.f4e2m1, tl.f8e8m0fnu), (tl.f4e2m1, tl.f4e2m1, tl.f8e4m3fn),
         (tl.f8e4m3fn, tl.f8e5m2, tl.f8e8m0fnu), (tl.f6e3m2, tl.f6e2m3, tl.f8e8m0fnu),
         (tl.f4e2m1, tl.f8e4m3fn, tl.f8e8m0fnu), (tl.f8e5m2, tl.f6e3m2, tl.f8e8m0fnu)]
TILES: list[dict[str, Any]] = [
    {"BM": 32, "BN": 32, "BK": 128, "warps": 2}, {"BM": 64, "BN": 8, "BK": 64, "warps": 1},
    {"BM": 16, "BN": 48, "BK": 32, "warps": 1}, {"BM": 48, "BN": 24, "BK": 96, "warps": 2},
    {"BM": 32, "BN": 64, "BK": 256, "warps": 4},
]


@tl.jit
def product(a: atype["M", "K"], a_scales: stype["M", "G"], b: btype["N", "K"], b_scales: stype["N", "G"],
            c: tl.f32["M", "N"], atype: tl.DType = tl.f4e2m1, btype: tl.DType = tl.f4e2m1,
            stype: tl.DType = tl.f8e8m0fnu, BM: int = 64, BN: int = 64, BK: int = 128, warps: int = 4):
    M, K = a.shape
    block = 32 if stype == tl.f8e8m0fnu else 16
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(b.shape[0], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK):
        x, y = tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (j * BN, k), (BN, BK)).T
        xs = tl.load(a_scales, (i * BM, k // block), (BM, BK // block))
        ys = tl.load(b_scales, (j * BN, k // block), (BN, BK // block)).T
        acc = tl.dot_scaled(x, xs, y, ys, acc)
    tl.store(c, (i * BM, j * BN), acc)


class Operand:
    """Random codes and scales of a matrix (rows, k), and the numbers that they are."""

    def __init__(self, rng: Any, rows: int, k: int, dtype: tl.DType, scale: tl.DType) -> None:
        codes = rng.integers(0, 1 << dtype.bits, (rows, k)).astype(np.uint8)
        codes[codes & (1 << (dtype.bits - 1)) - 1 > dtype.greatest_code] = 1  # no NaNs and infinities
        if dtype.bits == 8:
            self.codes = codes.view(dtype.numpy)
        else:
            self.codes = tl.packed(tl.pack(codes, integer(dtype.bits, False)).base, dtype, (rows, k))
        block = SCALE_BLOCKS[scale]
        low, high = (117, 138) if block == 32 else (1, 0x7F)
        self.scales = rng.integers(low, high, (rows, -(-k // block))).astype(np.uint8).view(scale.numpy)
        factors = np.repeat(self.scales.astype(np.float64), block, axis=1)[:, :k]
        self.numbers = decode(codes, dtype).astype(np.float64) * factors


def check(engine: str, types: tuple[tl.DType, tl.DType, tl.DType], shape: tuple[int, int, int], **tile: Any) -> None:
    rng = np.random.default_rng(0)
    (left, right, scale), (m, n, k) = types, shape
    a, b = Operand(rng, m, k, left, scale), Operand(rng, n, k, right, scale)
    c = np.full((m, n), np.nan, np.float32)
    product.on(engine)(a.codes, a.scales, b.codes, b.scales, c, left, right, scale, **tile)
    bound = np.abs(a.numbers) @ np.abs(b.numbers).T * 2.0**-20  # sums are of f32
    assert np.all(np.abs(c - a.numbers @ b.numbers.T) <= bound), (types, shape, tile)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("types", "engine"), by_turns(PAIRS, ENGINES))
def test_products(types: Any, engine: str) -> None:
    for shape in ((70, 41, 192), (3, 0, 64), (1, 1, 32), (17, 9, 40)):  # the last one ends within a block
        check(engine, types, shape, **TILES[0])


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("tile", TILES[1:], ids=lambda t: "x".join(map(str, t.values())))
@pytest.mark.parametrize("engine", NATIVE)
def test_tiles(tile: dict[str, Any], engine: str) -> None:
    """Instructions that share lanes and words of scales, and parts of instructions."""
    for types in PAIRS[:3] if engine == NATIVE[0] else PAIRS[1:2]:
        check(engine, types, (50, 70, 320), **tile)


@tl.jit
def columns(a: tl.f4e2m1["M", "K"], a_scales: tl.f8e8m0fnu["M", "G"], b: btype["K", "N"],
            b_scales: tl.f8e8m0fnu["G", "N"], c: tl.f32["M", "N"], btype: tl.DType = tl.f4e2m1):
    """B with columns side by side in memory."""
    tl.grid(1)
    x, xs = tl.load(a, (0, 0), (32, 64)), tl.load(a_scales, (0, 0), (32, 2))
    y, ys = tl.load(b, (0, 0), (64, 32)), tl.load(b_scales, (0, 0), (2, 32))
    tl.store(c, (0, 0), tl.dot_scaled(x, xs, y, ys))


@pytest.mark.parametrize("engine", ["cpu", *NATIVE, "simulate:sm_80:ptx"])
@pytest.mark.parametrize("dtype", [tl.f4e2m1, tl.f8e4m3fn])
def test_columns_side_by_side(dtype: tl.DType, engine: str) -> None:
    rng = np.random.default_rng(0)
    a, b = Operand(rng, 32, 64, tl.f4e2m1, tl.f8e8m0fnu), Operand(rng, 64, 64, dtype, tl.f8e8m0fnu)
    scales = rng.integers(120, 130, (2, 64)).astype(np.uint8).view(tl.f8e8m0fnu.numpy)
    numbers = b.numbers / np.repeat(b.scales.astype(np.float64), 32, axis=1)
    numbers *= np.repeat(scales.astype(np.float64), 32, axis=0)
    c = np.zeros((32, 64), np.float32)
    columns.on(engine)(a.codes, a.scales, b.codes, scales, c, dtype)
    np.testing.assert_allclose(c[:, :32], (a.numbers @ numbers)[:, :32], rtol=1e-5, atol=1e-5 * np.abs(numbers).max())


def compiled(target: str, types: Any, via: str = "ptx", **tile: Any) -> Any:
    left, right, scale = types
    return product.compile(target, via=via, atype=left, btype=right, stype=scale, **tile)


KINDS = [(PAIRS[0], "m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0", 64),
         (PAIRS[1], "m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3", 64),
         (PAIRS[4], "m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e2m1.e4m3.f32.ue8m0", 32),
         (PAIRS[3], "m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e3m2.e2m3.f32.ue8m0", 32)]


@pytest.mark.parametrize(("kind", "via"), by_turns(KINDS, ["ptx", "cuda"]))
def test_instructions(kind: Any, via: str) -> None:
    """As many as the product has, in the loop and, where it is divided, in its end; each word of scales is used by
    all that may share it."""
    types, text, depth = kind
    found = compiled("sm_120a", types, via)
    each = 64 * 64 * 128 // (16 * 8 * depth) // 4
    assert len(re.findall(re.escape(f"mma.sync.aligned.{text}"), found.ptx)) in (each, 2 * each)
    chosen = set(re.findall(r"\{(\d), (\d)\}", found.ptx))
    assert {thread for _, thread in chosen} == {"0", "1", "2", "3"}
    bytes_ = {32: {"0", "1", "2", "3"}, 64: {"0", "2"} if types[2] is tl.f8e8m0fnu else {"0"}}[depth]
    assert {byte for byte, _ in chosen} == bytes_
    assert found.metadata["spill_stores"] == 0


def test_fragments_of_nibbles_by_ldmatrix() -> None:
    """As many as there are 8 rows of 16 bytes; no warp reads anything else of the operands."""
    found = compiled("sm_120a", PAIRS[0], BM=128, BN=128, BK=128)
    each = (4 * 2 * 4 + 8 * 2 * 2) // 4
    assert len(re.findall(r"ldmatrix\.sync\.aligned\.m8n8\.x4", found.ptx)) in (each, 2 * each)
    assert set(re.findall(r"cp\.async\.c\w\.shared\.global .*?, (\d+),", found.ptx)) == {"4", "16"}


def test_others_multiply_by_the_scales() -> None:
    for target in ("sm_80", "sm_90a", "sm_100a", "sm_120"):
        found = compiled(target, PAIRS[1], BM=32, BN=32)
        assert "block_scale" not in found.ptx
        assert "f16.f16" in found.ptx
    assert "bf16.bf16" in compiled("sm_80", PAIRS[0], BM=32, BN=32).ptx


def test_text() -> None:
    """With operands as they are and as bytes; what is interpreted stays the same."""
    module = compiled("sm_120a", PAIRS[4]).traced()
    text = print_module(module)
    assert "a_scales=" in text
    assert print_module(parse_module(text)) == text
    module.target = "sm_120a"
    choose_dot_units(module)
    text = print_module(module)
    assert 'formats=["f4e2m1", "f8e4m3fn"]' in text
    assert print_module(parse_module(text)) == text
    (dot,) = [op for op in parse_module(text).kernels[0].walk() if isinstance(op, Dot)]
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, top, shape).astype(np.uint8) for top, shape in ((16, (64, 128)), (0x7F, (128, 64))))
    scales = rng.integers(120, 130, (64, 4)).astype(np.uint8)
    held = {dot.a: a << 2, dot.b: b, dot.a_scales: scales, dot.b_scales: scales.T, dot.accumulator: np.zeros((64, 64))}
    found = evaluate(dot, held.__getitem__)
    factors = np.repeat(decode(scales, tl.f8e8m0fnu), 32, axis=1)
    expected = (decode(a, tl.f4e2m1) * factors) @ (decode(b, tl.f8e4m3fn) * factors.T)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6, atol=1e-4)


def test_explained() -> None:
    text = str(product.explain(target="sm_120a", atype=tl.f4e2m1, btype=tl.f4e2m1, stype=tl.f8e4m3fn))
    assert "32 mma.m16n8k64.mxf4nvf4" in text


@tl.jit
def mistaken(a: atype["M", "K"], s: stype["M", "G"], c: tl.f32["M", "N"], atype: tl.DType = tl.f4e2m1,
             stype: tl.DType = tl.f8e8m0fnu, count: int = 2, k: int = 64):
    tl.grid(1)
    x, xs = tl.load(a, (0, 0), (16, k)), tl.load(s, (0, 0), (16, count))
    tl.store(c, (0, 0), tl.dot_scaled(x, xs, x.T, xs.T))


@pytest.mark.parametrize(("wrong", "message"), [
    ({"count": 3}, r"scales f8e8m0fnu\[16, 3\] of A \[16, 64\] in a scaled dot"),
    ({"k": 48}, "48 columns of A in a scaled dot, of which 32 share a scale"),
    ({"atype": tl.f8e4m3fn, "stype": tl.f8e4m3fn, "count": 4},
     "a scaled dot of f8e4m3fn and f8e4m3fn with scales of f8e4m3fn"),
    ({"atype": tl.i4}, "a scaled dot of i4 and i4 is not supported"),
    ({"stype": tl.f16}, "scales of f16 and f16 in a scaled dot"),
])
@pytest.mark.parametrize("target", ["cpu", "sm_80", "sm_120a"])
def test_mistakes(wrong: dict[str, Any], message: str, target: str) -> None:
    with pytest.raises(tl.UserError, match=message) as error:
        mistaken.compile(target, **wrong)
    assert "tl.dot_scaled(x, xs" in str(error.value)
