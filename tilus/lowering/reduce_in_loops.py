"""Tiles that a loop carries only to be reduced after it are reduced in each iteration.

``total = total + x`` in a loop and ``sum(total, axis)`` behind it become ``total = total + sum(x, axis)``: a core adds
rows in its registers, while the elements of ``total`` would go through memory in each iteration. Only the order of the
operations changes.
"""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import Binary, Const, For, Reduce
from tilus.ir.rewriter import count_uses
from tilus.ir.types import TileType

LEAST_BYTES = 512
"""Of a row, where elements that are neighbours in memory are reduced: in registers there are steps between lanes."""
_KINDS = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "xor": "xor", "any": "or", "all": "and"}


def reduce_in_loops(module: Module) -> None:
    """Apply the rewriting to every loop, in place."""
    for function in module.kernels:
        _visit(function, function.body, set())


def _visit(function: Function, block: Block, gone: set[Value]) -> None:
    """``gone``: the results of reductions that loops have done, which come later."""
    ops: list[Operation] = []
    for op in block.ops:
        for region in op.regions:
            _visit(function, region, gone)
        if isinstance(op, For):
            ops += _rewrite(function, op, gone)
        elif not isinstance(op, Reduce) or op.result not in gone:
            ops.append(op)
    block.ops = ops


def _rewrite(function: Function, loop: For, gone: set[Value]) -> list[Operation]:
    before = Builder(Block(), loop.span)
    for position in range(len(loop.init)):
        uses = count_uses(function)
        update = _update(loop, position, uses)
        reductions = [] if update is None else _reductions(function, loop.results[position], uses)
        if update is not None and reductions and _KINDS[reductions[0].kind] == update.kind:
            _reduce(function, loop, position, update, reductions, before)
            gone |= {r.result for r in reductions}
    return [*before.block.ops, loop]


def _update(loop: For, position: int, uses: dict[Value, int]) -> Binary | None:
    """What makes the next value of a carried tile of it and another one, where nothing else uses either."""
    carried = loop.carried[position]
    update = loop.body.terminator.operands[position].defining
    if not isinstance(carried.type, TileType) or not carried.type.shape or not isinstance(update, Binary):
        return None
    dtype = carried.tile.dtype
    if dtype.is_float and dtype.bits <= 16:  # sums of these are rounded in each step
        return None
    alone = uses[carried] == 1 and uses[update.result] == 1 and (update.lhs is carried) != (update.rhs is carried)
    return update if alone and any(op is update for op in loop.body.ops) else None


def _reductions(function: Function, result: Value, uses: dict[Value, int]) -> list[Reduce]:
    """Those that a result of a loop is used for, if it is for nothing but reductions of one kind and axis."""
    found = [op for op in function.walk() if isinstance(op, Reduce) and op.x is result]
    if not found or len(found) != uses[result] or len({(op.kind, op.axis) for op in found}) > 1:
        return []
    first, tile = found[0], result.tile
    short = first.axis == tile.rank - 1 and tile.shape[first.axis] * tile.dtype.bits < 8 * LEAST_BYTES
    return [] if first.kind not in _KINDS or short else found


def _reduce(function: Function, loop: For, position: int, update: Binary, reductions: list[Reduce],
            before: Builder) -> None:
    kind, axis, span = reductions[0].kind, reductions[0].axis, reductions[0].span
    init = _reduced(before, kind, loop.init[position], axis)
    carried = loop.carried[position]
    b = Builder(Block(), span)
    part = b.add(Reduce(kind, update.rhs if update.lhs is carried else update.lhs, axis)).result
    carried.type = part.type
    new = b.add(Binary(update.kind, carried, part, update.contract)).result
    at = next(i for i, op in enumerate(loop.body.ops) if op is update)
    loop.body.ops[at : at + 1] = b.block.ops
    loop.body.terminator.map_operands(lambda v: new if v is update.result else v)
    loop.init = tuple(init if i == position else v for i, v in enumerate(loop.init))
    result = loop.results[position]
    result.type = part.type
    replaced = {r.result: result for r in reductions}
    for op in function.walk():
        op.map_operands(lambda v: replaced.get(v, v))


def _reduced(b: Builder, kind: str, x: Value, axis: int) -> Value:
    """The reduction of an initial value; that of equal elements is one of them, save for sums of others than 0."""
    op = x.defining
    if isinstance(op, Const) and (op.value == 0 or kind in ("min", "max", "any", "all")):
        return b.const(op.value, op.dtype, op.shape[:axis] + op.shape[axis + 1 :])
    return b.add(Reduce(kind, x, axis)).result


__all__ = ["reduce_in_loops"]
