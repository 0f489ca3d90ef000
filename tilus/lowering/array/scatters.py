"""Scatters in memory: what is scattered into is written first, then each update goes to its element by an atomic, and
what reads the result reads that memory.

The memory belongs to one scatter. It is an output's where that has the type in which updates are added up.
"""

from __future__ import annotations

from tilus.ir.core import Function, Operation, Value
from tilus.ir.ops import Cast
from tilus.ir.ops.array import Deposit, Deposited, RoundTo, ScatterArray
from tilus.ir.rewriter import rewrite_block
from tilus.lowering.array.access import below_regroups
from tilus.lowering.array.types import wide


def divide_scatters(function: Function) -> None:
    """Make the scatters of an array-level function what kernels do for them, in place."""
    mapping: dict[Value, Value] = {}

    def rewrite(op: Operation) -> list[Operation] | None:
        if not isinstance(op, ScatterArray):
            return None
        base = Cast(op.x, op.x.tile.dtype, span=op.span)
        deposit = Deposit(op.kind, base.result, op.indices, op.updates, span=op.span)
        done = Deposited(base.result, deposit.result, span=op.span)
        mapping[op.result] = done.result
        return [base, deposit, done]

    rewrite_block(function.body, rewrite, mapping)
    _copy_for_outputs(function)


def _copy_for_outputs(function: Function) -> None:
    """Outputs that cannot be the memory which is scattered into are copies of it."""
    taken: set[Value] = set()
    yielded = function.body.terminator
    copies: list[Operation] = []

    def output(value: Value) -> Value:
        source = below_regroups(value)
        dtype = value.tile.dtype
        if not isinstance(source.defining, Deposited) or (wide(dtype) is dtype and source not in taken):
            taken.add(source)
            return value
        copies.append(RoundTo(value, dtype, span=source.defining.span))
        return copies[-1].result

    yielded.map_operands(output)
    function.body.ops[-1:] = [*copies, yielded]


__all__ = ["divide_scatters"]
