"""What follows a kernel's last loop computes its addresses behind it, where they follow from the number of the block.

A view of where results go, or the block's place in it, would otherwise lie in registers all through the loops from an
earlier use on. Thread-level code reads the number again there, so that later passes do not make one of both.
"""

from __future__ import annotations

from tilus.ir.core import Function, Module, Operation, Value
from tilus.ir.ops import Binary, Cast, Compare, Const, Dim, For, GridIndex, Select, Stride, Subview, While
from tilus.ir.types import TileType
from tilus.lowering.assumptions import conditions

_CHEAP = (Binary, Cast, Compare, Const, Dim, GridIndex, Select, Stride, Subview)


def remake_after_loops(module: Module) -> None:
    """Compute integers and views that depend on the grid again behind each kernel's last loop, for what comes then."""
    for function in module.kernels:
        last = max((n for n, op in enumerate(function.body.ops) if isinstance(op, (For, While))), default=None)
        if last is not None:
            _Remaker(function).run(last + 1)


class _Remaker:
    def __init__(self, function: Function) -> None:
        self.body = function.body
        self.depends: dict[Value, bool | None] = dict.fromkeys(function.body.args, False)
        for condition in conditions(function.body):
            for value in condition.defining.operands if condition.defining is not None else ():
                if isinstance(value.defining, (Binary, Cast, Select)):
                    self.depends[value] = None  # a promise is about this value
        self.before: set[Value] = set()
        self.again: dict[Value, Value] = {}  # what those before have become
        self.ops: list[Operation] = []

    def run(self, start: int) -> None:
        """Rebuild the kernel's block from operation ``start`` on."""
        self.ops = self.body.ops[:start]
        self.before = {v for op in self.ops for v in op.results}
        for op in self.body.ops[start:]:
            for inner in op.walk():
                inner.map_operands(self.remade)
            self.ops.append(op)
        self.body.ops = self.ops

    def remade(self, value: Value) -> Value:
        op = value.defining
        if value in self.again:
            return self.again[value]
        if op is None or isinstance(op, GridIndex) or value not in self.before or not self.depends_on_grid(value):
            return value
        copy = op.clone({v: self.remade(v) for v in op.operands})
        self.ops.append(copy)
        self.again[value] = copy.result
        return copy.result

    def depends_on_grid(self, value: Value) -> bool | None:
        """Whether a value depends on the number of the block; None where it is not cheap to compute again, or what is
        known of it would be lost."""
        if value not in self.depends:
            op = value.defining
            parts: list[bool | None] = [None]
            if isinstance(op, _CHEAP) and (not isinstance(value.type, TileType) or value.tile.is_scalar):
                parts = [isinstance(op, GridIndex), *map(self.depends_on_grid, op.operands)]
            self.depends[value] = None if None in parts else any(parts)
        return self.depends[value]
