"""How elements of a reduction are combined, two at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import DType, i64
from tilus.ir.ops import Binary, Compare, Extract, Select, Shuffle
from tilus.lowering.cpu.block import BlockLowering
from tilus.lowering.cpu.values import Coord

KINDS = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "any": "or", "all": "and", "xor": "xor"}
NO_INDEX = (1 << 63) - 1


def identity(kind: str, dtype: DType) -> int | float | bool:
    """The value that changes nothing; for minima and maxima of floats the NaN that yields to any number."""
    if kind in ("sum", "xor"):
        return 0
    if kind == "prod":
        return 1
    if kind in ("any", "all"):
        return kind == "all"
    if dtype.is_float:
        return math.nan if kind in ("min", "max") else math.inf if kind == "argmin" else -math.inf
    return dtype.max_value if kind in ("min", "argmin") else dtype.min_value


class Combiner:
    """How partial results are combined: plain kinds carry one value, arg kinds an extremum and its index."""

    def __init__(self, lowering: BlockLowering, kind: str, dtype: DType) -> None:
        self.lowering = lowering
        self.kind = kind
        self.dtype = dtype
        self.is_arg = kind.startswith("arg")

    @property
    def neutral(self) -> int | float | bool:
        return identity(self.kind, self.dtype)

    def initial(self, lanes: int) -> list[Value]:
        c = self.lowering.c
        first = c.const(identity(self.kind, self.dtype), self.dtype, lanes)
        return [first, c.const(NO_INDEX, i64, lanes)] if self.is_arg else [first]

    def element(self, x: Value, coord: Coord, lanes: int) -> list[Value]:
        """The partial result of elements ``x`` whose index along the axis is ``coord``."""
        if not self.is_arg:
            return [x]
        c = self.lowering.c
        index = c.splat(c.value(c.index(coord)), lanes)
        if coord.vector:
            index = c.b.add(Binary("add", index, c.lane_numbers(i64, lanes))).result
        return [x, index]

    def combine(self, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        builder = self.lowering.c.b
        if not self.is_arg:
            return [builder.add(Binary(KINDS[self.kind], a[0], b[0], False)).result]

        def test(kind: str, x: Value, y: Value) -> Value:
            return builder.add(Compare(kind, x, y)).result

        def both(kind: str, x: Value, y: Value) -> Value:
            return builder.add(Binary(kind, x, y)).result

        better = test("gt" if self.kind == "argmax" else "lt", b[0], a[0])
        earlier = both("and", test("eq", b[0], a[0]), test("lt", b[1], a[1]))
        take = both("or", better, earlier)
        return [builder.add(Select(take, y, x)).result for x, y in zip(a, b, strict=True)]

    def finish(self, parts: Sequence[Value]) -> Value:
        """The result: where nothing but NaNs was seen, index 0."""
        if not self.is_arg:
            return parts[0]
        c = self.lowering.c
        lanes = parts[1].tile.shape[0] if parts[1].tile.shape else 0
        none = c.b.add(Compare("eq", parts[1], c.const(NO_INDEX, i64, lanes))).result
        return c.b.add(Select(none, c.const(0, i64, lanes), parts[1])).result

    def is_neutral(self, value: int | float | bool | None) -> bool:
        """Whether elements of that value may be left out."""
        return value is not None and self.kind in ("sum", "prod", "xor", "any", "all") and value == self.neutral

    @property
    def counts(self) -> bool:
        """Whether :meth:`times` is to be had: products and the rounding of few bits are not made at once."""
        return self.kind != "prod" and not (self.kind == "sum" and self.dtype.is_float and self.dtype.bits <= 16)

    def times(self, one: list[Value], count: Value) -> list[Value]:
        """What ``count`` equal elements come to, the first of which is ``one``."""
        c, lanes = self.lowering.c, one[0].tile.size if one[0].tile.shape else 0
        if self.kind == "sum":
            return [c.b.add(Binary("mul", one[0], c.splat(c.cast(count, self.dtype), lanes), False)).result]
        if self.kind == "xor":
            odd = c.splat(c.compare("eq", c.arith("and", count, 1), 1), lanes)
            return [c.b.add(Select(odd, one[0], c.const(0, self.dtype, lanes))).result]
        return one

    def across(self, parts: list[Value], down_to: int = 1) -> list[Value]:
        """Combine the lanes of vectors (a power of two of them), by halves: into scalars, or so many lanes."""
        builder = self.lowering.c.b
        width = parts[0].tile.shape[0]
        while width > down_to:
            half = width // 2
            low = [builder.add(Shuffle(p, tuple(range(half)))).result for p in parts]
            high = [builder.add(Shuffle(p, tuple(range(half, width)))).result for p in parts]
            parts = self.combine(low, high)
            width = half
        return [builder.add(Extract(p, 0)).result for p in parts] if width == 1 else parts


__all__ = ["KINDS", "Combiner", "identity"]
