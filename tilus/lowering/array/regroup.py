"""Arrays under another shape: what they are of lies contiguously in memory, and is read from there."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Function, Operation, Parameter
from tilus.ir.ops.array import Regroup, RoundTo
from tilus.ir.rewriter import rewrite_block


def copy_strided_arrays(function: Function, inputs: Sequence[Parameter]) -> None:
    """Have copies of arrays that are read under another shape and do not lie contiguously, in place."""
    strided = {v for v, p in zip(function.body.args, inputs, strict=True) if p.kind == "array" and not p.contiguous}

    def rewrite(op: Operation) -> list[Operation] | None:
        if not isinstance(op, Regroup) or op.x not in strided:
            return None
        copy = RoundTo(op.x, op.x.tile.dtype, span=op.span)
        op.x = copy.result
        return [copy, op]

    rewrite_block(function.body, rewrite, {})


__all__ = ["copy_strided_arrays"]
