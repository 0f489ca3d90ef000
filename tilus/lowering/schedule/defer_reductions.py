"""Sums carried around a loop are kept as partial sums, and reduced across threads once, after it.

``total = total * factor + sum(x, axis)``, where the loop uses ``total`` for nothing else, becomes
``part = part * factor + sum of groups of x`` with ``part`` a tile of :data:`LANES` columns along the axis, and
``total = sum(part, axis)`` after the loop. A column is what one lane of a tensor-core accumulator holds of a row, so
that the loop's sums stay within each thread. Only the order of the additions changes.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import Binary, Broadcast, Const, Dot, For, Reduce, Reshape
from tilus.ir.rewriter import count_uses
from tilus.ir.types import TileType
from tilus.records import record

LANES, HELD = 4, 2
"""Lanes that share a row of a tensor-core accumulator's atom, and neighbouring elements that each of them holds."""
WIDTH = LANES * HELD


def defer_reductions(module: Module) -> None:
    """Apply the rewriting to every loop that computes dots, in place."""
    for function in module.kernels:
        _visit(function, function.body)


def _visit(function: Function, block: Block) -> None:
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _visit(function, region)
        if isinstance(op, For) and any(isinstance(inner, Dot) for inner in op.body.ops):
            ops += _rewrite(function, op)
        else:
            ops.append(op)
    block.ops = ops


@record(slots=True)
class _Sum:
    """A carried sum: its position, the operations of its update, and the factor that scales it."""

    position: int
    add: Binary
    reduce: Reduce
    scale: Binary | None
    factor: Value | None


def _rewrite(function: Function, loop: For) -> list[Operation]:
    uses = count_uses(function)
    before = Builder(Block(), loop.span)
    after = Builder(Block(), loop.span)
    for found in [s for i in range(len(loop.init)) if (s := _match(loop, i, uses)) is not None]:
        _defer(loop, found, before, after)
    return [*before.block.ops, loop, *after.block.ops]


def _match(loop: For, position: int, uses: dict[Value, int]) -> _Sum | None:
    carried = loop.carried[position]
    if not isinstance(carried.type, TileType) or not carried.type.shape or not carried.type.dtype.is_float:
        return None
    add = loop.body.terminator.operands[position].defining
    if not isinstance(add, Binary) or add.kind != "add" or not _local(loop, add) or uses[add.result] != 1:
        return None
    for kept, summed in ((add.lhs, add.rhs), (add.rhs, add.lhs)):
        reduce = summed.defining
        if not isinstance(reduce, Reduce) or reduce.kind != "sum" or uses[summed] != 1 or not _local(loop, reduce):
            continue
        extent = reduce.x.tile.shape[reduce.axis]
        if extent % WIDTH or extent <= WIDTH or reduce.axis != reduce.x.tile.rank - 1:
            continue
        if kept is carried and uses[carried] == 1:
            return _Sum(position, add, reduce, None, None)
        scale = kept.defining
        if isinstance(scale, Binary) and scale.kind == "mul" and uses[kept] == 1 and uses[carried] == 1:
            for x, factor in ((scale.lhs, scale.rhs), (scale.rhs, scale.lhs)):
                if x is carried:
                    return _Sum(position, add, reduce, scale, factor)
    return None


def _local(loop: For, op: Operation) -> bool:
    return any(op is inner for inner in loop.body.ops)


def _defer(loop: For, found: _Sum, before: Builder, after: Builder) -> None:
    total = loop.carried[found.position].tile
    shape = (*total.shape, LANES)
    part_type = TileType(total.dtype, shape)
    # The first value goes into the first column; the others begin at 0.
    init = loop.init[found.position]
    start = _first_column(before, init, shape)
    argument = loop.carried[found.position]
    argument.type = part_type
    b = Builder(Block(), found.add.span)
    x = found.reduce.x
    rank = x.tile.rank
    grouped = b.add(Reshape(x, (*x.tile.shape[:-1], x.tile.shape[-1] // WIDTH, LANES, HELD))).result
    sums = b.add(Reduce("sum", b.add(Reduce("sum", grouped, rank + 1)).result, rank - 1)).result
    kept: Value = argument
    if found.factor is not None:
        column = b.add(Reshape(found.factor, (*total.shape, 1))).result
        kept = b.binary("mul", argument, b.add(Broadcast(column, shape)).result)
    result = b.binary("add", kept, sums)
    dropped = {id(found.reduce), id(found.scale)}
    ops: list[Operation] = []
    for op in loop.body.ops:
        if op is found.add:
            ops += b.block.ops
        elif id(op) not in dropped:
            ops.append(op)
    loop.body.ops = ops
    terminator = loop.body.terminator
    terminator.map_operands(lambda v: result if v is found.add.result else v)
    loop.init = tuple(start if i == found.position else v for i, v in enumerate(loop.init))
    old = loop.results[found.position]
    new = Value(part_type, old.name, loop, found.position)
    loop.results = tuple(new if r is old else r for r in loop.results)
    final = Reduce("sum", new, len(total.shape), span=found.reduce.span)
    old.owner, old.index = final, 0
    final.results = (old,)
    after.block.ops.append(final)


def _first_column(b: Builder, value: Value, shape: tuple[int, ...]) -> Value:
    maker = value.defining
    if isinstance(maker, Const) and maker.value == 0:
        return b.const(0.0, value.tile.dtype, shape)
    from tilus.ir.dtypes import i64
    from tilus.ir.ops import Compare, Iota, Select

    column = b.add(Broadcast(b.add(Reshape(value, (*value.tile.shape, 1))).result, shape)).result
    number = b.add(Iota(shape, len(shape) - 1, i64)).result
    first = b.add(Compare("eq", number, b.const(0, i64, shape))).result
    return b.add(Select(first, column, b.const(0.0, value.tile.dtype, shape))).result
