"""Appends operations to a block, with constants shared and scalars folded on the way."""

from __future__ import annotations

from typing import TypeVar

from tilus.diagnostics import UNKNOWN_SPAN, Span
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, i64
from tilus.ir.ops.arith import Binary, Const

OpT = TypeVar("OpT", bound=Operation)


class Builder:
    """An insertion point. ``span`` is given to operations that have none of their own."""

    def __init__(self, block: Block, span: Span = UNKNOWN_SPAN) -> None:
        self.block = block
        self.span = span

    def add(self, op: OpT) -> OpT:
        if not op.span.known:
            op.span = self.span
        self.block.ops.append(op)
        return op

    def const(self, value: int | float | bool, dtype: DType = i64, shape: tuple[int, ...] = ()) -> Value:
        return self.add(Const(value, dtype, shape, span=self.span)).result

    def binary(self, kind: str, lhs: Value, rhs: Value) -> Value:
        return self.add(Binary(kind, lhs, rhs, span=self.span)).result

    def at(self, block: Block) -> Builder:
        """A builder for another block with the same span."""
        return Builder(block, self.span)
