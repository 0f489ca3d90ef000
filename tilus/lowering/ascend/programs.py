"""The programs of a function for cores."""

from __future__ import annotations

from tilus.ir.core import Block, Function
from tilus.ir.ops.cores import Side


def program_blocks(function: Function) -> list[Block]:
    """The programs of a function's sides; the function itself where it has one kind of core."""
    sides = [op.body for op in function.body.ops if isinstance(op, Side)]
    return sides or [function.body]


def queued_programs(function: Function) -> list[Block]:
    """The programs of vector cores in which copies go by queues."""
    if not function.attributes.queues or function.attributes.cores == "AIC_ONLY":
        return []
    sides = [op for op in function.body.ops if isinstance(op, Side)]
    return [op.body for op in sides if op.kind == "vector"] if sides else [function.body]
