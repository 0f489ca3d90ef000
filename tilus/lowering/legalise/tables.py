"""Codes of codebooks: trees of selections, or a table in memory on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.codebooks import steps
from tilus.ir.core import Value
from tilus.ir.dtypes import DType, f32, i64, integer, u32
from tilus.ir.literals import encode_float
from tilus.ir.ops import Unary
from tilus.ir.ops.simd import ConstantTable, GatherLoad
from tilus.lowering.legalise.scalars import Bits


def number_in_codebook(e: Bits, code: Value, t: DType) -> Value:
    """The number that a code (an unsigned integer) stands for, in f32."""
    wide = e.to(code, u32)
    bits = [e.test("ne", e.op("and", wide, 1 << n), 0) for n in range(t.bits)]
    values = [*t.values, *[0.0] * ((1 << t.bits) - len(t.values))]
    return _chosen(e, bits, values, f32)


def is_long_codebook(t: DType) -> bool:
    """Whether a tree of selections takes longer than loads."""
    return t.is_codebook and t.bits > 4


def loaded_from_codebook(e: Bits, x: Value) -> Value:
    """The numbers that codes stand for, in f32, from a table in memory."""
    t = x.tile.dtype
    values = [*t.values, *[0.0] * ((1 << t.bits) - len(t.values))]
    table = e.b.add(ConstantTable(tuple(encode_float(v, f32) for v in values), u32)).result
    index = e.to(e.bits(x, integer(t.bits, signed=False)), i64)
    return e.bits(e.b.add(GatherLoad(table, index, None, None)).result, f32)


def place_in_codebook(e: Bits, x: Value, t: DType) -> Value:
    """The code, in u32, of the value nearest to an f32 or f64: the thresholds are searched by bisection."""
    table = steps(t, x.tile.dtype is f32)
    x = e.choose(e.b.add(Unary("isnan", x)).result, 0.0, x)
    depth = (len(table) - 1).bit_length()
    # Nothing is greater than or equal to a NaN.
    thresholds = [threshold for threshold, _ in table] + [math.nan] * ((1 << depth) - len(table))
    codes = [code for _, code in table]
    codes += codes[-1:] * ((1 << depth) - len(table))
    bits: list[Value] = []  # of the place, from the lowest; found from the highest on
    for level in reversed(range(depth)):
        candidates = thresholds[1 << level :: 2 << level]
        threshold = _chosen(e, bits, candidates, x.tile.dtype)
        bits.insert(0, e.test("ge", x, threshold))
    return _chosen(e, bits, codes, u32)


def _chosen(e: Bits, bits: Sequence[Value], values: Sequence[float], dtype: DType) -> Value:
    """The one of 2^n constants whose index has these bits, the lowest first."""
    nodes: list[float | Value] = list(values)
    for bit in bits:
        nodes = [_either(e, bit, high, low, dtype) for low, high in zip(nodes[::2], nodes[1::2], strict=True)]
    (root,) = nodes
    return root if isinstance(root, Value) else e.const(root, dtype)


def _either(e: Bits, bit: Value, high: float | Value, low: float | Value, dtype: DType) -> float | Value:
    if high is low or (not isinstance(high, Value) and not isinstance(low, Value) and high == low):
        return low
    return e.choose(bit, high, low if isinstance(low, Value) else e.const(low, dtype))


__all__ = ["is_long_codebook", "loaded_from_codebook", "number_in_codebook", "place_in_codebook"]
