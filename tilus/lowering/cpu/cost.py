"""What it costs to compute an element again, against keeping it."""

from __future__ import annotations

from tilus.ir.core import Operation
from tilus.ir.ops import Binary, Unary
from tilus.lowering.legalise import HOST, Machine, rule_for
from tilus.lowering.legalise.floats import FUNCTION_COST
from tilus.targets import TARGETS

HEAVY_COST = FUNCTION_COST
_MACHINE = Machine(HOST, TARGETS["cpu"])
_SLOW = {"sqrt": 6, "div": 4}


def cost_of(op: Operation) -> int:
    """An estimate of the work for an element: 1 for plain arithmetic."""
    rule = rule_for(op, _MACHINE)
    if rule is not None:
        return rule.cost
    return _SLOW.get(op.kind, 1) if isinstance(op, (Unary, Binary)) else 1
