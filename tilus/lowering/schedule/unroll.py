"""Unrolls the loops that ask for it: several iterations in one, what is left in a loop of its own.

A loop whose bounds are constants and whose factor is 0 becomes its iterations. Others keep the loop: the one over whole
groups of iterations carries the index at which the loop over the rest begins.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Const, Dot, For, Yield
from tilus.ir.rewriter import replace_values
from tilus.ir.types import TileType


def unroll_loops(module: Module) -> None:
    """Unroll every loop with a factor. Pipelined loops have been unrolled as they were built."""
    for function in module.kernels:
        _Unroller(dots=True).function(function.body)


def unroll_loops_without_dots(module: Module) -> None:
    """For the CPU, which tiles the dots of a loop anew, with chunks of its own along the loop."""
    for function in module.kernels:
        _Unroller(dots=False).function(function.body)


def trip_count(loop: For) -> int | None:
    """How often a loop with constant bounds runs."""
    bounds = [v.defining for v in (loop.start, loop.stop, loop.step)]
    if not all(isinstance(op, Const) for op in bounds):
        return None
    start, stop, step = (int(op.value) for op in bounds if isinstance(op, Const))
    return max(0, -((start - stop) // step)) if step else None


def unrolling(loop: For) -> int:
    """How many iterations of a loop become one: as its schedule says, or as it asks where it has none."""
    return loop.unroll if loop.schedule is None else loop.schedule.unroll


class _Unroller:
    def __init__(self, dots: bool) -> None:
        self.dots = dots
        self.results: dict[Value, Value] = {}

    def function(self, body: Block) -> None:
        self.block(body)
        replace_values(body, self.results)

    def block(self, block: Block) -> None:
        ops: list[Operation] = []
        for op in block.ops:
            if isinstance(op, For) and unrolling(op) != 1 and (self.dots or not _has_dot(op)):
                unrolled = self.unroll(op)  # the outer loop first: its copies hold loops to be unrolled
                self.block(unrolled)
                ops += unrolled.ops
                continue
            for region in op.regions:
                self.block(region)
            ops.append(op)
        block.ops = ops

    def unroll(self, loop: For) -> Block:
        b = Builder(Block(), loop.span)
        trips = trip_count(loop)
        count = unrolling(loop)
        if trips is not None and (count == 0 or trips <= count):
            values = list(loop.init)
            for n in range(trips):
                values = _iteration(loop, b, _ahead(loop, b, loop.start, n), values)
        else:
            values = self.groups(loop, b, trips)
        self.results.update(zip(loop.results, values, strict=True))
        return b.block

    def groups(self, loop: For, b: Builder, trips: int | None) -> list[Value]:
        count = unrolling(loop)
        index, values = _grouped(loop, b, count)
        if trips is not None and trips % count == 0:
            return values
        body = Block([TileType(i64), *(v.type for v in loop.init)], [a.name for a in loop.body.args])
        inner = b.at(body)
        inner.add(Yield(tuple(_iteration(loop, inner, body.args[0], list(body.args[1:])))))
        return list(b.add(For(index, loop.stop, loop.step, tuple(values), body)).results)


def _grouped(loop: For, b: Builder, count: int) -> tuple[Value, list[Value]]:
    """The loop over groups of ``count`` iterations: the index after it, and the carried values."""
    stride = b.binary("mul", loop.step, b.const(count))
    stop = b.binary("sub", loop.stop, b.binary("mul", loop.step, b.const(count - 1)))
    body = Block([TileType(i64), TileType(i64), *(v.type for v in loop.init)],
                 [loop.index.name, "", *(a.name for a in loop.carried)])
    inner = b.at(body)
    values = list(body.args[2:])
    for n in range(count):
        values = _iteration(loop, inner, _ahead(loop, inner, body.args[0], n), values)
    inner.add(Yield((inner.binary("add", body.args[0], stride), *values)))
    new = b.add(For(loop.start, stop, stride, (loop.start, *loop.init), body, iterations=count))
    return new.results[0], list(new.results[1:])


def _ahead(loop: For, b: Builder, index: Value, count: int) -> Value:
    return index if not count else b.binary("add", index, b.binary("mul", loop.step, b.const(count)))


def _iteration(loop: For, b: Builder, index: Value, carried: list[Value]) -> list[Value]:
    """A copy of the body; gives the values that it yields."""
    mapping: dict[Value, Value] = {loop.index: index, **dict(zip(loop.carried, carried, strict=True))}
    for op in loop.body.ops:
        if isinstance(op, Yield):
            return [mapping.get(v, v) for v in op.values]
        b.block.ops.append(op.clone(mapping))
    raise AssertionError("a loop's body ends in a yield")


def _has_dot(loop: For) -> bool:
    return any(isinstance(op, Dot) for op in loop.walk())
