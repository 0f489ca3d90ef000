"""A short way to write integer and float arithmetic."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Binary, Bitcast, Cast, Compare, Const, Select


class Bits:
    """Integer and float arithmetic on scalars or vectors, briefly."""

    def __init__(self, b: Builder, shape: tuple[int, ...]) -> None:
        self.b = b
        self.shape = shape

    def const(self, value: int | float, dtype: DType) -> Value:
        return self.b.add(Const(value, dtype, self.shape)).result

    def op(self, kind: str, x: Value, y: Value | int | float) -> Value:
        other = y if isinstance(y, Value) else self.const(y, x.tile.dtype)
        return self.b.add(Binary(kind, x, other, False)).result

    def test(self, kind: str, x: Value, y: Value | int | float) -> Value:
        other = y if isinstance(y, Value) else self.const(y, x.tile.dtype)
        return self.b.add(Compare(kind, x, other)).result

    def choose(self, condition: Value, x: Value | int | float, y: Value) -> Value:
        chosen = x if isinstance(x, Value) else self.const(x, y.tile.dtype)
        return self.b.add(Select(condition, chosen, y)).result

    def to(self, x: Value, dtype: DType) -> Value:
        return x if x.tile.dtype is dtype else self.b.add(Cast(x, dtype)).result

    def bits(self, x: Value, dtype: DType) -> Value:
        return self.b.add(Bitcast(x, dtype)).result


__all__ = ["Bits"]
