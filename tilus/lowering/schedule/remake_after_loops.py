"""What follows a kernel's last loop computes its addresses behind it, where they follow from the number of the block.

A view of where results go, or the block's place in it, would otherwise lie in registers all through the loops from an
earlier use on. Thread-level code reads the number again there, so that later passes do not make one of both.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import Binary, Cast, Compare, Const, Dim, For, GridIndex, Groups, If, Select, Stride, Subview, While
from tilus.ir.types import TileType
from tilus.lowering.assumptions import conditions

_CHEAP = (Binary, Cast, Compare, Const, Dim, GridIndex, Select, Stride, Subview)


def remake_after_loops(module: Module) -> None:
    """Compute integers and views that depend on the grid again behind each kernel's last loop, for what comes then;
    behind the last loop of each branch likewise."""
    for function in module.kernels:
        for block in _blocks_with_loops(function.body):
            last = max(n for n, op in enumerate(block.ops) if _has_loop(op))
            _Remaker(function, block, last + 1).run()


def _has_loop(op: Operation) -> bool:
    return any(isinstance(inner, (For, While)) for inner in op.walk())


def _blocks_with_loops(block: Block) -> Iterator[Block]:
    """A block, if there are loops in it, and branches in it of which the same holds; none of a loop."""
    for op in block.ops:
        if isinstance(op, (If, Groups)):
            for region in op.regions:
                yield from _blocks_with_loops(region)
    if any(map(_has_loop, block.ops)):
        yield block


class _Remaker:
    def __init__(self, function: Function, body: Block, start: int) -> None:
        self.body, self.start = body, start
        self.depends: dict[Value, bool | None] = dict.fromkeys(function.body.args, False)
        for condition in conditions(function.body):
            for value in condition.defining.operands if condition.defining is not None else ():
                if isinstance(value.defining, (Binary, Cast, Select)):
                    self.depends[value] = None  # a promise is about this value
        self.ops = body.ops[:start]
        self.after = {v for op in body.ops[start:] for inner in op.walk() for v in inner.results}
        self.again: dict[Value, Value] = {}  # what those before have become

    def run(self) -> None:
        """Rebuild the block from its operation ``start`` on."""
        for op in self.body.ops[self.start :]:
            for inner in op.walk():
                inner.map_operands(self.remade)
            self.ops.append(op)
        self.body.ops = self.ops

    def remade(self, value: Value) -> Value:
        op = value.defining
        if value in self.again:
            return self.again[value]
        if op is None or isinstance(op, GridIndex) or value in self.after or not self.depends_on_grid(value):
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
