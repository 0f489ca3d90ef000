"""Sums of products that stay on the matrix core: what loops carry and nothing but products add to.

Such a sum begins with zeros before a loop, and goes through products, loops within it and branches, one after the
other, until that loop ends; nothing else uses it on its way.
"""

from __future__ import annotations

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Const, Dot, For, If
from tilus.records import record


@record(eq=False, slots=True)
class Accumulator:
    """What ``loop`` carries at ``index``: ``values`` are the sum on its way, the loop's result not among them."""

    loop: For
    index: int
    values: set[Value]
    products: list[Dot]

    @property
    def result(self) -> Value:
        return self.loop.results[self.index]

    @property
    def plain(self) -> bool:
        """Whether each iteration has all of the products."""
        return all(op in self.loop.body.ops for op in self.products)


def accumulators(block: Block, *, from_zero: bool = True) -> list[Accumulator]:
    """Those of a block and of what is in it; with ``from_zero`` false those that begin with another sum too."""
    found: list[Accumulator] = []
    for op in block.ops:
        if isinstance(op, For):
            for index in range(len(op.init)):
                made = None if from_zero and not is_zero(op.init[index]) else _followed(op, index)
                if made is not None and made.products:
                    found.append(made)
        for region in op.regions:
            inner = accumulators(region, from_zero=from_zero)
            mine = {v for accumulator in found for v in accumulator.values}
            found += [a for a in inner if a.loop.carried[a.index] not in mine]
    return found


def is_zero(value: Value) -> bool:
    return isinstance(value.defining, Const) and value.defining.value == 0


def _followed(loop: For, index: int) -> Accumulator | None:
    first = loop.carried[index]
    if first.tile.rank != 2:
        return None
    made = Accumulator(loop, index, {first}, [])
    return made if _follow(loop.body, first, made) == index else None


def _follow(block: Block, value: Value, into: Accumulator) -> int | None:
    """Where in what a block yields a sum is that begins as ``value``; None where it is used otherwise."""
    while True:
        into.values.add(value)
        users = [op for op in block.ops if any(value in inner.operands for inner in op.walk())]
        if len(users) != 1:
            return None
        op = users[0]
        if op is block.terminator:
            return op.operands.index(value) if op.operands.count(value) == 1 else None
        following = _through(op, value, into)
        if following is None:
            return None
        value = following


def _through(op: Operation, value: Value, into: Accumulator) -> Value | None:
    """The sum after an operation."""
    if isinstance(op, Dot):
        into.products.append(op)
        return op.result if op.accumulator is value and value not in (op.a, op.b) else None
    if isinstance(op, For) and op.init.count(value) == 1 and not any(
            value in inner.operands for inner in op.body.walk()):
        index = op.init.index(value)
        return op.results[index] if _follow(op.body, op.carried[index], into) == index else None
    if isinstance(op, If) and op.condition is not value:
        places = {_follow(block, value, into) for block in (op.then, op.orelse)}
        place = places.pop()
        return op.results[place] if not places and place is not None else None
    return None


__all__ = ["Accumulator", "accumulators", "is_zero"]
