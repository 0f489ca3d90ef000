"""Elementary functions as arithmetic."""
from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Value

NATIVE_UNARY = frozenset({"neg", "abs", "not", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite"})
def expand_unary(b: Builder, kind: str, x: Value) -> Value:
    raise NotImplementedError(kind)
def expand_binary(b: Builder, kind: str, x: Value, y: Value) -> Value:
    raise NotImplementedError(kind)
